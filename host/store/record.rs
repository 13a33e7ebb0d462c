//! What a store keeps, and the changes it takes.

use super::StoreError;
use bytes::Bytes;

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

/// One version of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name in the collection: 1 to [`ID_MAX`] bytes without NUL, compared byte for byte.
    pub id: String,
    /// What `bytes` is. The store does not look into it.
    pub type_url: String,
    /// The content.
    pub bytes: Bytes,
    /// When it was first put, in microseconds since 1970 by the wall clock of that moment.
    pub created_at: i64,
    /// When this version was put; never before `created_at`, but clocks jump: for order there is `revision`.
    pub updated_at: i64,
    /// Names this version: above every revision given before in this namespace, and never given again.
    pub revision: u64,
}

/// What a change expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever there is.
    Any,
    /// No record.
    Absent,
    /// The version of this revision.
    Revision(u64),
}

/// One change to one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes the record, or replaces it; `created_at` of the one that was there is kept.
    Put {
        /// 1 to [`COLLECTION_MAX`] bytes without NUL. Made by its first record.
        collection: String,
        /// 1 to [`ID_MAX`] bytes without NUL.
        id: String,
        /// At most [`TYPE_URL_MAX`] bytes without NUL.
        type_url: String,
        /// At most [`BYTES_MAX`] bytes.
        bytes: Bytes,
        /// Else the whole write is a `Conflict`.
        expect: Expect,
    },
    /// Removes the record if it is there.
    Delete {
        /// As in `Put`.
        collection: String,
        /// As in `Put`.
        id: String,
        /// Else the whole write is a `Conflict`.
        expect: Expect,
    },
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The record is there, as this version.
    Put {
        /// Its revision.
        revision: u64,
        /// When it was first put.
        created_at: i64,
        /// When this version was put.
        updated_at: i64,
    },
    /// The record was there and is gone.
    Deleted,
    /// There was nothing to delete.
    Absent,
}

impl Change {
    /// What it costs to hold and to write, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Put { collection, id, type_url, bytes, .. } => {
                collection.len() + id.len() + type_url.len() + bytes.len()
            }
            Self::Delete { collection, id, .. } => collection.len() + id.len(),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let (Self::Put { collection, id, .. } | Self::Delete { collection, id, .. }) = self;
        check_name(collection, id)?;
        if let Self::Put { type_url, bytes, .. } = self {
            check_text("type URL", type_url, 0, TYPE_URL_MAX)?;
            check_range("record", "bytes", bytes.len(), 0, BYTES_MAX)?;
        }
        Ok(())
    }
}

/// Whether a write is within the bounds. Returns its size in bytes.
pub(super) fn check_changes(changes: &[Change]) -> Result<usize, StoreError> {
    check_range("write", "changes", changes.len(), 1, CHANGES_MAX)?;
    changes.iter().try_for_each(Change::check)?;
    let size = changes.iter().map(Change::size).sum();
    check_range("write", "bytes", size, 1, WRITE_MAX)?;
    Ok(size)
}

/// Whether this can be the name of a record.
pub(super) fn check_name(collection: &str, id: &str) -> Result<(), StoreError> {
    check_text("collection", collection, 1, COLLECTION_MAX)?;
    check_text("id", id, 1, ID_MAX)
}

/// Whether a scan can be asked for this. Any text can be where it goes on from, the empty one too.
pub(super) fn check_scan(collection: &str, after: &str) -> Result<(), StoreError> {
    check_text("collection", collection, 1, COLLECTION_MAX)?;
    check_text("id", after, 0, ID_MAX)
}

fn check_text(what: &str, text: &str, least: usize, most: usize) -> Result<(), StoreError> {
    check_range(what, "bytes", text.len(), least, most)?;
    if text.contains('\0') { Err(StoreError::Invalid(format!("the {what} has a NUL byte"))) } else { Ok(()) }
}

fn check_range(what: &str, unit: &str, found: usize, least: usize, most: usize) -> Result<(), StoreError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(StoreError::Invalid(format!("the {what} has {found} {unit}, {least} to {most} are allowed")))
}
