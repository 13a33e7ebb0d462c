//! One open database: its threads, the ways to them, and what they know about the file together.

use super::super::StoreError;
use super::fault::from_system;
use super::open::{Closing, Ended};
use super::reader::{self, Asked, Near, Reader};
use super::writer::{self, Outcome, Task, Whose};
use super::{Config, connection, schema};
use crate::domain::{Ceiling, Namespace};
use rusqlite::Connection;
use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::thread::{Builder, JoinHandle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc as queue, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::Span;

/// Reads of a kind that may be queued. More wait where they are asked, in memory of their own.
const READS: usize = 256;

/// An open database. Its threads end when it and its handles are gone and their queues are empty.
#[derive(Debug)]
pub(super) struct Database {
    handle: Handle,
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
    ended: Weak<Ended>,
}

/// The ways to the threads. Who holds it keeps the database open; so does every job.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    ways: Arc<Ways>,
    using: Arc<()>,
}

#[derive(Debug)]
struct Ways {
    // First, so that their connections are closed by their threads.
    near_point: Arc<Near>,
    near_query: Arc<Near>,
    writes: queue::Sender<writer::Job>,
    /// KiB of this namespace's writes that may still be queued.
    share: Arc<Semaphore>,
    points: queue::Sender<reader::Job>,
    queries: queue::Sender<reader::Job>,
}

/// Which readers are asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lane {
    /// One that is asked for a record, or for a page of them by id: nothing that takes long stands before them.
    Point,
    /// Those that search.
    Query,
}

impl Database {
    /// Starts the threads. The file is opened, made, checked and migrated on the first of them that needs it.
    pub(super) fn start(namespace: &Namespace, shared: Shared, ended: Arc<Ended>) -> Result<Self, StoreError> {
        let shared = Arc::new(shared);
        let (reading, readers_gone) = mpsc::channel::<Infallible>();
        let mut threads = Vec::new();
        let mut start_readers = |kind: &str, seats: Vec<Arc<Near>>| {
            let (jobs, queued) = queue::channel(READS);
            let queued = Arc::new(Mutex::new(queued));
            for (number, seat) in seats.into_iter().enumerate() {
                let (queued, tokens) = (queued.clone(), (reading.clone(), ended.clone()));
                threads.push(spawn(format!("{kind}{number} {namespace}"), move || {
                    reader::run(&seat, &queued);
                    drop(seat);
                    drop(tokens);
                })?);
            }
            Ok(jobs)
        };
        let seat = || Arc::new(Near::new(shared.clone()));
        let (near_point, near_query) = (seat(), seat());
        let points = start_readers("get", vec![near_point.clone()])?;
        let others = (1..shared.config.readers.get()).map(|_| seat());
        let queries = start_readers("query", std::iter::once(near_query.clone()).chain(others).collect())?;
        drop(reading);
        let (writes, queued) = queue::channel(shared.config.queue.get());
        let (writing, token) = (shared.clone(), ended.clone());
        threads.push(spawn(format!("write {namespace}"), move || {
            writer::run(&writing, queued, &readers_gone);
            drop(token);
        })?);
        let share = Arc::new(Semaphore::new(shared.config.share()));
        let ways = Ways { near_point, near_query, writes, share, points, queries };
        let handle = Handle { ways: Arc::new(ways), using: Arc::default() };
        Ok(Self { handle, threads, shared, ended: Arc::downgrade(&ended) })
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Whether nobody has a handle and no job is queued or under way.
    pub(super) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.handle.using) == 1
    }

    /// Takes no more work. The threads end once they have done what is queued.
    pub(super) fn close(self) -> Closing {
        Closing { threads: self.threads, shared: self.shared, ended: self.ended }
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    Builder::new().name(name).spawn(body).map_err(from_system)
}

