//! What can go wrong with a call: one place, one table. Each front end gives it its own form.
//!
//! Every fault has a reason that programs may branch on. See AIP-193.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use prost::Message;
use prost_types::Any;
use tonic_types::pb;

use crate::{
    auth::AuthError,
    domain::{
        JobId,
        access::{Permission, Principal, Role},
        command::Refusal,
        limits::{MAX_DEPTH, MAX_RESULT_BYTES},
        submission::Violation,
        wording::{Sentence, sentence},
    },
    engine::EngineError,
    locale::Language,
    quota::{Exceeded, Resource},
    store::StoreError,
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
    /// The quota that is used up, by name.
    quota: Option<&'static str>,
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
                quota_id: quota.to_owned(),
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

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        let english = error.to_string();
        match error {
            EngineError::Invalid(violations) => Self::invalid(violations),
            EngineError::Refused(refusal) => refusal.into(),
            EngineError::Store(error) => error.into(),
            EngineError::FailedOver => {
                let message = Sentence::made("failed-over", english, Vec::new());
                Self::new(Reason::StoreUnavailable, message).retry(RETRY_SOON)
            }
            EngineError::Draining => {
                let message = Sentence::made("draining", english, Vec::new());
                Self::new(Reason::Draining, message).retry(RETRY_SOON)
            }
            EngineError::Stopped => {
                let message = Sentence::made("stopped", english, Vec::new());
                Self::new(Reason::Stopped, message).retry(RETRY_SOON)
            }
        }
    }
}

impl From<Exceeded> for Fault {
    fn from(exceeded: Exceeded) -> Self {
        let Exceeded {
            resource,
            most,
            retry_after,
        } = exceeded;
        let (quota, message) = match resource {
            Resource::SubmitsPerSecond => (
                "submits_per_second",
                sentence!(
                    "quota-submits",
                    "the tenant may submit {most} jobs in a second; submit again later",
                    most
                ),
            ),
            Resource::OpenJobs => (
                "open_jobs",
                sentence!(
                    "quota-open-jobs",
                    "the tenant may have {most} jobs that have not ended; submit again when some have",
                    most
                ),
            ),
            Resource::Watches => (
                "watches",
                sentence!(
                    "quota-watches",
                    "the tenant may have {most} watches and waits at a time; ask again later, or follow many jobs with one request",
                    most
                ),
            ),
            Resource::Connections => (
                "connections",
                sentence!(
                    "quota-connections",
                    "the tenant may have {most} connections at a time; use one for many calls",
                    most
                ),
            ),
        };
        Self {
            quota: Some(quota),
            ..Self::new(Reason::QuotaExceeded, message).retry(retry_after)
        }
    }
}

