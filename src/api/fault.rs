//! What can go wrong with a call: one place, one table. Each front end gives it its own form.
//!
//! Every fault has a reason that programs may branch on. See AIP-193.

use std::{collections::HashMap, time::Duration};

use prost::Message;
use prost_types::Any;
use tonic_types::pb;

use crate::{
    domain::{JobId, command::Refusal, submission::Violation},
    engine::EngineError,
    store::StoreError,
};

/// The domain of all our reasons.
pub(crate) const DOMAIN: &str = "longhaul";
/// Bytes of violations in one error: gRPC clients take 8 KiB of trailers by default, and these travel encoded in base64.
const MAX_VIOLATION_BYTES: usize = 4_096;
/// Bytes of the bad fields that a message names, when there are several.
const MAX_SUMMARY_BYTES: usize = 460;
/// When to call again if the server is going or overloaded.
const RETRY_SOON: Duration = Duration::from_millis(250);
/// When to call again if the store is full.
const RETRY_LATER: Duration = Duration::from_secs(10);

/// google.rpc.Code, as far as it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Cancelled = 1,
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    Unimplemented = 12,
    Unavailable = 14,
    DataLoss = 15,
}

macro_rules! reasons {
    ($($(#[$meta:meta])* $reason:ident = $name:literal, $code:ident, $http:literal;)+) => {
        /// Why a call was not carried out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Reason {
            $($(#[$meta])* $reason,)+
        }

        impl Reason {
            /// As programs see it: stable, UPPER_SNAKE.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)+
                }
            }

            /// How gRPC classes it.
            pub(crate) fn code(self) -> Code {
                match self {
                    $(Self::$reason => Code::$code,)+
                }
            }
        }
    };
}

reasons! {
    InvalidRequest = "INVALID_REQUEST", InvalidArgument, 400;
    MalformedMessage = "MALFORMED_MESSAGE", InvalidArgument, 400;
    MessageTooLarge = "MESSAGE_TOO_LARGE", ResourceExhausted, 413;
    NotSupported = "NOT_SUPPORTED", Unimplemented, 501;
    JobNotFound = "JOB_NOT_FOUND", NotFound, 404;
    RequestIdReused = "REQUEST_ID_REUSED", AlreadyExists, 409;
    ParentNotFound = "PARENT_NOT_FOUND", NotFound, 404;
    ParentEnded = "PARENT_ENDED", FailedPrecondition, 409;
    NestedTooDeep = "NESTED_TOO_DEEP", FailedPrecondition, 409;
    JobNotEnded = "JOB_NOT_ENDED", FailedPrecondition, 409;
    JobSucceeded = "JOB_SUCCEEDED", FailedPrecondition, 409;
    ResultTooLarge = "RESULT_TOO_LARGE", ResourceExhausted, 413;
    LeaseLost = "LEASE_LOST", FailedPrecondition, 409;
    StoreFull = "STORE_FULL", ResourceExhausted, 507;
    OutcomeUnknown = "OUTCOME_UNKNOWN", Unavailable, 503;
    StoreFailed = "STORE_FAILED", Unavailable, 503;
    StoreCorrupt = "STORE_CORRUPT", DataLoss, 500;
    Draining = "DRAINING", Unavailable, 503;
    Stopped = "STOPPED", Unavailable, 503;
    WorkerSilent = "WORKER_SILENT", Unavailable, 503;
}

/// Why a call was not carried out, for programs and for people.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    /// The bad fields of the request.
    pub(crate) violations: Vec<Violation>,
    /// The job that it is about.
    pub(crate) job: Option<JobId>,
    /// When to call again, if that may help.
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            violations: Vec::new(),
            job: None,
            retry_after: None,
        }
    }

    fn retry(self, after: Duration) -> Self {
        Self {
            retry_after: Some(after),
            ..self
        }
    }

    /// A request with bad fields; all of them are named, as far as a client's limit on trailers allows.
    pub(crate) fn invalid(mut violations: Vec<Violation>) -> Self {
        let count = violations.len();
        let mut bytes = 0;
        let named = violations.iter().take_while(|v| {
            bytes += v.field.len() + v.description.len();
            bytes <= MAX_VIOLATION_BYTES
        });
        let named = named.count();
        violations.truncate(named);
        let message = summary(&violations, count);
        Self {
            violations,
            ..Self::new(Reason::InvalidRequest, message)
        }
    }

    /// A request with one bad field.
    pub(crate) fn bad_field(field: &str, description: impl Into<String>) -> Self {
        Self::invalid(vec![Violation::new(field, description)])
    }

    /// A message that is no message of its type.
    pub(crate) fn malformed(error: &dyn std::fmt::Display) -> Self {
        let message = format!("the message can not be decoded: {error}");
        Self::new(Reason::MalformedMessage, message)
    }

    /// A stream that ends because the server goes.
    pub(crate) fn draining() -> Self {
        EngineError::Draining.into()
    }

    /// A worker's stream that ends because the worker was not heard.
    pub(crate) fn silent() -> Self {
        let message = "the worker was not heard for three heartbeat intervals; connect again";
        Self::new(Reason::WorkerSilent, message).retry(RETRY_SOON)
    }

    /// As google.rpc.Status, with an ErrorInfo and what else is known.
    pub(crate) fn to_rpc(&self) -> tonic_types::Status {
        let info = pb::ErrorInfo {
            reason: self.reason.name().to_owned(),
            domain: DOMAIN.to_owned(),
            metadata: HashMap::new(),
        };
        let mut details = vec![any("ErrorInfo", &info)];
        if let Some(after) = self.retry_after {
            let retry_delay = prost_types::Duration::try_from(after).ok();
            details.push(any("RetryInfo", &pb::RetryInfo { retry_delay }));
        }
        if !self.violations.is_empty() {
            let violations = self.violations.iter();
            let violations = violations.map(|v| pb::bad_request::FieldViolation {
                field: v.field.clone(),
                description: v.description.clone(),
                ..Default::default()
            });
            let bad = pb::BadRequest {
                field_violations: violations.collect(),
            };
            details.push(any("BadRequest", &bad));
        }
        if let Some(job) = self.job {
            let resource = pb::ResourceInfo {
                resource_type: "longhaul.v1.Job".to_owned(),
                resource_name: job.to_string(),
                owner: String::new(),
                description: self.message.clone(),
            };
            details.push(any("ResourceInfo", &resource));
        }
        tonic_types::Status {
            code: self.reason.code() as i32,
            message: self.message.clone(),
            details,
        }
    }
}