impl Handle {
    /// Queues a task for the writer; `Busy` if the queue is full, or has all of the namespace's part of the memory for
    /// queued writes. `cost` is given back when it is done.
    pub(super) async fn write(
        &self,
        (task, whose): (Task, Whose),
        cost: OwnedSemaphorePermit,
        ceiling: Ceiling,
    ) -> Result<Outcome, StoreError> {
        let kib = u32::try_from(cost.num_permits()).unwrap_or(u32::MAX);
        let share = Arc::clone(&self.ways.share).try_acquire_many_owned(kib).map_err(|_| StoreError::Busy)?;
        let (reply, answer) = oneshot::channel();
        let (using, span) = (self.using.clone(), Span::current());
        let job = writer::Job { task, whose, cost, share, ceiling, using, span, reply };
        self.ways.writes.try_send(job).map_err(|why| match why {
            queue::error::TrySendError::Full(_) => StoreError::Busy,
            queue::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Answers a read on the caller's own thread if that is quick, else queues it once there is room. With a `deadline` it
    /// ends there, and the work soon after.
    ///
    /// * `quick`: whether it may be; the work is tried, given up when it is not, and done anew.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        lane: Lane,
        quick: bool,
        deadline: Option<Instant>,
        look: impl Fn(&mut Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(StoreError::Deadline);
        }
        let (near, jobs) = match lane {
            Lane::Point => (&self.ways.near_point, &self.ways.points),
            Lane::Query => (&self.ways.near_query, &self.ways.queries),
        };
        if quick && let Some(answer) = near.answer(&look) {
            return answer;
        }
        let (reply, answer) = oneshot::channel();
        let asked = Asked {
            slow: matches!(lane, Lane::Query),
            deadline,
            span: Span::current(),
            using: self.using.clone(),
            reply,
        };
        let answered = async {
            jobs.send(asked.job(look)).await.map_err(|_| StoreError::Closed)?;
            answer.await.unwrap_or(Err(StoreError::Closed))
        };
        match deadline {
            None => answered.await,
            Some(deadline) => timeout_at(deadline, answered).await.unwrap_or(Err(StoreError::Deadline)),
        }
    }
}

/// What the threads of a database share.
#[derive(Debug)]
pub(super) struct Shared {
    file: PathBuf,
    pub(super) config: Config,
    health: Mutex<Health>,
}

#[derive(Debug)]
enum Health {
    /// Closed with nothing amiss by this process, and not looked at since.
    Sound,
    /// Not looked at since it was opened, or since a connection was poisoned.
    Unchecked,
    /// Sound and of the newest version: fit to be read. What the log holds may not be on disk yet.
    Checked,
    /// Its log emptied as well: fit to be written.
    Ready,
    /// Not to be touched until the store is opened again.
    Refused(StoreError),
}

impl Shared {
    /// Whether its volume has less space than is kept free.
    pub(super) fn is_short(&self) -> bool {
        self.config.headroom.is_short(&self.file)
    }

    /// * `sound`: it was closed with nothing amiss by this process.
    pub(super) fn new(file: PathBuf, config: Config, sound: bool) -> Self {
        let health = if sound { Health::Sound } else { Health::Unchecked };
        Self { file, config, health: Mutex::new(health) }
    }

    /// Whether nothing is amiss, as far as is known.
    pub(super) fn is_sound(&self) -> bool {
        matches!(*self.health(), Health::Sound | Health::Checked | Health::Ready)
    }

    /// A connection for the writer, to a database that is fit to be written.
    pub(super) fn writer(&self) -> Result<Connection, StoreError> {
        let mut health = self.health();
        let connection = match self.check(&mut health)? {
            Some(checked) => checked,
            None => connection::to_write(&self.file, self.config.lock_patience)?,
        };
        if !matches!(*health, Health::Ready) {
            schema::empty_log(&connection)?;
            *health = Health::Ready;
        }
        connection::trust(&connection, true)?;
        Ok(connection)
    }

    /// A connection for a reader. Takes no space, so that a full disk can be read.
    pub(super) fn reader(&self) -> Result<Connection, StoreError> {
        let mut health = self.health();
        let checked = self.check(&mut health)?;
        let connection = connection::to_read(&self.file, self.config.lock_patience);
        // Closed after the other is open, so that the log's index stays; and never trusted, so that it writes nothing.
        drop(checked);
        connection
    }

    /// The next connection that is asked for is given out only after the database has been checked.
    pub(super) fn distrust(&self) {
        *self.health() = Health::Unchecked;
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes and checks the file if it has not been checked. Returns the connection that did.
    fn check(&self, health: &mut Health) -> Result<Option<Connection>, StoreError> {
        match health {
            Health::Checked | Health::Ready => return Ok(None),
            Health::Refused(why) => return Err(why.clone()),
            Health::Sound | Health::Unchecked => {}
        }
        self.make_file().map_err(from_system)?;
        let mut connection = connection::to_write(&self.file, self.config.lock_patience);
        let prepared = match &mut connection {
            Ok(connection) => schema::prepare(connection, matches!(health, Health::Sound)),
            Err(why) => Err(why.clone()),
        };
        if let Err(why) = prepared {
            if matches!(why, StoreError::Corrupt(_) | StoreError::Newer { .. }) {
                tracing::error!(file = %self.file.display(), error = &why as &dyn std::error::Error, "a database is refused");
                *health = Health::Refused(why.clone());
            }
            return Err(why);
        }
        *health = Health::Checked;
        connection.map(Some)
    }

    /// Makes an empty file that only this user can read, if there is none, durably. SQLite takes it for a new database.
    fn make_file(&self) -> io::Result<()> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file) {
            Ok(_) => match self.file.parent() {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            },
            // Not opened: closing any descriptor of a file takes SQLite's locks on it away.
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(why) => Err(why),
        }
    }
}
