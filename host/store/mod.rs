//! Records that survive: what the node knows about itself, later what tenants keep.
//!
//! A database per [`Namespace`], collections in it, records in those. A [`Store`] knows nothing of schemas, tenants or
//! gRPC: names come parsed, bytes stay bytes. What it promises, and `contract.rs` checks for every implementation:
//! * a write is one transaction, all or nothing, and on disk before it is acknowledged;
//! * reads see every write that was acknowledged before they began;
//! * a revision is given to one version of one record and never again;
//! * what cannot be read is an error, never an empty answer, and never overwritten.
//!
//! Deliberately absent: search, labels, attachments, backup and the bound on open databases; they come with the
//! collections of tenants.

#[cfg(test)]
mod contract;
mod error;
mod record;
pub mod sqlite;

pub use crate::domain::BoxFuture;
use crate::domain::Namespace;
pub use error::{Source, StoreError};
pub use record::{
    BYTES_MAX, CHANGES_MAX, COLLECTION_MAX, Change, Expect, ID_MAX, Record, TYPE_URL_MAX, WRITE_MAX, Written,
};
pub use sqlite::SqliteStore;

/// Most records in one page of a scan; a larger limit means this one.
pub const SCAN_MAX: usize = 1_000;
/// Bytes after which a page of a scan ends early: what one call may hold in memory, past the last record.
pub const SCAN_BYTES: usize = 16 * 1024 * 1024;

/// Keeps records. SQLite on one machine today; written so that a database server can stand behind it.
pub trait Store: Send + Sync + 'static {
    /// Makes the changes in their order, in one transaction: all or nothing, on disk before it is acknowledged.
    ///
    /// * `changes`: 1 to [`CHANGES_MAX`] of at most [`WRITE_MAX`] bytes together. A later one sees the earlier ones.
    /// * returns: what became of each change, in their order.
    /// * errors: `Conflict` for the first record that is not as expected, `Busy` if too much waits already, `Invalid` for
    ///   what is outside the bounds: nothing was changed. `Io`, `Corrupt`, `Closed`: all or nothing, but which of them is
    ///   not known.
    /// * cancel: before the first poll nothing happens; after it the write commits or fails on its own, and dropping the
    ///   future loses only the answer.
    fn write(&self, namespace: &Namespace, changes: Vec<Change>) -> BoxFuture<'_, Result<Vec<Written>, StoreError>>;

    /// One record, or `None` if there is none. Asking never makes a database.
    ///
    /// * errors: never `Conflict`, `Full` or `Busy` for a full queue: readers wait for their turn.
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
