//! What can go wrong with a call: one place, one table. Each front end gives it its own form.
//!
//! Every fault has a reason that programs may branch on. See AIP-193.

mod causes;

use std::{borrow::Cow, collections::HashMap, time::Duration};

use prost::Message;
use prost_types::Any;
use tonic_types::pb;

use crate::{
    domain::{
        JobId,
        access::{Permission, Principal, Role},
        submission::Violation,
        wording::{Sentence, sentence},
    },
    engine::EngineError,
    locale::Language,
    quota::Resource,
};

/// The domain of all our reasons.
pub(crate) const DOMAIN: &str = "longhaul";
/// Bytes of violations in one error: gRPC clients take 8 KiB of trailers by default, and these travel encoded in base64.
const MAX_VIOLATION_BYTES: usize = 3_072;
/// Bytes of a text that is told on one line, or in a detail.
const MAX_TEXT_BYTES: usize = 460;
/// Bytes of the bad fields that an answer over HTTP names.
const MAX_NAMED_BYTES: usize = 64 * 1024;
/// When to call again if the server is going or overloaded.
const RETRY_SOON: Duration = Duration::from_millis(250);
/// When to call again if the store is full.
const RETRY_LATER: Duration = Duration::from_secs(10);

/// google.rpc.Code, as far as it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Cancelled = 1,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    Unimplemented = 12,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
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

            /// How HTTP classes it: a status code.
            pub(crate) fn http(self) -> u16 {
                match self {
                    $(Self::$reason => $http,)+
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
    PathNotFound = "PATH_NOT_FOUND", Unimplemented, 404;
    MethodNotAllowed = "METHOD_NOT_ALLOWED", Unimplemented, 405;
    BodyTooSlow = "BODY_TOO_SLOW", DeadlineExceeded, 408;
    UriTooLong = "URI_TOO_LONG", InvalidArgument, 414;
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", InvalidArgument, 415;
    CrossSite = "CROSS_SITE", PermissionDenied, 403;
    UnknownHost = "UNKNOWN_HOST", PermissionDenied, 421;
    JobNotFound = "JOB_NOT_FOUND", NotFound, 404;
    RequestIdReused = "REQUEST_ID_REUSED", AlreadyExists, 409;
    ParentNotFound = "PARENT_NOT_FOUND", NotFound, 404;
    ParentEnded = "PARENT_ENDED", FailedPrecondition, 409;
    NestedTooDeep = "NESTED_TOO_DEEP", FailedPrecondition, 409;
    JobNotEnded = "JOB_NOT_ENDED", FailedPrecondition, 409;
    JobSucceeded = "JOB_SUCCEEDED", FailedPrecondition, 409;
    SecretsErased = "SECRETS_ERASED", FailedPrecondition, 409;
    MasterKeyRequired = "MASTER_KEY_REQUIRED", FailedPrecondition, 409;
    MasterKeyMissing = "MASTER_KEY_MISSING", FailedPrecondition, 409;
    ResultTooLarge = "RESULT_TOO_LARGE", ResourceExhausted, 413;
    LeaseLost = "LEASE_LOST", FailedPrecondition, 409;
    CredentialRequired = "CREDENTIAL_REQUIRED", Unauthenticated, 401;
    CredentialInvalid = "CREDENTIAL_INVALID", Unauthenticated, 401;
    CredentialExpired = "CREDENTIAL_EXPIRED", Unauthenticated, 401;
    RoleRequired = "ROLE_REQUIRED", PermissionDenied, 403;
    QuotaExceeded = "QUOTA_EXCEEDED", ResourceExhausted, 429;
    TenantExists = "TENANT_EXISTS", AlreadyExists, 409;
    TenantNotFound = "TENANT_NOT_FOUND", NotFound, 404;
    KeyExists = "KEY_EXISTS", AlreadyExists, 409;
    KeyNotFound = "KEY_NOT_FOUND", NotFound, 404;
    StoreFull = "STORE_FULL", ResourceExhausted, 507;
    OutcomeUnknown = "OUTCOME_UNKNOWN", Unavailable, 503;
    StoreUnavailable = "STORE_UNAVAILABLE", Unavailable, 503;
    StoreFailed = "STORE_FAILED", Unavailable, 503;
    StoreCorrupt = "STORE_CORRUPT", DataLoss, 500;
    Draining = "DRAINING", Unavailable, 503;
    Stopped = "STOPPED", Unavailable, 503;
    WorkerSilent = "WORKER_SILENT", Unavailable, 503;
    NoRoom = "NO_ROOM", ResourceExhausted, 503;
}

/// Why a call was not carried out, for programs and for people.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    /// What a person should know; says nothing if it is all in `violations`.
    message: Sentence,
    /// The bad fields of the request, as many as fit an answer.
    pub(crate) violations: Vec<Violation>,
    /// How many bad fields there are.
    bad_fields: u32,
    /// The job that it is about.
    job: Option<JobId>,
    /// When to call again, if that may help.
    pub(crate) retry_after: Option<Duration>,
    /// What the quota is of that is used up.
    quota: Option<Resource>,
}

