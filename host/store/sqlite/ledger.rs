//! What the writer keeps in memory of its database, so that a commit reads and writes it once, not once per job.
//!
//! It is what the database says after the last commit, and during a transaction what the next commit will make it say. A
//! transaction that failed takes its ledger with it; the next begins with a new one.

use super::super::{Footprint, StoreError};
use super::fault::{cached, from_sqlite};
use super::layout::{self, Entry};
use super::select::Layout;
use super::tables::Tables;
use crate::domain::Ceiling;
use rusqlite::{Connection, params};
use std::collections::HashMap;
use std::time::SystemTime;

const STAMP: &str = include_str!("../sql/stamp.sql");
const COUNT: &str = include_str!("../sql/count.sql");

/// What the writer knows.
#[derive(Debug)]
pub(super) struct Ledger {
    clock: Clock,
    collections: HashMap<String, Kept>,
    /// Names of writes that are remembered; `None`: not counted yet.
    pub(super) once: Option<i64>,
    /// What the database holds; `None`: to be read again.
    held: Option<Footprint>,
}

/// Gives out moments.
#[derive(Debug)]
pub(super) struct Clock {
    last: i64,
}

/// A collection as the writer knows it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) layout: Layout,
    pub(super) tables: Tables,
    pub(super) last_index: i64,
    sequence: i64,
    /// Last moment given out in it by this ledger.
    stamp: i64,
    /// Whether the database does not know yet.
    pub(super) changed: bool,
}

impl Ledger {
    /// What the database says.
    pub(super) fn open(connection: &Connection) -> Result<Self, StoreError> {
        let last = cached(connection, STAMP)?.query_row([], |row| row.get(0)).map_err(from_sqlite)?;
        Ok(Self { clock: Clock { last }, collections: HashMap::new(), once: None, held: None })
    }

    /// A collection, if there is one of this name, and the clock for it.
    pub(super) fn collection(
        &mut self,
        connection: &Connection,
        name: &str,
    ) -> Result<Option<(&mut Kept, &mut Clock)>, StoreError> {
        if !self.collections.contains_key(name) {
            let Some(entry) = layout::find(connection, name)? else { return Ok(None) };
            self.collections.insert(name.to_owned(), Kept::new(entry));
        }
        Ok(self.collections.get_mut(name).map(|kept| (kept, &mut self.clock)))
    }

    /// Whether there is room for more.
    ///
    /// * `more`: records and bytes that are to come; of those that are replaced the bytes count, until the next commit.
    /// * errors: `Over`. Who brings nothing is never over.
    pub(super) fn admit(
        &mut self,
        connection: &Connection,
        ceiling: Ceiling,
        more: Footprint,
    ) -> Result<(), StoreError> {
        if more == Footprint::default() || (ceiling.records == 0 && ceiling.mib == 0) {
            return Ok(());
        }
        let held = match self.held {
            Some(held) => held,
            None => layout::footprint(connection)?,
        };
        self.held = Some(held);
        let after = Footprint {
            records: held.records.saturating_add(more.records),
            bytes: held.bytes.saturating_add(more.bytes),
        };
        if let Some(over) = ceiling.over(after.records, after.bytes, more.records > 0) {
            return Err(StoreError::Over(over));
        }
        self.held = Some(after);
        Ok(())
    }

    /// The collection's entry in the database was changed by other ways than this: reads it again when it is needed.
    pub(super) fn forget(&mut self, name: &str) {
        self.collections.remove(name);
    }

    /// A moment that belongs to no collection.
    pub(super) fn stamp(&mut self) -> i64 {
        self.clock.stamp()
    }

    /// The last moment that was given out.
    pub(super) fn last(&self) -> i64 {
        self.clock.last
    }

    /// Writes what has changed. The last step before the commit.
    pub(super) fn save(&mut self, connection: &Connection) -> Result<(), StoreError> {
        self.held = None; // pages are counted anew
        for kept in self.collections.values_mut().filter(|kept| kept.changed) {
            let count = |number| i64::try_from(number).unwrap_or(i64::MAX);
            let Layout { number, records, words, .. } = kept.layout;
            cached(connection, COUNT)?
                .execute(params![number, count(records), count(words), kept.sequence, kept.stamp])
                .map_err(from_sqlite)?;
            kept.changed = false;
        }
        Ok(())
    }
}

impl Clock {
    /// Now, or the moment after the last where the clock has not moved on, or has jumped back.
    fn stamp(&mut self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        self.last = now.max(self.last.saturating_add(1));
        self.last
    }
}

impl Kept {
    fn new(Entry { layout, last_index, sequence }: Entry) -> Self {
        let tables = Tables::new(layout.number);
        Self { layout, tables, last_index, sequence, stamp: 0, changed: false }
    }

    /// A moment for a version of one of its records.
    pub(super) fn stamp(&mut self, clock: &mut Clock) -> i64 {
        self.stamp = clock.stamp();
        self.stamp
    }

    /// The next place in the order of creation.
    pub(super) fn place(&mut self) -> i64 {
        self.sequence += 1;
        self.sequence
    }

    /// Counts a record with so many words that comes instead of one with so many.
    pub(super) fn count(&mut self, gone: Option<u64>, come: Option<u64>) {
        let Layout { records, words, .. } = &mut self.layout;
        *records = records.saturating_add(u64::from(come.is_some())).saturating_sub(u64::from(gone.is_some()));
        *words = words.saturating_add(come.unwrap_or(0)).saturating_sub(gone.unwrap_or(0));
        self.changed = true;
    }
}
