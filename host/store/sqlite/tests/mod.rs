//! The contract on SQLite, and what only files have.

mod faults;
mod many;
mod readers;
mod upgrade;

use super::super::contract::{Subject, contract, namespace, put};
use super::super::{Expect, Shape, Store, StoreError, Write};
use super::{Config, SqliteStore, file_name};
use crate::domain::Namespace;
use rusqlite::Connection;
use std::any::Any;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// What is looked at in COMMIT only: a record named "boom" in the first collection breaks it.
pub(super) const BOOM: &str = "CREATE TABLE parent (id TEXT PRIMARY KEY);
    CREATE TABLE child (id TEXT REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
    CREATE TRIGGER boom AFTER INSERT ON r1 WHEN new.id = 'boom' BEGIN INSERT INTO child VALUES ('x'); END;";

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, namespace: &Namespace) -> PathBuf {
        self.folder().join(file_name(namespace))
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn raw(&self, namespace: &Namespace) -> Connection {
        Connection::open(self.file(namespace)).unwrap()
    }
}

impl Subject for Place {
    type Store = SqliteStore;

    fn open(&self) -> SqliteStore {
        // A machine under load may hold the stalled writer longer than a node would.
        let config = Config { lock_patience: Duration::from_secs(60), ..Config::default() };
        SqliteStore::with_config(&self.folder(), config).unwrap()
    }

    fn open_narrow(&self) -> SqliteStore {
        let one = NonZeroUsize::MIN;
        let config = Config { queue: one, batch: one, lock_patience: Duration::from_secs(60), ..Config::default() };
        SqliteStore::with_config(&self.folder(), config).unwrap()
    }

    fn stall(&self, namespace: &Namespace) -> Box<dyn Any> {
        let other = self.raw(namespace);
        other.busy_timeout(Duration::from_secs(60)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        Box::new(other)
    }
}

contract!(Place::new());

/// A store with one record in `system`, closed.
async fn filled() -> (Place, Namespace) {
    let (place, system) = (Place::new(), namespace("system"));
    let store = place.open();
    store.make(&system, "c", Shape::default()).await.unwrap();
    store.write(&system, Write::together(vec![put("c", "a", b"1", Expect::Any)])).await.unwrap();
    drop(store);
    (place, system)
}

#[tokio::test]
async fn files_are_private_and_named_in_hex() {
    let (place, system) = filled().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = place.file(&system);
    assert_eq!(file.file_name().unwrap(), "73797374656d.db");
    assert_eq!((mode(file.parent().unwrap()), mode(&file)), (0o700, 0o600));
    let left: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().map(|f| f.unwrap().path()).collect();
    assert_eq!(left, [file], "closing leaves the database alone, its log moved into it");
}

#[tokio::test]
async fn only_collections_make_a_database() {
    let (place, system) = (Place::new(), namespace("system"));
    let store = place.open();
    assert!(matches!(store.get(&system, "c", "a").await, Err(StoreError::NoCollection)));
    assert!(store.write(&system, Write::together(vec![put("c", "a", b"", Expect::Any)])).await.is_err());
    assert!(!store.drop_collection(&system, "c").await.unwrap());
    assert!(!place.file(&system).exists());
}

#[tokio::test]
async fn a_newer_version_is_refused_and_left_alone() {
    let (place, system) = filled().await;
    place.raw(&system).execute_batch("PRAGMA user_version = 99").unwrap();
    let before = fs::read(place.file(&system)).unwrap();
    let store = place.open();
    let refused = |answer: &StoreError| matches!(answer, StoreError::Newer { found: 99, known: 2 });
    assert!(refused(&store.get(&system, "c", "a").await.unwrap_err()));
    assert!(refused(&store.write(&system, Write::together(vec![put("c", "b", b"", Expect::Any)])).await.unwrap_err()));
    assert!(store.make(&namespace("other"), "c", Shape::default()).await.is_ok());
    drop(store);
    assert_eq!(fs::read(place.file(&system)).unwrap(), before);
}

#[tokio::test]
async fn garbage_is_damage_and_is_left_alone() {
    for garbage in [b"hello".to_vec(), vec![0xa5; 8_192], b"SQLite format 3\0 and then something else".to_vec()] {
        let (place, system) = (Place::new(), namespace("system"));
        let store = place.open();
        fs::write(place.file(&system), &garbage).unwrap();
        let write = store.write(&system, Write::together(vec![put("c", "b", b"", Expect::Any)])).await;
        assert!(matches!(write, Err(StoreError::Corrupt(_))), "{write:?}");
        assert!(matches!(store.get(&system, "c", "a").await, Err(StoreError::Corrupt(_))));
        drop(store);
        assert_eq!(fs::read(place.file(&system)).unwrap(), garbage);
    }
}

#[tokio::test]
async fn a_foreign_database_is_refused_and_left_alone() {
    for sql in ["CREATE TABLE t (x)", "PRAGMA user_version = 1", "PRAGMA user_version = -1"] {
        let (place, system) = (Place::new(), namespace("system"));
        let store = place.open();
        place.raw(&system).execute_batch(sql).unwrap();
        let before = fs::read(place.file(&system)).unwrap();
        let write = store.write(&system, Write::together(vec![put("c", "b", b"", Expect::Any)])).await;
        assert!(matches!(write, Err(StoreError::Corrupt(_))), "{sql}: {write:?}");
        drop(store);
        assert_eq!(fs::read(place.file(&system)).unwrap(), before);
    }
}

#[tokio::test]
async fn x08_a_damaged_page_is_damage_of_its_namespace_only() {
    let (place, system) = filled().await;
    let mut bytes = fs::read(place.file(&system)).unwrap();
    bytes[4_096..].fill(0xa5);
    fs::write(place.file(&system), &bytes).unwrap();
    let store = place.open();
    let read = store.get(&system, "c", "a").await;
    assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
    store.make(&namespace("other"), "c", Shape::default()).await.unwrap();
    drop(store);
    assert_eq!(fs::read(place.file(&system)).unwrap(), bytes);
}

#[tokio::test]
async fn a_link_in_place_of_a_database_is_refused() {
    let (place, system) = filled().await;
    let other = namespace("other");
    std::os::unix::fs::symlink(place.file(&system), place.file(&other)).unwrap();
    let store = place.open();
    assert!(store.get(&other, "c", "a").await.is_err());
    assert!(store.get(&system, "c", "a").await.unwrap().is_some());
}
