//! What follows from a change within one job: which tasks may start, which are skipped, when the job has ended and how, and when to look again.

use std::time::Duration;

use super::{
    Job, JobState, Status, TaskState, Timestamp,
    event::EventKind,
    job::{CancelReceipt, FailurePolicy},
    limits::{MAX_WARNINGS, Policy},
    task::Task,
    transition::TaskInput,
    working::Edit,
};

/// How long to wait before child jobs that have not ended are told again to stop.
const REPEAT_CHILD_CANCEL: Duration = Duration::from_secs(1);

/// A new job: lets the tasks start that wait for no other.
pub(super) fn begin(edit: &mut Edit<'_>) {
    let since = edit.job.spec.schedule_time.unwrap_or(edit.now);
    for ordinal in 0..edit.job.tasks.len() {
        edit.touch(ordinal);
        if edit.job.tasks[ordinal].spec.depends_on.is_empty() {
            edit.step(ordinal, TaskInput::Unblock);
            edit.make_ready(ordinal, since);
        }
    }
}

/// Starts to cancel an open job.
pub(super) fn cancel(edit: &mut Edit<'_>, reason: String) {
    edit.job.cancel = Some(CancelReceipt {
        requested: edit.now,
        delivered: None,
        acknowledged: None,
        forced: None,
        reason: reason.clone(),
    });
    for ordinal in 0..edit.job.tasks.len() {
        match edit.job.tasks[ordinal].state {
            TaskState::Running => {
                edit.step(ordinal, TaskInput::RequestCancel);
                edit.order_cancel(ordinal);
            }
            TaskState::Pending | TaskState::Queued | TaskState::BackingOff => {
                edit.step(ordinal, TaskInput::RequestCancel);
                edit.job.tasks[ordinal].status = Status::Error;
            }
            TaskState::Cancelling
            | TaskState::Succeeded
            | TaskState::Failed
            | TaskState::Cancelled
            | TaskState::Skipped => {}
        }
    }
    edit.cancel_children();
    edit.record(EventKind::CancelRequested, None, reason);
}

/// A child job was submitted.
pub(super) fn child_added(edit: &mut Edit<'_>, child: super::JobId) {
    edit.job.children.total += 1;
    edit.record(
        EventKind::ChildChanged,
        None,
        format!("child job {child} was submitted"),
    );
}

/// A child job ended.
pub(super) fn child_ended(edit: &mut Edit<'_>, state: JobState) {
    let children = &mut edit.job.children;
    match state {
        JobState::Succeeded => children.succeeded += 1,
        JobState::Failed => children.failed += 1,
        JobState::Cancelled => children.cancelled += 1,
        JobState::Queued | JobState::Running | JobState::Cancelling => return,
    }
    if state != JobState::Succeeded && edit.job.status == Status::Normal {
        edit.job.status = Status::Warning;
    }
    edit.record(
        EventKind::ChildChanged,
        None,
        format!("a child job ended: {}", state.name()),
    );
}

/// Adds a warning to a task, and to the outcome of task and job.
pub(super) fn warn(edit: &mut Edit<'_>, ordinal: usize, message: String) {
    let task = &mut edit.job.tasks[ordinal];
    if task.warnings.len() >= MAX_WARNINGS {
        task.warnings.remove(0);
    }
    task.warnings.push(message);
    task.status = task.status.max(Status::Warning);
    edit.job.status = edit.job.status.max(Status::Warning);
    edit.touch(ordinal);
}

/// Whether a task of the job may not be started again, because the job can only fail.
pub(super) fn is_doomed(job: &Job) -> bool {
    job.spec.failure_policy == FailurePolicy::FailFast && job.count(TaskState::Failed) > 0
}

/// Brings tasks and job in line with a change: skips, starts, and ends.
pub(super) fn settle(edit: &mut Edit<'_>) {
    skip_what_can_not_run(edit);
    unblock(edit);
    let job = &edit.job;
    let over = job.children.open() == 0 && job.tasks.iter().all(|t| t.state.is_terminal());
    if over {
        end(edit);
    } else if job.cancel.is_some() {
        edit.set_state(JobState::Cancelling);
    } else if job.start_time.is_some() {
        edit.set_state(JobState::Running);
    }
}

