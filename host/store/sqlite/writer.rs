//! The writer of one database: many writes, one commit, one fsync.
//!
//! ```text
//! closed --first job--> open --batch--> open
//!   ^                     |
//!   +------ poisoned -----+   the connection is dropped without a checkpoint; the next job opens another,
//!                             after quick_check and an emptied log
//! ```
//! A commit that failed, other than `Full` or `Busy`, is never tried again on its connection: after a failed fsync the
//! kernel may call pages clean that never reached the disk, and the second fsync would succeed.

use super::super::{Change, Expect, StoreError, Written};
use super::connection;
use super::database::Shared;
use super::fault::{from_sqlite, poisons};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use std::convert::Infallible;
use std::error::Error;
use std::sync::mpsc as plain;
use std::time::SystemTime;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::Span;

const CURRENT: &str = include_str!("../sql/current.sql");
const NEXT_REVISION: &str = include_str!("../sql/next_revision.sql");
const PUT: &str = include_str!("../sql/put.sql");
const DELETE: &str = include_str!("../sql/delete.sql");
const WAL_SIZE: &str = include_str!("../sql/wal_size.sql");
const CHECKPOINT: &str = include_str!("../sql/checkpoint.sql");

/// Pages in the log after which they are moved to the database. 1,000: SQLite's own measure, 4 MiB.
const LOG_PAGES: i64 = 1_000;

/// A write, and who waits for it.
pub(super) struct Job {
    pub(super) changes: Vec<Change>,
    /// Its share of the memory for queued writes.
    pub(super) cost: OwnedSemaphorePermit,
    pub(super) span: Span,
    pub(super) reply: oneshot::Sender<Answer>,
}

type Answer = Result<Vec<Written>, StoreError>;

/// Writes until the queue is closed and empty, then closes the database, last of its threads: the last connection moves
/// the log into the database, which readers cannot.
pub(super) fn run(shared: &Shared, mut queue: mpsc::Receiver<Job>, readers_gone: &plain::Receiver<Infallible>) {
    let mut writer = Writer { shared, connection: None };
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < shared.config.batch.get() {
            match queue.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        writer.serve(batch);
    }
    let _ = readers_gone.recv_timeout(shared.config.close_patience);
}

struct Writer<'a> {
    shared: &'a Shared,
    connection: Option<Connection>,
}

/// Why a whole batch failed.
struct Failed {
    why: StoreError,
    /// Whether the connection has to go.
    poisoned: bool,
}

impl Failed {
    fn new(why: StoreError) -> Self {
        Self { poisoned: poisons(&why), why }
    }
}

impl Writer<'_> {
    fn serve(&mut self, batch: Vec<Job>) {
        match self.commit(&batch) {
            Ok(answers) => batch.into_iter().zip(answers).for_each(|(job, answer)| job.answer(answer)),
            Err(why) => batch.into_iter().for_each(|job| job.answer(Err(why.clone()))),
        }
        if let Some(connection) = self.connection.take() {
            match tidy(&connection) {
                Ok(()) => self.connection = Some(connection),
                Err(why) => self.poison(connection, &why),
            }
        }
    }

    /// One commit for the whole batch. An error is one of all; those of single jobs are in the answers.
    fn commit(&mut self, batch: &[Job]) -> Result<Vec<Answer>, StoreError> {
        let mut connection = match self.connection.take() {
            Some(open) => open,
            None => self.shared.writer()?,
        };
        match transact(&mut connection, batch) {
            Ok(answers) => {
                self.connection = Some(connection);
                Ok(answers)
            }
            Err(Failed { why, poisoned }) => {
                match poisoned {
                    true => self.poison(connection, &why),
                    false => self.connection = Some(connection),
                }
                Err(why)
            }
        }
    }

    fn poison(&self, connection: Connection, why: &StoreError) {
        tracing::error!(
            error = why as &dyn Error,
            "a commit failed: the database is closed, and checked before it is used again"
        );
        let _ = connection::trust(&connection, false);
        self.shared.distrust();
    }
}

impl Job {
    /// Whoever asked may have left.
    fn answer(self, answer: Answer) {
        drop(self.cost);
        let _ = self.reply.send(answer);
    }
}

fn transact(connection: &mut Connection, batch: &[Job]) -> Result<Vec<Answer>, Failed> {
    let begin = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let mut transaction = begin.map_err(from_sqlite).map_err(Failed::new)?;
    let now = now();
    let mut answers = Vec::with_capacity(batch.len());
    for job in batch {
        let answer = job.span.in_scope(|| apply(&mut transaction, &job.changes, now));
        if let Err(why) = &answer {
            // SQLite ends the transaction itself over some errors, and with it the jobs that came before.
            if poisons(why) || transaction.is_autocommit() {
                return Err(Failed::new(why.clone()));
            }
        }
        answers.push(answer);
    }
    transaction.commit().map_err(from_sqlite).map_err(|why| match why {
        // No fsync has failed (that is `Io`, even for want of space): rolled back, and whoever frees space needs no check.
        StoreError::Busy | StoreError::Full => Failed { why, poisoned: false },
        why => Failed { why, poisoned: true },
    })?;
    Ok(answers)
}

/// One job, in its savepoint: all of it, or nothing and the others go on.
fn apply(transaction: &mut Transaction<'_>, changes: &[Change], now: i64) -> Answer {
    let savepoint = transaction.savepoint().map_err(from_sqlite)?;
    match changes.iter().map(|change| make(&savepoint, change, now)).collect() {
        Ok(written) => {
            savepoint.commit().map_err(from_sqlite)?;
            Ok(written)
        }
        Err(why) => {
            // It fails where SQLite has rolled back already; the caller looks.
            let undone = savepoint.finish();
            match undone {
                Err(undo) if !transaction.is_autocommit() => Err(StoreError::io(undo)),
                _ => Err(why),
            }
        }
    }
}

