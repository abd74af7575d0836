//! What went wrong further down, by name and for people.

use super::{Fault, RETRY_LATER, RETRY_SOON, Reason};
use crate::{
    auth::AuthError,
    domain::{
        command::Refusal,
        limits::{MAX_DEPTH, MAX_RESULT_BYTES},
        wording::{Sentence, sentence},
    },
    engine::EngineError,
    quota::{Exceeded, Resource},
    store::StoreError,
};

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
        let message = match resource {
            Resource::SubmitsPerSecond => sentence!(
                "quota-submits",
                "the tenant may submit {most} jobs in a second; submit again later",
                most
            ),
            Resource::OpenJobs => sentence!(
                "quota-open-jobs",
                "the tenant may have {most} jobs that have not ended; submit again when some have",
                most
            ),
            Resource::Watches => sentence!(
                "quota-watches",
                "the tenant may have {most} watches and waits at a time; ask again later, or follow many jobs with one request",
                most
            ),
            Resource::Connections => sentence!(
                "quota-connections",
                "the tenant may have {most} connections at a time; use one for many calls",
                most
            ),
        };
        Self {
            quota: Some(resource),
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
