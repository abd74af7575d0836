//! What an error of PostgreSQL means for the store.

use tokio_postgres::{
    Error,
    error::{Severity, SqlState},
};

use super::connect::{ConnectError, Reason};
use crate::store::StoreError;

/// Of a statement whose transaction is gone with it: nothing was stored.
pub(super) fn of(error: &Error) -> StoreError {
    let reason = Reason::of(error).to_string();
    match error.code() {
        Some(code) => of_code(code, reason),
        None if is_of_the_connection(error) => StoreError::Unavailable(reason),
        None => StoreError::Failed(reason),
    }
}

fn of_code(code: &SqlState, reason: String) -> StoreError {
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
        // By its limit of time: it is there, and has much to do.
        code if *code == SqlState::QUERY_CANCELED => {
            StoreError::Busy(format!("{reason}: see why the database is slow"))
        }
        code if *code == SqlState::DISK_FULL => StoreError::Full,
        // Not the rest of its class: that is anything that should not have happened.
        code if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code) => {
            StoreError::Corrupt(reason)
        }
        _ => StoreError::Failed(reason),
    }
}

/// Of what was sent with COMMIT at once behind it: what the server minded it has not committed; what the wire swallowed it may have.
pub(super) fn before_commit(error: &Error) -> StoreError {
    let said = error.as_db_error();
    let is_final = said.is_some_and(|said| is_final(said.code(), said.parsed_severity()));
    match is_final {
        true => of(error),
        false => of_commit(error),
    }
}

/// Whether it is the word of the server on this statement. What ends a connection may come from something in between that has lost the server, after
/// that has taken all.
fn is_final(code: &SqlState, severity: Option<Severity>) -> bool {
    // This one the server sends while nothing is under way.
    *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        || (matches!(severity, Some(Severity::Error))
            && *code != SqlState::INTERNAL_ERROR
            && !code.code().starts_with("08"))
}

/// Of COMMIT itself: unless the server says that it did not, it may have.
pub(super) fn of_commit(error: &Error) -> StoreError {
    match of(error) {
        StoreError::Unavailable(reason) | StoreError::Failed(reason) | StoreError::Busy(reason) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_so_is_corrupt() {
        let of = |code: &str| of_code(&SqlState::from_code(code), "why".into());
        assert!(matches!(of("XX001"), StoreError::Corrupt(_)));
        assert!(matches!(of("XX002"), StoreError::Corrupt(_)));
        for code in ["XX000", "XX099", "X", "", "42P01"] {
            assert!(matches!(of(code), StoreError::Failed(_)), "{code:?}");
        }
        assert!(matches!(of("08006"), StoreError::Unavailable(_)));
    }

    #[test]
    fn a_statement_that_took_too_long_costs_no_connection() {
        let of = |code: &str| of_code(&SqlState::from_code(code), "why".into());
        assert!(matches!(of("57014"), StoreError::Busy(_)));
        assert!(matches!(of("57000"), StoreError::Failed(_)));
    }

    #[test]
    fn what_ends_a_connection_says_nothing_of_the_commit_behind_it() {
        let is_final = |code, severity| is_final(&SqlState::from_code(code), severity);
        for code in ["23505", "42P01", "57014", "XX001"] {
            assert!(is_final(code, Some(Severity::Error)), "{code}");
            assert!(!is_final(code, Some(Severity::Fatal)), "{code}");
            assert!(!is_final(code, None), "{code}");
        }
        for code in ["08006", "08P01", "XX000"] {
            assert!(!is_final(code, Some(Severity::Error)), "{code}");
        }
        assert!(!is_final("57P01", Some(Severity::Fatal)));
        assert!(is_final("25P03", Some(Severity::Fatal)));
    }
}
