//! Records of rows that were found, and their places in the order.

use super::super::fault::{cached, from_sqlite};
use super::super::row::record;
use super::find::each;
use super::order::Place;
use super::statement::Question;
use super::{NORM_BITS, invalid};
use crate::store::{Hit, Position, SCAN_BYTES, Scalar, StoreError};
use rusqlite::Connection;
use rusqlite::types::Value;

/// The records of a page, until it holds enough bytes; and the row of the last one.
pub(super) fn records(
    connection: &Connection,
    question: &Question<'_>,
    rows: &[(i64, f64)],
) -> Result<(Vec<Hit>, i64), StoreError> {
    let most = if question.query.bytes == 0 { SCAN_BYTES } else { question.query.bytes.min(SCAN_BYTES) };
    let mut statement = cached(connection, &question.layout.sql(include_str!("../../sql/hit.sql")))?;
    let (mut hits, mut held, mut last) = (Vec::with_capacity(rows.len()), 0, 0);
    for (row, score) in rows {
        let mut found = statement.query([row]).map_err(from_sqlite)?;
        let Some(row_found) = found.next().map_err(from_sqlite)? else {
            return Err(StoreError::corrupt("an index leads to no record"));
        };
        let record = record(row_found)?;
        held += record.size();
        if held > most && !hits.is_empty() {
            break;
        }
        hits.push(Hit { record, score: *score });
        last = *row;
    }
    Ok((hits, last))
}

/// Where a hit stands in the order.
pub(super) fn position(
    connection: &Connection,
    question: &Question<'_>,
    row: i64,
    hit: &Hit,
) -> Result<Position, StoreError> {
    let keys = keys(connection, question, row)?;
    Ok(Position { keys, id: hit.record.id.clone(), sequence: row >> NORM_BITS })
}

/// The values that the keys of the order have in a row.
fn keys(connection: &Connection, question: &Question<'_>, row: i64) -> Result<Vec<Option<Scalar>>, StoreError> {
    let width = question.walk.carried().count();
    if width == 0 {
        return Ok(Vec::new());
    }
    let statement = question.keys(row);
    let mut values = Vec::with_capacity(width);
    each(connection, &statement, |row| {
        for at in 0..width {
            values.push(match row.get::<_, Value>(at)? {
                Value::Integer(value) => Some(Scalar::Int(value)),
                Value::Real(value) => Some(Scalar::Real(value)),
                Value::Text(value) => Some(Scalar::Text(value)),
                Value::Null | Value::Blob(_) => None,
            });
        }
        Ok(())
    })?;
    Ok(values)
}

/// The place that a position names.
pub(super) fn place(question: &Question<'_>, after: &Position) -> Result<Place, StoreError> {
    if after.keys.len() != question.walk.carried().count() {
        return Err(invalid("the page token is of another order".to_owned()));
    }
    Ok(Place { values: after.keys.clone(), id: after.id.clone(), sequence: after.sequence })
}
