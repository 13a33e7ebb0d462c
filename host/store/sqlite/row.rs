//! A row as the record that it holds, sealed: SQLite has no checksum of a page, so a bit that the disk turned over would
//! pass for what was written. Left out: what queries see of a record, and indexes. A bit turned over there may hide a
//! record from a search until it is indexed anew, but shows nobody anything wrong.

use super::super::{Labels, Record, StoreError};
use super::fault::from_sqlite;
use bytes::Bytes;
use rusqlite::Row;

/// What a record is, but for its place and what queries see of it: 64 bits of BLAKE3. Not against those who can write the
/// file; against disks.
pub(super) struct Sealed<'a> {
    pub(super) id: &'a str,
    pub(super) type_url: &'a str,
    pub(super) bytes: &'a [u8],
    pub(super) labels: &'a Labels,
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
}

impl Sealed<'_> {
    pub(super) fn seal(&self) -> i64 {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        part(&self.created_at.to_le_bytes());
        part(&self.updated_at.to_le_bytes());
        for text in
            [self.id, self.type_url].into_iter().chain(self.labels.iter().flat_map(|(key, value)| [&**key, value]))
        {
            part(text.as_bytes());
        }
        part(self.bytes);
        let mut seal = [0; 8];
        hasher.finalize_xof().fill(&mut seal);
        i64::from_le_bytes(seal)
    }
}

/// The record in a row of `id, type_url, bytes, json(labels), created_at, updated_at, seal`.
///
/// * errors: `Corrupt` for what is not as it was written.
pub(super) fn record(row: &Row<'_>) -> Result<Record, StoreError> {
    let columns = || {
        let bytes = Bytes::copy_from_slice(row.get_ref(2)?.as_blob()?);
        Ok((row.get(0)?, row.get(1)?, bytes, row.get(4)?, row.get(5)?, row.get(6)?))
    };
    let (id, type_url, bytes, created_at, updated_at, seal): (String, String, _, _, _, i64) =
        columns().map_err(from_sqlite)?;
    let stored = row.get_ref(3).and_then(|text| Ok(text.as_str_or_null()?)).map_err(from_sqlite)?;
    let revision = u64::try_from(updated_at).map_err(StoreError::corrupt)?;
    let record = Record { id, type_url, bytes, labels: labels(stored)?, created_at, updated_at, revision };
    let Record { id, type_url, bytes, labels, .. } = &record;
    if (Sealed { id, type_url, bytes, labels, created_at, updated_at }).seal() != seal {
        return Err(StoreError::corrupt("a record is not as it was written"));
    }
    Ok(record)
}

/// Labels from the JSON they are kept as.
pub(super) fn labels(text: Option<&str>) -> Result<Labels, StoreError> {
    text.map_or_else(|| Ok(Labels::new()), |text| serde_json::from_str(text).map_err(StoreError::corrupt))
}
