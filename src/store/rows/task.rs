//! A task as a row: the queue's order has columns, the rest is packed.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Coded, RowError, micros, pack, time, unpack};
use bytes::Bytes;

use crate::domain::{
    Document, Status, Task, TaskId, TaskSpec, TaskState, Timestamp,
    secrecy::Secrets,
    task::{LeaseEnd, Object, Progress, RetryPolicy, Timeouts},
    time::micros as span_micros,
};

/// What never changes, but for the payload.
#[derive(Debug)]
pub(crate) struct TaskSpecRow {
    pub driver: Arc<str>,
    /// The rest, packed.
    pub spec: Vec<u8>,
}

/// What changes, but for the result.
#[derive(Debug)]
pub(crate) struct TaskStateRow {
    pub ready_time: Option<i64>,
    /// The rest, packed.
    pub rest: Vec<u8>,
}

impl TaskSpecRow {
    pub(crate) fn of(task: &Task) -> Self {
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
        Self {
            driver: driver.clone(),
            spec: pack(&SpecPart {
                id: task.id.0.into_bytes(),
                name: name.into(),
                action: action.into(),
                object: object.as_ref().map(ObjectPart::from),
                resource_type: resource_type.into(),
                depends_on: depends_on.into(),
                max_attempts: *max_attempts,
                retry_policy: RetryPart::from(*retry_policy),
                timeouts: TimeoutsPart::from(*timeouts),
            }),
        }
    }
}

impl TaskStateRow {
    pub(crate) fn of(task: &Task) -> Self {
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
            secrets: _,
        } = task;
        Self {
            ready_time: micros(*ready_time),
            rest: pack(&StatePart {
                state: state.code(),
                status: status.code(),
                status_detail: status_detail.into(),
                last_error: last_error.into(),
                error_reason: error_reason.into(),
                attempt: *attempt,
                failures: *failures,
                fencing_token: *fencing_token,
                lost_leases: *lost_leases,
                worker: worker.as_ref().into(),
                lease_expiry: micros(*lease_expiry),
                last_end: last_end.map(|(token, end)| (token, end.code())),
                progress: progress.as_ref().map(ProgressPart::from),
                warnings: warnings.into(),
                schedule_time: micros(*schedule_time),
                first_ready_time: micros(*first_ready_time),
                start_time: micros(*start_time),
                update_time: update_time.as_micros(),
                end_time: micros(*end_time),
                cancel_acknowledged: *cancel_acknowledged,
            }),
        }
    }
}

/// The column of a task's secrets: NULL if there never were any, nothing if they are erased.
pub(crate) fn sealed(secrets: &Secrets) -> Option<&[u8]> {
    match secrets {
        Secrets::None => None,
        Secrets::Erased => Some(&[]),
        Secrets::Sealed(sealed) => Some(sealed),
    }
}

/// Secrets as their column has them.
pub(crate) fn secrets(sealed: Option<Vec<u8>>) -> Secrets {
    match sealed {
        None => Secrets::None,
        Some(sealed) if sealed.is_empty() => Secrets::Erased,
        Some(sealed) => Secrets::Sealed(Bytes::from(sealed)),
    }
}

/// The task that was taken apart into these.
pub(crate) fn task(
    fixed: TaskSpecRow,
    now: &TaskStateRow,
    request_payload: Option<Document>,
    result: Option<Document>,
    secrets: Secrets,
) -> Result<Task, RowError> {
    let part: SpecPart<'_> = unpack("spec", &fixed.spec)?;
    let rest: StatePart<'_> = unpack("rest", &now.rest)?;
    let spec = TaskSpec {
        name: part.name.into_owned(),
        action: part.action.into_owned(),
        driver: fixed.driver,
        object: part.object.map(Into::into),
        resource_type: part.resource_type.into_owned(),
        depends_on: part.depends_on.into_owned(),
        max_attempts: part.max_attempts,
        retry_policy: part.retry_policy.into(),
        timeouts: part.timeouts.into(),
        request_payload,
    };
    let ended = |(token, end)| Ok::<_, RowError>((token, LeaseEnd::from_code(end)?));
    Ok(Task {
        id: TaskId(Uuid::from_bytes(part.id)),
        spec: Arc::new(spec),
        state: TaskState::from_code(rest.state)?,
        status: Status::from_code(rest.status)?,
        status_detail: rest.status_detail.into_owned(),
        last_error: rest.last_error.into_owned(),
        error_reason: rest.error_reason.into_owned(),
        attempt: rest.attempt,
        failures: rest.failures,
        fencing_token: rest.fencing_token,
        lost_leases: rest.lost_leases,
        worker: rest.worker.into(),
        lease_expiry: time(rest.lease_expiry),
        last_end: rest.last_end.map(ended).transpose()?,
        progress: rest.progress.map(Into::into),
        warnings: rest.warnings.into_owned(),
        result,
        schedule_time: time(rest.schedule_time),
        ready_time: time(now.ready_time),
        first_ready_time: time(rest.first_ready_time),
        start_time: time(rest.start_time),
        update_time: Timestamp::from_micros(rest.update_time),
        end_time: time(rest.end_time),
        cancel_acknowledged: rest.cancel_acknowledged,
        secrets,
    })
}

