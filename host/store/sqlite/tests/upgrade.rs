//! Databases that earlier versions made. Each version has left one in `tests/data/store`, `v<version>.db`; the first was
//! made by that version's program, [`a_database_for_later`] makes that of today.

use super::super::super::contract::{Subject as _, put};
use super::super::super::{
    Change, Compare, Condition, Expect, Indexed, Once, Path, Phrase, Query, Record, Scalar, Shape, Step, Store, Test,
    Text, Write, all,
};
use super::super::SqliteStore;
use super::{Place, namespace};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

fn kept(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/store").join(file)
}

/// A store whose namespace `system` is the database that this version left.
fn left_by(version: u32) -> (Place, SqliteStore) {
    let place = Place::new();
    let store = place.open();
    fs::copy(kept(&format!("v{version}.db")), place.file(&namespace("system"))).unwrap();
    (place, store)
}

/// What version 1 kept of a record.
struct Old {
    collection: String,
    id: String,
    type_url: String,
    bytes: Vec<u8>,
    created_at: i64,
    updated_at: i64,
    revision: i64,
}

fn of_version_1() -> Vec<Old> {
    // Of a copy: SQLite makes files beside those that it reads.
    let (place, store) = left_by(1);
    drop(store);
    let file = place.raw(&namespace("system"));
    let sql = "SELECT collection, id, type_url, bytes, created_at, updated_at, revision FROM record ORDER BY revision";
    let mut statement = file.prepare(sql).unwrap();
    let old = |row: &rusqlite::Row<'_>| {
        Ok(Old {
            collection: row.get(0)?,
            id: row.get(1)?,
            type_url: row.get(2)?,
            bytes: row.get(3)?,
            created_at: row.get(4)?,
            updated_at: row.get(5)?,
            revision: row.get(6)?,
        })
    };
    statement.query_map([], old).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn records_of_version_1_are_there_in_their_order() {
    let (place, store) = left_by(1);
    let system = namespace("system");
    let old = of_version_1();
    assert!(old.len() > 20 && old.iter().any(|old| old.revision > 25), "the database has content and history");
    assert_eq!(store.collections(&system).await.unwrap(), ["Protos", "protos", "services"]);
    let mut found = Vec::new();
    for collection in ["Protos", "protos", "services"] {
        let records = all(&store, &system, collection).await.unwrap();
        assert_eq!(store.stats(&system, collection).await.unwrap().records, records.len() as u64);
        found.extend(records.into_iter().map(|record| (collection, record)));
    }
    found.sort_by_key(|(_, record)| record.revision);
    assert_eq!(found.len(), old.len());
    let (mut revision, mut created) = (0, BTreeMap::new());
    for (old, (collection, new)) in old.iter().zip(&found) {
        assert_eq!((old.collection.as_str(), &old.id, &old.type_url), (*collection, &new.id, &new.type_url));
        assert_eq!(old.bytes, new.bytes);
        assert!(new.labels.is_empty());
        // Moments are as they were, but for what keeps them apart: less than one microsecond per record.
        let near = |old: i64, new: i64| (0..=i64::try_from(found.len()).unwrap()).contains(&(new - old));
        assert!(near(old.created_at, new.created_at) && near(old.updated_at, new.updated_at), "{}", new.id);
        assert!(new.revision > revision && u64::try_from(new.updated_at) == Ok(new.revision));
        revision = new.revision;
        assert!(created.insert(new.created_at, (old.created_at, old.revision)).is_none(), "made at one moment");
    }
    assert!(created.values().is_sorted_by_key(|(created_at, _)| *created_at), "in the order in which they were made");
    // The file goes on from there.
    store.write(&system, Write::together(vec![put("protos", "new", b"", Expect::Absent)])).await.unwrap();
    assert!(store.get(&system, "protos", "new").await.unwrap().unwrap().revision > revision);
    drop(store);
    assert_eq!(all(&place.open(), &system, "protos").await.unwrap().len(), 21);
}

/// A record of version 2, as it was when the database was made.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Seen {
    id: String,
    type_url: String,
    bytes: Vec<u8>,
    labels: BTreeMap<String, String>,
    created_at: i64,
    updated_at: i64,
    revision: u64,
}