impl From<AuthError> for Fault {
    fn from(error: AuthError) -> Self {
        let (reason, message) = match error {
            AuthError::Required => (
                Reason::CredentialRequired,
                Sentence::plain(
                    "credential-required",
                    "a credential is required: send \"Authorization: Bearer lh_…\"",
                ),
            ),
            AuthError::Malformed => (
                Reason::CredentialInvalid,
                Sentence::plain(
                    "credential-malformed",
                    "this is not a credential: a key begins with lh_ and has to be sent as a whole",
                ),
            ),
            AuthError::Invalid => (
                Reason::CredentialInvalid,
                Sentence::plain(
                    "credential-invalid",
                    "this credential is not good, or no longer",
                ),
            ),
            AuthError::Expired => (
                Reason::CredentialExpired,
                Sentence::plain("credential-expired", "this credential has expired"),
            ),
            AuthError::Unavailable(why) => return StoreError::Unavailable(why).into(),
            AuthError::NoRandomness => {
                return StoreError::Failed(AuthError::NoRandomness.to_string()).into();
            }
        };
        Self::new(reason, message)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let (reason, id, job) = match &refusal {
            Refusal::JobNotFound(job) => (Reason::JobNotFound, "job-not-found", Some(*job)),
            Refusal::RequestIdReused { job, .. } => {
                (Reason::RequestIdReused, "request-id-reused", Some(*job))
            }
            Refusal::ParentNotFound(job) => {
                (Reason::ParentNotFound, "parent-not-found", Some(*job))
            }
            Refusal::ParentEnded(job) => (Reason::ParentEnded, "parent-ended", Some(*job)),
            Refusal::TooDeep(job) => (Reason::NestedTooDeep, "nested-too-deep", Some(*job)),
            Refusal::JobNotEnded(job) => (Reason::JobNotEnded, "job-not-ended", Some(*job)),
            Refusal::JobSucceeded(job) => (Reason::JobSucceeded, "job-succeeded", Some(*job)),
            Refusal::SecretsErased(job) => (Reason::SecretsErased, "secrets-erased", Some(*job)),
            Refusal::MasterKeyRequired => (Reason::MasterKeyRequired, "master-key-required", None),
            Refusal::ResultTooLarge => (Reason::ResultTooLarge, "result-too-large", None),
            Refusal::TenantExists(_) => (Reason::TenantExists, "tenant-exists", None),
            Refusal::TenantNotFound(_) => (Reason::TenantNotFound, "tenant-not-found", None),
            Refusal::KeyExists(_) => (Reason::KeyExists, "key-exists", None),
            Refusal::KeyNotFound(_) => (Reason::KeyNotFound, "key-not-found", None),
            Refusal::LeaseLost => (Reason::LeaseLost, "lease-lost", None),
        };
        let mut arguments = Vec::new();
        if let Some(job) = &job {
            arguments.push(("job", job.into()));
        }
        match &refusal {
            Refusal::RequestIdReused { request_id, .. } => {
                arguments.push(("request_id", request_id.into()));
            }
            Refusal::TooDeep(_) => arguments.push(("most", (&MAX_DEPTH).into())),
            Refusal::ResultTooLarge => arguments.push(("most", (&MAX_RESULT_BYTES).into())),
            Refusal::TenantExists(tenant) | Refusal::TenantNotFound(tenant) => {
                arguments.push(("tenant", (&tenant.to_string()).into()));
            }
            Refusal::KeyExists(key) | Refusal::KeyNotFound(key) => {
                arguments.push(("key", (&key.to_string()).into()));
            }
            Refusal::JobNotFound(_)
            | Refusal::ParentNotFound(_)
            | Refusal::ParentEnded(_)
            | Refusal::JobNotEnded(_)
            | Refusal::JobSucceeded(_)
            | Refusal::SecretsErased(_)
            | Refusal::MasterKeyRequired
            | Refusal::LeaseLost => {}
        }
        Self {
            job,
            ..Self::new(reason, Sentence::made(id, refusal.to_string(), arguments))
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => {
                let message = Sentence::plain(
                    "store-full",
                    "the disk that holds the store is full; nothing was stored; make room and submit again",
                );
                Self::new(Reason::StoreFull, message).retry(RETRY_LATER)
            }
            StoreError::OutcomeUnknown(_) => {
                let message = Sentence::plain(
                    "outcome-unknown",
                    "outcome unknown, retry with the same request_id",
                );
                Self::new(Reason::OutcomeUnknown, message).retry(RETRY_SOON)
            }
            StoreError::Unavailable(_) => {
                let message = Sentence::plain(
                    "store-unavailable",
                    "the database can not be reached now; nothing was stored; retry with the same request_id",
                );
                Self::new(Reason::StoreUnavailable, message).retry(RETRY_SOON)
            }
            StoreError::Busy(_) => {
                let message = Sentence::plain(
                    "store-busy",
                    "more is being read than this server's connections to the database can carry; nothing was stored; call again, or another server",
                );
                Self::new(Reason::StoreUnavailable, message).retry(RETRY_SOON)
            }
            // What went wrong inside is for the log, not for the caller.
            StoreError::Conflict(_) | StoreError::Failed(_) | StoreError::Fatal(_) => {
                let message = Sentence::plain(
                    "store-failed",
                    "the store failed; retry with the same request_id",
                );
                Self::new(Reason::StoreFailed, message).retry(RETRY_SOON)
            }
            StoreError::Corrupt(_) => {
                let message = Sentence::plain(
                    "store-corrupt",
                    "what is stored can not be read; the server's log says more",
                );
                Self::new(Reason::StoreCorrupt, message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_refusal_is_said_in_french_with_what_it_is_about() {
        let job = JobId(Uuid::from_u128(7));
        let request_id = "r-1".to_owned();
        for refusal in [
            Refusal::JobNotFound(job),
            Refusal::RequestIdReused { request_id, job },
            Refusal::ParentNotFound(job),
            Refusal::ParentEnded(job),
            Refusal::TooDeep(job),
            Refusal::JobNotEnded(job),
            Refusal::JobSucceeded(job),
            Refusal::ResultTooLarge,
            Refusal::LeaseLost,
        ] {
            let english = refusal.to_string();
            let fault = Fault::from(refusal);
            let french = fault.text(Language::French);
            assert_eq!(fault.text(Language::English), english);
            assert_ne!(french, english);
            assert_eq!(french.contains(&job.to_string()), fault.job.is_some());
        }
    }

    #[test]
    fn bad_fields_are_told_in_the_callers_language_and_in_english() {
        let violations = vec![
            Violation::new("job", Sentence::plain("required", "is required")),
            Violation::new("view", sentence!("not-a", "is not a {kind}", kind = "View")),
        ];
        let rpc = Fault::invalid(violations).to_rpc(Language::French);
        assert_eq!(
            rpc.message,
            "2 fields of the request are bad: job: is required; view: is not a View"
        );
        let details = tonic_types::StatusExt::get_error_details(&tonic::Status::with_details(
            tonic::Code::InvalidArgument,
            "",
            rpc.encode_to_vec().into(),
        ));
        let localized = details.localized_message().unwrap();
        assert_eq!(localized.locale, "fr");
        assert_eq!(
            localized.message,
            "2 champs de la requête sont incorrects: job: est requis; view: n'est pas une valeur de View"
        );
    }

    /// What clients of gRPC take by default, with some room for what else is in the trailers.
    #[test]
    fn an_error_fits_the_trailers_of_every_client() {
        let many = |count: usize, bytes: usize| {
            let violation = |n| Violation::new(format!("f{n}"), "é".repeat(bytes / 2));
            (0..count).map(violation).collect()
        };
        for (count, bytes) in [(1, 60_000), (60, 90), (1_000, 20), (20, 4_000)] {
            for language in [Language::English, Language::French] {
                let rpc = Fault::invalid(many(count, bytes)).to_rpc(language);
                let in_base64 = rpc.encoded_len().div_ceil(3) * 4;
                let percent_encoded = rpc.message.len() * 3;
                let sent = in_base64 + percent_encoded;
                assert!(sent < 7_800, "{count} × {bytes}: {sent}");
                let bad = rpc
                    .details
                    .iter()
                    .find(|d| d.type_url.ends_with("BadRequest"));
                let bad = pb::BadRequest::decode(&*bad.unwrap().value).unwrap();
                assert!(!bad.field_violations.is_empty(), "{count} × {bytes}");
                assert!(!rpc.message.is_empty(), "{count} × {bytes}");
            }
        }
    }
}
