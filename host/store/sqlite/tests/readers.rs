//! Reads that take long.

use super::super::super::contract::Subject as _;
use super::super::super::{Store, StoreError};
use super::super::database::Lane;
use super::super::reader::Reader;
use super::super::{Config, SqliteStore};
use super::filled;
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::time::Instant;

/// Counts to a number that it does not reach in a day.
fn endless(reader: &mut Reader) -> Result<i64, StoreError> {
    reader.run("WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n")
}

fn at_once(reader: &mut Reader) -> Result<i64, StoreError> {
    reader.run("SELECT 1")
}

#[tokio::test]
async fn work_ends_at_the_deadline() {
    let (place, system) = filled().await;
    let store =
        SqliteStore::with_config(&place.folder(), Config { readers: NonZeroUsize::MIN, ..Config::default() }).unwrap();
    let deadline = Instant::now() + Duration::from_millis(50);
    let late = store.read(system.clone(), Lane::Query, false, Some(deadline), endless).await;
    assert!(matches!(late, Err(StoreError::Deadline)), "{late:?}");
    // The one reader is free again.
    assert_eq!(store.read(system, Lane::Query, false, None, at_once).await.unwrap(), 1);
}

#[tokio::test]
async fn work_ends_when_the_caller_leaves() {
    let (place, system) = filled().await;
    let store =
        SqliteStore::with_config(&place.folder(), Config { readers: NonZeroUsize::MIN, ..Config::default() }).unwrap();
    let left = store.read(system.clone(), Lane::Query, false, None, endless);
    tokio::select! {
        biased;
        _ = left => panic!("endless"),
        // Long enough that it has begun.
        found = store.get(&system, "c", "a") => assert!(found.unwrap().is_some()),
    }
    assert_eq!(store.read(system, Lane::Query, false, None, at_once).await.unwrap(), 1);
}

#[tokio::test]
async fn reads_by_id_never_wait_for_searches() {
    let (place, system) = filled().await;
    let store = place.open();
    let searches = || store.read(system.clone(), Lane::Query, false, None, endless);
    tokio::select! {
        biased;
        _ = async { tokio::join!(searches(), searches(), searches()) } => panic!("endless"),
        found = store.get(&system, "c", "a") => assert!(found.unwrap().is_some()),
    }
}

/// 1 on a thread of the database's, 0 on the caller's own.
fn away(_reader: &mut Reader) -> Result<i64, StoreError> {
    Ok(i64::from(std::thread::current().name().is_some_and(|name| name.starts_with("query"))))
}

#[tokio::test]
async fn what_is_quick_is_answered_where_it_is_asked_and_nothing_else_is() {
    let (place, system) = filled().await;
    let store = place.open();
    let ask = |look: fn(&mut Reader) -> Result<i64, StoreError>| {
        Box::pin(store.read(system.clone(), Lane::Query, true, None, look))
    };
    assert_eq!(ask(away).await.unwrap(), 1, "the thread opens the database");
    // The thread may still be about to leave its place; on a busy machine an answer from memory may be late, too.
    let mut here = false;
    for _ in 0..10_000 {
        here = here || ask(away).await.unwrap() == 0;
    }
    assert!(here, "no thread is asked");
    let mut long = ask(endless);
    assert!(futures_util::poll!(&mut long).is_pending(), "it was given up");
    assert_eq!(ask(away).await.unwrap(), 1, "a thread is asked for a while");
}
