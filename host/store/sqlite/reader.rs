//! The readers of one database: a thread and a read-only connection each. Those of one queue take turns at it.

use super::super::{Footprint, Page, Plan, Query, Record, SCAN_BYTES, Stats, StoreError, Text, TextStats};
use super::database::Shared;
use super::fault::{cached, from_sqlite, poisons};
use super::row::record;
use super::{layout, select, tables};
use rusqlite::{Connection, Transaction, params};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Span;

const GET: &str = include_str!("../sql/get.sql");
const SCAN: &str = include_str!("../sql/scan.sql");
const NAMES: &str = include_str!("../sql/names.sql");
const BYTES: &str = include_str!("../sql/bytes.sql");

/// Steps of the database's machine after which it is looked whether anybody still wants the answer: 200, some dozens of
/// records, as each may take a document of megabytes to look into.
const STEPS: i32 = 200;

/// Collections whose statements a reader keeps. Beyond them it starts anew.
const KNOWN_MAX: usize = 1_000;

/// A question, and who wants to know.
pub(super) type Job = Box<dyn FnOnce(&mut Seat) + Send>;

/// Until when, and for whom, a question is worked on.
pub(super) struct Asked<T> {
    /// Whether the answer may take long: the work is stopped when nobody waits for it any more.
    pub(super) slow: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) span: Span,
    /// That the database stays open.
    pub(super) using: Arc<()>,
    pub(super) reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send + 'static> Asked<T> {
    /// What the thread does with it.
    pub(super) fn job(self, look: impl FnOnce(&mut Reader) -> Result<T, StoreError> + Send + 'static) -> Job {
        Box::new(move |seat| {
            let Self { slow, deadline, span, using, reply } = self;
            if reply.is_closed() {
                return;
            }
            let reply = Arc::new(reply);
            let watched = reply.clone();
            let unwanted = move || watched.is_closed() || deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let answer = span.in_scope(|| seat.answer(slow.then_some((STEPS, unwanted)), look));
            drop(using);
            // The handler that shared it is gone; whoever asked may be, too.
            if let Some(reply) = Arc::into_inner(reply) {
                let _ = reply.send(answer);
            }
        })
    }
}

/// Answers until the queue is closed and empty.
pub(super) fn run(seat: &Near, jobs: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // Whoever holds the lock waits for a job, the others wait for the lock.
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = next else { return };
        job(&mut seat.seat());
    }
}

/// A read that takes longer than this was not answered from memory. 1 ms: a hundred times what it takes there.
const QUICK: Duration = Duration::from_millis(1);
/// Steps of the database's machine after which it is looked whether it is still quick: a fraction of that.
const QUICK_STEPS: i32 = 1_000;
/// Reads that go to the reader's own thread after one that was not quick. 100: at worst one in a hundred holds up a thread
/// that serves calls.
const AWAY: u32 = 100;

/// A seat that callers may take too while its thread is not at it: two hops between threads cost several times as much as
/// a record from memory.
#[derive(Debug)]
pub(super) struct Near {
    seat: Mutex<Seat>,
    away: AtomicU32,
}

impl Near {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { seat: Mutex::new(Seat { shared, reader: None }), away: AtomicU32::new(0) }
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers here and now; `None` if the thread has to do it: it is at work, has not opened the database yet, reads have
    /// not been quick of late, or this one is not.
    pub(super) fn answer<T>(
        &self,
        look: impl FnOnce(&mut Reader) -> Result<T, StoreError>,
    ) -> Option<Result<T, StoreError>> {
        let less = |away: u32| away.checked_sub(1);
        if self.away.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return None;
        }
        let mut seat = self.seat.try_lock().ok().filter(|seat| seat.reader.is_some())?;
        let began = Instant::now();
        let quick = |reader: &mut Reader| {
            reader.quick = true;
            let answer = look(reader);
            reader.quick = false;
            answer
        };
        let answer = seat.answer(Some((QUICK_STEPS, move || began.elapsed() > QUICK)), quick);
        if began.elapsed() > QUICK {
            self.away.store(AWAY, Ordering::Relaxed);
        }
        Some(answer).filter(|answer| !matches!(answer, Err(StoreError::Deadline)))
    }
}

/// Where a thread keeps its connection.
#[derive(Debug)]
pub(super) struct Seat {
    shared: Arc<Shared>,
    reader: Option<Reader>,
}

