//! The writer of one database: many writes, one commit, one fsync.
//!
//! ```text
//! closed --first job--> open --batch--> open
//!   ^                     |
//!   +------ poisoned -----+   the connection is dropped without a checkpoint; the next job opens another,
//!                             after quick_check and an emptied log
//! ```
//! What is refused is refused before it changes anything; whatever else fails in a transaction fails all of it.
//! A commit that failed, other than `Full` or `Busy`, is never tried again on its connection: after a failed fsync the
//! kernel may call pages clean that never reached the disk, and the second fsync would succeed.

use super::super::{Change, Done, Shape, StoreError, Write};
use super::database::Shared;
use super::fault::{cached, from_sqlite, poisons};
use super::ledger::Ledger;
use super::{apply, connection, manage};
use crate::domain::{Ceiling, Namespace};
use rusqlite::{Connection, TransactionBehavior};
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc as plain;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::Span;

const WAL_SIZE: &str = include_str!("../sql/wal_size.sql");
const CHECKPOINT: &str = include_str!("../sql/checkpoint.sql");
const CHECKPOINT_ANEW: &str = include_str!("../sql/checkpoint_anew.sql");

/// Pages in the log after which they are moved to the database. 4,000, 16 MiB: moving takes two fsyncs and writes a page
/// once that was changed many times. Four times SQLite's own measure, as text search changes many pages.
const LOG_PAGES: i64 = 4_000;

/// Pages in the log after which readers are made to let go of it. 16,000, 64 MiB: readers that take turns would else keep
/// it growing for as long as they do.
const LOG_PAGES_MAX: i64 = 4 * LOG_PAGES;
/// How long the writer waits for those that read from the log. 100 ms: most are done by then, the others next time.
const LOG_PATIENCE: Duration = Duration::from_millis(100);

/// What is to be done.
#[derive(Debug)]
pub(super) enum Task {
    /// Records are to be changed.
    Write(Write),
    /// A collection is to be made.
    Make(String, Shape),
    /// Its indexes are to be made and dropped.
    Reshape(String, Shape),
    /// It is to be dropped.
    Drop(String),
}

/// What was done.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Records were changed.
    Written(Done),
    /// A collection was made, reshaped or dropped; `false`: there was none to drop.
    Managed(bool),
}

/// Who wants something done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The node itself: what it could not write it could not take back either.
    Node,
    /// Somebody who keeps something on it.
    Tenant,
}

impl Whose {
    pub(super) fn of(namespace: &Namespace) -> Self {
        if namespace.is_system() { Self::Node } else { Self::Tenant }
    }
}

/// A task, and who waits for it.
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) whose: Whose,
    /// Its share of the memory for queued writes.
    pub(super) cost: OwnedSemaphorePermit,
    /// The same of its namespace's part.
    pub(super) share: OwnedSemaphorePermit,
    /// How much its namespace may keep.
    pub(super) ceiling: Ceiling,
    /// That its database stays open.
    pub(super) using: Arc<()>,
    pub(super) span: Span,
    pub(super) reply: oneshot::Sender<Answer>,
}

type Answer = Result<Outcome, StoreError>;

/// Writes until the queue is closed and empty, then closes the database, last of its threads: the last connection moves
/// the log into the database, which readers cannot.
pub(super) fn run(shared: &Shared, mut queue: mpsc::Receiver<Job>, readers_gone: &plain::Receiver<Infallible>) {
    let mut writer = Writer { shared, open: None };
    let mut next = None;
    while let Some(first) = next.take().or_else(|| queue.blocking_recv()) {
        let mut batch = vec![first];
        // What concerns a whole collection may take long or fail half-way: it has a commit of its own.
        while batch.len() < shared.config.batch.get() && batch.iter().all(Job::is_write) {
            match queue.try_recv() {
                Ok(job) if job.is_write() => batch.push(job),
                Ok(job) => {
                    next = Some(job);
                    break;
                }
                Err(_) => break,
            }
        }
        writer.serve(batch);
    }
    let _ = readers_gone.recv_timeout(shared.config.close_patience);
}

struct Writer<'a> {
    shared: &'a Shared,
    open: Option<Open>,
}

