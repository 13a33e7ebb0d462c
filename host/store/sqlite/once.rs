//! Writes that are not to be made twice.

use super::super::{Done, ONCE_KEPT, Once, Refusal, StoreError, Written};
use super::fault::{cached, from_sqlite};
use super::ledger::Ledger;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

const FIND: &str = include_str!("../sql/once_find.sql");
const ADD: &str = include_str!("../sql/once_add.sql");
const COUNT: &str = include_str!("../sql/once_count.sql");
const PRUNE: &str = include_str!("../sql/once_prune.sql");
const TRIM: &str = include_str!("../sql/once_trim.sql");

/// Most writes that are remembered in one namespace; the oldest are forgotten first. 100,000: one a second for a day.
pub(super) const ONCE_MAX: i64 = 100_000;

/// What became of a write that was made before.
///
/// * errors: `Reused`.
pub(super) fn find(connection: &Connection, once: Option<&Once>) -> Result<Option<Done>, StoreError> {
    let Some(Once { key, fingerprint }) = once else { return Ok(None) };
    let columns = |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?));
    let found = cached(connection, FIND)?.query_row([key], columns).optional().map_err(from_sqlite)?;
    let Some((made, outcomes)) = found else { return Ok(None) };
    if made != fingerprint {
        return Err(StoreError::Reused);
    }
    let outcomes: Vec<Result<Written, Refusal>> = serde_json::from_slice(&outcomes).map_err(StoreError::corrupt)?;
    Ok(Some(Done { outcomes, replayed: true }))
}

/// Remembers what became of a write, and forgets what is too old or too much.
pub(super) fn remember(
    connection: &Connection,
    ledger: &mut Ledger,
    once: Option<&Once>,
    done: &Done,
) -> Result<(), StoreError> {
    let Some(Once { key, fingerprint }) = once else { return Ok(()) };
    let outcomes = serde_json::to_vec(&done.outcomes).map_err(StoreError::io)?;
    let at = ledger.stamp();
    cached(connection, ADD)?.execute(params![at, key, fingerprint, outcomes]).map_err(from_sqlite)?;
    let kept = match ledger.once {
        Some(before) => before + 1,
        None => cached(connection, COUNT)?.query_row([], |row| row.get(0)).map_err(from_sqlite)?,
    };
    let oldest = at.saturating_sub(i64::try_from(ONCE_KEPT.as_micros()).unwrap_or(i64::MAX));
    let mut gone = cached(connection, PRUNE)?.execute([oldest]).map_err(from_sqlite)?;
    let left = kept - i64::try_from(gone).unwrap_or(kept);
    if left > ONCE_MAX {
        gone = cached(connection, TRIM)?.execute([left - ONCE_MAX]).map_err(from_sqlite)?;
    } else {
        gone = 0;
    }
    ledger.once = Some(left - i64::try_from(gone).unwrap_or(left));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{connection, schema};
    use super::*;
    use std::time::Duration;

    fn database() -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().canonicalize().unwrap().join("a.db");
        std::fs::File::create(&file).unwrap();
        let mut connection = connection::to_write(&file, Duration::ZERO).unwrap();
        schema::prepare(&mut connection, false).unwrap();
        (folder, connection)
    }

    fn named(key: &str) -> Once {
        Once { key: key.to_owned(), fingerprint: [1; 32] }
    }

    fn is_known(connection: &Connection, key: &str) -> bool {
        find(connection, Some(&named(key))).unwrap().is_some()
    }

    /// Puts in a name of this moment.
    fn add(connection: &Connection, at: i64) {
        connection.execute(ADD, params![at, at.to_string(), [1_u8; 32], b"[]"]).unwrap();
    }

    #[test]
    fn names_are_forgotten_after_their_time() {
        let (_folder, connection) = database();
        let done = Done { outcomes: vec![Ok(Written::Deleted), Err(Refusal::Missing)], replayed: false };
        let now = Ledger::open(&connection).unwrap().stamp();
        let kept = i64::try_from(ONCE_KEPT.as_micros()).unwrap();
        let (old, young) = (now - kept - 1, now - kept + 60_000_000);
        for at in [old, young] {
            add(&connection, at);
        }
        let mut ledger = Ledger::open(&connection).unwrap();
        remember(&connection, &mut ledger, Some(&named("new")), &done).unwrap();
        assert!(!is_known(&connection, &old.to_string()) && is_known(&connection, &young.to_string()));
        let again = find(&connection, Some(&named("new"))).unwrap().unwrap();
        assert_eq!(again, Done { replayed: true, ..done });
        assert_eq!(ledger.once, Some(2));
    }

    #[test]
    fn the_oldest_are_forgotten_where_there_are_too_many() {
        let (_folder, connection) = database();
        let mut ledger = Ledger::open(&connection).unwrap();
        let first = ledger.stamp() - 60_000_000;
        connection.execute_batch("BEGIN").unwrap();
        for number in 0..ONCE_MAX {
            add(&connection, first + number);
        }
        let done = Done { outcomes: Vec::new(), replayed: false };
        for key in ["one", "two"] {
            remember(&connection, &mut ledger, Some(&named(key)), &done).unwrap();
        }
        assert_eq!(ledger.once, Some(ONCE_MAX));
        assert_eq!(connection.query_row(COUNT, [], |row| row.get::<_, i64>(0)).unwrap(), ONCE_MAX);
        assert!(!is_known(&connection, &(first + 1).to_string()) && is_known(&connection, &(first + 2).to_string()));
        assert!(is_known(&connection, "one") && is_known(&connection, "two"));
    }
}
