//! What workers and time do to a task that is, or was, under a lease.
//!
//! Nothing here acts without the comparison in `Job::is_held`: attempt and fencing token are those of the task, and the task is under a lease.

use std::time::Duration;

use super::{
    Job, LeaseKey, Status, TaskState, Timestamp,
    command::{Context, Refusal, Report, Reported},
    event::EventKind,
    lifecycle,
    limits::{MAX_RESULT_BYTES, Policy},
    reach::Reach,
    secrecy::Secrets,
    task::LeaseEnd,
    transition::TaskInput,
    working::{Edit, Working, cancel_order},
};

/// Takes a report, or refuses it. Of what is beyond the reporter's reach it is not told whether there is such a thing, and nothing follows from it.
pub(super) fn take(
    working: &mut Working,
    ctx: &mut Context<'_>,
    lease: &LeaseKey,
    report: Report,
    reach: Option<&Reach>,
) -> Result<Reported, Refusal> {
    let key = lease.job_key();
    let job = working.get(&key);
    let job = job.filter(|job| reach.is_none_or(|reach| reach.covers(lease, job)));
    let job = job.ok_or(Refusal::LeaseLost)?;
    if !job.is_held(lease) {
        let known = repeated(job, lease, &report);
        // Whoever counts this among its leases has to learn that it is none.
        working.out.dead.push(lease.clone());
        return known.then(Reported::default).ok_or(Refusal::LeaseLost);
    }
    // Before anything of it is kept.
    let report = match &job.tasks[lease.ordinal as usize].secrets {
        Secrets::Sealed(sealed) => ctx.secrecy.redact(&key, lease.ordinal, sealed, report),
        Secrets::None | Secrets::Erased => report,
    };
    if result_bytes(job, lease.ordinal, &report) > MAX_RESULT_BYTES {
        return Err(Refusal::ResultTooLarge);
    }
    let ordinal = lease.ordinal as usize;
    let chance = ctx.source.chance();
    Ok(working.edit(&key, ctx, |edit| {
        if let Some(ended) = apply(edit, ordinal, report, chance) {
            edit.job.tasks[ordinal].last_end = Some((lease.fencing_token, ended));
            edit.lease_ended(lease.clone(), false);
            return Reported::default();
        }
        let duration = edit.job.tasks[ordinal].lease_duration(edit.policy.lease_duration);
        let expiry = edit.now.after(duration);
        edit.extend_lease(ordinal, expiry);
        let cancel = if edit.job.tasks[ordinal].has_order() {
            delivered(edit, ordinal);
            cancel_order(edit.job, &edit.policy)
        } else {
            None
        };
        Reported {
            expiry: Some(expiry),
            cancel,
        }
    }))
}

/// Bytes of the job's results with this report's.
fn result_bytes(job: &Job, ordinal: u32, report: &Report) -> usize {
    let Report::Success {
        result: Some(result),
        ..
    } = report
    else {
        return 0;
    };
    let others = (0u32..).zip(&job.tasks).filter(|(at, _)| *at != ordinal);
    let others = others.filter_map(|(_, task)| task.result.as_ref());
    others.map(|other| other.0.len()).sum::<usize>() + result.0.len()
}

/// Whether a report was accepted before: the same lease ended in the same way.
fn repeated(job: &Job, lease: &LeaseKey, report: &Report) -> bool {
    let end = match report {
        Report::Success { .. } => LeaseEnd::Succeeded,
        Report::Failure { .. } => LeaseEnd::Failed,
        Report::Release { .. } => LeaseEnd::Released,
        Report::Cancelled { .. } => LeaseEnd::Cancelled,
        Report::Heartbeat
        | Report::Progress { .. }
        | Report::Warning { .. }
        | Report::CancelAcknowledged => return false,
    };
    job.tasks
        .get(lease.ordinal as usize)
        .is_some_and(|task| task.last_end == Some((lease.fencing_token, end)))
}