/// What of a task's specification has no column of its own.
#[derive(Serialize, Deserialize)]
struct SpecPart<'a> {
    id: [u8; 16],
    name: Cow<'a, str>,
    action: Cow<'a, str>,
    object: Option<ObjectPart<'a>>,
    resource_type: Cow<'a, str>,
    depends_on: Cow<'a, [u32]>,
    max_attempts: u32,
    retry_policy: RetryPart,
    timeouts: TimeoutsPart,
}

#[derive(Serialize, Deserialize)]
struct ObjectPart<'a> {
    kind: Cow<'a, str>,
    id: Cow<'a, str>,
    name: Cow<'a, str>,
}

impl<'a> From<&'a Object> for ObjectPart<'a> {
    fn from(object: &'a Object) -> Self {
        let Object { kind, id, name } = object;
        Self {
            kind: kind.into(),
            id: id.into(),
            name: name.into(),
        }
    }
}

impl From<ObjectPart<'_>> for Object {
    fn from(part: ObjectPart<'_>) -> Self {
        let ObjectPart { kind, id, name } = part;
        Self {
            kind: kind.into_owned(),
            id: id.into_owned(),
            name: name.into_owned(),
        }
    }
}

/// Spans in microseconds.
#[derive(Serialize, Deserialize)]
struct RetryPart {
    initial_backoff: i64,
    max_backoff: i64,
    multiplier: f64,
    jitter: f64,
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
#[derive(Serialize, Deserialize)]
struct TimeoutsPart {
    schedule_to_start: Option<i64>,
    start_to_close: Option<i64>,
    schedule_to_close: Option<i64>,
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
#[derive(Serialize, Deserialize)]
struct StatePart<'a> {
    state: i64,
    status: i64,
    status_detail: Cow<'a, str>,
    last_error: Cow<'a, str>,
    error_reason: Cow<'a, str>,
    attempt: u32,
    failures: u32,
    fencing_token: u64,
    lost_leases: u32,
    worker: Cow<'a, str>,
    lease_expiry: Option<i64>,
    last_end: Option<(u64, i64)>,
    progress: Option<ProgressPart<'a>>,
    warnings: Cow<'a, [String]>,
    schedule_time: Option<i64>,
    first_ready_time: Option<i64>,
    start_time: Option<i64>,
    update_time: i64,
    end_time: Option<i64>,
    cancel_acknowledged: bool,
}

#[derive(Serialize, Deserialize)]
struct ProgressPart<'a> {
    done: i64,
    total: i64,
    unit: Cow<'a, str>,
    message: Cow<'a, str>,
}

impl<'a> From<&'a Progress> for ProgressPart<'a> {
    fn from(progress: &'a Progress) -> Self {
        let Progress {
            done,
            total,
            unit,
            message,
        } = progress;
        Self {
            done: *done,
            total: *total,
            unit: unit.into(),
            message: message.into(),
        }
    }
}

impl From<ProgressPart<'_>> for Progress {
    fn from(part: ProgressPart<'_>) -> Self {
        let ProgressPart {
            done,
            total,
            unit,
            message,
        } = part;
        Self {
            done,
            total,
            unit: unit.into_owned(),
            message: message.into_owned(),
        }
    }
}