impl From<Record> for Seen {
    fn from(record: Record) -> Self {
        let Record { id, type_url, bytes, labels, created_at, updated_at, revision } = record;
        Self { id, type_url, bytes: bytes.to_vec(), labels, created_at, updated_at, revision }
    }
}

type Manifest = BTreeMap<String, Vec<Seen>>;

async fn seen(store: &SqliteStore) -> Manifest {
    let mut manifest = Manifest::new();
    for collection in store.collections(&namespace("system")).await.unwrap() {
        let records = all(store, &namespace("system"), &collection).await.unwrap();
        manifest.insert(collection, records.into_iter().map(Seen::from).collect());
    }
    manifest
}

fn once() -> Write {
    let once = Some(Once { key: "kept".to_owned(), fingerprint: [7; 32] });
    Write { once, ..Write::together(vec![put("plain", "once", b"made once", Expect::Absent)]) }
}

fn n() -> Path {
    Path::new(vec![Step::Member("n".to_owned())]).unwrap()
}

#[tokio::test]
async fn records_of_version_2_are_there_and_found() {
    let (_place, store) = left_by(2);
    let system = namespace("system");
    let wanted: Manifest = serde_json::from_slice(&fs::read(kept("v2.json")).unwrap()).unwrap();
    assert_eq!(seen(&store).await, wanted);
    let again = store.write(&system, once()).await.unwrap();
    assert!(again.replayed, "names of writes are remembered");
    assert_eq!(store.stats(&system, "searched").await.unwrap().records, wanted["searched"].len() as u64);
    let words = Phrase { words: "word7".to_owned(), prefix: false, initial: false };
    let test = Test::Compare(Compare::Equal, Scalar::Int(7));
    let conditions = vec![Condition { any: vec![(n(), test)], negate: false }];
    for query in [
        Query { text: Some(Text::Phrase(words)), limit: 9, ..Query::default() },
        Query { conditions, limit: 9, ..Query::default() },
    ] {
        let deadline = Instant::now() + Duration::from_secs(60);
        let page = store.query(&system, "searched", query, deadline).await.unwrap();
        assert_eq!(page.hits.iter().map(|hit| hit.record.id.as_str()).collect::<Vec<_>>(), ["s07"]);
    }
}

#[tokio::test]
#[ignore = "makes the database that this version leaves to later ones: once per version, before it is released"]
async fn a_database_for_later() {
    let (place, system) = (Place::new(), namespace("system"));
    let store = place.open();
    store.make(&system, "plain", Shape::default()).await.unwrap();
    store.make(&system, "searched", Shape { full_text: true, indexes: vec![n()] }).await.unwrap();
    store.make(&system, "dropped", Shape::default()).await.unwrap();
    let twins = ["ID", "id", "é", "e\u{301}", "'", "gone"].map(|id| put("plain", id, id.as_bytes(), Expect::Absent));
    store.write(&system, Write::together(twins.to_vec())).await.unwrap();
    store.write(&system, once()).await.unwrap();
    for number in 0..12_u8 {
        let change = Change::Put {
            collection: "searched".to_owned(),
            id: format!("s{number:02}"),
            type_url: "type.example/shop.Order".to_owned(),
            bytes: Bytes::from(vec![number; usize::from(number) * 100]),
            labels: (number % 2 == 0).then(|| [("number".to_owned(), number.to_string())].into()),
            indexed: Some(Box::new(Indexed {
                document: format!("{{\"n\":{number}}}"),
                text: format!("word{number} and others"),
                vector: Some(vec![f32::from(number), 1.0]),
            })),
            expect: Expect::Any,
        };
        store.write(&system, Write::together(vec![change])).await.unwrap();
    }
    let delete = |collection: &str, id: &str| Change::Delete {
        collection: collection.to_owned(),
        id: id.to_owned(),
        expect: Expect::Present,
    };
    let changes =
        vec![delete("plain", "gone"), put("plain", "id", b"changed", Expect::Present), delete("searched", "s03")];
    store.write(&system, Write::together(changes)).await.unwrap();
    store.drop_collection(&system, "dropped").await.unwrap();
    let manifest = serde_json::to_vec(&seen(&store).await).unwrap();
    drop(store);
    fs::copy(place.file(&system), kept("v2.db")).unwrap();
    fs::write(kept("v2.json"), manifest).unwrap();
}
