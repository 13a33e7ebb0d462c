//! What a store keeps, and the changes it takes.

use super::{DIMENSIONS_MAX, StoreError};
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest id, in bytes. They are in an index: a page of it should hold several.
pub const ID_MAX: usize = 1_024;
/// Longest name of a collection, in bytes.
pub const COLLECTION_MAX: usize = 128;
/// Longest type URL, in bytes.
pub const TYPE_URL_MAX: usize = 1_024;
/// Longest content of a record, in bytes: a message of 8 MiB, and 64 KiB for what wraps it.
pub const BYTES_MAX: usize = 8 * 1024 * 1024 + 64 * 1024;
/// Most changes in one write.
pub const CHANGES_MAX: usize = 1_000;
/// Most bytes in one write: names and contents together.
pub const WRITE_MAX: usize = 32 * 1024 * 1024;

/// Longest name of a write, in bytes.
pub const ONCE_KEY_MAX: usize = 512;

/// Labels of a record: the caller's names for it.
pub type Labels = BTreeMap<String, String>;

/// What queries see of a record, worked out by whoever knows its type.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Indexed {
    /// A JSON object: the fields by name, each value in a form that compares as the field's type does.
    pub document: String,
    /// The record's texts, [`super::TEXT_BREAK`] between them. Empty: there is nothing to find it by.
    pub text: String,
    /// What nearness is measured from, finite numbers.
    pub vector: Option<Vec<f32>>,
}

/// One version of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name in the collection: 1 to [`ID_MAX`] bytes without NUL, compared byte for byte.
    pub id: String,
    /// What `bytes` is. The store does not look into it.
    pub type_url: String,
    /// The content.
    pub bytes: Bytes,
    /// Its labels.
    pub labels: Labels,
    /// When it was first put, in microseconds since 1970. Rises strictly from record to record of a namespace: a clock that
    /// jumps back is waited out.
    pub created_at: i64,
    /// When this version was put; rises in the same way.
    pub updated_at: i64,
    /// Names this version: above every revision given before in this namespace, and never given again.
    pub revision: u64,
}

impl Record {
    /// What a page that holds it grows by, in bytes.
    pub(super) fn size(&self) -> usize {
        self.id.len() + self.type_url.len() + self.bytes.len() + size_of_labels(&self.labels)
    }
}

fn size_of_labels(labels: &Labels) -> usize {
    labels.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// What a change expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever there is.
    Any,
    /// No record.
    Absent,
    /// Some record.
    Present,
    /// The version of this revision.
    Revision(u64),
}

/// One change to one record.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Makes the record, or replaces it; `created_at` of the one that was there is kept.
    Put {
        /// 1 to [`COLLECTION_MAX`] bytes without NUL.
        collection: String,
        /// 1 to [`ID_MAX`] bytes without NUL.
        id: String,
        /// At most [`TYPE_URL_MAX`] bytes without NUL.
        type_url: String,
        /// At most [`BYTES_MAX`] bytes.
        bytes: Bytes,
        /// `None`: those of the record that was there, if there was one.
        labels: Option<Labels>,
        /// `None`: no query finds it by what it holds.
        indexed: Option<Box<Indexed>>,
        /// Else it is refused.
        expect: Expect,
    },
    /// Removes the record if it is there.
    Delete {
        /// As in `Put`.
        collection: String,
        /// As in `Put`.
        id: String,
        /// Else it is refused.
        expect: Expect,
    },
    /// Replaces what queries see of a record, if it is still this version. The record itself stays as it is.
    Index {
        /// As in `Put`.
        collection: String,
        /// As in `Put`.
        id: String,
        /// The version.
        revision: u64,
        /// As in `Put`.
        indexed: Option<Box<Indexed>>,
    },
}

/// Changes that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// 1 to [`CHANGES_MAX`] of at most [`WRITE_MAX`] bytes together. A later one sees the earlier ones.
    pub changes: Vec<Change>,
    /// Whether a change that is refused leaves the others; else it takes them with it.
    pub apart: bool,
    /// That it is not to be made twice.
    pub once: Option<Once>,
}

impl Write {
    /// All of them, or none.
    pub fn together(changes: Vec<Change>) -> Self {
        Self { changes, apart: false, once: None }
    }
}

/// Names a write, so that it is made once however often it is asked for. Remembered for at least
/// [`ONCE_KEPT`](super::ONCE_KEPT), and only if it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// 1 to [`ONCE_KEY_MAX`] bytes. Its owner sees to it that no two kinds of writes share one.
    pub key: String,
    /// What was asked for. The same key for something else is `Reused`.
    pub fingerprint: [u8; 32],
}

