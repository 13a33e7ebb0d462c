//! The store on SQLite: a file per namespace, a writer thread and a few reader threads per open file.
//!
//! ```text
//! write -> bounded queue -> writer: up to `batch` jobs, a savepoint each, one commit, one fsync -> answers
//! get, scan -> queue, callers wait -> readers, a read-only connection each, never behind the writer
//! ```
//! Files are `<folder>/<namespace in hex>.db`: every namespace has one spelling even where the file system folds case or
//! Unicode, and no namespace spells a path or the name of another's file. The folder belongs to the user of the node alone.
//!
//! Deliberately absent until tenants have collections: the bound on open files is a refusal ([`Config::databases`]), not
//! yet a cache, and there is no authorizer and no progress handler, as no SQL is generated and every statement is bounded.

mod connection;
mod database;
mod fault;
mod reader;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use super::record::{check_changes, check_name, check_scan};
use super::{BoxFuture, Change, Record, SCAN_MAX, Store, StoreError, Written};
use crate::domain::Namespace;
use database::{Database, Handle};
use reader::Query;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, Permissions};
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Sizes and patience of the store.
#[derive(Debug, Clone)]
pub struct Config {
    /// Writes that may wait for one database; more are `Busy`. 256: four batches.
    pub queue: NonZeroUsize,
    /// MiB of writes that may wait, all databases together; more are `Busy`. 128: four writes of the largest size.
    pub queue_mib: NonZeroUsize,
    /// Writes in one commit. 64: an fsync costs about as much as writing them, and a failed commit fails them all.
    pub batch: NonZeroUsize,
    /// Reader threads per database. 2: one that scans leaves one for point reads.
    pub readers: NonZeroUsize,
    /// Databases open at once; more are `Busy`. 64: 192 threads.
    pub databases: NonZeroUsize,
    /// How long another process may hold a database before a write is `Busy`. 5 s: longer than any backup's step.
    pub lock_patience: Duration,
    /// How long closing waits for what is queued. 10 s: the longest batch on a slow disk.
    pub close_patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let count = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            queue: count(256),
            queue_mib: count(128),
            batch: count(64),
            readers: count(2),
            databases: count(64),
            lock_patience: Duration::from_secs(5),
            close_patience: Duration::from_secs(10),
        }
    }
}

/// Records in SQLite files.
///
/// Dropping it takes no new work, commits the writes that are queued, closes the files and joins the threads. That
/// blocks, at most `close_patience`; threads that are left then are named in a warning and end on their own.
#[derive(Debug)]
pub struct SqliteStore {
    folder: PathBuf,
    config: Config,
    databases: Mutex<HashMap<Namespace, Database>>,
    /// KiB that may still be queued.
    budget: Arc<Semaphore>,
    /// Held by every thread; `gone` ends when the last of them has ended.
    alive: Option<mpsc::Sender<Infallible>>,
    gone: Mutex<mpsc::Receiver<Infallible>>,
}

