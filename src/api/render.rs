//! Domain types as messages.

use bytes::Bytes;
use prost::Message as _;
use tonic_types::pb;

use super::fault::{Code, DOMAIN, any};
use crate::{
    domain::{
        Document, Job, JobState, Task, TaskState, Timestamp,
        counts::Counts,
        event::{Event, EventKind},
        explain::Explanation,
        job::{CancelReceipt, ChildCounts, FailurePolicy},
        task::{Object, Progress, RetryPolicy, Timeouts},
    },
    proto::{Struct, v1},
};

/// How much of a job is shown. The order is that of the forms in which versions are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum View {
    Basic,
    Result,
    Full,
}

impl View {
    /// The index of the form in which versions of a job are encoded.
    pub(crate) fn form(self) -> usize {
        self as usize
    }

    /// The index of the form in which they are turned into JSON.
    pub(crate) fn json_form(self) -> usize {
        self as usize + 3
    }
}

/// A time.
pub(super) fn time(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.as_micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
    }
}

/// A span.
pub(super) fn span(span: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0),
    }
}

/// A job.
pub(crate) fn job(job: &Job, view: View) -> v1::Job {
    let Job {
        id,
        tenant,
        spec,
        request_id: _,
        depth: _,
        retry_of,
        state,
        status,
        last_error,
        revision,
        tasks,
        children,
        cancel,
        timer: _,
        create_time,
        start_time,
        update_time,
        end_time,
        expire_time,
    } = job;
    v1::Job {
        id: id.to_string(),
        tenant: tenant.to_string(),
        action: spec.action.clone(),
        summary: spec.summary.clone(),
        object: spec.object.as_ref().map(object),
        state: job_state(*state).into(),
        status: status_of(*status).into(),
        status_detail: job.status_detail(),
        last_error: last_error.clone(),
        error: failure(job),
        revision: *revision,
        progress: Some(progress(&job.progress())),
        task_counts: Some(task_counts(job)),
        tasks: tasks
            .iter()
            .map(|task| self::task(job, task, view))
            .collect(),
        result: match view {
            View::Basic => None,
            View::Result | View::Full => result(job),
        },
        labels: spec.labels.clone().into_iter().collect(),
        priority: spec.priority,
        creator: spec.creator.clone(),
        parent_job_id: spec.parent.map_or_else(String::new, |p| p.to_string()),
        child_summary: (children.total > 0).then(|| child_summary(*children)),
        failure_policy: match spec.failure_policy {
            FailurePolicy::FailFast => v1::job::FailurePolicy::FailFast,
            FailurePolicy::Continue => v1::job::FailurePolicy::Continue,
        }
        .into(),
        cancel: cancel.as_ref().map(receipt),
        create_time: Some(time(*create_time)),
        schedule_time: spec.schedule_time.map(time),
        start_time: start_time.map(time),
        update_time: Some(time(*update_time)),
        end_time: end_time.map(time),
        expire_time: expire_time.map(time),
        retry_of_job_id: retry_of.map_or_else(String::new, |j| j.to_string()),
    }
}

/// A task of a job.
pub(super) fn task(job: &Job, task: &Task, view: View) -> v1::JobTask {
    let depends_on = task
        .spec
        .depends_on
        .iter()
        .map(|d| job.tasks[*d as usize].spec.name.clone())
        .collect();
    lone_task(
        task,
        TaskOf {
            id: job.id,
            spec: &job.spec,
            create_time: job.create_time,
            depends_on,
        },
        view,
    )
}

/// What a task takes from its job.
pub(super) struct TaskOf<'a> {
    pub(super) id: crate::domain::JobId,
    pub(super) spec: &'a crate::domain::JobSpec,
    pub(super) create_time: Timestamp,
    pub(super) depends_on: Vec<String>,
}

/// A task without the rest of its job.
pub(super) fn lone_task(task: &Task, of: TaskOf<'_>, view: View) -> v1::JobTask {
    let Task {
        id,
        spec,
        state,
        status,
        status_detail,
        last_error,
        error_reason: _,
        attempt,
        failures: _,
        fencing_token: _,
        lost_leases,
        worker,
        lease_expiry: _,
        last_end: _,
        progress: done,
        warnings,
        result,
        schedule_time,
        ready_time: _,
        first_ready_time: _,
        start_time,
        update_time,
        end_time,
        cancel_acknowledged: _,
        secrets: _,
    } = task;
    v1::JobTask {
        id: id.to_string(),
        job_id: of.id.to_string(),
        name: spec.name.clone(),
        action: spec.action.clone(),
        driver: spec.driver.to_string(),
        object: spec.object.as_ref().or(of.spec.object.as_ref()).map(object),
        resource_type: spec.resource_type.clone(),
        state: task_state(*state).into(),
        status: status_of(*status).into(),
        status_detail: status_detail.clone(),
        last_error: last_error.clone(),
        depends_on: of.depends_on,
        attempt: *attempt,
        max_attempts: spec.max_attempts,
        retry_policy: Some(retry_policy(&spec.retry_policy)),
        timeouts: timeouts(&spec.timeouts),
        request_payload: match view {
            View::Full => spec.request_payload.as_ref().map(document),
            View::Basic | View::Result => None,
        },
        result: match view {
            View::Basic => None,
            View::Result | View::Full => result.as_ref().map(document),
        },
        progress: done.as_ref().map(progress),
        warnings: warnings.clone(),
        lost_leases: *lost_leases,
        worker: worker.to_string(),
        create_time: Some(time(of.create_time)),
        schedule_time: schedule_time.map(time),
        start_time: start_time.map(time),
        update_time: Some(time(*update_time)),
        end_time: end_time.map(time),
    }
}

