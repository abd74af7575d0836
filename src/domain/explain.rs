//! Why a job is where it is, in words that a person at 3 a.m. can act on.

use std::sync::Arc;

use super::{Job, JobState, Task, TaskState, Timestamp, wording::count};

/// Why one task, or the job, is where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Stable and machine-readable.
    pub reason: &'static str,
    /// The task; `None` for the job itself.
    pub task: Option<String>,
    /// A sentence.
    pub message: String,
    /// What a person could do.
    pub hint: String,
    /// When it will change by itself.
    pub until: Option<Timestamp>,
}

/// What has to be known besides the job.
pub struct Facts<'a> {
    /// The time.
    pub now: Timestamp,
    /// Why a driver is paused.
    pub paused: &'a dyn Fn(&str) -> Option<String>,
    /// How many workers of a driver are connected that may take the job's tasks, and how many slots of theirs are free.
    pub workers: &'a dyn Fn(&str) -> (usize, usize),
    /// How many tasks are to be taken before this one, by position; `None` if it is not ready.
    pub queued_before: &'a dyn Fn(u32) -> Option<u64>,
}

/// Explains a job: a sentence on the whole, and one on each part that matters.
pub fn explain(job: &Job, facts: &Facts<'_>) -> (String, Vec<Explanation>) {
    let summary = format!("{}: {}", job.state.name(), job.status_detail());
    let mut parts = Vec::new();
    if let Some(cancel) = &job.cancel {
        parts.push(Explanation {
            reason: "CANCEL_REQUESTED",
            task: None,
            message: match cancel.reason.as_str() {
                "" => "cancellation was requested".to_owned(),
                reason => format!("cancellation was requested: {reason}"),
            },
            hint: String::new(),
            until: None,
        });
    }
    if job.children.open() > 0 {
        parts.push(Explanation {
            reason: "WAITS_FOR_CHILDREN",
            task: None,
            message: format!(
                "waits for {} to end",
                count(job.children.open(), "child job")
            ),
            hint: format!("list them with the filter parent_job_id = \"{}\"", job.id),
            until: None,
        });
    }
    let matters = |task: &Task| match job.state {
        JobState::Queued | JobState::Running | JobState::Cancelling => !task.state.is_terminal(),
        JobState::Succeeded => false,
        JobState::Failed | JobState::Cancelled => task.state != TaskState::Succeeded,
    };
    for (ordinal, task) in (0u32..).zip(&job.tasks) {
        if matters(task) {
            parts.push(explain_task(job, ordinal, task, facts));
        }
    }
    (summary, parts)
}

fn explain_task(job: &Job, ordinal: u32, task: &Task, facts: &Facts<'_>) -> Explanation {
    let part = |reason, message: String, hint: String, until| Explanation {
        reason,
        task: Some(task.spec.name.clone()),
        message,
        hint,
        until,
    };
    match task.state {
        TaskState::Pending => {
            let waits_for: Vec<&str> = task
                .spec
                .depends_on
                .iter()
                .map(|d| &job.tasks[*d as usize])
                .filter(|other| other.state != TaskState::Succeeded)
                .map(|other| other.spec.name.as_str())
                .collect();
            let message = format!("waits for {}", waits_for.join(", "));
            part("WAITS_FOR_TASK", message, String::new(), None)
        }
        TaskState::Queued => explain_queued(ordinal, task, facts),
        TaskState::Running => part(
            "RUNNING",
            format!("attempt {} is with worker {:?}", task.attempt, task.worker),
            String::new(),
            task.attempt_deadline(),
        ),
        TaskState::BackingOff => part(
            "BACKING_OFF",
            format!(
                "attempt {} of {} failed: {}",
                task.failures, task.spec.max_attempts, task.last_error
            ),
            "retry the job to start the next attempt now".to_owned(),
            task.schedule_time,
        ),
        TaskState::Cancelling => part(
            "CANCELLING",
            match task.cancel_acknowledged {
                true => format!("worker {:?} is stopping", task.worker),
                false => format!("worker {:?} has not acknowledged yet", task.worker),
            },
            String::new(),
            task.lease_expiry,
        ),
        TaskState::Succeeded => part("SUCCEEDED", "succeeded".to_owned(), String::new(), None),
        TaskState::Failed => part(
            "FAILED",
            format!(
                "failed after {}: {}",
                count(task.failures, "attempt"),
                task.last_error
            ),
            "mend the cause and retry the job".to_owned(),
            None,
        ),
        TaskState::Cancelled => part("CANCELLED", "was cancelled".to_owned(), String::new(), None),
        TaskState::Skipped => part(
            "SKIPPED",
            "was not started because another task failed".to_owned(),
            String::new(),
            None,
        ),
    }
}

fn explain_queued(ordinal: u32, task: &Task, facts: &Facts<'_>) -> Explanation {
    let driver: &Arc<str> = &task.spec.driver;
    let part = |reason, message: String, hint: String, until| Explanation {
        reason,
        task: Some(task.spec.name.clone()),
        message,
        hint,
        until,
    };
    if let Some(time) = task.schedule_time.filter(|time| *time > facts.now) {
        let message = "waits for its schedule time".to_owned();
        return part("SCHEDULED", message, String::new(), Some(time));
    }
    let until = task
        .spec
        .timeouts
        .schedule_to_start
        .zip(task.ready_time)
        .map(|(span, from)| from.after(span));
    if let Some(why) = (facts.paused)(driver) {
        let message = match why.as_str() {
            "" => format!("driver {driver} is paused"),
            why => format!("driver {driver} is paused: {why}"),
        };
        let hint = format!("longhaul driver resume {driver}");
        return part("DRIVER_PAUSED", message, hint, until);
    }
    match (facts.workers)(driver) {
        (0, _) => part(
            "NO_WORKER",
            format!("no worker of driver {driver} is connected"),
            format!("longhaul work --driver {driver} -- COMMAND"),
            until,
        ),
        (workers, free) => {
            let ahead = (facts.queued_before)(ordinal).unwrap_or(0);
            part(
                "QUEUED_BEHIND",
                format!(
                    "waits behind {} of driver {driver}; {} connected, {} free",
                    count(ahead, "task"),
                    count(workers, "worker"),
                    count(free, "slot")
                ),
                match free {
                    0 => "start more workers, or give them more slots".to_owned(),
                    _ => String::new(),
                },
                until,
            )
        }
    }
}