/// A detail of google.rpc in its wrapping.
pub(super) fn any(name: &str, detail: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/google.rpc.{name}"),
        value: detail.encode_to_vec(),
    }
}

/// The bad fields in a line, the first ones by name: not every tool shows the details.
fn summary(named: &[Violation], count: usize) -> String {
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

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::Invalid(violations) => Self::invalid(violations),
            EngineError::Refused(refusal) => refusal.into(),
            EngineError::Store(error) => error.into(),
            EngineError::Draining => Self::new(Reason::Draining, message).retry(RETRY_SOON),
            EngineError::Stopped => Self::new(Reason::Stopped, message).retry(RETRY_SOON),
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let (reason, job) = match &refusal {
            Refusal::JobNotFound(job) => (Reason::JobNotFound, Some(*job)),
            Refusal::RequestIdReused { job, .. } => (Reason::RequestIdReused, Some(*job)),
            Refusal::ParentNotFound(job) => (Reason::ParentNotFound, Some(*job)),
            Refusal::ParentEnded(job) => (Reason::ParentEnded, Some(*job)),
            Refusal::TooDeep(job) => (Reason::NestedTooDeep, Some(*job)),
            Refusal::JobNotEnded(job) => (Reason::JobNotEnded, Some(*job)),
            Refusal::JobSucceeded(job) => (Reason::JobSucceeded, Some(*job)),
            Refusal::ResultTooLarge => (Reason::ResultTooLarge, None),
            Refusal::LeaseLost => (Reason::LeaseLost, None),
        };
        Self {
            job,
            ..Self::new(reason, refusal.to_string())
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => {
                let message = format!("{error}; make room and submit again");
                Self::new(Reason::StoreFull, message).retry(RETRY_LATER)
            }
            StoreError::OutcomeUnknown(_) => {
                let message = "outcome unknown, retry with the same request_id";
                Self::new(Reason::OutcomeUnknown, message).retry(RETRY_SOON)
            }
            // What went wrong inside is for the log, not for the caller.
            StoreError::Failed(_) | StoreError::Fatal(_) => {
                let message = "the store failed; retry with the same request_id";
                Self::new(Reason::StoreFailed, message).retry(RETRY_SOON)
            }
            StoreError::Corrupt(_) => {
                let message = "what is stored can not be read; the server's log says more";
                Self::new(Reason::StoreCorrupt, message)
            }
        }
    }
}
