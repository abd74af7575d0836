//! What a client submits, from messages to checked domain types; every bad field is named at once.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Caller,
    fields::{Fields, not_a},
};
use crate::{
    domain::{
        Document, JobId, Timestamp,
        command::Submission,
        job::FailurePolicy,
        submission::{NewJob, NewRetryPolicy, NewTask, Violation, check, check_request_id},
        task::{Object, Timeouts},
        wording::Sentence,
    },
    engine::fingerprint_of,
    proto::{Struct, v1},
};

/// The bad fields of one submission.
pub(super) type Violations = Vec<Violation>;

/// Reads and checks one submission; `path` is where it stands in the request, with a dot at its end if it is not empty.
pub(super) fn read(
    request: v1::SubmitRequest,
    path: &str,
    caller: &Caller,
    now: Timestamp,
) -> Result<Submission, Violations> {
    let v1::SubmitRequest { job, request_id } = request;
    let mut reader = Reader::default();
    let id_path = format!("{path}request_id");
    check_request_id(&request_id, &id_path, &mut reader.fields.violations);
    let path = format!("{path}job");
    let Some(spec) = job else {
        reader.bad(&path, Sentence::plain("required", "is required"));
        return Err(reader.fields.violations);
    };
    let mut new = reader.job(spec, &path);
    // The digest stands for what was asked, not for where the call came from.
    let fingerprint = match request_id.as_str() {
        "" => Default::default(),
        _ => fingerprint_of(&new),
    };
    caller.traceparent.clone_into(&mut new.traceparent);
    if new.creator.is_empty() && caller.is_known() {
        caller
            .holder
            .principal
            .name
            .as_ref()
            .clone_into(&mut new.creator);
    }
    match check(new, &path, now, &mut reader.fields.violations) {
        Some(checked) => Ok(Submission {
            tenant: caller.tenant.clone(),
            request_id,
            fingerprint,
            spec: checked.spec,
            tasks: checked.tasks,
        }),
        None => Err(reader.fields.violations),
    }
}

#[derive(Default)]
struct Reader {
    fields: Fields,
}

impl Reader {
    fn bad(&mut self, field: &str, description: impl Into<Sentence>) {
        self.fields.bad(field, description);
    }

    fn job(&mut self, spec: v1::JobSpec, path: &str) -> NewJob {
        let v1::JobSpec {
            action,
            summary,
            object,
            labels,
            priority,
            creator,
            parent_job_id,
            failure_policy,
            schedule_time,
            tasks,
        } = spec;
        let parent = match parent_job_id.as_str() {
            "" => None,
            id => match id.parse() {
                Ok(id) => Some(JobId(id)),
                Err(_) => {
                    let description = Sentence::plain("a-uuid", "must be a UUID");
                    self.bad(&format!("{path}.parent_job_id"), description);
                    None
                }
            },
        };
        let failure_policy = match v1::job::FailurePolicy::try_from(failure_policy) {
            Ok(v1::job::FailurePolicy::Unspecified | v1::job::FailurePolicy::FailFast) => {
                FailurePolicy::FailFast
            }
            Ok(v1::job::FailurePolicy::Continue) => FailurePolicy::Continue,
            Err(_) => {
                let field = format!("{path}.failure_policy");
                self.bad(&field, not_a("FailurePolicy"));
                FailurePolicy::FailFast
            }
        };
        NewJob {
            action,
            summary,
            object: object.map(self::object),
            labels: labels.into_iter().collect(),
            priority,
            creator,
            parent,
            failure_policy,
            schedule_time: schedule_time
                .and_then(|time| self.fields.time(&format!("{path}.schedule_time"), time)),
            tasks: tasks
                .into_iter()
                .enumerate()
                .map(|(i, task)| self.task(task, &format!("{path}.tasks[{i}]")))
                .collect(),
            traceparent: String::new(),
        }
    }

    fn task(&mut self, spec: v1::JobTaskSpec, path: &str) -> NewTask {
        let v1::JobTaskSpec {
            name,
            action,
            driver,
            object,
            resource_type,
            depends_on,
            max_attempts,
            retry_policy,
            timeouts,
            request_payload,
        } = spec;
        NewTask {
            name,
            action,
            driver,
            object: object.map(self::object),
            resource_type,
            depends_on,
            max_attempts,
            retry_policy: retry_policy
                .map(|policy| self.retry_policy(policy, &format!("{path}.retry_policy")))
                .unwrap_or_default(),
            timeouts: timeouts
                .map(|timeouts| self.timeouts(timeouts, &format!("{path}.timeouts")))
                .unwrap_or_default(),
            request_payload: request_payload
                .and_then(|payload| self.document(&format!("{path}.request_payload"), payload)),
        }
    }

    fn retry_policy(&mut self, policy: v1::RetryPolicy, path: &str) -> NewRetryPolicy {
        let v1::RetryPolicy {
            initial_backoff,
            max_backoff,
            multiplier,
            jitter,
        } = policy;
        NewRetryPolicy {
            initial_backoff: self.span(&format!("{path}.initial_backoff"), initial_backoff),
            max_backoff: self.span(&format!("{path}.max_backoff"), max_backoff),
            multiplier: (multiplier != 0.0).then_some(multiplier),
            jitter,
        }
    }

    fn timeouts(&mut self, timeouts: v1::Timeouts, path: &str) -> Timeouts {
        let v1::Timeouts {
            schedule_to_start,
            start_to_close,
            schedule_to_close,
            heartbeat,
        } = timeouts;
        Timeouts {
            schedule_to_start: self.span(&format!("{path}.schedule_to_start"), schedule_to_start),
            start_to_close: self.span(&format!("{path}.start_to_close"), start_to_close),
            schedule_to_close: self.span(&format!("{path}.schedule_to_close"), schedule_to_close),
            heartbeat: self.span(&format!("{path}.heartbeat"), heartbeat),
        }
    }

    fn document(&mut self, field: &str, payload: Struct) -> Option<Document> {
        match payload.canonical() {
            Ok(canonical) => Some(Document(canonical.encoded().clone())),
            Err(error) => {
                self.bad(field, error.to_string());
                None
            }
        }
    }

    fn span(&mut self, field: &str, span: Option<prost_types::Duration>) -> Option<Duration> {
        match Duration::try_from(span?) {
            Ok(span) => Some(span),
            Err(_) => {
                self.bad(
                    field,
                    Sentence::plain(
                        "bad-duration",
                        "must not be negative, and its nanos must fit its seconds",
                    ),
                );
                None
            }
        }
    }
}

fn object(object: v1::Object) -> Object {
    let v1::Object { r#type, id, name } = object;
    Object {
        kind: r#type,
        id,
        name,
    }
}

/// Reads a result or payload on its own.
pub(super) fn document(payload: Option<Struct>) -> Result<Option<Document>, String> {
    payload
        .map(|payload| {
            let canonical = payload.canonical().map_err(|error| error.to_string())?;
            let bytes: &Bytes = canonical.encoded();
            Ok(Document(bytes.clone()))
        })
        .transpose()
}
