//! Definitions as the store keeps them: `collector.Collection`. Beside them notes of what was begun with their tables.

use super::{Definition, Work};
use crate::collections::Place;
use crate::domain::Namespace;
use crate::registry::{micros, timestamp};
use crate::store::{self, Change, Expect, Labels, Store, StoreError};
use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Collection of definitions, in `system`.
const COLLECTIONS: &str = "collections";
const TYPE: &str = "type.googleapis.com/collector.Collection";
/// Collection of notes, in `system`: what is to be done with the tables of the collection of the same id.
const WORK: &str = "collection_work";
/// Label of a note: records that went with a dropped collection.
const RECORDS: &str = "records";
/// `collector.FullText.FULL_TEXT_OFF`.
const FULL_TEXT_OFF: i32 = 1;

/// `collector.Collection`. Source: proto/collector/collection.proto.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CollectionRecord {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, optional, tag = "3")]
    message_type: Option<TypeRef>,
    #[prost(string, repeated, tag = "4")]
    indexed_fields: Vec<String>,
    #[prost(string, tag = "5")]
    server_endpoint: String,
    #[prost(message, optional, tag = "6")]
    metadata: Option<Metadata>,
    #[prost(int32, tag = "7")]
    full_text: i32,
}

/// `collector.MessageTypeRef`.
#[derive(Clone, PartialEq, Message)]
struct TypeRef {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    message_name: String,
}

/// `collector.Metadata`.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, tag = "1")]
    created_at: Option<Timestamp>,
    #[prost(message, tag = "2")]
    updated_at: Option<Timestamp>,
    #[prost(btree_map = "string, string", tag = "3")]
    labels: BTreeMap<String, String>,
}

/// Reads all definitions of an earlier run.
pub(super) async fn all(store: &dyn Store) -> Result<Vec<Definition>, StoreError> {
    let system = Namespace::system();
    for collection in [COLLECTIONS, WORK] {
        store::ensure(store, &system, collection).await?;
    }
    let mut found = Vec::new();
    for record in store::all(store, &system, COLLECTIONS).await? {
        match decode(record.bytes).filter(|definition| definition.id() == record.id) {
            Some(definition) => found.push(definition),
            None => tracing::error!(id = record.id, "a stored definition of a collection cannot be read"),
        }
    }
    Ok(found)
}

/// One definition as it is on disk.
///
/// * errors: those of [`Store::get`]; `Corrupt` for one that cannot be read.
pub(super) async fn read(store: &dyn Store, place: &Place) -> Result<Option<Definition>, StoreError> {
    let Some(record) = store.get(&Namespace::system(), COLLECTIONS, &place.id()).await? else { return Ok(None) };
    let definition = decode(record.bytes).filter(|definition| definition.id() == record.id);
    let unreadable = || StoreError::Corrupt(Arc::from(Box::from("a stored definition cannot be read")));
    definition.ok_or_else(unreadable).map(Some)
}

/// The change that keeps a definition.
pub(super) fn put(definition: &Definition, expect: Expect) -> Change {
    let message_type = definition.message_type.clone();
    let record = CollectionRecord {
        namespace: definition.namespace.to_string(),
        name: definition.name.to_string(),
        message_type: message_type.map(|message_name| TypeRef { namespace: String::new(), message_name }),
        indexed_fields: definition.indexed_fields.clone(),
        server_endpoint: definition.server_endpoint.clone(),
        metadata: Some(Metadata {
            created_at: Some(timestamp(definition.created_at)),
            updated_at: Some(timestamp(definition.updated_at)),
            labels: definition.labels.clone(),
        }),
        full_text: if definition.full_text { 0 } else { FULL_TEXT_OFF },
    };
    change(COLLECTIONS, definition.id(), TYPE, record.encode_to_vec().into(), None, expect)
}

/// The change that forgets a definition, which has to be there.
pub(super) fn delete(place: &Place) -> Change {
    Change::Delete { collection: COLLECTIONS.to_owned(), id: place.id(), expect: Expect::Present }
}

/// The change that notes what is to be done.
///
/// * `records`: kept with it, for [`noted`].
pub(super) fn note(place: &Place, work: Work, records: Option<u64>) -> Change {
    let labels = records.map(|records| (RECORDS.to_owned(), records.to_string())).into_iter().collect();
    change(WORK, place.id(), "", Bytes::from_static(work.word().as_bytes()), Some(labels), Expect::Any)
}

