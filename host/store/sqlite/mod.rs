//! The store on SQLite: a file per namespace, a writer thread and a few reader threads per open file.
//!
//! ```text
//! write -> bounded queue -> writer: up to `batch` jobs, one commit, one fsync -> answers
//! get, scan -> queue, callers wait -> a reader of their own, never behind the writer or a search
//! query    -> queue, callers wait -> readers, stopped at the deadline or when the caller leaves
//! ```
//! Files are `<folder>/<namespace in hex>.db`: every namespace has one spelling even where the file system folds case or
//! Unicode, and no namespace spells a path or the name of another's file. The folder belongs to the user of the node alone.
//!
//! A collection is a few tables, and what all collections share are three more: sql/v2.sql, sql/collection.sql.

mod apply;
mod connection;
mod database;
mod fault;
mod functions;
mod layout;
mod ledger;
mod manage;
mod migrate;
mod norm;
mod once;
mod open;
mod rank;
mod reader;
mod row;
mod schema;
mod select;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use super::record::{check_collection, check_name, check_scan};
use super::{
    BoxFuture, CHANGES_MAX, Change, Done, Footprint, Headroom, Page, Plan, Query, Record, Refusal, SCAN_MAX, Shape,
    Stats, Store, StoreError, Text, TextStats, WRITE_MAX, Write,
};
use crate::domain::{Accounts, Ceiling, Namespace, Unlimited};
use database::Lane;
use open::Databases;
use reader::Reader;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, Permissions};
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use writer::{Outcome, Task, Whose};

/// Sizes and patience of the store.
#[derive(Debug, Clone)]
pub struct Config {
    /// Writes that may wait for one database; more are `Busy`. 256: four batches.
    pub queue: NonZeroUsize,
    /// MiB of writes that may wait, all databases together; more are `Busy`. 128: four writes of the largest size.
    pub queue_mib: NonZeroUsize,
    /// Says how much each namespace may keep.
    pub accounts: Arc<dyn Accounts>,
    /// Space that all but the node's own writes leave free.
    pub headroom: Headroom,
    /// Writes in one commit. 64: an fsync costs about as much as writing them, and a failed commit fails them all.
    pub batch: NonZeroUsize,
    /// Threads that search, per database. 2: one that takes long leaves one for the others. Reads by id have one of
    /// their own beside these.
    pub readers: NonZeroUsize,
    /// Databases open at once. One more closes the one that was not used for longest; if all are in use it is `Busy`.
    /// 64: 256 threads.
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
            accounts: Arc::new(Unlimited),
            headroom: Headroom::default(),
            batch: count(64),
            readers: count(2),
            databases: count(64),
            lock_patience: Duration::from_secs(5),
            close_patience: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// KiB of the memory for queued writes that one namespace may have: half, so that none has it all, but always
    /// enough for one write of the largest size.
    fn share(&self) -> usize {
        let all = self.queue_mib.get().saturating_mul(1024).min(Semaphore::MAX_PERMITS);
        (all / 2).max(WRITE_MAX / 1024 + CHANGES_MAX).min(all)
    }
}

/// Records in SQLite files.
///
/// Dropping it takes no new work, commits the writes that are queued, closes the files and joins the threads. That
/// blocks, at most `close_patience`; threads that are left then are named in a warning and end on their own.
#[derive(Debug)]
pub struct SqliteStore {
    /// `None` only while it is dropped.
    databases: Option<Databases>,
    /// KiB that may still be queued.
    budget: Arc<Semaphore>,
    accounts: Arc<dyn Accounts>,
    close_patience: Duration,
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
            budget: Arc::new(Semaphore::new(config.queue_mib.get().saturating_mul(1024).min(Semaphore::MAX_PERMITS))),
            accounts: Arc::clone(&config.accounts),
            close_patience: config.close_patience,
            databases: Some(Databases::new(folder, config, alive)),
            gone: Mutex::new(gone),
        })
    }

    fn databases(&self) -> Result<&Databases, StoreError> {
        self.databases.as_ref().ok_or(StoreError::Closed)
    }

    /// Room for a write in the memory for those that are queued.
    fn afford(&self, bytes: usize, changes: usize) -> Result<OwnedSemaphorePermit, StoreError> {
        // What a change costs beside its bytes: 1 KiB is more than enough.
        let cost = u32::try_from(bytes / 1024 + changes).unwrap_or(u32::MAX);
        self.budget.clone().try_acquire_many_owned(cost).map_err(|_| StoreError::Busy)
    }

    async fn queue_write(&self, namespace: Namespace, write: Write) -> Result<Done, StoreError> {
        let size = write.check()?;
        let cost = self.afford(size, write.changes.len())?;
        // Without a database there is no collection, and a write makes neither.
        let Some(database) = self.databases()?.of(&namespace, false).await? else { return nowhere(&write) };
        let whose = Whose::of(&namespace);
        let ceiling = match whose {
            Whose::Node => Ceiling::default(), // the node's own records have their bounds elsewhere
            Whose::Tenant => self.accounts.room(&namespace),
        };
        match database.write((Task::Write(write), whose), cost, ceiling).await? {
            Outcome::Written(done) => Ok(done),
            Outcome::Managed(_) => Err(StoreError::Closed),
        }
    }

    /// * returns: `None` where there is no database and none was to be made.
    async fn manage(&self, namespace: Namespace, task: Task, make: bool) -> Result<Option<bool>, StoreError> {
        let cost = self.afford(0, 1)?;
        let Some(database) = self.databases()?.of(&namespace, make).await? else { return Ok(None) };
        match database.write((task, Whose::of(&namespace)), cost, Ceiling::default()).await? {
            Outcome::Managed(was_there) => Ok(Some(was_there)),
            Outcome::Written(_) => Err(StoreError::Closed),
        }
    }

    /// * errors: `NoCollection` where there is no database.
    async fn read<T: Send + 'static>(
        &self,
        namespace: Namespace,
        lane: Lane,
        quick: bool,
        deadline: Option<Instant>,
        look: impl Fn(&mut Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = self.databases()?.of(&namespace, false).await?.ok_or(StoreError::NoCollection)?;
        database.read(lane, quick, deadline, look).await
    }
}

