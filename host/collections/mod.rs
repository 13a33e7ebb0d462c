//! Collections of tenants: typed, searchable, durable records.
//!
//! ```text
//! request -> Permit (tenancy) -> Definition (catalogue) -> Form (registry: what its records are, as registered now)
//!   write: item -> checked and indexed (document) -> Change (store)
//!   read:  filter, order, text -> Query (ask) -> Page (store)
//! ```
//! `ask` and `document` are pure: they turn names and bytes of a type into words that the store compares. The store never
//! sees a type, and a tenant's text never becomes part of a statement.

mod across;
mod ask;
mod batch;
mod catalogue;
mod document;
mod error;
mod form;
mod invoke;
mod known;
mod labels;
mod manage;
mod once;
mod records;
mod reindex;
mod search;
mod turns;

pub use across::{Across, AcrossQuery, OfCollection};
pub use ask::{FieldFilter, Operator, list_filter};
pub use catalogue::{Catalogue, Config, Definition};
pub(crate) use document::RECORD_MAX;
pub use error::{BadField, CollectionError};
pub use form::Form;
pub use invoke::{Invocation, Invoked, RUNS_MAX};
pub use manage::{NewCollection, Wanted};
pub use reindex::Progress;

use crate::dispatch::Dispatcher;
use crate::domain::{CollectionName, Deadline, Namespace, RecordId};
use crate::lifecycle::Lifecycle;
use crate::registry::Registry;
use crate::store::{Labels, Record, Store};
use crate::tenancy::Tenancy;
use bytes::Bytes;
use known::Forms;
use std::sync::Arc;
use tokio::sync::Semaphore;
use turns::Turns;

/// All collections of a node.
pub struct Collections {
    parts: Parts,
    forms: Forms,
    turns: Turns,
    heavy: Arc<Semaphore>,
}

/// What the collections work with.
pub struct Parts {
    /// Decides.
    pub tenancy: Tenancy,
    /// Knows types.
    pub registry: Arc<Registry>,
    /// Knows definitions.
    pub catalogue: Arc<Catalogue>,
    /// Keeps records.
    pub store: Arc<dyn Store>,
    /// Runs methods.
    pub dispatcher: Arc<Dispatcher>,
    /// Sees writes through whose caller has left.
    pub lifecycle: Lifecycle,
}

impl Collections {
    /// * `parts`: shared with the rest of the node.
    pub fn new(parts: Parts) -> Self {
        let heavy = Arc::new(Semaphore::new(records::HEAVY));
        Self { parts, forms: Forms::default(), turns: Turns::default(), heavy }
    }
}

/// Where a record is, or is to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The namespace.
    pub namespace: Namespace,
    /// The collection.
    pub collection: CollectionName,
}

/// What a record holds: as it came, as it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What `bytes` is.
    pub type_url: String,
    /// The content.
    pub bytes: Bytes,
}

/// How a write is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Every check, no change: metadata `collector-validate-only`.
    pub validate_only: bool,
    /// Metadata `idempotency-key`.
    pub once: Option<String>,
    /// Metadata `if-match`: the revision that the record must be of.
    pub if_match: Option<u64>,
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// A new record.
    Create {
        /// `None`: one is made.
        id: Option<RecordId>,
        /// What it holds.
        item: Item,
        /// Its labels.
        labels: Labels,
    },
    /// Another version of a record.
    Update {
        /// Which.
        id: RecordId,
        /// What it holds, or where its parts are taken from.
        item: Item,
        /// Paths of the parts; empty: all.
        mask: Vec<String>,
        /// Instead of its labels; empty: they stay.
        labels: Labels,
    },
    /// Its end.
    Delete {
        /// Which.
        id: RecordId,
    },
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The record is there.
    Put(Info),
    /// The record is not there (any more).
    Deleted,
    /// Every check was made, and nothing changed: [`Options::validate_only`].
    Checked,
}

/// What is kept about a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its id.
    pub id: String,
    /// Names this version; what an etag says.
    pub revision: u64,
    /// Unix microseconds.
    pub created_at: i64,
    /// Unix microseconds.
    pub updated_at: i64,
    /// Its labels.
    pub labels: Labels,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct ListQuery {
    /// ANDed.
    pub filter: Vec<FieldFilter>,
    /// As `ListRequest.order_by`.
    pub order_by: String,
    /// Most records.
    pub page_size: usize,
    /// Where the page before ended: a `store::Position` as JSON, from a page token that was authenticated.
    pub after: Option<String>,
    /// Until when somebody waits.
    pub deadline: Deadline,
}

/// A page, and where the next one begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// In order.
    pub records: Vec<Record>,
    /// For [`ListQuery::after`]; `None`: this was the last page.
    pub next: Option<String>,
    /// All matches.
    pub total: u64,
}

/// A search, as `SearchRequest` says it.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchQuery {
    /// FTS5 expression; empty: none.
    pub full_text: String,
    /// ANDed.
    pub filters: Vec<FieldFilter>,
    /// ANDed.
    pub labels: Vec<(String, String)>,
    /// Empty: none.
    pub vector: Vec<f32>,
    /// 0: none.
    pub similarity_threshold: f32,
    /// Most hits.
    pub limit: usize,
    /// Hits to skip.
    pub offset: usize,
    /// As `SearchRequest.order_by`.
    pub order_by: String,
    /// Of entries of `order_by` that do not say.
    pub ascending: bool,
    /// Until when somebody waits.
    pub deadline: Deadline,
}

/// A hit of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The record.
    pub record: Record,
    /// Higher is better.
    pub score: f64,
    /// Cosine distance; 0 without a vector.
    pub distance: f64,
}
