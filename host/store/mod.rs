//! Records that survive: what the node knows about itself, and what tenants keep.
//!
//! A database per [`Namespace`], collections in it, records in those. A [`Store`] knows nothing of types, tenants or
//! gRPC: names come parsed, bytes stay bytes, and what queries see of a record comes with it. What it promises, and
//! `contract/` checks for every implementation:
//! * a write is one transaction, all or nothing, and on disk before it is acknowledged;
//! * reads see every write that was acknowledged before they began;
//! * a revision is given to one version of one record and never again;
//! * a query finds exactly what is there: indexes and rows are one transaction;
//! * what cannot be read is an error, never an empty answer, and never overwritten.
//!
//! Deliberately absent: attachments and backup.

#[cfg(test)]
mod contract;
mod error;
mod headroom;
mod query;
mod record;
mod shape;
pub mod sqlite;

pub use crate::domain::BoxFuture;
use crate::domain::Namespace;
pub use error::{Source, StoreError};
pub use headroom::Headroom;
pub use query::{
    CONDITIONS_MAX, Compare, Condition, DIMENSIONS_MAX, HITS_MAX, Hit, IN_MAX, Key, Nearest, OFFSET_MAX, ORDER_MAX,
    Order, Page, Phrase, Plan, Position, Query, Scalar, TERMS_MAX, TEXT_BREAK, TEXT_MAX, Test, Text, TextStats,
};
pub use record::{
    BYTES_MAX, CHANGES_MAX, COLLECTION_MAX, Change, Done, Expect, ID_MAX, Indexed, Labels, ONCE_KEY_MAX, Once, Record,
    Refusal, TYPE_URL_MAX, WRITE_MAX, Write, Written,
};
pub use shape::{
    BadPath, Footprint, INDEXED_MEMBER_MAX, INDEXED_PATH_MAX, INDEXES_MAX, MEMBER_MAX, Path, STEPS_MAX, Shape, Stats,
    Step,
};
pub use sqlite::SqliteStore;
use std::time::Duration;
use tokio::time::Instant;

/// Most records in one page of a scan; a larger limit means this one.
pub const SCAN_MAX: usize = 1_000;
/// Bytes after which a page of a scan ends early: what one call may hold in memory, past the last record.
pub const SCAN_BYTES: usize = 16 * 1024 * 1024;

