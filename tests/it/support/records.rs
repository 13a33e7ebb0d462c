//! Collections and their records by a stock tonic client: a stub of each service, requests, JSON and typed items.

use super::{channel, compile, raw};
use collector::rpc::pb;
use pb::collection_repo_client::CollectionRepoClient;
use pb::collection_service_client::CollectionServiceClient;
use pb::collector_registry_client::CollectorRegistryClient;
use pb::record::v1 as record;
use pb::request_op::Operation;
use prost_types::{Any, FileDescriptorProto, Struct};
use record::collections_client::CollectionsClient;
use serde_json::Value;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// What has to do with records, and what looks after their collections.
#[derive(Clone)]
pub struct Client {
    pub records: CollectionServiceClient<Channel>,
    pub repo: CollectionRepoClient<Channel>,
    pub upkeep: CollectionsClient<Channel>,
    pub registry: CollectorRegistryClient<Channel>,
}

/// Where records are, and requests about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub namespace: &'static str,
    pub collection: &'static str,
}

impl Place {
    /// In `acme`.
    pub const fn acme(collection: &'static str) -> Self {
        Self { namespace: "acme", collection }
    }

    /// To be made. `message_type` empty: of JSON or anything.
    pub fn definition(self, message_type: &str, indexed_fields: &[&str]) -> pb::Collection {
        let message_type = pb::MessageTypeRef { namespace: String::new(), message_name: message_type.into() };
        pb::Collection {
            message_type: (!message_type.message_name.is_empty()).then_some(message_type),
            indexed_fields: owned(indexed_fields),
            ..collection(self.namespace, self.collection)
        }
    }

    pub fn create(self, id: &str, item: Any) -> pb::CreateRequest {
        let (namespace, collection_name) = self.names();
        pb::CreateRequest { namespace, collection_name, item: Some(item), id: id.into(), ..Default::default() }
    }

    /// * `mask`: empty for all of it.
    pub fn update(self, id: &str, item: Any, mask: &[&str]) -> pb::UpdateRequest {
        let (namespace, collection_name) = self.names();
        let (id, item, update_mask) = (id.into(), Some(item), owned(mask));
        pb::UpdateRequest { namespace, collection_name, id, item, update_mask, ..Default::default() }
    }

    pub fn delete(self, id: &str) -> pb::DeleteRequest {
        let (namespace, collection_name) = self.names();
        pb::DeleteRequest { namespace, collection_name, id: id.into() }
    }

    pub fn get(self, id: &str) -> pb::GetRequest {
        let (namespace, collection_name) = self.names();
        pb::GetRequest { namespace, collection_name, id: id.into() }
    }

    pub fn list(self) -> pb::ListRequest {
        let (namespace, collection_name) = self.names();
        pb::ListRequest { namespace, collection_name, ..Default::default() }
    }

    pub fn search(self) -> pb::SearchRequest {
        let (namespace, collection_name) = self.names();
        pb::SearchRequest { namespace, collection_name, ..Default::default() }
    }

    pub fn batch(self, operations: Vec<Operation>) -> pb::BatchRequest {
        let (namespace, collection_name) = self.names();
        let operations = operations.into_iter().map(|one| pb::RequestOp { operation: Some(one) }).collect();
        pb::BatchRequest { namespace, collection_name, operations }
    }

    fn names(self) -> (String, String) {
        (self.namespace.into(), self.collection.into())
    }
}

fn owned(all: &[&str]) -> Vec<String> {
    all.iter().map(|&one| one.to_owned()).collect()
}