impl Fault {
    pub(crate) fn new(reason: Reason, message: impl Into<Sentence>) -> Self {
        Self {
            reason,
            message: message.into(),
            violations: Vec::new(),
            bad_fields: 0,
            job: None,
            retry_after: None,
            quota: None,
        }
    }

    /// Calling again after this pause may help.
    pub(crate) fn retry(self, after: Duration) -> Self {
        Self {
            retry_after: Some(after),
            ..self
        }
    }

    /// A request with bad fields; all of them are named, as far as an answer has room.
    pub(crate) fn invalid(mut violations: Vec<Violation>) -> Self {
        let count = violations.len();
        let named = fitting(&violations, MAX_NAMED_BYTES, |v| {
            v.field.len() + v.description.len()
        });
        violations.truncate(named);
        Self {
            violations,
            bad_fields: u32::try_from(count).unwrap_or(u32::MAX),
            ..Self::new(Reason::InvalidRequest, "")
        }
    }

    /// A request with one bad field.
    pub(crate) fn bad_field(field: &str, description: impl Into<Sentence>) -> Self {
        Self::invalid(vec![Violation::new(field, description)])
    }

    /// A message that is no message of its type.
    pub(crate) fn malformed(error: &dyn std::fmt::Display) -> Self {
        let detail = error.to_string();
        Self::new(
            Reason::MalformedMessage,
            sentence!(
                "malformed",
                "the message can not be decoded: {detail}",
                detail
            ),
        )
    }

    /// A caller who may not do what this takes.
    pub(crate) fn role_required(principal: &Principal, permission: Permission) -> Self {
        let (name, role) = (
            principal.name.to_string(),
            permission.role().map_or("", Role::name).to_owned(),
        );
        let message = match permission {
            Permission::Operate => sentence!(
                "operator-required",
                "this takes the role {role} for all tenants, which {name} does not have",
                role,
                name
            ),
            _ => sentence!(
                "role-required",
                "this takes the role {role}, which {name} does not have",
                role,
                name
            ),
        };
        Self::new(Reason::RoleRequired, message)
    }

    /// A worker who may not take tasks of a driver.
    pub(crate) fn driver_not_given(principal: &Principal, driver: &str) -> Self {
        let name = principal.name.to_string();
        let message = sentence!(
            "driver-not-given",
            "this takes the role work for the driver {driver}, which {name} does not have",
            driver,
            name
        );
        Self::new(Reason::RoleRequired, message)
    }

    /// A stream that ends because the server goes.
    pub(crate) fn draining() -> Self {
        EngineError::Draining.into()
    }

    /// A worker's stream that ends because the worker was not heard.
    pub(crate) fn silent() -> Self {
        let message = Sentence::plain(
            "worker-silent",
            "the worker was not heard for three heartbeat intervals; connect again",
        );
        Self::new(Reason::WorkerSilent, message).retry(RETRY_SOON)
    }