/// The records that a note speaks of.
pub(super) fn noted(labels: &Labels) -> Option<u64> {
    labels.get(RECORDS)?.parse().ok()
}

/// The change that ends a note.
pub(super) fn no_note(place: &Place, expect: Expect) -> Change {
    Change::Delete { collection: WORK.to_owned(), id: place.id(), expect }
}

/// A change of nothing: no collection has this id.
pub(super) fn nothing() -> Change {
    Change::Delete { collection: WORK.to_owned(), id: "-".to_owned(), expect: Expect::Any }
}

/// What is noted of a collection, and the note's revision.
pub(super) async fn work(store: &dyn Store, place: &Place) -> Result<Option<(Work, u64)>, StoreError> {
    let record = store.get(&Namespace::system(), WORK, &place.id()).await?;
    Ok(record.and_then(|record| Some((Work::of(&record.bytes)?, record.revision))))
}

/// All notes.
pub(super) async fn all_work(store: &dyn Store) -> Result<Vec<(Place, Work)>, StoreError> {
    let mut found = Vec::new();
    for record in store::all(store, &Namespace::system(), WORK).await? {
        match place(&record.id).zip(Work::of(&record.bytes)) {
            Some(note) => found.push(note),
            None => tracing::error!(id = record.id, "a note of a change of a collection cannot be read"),
        }
    }
    Ok(found)
}

impl Work {
    fn word(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Shape => "shape",
            Self::Index => "index",
        }
    }

    fn of(word: &[u8]) -> Option<Self> {
        [Self::Drop, Self::Shape, Self::Index].into_iter().find(|work| work.word().as_bytes() == word)
    }
}

fn place(id: &str) -> Option<Place> {
    let (namespace, collection) = id.split_once('/')?;
    Some(Place { namespace: namespace.parse().ok()?, collection: collection.parse().ok()? })
}

fn change(
    collection: &str,
    id: String,
    type_url: &str,
    bytes: Bytes,
    labels: Option<Labels>,
    expect: Expect,
) -> Change {
    let (collection, type_url) = (collection.to_owned(), type_url.to_owned());
    Change::Put { collection, id, type_url, bytes, labels, indexed: None, expect }
}

fn decode(bytes: Bytes) -> Option<Definition> {
    let record = CollectionRecord::decode(bytes).ok()?;
    let metadata = record.metadata.unwrap_or_default();
    Some(Definition {
        namespace: record.namespace.parse().ok()?,
        name: record.name.parse().ok()?,
        message_type: record.message_type.map(|of| of.message_name).filter(|name| !name.is_empty()),
        indexed_fields: record.indexed_fields,
        server_endpoint: record.server_endpoint,
        labels: metadata.labels,
        full_text: record.full_text != FULL_TEXT_OFF,
        created_at: micros(metadata.created_at),
        updated_at: micros(metadata.updated_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_comes_back_as_it_was() {
        let definition = Definition {
            namespace: "acme".parse().unwrap(),
            name: "orders".parse().unwrap(),
            message_type: Some("shop.v1.Order".to_owned()),
            indexed_fields: vec!["a.b".to_owned(), "v:vector".to_owned()],
            server_endpoint: "node-1:50051".to_owned(),
            labels: [("tier".to_owned(), "gold".to_owned())].into(),
            full_text: false,
            created_at: 1_700_000_000_000_001,
            updated_at: 1_700_000_000_000_002,
        };
        let Change::Put { bytes, id, .. } = put(&definition, Expect::Any) else { panic!("a put") };
        assert_eq!((id.as_str(), decode(bytes)), ("acme/orders", Some(definition)));
        assert_eq!(decode(Bytes::from_static(b"\xff")), None);
        assert_eq!(decode(Bytes::new()), None, "no name");
    }

    #[test]
    fn notes_are_read_back() {
        for work in [Work::Drop, Work::Shape, Work::Index] {
            assert_eq!(Work::of(work.word().as_bytes()), Some(work));
        }
        assert_eq!(Work::of(b"other"), None);
    }
}
