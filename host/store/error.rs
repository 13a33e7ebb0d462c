//! Why a store did not do it.

use super::Refusal;
use crate::domain::Exceeded;
use std::error::Error;
use std::sync::Arc;

/// What the machinery below said. Shared: one failed commit answers many writes. For logs: it may name paths and SQL.
pub type Source = Arc<dyn Error + Send + Sync>;

/// Why a store did not do it. The text of each may be shown to a tenant: it names no path and no SQL.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Too much waits already, or another process holds the database. Nothing was done.
    #[error("storage is busy, try again later")]
    Busy,
    /// A change cannot be made: the record is not as it expected it, or there is no collection. Nothing was done.
    #[error("the record {id:?} of {collection:?} is not as expected: {}", match why {
        Refusal::Exists => "there is one already",
        Refusal::Missing => "there is none",
        Refusal::Changed => "it was changed meanwhile",
        Refusal::NoCollection => "there is no such collection",
    })]
    Refused {
        /// Which change, from 0.
        index: usize,
        /// Where it is.
        collection: String,
        /// Which one.
        id: String,
        /// Why.
        why: Refusal,
    },
    /// A write of this name was made before, for something else. Nothing was done.
    #[error("the idempotency key was used for another request")]
    Reused,
    /// There is no such collection.
    #[error("there is no such collection")]
    NoCollection,
    /// There is such a collection already.
    #[error("there is such a collection already")]
    CollectionExists,
    /// The answer would have come too late. Of reads only.
    #[error("the query ran past its deadline")]
    Deadline,
    /// Outside of what a store takes: what, by how much, what would be taken. Nothing was done.
    #[error("{0}")]
    Invalid(String),
    /// The namespace keeps as much as it may. Nothing was done; deletes work.
    #[error("{0}")]
    Over(Exceeded),
    /// No space left, but for what is kept free. Nothing was done; reads and deletes go on. Where really nothing is left
    /// deletes may fail too: the log has to grow first.
    #[error("no space left in the node's storage; reads and deletes go on")]
    Full,
    /// The file system refuses writes. Nothing was done; reads may still work.
    #[error("storage is read-only")]
    ReadOnly,
    /// The database is damaged, or is none of ours. Left as it is, for a backup to be put in its place.
    #[error("the stored data is damaged")]
    Corrupt(#[source] Source),
    /// Written by a newer version. Refused before anything was changed.
    #[error("the stored data is of version {found}, this node knows versions up to {known}")]
    Newer {
        /// Its version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The disk or the database failed. Of a write it is not known whether it took place, but never half of it.
    #[error("storage failure")]
    Io(#[source] Source),
    /// The store has been closed. Of a write that was under way it is not known whether it took place.
    #[error("storage is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn corrupt(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Corrupt(Arc::from(why.into()))
    }

    pub(super) fn io(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Io(Arc::from(why.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_texts_leave_the_cause_to_the_chain() {
        let cause = "unable to open database file: /var/lib/secret.db: SELECT 1";
        for error in [StoreError::io(cause), StoreError::corrupt(cause)] {
            assert!(!error.to_string().contains("secret") && !error.to_string().contains("SELECT"));
            assert_eq!(error.source().unwrap().to_string(), cause);
        }
    }
}
