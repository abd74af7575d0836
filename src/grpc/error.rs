//! Errors as gRPC says them: one place, one table.
//!
//! Every status has an ErrorInfo with the domain "longhaul" and a reason that programs may branch on. See AIP-193.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{
    domain::{command::Refusal, submission::Violation},
    engine::EngineError,
    store::StoreError,
};

/// The domain of all our reasons.
pub(crate) const DOMAIN: &str = "longhaul";
/// Bytes of violations in one error: clients take 8 KiB of trailers by default, and these travel encoded in base64.
const MAX_VIOLATION_BYTES: usize = 4_096;
/// Bytes of the bad fields that a message names, when there are several.
const MAX_SUMMARY_BYTES: usize = 460;
/// When to call again if the server is going or overloaded.
const RETRY_SOON: Duration = Duration::from_millis(250);
/// When to call again if the store is full.
const RETRY_LATER: Duration = Duration::from_secs(10);

/// An engine's error as a status.
pub(crate) fn status(error: EngineError) -> Status {
    let message = error.to_string();
    match error {
        EngineError::Invalid(violations) => invalid(violations),
        EngineError::Refused(refusal) => refused(&refusal),
        EngineError::Store(error) => store(&error),
        EngineError::Draining => retry(Code::Unavailable, "DRAINING", message, RETRY_SOON),
        EngineError::Stopped => retry(Code::Unavailable, "STOPPED", message, RETRY_SOON),
    }
}

/// A request with bad fields; all of them are named, as far as a client's limit on trailers allows.
pub(crate) fn invalid(violations: Vec<Violation>) -> Status {
    let count = violations.len();
    let mut bytes = 0;
    let named: Vec<FieldViolation> = violations
        .into_iter()
        .take_while(|v| {
            bytes += v.field.len() + v.description.len();
            bytes <= MAX_VIOLATION_BYTES
        })
        .map(|v| FieldViolation::new(v.field, v.description))
        .collect();
    let message = summary(&named, count);
    let mut details = info("INVALID_REQUEST");
    details.set_bad_request(named);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// The bad fields in a line, the first ones by name: not every tool shows the details.
fn summary(named: &[FieldViolation], count: usize) -> String {
    if let [only] = named
        && count == 1
    {
        return format!("{}: {}", only.field, only.description);
    }
    let mut message = format!("{count} fields of the request are bad");
    let mut told = 0;
    for v in named {
        let more = v.field.len() + v.description.len() + 4;
        if message.len() + more > MAX_SUMMARY_BYTES {
            break;
        }
        message.push_str(if told == 0 { ": " } else { "; " });
        message.push_str(&v.field);
        message.push_str(": ");
        message.push_str(&v.description);
        told += 1;
    }
    if told > 0 && told < count {
        message.push_str(&format!("; and {} more", count - told));
    }
    message
}

/// A request with one bad field.
pub(crate) fn bad_field(field: &str, description: &str) -> Status {
    invalid(vec![Violation::new(field, description)])
}

/// A message that is no protobuf message of its type.
pub(crate) fn malformed(error: &prost::DecodeError) -> Status {
    let message = format!("the message can not be decoded: {error}");
    Status::with_error_details(Code::InvalidArgument, message, info("MALFORMED_MESSAGE"))
}

/// An error that tonic found in a request, as we say it: malformed input is not our fault, and every error has a reason.
pub(crate) fn foreign(status: Status) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    let (code, reason) = match status.code() {
        Code::OutOfRange => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        // We have none of our own: it is a message that is missing, cut off, or not framed as gRPC frames it.
        Code::Internal => (Code::InvalidArgument, "MALFORMED_MESSAGE"),
        // No such method, or a compression that is not spoken here.
        Code::Unimplemented => (Code::Unimplemented, "NOT_SUPPORTED"),
        _ => return status,
    };
    Status::with_error_details(code, status.message(), info(reason))
}

/// The job was not there, or not any more.
fn refused(refusal: &Refusal) -> Status {
    let (code, reason) = match refusal {
        Refusal::JobNotFound(_) => (Code::NotFound, "JOB_NOT_FOUND"),
        Refusal::RequestIdReused { .. } => (Code::AlreadyExists, "REQUEST_ID_REUSED"),
        Refusal::ParentNotFound(_) => (Code::NotFound, "PARENT_NOT_FOUND"),
        Refusal::ParentEnded(_) => (Code::FailedPrecondition, "PARENT_ENDED"),
        Refusal::TooDeep(_) => (Code::FailedPrecondition, "NESTED_TOO_DEEP"),
        Refusal::JobNotEnded(_) => (Code::FailedPrecondition, "JOB_NOT_ENDED"),
        Refusal::JobSucceeded(_) => (Code::FailedPrecondition, "JOB_SUCCEEDED"),
        Refusal::ResultTooLarge => (Code::ResourceExhausted, "RESULT_TOO_LARGE"),
        Refusal::LeaseLost => (Code::FailedPrecondition, "LEASE_LOST"),
    };
    let mut details = info(reason);
    match refusal {
        Refusal::JobNotFound(job)
        | Refusal::ParentNotFound(job)
        | Refusal::ParentEnded(job)
        | Refusal::TooDeep(job)
        | Refusal::JobNotEnded(job)
        | Refusal::JobSucceeded(job)
        | Refusal::RequestIdReused { job, .. } => {
            details.set_resource_info("longhaul.v1.Job", job.to_string(), "", refusal.to_string());
        }
        Refusal::LeaseLost | Refusal::ResultTooLarge => {}
    }
    Status::with_error_details(code, refusal.to_string(), details)
}

fn store(error: &StoreError) -> Status {
    match error {
        StoreError::Full => retry(
            Code::ResourceExhausted,
            "STORE_FULL",
            format!("{error}; make room and submit again"),
            RETRY_LATER,
        ),
        StoreError::OutcomeUnknown(_) => retry(
            Code::Unavailable,
            "OUTCOME_UNKNOWN",
            "outcome unknown, retry with the same request_id".to_owned(),
            RETRY_SOON,
        ),
        // What went wrong inside is for the log, not for the caller.
        StoreError::Failed(_) | StoreError::Fatal(_) => retry(
            Code::Unavailable,
            "STORE_FAILED",
            "the store failed; retry with the same request_id".to_owned(),
            RETRY_SOON,
        ),
        StoreError::Corrupt(_) => Status::with_error_details(
            Code::DataLoss,
            "what is stored can not be read; the server's log says more",
            info("STORE_CORRUPT"),
        ),
    }
}

/// A stream that ends because the server goes.
pub(crate) fn draining() -> Status {
    status(EngineError::Draining)
}

/// A worker's stream that ends because the worker was not heard.
pub(crate) fn silent() -> Status {
    let message =
        "the worker was not heard for three heartbeat intervals; connect again".to_owned();
    retry(Code::Unavailable, "WORKER_SILENT", message, RETRY_SOON)
}

/// A status as a message, for answers within a batch.
pub(crate) fn embedded(status: &Status) -> tonic_types::Status {
    use prost::Message as _;
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

fn info(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new())
}

fn retry(code: Code, reason: &str, message: String, after: Duration) -> Status {
    let mut details = info(reason);
    details.set_retry_info(Some(after));
    Status::with_error_details(code, message, details)
}
