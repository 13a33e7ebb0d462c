//! Why something was not done with a collection.

use crate::dispatch::DispatchError;
use crate::domain::{Fault, Receipt};
use crate::store::{Refusal, StoreError};
use crate::tenancy::Refused;

/// A part of a request that is wrong in itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct BadField {
    /// The request's field: `item`, `filters["a.b"]`, `order_by`.
    pub field: String,
    /// What is wrong with it, as it goes on after the field's name: `must not be negative`.
    pub problem: String,
}

impl BadField {
    /// * `field`, `problem`: as in the struct.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Why something was not done with a collection. The text of each may be shown to the caller.
#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    /// The caller may not.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no such collection.
    #[error("there is no collection {0}")]
    NoCollection(String),
    /// There is such a collection. Existing clients look for "already exists".
    #[error("collection {0} already exists")]
    CollectionExists(String),
    /// There is no such record.
    #[error("there is no record {0:?}")]
    NoRecord(String),
    /// There is such a record.
    #[error("record {0:?} already exists")]
    RecordExists(String),
    /// `if-match` does not hold, or others changed the record again and again meanwhile.
    #[error("record {0:?} was changed meanwhile; read it again")]
    Changed(String),
    /// The request is wrong in itself.
    #[error(transparent)]
    Field(#[from] BadField),
    /// One operation of a batch failed, and with it all.
    #[error("operations[{index}]: {why}")]
    Operation {
        /// Which, from 0.
        index: usize,
        /// Why.
        why: Box<CollectionError>,
    },
    /// More than the node keeps.
    #[error("there are too many {what}: at most {most} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// Text search is off for the collection.
    #[error("the collection was created without full-text search")]
    NoFullText,
    /// The collection has no vector.
    #[error("the collection has no indexed field `path:vector`")]
    NoVector,
    /// A run of a method failed.
    #[error("{}{why}", match id { Some(id) => format!("record {id:?}: "), None => String::new() })]
    Run {
        /// The record that it ran on, if it was one.
        id: Option<String>,
        /// Why.
        why: Box<DispatchError>,
    },
    /// A run of a method ended with a fault of its own.
    #[error("{}{}", match id { Some(id) => format!("record {id:?}: "), None => String::new() }, fault.message)]
    Faulted {
        /// The record that it ran on, if it was one.
        id: Option<String>,
        /// What it said.
        fault: Fault,
        /// What the run took.
        receipt: Box<Receipt>,
    },
    /// Several services could be meant.
    #[error("several services have such a method: {}; say which, as in `Service/Method`", .0.join(", "))]
    AmbiguousMethod(Vec<String>),
    /// No service has a method that fits the collection's records.
    #[error(
        "no service has a method {0} that takes the records of this collection; to name another say `Service/Method`"
    )]
    NoMethod(String),
    /// The same idempotency key came with another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The answer would come too late.
    #[error("the query ran past its deadline; an index on the field may help")]
    Deadline,
    /// The node stops.
    #[error("the node is shutting down")]
    Draining,
    /// The store did not do it.
    #[error(transparent)]
    Store(StoreError),
    /// A bug of ours.
    #[error("the node failed to do it")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a refusal of one record means.
pub(super) fn refused(why: Refusal, id: &str, collection: &str) -> CollectionError {
    match why {
        Refusal::Exists => CollectionError::RecordExists(id.to_owned()),
        Refusal::Missing => CollectionError::NoRecord(id.to_owned()),
        Refusal::Changed => CollectionError::Changed(id.to_owned()),
        Refusal::NoCollection => CollectionError::NoCollection(collection.to_owned()),
    }
}

impl From<StoreError> for CollectionError {
    fn from(why: StoreError) -> Self {
        match why {
            StoreError::Refused { collection, id, why, .. } => refused(why, &id, &collection),
            StoreError::Reused => Self::KeyReused,
            StoreError::Deadline => Self::Deadline,
            other => Self::Store(other),
        }
    }
}
