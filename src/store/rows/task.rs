//! The columns of a task.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Coded, ObjectPart, RowError, from_json, is_default, micros, number, time, to_json, unsigned,
};
use crate::domain::{
    Document, Status, Task, TaskId, TaskSpec, TaskState, Timestamp,
    task::{LeaseEnd, Progress, RetryPolicy, Timeouts},
    time::micros as span_micros,
};

/// A document, or where it is kept if it is too large for the task's own row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StoredDocument {
    Inline(Document),
    Elsewhere(i64),
}

/// What never changes, but for the payload.
#[derive(Debug)]
pub(crate) struct TaskSpecRow<'a> {
    pub id: [u8; 16],
    pub name: Cow<'a, str>,
    pub action: Cow<'a, str>,
    pub driver: Arc<str>,
    /// JSON of the rest; NULL if all of it is as by default.
    pub spec: Option<String>,
}

/// What changes, but for the result.
#[derive(Debug)]
pub(crate) struct TaskStateRow<'a> {
    pub state: i64,
    pub status: i64,
    pub status_detail: Cow<'a, str>,
    pub last_error: Cow<'a, str>,
    pub attempt: i64,
    pub failures: i64,
    pub fencing_token: i64,
    pub lost_leases: i64,
    pub worker: Arc<str>,
    pub lease_expiry: Option<i64>,
    pub last_end: Option<i64>,
    pub last_end_token: Option<i64>,
    /// JSON of what is seldom set; NULL if none of it is.
    pub notes: Option<String>,
    pub schedule_time: Option<i64>,
    pub ready_time: Option<i64>,
    pub first_ready_time: Option<i64>,
    pub start_time: Option<i64>,
    pub update_time: i64,
    pub end_time: Option<i64>,
}

impl<'a> TaskSpecRow<'a> {
    /// In the order of the fields.
    pub(crate) const COLUMNS: [&'static str; 5] = ["id", "name", "action", "driver", "spec"];

    pub(crate) fn of(task: &'a Task) -> Self {
        let TaskSpec {
            name,
            action,
            driver,
            object,
            resource_type,
            depends_on,
            max_attempts,
            retry_policy,
            timeouts,
            request_payload: _,
        } = task.spec.as_ref();
        let rest = SpecPart {
            object: object.as_ref().map(ObjectPart::from),
            resource_type: resource_type.into(),
            depends_on: depends_on.into(),
            max_attempts: *max_attempts,
            retry_policy: RetryPart::from(*retry_policy),
            timeouts: TimeoutsPart::from(*timeouts),
        };
        Self {
            id: task.id.0.into_bytes(),
            name: name.into(),
            action: action.into(),
            driver: driver.clone(),
            spec: to_json(&rest),
        }
    }
}

impl<'a> TaskStateRow<'a> {
    /// In the order of the fields.
    pub(crate) const COLUMNS: [&'static str; 19] = [
        "state",
        "status",
        "status_detail",
        "last_error",
        "attempt",
        "failures",
        "fencing_token",
        "lost_leases",
        "worker",
        "lease_expiry",
        "last_end",
        "last_end_token",
        "notes",
        "schedule_time",
        "ready_time",
        "first_ready_time",
        "start_time",
        "update_time",
        "end_time",
    ];

    pub(crate) fn of(task: &'a Task) -> Self {
        let Task {
            id: _,
            spec: _,
            state,
            status,
            status_detail,
            last_error,
            error_reason,
            attempt,
            failures,
            fencing_token,
            lost_leases,
            worker,
            lease_expiry,
            last_end,
            progress,
            warnings,
            result: _,
            schedule_time,
            ready_time,
            first_ready_time,
            start_time,
            update_time,
            end_time,
            cancel_acknowledged,
        } = task;
        let notes = NotesPart {
            error_reason: error_reason.into(),
            progress: progress.as_ref().map(ProgressPart::from),
            warnings: warnings.into(),
            cancel_acknowledged: *cancel_acknowledged,
        };
        Self {
            state: state.code(),
            status: status.code(),
            status_detail: status_detail.into(),
            last_error: last_error.into(),
            attempt: i64::from(*attempt),
            failures: i64::from(*failures),
            fencing_token: number(*fencing_token),
            lost_leases: i64::from(*lost_leases),
            worker: worker.clone(),
            lease_expiry: micros(*lease_expiry),
            last_end: last_end.map(|(_, end)| end.code()),
            last_end_token: last_end.map(|(token, _)| number(token)),
            notes: to_json(&notes),
            schedule_time: micros(*schedule_time),
            ready_time: micros(*ready_time),
            first_ready_time: micros(*first_ready_time),
            start_time: micros(*start_time),
            update_time: update_time.as_micros(),
            end_time: micros(*end_time),
        }
    }
}

/// The task that was taken apart into these.
pub(crate) fn task(
    fixed: TaskSpecRow<'_>,
    now: TaskStateRow<'_>,
    request_payload: Option<Document>,
    result: Option<Document>,
) -> Result<Task, RowError> {
    let rest: SpecPart<'_> = from_json("spec", fixed.spec.as_deref())?;
    let notes: NotesPart<'_> = from_json("notes", now.notes.as_deref())?;
    let spec = TaskSpec {
        name: fixed.name.into_owned(),
        action: fixed.action.into_owned(),
        driver: fixed.driver,
        object: rest.object.map(Into::into),
        resource_type: rest.resource_type.into_owned(),
        depends_on: rest.depends_on.into_owned(),
        max_attempts: rest.max_attempts,
        retry_policy: rest.retry_policy.into(),
        timeouts: rest.timeouts.into(),
        request_payload,
    };
    let last_end = match (now.last_end_token, now.last_end) {
        (Some(token), Some(end)) => Some((
            unsigned("last_end_token", token)?,
            LeaseEnd::from_code(end)?,
        )),
        (None, None) => None,
        (token, end) => {
            return Err(RowError::new(format!(
                "last_end_token {token:?} with last_end {end:?}"
            )));
        }
    };
    Ok(Task {
        id: TaskId(Uuid::from_bytes(fixed.id)),
        spec: Arc::new(spec),
        state: TaskState::from_code(now.state)?,
        status: Status::from_code(now.status)?,
        status_detail: now.status_detail.into_owned(),
        last_error: now.last_error.into_owned(),
        error_reason: notes.error_reason.into_owned(),
        attempt: unsigned("attempt", now.attempt)?,
        failures: unsigned("failures", now.failures)?,
        fencing_token: unsigned("fencing_token", now.fencing_token)?,
        lost_leases: unsigned("lost_leases", now.lost_leases)?,
        worker: now.worker,
        lease_expiry: time(now.lease_expiry),
        last_end,
        progress: notes.progress.map(Into::into),
        warnings: notes.warnings.into_owned(),
        result,
        schedule_time: time(now.schedule_time),
        ready_time: time(now.ready_time),
        first_ready_time: time(now.first_ready_time),
        start_time: time(now.start_time),
        update_time: Timestamp::from_micros(now.update_time),
        end_time: time(now.end_time),
        cancel_acknowledged: notes.cancel_acknowledged,
    })
}

/// What of a task's specification has no column of its own.
#[derive(PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct SpecPart<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<ObjectPart>,
    #[serde(skip_serializing_if = "is_default")]
    resource_type: Cow<'a, str>,
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    depends_on: Cow<'a, [u32]>,
    max_attempts: u32,
    #[serde(skip_serializing_if = "is_default")]
    retry_policy: RetryPart,
    #[serde(skip_serializing_if = "is_default")]
    timeouts: TimeoutsPart,
}

