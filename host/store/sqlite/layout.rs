//! What the database says about a collection.

use super::super::{Footprint, Path, StoreError};
use super::fault::{cached, from_sqlite};
use super::select::Layout;
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension as _, Row};

const FIND: &str = include_str!("../sql/find.sql");
const FOOTPRINT: &str = include_str!("../sql/footprint.sql");

/// A collection as the database has it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) layout: Layout,
    /// Last number given to an index.
    pub(super) last_index: i64,
    /// Last place given in the order of creation.
    pub(super) sequence: i64,
}

/// How much the database holds.
pub(super) fn footprint(connection: &Connection) -> Result<Footprint, StoreError> {
    let number = |row: &Row<'_>, column| row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or(0));
    let read = |row: &Row<'_>| {
        Ok(Footprint { records: number(row, 0)?, bytes: number(row, 1)?.saturating_mul(number(row, 2)?) })
    };
    cached(connection, FOOTPRINT)?.query_row([], read).map_err(from_sqlite)
}

/// The collection of this name, if there is one.
pub(super) fn find(connection: &Connection, name: &str) -> Result<Option<Entry>, StoreError> {
    cached(connection, FIND)?.query_row([name], entry).optional().map_err(from_sqlite)
}

/// The layout of a collection, as of the transaction that `connection` is in.
///
/// * errors: `NoCollection`.
pub(super) fn of(connection: &Connection, name: &str) -> Result<Layout, StoreError> {
    find(connection, name)?.map(|entry| entry.layout).ok_or(StoreError::NoCollection)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let count =
        |column| u64::try_from(row.get::<_, i64>(column)?).map_err(|_| Error::IntegralValueOutOfRange(column, -1));
    let indexes = row.get_ref(2)?.as_str().map_err(|why| content(2, why))?;
    let indexes: Vec<(i64, Path)> = serde_json::from_str(indexes).map_err(|why| content(2, why))?;
    Ok(Entry {
        layout: Layout { number: row.get(0)?, full_text: row.get(1)?, indexes, records: count(4)?, words: count(5)? },
        last_index: row.get(3)?,
        sequence: row.get(6)?,
    })
}

fn content(column: usize, why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, Box::new(why))
}