    /// What a person should know, on one line: of bad fields the first ones, by name, because not every tool shows the details.
    pub(crate) fn text(&self, language: Language) -> String {
        match self.violations.as_slice() {
            [] => shortened(language.say(&self.message)),
            [only] if self.bad_fields == 1 => told(only, language),
            violations => summary(violations, self.bad_fields, language),
        }
    }

    /// As google.rpc.Status, with an ErrorInfo and what else is known. The message is in English, as AIP-193 asks; another language is a detail.
    pub(crate) fn to_rpc(&self, language: Language) -> tonic_types::Status {
        let message = self.text(Language::English);
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
                field: shortened(Cow::Borrowed(&v.field)),
                description: shortened(Language::English.say(&v.description)),
                localized_message: match language {
                    Language::English => None,
                    language => {
                        let description = shortened(language.say(&v.description));
                        Some(localized(language, description))
                    }
                },
                ..Default::default()
            });
            let mut field_violations: Vec<_> = violations.collect();
            let named = fitting(&field_violations, MAX_VIOLATION_BYTES, Message::encoded_len);
            field_violations.truncate(named);
            let bad = pb::BadRequest { field_violations };
            details.push(any("BadRequest", &bad));
        }
        if let Some(quota) = self.quota {
            let violation = pb::quota_failure::Violation {
                subject: "tenant".to_owned(),
                description: message.clone(),
                quota_id: quota.name().to_owned(),
                ..Default::default()
            };
            let violations = vec![violation];
            details.push(any("QuotaFailure", &pb::QuotaFailure { violations }));
        }
        if let Some(job) = self.job {
            let resource = pb::ResourceInfo {
                resource_type: "longhaul.v1.Job".to_owned(),
                resource_name: job.to_string(),
                owner: String::new(),
                description: message.clone(),
            };
            details.push(any("ResourceInfo", &resource));
        }
        if language != Language::English {
            let message = localized(language, self.text(language));
            details.push(any("LocalizedMessage", &message));
        }
        tonic_types::Status {
            code: self.reason.code() as i32,
            message,
            details,
        }
    }
}

fn localized(language: Language, message: String) -> pb::LocalizedMessage {
    pb::LocalizedMessage {
        locale: language.tag().to_owned(),
        message,
    }
}

fn told(violation: &Violation, language: Language) -> String {
    let field = &violation.field;
    let description = language.say(&violation.description);
    shortened(Cow::Owned(format!("{field}: {description}")))
}

/// A text, or its beginning if it is long: it may repeat what a caller sent.
fn shortened(text: Cow<'_, str>) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.into_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT_BYTES)])
}

/// How many of these have room together; the first one always has.
fn fitting<T>(all: &[T], room: usize, bytes: impl Fn(&T) -> usize) -> usize {
    let mut used = 0;
    let fitting = all.iter().take_while(|one| {
        used += bytes(one);
        used <= room
    });
    fitting.count().max(all.len().min(1))
}

/// A detail of google.rpc in its wrapping.
pub(super) fn any(name: &str, detail: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/google.rpc.{name}"),
        value: detail.encode_to_vec(),
    }
}

/// The bad fields on a line, as many as it takes.
fn summary(violations: &[Violation], count: u32, language: Language) -> String {
    let opening = sentence!("bad-fields", "{count} fields of the request are bad", count);
    let mut line = language.say(&opening).into_owned();
    let mut named = 0;
    for violation in violations {
        let violation = told(violation, language);
        if line.len() + violation.len() + 2 > MAX_TEXT_BYTES {
            break;
        }
        line.push_str(if named == 0 { ": " } else { "; " });
        line.push_str(&violation);
        named += 1;
    }
    if named > 0 && named < count {
        let more = sentence!("and-more", "and {more} more", more = count - named);
        line.push_str("; ");
        line.push_str(&language.say(&more));
    }
    line
}

#[cfg(test)]
mod tests;