/// Tells again what the holder of a lease has to know. Nothing changes by that.
pub(super) fn recall(working: &mut Working, policy: &Policy, lease: &LeaseKey) {
    let job = working.get(&lease.job_key());
    let Some(job) = job.filter(|job| job.is_held(lease)) else {
        let task = job.and_then(|job| job.tasks.get(lease.ordinal as usize));
        let last_end = task.and_then(|task| task.last_end);
        match last_end {
            // The holder ended it, and knows.
            Some((token, _)) if token == lease.fencing_token => {
                working.out.dead.push(lease.clone());
            }
            Some(_) | None => working.out.lost.push(lease.clone()),
        }
        return;
    };
    if job.tasks[lease.ordinal as usize].has_order()
        && let Some(order) = cancel_order(job, policy)
    {
        working.out.cancels.push((lease.clone(), order));
    }
}

/// Notes that the request to cancel was handed to the holder.
pub(super) fn delivered(edit: &mut Edit<'_>, ordinal: usize) {
    let now = edit.now;
    if let Some(cancel) = &mut edit.job.cancel
        && cancel.delivered.is_none()
    {
        cancel.delivered = Some(now);
        let worker = edit.job.tasks[ordinal].worker.to_string();
        edit.record(EventKind::CancelDelivered, Some(ordinal), worker);
    }
}

/// Applies a report of the holder; answers how the lease ended, if it did.
fn apply(edit: &mut Edit<'_>, ordinal: usize, report: Report, chance: f64) -> Option<LeaseEnd> {
    let cancelling = edit.job.tasks[ordinal].state == TaskState::Cancelling;
    match report {
        Report::Heartbeat => None,
        Report::Progress {
            progress,
            status_detail,
        } => {
            let task = &mut edit.job.tasks[ordinal];
            // What is said with the progress is said, too: whoever shows a task has one place to look.
            let said = match &progress {
                Some(progress) if status_detail.is_empty() => progress.message.clone(),
                Some(_) | None => status_detail,
            };
            let same = progress.is_none() || task.progress == progress;
            if same && (said.is_empty() || task.status_detail == said) {
                return None;
            }
            if progress.is_some() {
                task.progress = progress;
            }
            say(edit, ordinal, said.clone());
            edit.touch(ordinal);
            edit.record(EventKind::TaskProgress, Some(ordinal), said);
            None
        }
        Report::Warning { message } => {
            lifecycle::warn(edit, ordinal, message.clone());
            edit.record(EventKind::TaskWarning, Some(ordinal), message);
            None
        }
        Report::Success {
            result,
            status_detail,
        } => {
            say(edit, ordinal, status_detail);
            edit.job.tasks[ordinal].result = result;
            acknowledge(edit);
            edit.step(ordinal, TaskInput::Succeed);
            edit.record(EventKind::TaskSucceeded, Some(ordinal), String::new());
            Some(LeaseEnd::Succeeded)
        }
        Report::Failure {
            message,
            reason,
            permanent,
            retry_after,
            status_detail,
        } => {
            say(edit, ordinal, status_detail);
            let reason = if reason.is_empty() {
                "TASK_FAILED"
            } else {
                &reason
            };
            note_error(edit, ordinal, &message, reason);
            if cancelling {
                acknowledge(edit);
                finish_cancel(edit, ordinal, message);
            } else {
                attempt_failed(edit, ordinal, permanent, retry_after, chance, message);
            }
            Some(LeaseEnd::Failed)
        }
        Report::Release { reason } => {
            if cancelling {
                acknowledge(edit);
                finish_cancel(edit, ordinal, reason);
            } else {
                requeue(edit, ordinal, EventKind::TaskReleased, reason);
            }
            Some(LeaseEnd::Released)
        }
        Report::CancelAcknowledged => {
            if cancelling {
                // Seen by nobody but the server, and written with the extended lease; what all see is the job's receipt.
                edit.job.tasks[ordinal].cancel_acknowledged = true;
                if acknowledge(edit) {
                    edit.record(EventKind::CancelAcknowledged, Some(ordinal), String::new());
                }
            }
            None
        }
        Report::Cancelled { status_detail } => {
            say(edit, ordinal, status_detail);
            if cancelling {
                acknowledge(edit);
                finish_cancel(edit, ordinal, String::new());
                Some(LeaseEnd::Cancelled)
            } else {
                // It stopped by itself: nobody asked, so the task is not cancelled but free again.
                requeue(edit, ordinal, EventKind::TaskReleased, String::new());
                Some(LeaseEnd::Cancelled)
            }
        }
    }
}

