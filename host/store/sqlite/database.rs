//! One open database: its threads, the ways to them, and what they know about the file together.

use super::super::{Change, Record, StoreError, Written};
use super::fault::from_system;
use super::reader::{self, Query};
use super::{Config, connection, schema, writer};
use crate::domain::Namespace;
use rusqlite::Connection;
use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{Builder, JoinHandle};
use tokio::sync::{OwnedSemaphorePermit, mpsc as queue, oneshot};
use tracing::Span;

/// Reads that may be queued. More wait where they are asked, in memory of their own.
const READS: usize = 256;

/// An open database. Its threads end when it and its handles are gone and their queues are empty.
#[derive(Debug)]
pub(super) struct Database {
    handle: Handle,
    threads: Vec<JoinHandle<()>>,
}

/// The ways to the threads.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    writes: queue::Sender<writer::Job>,
    reads: queue::Sender<reader::Job>,
}

impl Database {
    /// Starts the threads. The file is opened, made, checked and migrated on the first of them that needs it.
    pub(super) fn start(
        namespace: &Namespace,
        file: PathBuf,
        config: &Config,
        alive: &mpsc::Sender<Infallible>,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared { file, config: config.clone(), health: Mutex::new(Health::Unchecked) });
        let (writes, queued_writes) = queue::channel(config.queue.get());
        let (reads, queued_reads) = queue::channel(READS);
        let queued_reads = Arc::new(Mutex::new(queued_reads));
        let (reading, readers_gone) = mpsc::channel::<Infallible>();
        let mut threads = Vec::new();
        for number in 0..config.readers.get() {
            let (shared, jobs, tokens) = (shared.clone(), queued_reads.clone(), (alive.clone(), reading.clone()));
            threads.push(spawn(format!("read{number} {namespace}"), move || {
                reader::run(&shared, &jobs);
                drop(tokens);
            })?);
        }
        drop(reading);
        let alive = alive.clone();
        threads.push(spawn(format!("write {namespace}"), move || {
            writer::run(&shared, queued_writes, &readers_gone);
            drop(alive);
        })?);
        Ok(Self { handle: Handle { writes, reads }, threads })
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Takes no more work. Returns the threads, which end once they have done what is queued.
    pub(super) fn close(self) -> Vec<JoinHandle<()>> {
        self.threads
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    Builder::new().name(name).spawn(body).map_err(from_system)
}

impl Handle {
    /// Queues a write; `Busy` if the queue is full. `cost` is given back when the write is done.
    pub(super) async fn write(
        &self,
        changes: Vec<Change>,
        cost: OwnedSemaphorePermit,
    ) -> Result<Vec<Written>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = writer::Job { changes, cost, span: Span::current(), reply };
        self.writes.try_send(job).map_err(|why| match why {
            queue::error::TrySendError::Full(_) => StoreError::Busy,
            queue::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Queues a read once there is room.
    pub(super) async fn read(&self, query: Query) -> Result<Vec<Record>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = reader::Job { query, span: Span::current(), reply };
        self.reads.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// What the threads of a database share.
pub(super) struct Shared {
    file: PathBuf,
    pub(super) config: Config,
    health: Mutex<Health>,
}

enum Health {
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
            Health::Unchecked => {}
        }
        self.make_file().map_err(from_system)?;
        let mut connection = connection::to_write(&self.file, self.config.lock_patience);
        let prepared = match &mut connection {
            Ok(connection) => schema::prepare(connection),
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
