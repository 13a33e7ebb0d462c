//! The contract on SQLite, and what only files have.

use super::super::contract::{Subject, contract, namespace, put};
use super::super::{Expect, Store, StoreError};
use super::{Config, SqliteStore, file_name};
use crate::domain::Namespace;
use rusqlite::Connection;
use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, namespace: &Namespace) -> PathBuf {
        self.0.path().join("store").join(file_name(namespace))
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
        SqliteStore::with_config(&self.0.path().join("store"), config).unwrap()
    }

    fn open_narrow(&self) -> SqliteStore {
        let one = NonZeroUsize::MIN;
        let config = Config { queue: one, batch: one, lock_patience: Duration::from_secs(60), ..Config::default() };
        SqliteStore::with_config(&self.0.path().join("store"), config).unwrap()
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
    place.open().write(&system, vec![put("c", "a", b"1", Expect::Any)]).await.unwrap();
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
async fn reads_make_no_database() {
    let (place, system) = (Place::new(), namespace("system"));
    assert_eq!(place.open().get(&system, "c", "a").await.unwrap(), None);
    assert!(!place.file(&system).exists());
}

#[tokio::test]
async fn a_newer_version_is_refused_and_left_alone() {
    let (place, system) = filled().await;
    place.raw(&system).execute_batch("PRAGMA user_version = 99").unwrap();
    let before = fs::read(place.file(&system)).unwrap();
    let store = place.open();
    let refused = |answer: &StoreError| matches!(answer, StoreError::Newer { found: 99, known: 1 });
    assert!(refused(&store.get(&system, "c", "a").await.unwrap_err()));
    assert!(refused(&store.write(&system, vec![put("c", "b", b"", Expect::Any)]).await.unwrap_err()));
    assert!(store.write(&namespace("other"), vec![put("c", "b", b"", Expect::Any)]).await.is_ok());
    drop(store);
    assert_eq!(fs::read(place.file(&system)).unwrap(), before);
}

#[tokio::test]
async fn garbage_is_damage_and_is_left_alone() {
    for garbage in [b"hello".to_vec(), vec![0xa5; 8_192], b"SQLite format 3\0 and then something else".to_vec()] {
        let (place, system) = (Place::new(), namespace("system"));
        let store = place.open();
        fs::write(place.file(&system), &garbage).unwrap();
        let write = store.write(&system, vec![put("c", "b", b"", Expect::Any)]).await;
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
        let write = store.write(&system, vec![put("c", "b", b"", Expect::Any)]).await;
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
    store.write(&namespace("other"), vec![put("c", "b", b"", Expect::Any)]).await.unwrap();
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

#[tokio::test]
async fn a_failed_commit_fails_its_batch_and_the_writer_recovers() {
    let (place, system) = filled().await;
    // A record named "boom" breaks a rule that is looked at in COMMIT only.
    let rule = "CREATE TABLE parent (id TEXT PRIMARY KEY);
        CREATE TABLE child (id TEXT REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER boom AFTER INSERT ON record WHEN new.id = 'boom' BEGIN INSERT INTO child VALUES ('x'); END;";
    place.raw(&system).execute_batch(rule).unwrap();
    let store = place.open();
    assert!(store.get(&system, "c", "a").await.unwrap().is_some());
    let stalled = place.stall(&system);
    let write = |id| store.write(&system, vec![put("c", id, b"", Expect::Any)]);
    // How they fall into batches is up to the writer; its own tests have batches of known content.
    let all = async { tokio::join!(write("boom"), write("boom")) };
    let release = async { drop(stalled) };
    let ((boom, again), ()) = tokio::join!(all, release);
    for answer in [boom, again] {
        let why = answer.unwrap_err();
        assert!(matches!(why, StoreError::Io(_)) && why.to_string() == "storage failure", "{why:?}");
    }
    assert!(store.get(&system, "c", "a").await.unwrap().is_some(), "readers never noticed");
    write("after").await.unwrap();
    assert!(store.get(&system, "c", "boom").await.unwrap().is_none());
    assert!(store.get(&system, "c", "after").await.unwrap().is_some());
}

#[tokio::test]
async fn another_process_with_the_lock_is_busy_and_nothing_is_poisoned() {
    let (place, system) = filled().await;
    let config = Config { lock_patience: Duration::from_millis(20), ..Config::default() };
    let store = SqliteStore::with_config(&place.0.path().join("store"), config).unwrap();
    let write = || store.write(&system, vec![put("c", "b", b"", Expect::Any)]);
    write().await.unwrap();
    let stalled = place.stall(&system);
    assert!(matches!(write().await, Err(StoreError::Busy)));
    drop(stalled);
    write().await.unwrap();
}

#[tokio::test]
async fn the_log_is_moved_into_the_database() {
    let (place, system) = filled().await;
    let store = place.open();
    for number in 0..6 {
        let large = vec![number; 4 * 1024 * 1024];
        store.write(&system, vec![put("c", "large", &large, Expect::Any)]).await.unwrap();
    }
    // The last checkpoint follows its answer: another write comes after it.
    store.write(&system, vec![put("c", "small", b"", Expect::Any)]).await.unwrap();
    let log = fs::metadata(place.file(&system).with_extension("db-wal")).unwrap().len();
    assert!(log < 12 * 1024 * 1024, "six writes of 4 MiB left a log of {log} bytes");
}

#[tokio::test]
async fn too_many_databases_and_bytes_are_busy() {
    let place = Place::new();
    let config = Config { databases: NonZeroUsize::MIN, queue_mib: NonZeroUsize::MIN, ..Config::default() };
    let store = SqliteStore::with_config(&place.0.path().join("store"), config).unwrap();
    let write = |name: &str, size| store.write(&namespace(name), vec![put("c", "b", &vec![0; size], Expect::Any)]);
    write("one", 1_000_000).await.unwrap();
    assert!(matches!(write("one", 2_000_000).await, Err(StoreError::Busy)));
    assert!(matches!(write("two", 1).await, Err(StoreError::Busy)));
    write("one", 1_000_000).await.unwrap();
}

/// Tells the child where to write; without it the child is not one.
const CHILD: &str = "COLLECTOR_STORE_KILL_CHILD";

/// Writers that print what was acknowledged, until they are killed. Each write makes two records.
#[test]
#[ignore = "the child of x01, started by it"]
fn kill_child() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let store = SqliteStore::open(Path::new(&folder)).unwrap();
    let system = namespace("system");
    let round = std::process::id();
    let writer = async |writer: usize| {
        for number in 0.. {
            let id = format!("{round}-{writer}-{number}");
            let pair =
                vec![put("left", &id, id.as_bytes(), Expect::Absent), put("right", &id, &[7; 3_000], Expect::Absent)];
            store.write(&system, pair).await.unwrap();
            println!("acked {id}");
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { tokio::join!(writer(0), writer(1), writer(2), writer(3), writer(4)) });
}

/// Runs the child, kills it some milliseconds after its first write, returns what it had acknowledged.
fn run_and_kill(folder: &Path, delay: Duration) -> Vec<String> {
    let test = module_path!().split_once("::").unwrap().1.to_owned() + "::kill_child";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([&test, "--exact", "--ignored", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    // libtest prints the test's name on the line of the first.
    let id = |line: &String| line.split_once("acked ").map(|(_, id)| id.to_owned());
    let first = lines.by_ref().find_map(|line| id(&line)).unwrap();
    let rest = std::thread::spawn(move || lines.filter_map(|line| id(&line)).collect::<Vec<_>>());
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut acked = rest.join().unwrap();
    acked.push(first);
    acked
}

#[tokio::test]
async fn x01_acked_writes_survive_kill() {
    let (place, system) = (Place::new(), namespace("system"));
    let folder = place.0.path().join("store");
    let mut acked = BTreeSet::new();
    for round in 0..20_u64 {
        let delay = RandomState::new().hash_one(round) % 120;
        acked.extend(run_and_kill(&folder, Duration::from_millis(delay)));
        let store = place.open();
        let left = all(&store, &system, "left").await;
        assert!(acked.is_subset(&left), "round {round}: {:?} are lost", acked.difference(&left).collect::<Vec<_>>());
        assert_eq!(left, all(&store, &system, "right").await, "round {round}: half a write");
    }
    assert!(acked.len() > 100, "{}", acked.len());
    println!("{} acknowledged writes in 20 rounds", acked.len());
}

async fn all(store: &SqliteStore, namespace: &Namespace, collection: &str) -> BTreeSet<String> {
    let (mut found, mut after) = (BTreeSet::new(), None::<String>);
    loop {
        let page = store.scan(namespace, collection, after.as_deref(), 1_000).await.unwrap();
        let Some(last) = page.last() else { return found };
        after = Some(last.id.clone());
        found.extend(page.into_iter().map(|record| record.id));
    }
}
