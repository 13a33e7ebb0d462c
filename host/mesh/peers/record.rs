//! Added peers as the store keeps them: `collector.admin.v1.PeerRecord`.

use super::{Added, PeerPolicy};
use crate::domain::{Namespace, micros, timestamp};
use crate::mesh::Ground;
use crate::store::{self, Change, Expect, Store, StoreError};
use prost::Message;
use prost_types::Timestamp;
use std::sync::Arc;

/// Collection of added peers, in `system`.
const COLLECTION: &str = "peers";
const TYPE: &str = "type.googleapis.com/collector.admin.v1.PeerRecord";

/// `collector.admin.v1.PeerRecord`. Source: proto/collector/admin/v1/peers.proto.
#[derive(Clone, PartialEq, Message)]
struct PeerRecord {
    #[prost(string, tag = "1")]
    address: String,
    #[prost(string, tag = "2")]
    identity: String,
    #[prost(string, repeated, tag = "3")]
    allows: Vec<String>,
    #[prost(message, optional, tag = "4")]
    created_at: Option<Timestamp>,
    #[prost(string, tag = "5")]
    created_by: String,
}

/// Reads all peers that were added in an earlier run.
pub(super) async fn all(store: &dyn Store, ground: Ground) -> Result<Vec<Added>, StoreError> {
    store::ensure(store, &Namespace::system(), COLLECTION).await?;
    let mut found = Vec::new();
    for record in store::all(store, &Namespace::system(), COLLECTION).await? {
        match PeerRecord::decode(record.bytes).ok().and_then(|record| read(record, ground)) {
            Some(added) => found.push(added),
            None => tracing::error!(id = record.id, "a stored peer cannot be used: it is none"),
        }
    }
    Ok(found)
}

/// The change that keeps a peer.
pub(super) fn put(added: &Added) -> Change {
    let PeerPolicy { address, identity, allows, .. } = &*added.policy;
    let record = PeerRecord {
        address: address.clone(),
        identity: identity.clone().unwrap_or_default(),
        allows: allows.iter().map(ToString::to_string).collect(),
        created_at: Some(timestamp(added.created_at)),
        created_by: added.created_by.clone(),
    };
    Change::Put {
        collection: COLLECTION.to_owned(),
        id: address.clone(),
        type_url: TYPE.to_owned(),
        bytes: record.encode_to_vec().into(),
        labels: None,
        indexed: None,
        expect: Expect::Any,
    }
}

/// The change that forgets one.
pub(super) fn delete(address: &str) -> Change {
    Change::Delete { collection: COLLECTION.to_owned(), id: address.to_owned(), expect: Expect::Any }
}

/// A binding that cannot be read makes the peer unreadable: half of its rights is none that anybody gave.
fn read(record: PeerRecord, ground: Ground) -> Option<Added> {
    let PeerRecord { address, identity, allows, created_at, created_by } = record;
    let identity = Some(identity).filter(|identity| !identity.is_empty());
    let allows = allows.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?;
    let policy = Arc::new(PeerPolicy::new(address, identity, allows, ground).ok()?);
    Some(Added { policy, created_at: micros(created_at), created_by })
}
