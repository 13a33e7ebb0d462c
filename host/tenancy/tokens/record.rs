//! Revocations as the store keeps them.

use crate::domain::{Namespace, micros, now, timestamp};
use crate::store::{self, Change, Expect, Store, StoreError};
use prost::Message;
use prost_types::Timestamp;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Collection of revocations, in `system`. It is not among those that can be read from outside.
const COLLECTION: &str = "revoked_tokens";

/// A revoked token.
#[derive(Clone, PartialEq, Message)]
struct RevokedRecord {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    until: Option<Timestamp>,
}

/// Makes the collection where it is missing.
pub(super) async fn ensure(store: &dyn Store) -> Result<(), StoreError> {
    store::ensure(store, &Namespace::system(), COLLECTION).await
}

/// Reads the revocations of tokens that have not expired.
///
/// * errors: the store cannot be read, or a revocation cannot: better no node than a token that is good again.
pub(super) async fn all(store: &dyn Store) -> Result<imbl::HashMap<Arc<str>, i64>, StoreError> {
    let records = match store::all(store, &Namespace::system(), COLLECTION).await {
        Err(StoreError::NoCollection) => return Ok(imbl::HashMap::new()),
        records => records?,
    };
    let unreadable = |_| StoreError::Corrupt(Arc::from(Box::from("a stored revocation cannot be read")));
    let mut found = imbl::HashMap::new();
    for record in records {
        let RevokedRecord { id, until } = RevokedRecord::decode(record.bytes).map_err(unreadable)?;
        let until = micros(until);
        if until >= now() {
            found.insert(id.into(), until);
        }
    }
    Ok(found)
}

/// The change that keeps a revocation.
pub(super) fn put(id: &str, until: i64) -> Change {
    let record = RevokedRecord { id: id.to_owned(), until: Some(timestamp(until)) };
    Change::Put {
        collection: COLLECTION.to_owned(),
        id: record_id(id),
        type_url: String::new(),
        bytes: record.encode_to_vec().into(),
        labels: None,
        indexed: None,
        expect: Expect::Any,
    }
}

/// The change that forgets one.
pub(super) fn delete(id: &str) -> Change {
    Change::Delete { collection: COLLECTION.to_owned(), id: record_id(id), expect: Expect::Any }
}

/// An id is the issuer's, of any characters.
fn record_id(id: &str) -> String {
    hex::encode(Sha256::digest(id.as_bytes()))
}
