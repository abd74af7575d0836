//! What an error of SQLite means for the store.

use rusqlite::{Error, ErrorCode, ffi};

use crate::store::StoreError;

/// Outside of a commit: nothing was stored.
fn outside_commit(error: Error) -> StoreError {
    match code(&error) {
        Some((_, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)) => fsync_failed(&error),
        Some((ErrorCode::DiskFull, _)) => StoreError::Full,
        Some((ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)) => {
            StoreError::Corrupt(error.to_string())
        }
        _ => StoreError::Failed(error.to_string()),
    }
}

/// From COMMIT itself: once the first page is on its way to the disk, an I/O error says nothing about how much arrived.
pub(super) fn in_commit(error: Error) -> StoreError {
    match code(&error) {
        Some((_, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)) => fsync_failed(&error),
        Some((ErrorCode::SystemIoFailure, _)) => StoreError::OutcomeUnknown(error.to_string()),
        _ => outside_commit(error),
    }
}

/// After a failed fsync the kernel may have dropped the pages and will not say so again, so nothing that follows could be trusted.
fn fsync_failed(error: &Error) -> StoreError {
    StoreError::Fatal(format!(
        "the disk did not confirm a write ({error}); check the disk, then start the server again"
    ))
}

fn code(error: &Error) -> Option<(ErrorCode, i32)> {
    match error {
        Error::SqliteFailure(failure, _) => Some((failure.code, failure.extended_code)),
        _ => None,
    }
}

/// For `?`; a commit says `in_commit` instead.
impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        outside_commit(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(extended: i32) -> Error {
        Error::SqliteFailure(ffi::Error::new(extended), None)
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        for classify in [outside_commit, in_commit] {
            assert!(matches!(
                classify(failure(ffi::SQLITE_FULL)),
                StoreError::Full
            ));
            assert!(matches!(
                classify(failure(ffi::SQLITE_CORRUPT)),
                StoreError::Corrupt(_)
            ));
            assert!(matches!(
                classify(failure(ffi::SQLITE_IOERR_FSYNC)),
                StoreError::Fatal(_)
            ));
        }
    }

    #[test]
    fn a_failed_write_is_unknown_only_in_a_commit() {
        let write = || failure(ffi::SQLITE_IOERR_WRITE);
        assert!(matches!(in_commit(write()), StoreError::OutcomeUnknown(_)));
        assert!(matches!(outside_commit(write()), StoreError::Failed(_)));
    }
}
