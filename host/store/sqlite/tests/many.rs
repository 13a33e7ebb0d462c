//! More namespaces than databases may be open.

use super::super::super::contract::{namespace, put};
use super::super::super::{BoxFuture, Expect, Shape, Store, StoreError, Write};
use super::super::{Config, SqliteStore};
use super::Place;
use std::fs;
use std::num::NonZeroUsize;
use std::sync::Arc;

const NAMESPACES: usize = 50;

fn narrow(place: &Place) -> SqliteStore {
    let config = Config { databases: NonZeroUsize::new(3).unwrap(), ..Config::default() };
    SqliteStore::with_config(&place.folder(), config).unwrap()
}

/// Threads of this process that belong to the databases of these tests.
fn threads() -> usize {
    let name = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
    let ours = fs::read_dir("/proc/self/task").unwrap().map(|thread| name(thread.unwrap()));
    ours.filter(|name| name.trim_end().ends_with(" many")).count()
}

#[tokio::test]
async fn databases_take_turns() {
    let (place, most) = (Place::new(), 3 * 4);
    let store = narrow(&place);
    let name = |number: usize| namespace(&format!("{number}.many"));
    for number in 0..NAMESPACES {
        store.make(&name(number), "c", Shape::default()).await.unwrap();
        assert!(threads() <= most);
    }
    for round in 0..3_u8 {
        for number in 0..NAMESPACES {
            let changes = vec![put("c", &round.to_string(), &[round], Expect::Absent)];
            store.write(&name(number), Write::together(changes)).await.unwrap();
        }
    }
    for number in (0..NAMESPACES).rev() {
        assert_eq!(store.scan(&name(number), "c", None, 9).await.unwrap().len(), 3, "{number}");
    }
}

/// Asks again while all that may be open are in use.
async fn patiently<'a, T>(ask: impl Fn() -> BoxFuture<'a, Result<T, StoreError>>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(StoreError::Busy) => tokio::task::yield_now().await,
            Err(why) => panic!("{why}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_take_turns_for_many_at_once() {
    let place = Place::new();
    let store = Arc::new(narrow(&place));
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..NAMESPACES {
        let store = store.clone();
        calls.spawn(async move {
            let name = namespace(&format!("n{number}"));
            patiently(|| store.make(&name, "c", Shape::default())).await;
            for round in 0..4_u8 {
                let id = round.to_string();
                let change = || Write::together(vec![put("c", &id, &[round], Expect::Absent)]);
                patiently(|| store.write(&name, change())).await;
                let found = patiently(|| store.get(&name, "c", &id)).await;
                assert_eq!(found.unwrap().bytes[..], [round]);
            }
        });
    }
    calls.join_all().await;
    drop(store);
    let store = narrow(&place);
    for number in 0..NAMESPACES {
        assert_eq!(store.scan(&namespace(&format!("n{number}")), "c", None, 9).await.unwrap().len(), 4, "{number}");
    }
}

#[tokio::test]
async fn a_database_in_use_is_not_closed() {
    let place = Place::new();
    let config = Config { databases: NonZeroUsize::MIN, ..Config::default() };
    let store = SqliteStore::with_config(&place.folder(), config).unwrap();
    let (one, two) = (namespace("one"), namespace("two"));
    store.make(&one, "c", Shape::default()).await.unwrap();
    let stalled = super::Subject::stall(&place, &one);
    let mut write = store.write(&one, Write::together(vec![put("c", "a", b"", Expect::Any)]));
    tokio::select! {
        biased;
        _ = &mut write => panic!("stalled"),
        () = std::future::ready(()) => {}
    }
    assert!(matches!(store.make(&two, "c", Shape::default()).await, Err(StoreError::Busy)));
    // Nobody waits for the answer any more, but the write is still to be made.
    drop(write);
    assert!(matches!(store.make(&two, "c", Shape::default()).await, Err(StoreError::Busy)));
    drop(stalled);
    patiently(|| store.make(&two, "c", Shape::default())).await;
    assert!(store.get(&one, "c", "a").await.unwrap().is_some());
}