/// The connection, and what is known of the database.
struct Open {
    connection: Connection,
    /// `None`: to be read again.
    ledger: Option<Ledger>,
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
        if let Some(open) = self.open.take() {
            // With little space left the log does not grow beside the database.
            let pages = if self.shared.is_short() { 1 } else { LOG_PAGES_MAX };
            match tidy(&open.connection, pages, self.shared.config.lock_patience) {
                Ok(()) => self.open = Some(open),
                Err(why) => self.poison(&open.connection, &why),
            }
        }
    }

    /// One commit for the whole batch. An error is one of all; those of single jobs are in the answers.
    fn commit(&mut self, batch: &[Job]) -> Result<Vec<Answer>, StoreError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open { connection: self.shared.writer()?, ledger: None },
        };
        match transact(&mut open, batch, self.shared.is_short()) {
            Ok(answers) => {
                self.open = Some(open);
                Ok(answers)
            }
            Err(Failed { why, poisoned }) => {
                match poisoned {
                    true => self.poison(&open.connection, &why),
                    false => self.open = Some(open),
                }
                Err(why)
            }
        }
    }

    /// The connection is not to be used again.
    fn poison(&self, connection: &Connection, why: &StoreError) {
        tracing::error!(
            error = why as &dyn Error,
            "a commit failed: the database is closed, and checked before it is used again"
        );
        let _ = connection::trust(connection, false);
        self.shared.distrust();
    }
}

impl Job {
    fn is_write(&self) -> bool {
        matches!(self.task, Task::Write(_))
    }

    /// Whether it takes space that only the node itself may take where there is little.
    fn grows(&self) -> bool {
        let grows = match &self.task {
            Task::Write(write) => !write.changes.iter().all(|change| matches!(change, Change::Delete { .. })),
            Task::Make(..) | Task::Reshape(..) => true,
            Task::Drop(_) => false,
        };
        grows && self.whose == Whose::Tenant
    }

    /// Whoever asked may have left.
    fn answer(self, answer: Answer) {
        drop((self.cost, self.share, self.using));
        let _ = self.reply.send(answer);
    }
}

/// * `short`: only what takes no space is done.
fn transact(open: &mut Open, batch: &[Job], short: bool) -> Result<Vec<Answer>, Failed> {
    let Open { connection, ledger: slot } = open;
    let begin = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let transaction = begin.map_err(from_sqlite).map_err(Failed::new)?;
    // Taken: a transaction that fails does not give it back.
    let mut ledger = match slot.take() {
        Some(ledger) => ledger,
        None => Ledger::open(&transaction).map_err(Failed::new)?,
    };
    let mut answers = Vec::with_capacity(batch.len());
    for job in batch {
        if short && job.grows() {
            answers.push(Err(StoreError::Full));
            continue;
        }
        let answer = job.span.in_scope(|| carry_out(&transaction, &mut ledger, job));
        match answer {
            Err(why) if !is_refusal(&why) => return Err(Failed::new(why)),
            answer => answers.push(answer),
        }
    }
    ledger.save(&transaction).map_err(Failed::new)?;
    transaction.commit().map_err(from_sqlite).map_err(|why| match why {
        // No fsync has failed (that is `Io`, even for want of space): rolled back, and whoever frees space needs no check.
        StoreError::Busy | StoreError::Full => Failed { why, poisoned: false },
        why => Failed { why, poisoned: true },
    })?;
    *slot = Some(ledger);
    Ok(answers)
}

fn carry_out(connection: &Connection, ledger: &mut Ledger, job: &Job) -> Answer {
    match &job.task {
        Task::Write(write) => apply::write(connection, ledger, write, job.ceiling).map(Outcome::Written),
        Task::Make(name, shape) => manage::make(connection, ledger, name, shape).map(|()| Outcome::Managed(true)),
        Task::Reshape(name, shape) => manage::reshape(connection, ledger, name, shape).map(|()| Outcome::Managed(true)),
        Task::Drop(name) => manage::drop(connection, ledger, name).map(Outcome::Managed),
    }
}

/// Whether it is the job that was refused, before it changed anything. All else takes the whole batch with it.
fn is_refusal(why: &StoreError) -> bool {
    match why {
        StoreError::Refused { .. }
        | StoreError::Reused
        | StoreError::NoCollection
        | StoreError::CollectionExists
        | StoreError::Over(_) => true,
        StoreError::Busy
        | StoreError::Deadline
        | StoreError::Invalid(_)
        | StoreError::Full
        | StoreError::ReadOnly
        | StoreError::Corrupt(_)
        | StoreError::Newer { .. }
        | StoreError::Io(_)
        | StoreError::Closed => false,
    }
}

/// Moves a log that has grown into the database, after the answers: a checkpoint has fsyncs of its own.
///
/// * `most`: pages after which readers are made to let go of it.
/// * `patience`: with those who hold the database, otherwise.
fn tidy(connection: &Connection, most: i64, patience: Duration) -> Result<(), StoreError> {
    let pages: i64 = cached(connection, WAL_SIZE)?.query_row([], |row| row.get(1)).map_err(from_sqlite)?;
    if pages < LOG_PAGES.min(most) {
        return Ok(());
    }
    let moved = if pages < most {
        cached(connection, CHECKPOINT)?.query_row([], |_| Ok(())).map_err(from_sqlite)
    } else {
        begin_log_anew(connection, patience)
    };
    match moved {
        // No space to grow the database: the log keeps what it has, and is tried again after the next batch.
        Ok(()) | Err(StoreError::Busy | StoreError::Full | StoreError::ReadOnly) => Ok(()),
        Err(why) => Err(why),
    }
}