/// Looks for what time has done to a job.
pub(super) fn sweep(edit: &mut Edit<'_>, leases_hold_until: Timestamp, chance: f64) {
    for ordinal in 0..edit.job.tasks.len() {
        sweep_task(edit, ordinal, leases_hold_until, chance);
    }
    edit.cancel_children();
    edit.retime();
}

fn sweep_task(edit: &mut Edit<'_>, ordinal: usize, leases_hold_until: Timestamp, chance: f64) {
    let now = edit.now;
    let task = &edit.job.tasks[ordinal];
    let timeouts = task.spec.timeouts;
    let past = |span: Option<Duration>, from: Option<Timestamp>| {
        span.zip(from)
            .is_some_and(|(span, from)| from.after(span) <= now)
    };
    let never_taken = task.fencing_token == 0;
    let silent = task.lease_expiry.is_some_and(|t| t <= now) && leases_hold_until <= now;
    match task.state {
        TaskState::Queued | TaskState::BackingOff => {
            if past(timeouts.schedule_to_close, task.first_ready_time) {
                let message = "schedule_to_close ran out before the task could end";
                time_out(edit, ordinal, message);
            } else if never_taken && past(timeouts.schedule_to_start, task.ready_time) {
                let message = "schedule_to_start ran out before a worker took the task";
                time_out(edit, ordinal, message);
            } else if task.schedule_time.is_some_and(|t| t <= now) {
                edit.step(ordinal, TaskInput::Due);
                edit.make_ready(ordinal, now);
                edit.record(EventKind::TaskDue, Some(ordinal), String::new());
            }
        }
        TaskState::Running => {
            if past(timeouts.schedule_to_close, task.first_ready_time) {
                end_lease(edit, ordinal);
                time_out(
                    edit,
                    ordinal,
                    "schedule_to_close ran out before the task could end",
                );
            } else if past(timeouts.start_to_close, task.start_time) {
                end_lease(edit, ordinal);
                let message = "start_to_close ran out before the attempt could end";
                note_error(edit, ordinal, message, "TIMEOUT");
                attempt_failed(edit, ordinal, false, None, chance, message.to_owned());
            } else if silent {
                end_lease(edit, ordinal);
                lose(edit, ordinal);
            }
        }
        TaskState::Cancelling => {
            let Some(cancel) = &mut edit.job.cancel else {
                return;
            };
            if cancel.requested.after(edit.policy.cancel_grace) <= now {
                cancel.forced.get_or_insert(now);
                end_lease(edit, ordinal);
                let detail = "its worker did not stop in time".to_owned();
                finish_cancel(edit, ordinal, detail);
            } else if silent {
                edit.job.tasks[ordinal].lost_leases += 1;
                end_lease(edit, ordinal);
                finish_cancel(edit, ordinal, "its worker fell silent".to_owned());
            }
        }
        TaskState::Pending
        | TaskState::Succeeded
        | TaskState::Failed
        | TaskState::Cancelled
        | TaskState::Skipped => {}
    }
}

/// The server ends the current lease; its holder has to be told.
fn end_lease(edit: &mut Edit<'_>, ordinal: usize) {
    let lease = edit.job.lease_key(super::working::position(ordinal));
    edit.lease_ended(lease, true);
}

/// A lease ran out. It does not use up an attempt, but a task that keeps losing its workers may be what kills them.
fn lose(edit: &mut Edit<'_>, ordinal: usize) {
    let most = edit.policy.max_lost_leases;
    let task = &mut edit.job.tasks[ordinal];
    task.lost_leases += 1;
    let message = format!(
        "lease {} of {most} lost: worker {:?} fell silent",
        task.lost_leases, task.worker
    );
    let quarantined = task.lost_leases >= most || lifecycle::is_doomed(edit.job);
    note_error(edit, ordinal, &message, "LEASES_LOST");
    if quarantined {
        edit.job.tasks[ordinal].status = Status::Error;
        edit.step(ordinal, TaskInput::FailForGood);
        edit.record(EventKind::TaskFailed, Some(ordinal), message);
    } else {
        requeue(edit, ordinal, EventKind::TaskLeaseLost, message);
    }
}