impl SqliteStore {
    /// Opens the store in `folder`, made if it is missing and made private to this user. One process at a time:
    /// the lock on the data folder is the node's.
    ///
    /// * errors: `ReadOnly`, `Full`, `Io` for the folder. Databases are opened at first use, and their errors met there.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::with_config(folder, Config::default())
    }

    /// As [`SqliteStore::open`], in other sizes.
    pub fn with_config(folder: &Path, config: Config) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault::from_system)?;
        // Absolute, so that SQLite (built to take URIs) never meets "file:"; free of links, as `NOFOLLOW` wants it.
        let folder = fs::canonicalize(folder).map_err(fault::from_system)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(fault::from_system)?;
        let (alive, gone) = mpsc::channel();
        Ok(Self {
            folder,
            budget: Arc::new(Semaphore::new(config.queue_mib.get().saturating_mul(1024).min(Semaphore::MAX_PERMITS))),
            config,
            databases: Mutex::default(),
            alive: Some(alive),
            gone: Mutex::new(gone),
        })
    }

    /// The database of a namespace, opened if it is not open. Of one without a file, only if it is to be made.
    fn database(&self, namespace: &Namespace, make: bool) -> Result<Option<Handle>, StoreError> {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = databases.get(namespace) {
            return Ok(Some(open.handle()));
        }
        let file = self.folder.join(file_name(namespace));
        // One `stat`, at the first use of a namespace: cheaper than a thread to ask it on.
        if !make && !file.try_exists().map_err(fault::from_system)? {
            return Ok(None);
        }
        if databases.len() >= self.config.databases.get() {
            return Err(StoreError::Busy);
        }
        let alive = self.alive.as_ref().ok_or(StoreError::Closed)?;
        let opened = Database::start(namespace, file, &self.config, alive)?;
        let handle = opened.handle();
        databases.insert(namespace.clone(), opened);
        Ok(Some(handle))
    }

    async fn queue_write(&self, namespace: Namespace, changes: Vec<Change>) -> Result<Vec<Written>, StoreError> {
        let size = check_changes(&changes)?;
        // What a change costs beside its bytes: 1 KiB is more than enough.
        let cost = u32::try_from(size / 1024 + changes.len()).unwrap_or(u32::MAX);
        let cost = self.budget.clone().try_acquire_many_owned(cost).map_err(|_| StoreError::Busy)?;
        let database = self.database(&namespace, true)?.ok_or(StoreError::Closed)?;
        database.write(changes, cost).await
    }

    async fn queue_read(&self, namespace: Namespace, query: Query) -> Result<Vec<Record>, StoreError> {
        match self.database(&namespace, false)? {
            Some(database) => database.read(query).await,
            None => Ok(Vec::new()),
        }
    }
}

impl Store for SqliteStore {
    fn write(&self, namespace: &Namespace, changes: Vec<Change>) -> BoxFuture<'_, Result<Vec<Written>, StoreError>> {
        Box::pin(self.queue_write(namespace.clone(), changes))
    }

    fn get(
        &self,
        namespace: &Namespace,
        collection: &str,
        id: &str,
    ) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        let (namespace, collection, id) = (namespace.clone(), collection.to_owned(), id.to_owned());
        Box::pin(async move {
            check_name(&collection, &id)?;
            let found = self.queue_read(namespace, Query::Get { collection, id }).await?;
            Ok(found.into_iter().next())
        })
    }

    fn scan(
        &self,
        namespace: &Namespace,
        collection: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        // Ids are not empty, so all of them are above the empty one.
        let (collection, after) = (collection.to_owned(), after.unwrap_or_default().to_owned());
        let namespace = namespace.clone();
        Box::pin(async move {
            check_scan(&collection, &after)?;
            self.queue_read(namespace, Query::Scan { collection, after, limit: limit.min(SCAN_MAX) }).await
        })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        drop(self.alive.take());
        let databases = std::mem::take(self.databases.get_mut().unwrap_or_else(PoisonError::into_inner));
        // Their queues end with this, all before the first is waited for.
        let threads: Vec<_> = databases.into_values().flat_map(Database::close).collect();
        let gone = self.gone.get_mut().unwrap_or_else(PoisonError::into_inner);
        match gone.recv_timeout(self.config.close_patience) {
            Err(mpsc::RecvTimeoutError::Timeout) => {
                for thread in threads.iter().filter(|thread| !thread.is_finished()) {
                    tracing::warn!(thread = thread.thread().name(), "a thread of the store has not ended in time");
                }
            }
            Ok(_) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                for thread in threads {
                    if thread.join().is_err() {
                        tracing::error!("a thread of the store panicked");
                    }
                }
            }
        }
    }
}

/// The file of a namespace; see the module for why hex.
fn file_name(namespace: &Namespace) -> String {
    let mut name = String::with_capacity(namespace.as_str().len() * 2 + 3);
    for byte in namespace.as_str().bytes() {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name + ".db"
}