/// What becomes of a write where there is no database.
fn nowhere(write: &Write) -> Result<Done, StoreError> {
    match write.changes.first().map(Change::name) {
        Some((collection, id)) if !write.apart => Err(StoreError::Refused {
            index: 0,
            collection: collection.to_owned(),
            id: id.to_owned(),
            why: Refusal::NoCollection,
        }),
        _ => Ok(Done { outcomes: vec![Err(Refusal::NoCollection); write.changes.len()], replayed: false }),
    }
}

impl Store for SqliteStore {
    fn make(&self, namespace: &Namespace, collection: &str, shape: Shape) -> BoxFuture<'_, Result<(), StoreError>> {
        let (namespace, collection) = (namespace.clone(), collection.to_owned());
        Box::pin(async move {
            check_collection(&collection)?;
            shape.check()?;
            self.manage(namespace, Task::Make(collection, shape), true).await.map(drop)
        })
    }

    fn reshape(&self, namespace: &Namespace, collection: &str, shape: Shape) -> BoxFuture<'_, Result<(), StoreError>> {
        let (namespace, collection) = (namespace.clone(), collection.to_owned());
        Box::pin(async move {
            check_collection(&collection)?;
            shape.check()?;
            let done = self.manage(namespace, Task::Reshape(collection, shape), false).await?;
            done.map(drop).ok_or(StoreError::NoCollection)
        })
    }

    fn drop_collection(&self, namespace: &Namespace, collection: &str) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (namespace, collection) = (namespace.clone(), collection.to_owned());
        Box::pin(async move {
            check_collection(&collection)?;
            Ok(self.manage(namespace, Task::Drop(collection), false).await?.unwrap_or(false))
        })
    }

    fn collections(&self, namespace: &Namespace) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        let namespace = namespace.clone();
        Box::pin(async move {
            match self.read(namespace, Lane::Point, false, None, Reader::names).await {
                Err(StoreError::NoCollection) => Ok(Vec::new()),
                answer => answer,
            }
        })
    }

    fn write(&self, namespace: &Namespace, write: Write) -> BoxFuture<'_, Result<Done, StoreError>> {
        Box::pin(self.queue_write(namespace.clone(), write))
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
            self.read(namespace, Lane::Point, true, None, move |reader| reader.get(&collection, &id)).await
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
        let (namespace, limit) = (namespace.clone(), limit.min(SCAN_MAX));
        Box::pin(async move {
            check_scan(&collection, &after)?;
            self.read(namespace, Lane::Point, false, None, move |reader| reader.scan(&collection, &after, limit)).await
        })
    }

    fn query(
        &self,
        namespace: &Namespace,
        collection: &str,
        query: Query,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Page, StoreError>> {
        let (namespace, collection) = (namespace.clone(), collection.to_owned());
        Box::pin(async move {
            check_collection(&collection)?;
            let look = move |reader: &mut Reader| reader.query(&collection, &query);
            self.read(namespace, Lane::Query, true, Some(deadline), look).await
        })
    }

    fn explain(
        &self,
        namespace: &Namespace,
        collection: &str,
        query: Query,
    ) -> BoxFuture<'_, Result<Plan, StoreError>> {
        let (namespace, collection) = (namespace.clone(), collection.to_owned());
        Box::pin(async move {
            check_collection(&collection)?;
            self.read(namespace, Lane::Query, false, None, move |reader| reader.explain(&collection, &query)).await
        })
    }

    fn text_stats(
        &self,
        namespace: &Namespace,
        collection: &str,
        text: Text,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<TextStats, StoreError>> {
        let (namespace, collection) = (namespace.clone(), collection.to_owned());
        Box::pin(async move {
            check_collection(&collection)?;
            self.read(namespace, Lane::Query, false, Some(deadline), move |reader| {
                reader.text_stats(&collection, &text)
            })
            .await
        })
    }

    fn stats(&self, namespace: &Namespace, collection: &str) -> BoxFuture<'_, Result<Stats, StoreError>> {
        let (namespace, collection) = (namespace.clone(), collection.to_owned());
        Box::pin(async move {
            check_collection(&collection)?;
            self.read(namespace, Lane::Query, false, None, move |reader| reader.stats(&collection)).await
        })
    }

    fn footprint(&self, namespace: &Namespace) -> BoxFuture<'_, Result<Footprint, StoreError>> {
        let namespace = namespace.clone();
        Box::pin(async move {
            match self.read(namespace, Lane::Point, false, None, Reader::footprint).await {
                Err(StoreError::NoCollection) => Ok(Footprint::default()),
                answer => answer,
            }
        })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        let threads = self.databases.take().map(Databases::close).unwrap_or_default();
        let gone = self.gone.get_mut().unwrap_or_else(PoisonError::into_inner);
        match gone.recv_timeout(self.close_patience) {
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