fn requeue(edit: &mut Edit<'_>, ordinal: usize, kind: EventKind, detail: String) {
    if lifecycle::is_doomed(edit.job) {
        edit.job.tasks[ordinal].status = Status::Error;
        edit.step(ordinal, TaskInput::Skip);
    } else {
        edit.step(ordinal, TaskInput::Requeue);
        // It keeps its place in the queue.
        let since = edit.job.tasks[ordinal].first_ready_time;
        edit.make_ready(ordinal, since.unwrap_or(edit.now));
    }
    edit.record(kind, Some(ordinal), detail);
}

fn time_out(edit: &mut Edit<'_>, ordinal: usize, message: &str) {
    note_error(edit, ordinal, message, "TIMEOUT");
    edit.job.tasks[ordinal].status = Status::Error;
    edit.step(ordinal, TaskInput::FailForGood);
    edit.record(EventKind::TaskFailed, Some(ordinal), message.to_owned());
}

fn attempt_failed(
    edit: &mut Edit<'_>,
    ordinal: usize,
    permanent: bool,
    retry_after: Option<Duration>,
    chance: f64,
    message: String,
) {
    let doomed = lifecycle::is_doomed(edit.job);
    let now = edit.now;
    let task = &mut edit.job.tasks[ordinal];
    task.failures += 1;
    if permanent || doomed || task.failures >= task.spec.max_attempts {
        task.status = Status::Error;
        edit.step(ordinal, TaskInput::FailForGood);
        edit.record(EventKind::TaskFailed, Some(ordinal), message);
    } else {
        let pause =
            retry_after.unwrap_or_else(|| task.spec.retry_policy.pause(task.failures, chance));
        edit.step(ordinal, TaskInput::FailAttempt);
        edit.job.tasks[ordinal].schedule_time = Some(now.after(pause));
        edit.record(EventKind::TaskBackingOff, Some(ordinal), message);
    }
}

fn finish_cancel(edit: &mut Edit<'_>, ordinal: usize, detail: String) {
    edit.job.tasks[ordinal].status = Status::Error;
    edit.step(ordinal, TaskInput::FinishCancel);
    edit.record(EventKind::TaskCancelled, Some(ordinal), detail);
}

/// Notes in the receipt, if there is one, that a worker knows or has ended its task; answers whether that was news.
fn acknowledge(edit: &mut Edit<'_>) -> bool {
    let now = edit.now;
    edit.job.cancel.as_mut().is_some_and(|cancel| {
        let news = cancel.acknowledged.is_none();
        cancel.acknowledged.get_or_insert(now);
        cancel.delivered.get_or_insert(now);
        news
    })
}

fn note_error(edit: &mut Edit<'_>, ordinal: usize, message: &str, reason: &str) {
    edit.job.last_error = message.to_owned();
    let task = &mut edit.job.tasks[ordinal];
    task.last_error = message.to_owned();
    task.error_reason = reason.to_owned();
}

fn say(edit: &mut Edit<'_>, ordinal: usize, status_detail: String) {
    if !status_detail.is_empty() {
        edit.job.tasks[ordinal].status_detail = status_detail;
    }
}

/// Gives the lease of a ready task to a worker.
pub(super) fn lease(
    edit: &mut Edit<'_>,
    ordinal: usize,
    worker: &std::sync::Arc<str>,
    policy: &Policy,
) {
    let now = edit.now;
    let task = &mut edit.job.tasks[ordinal];
    task.attempt = task.failures + 1;
    // Not a count: after a failover or a restore that has lost a lease, the next one must not have its number.
    let time = u64::try_from(now.as_micros()).unwrap_or(0);
    task.fencing_token = time.max(task.fencing_token + 1);
    task.worker = worker.clone();
    task.start_time = Some(now);
    task.progress = None;
    task.cancel_acknowledged = false;
    edit.step(ordinal, TaskInput::Lease);
    let expiry = now.after(edit.job.tasks[ordinal].lease_duration(policy.lease_duration));
    edit.job.tasks[ordinal].lease_expiry = Some(expiry);
    edit.job.start_time.get_or_insert(now);
    edit.record(EventKind::TaskLeased, Some(ordinal), worker.to_string());
}
