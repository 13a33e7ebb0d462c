//! Queries: what is asked of a collection, as statements, and what they find.
//!
//! ```text
//! Query -> check -> Question (order, text, weights) -> statements -> rows and scores -> records
//! ```
//! Statements find numbers of rows; records are read one by one, so that no more is in memory than a page may hold.
//! What an index knows is asked in SQL (`index.rs`); what none knows is looked up in the record's document (`filter.rs`).

mod check;
mod explain;
pub(super) mod filter;
mod find;
mod index;
mod jsonb;
mod order;
mod read;
mod statement;
#[cfg(test)]
mod tests;
mod text;

pub(super) use explain::explain;
pub(super) use index::{create_index, drop_index};

use super::fault::{cached, from_sqlite};
use super::{rank, tables};
use crate::store::{Page, Path, Query, StoreError, Text, TextStats};
use index::Indexed;
use order::Walk;
use rusqlite::Connection;
use statement::Question;

/// Bits of a row's number below its place in the order of creation.
const NORM_BITS: u32 = 8;
/// Records that hold a text, above which indexes are asked before records are read: asking one takes as long as reading
/// a few thousand.
const COMMON: u64 = 5_000;

/// Hits of a query that may be quick. 100: a page as most ask for it.
const QUICK_HITS: usize = 100;

/// How a collection is laid out, of the moment that is asked about.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Names its tables.
    pub(super) number: i64,
    /// Whether it has a text table.
    pub(super) full_text: bool,
    /// Numbers of its indexes, and what they are on.
    pub(super) indexes: Vec<(i64, Path)>,
    /// Records.
    pub(super) records: u64,
    /// Words in their texts.
    pub(super) words: u64,
}

impl Layout {
    fn indexed(&self, path: &Path) -> Option<Indexed> {
        self.indexes.iter().find(|(_, indexed)| indexed == path).and_then(|(_, path)| Indexed::new(path))
    }

    /// A statement of ours on the tables of the collection.
    fn sql(&self, template: &str) -> String {
        tables::fill(template, self.number)
    }
}

fn invalid(why: String) -> StoreError {
    StoreError::Invalid(why)
}

fn io(why: serde_json::Error) -> StoreError {
    StoreError::io(why)
}

/// Answers a question. The caller holds a read transaction, in which `layout` was read.
///
/// * `quick`: whether it is wanted only if it does not take long in one step.
/// * errors: `Invalid` for what is outside the bounds; `Deadline` for what is not quick and should be.
pub(super) fn query(connection: &Connection, layout: &Layout, query: &Query, quick: bool) -> Result<Page, StoreError> {
    if quick && (query.text.is_some() || query.nearest.is_some() || query.limit > QUICK_HITS) {
        return Err(StoreError::Deadline);
    }
    let question = question(connection, layout, query)?;
    if quick && question.looks_into_documents() {
        return Err(StoreError::Deadline);
    }
    let found = find::rows(connection, &question)?;
    let (hits, last) = read::records(connection, &question, &found.rows)?;
    let more = found.more || hits.len() < found.rows.len();
    let next = match hits.last() {
        Some(hit) if more && !question.walk.is_scored() => Some(read::position(connection, &question, last, hit)?),
        _ => None,
    };
    let total = if query.total { Some(find::total(connection, &question, found.all)?) } else { None };
    Ok(Page { hits, total, next })
}

/// What the rank of a text is worked out from in this collection.
///
/// * errors: as [`query`].
pub(super) fn text_stats(connection: &Connection, layout: &Layout, text: &Text) -> Result<TextStats, StoreError> {
    check::text_of(layout, text)?;
    let holding = layout.sql(include_str!("../../sql/holding.sql"));
    let mut holding = cached(connection, &holding)?;
    let held = text::phrases(text).into_iter().map(|phrase| {
        let count = holding.query_row([text::phrase(phrase)], |row| row.get::<_, i64>(0)).map_err(from_sqlite)?;
        Ok(u64::try_from(count).unwrap_or(0))
    });
    Ok(TextStats { records: layout.records, words: layout.words, holding: held.collect::<Result<_, StoreError>>()? })
}

/// Checks a query, and finds out what its statements need.
fn question<'q>(connection: &Connection, layout: &'q Layout, query: &'q Query) -> Result<Question<'q>, StoreError> {
    check::query(layout, query)?;
    let walk = Walk::new(layout, query)?;
    if query.after.is_some() && walk.is_scored() {
        return Err(invalid("an order by score has no pages to go on from".to_owned()));
    }
    let stats = match (&query.text, &query.stats) {
        (None, _) => TextStats::default(),
        (Some(_), Some(stats)) => stats.clone(),
        (Some(text), None) => text_stats(connection, layout, text)?,
    };
    let bytes = |vector: &Vec<f32>| vector.iter().copied().flat_map(f32::to_le_bytes).collect();
    Ok(Question {
        layout,
        query,
        walk,
        matching: query.text.as_ref().map(text::expression).transpose()?,
        weights: rank::weights(stats.records, stats.words, &stats.holding),
        wanted: query.nearest.as_ref().map(|nearest| bytes(&nearest.vector)),
        common: stats.holding.iter().fold(0, |sum: u64, held| sum.saturating_add(*held)) > COMMON,
    })
}
