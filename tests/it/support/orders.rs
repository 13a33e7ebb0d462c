//! The type of most records, and a client at one collection whose calls have to be done.

use super::records::{Client, Place, typed_item};
use super::{TestNode, compile};
use collector::rpc::pb;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use prost_types::{Any, FileDescriptorProto, FileDescriptorSet};
use serde_json::Value;
use std::sync::LazyLock;
use tonic::{Response, Status};

/// Its file.
const FILE: &str = r#"
    syntax = "proto3"; package shop.v1; import "google/protobuf/timestamp.proto";
    enum Kind { KIND_NONE = 0; KIND_GIFT = 1; KIND_SALE = 2; }
    message Address { string street = 1; string city = 2; }
    message Order {
      string title = 1; int64 total = 2; uint64 serial = 3; double weight = 4; bool paid = 5; Kind kind = 6;
      repeated string tags = 7; map<string, int64> counts = 8; Address address = 9;
      google.protobuf.Timestamp made_at = 10; optional string note = 11; bytes data = 12; repeated float spot = 13;
    }
"#;
/// Its name.
pub const ORDER: &str = "shop.v1.Order";

static DESCRIPTOR: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let pool = DescriptorPool::from_file_descriptor_set(FileDescriptorSet { file: order_files() }).unwrap();
    pool.get_message_by_name(ORDER).unwrap()
});

/// The files of the type, imports first.
pub fn order_files() -> Vec<FileDescriptorProto> {
    compile(&[("shop/v1/order.proto", FILE)])
}

/// An order from its JSON.
pub fn order(json: &Value) -> Any {
    typed_item(ORDER, DynamicMessage::deserialize(DESCRIPTOR.clone(), json).unwrap().encode_to_vec())
}

/// The JSON of an order.
pub fn read_order(item: &Any) -> Value {
    serde_json::to_value(DynamicMessage::decode(DESCRIPTOR.clone(), &item.value[..]).unwrap()).unwrap()
}

/// A client, at one collection.
#[derive(Clone)]
pub struct Records {
    pub client: Client,
    pub place: Place,
}

impl Records {
    /// Of `acme/orders`, which is not made yet.
    pub async fn of(node: &TestNode) -> Self {
        Self { client: Client::connect(&node.address()).await, place: Place::acme("orders") }
    }

    /// With the type registered, and a collection of it with these indexed fields.
    pub async fn of_orders(node: &TestNode, indexed_fields: &[&str]) -> Self {
        let records = Self::of(node).await;
        records.client.register("acme", &order_files()).await.unwrap();
        records.make(ORDER, indexed_fields).await;
        records
    }

    /// With a collection of no type.
    pub async fn of_json(node: &TestNode, indexed_fields: &[&str]) -> Self {
        let records = Self::of(node).await;
        records.make("", indexed_fields).await;
        records
    }

    /// At another collection.
    pub fn at(&self, place: Place) -> Self {
        Self { client: self.client.clone(), place }
    }

    pub async fn make(&self, message_type: &str, indexed_fields: &[&str]) {
        self.client.make(self.place.definition(message_type, indexed_fields)).await.unwrap();
    }

    pub async fn put(&self, id: &str, item: Any) -> pb::RecordInfo {
        self.client.create(self.place, id, item).await.unwrap()
    }

    /// Puts orders whose ids are those of the list.
    pub async fn put_orders(&self, orders: &[(&str, Value)]) {
        for (id, json) in orders {
            self.put(id, order(json)).await;
        }
    }

    pub async fn try_get(&self, id: &str) -> Result<Response<pb::GetResponse>, Status> {
        self.client.records.clone().get(self.place.get(id)).await
    }

    pub async fn get(&self, id: &str) -> (Any, pb::RecordInfo) {
        self.client.get(self.place, id).await.unwrap()
    }

    /// Ids that a search finds, in its order.
    pub async fn found(&self, request: pb::SearchRequest) -> Vec<String> {
        self.client.found(request).await.unwrap()
    }

    /// Why a search is refused.
    pub async fn refused(&self, request: pb::SearchRequest) -> Status {
        self.client.search(request).await.unwrap_err()
    }

    /// Ids of all pages of a listing, in their order.
    pub async fn listed(&self, request: pb::ListRequest) -> Vec<String> {
        let pages = self.client.pages(request).await.unwrap();
        pages.into_iter().flat_map(|page| page.infos).map(|info| info.id).collect()
    }
}
