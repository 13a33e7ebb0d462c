//! Steps between versions that no script can do.

use super::super::{Labels, StoreError};
use super::fault::{cached, from_sqlite};
use super::row::Sealed;
use super::tables;
use rusqlite::{Connection, Row, params};
use std::collections::HashMap;

const MAKE: &str = include_str!("../sql/make.sql");
const COUNT: &str = include_str!("../sql/count.sql");
const RECORDS: &str = include_str!("../sql/v1_records.sql");
const CONTENT: &str = include_str!("../sql/v1_content.sql");
const INSERT: &str = include_str!("../sql/insert.sql");
const DROP: &str = include_str!("../sql/v1_drop.sql");

/// A record of version 1, but for what it holds.
struct Old {
    rowid: i64,
    collection: String,
    created_at: i64,
    updated_at: i64,
    revision: i64,
}

/// A collection that is being filled.
struct New {
    number: i64,
    /// Of the statement that moves a record into it.
    fill: String,
    records: i64,
    last: i64,
}

/// Version 2: a collection per name in the table `record`, without full text and indexes.
///
/// Version 1 kept the records of the node itself, so that a list of them is small.
pub(super) fn to_tables_of_their_own(connection: &Connection) -> Result<(), StoreError> {
    let records = {
        let mut statement = cached(connection, RECORDS)?;
        let rows = statement.query_map([], old).map_err(from_sqlite)?;
        rows.collect::<rusqlite::Result<Vec<_>>>().map_err(from_sqlite)?
    };
    let mut collections = HashMap::<String, New>::new();
    for record in stamped(records) {
        if !collections.contains_key(&record.collection) {
            collections.insert(record.collection.clone(), make(connection, &record.collection)?);
        }
        let Some(new) = collections.get_mut(&record.collection) else { continue };
        new.records += 1;
        new.last = new.last.max(record.updated_at);
        fill(connection, new, &record)?;
    }
    for new in collections.into_values() {
        let counts = params![new.number, new.records, 0, new.records, new.last];
        cached(connection, COUNT)?.execute(counts).map_err(from_sqlite)?;
    }
    // What was prepared would keep the tables from being dropped.
    connection.flush_prepared_statement_cache();
    connection.execute_batch(DROP).map_err(from_sqlite)
}

/// Moves one record into the table of its collection.
fn fill(connection: &Connection, new: &New, record: &Old) -> Result<(), StoreError> {
    let mut content = cached(connection, CONTENT)?;
    let content = content.query_row([record.rowid], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let (id, type_url, bytes): (String, String, Vec<u8>) = content.map_err(from_sqlite)?;
    let (created_at, updated_at) = (record.created_at, record.updated_at);
    let sealed = Sealed { id: &id, type_url: &type_url, bytes: &bytes, labels: &Labels::new(), created_at, updated_at };
    let (row, none) = (new.records << 8, None::<&str>);
    cached(connection, &new.fill)?
        .execute(params![row, id, type_url, created_at, updated_at, 0, sealed.seal(), none, none, bytes])
        .map(drop)
        .map_err(from_sqlite)
}

fn old(row: &Row<'_>) -> rusqlite::Result<Old> {
    Ok(Old {
        rowid: row.get(0)?,
        collection: row.get(1)?,
        created_at: row.get(2)?,
        updated_at: row.get(3)?,
        revision: row.get(4)?,
    })
}

/// Gives the records moments that rise strictly, as near to their own as can be, in the orders that they had: a revision
/// was a number and becomes a moment. Returns them in the order of their creation.
fn stamped(mut records: Vec<Old>) -> Vec<Old> {
    records.sort_by_key(|record| (record.created_at, record.revision));
    let mut last = 0;
    for record in &mut records {
        last = record.created_at.max(last + 1);
        record.created_at = last;
    }
    records.sort_by_key(|record| record.revision);
    last = 0;
    for record in &mut records {
        last = record.updated_at.max(record.created_at).max(last + 1);
        record.updated_at = last;
    }
    records.sort_by_key(|record| record.created_at);
    records
}

fn make(connection: &Connection, name: &str) -> Result<New, StoreError> {
    let made = cached(connection, MAKE)?.query_row(params![name, false, "[]", 0], |row| row.get(0));
    let number = made.map_err(from_sqlite)?;
    connection.execute_batch(&tables::make(number, false)).map_err(from_sqlite)?;
    Ok(New { number, fill: tables::fill(INSERT, number), records: 0, last: 0 })
}
