//! What a database looks like, and how one that is opened gets to look like it.

use super::super::StoreError;
use super::fault::from_sqlite;
use super::migrate;
use super::tables;
use rusqlite::{Connection, TransactionBehavior};

/// What brings a database to the next version, in one transaction.
struct Migration {
    /// Ends with setting `user_version`. Scripts that were released are never edited.
    script: &'static str,
    /// What no script can do, after it.
    then: fn(&Connection) -> Result<(), StoreError>,
}

/// One per version, the first makes version 1.
const MIGRATIONS: &[Migration] = &[
    Migration { script: include_str!("../sql/v1.sql"), then: |_| Ok(()) },
    Migration { script: include_str!("../sql/v2.sql"), then: migrate::to_tables_of_their_own },
];

const IDENTITY: &str = include_str!("../sql/identity.sql");
const CHECK: &str = include_str!("../sql/check.sql");
const NUMBERS: &str = include_str!("../sql/numbers.sql");
const CHECK_INDEXES: &str = include_str!("../sql/check_indexes.sql");
const JOURNAL: &str = include_str!("../sql/journal.sql");
const CHECKPOINT_ALL: &str = include_str!("../sql/checkpoint_all.sql");

/// "cllc", set by the first migration.
const APPLICATION: i64 = 1_668_050_019;

/// Checks the database and brings it to the newest version. Takes time in proportion to its size, unless it is `sound`:
/// this process has checked it before, and closed it with nothing amiss.
///
/// * errors: `Newer`, `Corrupt` before anything is changed, provided that `connection` does not checkpoint when it is closed.
pub(super) fn prepare(connection: &mut Connection, sound: bool) -> Result<(), StoreError> {
    let version = version(connection)?;
    if !sound {
        check(connection)?;
    }
    let mode: String = connection.query_row(JOURNAL, [], |row| row.get(0)).map_err(from_sqlite)?;
    if mode != "wal" {
        return Err(StoreError::io(format!("journal mode is {mode}, not wal")));
    }
    for migration in MIGRATIONS.get(version..).unwrap_or_default() {
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(from_sqlite)?;
        step.execute_batch(migration.script).map_err(from_sqlite)?;
        (migration.then)(&step)?;
        step.commit().map_err(from_sqlite)?;
    }
    if !sound { check_indexes(connection) } else { Ok(()) }
}

/// The version in the file, by number of migrations it has seen.
fn version(connection: &Connection) -> Result<usize, StoreError> {
    let columns = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let (found, application, things): (i64, i64, i64) =
        connection.query_row(IDENTITY, [], columns).map_err(from_sqlite)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    let fresh = found == 0 && application == 0 && things == 0;
    match usize::try_from(found) {
        Ok(version) if fresh || (version > 0 && application == APPLICATION) => Ok(version),
        _ => Err(StoreError::corrupt("a database, but none of this program's")),
    }
}

fn check(connection: &Connection) -> Result<(), StoreError> {
    let finding: String = connection.query_row(CHECK, [], |row| row.get(0)).map_err(from_sqlite)?;
    if finding == "ok" { Ok(()) } else { Err(StoreError::corrupt(finding)) }
}

/// Whether every record is in its indexes, and nothing else: what [`CHECK`] leaves out. Not of texts: that takes minutes.
fn check_indexes(connection: &Connection) -> Result<(), StoreError> {
    let numbers = {
        let mut statement = connection.prepare(NUMBERS).map_err(from_sqlite)?;
        let numbers = statement.query_map([], |row| row.get::<_, i64>(0)).map_err(from_sqlite)?;
        numbers.collect::<rusqlite::Result<Vec<_>>>().map_err(from_sqlite)?
    };
    for number in numbers {
        let check = tables::fill(CHECK_INDEXES, number);
        let finding: String = connection.query_row(&check, [], |row| row.get(0)).map_err(from_sqlite)?;
        if finding != "ok" {
            return Err(StoreError::corrupt(finding));
        }
    }
    Ok(())
}

/// Moves the log into the database and empties it, so that nothing rests on pages of the log whose fsync failed, or that
/// a killed process never synced.
pub(super) fn empty_log(connection: &Connection) -> Result<(), StoreError> {
    let busy: i64 = connection.query_row(CHECKPOINT_ALL, [], |row| row.get(0)).map_err(from_sqlite)?;
    if busy == 0 { Ok(()) } else { Err(StoreError::Busy) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_version_has_a_database_that_it_made() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store");
        for version in 1..=MIGRATIONS.len() {
            let file = folder.join(format!("v{version}.db"));
            assert!(file.is_file(), "{} is missing: tests/upgrade.rs says how it is made", file.display());
        }
    }
}