impl Client {
    pub async fn connect(address: &str) -> Self {
        let channel = channel(address).await;
        Self {
            records: CollectionServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20),
            repo: CollectionRepoClient::new(channel.clone()),
            upkeep: CollectionsClient::new(channel.clone()),
            registry: CollectorRegistryClient::new(channel),
        }
    }

    /// * `files`: the last of them is registered, with the others to depend on.
    pub async fn register(&self, namespace: &str, files: &[FileDescriptorProto]) -> Result<(), Status> {
        let (file, imports) = files.split_last().unwrap();
        let request = pb::RegisterProtoRequest {
            namespace: namespace.into(),
            file_descriptor: Some(raw(file)),
            dependencies: imports.iter().map(raw).collect(),
        };
        self.registry.clone().register_proto(request).await.map(drop)
    }

    /// Registers `package t; message Note` with these fields in `acme`.
    pub async fn register_note(&self, fields: &str) -> Result<(), Status> {
        let text = format!("syntax = \"proto3\"; package t; message Note {{ {fields} }}");
        self.register("acme", &compile(&[("t/note.proto", &text)])).await
    }

    pub async fn make(&self, collection: pb::Collection) -> Result<pb::CreateCollectionResponse, Status> {
        self.make_with(collection, &[]).await
    }

    pub async fn make_with(
        &self,
        collection: pb::Collection,
        metadata: &[(&'static str, &str)],
    ) -> Result<pb::CreateCollectionResponse, Status> {
        let request = pb::CreateCollectionRequest { collection: Some(collection) };
        self.repo.clone().create_collection(with(request, metadata)).await.map(Response::into_inner)
    }

    pub async fn route(&self, place: Place) -> Result<pb::RouteResponse, Status> {
        let (namespace, name) = place.names();
        let request = pb::RouteRequest { collection: Some(pb::NamespacedName { namespace, name }) };
        self.repo.clone().route(request).await.map(Response::into_inner)
    }

    pub async fn drop(&self, place: Place) -> Result<i64, Status> {
        self.drop_with(place, &[]).await
    }

    pub async fn drop_with(&self, place: Place, metadata: &[(&'static str, &str)]) -> Result<i64, Status> {
        let (namespace, collection_name) = place.names();
        let request = record::DropCollectionRequest { namespace, collection_name };
        let reply = self.upkeep.clone().drop_collection(with(request, metadata)).await?;
        Ok(reply.into_inner().records)
    }

    /// The whole stream.
    pub async fn reindex(&self, place: Place) -> Result<Vec<record::ReindexProgress>, Status> {
        let (namespace, collection_name) = place.names();
        let request = record::ReindexRequest { namespace, collection_name };
        let mut stream = self.upkeep.clone().reindex(request).await?.into_inner();
        let mut steps = Vec::new();
        while let Some(step) = stream.message().await? {
            steps.push(step);
        }
        Ok(steps)
    }

    pub async fn modify(&self, place: Place, indexed_fields: &[&str]) -> Result<(), Status> {
        let (namespace, collection_name) = place.names();
        let request = pb::ModifyRequest { namespace, collection_name, indexed_fields: owned(indexed_fields) };
        self.records.clone().modify(request).await.map(drop)
    }

    pub async fn describe(&self, place: Place) -> Result<pb::DescribeResponse, Status> {
        let (namespace, collection_name) = place.names();
        let request = pb::DescribeRequest { namespace, collection_name };
        self.records.clone().describe(request).await.map(Response::into_inner)
    }

    pub async fn create(&self, place: Place, id: &str, item: Any) -> Result<pb::RecordInfo, Status> {
        self.records.clone().create(place.create(id, item)).await.map(|reply| reply.into_inner().info.unwrap())
    }

    /// * `mask`: empty for all of it.
    pub async fn update(&self, place: Place, id: &str, item: Any, mask: &[&str]) -> Result<pb::RecordInfo, Status> {
        self.records.clone().update(place.update(id, item, mask)).await.map(|reply| reply.into_inner().info.unwrap())
    }

    pub async fn delete(&self, place: Place, id: &str) -> Result<(), Status> {
        self.records.clone().delete(place.delete(id)).await.map(drop)
    }

    pub async fn get(&self, place: Place, id: &str) -> Result<(Any, pb::RecordInfo), Status> {
        let reply = self.records.clone().get(place.get(id)).await?.into_inner();
        Ok((reply.item.unwrap(), reply.info.unwrap()))
    }

    /// All operations or none.
    pub async fn batch(&self, place: Place, operations: Vec<Operation>) -> Result<Vec<pb::ResponseOp>, Status> {
        self.records.clone().batch(place.batch(operations)).await.map(|reply| reply.into_inner().responses)
    }

    pub async fn search(&self, request: pb::SearchRequest) -> Result<pb::SearchResponse, Status> {
        self.records.clone().search(request).await.map(Response::into_inner)
    }

    /// Ids that a search finds, in its order.
    pub async fn found(&self, request: pb::SearchRequest) -> Result<Vec<String>, Status> {
        let results = self.search(request).await?.results;
        Ok(results.into_iter().map(|result| result.info.unwrap().id).collect())
    }

    /// One page.
    pub async fn page(&self, request: pb::ListRequest) -> Result<pb::ListResponse, Status> {
        let page = self.records.clone().list(request).await?.into_inner();
        assert_eq!(page.items.len(), page.infos.len());
        Ok(page)
    }

    /// This page and all after it.
    pub async fn pages(&self, mut request: pb::ListRequest) -> Result<Vec<pb::ListResponse>, Status> {
        let mut pages = Vec::new();
        loop {
            let page = self.page(request.clone()).await?;
            request.page_token.clone_from(&page.next_page_token);
            pages.push(page);
            if request.page_token.is_empty() {
                return Ok(pages);
            }
        }
    }

    /// All that a listing finds while nobody writes: every page's `total_count` has to be the number of them.
    pub async fn list(&self, request: pb::ListRequest) -> Result<Vec<(Any, pb::RecordInfo)>, Status> {
        let pages = self.pages(request).await?;
        let totals: Vec<i64> = pages.iter().map(|page| page.total_count).collect();
        let found: Vec<_> = pages.into_iter().flat_map(|page| page.items.into_iter().zip(page.infos)).collect();
        assert!(totals.iter().all(|total| *total == found.len() as i64), "{totals:?} of {}", found.len());
        Ok(found)
    }
}

/// `namespace/name` with nothing else said.
pub fn collection(namespace: &str, name: &str) -> pb::Collection {
    pb::Collection { namespace: namespace.into(), name: name.into(), ..Default::default() }
}

/// A record without a type.
pub fn json_item(value: &Value) -> Any {
    Any { type_url: String::new(), value: value.to_string().into_bytes() }
}

/// A message as a record.
pub fn typed_item(name: &str, value: Vec<u8>) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value }
}

/// JSON as `google.protobuf.Struct`.
pub fn as_struct(value: &Value) -> Struct {
    let Value::Object(members) = value else { panic!("no object: {value}") };
    Struct { fields: members.iter().map(|(key, value)| (key.clone(), as_value(value))).collect() }
}

/// JSON as `google.protobuf.Value`.
pub fn as_value(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(*truth),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => {
            Kind::ListValue(prost_types::ListValue { values: values.iter().map(as_value).collect() })
        }
        Value::Object(_) => Kind::StructValue(as_struct(value)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A condition of a search.
pub fn filter(operator: pb::FilterOperator, value: Value) -> pb::Filter {
    pb::Filter { operator: operator.into(), value: Some(as_value(&value)) }
}

/// A request with metadata.
pub fn with<T>(message: T, metadata: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (key, value) in metadata {
        request.metadata_mut().append(*key, value.parse().unwrap());
    }
    request
}

/// The `etag` of a reply.
pub fn etag<T>(response: &Response<T>) -> String {
    response.metadata().get("etag").expect("an etag").to_str().unwrap().to_owned()
}

/// Fields that a status finds fault with.
pub fn bad_fields(status: &Status) -> Vec<String> {
    use tonic_types::StatusExt as _;
    let violations = status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}