fn document(document: &Document) -> Struct {
    Struct::from_encoded(document.0.clone())
}

/// The only task's result, or an object of the results by task name.
pub(crate) fn result(job: &Job) -> Option<Struct> {
    if !job.state.is_terminal() {
        return None;
    }
    if let [task] = job.tasks.as_slice() {
        return task.result.as_ref().map(document);
    }
    let fields: std::collections::BTreeMap<String, prost_types::Value> = job
        .tasks
        .iter()
        .filter_map(|task| {
            let result = prost_types::Struct::decode(task.result.as_ref()?.0.clone()).ok()?;
            let kind = prost_types::value::Kind::StructValue(result);
            Some((
                task.spec.name.clone(),
                prost_types::Value { kind: Some(kind) },
            ))
        })
        .collect();
    (!fields.is_empty()).then(|| {
        let encoded = prost_types::Struct { fields }.encode_to_vec();
        Struct::from_encoded(Bytes::from(encoded))
    })
}

/// Why a job failed or was cancelled.
fn failure(job: &Job) -> Option<tonic_types::Status> {
    let (code, reason, message) = match job.state {
        JobState::Queued | JobState::Running | JobState::Cancelling | JobState::Succeeded => {
            return None;
        }
        JobState::Cancelled => {
            let reason = job.cancel.as_ref().map_or("", |c| c.reason.as_str());
            let message = match reason {
                "" => "the job was cancelled".to_owned(),
                reason => format!("the job was cancelled: {reason}"),
            };
            (Code::Cancelled, "JOB_CANCELLED", message)
        }
        JobState::Failed => {
            let failed = job.tasks.iter().find(|t| t.state == TaskState::Failed);
            match failed {
                Some(task) => (
                    Code::Aborted,
                    task.error_reason.as_str(),
                    format!("task {:?} failed: {}", task.spec.name, task.last_error),
                ),
                None => (
                    Code::Aborted,
                    "TASKS_NOT_RUN",
                    "not all of the tasks were run".to_owned(),
                ),
            }
        }
    };
    let info = pb::ErrorInfo {
        reason: reason.to_owned(),
        domain: DOMAIN.to_owned(),
        ..Default::default()
    };
    Some(tonic_types::Status {
        code: code as i32,
        message,
        details: vec![any("ErrorInfo", &info)],
    })
}

fn object(object: &Object) -> v1::Object {
    let Object { kind, id, name } = object;
    v1::Object {
        r#type: kind.clone(),
        id: id.clone(),
        name: name.clone(),
    }
}

fn progress(progress: &Progress) -> v1::Progress {
    let Progress {
        done,
        total,
        unit,
        message,
    } = progress;
    v1::Progress {
        done: *done,
        total: *total,
        unit: unit.clone(),
        message: message.clone(),
    }
}

fn retry_policy(policy: &RetryPolicy) -> v1::RetryPolicy {
    let RetryPolicy {
        initial_backoff,
        max_backoff,
        multiplier,
        jitter,
    } = policy;
    v1::RetryPolicy {
        initial_backoff: Some(span(*initial_backoff)),
        max_backoff: Some(span(*max_backoff)),
        multiplier: *multiplier,
        jitter: Some(*jitter),
    }
}

fn timeouts(timeouts: &Timeouts) -> Option<v1::Timeouts> {
    let Timeouts {
        schedule_to_start,
        start_to_close,
        schedule_to_close,
        heartbeat,
    } = timeouts;
    (*timeouts != Timeouts::default()).then(|| v1::Timeouts {
        schedule_to_start: schedule_to_start.map(span),
        start_to_close: start_to_close.map(span),
        schedule_to_close: schedule_to_close.map(span),
        heartbeat: heartbeat.map(span),
    })
}

fn task_counts(job: &Job) -> v1::TaskCounts {
    let count = |state| u32::try_from(job.count(state)).unwrap_or(u32::MAX);
    v1::TaskCounts {
        total: u32::try_from(job.tasks.len()).unwrap_or(u32::MAX),
        pending: count(TaskState::Pending),
        queued: count(TaskState::Queued),
        running: count(TaskState::Running),
        backing_off: count(TaskState::BackingOff),
        cancelling: count(TaskState::Cancelling),
        succeeded: count(TaskState::Succeeded),
        failed: count(TaskState::Failed),
        cancelled: count(TaskState::Cancelled),
        skipped: count(TaskState::Skipped),
    }
}