fn skip_what_can_not_run(edit: &mut Edit<'_>) {
    if edit.job.tasks.iter().all(|t| !has_not_succeeded(t)) {
        return;
    }
    let doomed = is_doomed(edit.job);
    // A skipped task may block others in turn, whichever way the positions go.
    loop {
        let mut skipped = false;
        for ordinal in 0..edit.job.tasks.len() {
            let task = &edit.job.tasks[ordinal];
            let blocked = task.state == TaskState::Pending
                && task
                    .spec
                    .depends_on
                    .iter()
                    .any(|d| has_not_succeeded(&edit.job.tasks[*d as usize]));
            let waits = matches!(
                task.state,
                TaskState::Pending | TaskState::Queued | TaskState::BackingOff
            );
            if blocked || (doomed && waits) {
                edit.step(ordinal, TaskInput::Skip);
                edit.job.tasks[ordinal].status = Status::Error;
                skipped = true;
            }
        }
        if !skipped {
            return;
        }
    }
}

fn has_not_succeeded(task: &Task) -> bool {
    task.state.is_terminal() && task.state != TaskState::Succeeded
}

fn unblock(edit: &mut Edit<'_>) {
    if edit.job.cancel.is_some() {
        return;
    }
    for ordinal in 0..edit.job.tasks.len() {
        let task = &edit.job.tasks[ordinal];
        let free = task.state == TaskState::Pending
            && task
                .spec
                .depends_on
                .iter()
                .all(|d| edit.job.tasks[*d as usize].state == TaskState::Succeeded);
        if free {
            edit.step(ordinal, TaskInput::Unblock);
            let since = edit.job.spec.schedule_time.unwrap_or(edit.now);
            edit.make_ready(ordinal, since.max(edit.now));
        }
    }
}

fn end(edit: &mut Edit<'_>) {
    let job = &edit.job;
    let succeeded = job.count(TaskState::Succeeded);
    let cancelled =
        job.cancel.is_some() && (job.count(TaskState::Cancelled) > 0 || job.children.cancelled > 0);
    let (state, status) = if cancelled {
        (JobState::Cancelled, Status::Error)
    } else if succeeded == job.tasks.len() {
        (JobState::Succeeded, job.status)
    } else if succeeded > 0 {
        (JobState::Failed, Status::PartialFailures)
    } else {
        (JobState::Failed, Status::Error)
    };
    edit.set_state(state);
    edit.job.status = status;
    edit.job.end_time = Some(edit.now);
    edit.job.expire_time = Some(edit.now.after(edit.policy.retention));
}

/// When the sweeper has to look at a job next; `None` if nothing will happen by time alone.
pub(super) fn timer(
    job: &Job,
    policy: &Policy,
    now: Timestamp,
    leases_hold_until: Timestamp,
) -> Option<Timestamp> {
    if job.state.is_terminal() {
        return None;
    }
    let forced = job
        .cancel
        .as_ref()
        .map(|cancel| cancel.requested.after(policy.cancel_grace));
    let children =
        (job.cancel.is_some() && job.children.open() > 0).then(|| now.after(REPEAT_CHILD_CANCEL));
    job.tasks
        .iter()
        .filter_map(|task| task_timer(task, forced, leases_hold_until))
        .chain(children)
        .min()
}

fn task_timer(
    task: &Task,
    forced: Option<Timestamp>,
    leases_hold_until: Timestamp,
) -> Option<Timestamp> {
    let timeouts = &task.spec.timeouts;
    let whole = timeouts
        .schedule_to_close
        .zip(task.first_ready_time)
        .map(|(span, from)| from.after(span));
    let silence = task.lease_expiry.map(|t| t.max(leases_hold_until));
    let dates = match task.state {
        TaskState::Queued => {
            let taken = timeouts
                .schedule_to_start
                .zip(task.ready_time.filter(|_| task.fencing_token == 0))
                .map(|(span, from)| from.after(span));
            [task.schedule_time, taken, whole]
        }
        TaskState::BackingOff => [task.schedule_time, whole, None],
        TaskState::Running => [silence, task.attempt_deadline(), None],
        TaskState::Cancelling => [silence, forced, None],
        TaskState::Pending
        | TaskState::Succeeded
        | TaskState::Failed
        | TaskState::Cancelled
        | TaskState::Skipped => [None; 3],
    };
    dates.into_iter().flatten().min()
}
