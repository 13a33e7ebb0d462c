//! Collections made, reshaped and dropped, each alone in its transaction. What is refused is refused before anything is
//! touched.

use super::super::{Path, Shape, StoreError};
use super::fault::{cached, from_sqlite};
use super::ledger::Ledger;
use super::{select, tables};
use rusqlite::{Connection, params};

const MAKE: &str = include_str!("../sql/make.sql");
const RESHAPE: &str = include_str!("../sql/reshape.sql");
const FORGET: &str = include_str!("../sql/forget.sql");
const STAMP: &str = include_str!("../sql/stamp_save.sql");

/// Makes a collection.
///
/// * errors: `CollectionExists`.
pub(super) fn make(connection: &Connection, ledger: &mut Ledger, name: &str, shape: &Shape) -> Result<(), StoreError> {
    if ledger.collection(connection, name)?.is_some() {
        return Err(StoreError::CollectionExists);
    }
    let indexes: Vec<(i64, Path)> = (1..).zip(shape.indexes.iter().cloned()).collect();
    let last = indexes.last().map_or(0, |(number, _)| *number);
    let row = params![name, shape.full_text, json(&indexes)?, last];
    let number: i64 = cached(connection, MAKE)?.query_row(row, |row| row.get(0)).map_err(from_sqlite)?;
    run(connection, &tables::make(number, shape.full_text))?;
    for (index, path) in &indexes {
        select::create_index(number, *index, path).iter().try_for_each(|sql| run(connection, sql))?;
    }
    Ok(())
}

/// Gives a collection the indexes of `shape`: those that it has stay as they are.
///
/// * errors: `NoCollection`.
pub(super) fn reshape(
    connection: &Connection,
    ledger: &mut Ledger,
    name: &str,
    shape: &Shape,
) -> Result<(), StoreError> {
    let Some((kept, _)) = ledger.collection(connection, name)? else { return Err(StoreError::NoCollection) };
    let (number, mut last) = (kept.layout.number, kept.last_index);
    let (mut indexes, gone): (Vec<_>, Vec<_>) =
        kept.layout.indexes.iter().cloned().partition(|(_, path)| shape.indexes.contains(path));
    for (index, path) in &gone {
        select::drop_index(number, *index, path).iter().try_for_each(|sql| run(connection, sql))?;
    }
    for path in &shape.indexes {
        if !indexes.iter().any(|(_, there)| there == path) {
            last += 1;
            select::create_index(number, last, path).iter().try_for_each(|sql| run(connection, sql))?;
            indexes.push((last, path.clone()));
        }
    }
    cached(connection, RESHAPE)?.execute(params![number, json(&indexes)?, last]).map_err(from_sqlite)?;
    ledger.forget(name);
    Ok(())
}

/// Drops a collection and all that is in it. Returns whether there was one.
pub(super) fn drop(connection: &Connection, ledger: &mut Ledger, name: &str) -> Result<bool, StoreError> {
    let Some((kept, _)) = ledger.collection(connection, name)? else { return Ok(false) };
    let (number, full_text) = (kept.layout.number, kept.layout.full_text);
    run(connection, &tables::drop(number, full_text))?;
    cached(connection, FORGET)?.execute([number]).map_err(from_sqlite)?;
    // With the collection goes what it knew of the last moment.
    cached(connection, STAMP)?.execute([ledger.last()]).map_err(from_sqlite)?;
    ledger.forget(name);
    Ok(true)
}

fn run(connection: &Connection, script: &str) -> Result<(), StoreError> {
    connection.execute_batch(script).map_err(from_sqlite)
}

fn json(indexes: &[(i64, Path)]) -> Result<String, StoreError> {
    serde_json::to_string(indexes).map_err(StoreError::io)
}
