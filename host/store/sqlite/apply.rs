//! One write, in the transaction of its batch: first it is worked out what each change comes to, then all of them are
//! made. What is refused is refused before anything is touched, so that no job needs a savepoint: text search would
//! write out what it has gathered at every one of them.

use super::super::{Change, Done, Expect, Footprint, Indexed, Refusal, StoreError, Write, Written};
use super::fault::{cached, from_sqlite};
use super::ledger::{Clock, Kept, Ledger};
use super::norm::{norm, words};
use super::once;
use super::row::{self, Sealed};
use crate::domain::Ceiling;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::collections::HashMap;

/// A record as a change finds it.
#[derive(Debug, Clone)]
struct Found {
    row: i64,
    words: u64,
    created_at: i64,
    updated_at: i64,
    /// JSON; not looked up where the change brings its own.
    labels: Option<String>,
    /// Of a new version.
    seal: i64,
}

/// What a change comes to.
enum Step {
    /// Nothing is to be done.
    Nothing,
    /// The record is gone.
    Remove(Found),
    /// The record that was there, if there was one, is this one.
    Put { old: Option<Found>, new: Found },
    /// The record that was there stays, and queries see something else of it.
    Index { old: Found, new: Found },
}

/// What the earlier changes of the same write leave behind.
type Left<'a> = HashMap<(&'a str, &'a str), Option<Found>>;

/// Makes the write, or refuses it and changes nothing.
///
/// * `ceiling`: how much the namespace may keep.
/// * errors: `Refused`, `Reused`, `Over` for the write; others for the whole transaction.
pub(super) fn write(
    connection: &Connection,
    ledger: &mut Ledger,
    write: &Write,
    ceiling: Ceiling,
) -> Result<Done, StoreError> {
    if let Some(done) = once::find(connection, write.once.as_ref())? {
        return Ok(done);
    }
    let mut left = Left::new();
    let mut outcomes = Vec::with_capacity(write.changes.len());
    let mut steps = Vec::with_capacity(write.changes.len());
    for (index, change) in write.changes.iter().enumerate() {
        let (collection, id) = change.name();
        let planned = match ledger.collection(connection, collection)? {
            Some((kept, clock)) => plan(connection, kept, clock, &left, change)?,
            None => Err(Refusal::NoCollection),
        };
        match planned {
            Ok((step, written)) => {
                if write.changes.len() > 1 {
                    step.leave(&mut left, collection, id);
                }
                steps.push((change, step));
                outcomes.push(Ok(written));
            }
            Err(why) if write.apart => outcomes.push(Err(why)),
            Err(why) => {
                return Err(StoreError::Refused { index, collection: collection.to_owned(), id: id.to_owned(), why });
            }
        }
    }
    ledger.admit(connection, ceiling, grown(&steps))?;
    for (change, step) in steps {
        if let Some((kept, _)) = ledger.collection(connection, change.name().0)? {
            make(connection, kept, change, step)?;
        }
    }
    let done = Done { outcomes, replayed: false };
    once::remember(connection, ledger, write.once.as_ref(), &done)?;
    Ok(done)
}

/// Records and bytes that the steps bring.
fn grown(steps: &[(&Change, Step)]) -> Footprint {
    let mut grown = Footprint::default();
    for (change, step) in steps {
        match step {
            Step::Put { old, .. } => {
                grown.records = grown.records.saturating_add(u64::from(old.is_none()));
                grown.bytes = grown.bytes.saturating_add(change.size() as u64);
            }
            Step::Remove(_) => grown.records = grown.records.saturating_sub(1),
            Step::Index { .. } | Step::Nothing => {}
        }
    }
    grown
}

type Planned = Result<(Step, Written), Refusal>;

fn plan(
    connection: &Connection,
    kept: &mut Kept,
    clock: &mut Clock,
    left: &Left<'_>,
    change: &Change,
) -> Result<Planned, StoreError> {
    let old = match left.get(&change.name()) {
        Some(found) => found.clone(),
        None => find(connection, kept, change)?,
    };
    if let Some(why) = refusal(change, old.as_ref()) {
        return Ok(Err(why));
    }
    let indexed = change.indexed();
    let words = indexed.filter(|_| kept.layout.full_text).map_or(0, |indexed| words(&indexed.text));
    let norm = if kept.layout.full_text { i64::from(norm(words)) } else { 0 };
    Ok(Ok(match (change, old) {
        (Change::Put { id, type_url, bytes, labels, .. }, old) => {
            let place = old.as_ref().map_or_else(|| kept.place(), |old| old.row >> 8);
            let updated_at = kept.stamp(clock);
            let created_at = old.as_ref().map_or(updated_at, |old| old.created_at);
            let text = match labels {
                Some(labels) if labels.is_empty() => None,
                Some(labels) => Some(serde_json::to_string(labels).map_err(StoreError::io)?),
                None => old.as_ref().and_then(|old| old.labels.clone()),
            };
            let labels = match labels {
                Some(labels) => labels.clone(),
                None => row::labels(text.as_deref())?,
            };
            let revision = u64::try_from(updated_at).map_err(StoreError::corrupt)?;
            let seal = Sealed { id, type_url, bytes, labels: &labels, created_at, updated_at }.seal();
            let written = Written::Put { id: id.clone(), revision, created_at, updated_at, labels };
            let new = Found { row: place << 8 | norm, words, created_at, updated_at, labels: text, seal };
            (Step::Put { old, new }, written)
        }
        (Change::Delete { .. }, Some(old)) => (Step::Remove(old), Written::Deleted),
        (Change::Index { revision, .. }, Some(old)) if is_revision(&old, *revision) => {
            let new = Found { row: old.row >> 8 << 8 | norm, words, ..old.clone() };
            (Step::Index { old, new }, Written::Indexed)
        }
        (Change::Delete { .. } | Change::Index { .. }, _) => (Step::Nothing, Written::Absent),
    }))
}