/// How long the name of a write is remembered. A day: longer than any client retries.
pub const ONCE_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Keeps records. SQLite on one machine today; written so that a database server can stand behind it.
pub trait Store: Send + Sync + 'static {
    /// Makes an empty collection.
    ///
    /// * errors: `CollectionExists`; those of [`Store::write`].
    /// * cancel: as [`Store::write`].
    fn make(&self, namespace: &Namespace, collection: &str, shape: Shape) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Makes missing indexes of a collection and drops those that `shape` does not name. `full_text` stays what it was
    /// made with. When this returns, the new indexes are complete and in use.
    ///
    /// * errors: `NoCollection`; those of [`Store::write`].
    /// * cancel: as [`Store::write`].
    fn reshape(&self, namespace: &Namespace, collection: &str, shape: Shape) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Drops a collection and all its records. Returns whether there was one.
    ///
    /// * errors, cancel: as [`Store::write`].
    fn drop_collection(&self, namespace: &Namespace, collection: &str) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// The collections that there are, ordered by name.
    fn collections(&self, namespace: &Namespace) -> BoxFuture<'_, Result<Vec<String>, StoreError>>;

    /// Makes the changes in their order, in one transaction, on disk before it is acknowledged.
    ///
    /// * errors: `Refused` for the first change that cannot be made, `Reused`, `Busy` if too much waits already, `Invalid`
    ///   for what is outside the bounds, `Full`, `ReadOnly`: nothing was changed. `Io`, `Corrupt`, `Closed`: all or
    ///   nothing, but which of them is not known.
    /// * cancel: before the first poll nothing happens; after it the write commits or fails on its own, and dropping the
    ///   future loses only the answer.
    fn write(&self, namespace: &Namespace, write: Write) -> BoxFuture<'_, Result<Done, StoreError>>;

    /// One record, or `None` if there is none. Asking never makes a database.
    ///
    /// * errors: `NoCollection` where there is none. Never `Refused`, `Full` or `Busy` for a full queue: readers wait for
    ///   their turn.
    /// * cancel: safe.
    fn get(
        &self,
        namespace: &Namespace,
        collection: &str,
        id: &str,
    ) -> BoxFuture<'_, Result<Option<Record>, StoreError>>;

    /// Records of a collection whose id is above `after`, ids ascending by their bytes, as of one moment.
    ///
    /// * `limit`: at most so many, and at most [`SCAN_MAX`]. A page also ends once it holds [`SCAN_BYTES`].
    /// * returns: a page that may be short although more follows. The end is the empty page.
    /// * errors, cancel: as [`Store::get`].
    fn scan(
        &self,
        namespace: &Namespace,
        collection: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// Answers a question.
    ///
    /// * `deadline`: when nobody waits for the answer any more.
    /// * errors: `Invalid` for what is outside the bounds, `Deadline`; as [`Store::get`].
    /// * cancel: safe, and the work stops soon after.
    fn query(
        &self,
        namespace: &Namespace,
        collection: &str,
        query: Query,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// How a query would be carried out.
    ///
    /// * errors, cancel: as [`Store::query`].
    fn explain(&self, namespace: &Namespace, collection: &str, query: Query)
    -> BoxFuture<'_, Result<Plan, StoreError>>;

    /// What the rank of a text is worked out from in this collection.
    ///
    /// * errors, cancel: as [`Store::query`].
    fn text_stats(
        &self,
        namespace: &Namespace,
        collection: &str,
        text: Text,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<TextStats, StoreError>>;

    /// How much there is in a collection.
    ///
    /// * errors, cancel: as [`Store::get`].
    fn stats(&self, namespace: &Namespace, collection: &str) -> BoxFuture<'_, Result<Stats, StoreError>>;

    /// How much a namespace keeps. Of one that was never written to: nothing.
    ///
    /// * errors, cancel: as [`Store::get`], but for `NoCollection`.
    fn footprint(&self, namespace: &Namespace) -> BoxFuture<'_, Result<Footprint, StoreError>> {
        let namespace = namespace.clone();
        Box::pin(async move {
            let mut sum = Footprint::default();
            for collection in self.collections(&namespace).await? {
                let Stats { records, bytes } = self.stats(&namespace, &collection).await?;
                sum = Footprint { records: sum.records + records, bytes: sum.bytes + bytes };
            }
            Ok(sum)
        })
    }
}

/// Makes a collection of the node's own where it is missing: records by id, nothing to search.
///
/// * errors: those of [`Store::make`], but for `CollectionExists`.
pub async fn ensure(store: &dyn Store, namespace: &Namespace, collection: &str) -> Result<(), StoreError> {
    // Looked for first: making takes space, which a node that starts on a full disk does not have.
    if store.collections(namespace).await?.iter().any(|known| known == collection) {
        return Ok(());
    }
    match store.make(namespace, collection, Shape::default()).await {
        Ok(()) | Err(StoreError::CollectionExists) => Ok(()),
        Err(why) => Err(why),
    }
}

/// All records of a collection, by id. For what is kept in memory anyway: it has no bound.
///
/// * errors: those of [`Store::scan`].
pub async fn all(store: &dyn Store, namespace: &Namespace, collection: &str) -> Result<Vec<Record>, StoreError> {
    let mut found = Vec::<Record>::new();
    loop {
        let after = found.last().map(|record| record.id.clone());
        let page = store.scan(namespace, collection, after.as_deref(), SCAN_MAX).await?;
        // A page may be short; only an empty one is the end.
        if page.is_empty() {
            return Ok(found);
        }
        found.extend(page);
    }
}