impl Default for SpecPart<'_> {
    fn default() -> Self {
        Self {
            object: None,
            resource_type: Cow::default(),
            depends_on: Cow::default(),
            max_attempts: 1,
            retry_policy: RetryPart::default(),
            timeouts: TimeoutsPart::default(),
        }
    }
}

/// Spans in microseconds.
#[derive(PartialEq, Serialize, Deserialize)]
struct RetryPart {
    initial_backoff: i64,
    max_backoff: i64,
    multiplier: f64,
    jitter: f64,
}

impl Default for RetryPart {
    fn default() -> Self {
        RetryPolicy::default().into()
    }
}

impl From<RetryPolicy> for RetryPart {
    fn from(policy: RetryPolicy) -> Self {
        let RetryPolicy {
            initial_backoff,
            max_backoff,
            multiplier,
            jitter,
        } = policy;
        Self {
            initial_backoff: span_micros(initial_backoff),
            max_backoff: span_micros(max_backoff),
            multiplier,
            jitter,
        }
    }
}

impl From<RetryPart> for RetryPolicy {
    fn from(part: RetryPart) -> Self {
        let RetryPart {
            initial_backoff,
            max_backoff,
            multiplier,
            jitter,
        } = part;
        Self {
            initial_backoff: span(initial_backoff),
            max_backoff: span(max_backoff),
            multiplier,
            jitter,
        }
    }
}

/// Spans in microseconds.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct TimeoutsPart {
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule_to_start: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_to_close: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule_to_close: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat: Option<i64>,
}

impl From<Timeouts> for TimeoutsPart {
    fn from(timeouts: Timeouts) -> Self {
        let Timeouts {
            schedule_to_start,
            start_to_close,
            schedule_to_close,
            heartbeat,
        } = timeouts;
        Self {
            schedule_to_start: schedule_to_start.map(span_micros),
            start_to_close: start_to_close.map(span_micros),
            schedule_to_close: schedule_to_close.map(span_micros),
            heartbeat: heartbeat.map(span_micros),
        }
    }
}

impl From<TimeoutsPart> for Timeouts {
    fn from(part: TimeoutsPart) -> Self {
        let TimeoutsPart {
            schedule_to_start,
            start_to_close,
            schedule_to_close,
            heartbeat,
        } = part;
        Self {
            schedule_to_start: schedule_to_start.map(span),
            start_to_close: start_to_close.map(span),
            schedule_to_close: schedule_to_close.map(span),
            heartbeat: heartbeat.map(span),
        }
    }
}

/// A span as stored is never negative.
fn span(micros: i64) -> Duration {
    Duration::from_micros(micros.unsigned_abs())
}

/// What of a task's state has no column of its own.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct NotesPart<'a> {
    #[serde(skip_serializing_if = "is_default")]
    error_reason: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressPart>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: Cow<'a, [String]>,
    #[serde(skip_serializing_if = "is_default")]
    cancel_acknowledged: bool,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct ProgressPart {
    done: i64,
    total: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    unit: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

impl From<&Progress> for ProgressPart {
    fn from(progress: &Progress) -> Self {
        let Progress {
            done,
            total,
            unit,
            message,
        } = progress.clone();
        Self {
            done,
            total,
            unit,
            message,
        }
    }
}

impl From<ProgressPart> for Progress {
    fn from(part: ProgressPart) -> Self {
        let ProgressPart {
            done,
            total,
            unit,
            message,
        } = part;
        Self {
            done,
            total,
            unit,
            message,
        }
    }
}