fn find(connection: &Connection, kept: &Kept, change: &Change) -> Result<Option<Found>, StoreError> {
    let own = matches!(change, Change::Put { labels: Some(_), .. } | Change::Delete { .. });
    let found = |row: &Row<'_>| {
        let words: i64 = row.get(1)?;
        let words = u64::try_from(words).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(1, words))?;
        let (created_at, updated_at) = (row.get(2)?, row.get(3)?);
        Ok(Found { row: row.get(0)?, words, created_at, updated_at, labels: row.get(4)?, seal: 0 })
    };
    let (_, id) = change.name();
    cached(connection, &kept.tables.current)?.query_row(params![id, !own], found).optional().map_err(from_sqlite)
}

fn refusal(change: &Change, found: Option<&Found>) -> Option<Refusal> {
    let (Change::Put { expect, .. } | Change::Delete { expect, .. }) = change else { return None };
    match (expect, found) {
        (Expect::Any, _) | (Expect::Absent, None) | (Expect::Present, Some(_)) => None,
        (Expect::Absent, Some(_)) => Some(Refusal::Exists),
        (Expect::Present | Expect::Revision(_), None) => Some(Refusal::Missing),
        (Expect::Revision(wanted), Some(found)) => (!is_revision(found, *wanted)).then_some(Refusal::Changed),
    }
}

fn is_revision(found: &Found, wanted: u64) -> bool {
    u64::try_from(found.updated_at) == Ok(wanted)
}

impl Step {
    fn leave<'a>(&self, left: &mut Left<'a>, collection: &'a str, id: &'a str) {
        let found = match self {
            Self::Nothing => return,
            Self::Remove(_) => None,
            Self::Put { new, .. } | Self::Index { new, .. } => Some(new.clone()),
        };
        left.insert((collection, id), found);
    }
}

fn make(connection: &Connection, kept: &mut Kept, change: &Change, step: Step) -> Result<(), StoreError> {
    match (step, change) {
        (Step::Put { old, new }, Change::Put { id, type_url, bytes, indexed, .. }) => {
            let document = indexed.as_ref().map(|indexed| indexed.document.as_str());
            let Found { row, words, created_at, updated_at, labels, seal } = &new;
            let (tables, words) = (&kept.tables, signed(*words));
            match &old {
                None => execute(
                    connection,
                    &tables.insert,
                    params![row, id, type_url, created_at, updated_at, words, seal, labels, document, bytes.as_ref()],
                )?,
                Some(old) if old.row == *row => execute(
                    connection,
                    &tables.replace,
                    params![row, type_url, updated_at, words, seal, labels, document, bytes.as_ref()],
                )?,
                Some(old) => execute(
                    connection,
                    &tables.relocate,
                    params![old.row, type_url, updated_at, words, seal, labels, document, bytes.as_ref(), row],
                )?,
            }
            search(connection, kept, old.as_ref(), Some(&new), indexed.as_deref())
        }
        (Step::Index { old, new }, Change::Index { indexed, .. }) => {
            let document = indexed.as_ref().map(|indexed| indexed.document.as_str());
            execute(connection, &kept.tables.index, params![old.row, new.row, signed(new.words), document])?;
            search(connection, kept, Some(&old), Some(&new), indexed.as_deref())
        }
        (Step::Remove(old), _) => {
            execute(connection, &kept.tables.delete, params![old.row])?;
            search(connection, kept, Some(&old), None, None)
        }
        _ => Ok(()),
    }
}

/// What lies beside the rows: texts, vectors, counters.
fn search(
    connection: &Connection,
    kept: &mut Kept,
    old: Option<&Found>,
    new: Option<&Found>,
    indexed: Option<&Indexed>,
) -> Result<(), StoreError> {
    kept.count(old.map(|old| old.words), new.map(|new| new.words));
    let tables = &kept.tables;
    if let Some(old) = old {
        execute(connection, &tables.vector_delete, params![old.row])?;
        if kept.layout.full_text {
            execute(connection, &tables.text_delete, params![old.row])?;
        }
    }
    let (Some(new), Some(indexed)) = (new, indexed) else { return Ok(()) };
    if kept.layout.full_text && !indexed.text.is_empty() {
        execute(connection, &tables.text_put, params![new.row, indexed.text])?;
    }
    if let Some(vector) = &indexed.vector {
        let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        execute(connection, &tables.vector_put, params![new.row, bytes])?;
    }
    Ok(())
}

fn execute(connection: &Connection, sql: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<(), StoreError> {
    cached(connection, sql)?.execute(parameters).map(drop).map_err(from_sqlite)
}

fn signed(words: u64) -> i64 {
    i64::try_from(words).unwrap_or(i64::MAX)
}
