//! What fails, and what is left afterwards.

use super::super::super::contract::{Subject as _, namespace, put};
use super::super::super::{Change, Expect, Indexed, Path, Shape, Step, Store, StoreError, Write, all};
use super::super::{Config, SqliteStore};
use super::{BOOM, Place, filled};
use crate::domain::Namespace;
use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::time::Duration;

#[tokio::test]
async fn a_failed_commit_fails_its_batch_and_the_writer_recovers() {
    let (place, system) = filled().await;
    place.raw(&system).execute_batch(BOOM).unwrap();
    let store = place.open();
    assert!(store.get(&system, "c", "a").await.unwrap().is_some());
    let stalled = place.stall(&system);
    let write = |id| store.write(&system, Write::together(vec![put("c", id, b"", Expect::Any)]));
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
async fn a_clock_that_jumps_back_is_waited_out() {
    let (place, system) = filled().await;
    // As if it had been in the next century when the last record was put.
    let future = 5_000_000_000_000_000_i64;
    place.raw(&system).execute("UPDATE collection SET stamp = ?1", [future]).unwrap();
    for round in 1..3 {
        let store = place.open();
        store.write(&system, Write::together(vec![put("c", "a", b"2", Expect::Present)])).await.unwrap();
        assert_eq!(store.get(&system, "c", "a").await.unwrap().unwrap().updated_at, future + round);
    }
    let store = place.open();
    store.drop_collection(&system, "c").await.unwrap();
    store.make(&system, "c", Shape::default()).await.unwrap();
    store.write(&system, Write::together(vec![put("c", "a", b"3", Expect::Absent)])).await.unwrap();
    assert!(store.get(&system, "c", "a").await.unwrap().unwrap().created_at > future + 2);
}

#[tokio::test]
async fn what_a_failed_commit_counted_does_not_count() {
    let (place, system) = filled().await;
    place.raw(&system).execute_batch(BOOM).unwrap();
    let store = place.open();
    let pair = vec![put("c", "b", b"", Expect::Any), put("c", "boom", b"", Expect::Any)];
    assert!(store.write(&system, Write::together(pair)).await.is_err());
    store.write(&system, Write::together(vec![put("c", "d", b"", Expect::Any)])).await.unwrap();
    assert_eq!(store.stats(&system, "c").await.unwrap().records, 2);
    assert_eq!(all(&store, &system, "c").await.unwrap().len(), 2);
}

#[tokio::test]
async fn another_process_with_the_lock_is_busy_and_nothing_is_poisoned() {
    let (place, system) = filled().await;
    let config = Config { lock_patience: Duration::from_millis(20), ..Config::default() };
    let store = SqliteStore::with_config(&place.folder(), config).unwrap();
    let write = || store.write(&system, Write::together(vec![put("c", "b", b"", Expect::Any)]));
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
    for number in 0..10 {
        let large = vec![number; 4 * 1024 * 1024];
        store.write(&system, Write::together(vec![put("c", "large", &large, Expect::Any)])).await.unwrap();
    }
    // The last checkpoint follows its answer: another write comes after it.
    store.write(&system, Write::together(vec![put("c", "small", b"", Expect::Any)])).await.unwrap();
    let log = fs::metadata(place.file(&system).with_extension("db-wal")).unwrap().len();
    assert!(log < 25 * 1024 * 1024, "ten writes of 4 MiB left a log of {log} bytes");
}

#[tokio::test]
async fn too_many_bytes_are_busy() {
    let place = Place::new();
    let config = Config { queue_mib: NonZeroUsize::MIN, ..Config::default() };
    let store = SqliteStore::with_config(&place.folder(), config).unwrap();
    let system = namespace("system");
    store.make(&system, "c", Shape::default()).await.unwrap();
    let write = |size| store.write(&system, Write::together(vec![put("c", "b", &vec![0; size], Expect::Any)]));
    write(1_000_000).await.unwrap();
    assert!(matches!(write(2_000_000).await, Err(StoreError::Busy)));
    write(1_000_000).await.unwrap();
}

/// Tells the child where to write; without it the child is not one.
const CHILD: &str = "COLLECTOR_STORE_KILL_CHILD";

/// Writers that print what was acknowledged, until they are killed. Each write makes two records.
#[test]
#[ignore = "the child of x01, started by it"]
fn kill_child() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let store = SqliteStore::open(std::path::Path::new(&folder)).unwrap();
    let system = namespace("system");
    let searched = Shape { full_text: true, indexes: vec![Path::new(vec![Step::Member("n".to_owned())]).unwrap()] };
    let round = std::process::id();
    let writer = async |writer: usize| {
        for number in 0.. {
            let id = format!("{round}-{writer}-{number}");
            let mut left = put("left", &id, id.as_bytes(), Expect::Absent);
            if let Change::Put { indexed, .. } = &mut left {
                let document = format!("{{\"n\":{number}}}");
                *indexed = Some(Box::new(Indexed { document, text: format!("word{number} both"), vector: None }));
            }
            let pair = vec![left, put("right", &id, &[7; 3_000], Expect::Absent)];
            store.write(&system, Write::together(pair)).await.unwrap();
            println!("acked {id}");
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let make = async {
        for (name, shape) in [("left", searched), ("right", Shape::default())] {
            match store.make(&system, name, shape).await {
                Ok(()) | Err(StoreError::CollectionExists) => {}
                Err(why) => panic!("{why}"),
            }
        }
    };
    runtime.block_on(make);
    runtime.block_on(async { tokio::join!(writer(0), writer(1), writer(2), writer(3), writer(4)) });
}

/// Runs the child, kills it some milliseconds after its first write, returns what it had acknowledged.
fn run_and_kill(folder: &std::path::Path, delay: Duration) -> Vec<String> {
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
    let folder = place.folder();
    let mut acked = BTreeSet::new();
    for round in 0..20_u64 {
        let delay = RandomState::new().hash_one(round) % 120;
        acked.extend(run_and_kill(&folder, Duration::from_millis(delay)));
        let store = place.open();
        let left = ids(&store, &system, "left").await;
        assert!(acked.is_subset(&left), "round {round}: {:?} are lost", acked.difference(&left).collect::<Vec<_>>());
        assert_eq!(left, ids(&store, &system, "right").await, "round {round}: half a write");
        assert_eq!(store.stats(&system, "left").await.unwrap().records, left.len() as u64, "round {round}: miscounted");
        let (rows, texts) = counted(&place, &system);
        assert_eq!((rows, texts), (left.len() as u64, left.len() as u64), "round {round}: rows and texts");
    }
    assert!(acked.len() > 100, "{}", acked.len());
    println!("{} acknowledged writes in 20 rounds", acked.len());
}

async fn ids(store: &SqliteStore, namespace: &Namespace, collection: &str) -> BTreeSet<String> {
    all(store, namespace, collection).await.unwrap().into_iter().map(|record| record.id).collect()
}

/// Rows of "left", and those that text search finds, from the file itself.
fn counted(place: &Place, namespace: &Namespace) -> (u64, u64) {
    let raw = place.raw(namespace);
    let number: i64 = raw.query_row("SELECT no FROM collection WHERE name = 'left'", [], |row| row.get(0)).unwrap();
    let count = |sql: String| raw.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned();
    let rows = count(format!("SELECT count(*) FROM r{number}"));
    (rows, count(format!("SELECT count(*) FROM f{number} WHERE f{number} MATCH 'both'")))
}
