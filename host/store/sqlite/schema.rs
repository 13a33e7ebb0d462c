//! What a database looks like, and how one that is opened gets to look like it.

use super::super::StoreError;
use super::fault::from_sqlite;
use rusqlite::{Connection, TransactionBehavior};

/// One script per version, the first makes version 1. A script ends with setting `user_version` to its own. Scripts that
/// were released are never edited.
const MIGRATIONS: &[&str] = &[include_str!("../sql/v1.sql")];

const IDENTITY: &str = include_str!("../sql/identity.sql");
const CHECK: &str = include_str!("../sql/check.sql");
const JOURNAL: &str = include_str!("../sql/journal.sql");
const CHECKPOINT_ALL: &str = include_str!("../sql/checkpoint_all.sql");

/// "cllc", set by the first migration.
const APPLICATION: i64 = 1_668_050_019;

/// Checks the whole database and brings it to the newest version. Takes time in proportion to its size.
///
/// * errors: `Newer`, `Corrupt` before anything is changed, provided that `connection` does not checkpoint when it is closed.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    let version = version(connection)?;
    check(connection)?;
    let mode: String = connection.query_row(JOURNAL, [], |row| row.get(0)).map_err(from_sqlite)?;
    if mode != "wal" {
        return Err(StoreError::io(format!("journal mode is {mode}, not wal")));
    }
    for script in MIGRATIONS.get(version..).unwrap_or_default() {
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(from_sqlite)?;
        step.execute_batch(script).map_err(from_sqlite)?;
        step.commit().map_err(from_sqlite)?;
    }
    Ok(())
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

/// Moves the log into the database and empties it, so that nothing rests on pages of the log whose fsync failed, or that
/// a killed process never synced.
pub(super) fn empty_log(connection: &Connection) -> Result<(), StoreError> {
    let busy: i64 = connection.query_row(CHECKPOINT_ALL, [], |row| row.get(0)).map_err(from_sqlite)?;
    if busy == 0 { Ok(()) } else { Err(StoreError::Busy) }
}