/// Moves the whole log into the database and lets it begin anew, once nobody reads from it.
fn begin_log_anew(connection: &Connection, patience: Duration) -> Result<(), StoreError> {
    connection.busy_timeout(LOG_PATIENCE).map_err(from_sqlite)?;
    let moved = cached(connection, CHECKPOINT_ANEW)?.query_row([], |_| Ok(())).map_err(from_sqlite);
    connection.busy_timeout(patience).map_err(from_sqlite)?;
    moved
}

#[cfg(test)]
mod tests {
    use super::super::super::Expect;
    use super::super::schema;
    use super::super::tests::BOOM;
    use super::*;
    use bytes::Bytes;

    fn database() -> (tempfile::TempDir, Open) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().canonicalize().unwrap().join("a.db");
        std::fs::File::create(&file).unwrap();
        let mut connection = connection::to_write(&file, Duration::ZERO).unwrap();
        schema::prepare(&mut connection, false).unwrap();
        let mut open = Open { connection, ledger: None };
        transact(&mut open, &[job(Task::Make("c".to_owned(), Shape::default()))], false)
            .map_err(|failed| failed.why)
            .unwrap();
        open.connection.execute_batch(BOOM).unwrap();
        (folder, open)
    }

    fn job(task: Task) -> Job {
        let room = Arc::new(tokio::sync::Semaphore::new(2));
        let permit = || Arc::clone(&room).try_acquire_owned().unwrap();
        let (cost, share, ceiling) = (permit(), permit(), Ceiling::default());
        Job {
            task,
            whose: Whose::Tenant,
            cost,
            share,
            ceiling,
            using: Arc::new(()),
            span: Span::none(),
            reply: oneshot::channel().0,
        }
    }

    fn batch(ids: &[&str]) -> Vec<Job> {
        let task = |id: &&str| {
            let change = Change::Put {
                collection: "c".to_owned(),
                id: (*id).to_owned(),
                type_url: String::new(),
                bytes: Bytes::new(),
                labels: None,
                indexed: None,
                expect: Expect::Absent,
            };
            job(Task::Write(Write::together(vec![change])))
        };
        ids.iter().map(task).collect()
    }

    fn ids(open: &Open) -> Vec<String> {
        let mut statement = open.connection.prepare("SELECT id FROM r1 ORDER BY id").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_job_that_fails_leaves_its_batch() {
        let (_folder, mut open) = database();
        let answers = transact(&mut open, &batch(&["a", "a", "b"]), false).map_err(|failed| failed.why).unwrap();
        assert!(matches!(answers[..], [Ok(_), Err(StoreError::Refused { .. }), Ok(_)]), "{answers:?}");
        assert_eq!(ids(&open), ["a", "b"]);
    }

    #[test]
    fn with_little_space_only_what_takes_none_is_done() {
        let (_folder, mut open) = database();
        let mut work = |batch: &[Job]| transact(&mut open, batch, true).map_err(|failed| failed.why).unwrap();
        let own = Job { whose: Whose::Node, ..batch(&["a"]).remove(0) };
        let change = Change::Delete { collection: "c".to_owned(), id: "a".to_owned(), expect: Expect::Any };
        let jobs = [
            batch(&["b"]).remove(0),
            own,
            job(Task::Write(Write::together(vec![change]))),
            job(Task::Make("d".to_owned(), Shape::default())),
            job(Task::Drop("c".to_owned())),
        ];
        let answers = work(&jobs);
        let full = |answer: &Answer| matches!(answer, Err(StoreError::Full));
        assert_eq!(answers.iter().map(full).collect::<Vec<_>>(), [true, false, false, true, false], "{answers:?}");
    }

    #[test]
    fn a_commit_that_fails_takes_its_batch_with_it() {
        let (_folder, mut open) = database();
        let failed = transact(&mut open, &batch(&["a", "boom", "b"]), false).err().unwrap();
        assert!(failed.poisoned && matches!(failed.why, StoreError::Io(_)));
        assert!(ids(&open).is_empty());
    }

    #[test]
    fn a_transaction_that_sqlite_ends_takes_its_batch_with_it() {
        let (_folder, mut open) = database();
        let end = "CREATE TRIGGER gone BEFORE INSERT ON r1 WHEN new.id = 'gone' BEGIN SELECT RAISE(ROLLBACK, ''); END";
        open.connection.execute_batch(end).unwrap();
        assert!(transact(&mut open, &batch(&["a", "gone", "b"]), false).is_err());
        assert!(ids(&open).is_empty());
    }
}
