//! What a client submits, from messages to checked domain types; every bad field is named at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Caller,
    fields::{Fields, not_a},
};
use crate::{
    domain::{
        Document, JobId, Timestamp,
        command::{Fingerprint, Submission},
        job::FailurePolicy,
        limits::MAX_SENSITIVE_FIELDS,
        secrecy::{Hidden, Secrecy},
        submission::{NewJob, NewRetryPolicy, NewTask, Violation, check, check_request_id},
        task::{Object, Timeouts},
        wording::{Sentence, sentence},
    },
    engine::fingerprint_of,
    proto::{
        Struct,
        sensitive::{BadPath, FieldPath},
        v1,
    },
};

/// The bad fields of one submission.
pub(super) type Violations = Vec<Violation>;

/// Reads and checks one submission; `path` is where it stands in the request, with a dot at its end if it is not empty.
pub(super) fn read(
    request: v1::SubmitRequest,
    path: &str,
    caller: &Caller,
    now: Timestamp,
    secrecy: &dyn Secrecy,
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
        _ => fingerprint(&new, secrecy),
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
            hidden: checked.hidden,
        }),
        None => Err(reader.fields.violations),
    }
}

/// A plain digest of a job with secrets would tell them to whoever has the database and tries all that are likely.
fn fingerprint(new: &NewJob, secrecy: &dyn Secrecy) -> Fingerprint {
    let shown = fingerprint_of(new);
    let hidden = (0u32..).zip(&new.tasks);
    let hidden: Vec<_> = hidden
        .filter_map(|(i, task)| Some((i.to_le_bytes(), task.hidden.as_ref()?)))
        .collect();
    if hidden.is_empty() {
        return shown;
    }
    let mut parts: Vec<&[u8]> = vec![&shown];
    for (i, hidden) in &hidden {
        parts.extend([i.as_slice(), hidden.fields()]);
        for (name, value) in hidden.secrets() {
            parts.extend([name.as_bytes(), value.as_bytes()]);
        }
    }
    secrecy.fingerprint(&parts)
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
            secrets,
            sensitive_fields,
        } = spec;
        let paths = self.paths(&sensitive_fields, path);
        let (request_payload, fields) = match request_payload {
            Some(payload) => self.payload(&format!("{path}.request_payload"), payload, &paths),
            None => (None, Vec::new()),
        };
        let hidden = Hidden::new(BTreeMap::from_iter(secrets), fields);
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
            request_payload,
            hidden: (!hidden.is_empty()).then(|| Arc::new(hidden)),
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

    fn paths(&mut self, texts: &[String], path: &str) -> Vec<FieldPath> {
        if texts.len() > MAX_SENSITIVE_FIELDS {
            let most = MAX_SENSITIVE_FIELDS;
            let description = sentence!("at-most-allowed", "at most {most} are allowed", most);
            self.bad(&format!("{path}.sensitive_fields"), description);
        }
        let mut paths = Vec::new();
        for (i, text) in texts.iter().enumerate().take(MAX_SENSITIVE_FIELDS) {
            match FieldPath::parse(text) {
                Ok(path) => paths.push(path),
                Err(error) => {
                    let description = bad_path(error);
                    self.bad(&format!("{path}.sensitive_fields[{i}]"), description);
                }
            }
        }
        paths
    }

    /// What may be shown of a payload, and what may not.
    fn payload(
        &mut self,
        field: &str,
        payload: Struct,
        paths: &[FieldPath],
    ) -> (Option<Document>, Vec<u8>) {
        match payload.split(paths) {
            Ok((shown, taken)) => {
                let taken = taken.map(|taken| taken.to_bytes());
                let shown = Document(shown.encoded().clone());
                (Some(shown), taken.unwrap_or_default())
            }
            Err(error) => {
                self.bad(field, error.to_string());
                (None, Vec::new())
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

/// What is wrong with a path.
fn bad_path(error: BadPath) -> Sentence {
    match error {
        BadPath::EmptyName => Sentence::plain(
            "path-empty-name",
            "has an empty name; write it like spec.db.password",
        ),
        BadPath::TooLong => {
            Sentence::plain("path-too-long", "has more than 1024 bytes or 30 names")
        }
        BadPath::Bracket => Sentence::plain(
            "path-bracket",
            "has a bracket; write elements of a list like hosts.*.key or hosts.0.key",
        ),
        BadPath::Star => Sentence::plain(
            "path-star",
            "has a star in a name; a star stands alone, for any name, or has a backslash in front",
        ),
        BadPath::Backslash => Sentence::plain(
            "path-backslash",
            "has a backslash in front of something other than a dot, a star, a bracket or a backslash",
        ),
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