impl Seat {
    fn answer<T>(
        &mut self,
        unwanted: Option<(i32, impl Fn() -> bool + Send + 'static)>,
        look: impl FnOnce(&mut Reader) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut reader = match self.reader.take() {
            Some(open) => open,
            None => Reader { connection: self.shared.reader()?, known: HashMap::new(), quick: false },
        };
        let found = match unwanted {
            None => look(&mut reader),
            Some((_, unwanted)) if unwanted() => Err(StoreError::Deadline),
            Some((steps, unwanted)) => {
                reader.connection.progress_handler(steps, Some(unwanted)).map_err(from_sqlite)?;
                let found = look(&mut reader);
                reader.connection.progress_handler(0, None::<fn() -> bool>).map_err(from_sqlite)?;
                found
            }
        };
        match &found {
            // The next question gets a fresh connection.
            Err(why) if poisons(why) => {
                tracing::error!(error = why as &dyn std::error::Error, "a read failed");
            }
            _ => self.reader = Some(reader),
        }
        found
    }
}

/// A connection that reads, and what it has read of late.
#[derive(Debug)]
pub(super) struct Reader {
    connection: Connection,
    known: HashMap<String, Known>,
    /// Whether it is at work on a thread that has other things to do.
    quick: bool,
}

/// The statements on a collection. They outlive it: it is gone once they fail, as no number is given twice.
#[derive(Debug)]
struct Known {
    get: String,
    scan: String,
}

impl Reader {
    pub(super) fn get(&mut self, collection: &str, id: &str) -> Result<Option<Record>, StoreError> {
        let found = self.point(collection, |connection, known| {
            let mut statement = cached(connection, &known.get)?;
            page(statement.query(params![id]).map_err(from_sqlite)?)
        })?;
        Ok(found.into_iter().next())
    }

    pub(super) fn scan(&mut self, collection: &str, after: &str, limit: usize) -> Result<Vec<Record>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.point(collection, |connection, known| {
            let mut statement = cached(connection, &known.scan)?;
            page(statement.query(params![after, limit]).map_err(from_sqlite)?)
        })
    }

    pub(super) fn names(&mut self) -> Result<Vec<String>, StoreError> {
        let mut statement = cached(&self.connection, NAMES)?;
        let names = statement.query_map([], |row| row.get(0)).map_err(from_sqlite)?;
        names.collect::<rusqlite::Result<_>>().map_err(from_sqlite)
    }

    pub(super) fn footprint(&mut self) -> Result<Footprint, StoreError> {
        layout::footprint(&self.connection)
    }

    pub(super) fn stats(&mut self, collection: &str) -> Result<Stats, StoreError> {
        let moment = self.moment()?;
        let layout = layout::of(&moment, collection)?;
        let sql = tables::fill(BYTES, layout.number);
        let bytes: i64 = cached(&moment, &sql)?.query_row([], |row| row.get(0)).map_err(from_sqlite)?;
        Ok(Stats { records: layout.records, bytes: u64::try_from(bytes).unwrap_or(0) })
    }

    pub(super) fn query(&mut self, collection: &str, query: &Query) -> Result<Page, StoreError> {
        let quick = self.quick;
        let moment = self.moment()?;
        select::query(&moment, &layout::of(&moment, collection)?, query, quick)
    }

    pub(super) fn explain(&mut self, collection: &str, query: &Query) -> Result<Plan, StoreError> {
        let moment = self.moment()?;
        select::explain(&moment, &layout::of(&moment, collection)?, query)
    }

    pub(super) fn text_stats(&mut self, collection: &str, text: &Text) -> Result<TextStats, StoreError> {
        let moment = self.moment()?;
        select::text_stats(&moment, &layout::of(&moment, collection)?, text)
    }

    /// The number that any statement comes to.
    #[cfg(test)]
    pub(super) fn run(&mut self, sql: &str) -> Result<i64, StoreError> {
        self.connection.query_row(sql, [], |row| row.get(0)).map_err(from_sqlite)
    }

    /// A transaction: all that is read in it is of one moment.
    fn moment(&mut self) -> Result<Transaction<'_>, StoreError> {
        self.connection.transaction().map_err(from_sqlite)
    }

    /// Runs one statement on the records of a collection, without looking the collection up if it is known.
    fn point<T>(
        &mut self,
        collection: &str,
        look: impl Fn(&Connection, &Known) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(known) = self.known.get(collection) {
            match look(&self.connection, known) {
                // It may have been dropped, and made again.
                Err(StoreError::Io(_)) => {}
                answer => return answer,
            }
        }
        self.known.remove(collection);
        let moment = self.moment()?;
        let number = layout::of(&moment, collection)?.number;
        let known = Known { get: tables::fill(GET, number), scan: tables::fill(SCAN, number) };
        let found = look(&moment, &known)?;
        drop(moment);
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(collection.to_owned(), known);
        Ok(found)
    }
}

fn page(mut rows: rusqlite::Rows<'_>) -> Result<Vec<Record>, StoreError> {
    let mut found = Vec::new();
    let mut held = 0;
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        let record = record(row)?;
        held += record.size();
        found.push(record);
        if held >= SCAN_BYTES {
            break;
        }
    }
    Ok(found)
}
