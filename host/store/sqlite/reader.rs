//! The readers of one database: a thread and a read-only connection each, one queue for all.

use super::super::{Record, SCAN_BYTES, StoreError};
use super::database::Shared;
use super::fault::{from_sqlite, poisons};
use bytes::Bytes;
use rusqlite::{Connection, Row, params};
use std::sync::{Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

const GET: &str = include_str!("../sql/get.sql");
const SCAN: &str = include_str!("../sql/scan.sql");

/// What is asked.
pub(super) enum Query {
    /// One record.
    Get { collection: String, id: String },
    /// A page of them.
    Scan { collection: String, after: String, limit: usize },
}

/// A question, and who wants to know.
pub(super) struct Job {
    pub(super) query: Query,
    pub(super) span: Span,
    pub(super) reply: oneshot::Sender<Result<Vec<Record>, StoreError>>,
}

/// Answers until the queue is closed and empty.
pub(super) fn run(shared: &Shared, jobs: &Mutex<mpsc::Receiver<Job>>) {
    let mut connection = None;
    loop {
        // Whoever holds the lock waits for a job, the others wait for the lock.
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(Job { query, span, reply }) = next else { return };
        if reply.is_closed() {
            continue;
        }
        let answer = span.in_scope(|| answer(shared, &mut connection, &query));
        let _ = reply.send(answer);
    }
}

fn answer(shared: &Shared, slot: &mut Option<Connection>, query: &Query) -> Result<Vec<Record>, StoreError> {
    let connection = match slot.take() {
        Some(open) => open,
        None => shared.reader()?,
    };
    let found = look(&connection, query);
    match &found {
        // The next question gets a fresh connection.
        Err(why) if poisons(why) => {
            tracing::error!(error = why as &dyn std::error::Error, "a read failed");
        }
        _ => *slot = Some(connection),
    }
    found
}

fn look(connection: &Connection, query: &Query) -> Result<Vec<Record>, StoreError> {
    match query {
        Query::Get { collection, id } => {
            let mut statement = connection.prepare_cached(GET).map_err(from_sqlite)?;
            page(statement.query_map(params![collection, id], record).map_err(from_sqlite)?)
        }
        Query::Scan { collection, after, limit } => {
            let limit = i64::try_from(*limit).unwrap_or(i64::MAX);
            let mut statement = connection.prepare_cached(SCAN).map_err(from_sqlite)?;
            page(statement.query_map(params![collection, after, limit], record).map_err(from_sqlite)?)
        }
    }
}

fn page(rows: impl Iterator<Item = rusqlite::Result<Record>>) -> Result<Vec<Record>, StoreError> {
    let mut found = Vec::new();
    let mut held = 0;
    for row in rows {
        let row = row.map_err(from_sqlite)?;
        held += row.id.len() + row.type_url.len() + row.bytes.len();
        found.push(row);
        if held >= SCAN_BYTES {
            break;
        }
    }
    Ok(found)
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let revision: i64 = row.get(5)?;
    Ok(Record {
        id: row.get(0)?,
        type_url: row.get(1)?,
        bytes: Bytes::from(row.get::<_, Vec<u8>>(2)?),
        created_at: row.get(3)?,
        updated_at: row.get(4)?,
        revision: u64::try_from(revision).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(5, revision))?,
    })
}
