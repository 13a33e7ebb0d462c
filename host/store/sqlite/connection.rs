//! One connection: its flags, its limits, its settings. Source: threats.md row B4.

use super::super::{StoreError, WRITE_MAX};
use super::fault::from_sqlite;
use super::functions;
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

const SETTINGS: &str = include_str!("../sql/connection.sql");
const READER: &str = include_str!("../sql/reader.sql");
const WRITER: &str = include_str!("../sql/writer.sql");

/// Prepared statements that a connection keeps. 128: a write to a collection takes up to ten.
const STATEMENTS: usize = 128;

/// A hardened connection that may write. The file must be there: SQLite would make it readable for others.
///
/// It does not checkpoint when it is closed, until it is [`trust`]ed: a file that is refused keeps its bytes.
pub(super) fn to_write(file: &Path, lock_patience: Duration) -> Result<Connection, StoreError> {
    let mut connection = open(file, OpenFlags::SQLITE_OPEN_READ_WRITE, lock_patience).map_err(from_sqlite)?;
    connection.execute_batch(WRITER).map_err(from_sqlite)?;
    connection.authorizer(Some(may_write)).map_err(from_sqlite)?;
    Ok(connection)
}

/// A hardened connection that can only read, from a database that is known to be ours.
pub(super) fn to_read(file: &Path, lock_patience: Duration) -> Result<Connection, StoreError> {
    let mut connection = open(file, OpenFlags::SQLITE_OPEN_READ_ONLY, lock_patience).map_err(from_sqlite)?;
    connection.execute_batch(READER).map_err(from_sqlite)?;
    functions::register(&connection).map_err(from_sqlite)?;
    connection.authorizer(Some(may_read)).map_err(from_sqlite)?;
    Ok(connection)
}

/// Asked when a statement is prepared: what the writer's may do.
fn may_write(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => Authorization::Deny,
        _ => Authorization::Allow,
    }
}

/// Asked when a statement is prepared: what a reader's may do.
fn may_read(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select
        | AuthAction::Read { .. }
        | AuthAction::Function { .. }
        | AuthAction::Recursive
        | AuthAction::Transaction { .. } => Authorization::Allow,
        // Text search asks it whether its index has changed.
        AuthAction::Pragma { pragma_name: "data_version", .. } => Authorization::Allow,
        // What a database takes is counted in pages: footprint.sql. None of these changes anything without a value.
        AuthAction::Pragma { pragma_name: "page_count" | "freelist_count" | "page_size", pragma_value: None } => {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}

/// Lets a connection write the log back into the database when it is closed, or forbids it.
pub(super) fn trust(connection: &Connection, trusted: bool) -> Result<(), StoreError> {
    let set = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !trusted);
    set.map(drop).map_err(from_sqlite)
}

fn open(file: &Path, mode: OpenFlags, lock_patience: Duration) -> rusqlite::Result<Connection> {
    let flags = mode
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(file, flags)?;
    harden(&connection)?;
    connection.busy_timeout(lock_patience)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch(SETTINGS)?;
    Ok(connection)
}

/// `load_extension()` is off in SQL unless it is switched on, which takes `unsafe`; a test holds that.
fn harden(connection: &Connection) -> rusqlite::Result<()> {
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false),
    ] {
        connection.set_db_config(setting, on)?;
    }
    // A row is what one write brings; 1 MiB is room for what comes with it.
    let row = i32::try_from(WRITE_MAX + 1024 * 1024).unwrap_or(i32::MAX);
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_LENGTH, row),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 64 * 1024),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 256),
        (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 2_000),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, most)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn opened() -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().canonicalize().unwrap().join("a.db");
        File::create(&file).unwrap();
        let connection = to_write(&file, Duration::ZERO).unwrap();
        (folder, connection)
    }

    #[test]
    fn settings_are_in_force() {
        let (_folder, connection) = opened();
        let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(number("PRAGMA synchronous"), 2);
        assert_eq!(number("PRAGMA cell_size_check"), 1);
        // Not even a number: there is no mapping at all, or one of no bytes.
        assert_eq!(connection.query_row("PRAGMA mmap_size", [], |row| row.get::<_, i64>(0)).unwrap_or(0), 0);
        assert_eq!(number("PRAGMA trusted_schema"), 0);
        assert_eq!(number("PRAGMA wal_autocheckpoint"), 0);
        assert!(connection.db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE).unwrap());
        assert_eq!(connection.limit(Limit::SQLITE_LIMIT_SQL_LENGTH).unwrap(), 65_536);
    }

    #[test]
    fn ways_out_of_the_file_are_shut() {
        let (folder, connection) = opened();
        let other = folder.path().join("other.db");
        let attach = format!("ATTACH '{}' AS other", other.display());
        for sql in [
            "SELECT load_extension('x')",
            &attach,
            "SELECT \"text\"",
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = ''",
        ] {
            assert!(connection.execute_batch(sql).is_err(), "{sql}");
        }
        assert!(!other.exists());
    }

    #[test]
    fn links_are_not_followed() {
        let (folder, connection) = opened();
        drop(connection);
        let link = folder.path().canonicalize().unwrap().join("b.db");
        std::os::unix::fs::symlink("a.db", &link).unwrap();
        assert!(to_write(&link, Duration::ZERO).is_err());
        assert!(to_read(&link, Duration::ZERO).is_err());
    }

    #[test]
    fn readers_cannot_write() {
        let (folder, writer) = opened();
        writer.execute_batch("CREATE TABLE t (x)").unwrap();
        let file = folder.path().canonicalize().unwrap().join("a.db");
        let reader = to_read(&file, Duration::ZERO).unwrap();
        for sql in [
            "INSERT INTO t VALUES (1)",
            "CREATE TEMP TABLE u (x)",
            "DROP TABLE t",
            "PRAGMA query_only = OFF",
            "PRAGMA user_version",
            "ATTACH ':memory:' AS other",
            "ANALYZE",
        ] {
            let refused = reader.execute_batch(sql).unwrap_err().to_string();
            assert!(refused.contains("not authorized"), "{sql}: {refused}");
        }
        reader.execute_batch("BEGIN; SELECT count(*) FROM t, json_each('[1]'); COMMIT").unwrap();
    }
}
