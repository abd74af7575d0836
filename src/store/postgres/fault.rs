//! What an error of PostgreSQL means for the store.

use tokio_postgres::{
    Error,
    error::{DbError, SqlState},
};

use super::connect::{ConnectError, Reason};
use crate::store::StoreError;

/// Of a statement whose transaction is gone with it: nothing was stored.
pub(super) fn of(error: &Error) -> StoreError {
    let reason = Reason::of(error).to_string();
    let Some(code) = error.as_db_error().map(DbError::code) else {
        return match is_of_the_connection(error) {
            true => StoreError::Unavailable(reason),
            false => StoreError::Failed(reason),
        };
    };
    if is_conflict(code) {
        return StoreError::Conflict(reason);
    }
    if is_away(code) {
        return StoreError::Unavailable(reason);
    }
    match code {
        code if is_of_a_pooler(code) => StoreError::Failed(format!(
            "{reason}: a pooler stands in between that loses prepared statements; have it pool sessions, or use PgBouncer 1.21 or newer with max_prepared_statements"
        )),
        code if *code == SqlState::DISK_FULL => StoreError::Full,
        code if matches!(&code.code()[..2], "XX") => StoreError::Corrupt(reason),
        _ => StoreError::Failed(reason),
    }
}

/// Of COMMIT itself: unless the server says that it did not, it may have.
pub(super) fn of_commit(error: &Error) -> StoreError {
    match of(error) {
        StoreError::Unavailable(reason) | StoreError::Failed(reason) => {
            StoreError::OutcomeUnknown(reason)
        }
        known => known,
    }
}

/// Whether a row had no partition to go to.
pub(super) fn has_no_partition(error: &Error) -> bool {
    error.code() == Some(&SqlState::CHECK_VIOLATION)
}

/// What the library says of a statement or a value is not about the connection.
fn is_of_the_connection(error: &Error) -> bool {
    let is_wire = |source: &(dyn std::error::Error + 'static)| source.is::<std::io::Error>();
    error.is_closed() || std::error::Error::source(error).is_some_and(is_wire)
}

/// Others were at the same; the whole transaction can be tried again.
fn is_conflict(code: &SqlState) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::UNIQUE_VIOLATION,
        // The range of new jobs has just been made.
        SqlState::CHECK_VIOLATION,
        // We were slow, and lost what we had locked.
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ]
    .contains(code)
}

/// A statement that was prepared is not there, or there twice: it was prepared on another connection.
fn is_of_a_pooler(code: &SqlState) -> bool {
    [
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::DUPLICATE_PSTATEMENT,
    ]
    .contains(code)
}

/// The server starts, stops, has no room for us, or is not the one that may write any more.
fn is_away(code: &SqlState) -> bool {
    code.code().starts_with("08")
        || [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::DATABASE_DROPPED,
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ]
        .contains(code)
}

impl From<ConnectError> for StoreError {
    fn from(error: ConnectError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// For `?`; a commit says `of_commit` instead.
impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        of(&error)
    }
}
