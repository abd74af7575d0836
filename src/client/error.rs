//! What can go wrong between a client and a server, said so that a person knows what to do and a program what to branch on.

use std::{error::Error as _, fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::{FieldViolation, StatusExt as _};

use super::tls::{self, TlsError};

/// Why a call, a watch or a connection failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The text is not the address of a server.
    #[error(
        "`{endpoint}` is not the address of a server: {reason}; write it like http://127.0.0.1:7070"
    )]
    InvalidEndpoint {
        /// The text.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What was to be trusted or shown can not be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The credential can not be sent in a header.
    #[error(
        "the API key is empty, or has spaces or characters that no key has; is it whole, and on one line?"
    )]
    InvalidApiKey,
    /// The credential would go through the network as it is.
    #[error(
        "the API key was not sent to {endpoint}: everybody on the way could read it; write https://, or, where the way is safe, say so with --insecure"
    )]
    Exposed {
        /// The address.
        endpoint: String,
    },
    /// Nothing that speaks our protocol, and can be trusted, answers at the address.
    #[error(
        "can't connect to {endpoint}: {}{}",
        root_cause(source),
        advice(source)
    )]
    Connect {
        /// The address.
        endpoint: String,
        /// What the transport says.
        source: tonic::transport::Error,
    },
    /// The server's answer was an error, or the connection broke.
    #[error("{}", Described(.0))]
    Status(#[from] Status),
    /// Neither an update nor a heartbeat arrived for so long that the connection counts as dead.
    #[error("nothing heard from the server for {} s", .0.as_secs())]
    Silent(Duration),
    /// A stream ended as if all were well before it was complete.
    #[error("the server ended the stream before its end")]
    EndedEarly,
    /// The revisions of a watch do not follow one another: something was lost or repeated, and the server is at fault.
    #[error(
        "job {job_id}: the watch was at revision {known}, and the next message stands for {from_revision} (exclusive) to {revision}; please report this"
    )]
    Gap {
        /// The job.
        job_id: String,
        /// The newest revision known before the message.
        known: u64,
        /// Where the message's range begins, exclusive.
        from_revision: u64,
        /// Where the message's range ends, inclusive.
        revision: u64,
    },
    /// An answer lacks what the protocol says it has.
    #[error("the server sent {0}; is it a newer or older version than this client?")]
    Malformed(&'static str),
}

impl ClientError {
    /// The gRPC status, if there is one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            Self::InvalidEndpoint { .. }
            | Self::Tls(_)
            | Self::InvalidApiKey
            | Self::Exposed { .. }
            | Self::Connect { .. }
            | Self::Silent(_)
            | Self::EndedEarly
            | Self::Gap { .. }
            | Self::Malformed(_) => None,
        }
    }

    /// Longhaul's own machine-readable reason, such as `JOB_NOT_FOUND`, if the server gave one.
    pub fn reason(&self) -> Option<String> {
        let info = self.status()?.get_details_error_info()?;
        (!info.reason.is_empty()).then_some(info.reason)
    }

    /// The fields that the server did not accept, if that is what the error is about.
    pub fn field_violations(&self) -> Vec<FieldViolation> {
        self.status()
            .and_then(|status| status.get_details_bad_request())
            .map(|bad_request| bad_request.field_violations)
            .unwrap_or_default()
    }

    /// How long the server asks to wait before the next try, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        self.status()?.get_details_retry_info()?.retry_delay
    }

    /// Whether the server could not be reached, as opposed to having answered.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Silent(_) => true,
            Self::Status(status) => broke_on_the_way(status),
            Self::InvalidEndpoint { .. }
            | Self::Tls(_)
            | Self::InvalidApiKey
            | Self::Exposed { .. }
            | Self::EndedEarly
            | Self::Gap { .. }
            | Self::Malformed(_) => false,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            _ if self.is_distrust() => false,
            Self::Connect { .. } | Self::Silent(_) | Self::EndedEarly => true,
            Self::Status(status) => broke_on_the_way(status) || may_succeed_later(status),
            Self::InvalidEndpoint { .. }
            | Self::Tls(_)
            | Self::InvalidApiKey
            | Self::Exposed { .. }
            | Self::Gap { .. }
            | Self::Malformed(_) => false,
        }
    }

    /// Whether the server was reached, but one did not come to trust the other: TLS, and certificates.
    pub fn is_distrust(&self) -> bool {
        tls::is_distrust(self)
    }
}

/// A status that the server sent has no source; one that stands for a broken connection has, and then its code says little: it may even be NOT_FOUND or
/// INTERNAL, after whatever the transport met.
fn broke_on_the_way(status: &Status) -> bool {
    status.source().is_some()
}

fn may_succeed_later(status: &Status) -> bool {
    match status.code() {
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss => false,
        Code::ResourceExhausted => status.get_details_retry_info().is_some(),
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable => true,
    }
}

/// A status as a sentence: the message, the reason, and each bad field.
struct Described<'a>(&'a Status);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        if let Some(source) = status.source() {
            let cause = root_cause(source);
            return write!(f, "the connection to the server failed: {cause}");
        }
        if status.message().is_empty() {
            f.write_str(status.code().description())?;
        } else {
            f.write_str(status.message())?;
        }
        for violation in status
            .get_details_bad_request()
            .into_iter()
            .flat_map(|bad_request| bad_request.field_violations)
        {
            write!(f, "\n  {}: {}", violation.field, violation.description)?;
        }
        Ok(())
    }
}

/// What to look at, unless the cause says that itself.
fn advice(error: &(dyn std::error::Error + 'static)) -> &'static str {
    match tls::is_distrust(error) {
        true => "",
        false => "; is the server running (`longhaul serve`), and is the address right?",
    }
}

/// The innermost cause, which is the one that tells something: "connection refused" rather than "transport error".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn an_answer_is_told_from_a_broken_connection() {
        let answered = ClientError::from(Status::not_found("no such job"));
        assert!(!answered.is_retryable() && !answered.is_unreachable());

        let mut broken = Status::not_found("whatever the transport met");
        broken.set_source(std::sync::Arc::new(std::io::Error::from(
            std::io::ErrorKind::ConnectionReset,
        )));
        let broken = ClientError::from(broken);
        assert!(broken.is_retryable() && broken.is_unreachable());
        assert!(broken.to_string().contains("connection"), "{broken}");
    }

    #[test]
    fn exhausted_is_retried_only_if_the_server_says_when() {
        let full = ClientError::from(Status::resource_exhausted("the disk is full"));
        assert!(!full.is_retryable());
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
        let busy = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        let busy = ClientError::from(busy);
        assert!(busy.is_retryable());
        assert_eq!(busy.retry_after(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn reason_and_fields_are_read() {
        let mut details = ErrorDetails::with_error_info(
            "INVALID_JOB",
            "longhaul",
            std::collections::HashMap::new(),
        );
        details.add_bad_request_violation("job.tasks[0].driver", "must not be empty");
        let error = ClientError::from(Status::with_error_details(
            Code::InvalidArgument,
            "the job has an error",
            details,
        ));
        assert_eq!(error.reason().as_deref(), Some("INVALID_JOB"));
        assert_eq!(error.field_violations().len(), 1);
        assert_eq!(
            error.to_string(),
            "the job has an error\n  job.tasks[0].driver: must not be empty"
        );
    }
}