fn child_summary(children: ChildCounts) -> v1::ChildSummary {
    let ChildCounts {
        total,
        succeeded,
        failed,
        cancelled,
    } = children;
    v1::ChildSummary {
        total,
        open: children.open(),
        succeeded,
        failed,
        cancelled,
    }
}

fn receipt(receipt: &CancelReceipt) -> v1::CancelReceipt {
    let CancelReceipt {
        requested,
        delivered,
        acknowledged,
        forced,
        reason,
    } = receipt;
    v1::CancelReceipt {
        requested_time: Some(time(*requested)),
        delivered_time: delivered.map(time),
        acknowledged_time: acknowledged.map(time),
        forced_time: forced.map(time),
        reason: reason.clone(),
    }
}

/// An event of a job.
pub(super) fn event(event: Event, job: &Job) -> v1::JobEvent {
    let Event {
        tenant: _,
        job: _,
        revision,
        time: when,
        kind,
        task,
        before: _,
        after: (state, status),
        detail,
    } = event;
    let name = task.and_then(|t| job.tasks.get(t.ordinal as usize));
    v1::JobEvent {
        revision,
        time: Some(time(when)),
        r#type: event_type(kind).into(),
        task_id: task.map_or_else(String::new, |t| t.id.to_string()),
        task_name: name.map_or_else(String::new, |t| t.spec.name.clone()),
        attempt: task.map_or(0, |t| t.attempt),
        state: job_state(state).into(),
        status: status_of(status).into(),
        detail,
    }
}

/// One part of an explanation.
pub(super) fn explanation(explanation: Explanation) -> v1::Explanation {
    let Explanation {
        reason,
        task,
        message,
        hint,
        until,
    } = explanation;
    v1::Explanation {
        reason: reason.to_owned(),
        task_name: task.unwrap_or_default(),
        message,
        hint,
        until_time: until.map(time),
    }
}

/// The counters of a tenant.
pub(super) fn counts(counts: Counts) -> v1::GetCountsResponse {
    let jobs = counts.jobs_by_state();
    let Counts { jobs: _, tasks } = counts;
    v1::GetCountsResponse {
        jobs: jobs
            .into_iter()
            .map(|(state, count)| v1::JobCount {
                state: job_state(state).into(),
                count,
            })
            .collect(),
        tasks: tasks
            .into_iter()
            .map(|(driver, state, count)| v1::JobTaskCount {
                driver: driver.to_string(),
                state: task_state(state).into(),
                count,
            })
            .collect(),
    }
}

fn job_state(state: JobState) -> v1::job::State {
    match state {
        JobState::Queued => v1::job::State::Queued,
        JobState::Running => v1::job::State::Running,
        JobState::Cancelling => v1::job::State::Cancelling,
        JobState::Succeeded => v1::job::State::Succeeded,
        JobState::Failed => v1::job::State::Failed,
        JobState::Cancelled => v1::job::State::Cancelled,
    }
}

fn task_state(state: TaskState) -> v1::job_task::State {
    match state {
        TaskState::Pending => v1::job_task::State::Pending,
        TaskState::Queued => v1::job_task::State::Queued,
        TaskState::Running => v1::job_task::State::Running,
        TaskState::BackingOff => v1::job_task::State::BackingOff,
        TaskState::Cancelling => v1::job_task::State::Cancelling,
        TaskState::Succeeded => v1::job_task::State::Succeeded,
        TaskState::Failed => v1::job_task::State::Failed,
        TaskState::Cancelled => v1::job_task::State::Cancelled,
        TaskState::Skipped => v1::job_task::State::Skipped,
    }
}

fn status_of(status: crate::domain::Status) -> v1::job::Status {
    use crate::domain::Status;
    match status {
        Status::Normal => v1::job::Status::Normal,
        Status::Warning => v1::job::Status::Warning,
        Status::PartialFailures => v1::job::Status::PartialFailures,
        Status::Error => v1::job::Status::Error,
    }
}

fn event_type(kind: EventKind) -> v1::job_event::Type {
    use v1::job_event::Type;
    match kind {
        EventKind::JobSubmitted => Type::JobSubmitted,
        EventKind::TaskLeased => Type::TaskLeased,
        EventKind::TaskProgress => Type::TaskProgress,
        EventKind::TaskWarning => Type::TaskWarning,
        EventKind::TaskSucceeded => Type::TaskSucceeded,
        EventKind::TaskBackingOff => Type::TaskBackingOff,
        EventKind::TaskFailed => Type::TaskFailed,
        EventKind::TaskLeaseLost => Type::TaskLeaseLost,
        EventKind::TaskReleased => Type::TaskReleased,
        EventKind::TaskDue => Type::TaskDue,
        EventKind::TaskCancelled => Type::TaskCancelled,
        EventKind::CancelRequested => Type::CancelRequested,
        EventKind::CancelDelivered => Type::CancelDelivered,
        EventKind::CancelAcknowledged => Type::CancelAcknowledged,
        EventKind::ChildChanged => Type::ChildChanged,
        EventKind::RetryRequested => Type::RetryRequested,
        EventKind::JobDeleted => Type::JobDeleted,
    }
}
