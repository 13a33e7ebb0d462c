//! What SQLite and the system say, in the store's words.

use super::super::StoreError;
use rusqlite::{CachedStatement, Connection, Error, ErrorCode};
use std::io::{self, ErrorKind};

/// An error of a statement or a connection.
pub(super) fn from_sqlite(why: Error) -> StoreError {
    match why.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreError::ReadOnly,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::corrupt(why),
        Some(ErrorCode::TooBig) => StoreError::Invalid("the write is too large".to_owned()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy,
        // By the progress handler of a reader.
        Some(ErrorCode::OperationInterrupted) => StoreError::Deadline,
        Some(_) => StoreError::io(why),
        // Not SQLite's codes but what the rows hold: not what we wrote.
        None if is_content(&why) => StoreError::corrupt(why),
        None => StoreError::io(why),
    }
}

/// A statement, prepared once per connection.
pub(super) fn cached<'a>(connection: &'a Connection, sql: &str) -> Result<CachedStatement<'a>, StoreError> {
    connection.prepare_cached(sql).map_err(from_sqlite)
}

/// An error of a file.
pub(super) fn from_system(why: io::Error) -> StoreError {
    match why.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full,
        // Out of threads or descriptors for now.
        ErrorKind::WouldBlock => StoreError::Busy,
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => StoreError::ReadOnly,
        _ => StoreError::io(why),
    }
}

fn is_content(why: &Error) -> bool {
    matches!(
        why,
        Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..)
            | Error::QueryReturnedNoRows
    )
}

/// Whether a connection that met this can be used again. What a failed fsync left behind is not known to it: nothing it
/// says afterwards can be relied on.
pub(super) fn poisons(why: &StoreError) -> bool {
    match why {
        StoreError::Corrupt(_) | StoreError::Io(_) | StoreError::Newer { .. } => true,
        StoreError::Busy
        | StoreError::Refused { .. }
        | StoreError::Over(_)
        | StoreError::Reused
        | StoreError::NoCollection
        | StoreError::CollectionExists
        | StoreError::Deadline
        | StoreError::Invalid(_)
        | StoreError::Full
        | StoreError::ReadOnly
        | StoreError::Closed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    #[test]
    fn codes_have_their_words() {
        let word = |code| from_sqlite(Error::SqliteFailure(ffi::Error::new(code), Some("/secret".to_owned())));
        assert!(matches!(word(ffi::SQLITE_FULL), StoreError::Full));
        assert!(matches!(word(ffi::SQLITE_READONLY), StoreError::ReadOnly));
        assert!(matches!(word(ffi::SQLITE_BUSY), StoreError::Busy));
        assert!(matches!(word(ffi::SQLITE_NOTADB), StoreError::Corrupt(_)));
        assert!(matches!(word(ffi::SQLITE_IOERR_FSYNC), StoreError::Io(_)));
        assert!(matches!(word(ffi::SQLITE_INTERRUPT), StoreError::Deadline));
        assert!(matches!(from_system(io::Error::from(ErrorKind::StorageFull)), StoreError::Full));
        assert!(matches!(from_system(io::Error::from(ErrorKind::ReadOnlyFilesystem)), StoreError::ReadOnly));
    }
}