/// A write that was made, now or before.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// What became of each change, in their order. `Err` only in a write whose changes stand apart.
    pub outcomes: Vec<Result<Written, Refusal>>,
    /// Whether it had been made before: these are the answers of that time.
    pub replayed: bool,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Written {
    /// The record is there, as this version.
    Put {
        /// Its id.
        id: String,
        /// Its revision.
        revision: u64,
        /// When it was first put.
        created_at: i64,
        /// When this version was put.
        updated_at: i64,
        /// Its labels.
        labels: Labels,
    },
    /// The record was there and is gone.
    Deleted,
    /// There was nothing to delete, or nothing to index.
    Absent,
    /// What queries see was replaced.
    Indexed,
}

/// Why a change was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// There is such a record already.
    Exists,
    /// There is no such record.
    Missing,
    /// It is another version.
    Changed,
    /// There is no such collection.
    NoCollection,
}

impl Change {
    pub(super) fn name(&self) -> (&str, &str) {
        let (Self::Put { collection, id, .. }
        | Self::Delete { collection, id, .. }
        | Self::Index { collection, id, .. }) = self;
        (collection, id)
    }

    pub(super) fn indexed(&self) -> Option<&Indexed> {
        match self {
            Self::Put { indexed, .. } | Self::Index { indexed, .. } => indexed.as_deref(),
            Self::Delete { .. } => None,
        }
    }

    /// What it costs to hold and to write, in bytes.
    pub(super) fn size(&self) -> usize {
        let (collection, id) = self.name();
        let content = match self {
            Self::Put { type_url, bytes, labels, .. } => {
                type_url.len() + bytes.len() + labels.as_ref().map_or(0, size_of_labels)
            }
            Self::Delete { .. } | Self::Index { .. } => 0,
        };
        let vector = |indexed: &Indexed| indexed.vector.as_ref().map_or(0, |vector| vector.len() * size_of::<f32>());
        let indexed = self.indexed().map_or(0, |indexed| indexed.document.len() + indexed.text.len() + vector(indexed));
        collection.len() + id.len() + content + indexed
    }

    fn check(&self) -> Result<(), StoreError> {
        let (collection, id) = self.name();
        check_name(collection, id)?;
        if let Self::Put { type_url, bytes, .. } = self {
            check_text("type URL", type_url, 0, TYPE_URL_MAX)?;
            check_range("record", "bytes", bytes.len(), 0, BYTES_MAX)?;
        }
        self.indexed().map_or(Ok(()), Indexed::check)
    }
}

impl Indexed {
    /// Looks at all of it: what the database would refuse in the middle of a write is refused here.
    fn check(&self) -> Result<(), StoreError> {
        let is_object = self.document.starts_with('{');
        if !is_object || serde_json::from_str::<IgnoredAny>(&self.document).is_err() {
            return Err(StoreError::Invalid("the document is not a JSON object".to_owned()));
        }
        if let Some(vector) = &self.vector {
            check_range("vector", "numbers", vector.len(), 1, DIMENSIONS_MAX)?;
            if !vector.iter().all(|number| number.is_finite()) {
                return Err(StoreError::Invalid("the vector has a number that is not finite".to_owned()));
            }
        }
        Ok(())
    }
}

impl Write {
    /// Whether it is within the bounds. Returns its size in bytes.
    pub(super) fn check(&self) -> Result<usize, StoreError> {
        if let Some(once) = &self.once {
            check_range("idempotency key", "bytes", once.key.len(), 1, ONCE_KEY_MAX)?;
        }
        check_changes(&self.changes)
    }
}

fn check_changes(changes: &[Change]) -> Result<usize, StoreError> {
    check_range("write", "changes", changes.len(), 1, CHANGES_MAX)?;
    changes.iter().try_for_each(Change::check)?;
    let size = changes.iter().map(Change::size).sum();
    check_range("write", "bytes", size, 1, WRITE_MAX)?;
    Ok(size)
}

/// Whether this can be the name of a record.
pub(super) fn check_name(collection: &str, id: &str) -> Result<(), StoreError> {
    check_collection(collection)?;
    check_text("id", id, 1, ID_MAX)
}

/// Whether this can be the name of a collection.
pub(super) fn check_collection(collection: &str) -> Result<(), StoreError> {
    check_text("collection", collection, 1, COLLECTION_MAX)
}

/// Whether a scan can be asked for this. Any text can be where it goes on from, the empty one too.
pub(super) fn check_scan(collection: &str, after: &str) -> Result<(), StoreError> {
    check_collection(collection)?;
    check_text("id", after, 0, ID_MAX)
}

fn check_text(what: &str, text: &str, least: usize, most: usize) -> Result<(), StoreError> {
    check_range(what, "bytes", text.len(), least, most)?;
    if text.contains('\0') { Err(StoreError::Invalid(format!("the {what} has a NUL byte"))) } else { Ok(()) }
}

pub(super) fn check_range(what: &str, unit: &str, found: usize, least: usize, most: usize) -> Result<(), StoreError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(StoreError::Invalid(format!("the {what} has {found} {unit}, {least} to {most} are allowed")))
}