fn make(connection: &Connection, change: &Change, now: i64) -> Result<Written, StoreError> {
    let (Change::Put { collection, id, expect, .. } | Change::Delete { collection, id, expect }) = change;
    let found = cached(connection, CURRENT)?
        .query_row(params![collection, id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        .optional()
        .map_err(from_sqlite)?;
    let fits = match expect {
        Expect::Any => true,
        Expect::Absent => found.is_none(),
        Expect::Revision(wanted) => found.is_some_and(|(revision, _)| u64::try_from(revision) == Ok(*wanted)),
    };
    if !fits {
        return Err(StoreError::Conflict { collection: collection.clone(), id: id.clone() });
    }
    match change {
        Change::Put { type_url, bytes, .. } => {
            let revision: i64 =
                cached(connection, NEXT_REVISION)?.query_row([], |row| row.get(0)).map_err(from_sqlite)?;
            let created_at = found.map_or(now, |(_, created_at)| created_at);
            let updated_at = now.max(created_at);
            cached(connection, PUT)?
                .execute(params![collection, id, type_url, bytes.as_ref(), created_at, updated_at, revision])
                .map_err(from_sqlite)?;
            let revision = u64::try_from(revision).map_err(StoreError::corrupt)?;
            Ok(Written::Put { revision, created_at, updated_at })
        }
        Change::Delete { .. } => {
            let deleted = cached(connection, DELETE)?.execute(params![collection, id]).map_err(from_sqlite)?;
            Ok(if deleted == 0 { Written::Absent } else { Written::Deleted })
        }
    }
}

fn cached<'a>(connection: &'a Connection, sql: &str) -> Result<CachedStatement<'a>, StoreError> {
    connection.prepare_cached(sql).map_err(from_sqlite)
}

/// Moves a log that has grown into the database, after the answers: a checkpoint has fsyncs of its own.
fn tidy(connection: &Connection) -> Result<(), StoreError> {
    let pages: i64 = cached(connection, WAL_SIZE)?.query_row([], |row| row.get(1)).map_err(from_sqlite)?;
    if pages < LOG_PAGES {
        return Ok(());
    }
    match cached(connection, CHECKPOINT)?.query_row([], |_| Ok(())).map_err(from_sqlite) {
        // No space to grow the database: the log keeps what it has, and is tried again after the next batch.
        Ok(()) | Err(StoreError::Busy | StoreError::Full | StoreError::ReadOnly) => Ok(()),
        Err(why) => Err(why),
    }
}

/// Microseconds since 1970 by the wall clock. A clock before 1970 is 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;
    use bytes::Bytes;
    use std::sync::Arc;
    use std::time::Duration;

    /// What is looked at in COMMIT only: a record named "boom" breaks it.
    const RULE: &str = "CREATE TABLE parent (id TEXT PRIMARY KEY);
        CREATE TABLE child (id TEXT REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER boom AFTER INSERT ON record WHEN new.id = 'boom' BEGIN INSERT INTO child VALUES ('x'); END;";

    fn database() -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().canonicalize().unwrap().join("a.db");
        std::fs::File::create(&file).unwrap();
        let mut connection = connection::to_write(&file, Duration::ZERO).unwrap();
        schema::prepare(&mut connection).unwrap();
        connection.execute_batch(RULE).unwrap();
        (folder, connection)
    }

    fn batch(ids: &[&str]) -> Vec<Job> {
        let budget = Arc::new(tokio::sync::Semaphore::new(ids.len()));
        let job = |id: &&str| {
            let (collection, id, type_url) = ("c".to_owned(), (*id).to_owned(), String::new());
            let change = Change::Put { collection, id, type_url, bytes: Bytes::new(), expect: Expect::Absent };
            let cost = budget.clone().try_acquire_owned().unwrap();
            Job { changes: vec![change], cost, span: Span::none(), reply: oneshot::channel().0 }
        };
        ids.iter().map(job).collect()
    }

    fn ids(connection: &Connection) -> Vec<String> {
        let mut statement = connection.prepare("SELECT id FROM record ORDER BY id").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_job_that_fails_leaves_its_batch() {
        let (_folder, mut connection) = database();
        let answers = transact(&mut connection, &batch(&["a", "a", "b"])).map_err(|failed| failed.why).unwrap();
        assert!(matches!(answers[..], [Ok(_), Err(StoreError::Conflict { .. }), Ok(_)]), "{answers:?}");
        assert_eq!(ids(&connection), ["a", "b"]);
    }

    #[test]
    fn a_commit_that_fails_takes_its_batch_with_it() {
        let (_folder, mut connection) = database();
        let failed = transact(&mut connection, &batch(&["a", "boom", "b"])).err().unwrap();
        assert!(failed.poisoned && matches!(failed.why, StoreError::Io(_)));
        assert!(ids(&connection).is_empty());
    }

    #[test]
    fn a_transaction_that_sqlite_ends_takes_its_batch_with_it() {
        let (_folder, mut connection) = database();
        let end =
            "CREATE TRIGGER gone BEFORE INSERT ON record WHEN new.id = 'gone' BEGIN SELECT RAISE(ROLLBACK, ''); END";
        connection.execute_batch(end).unwrap();
        assert!(transact(&mut connection, &batch(&["a", "gone", "b"])).is_err());
        assert!(ids(&connection).is_empty());
    }
}
