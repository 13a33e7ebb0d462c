//! Rows of the records that a page has, and how many match.

use super::super::fault::{cached, from_sqlite};
use super::order::{self, Part, Place, Walk};
use super::read;
use super::statement::{Question, Statement};
use crate::store::StoreError;
use rusqlite::{Connection, Row, params_from_iter};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Matches that memory is asked for at once; for more it is when they are there.
const KEEP_EARLY: usize = 2_000;

/// Rows that were found.
pub(super) struct Found {
    /// Those of the page, in order, with their scores.
    pub(super) rows: Vec<(i64, f64)>,
    /// Whether others follow.
    pub(super) more: bool,
    /// How many match altogether, if that is known by now.
    pub(super) all: Option<u64>,
}

/// The rows of a page.
pub(super) fn rows(connection: &Connection, question: &Question<'_>) -> Result<Found, StoreError> {
    let place = question.query.after.as_ref().map(|after| read::place(question, after)).transpose()?;
    match question.walk {
        Walk::Ranked => gathered(connection, question, None, |score, row| (score, row)),
        Walk::Row { descending } if question.is_indexed() => {
            gathered(connection, question, place.as_ref(), |_, row| (0.0, if descending { row } else { -row }))
        }
        Walk::Row { .. } | Walk::Keys(_) => walked(connection, question, place.as_ref()),
    }
}

/// The statements that find the rows of a page.
pub(super) fn statements(question: &Question<'_>) -> Result<Vec<Statement>, StoreError> {
    let place = question.query.after.as_ref().map(|after| read::place(question, after)).transpose()?;
    let gathers = match question.walk {
        Walk::Ranked => true,
        Walk::Row { .. } => question.is_indexed(),
        Walk::Keys(_) => false,
    };
    let parts = parts(question, place.as_ref()).into_iter();
    parts.map(|part| if gathers { question.all(part) } else { question.page(part, question.query.limit) }).collect()
}

/// The parts in which a page is asked for.
fn parts<'p>(question: &Question<'_>, place: Option<&'p Place>) -> Vec<Option<(&'p Place, Part)>> {
    match place {
        None => vec![None],
        Some(place) => order::parts(&question.walk, place).into_iter().map(|part| Some((place, part))).collect(),
    }
}

/// A match. The one that comes earlier in the order is the greater one.
#[derive(PartialEq)]
struct Match {
    rank: (f64, i64),
    row: i64,
    score: f64,
}

impl Eq for Match {}

impl PartialOrd for Match {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Match {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.0.total_cmp(&other.rank.0).then(self.rank.1.cmp(&other.rank.1))
    }
}

/// All matches in one pass, the first of the order kept: counting them costs nothing more, and nothing is sorted.
///
/// * `rank`: what of a score and a row the order is by, highest first.
fn gathered(
    connection: &Connection,
    question: &Question<'_>,
    place: Option<&Place>,
    rank: impl Fn(f64, i64) -> (f64, i64),
) -> Result<Found, StoreError> {
    let query = question.query;
    let wanted = query.offset + query.limit;
    let least = query.nearest.as_ref().and_then(|nearest| nearest.at_least).map_or(f64::NEG_INFINITY, f64::from);
    let mut kept = BinaryHeap::with_capacity(wanted.min(KEEP_EARLY) + 1);
    let mut all = 0_u64;
    each(connection, &question.all(place.map(|place| (place, Part::Beyond)))?, |row| {
        let Some(score) = row.get::<_, Option<f64>>(1)?.filter(|score| *score >= least) else { return Ok(()) };
        all += 1;
        let row = row.get(0)?;
        let found = Reverse(Match { rank: rank(score, row), row, score });
        if kept.len() < wanted {
            kept.push(found);
        } else if let Some(mut last) = kept.peek_mut().filter(|last| **last > found) {
            *last = found;
        }
        Ok(())
    })?;
    let more = all > wanted as u64;
    let rows = kept.into_sorted_vec().into_iter().skip(query.offset).map(|Reverse(found)| (found.row, found.score));
    Ok(Found { rows: rows.collect(), more, all: place.is_none().then_some(all) })
}

/// As many matches as the page takes, in the order in which the database gives them.
fn walked(connection: &Connection, question: &Question<'_>, place: Option<&Place>) -> Result<Found, StoreError> {
    let query = question.query;
    let wanted = query.offset + query.limit;
    let mut rows = Vec::new();
    for part in parts(question, place) {
        // One more than wanted: it tells whether others follow.
        let left = (wanted + 1).saturating_sub(rows.len());
        if left > 0 {
            each(connection, &question.page(part, left)?, |row| {
                rows.push((row.get(0)?, row.get(1)?));
                Ok(())
            })?;
        }
    }
    let more = rows.len() > wanted;
    let all = (!more && place.is_none()).then_some(rows.len() as u64);
    rows.truncate(wanted);
    rows.drain(..query.offset.min(rows.len()));
    Ok(Found { rows, more, all })
}

/// Runs a statement to its end.
pub(super) fn each(
    connection: &Connection,
    statement: &Statement,
    mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> Result<(), StoreError> {
    let mut prepared = cached(connection, &statement.sql)?;
    let mut rows = prepared.query(params_from_iter(&statement.values)).map_err(from_sqlite)?;
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        take(row).map_err(from_sqlite)?;
    }
    Ok(())
}

/// How many records match.
///
/// * `known`: if it has been found out already.
pub(super) fn total(connection: &Connection, question: &Question<'_>, known: Option<u64>) -> Result<u64, StoreError> {
    if question.is_all() {
        return Ok(question.layout.records);
    }
    if let Some(known) = known {
        return Ok(known);
    }
    let mut count = 0_i64;
    each(connection, &question.count()?, |row| {
        count = row.get(0)?;
        Ok(())
    })?;
    Ok(u64::try_from(count).unwrap_or(0))
}
