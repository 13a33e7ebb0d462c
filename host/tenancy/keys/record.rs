//! Keys as the store keeps them. What is known of a key's text is its hash and its last characters.

use super::Key;
use crate::domain::{Namespace, micros, timestamp};
use crate::store::{self, Change, Expect, Store, StoreError};
use crate::tenancy::secret::Hash;
use prost::Message;
use prost_types::Timestamp;

/// Collection of keys, in `system`. It is not among those that can be read from outside.
const COLLECTION: &str = "api_keys";

/// A key.
#[derive(Clone, PartialEq, Message)]
struct KeyRecord {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bytes = "vec", tag = "2")]
    hash: Vec<u8>,
    #[prost(string, tag = "3")]
    label: String,
    #[prost(string, repeated, tag = "4")]
    bindings: Vec<String>,
    #[prost(message, optional, tag = "5")]
    expires_at: Option<Timestamp>,
    #[prost(message, optional, tag = "6")]
    created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "7")]
    revoked_at: Option<Timestamp>,
    #[prost(string, tag = "8")]
    ending: String,
    #[prost(string, tag = "9")]
    created_by: String,
}

/// Makes the collection where it is missing.
pub(super) async fn ensure(store: &dyn Store) -> Result<(), StoreError> {
    store::ensure(store, &Namespace::system(), COLLECTION).await
}

/// Reads all keys of an earlier run.
pub(super) async fn all(store: &dyn Store) -> Result<Vec<(Key, Hash)>, StoreError> {
    let records = match store::all(store, &Namespace::system(), COLLECTION).await {
        Err(StoreError::NoCollection) => return Ok(Vec::new()),
        records => records?,
    };
    let mut found = Vec::with_capacity(records.len());
    for record in records {
        match KeyRecord::decode(record.bytes).ok().and_then(read) {
            Some(key) => found.push(key),
            None => tracing::error!(id = record.id, "a stored key cannot be read: it opens nothing"),
        }
    }
    Ok(found)
}

/// The change that keeps a key as it is now.
pub(super) fn put(key: &Key, hash: &Hash) -> Change {
    let record = KeyRecord {
        id: key.id.to_string(),
        hash: hash.to_vec(),
        label: key.label.clone(),
        bindings: key.bindings.iter().map(ToString::to_string).collect(),
        expires_at: key.expires_at.map(timestamp),
        created_at: Some(timestamp(key.created_at)),
        revoked_at: key.revoked_at.map(timestamp),
        ending: key.ending.clone(),
        created_by: key.created_by.clone(),
    };
    Change::Put {
        collection: COLLECTION.to_owned(),
        id: key.id.to_string(),
        type_url: String::new(),
        bytes: record.encode_to_vec().into(),
        labels: None,
        indexed: None,
        expect: Expect::Any,
    }
}

/// The change that forgets a key.
pub(super) fn delete(id: &str) -> Change {
    Change::Delete { collection: COLLECTION.to_owned(), id: id.to_owned(), expect: Expect::Any }
}

/// A binding that cannot be read makes the key unreadable: half of its rights is none that anybody gave.
fn read(record: KeyRecord) -> Option<(Key, Hash)> {
    let key = Key {
        id: record.id.into(),
        label: record.label,
        bindings: record.bindings.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?,
        expires_at: record.expires_at.map(|at| micros(Some(at))),
        created_at: micros(record.created_at),
        created_by: record.created_by,
        revoked_at: record.revoked_at.map(|at| micros(Some(at))),
        ending: record.ending,
    };
    Some((key, record.hash.try_into().ok()?))
}
