//! What is true of every stored job at every moment, said a second time and in other words than the core does.

use longhaul::domain::{
    Job, JobState, Status, Task, TaskState, Timestamp, job::FailurePolicy, limits::*,
    secrecy::Secrets,
};

/// What is wrong with a job, if anything.
pub fn faults(job: &Job, policy: &Policy, hold: Timestamp) -> Vec<String> {
    let mut faults = Faults(Vec::new());
    for task in &job.tasks {
        faults.of_task(job, task);
    }
    faults.of_job(job, policy);
    let next = next_change(job, policy, hold);
    faults.must(
        next.is_none() || job.timer.is_some_and(|timer| Some(timer) <= next),
        "the timer is later than the next thing that time does",
    );
    let told = faults.0.into_iter();
    told.map(|fault| format!("job {}: {fault}: {job:#?}", job.id))
        .collect()
}

/// When time alone changes a job next.
pub fn next_change(job: &Job, policy: &Policy, hold: Timestamp) -> Option<Timestamp> {
    let changes = job.tasks.iter().flat_map(|task| {
        let limits = task.spec.timeouts;
        let after = |span: Option<std::time::Duration>, from: Option<Timestamp>| {
            span.zip(from).map(|(span, from)| from.after(span))
        };
        let whole = after(limits.schedule_to_close, task.first_ready_time);
        let silence = task.lease_expiry.map(|expiry| expiry.max(hold));
        match task.state {
            TaskState::Queued => {
                let untaken = task.ready_time.filter(|_| task.attempt == 0);
                let start = after(limits.schedule_to_start, untaken);
                [task.schedule_time, start, whole]
            }
            TaskState::BackingOff => [task.schedule_time, whole, None],
            TaskState::Running => {
                let close = after(limits.start_to_close, task.start_time);
                [silence, close, whole]
            }
            TaskState::Cancelling => {
                let requested = job.cancel.as_ref().map(|cancel| cancel.requested);
                [silence, after(Some(policy.cancel_grace), requested), None]
            }
            _ => [None; 3],
        }
    });
    changes.flatten().min()
}

struct Faults(Vec<&'static str>);

impl Faults {
    fn must(&mut self, holds: bool, fault: &'static str) {
        if !holds {
            self.0.push(fault);
        }
    }

    fn of_task(&mut self, job: &Job, task: &Task) {
        let state = task.state;
        let queued = state == TaskState::Queued;
        let waits = matches!(
            state,
            TaskState::Pending | TaskState::Queued | TaskState::BackingOff
        );
        let dependencies = || task.spec.depends_on.iter().map(|d| &job.tasks[*d as usize]);
        let in_vain = |other: &Task| matches!(other.state, TaskState::Failed | TaskState::Skipped);
        let some_failed = job.count(TaskState::Failed) > 0;

        self.must(
            matches!(state, TaskState::Running | TaskState::Cancelling)
                == task.lease_expiry.is_some(),
            "a lease that runs out is set exactly while a worker holds the task",
        );
        self.must(
            task.ready_time.is_some() == (queued && task.schedule_time.is_none()),
            "the time since when it is ready is set exactly while it may be taken",
        );
        self.must(
            state != TaskState::BackingOff || task.schedule_time.is_some(),
            "a pause has an end",
        );
        self.must(
            task.schedule_time.is_none()
                || matches!(state, TaskState::Queued | TaskState::BackingOff),
            "only a task that waits for a time has one",
        );
        self.must(
            task.end_time.is_some() == state.is_terminal(),
            "the end has its time",
        );
        self.must(
            match task.secrets {
                Secrets::None => true,
                Secrets::Sealed(_) => !state.is_terminal(),
                Secrets::Erased => state.is_terminal(),
            },
            "secrets are there until the end, and no longer",
        );
        self.must(
            (task.attempt == 0) == (task.fencing_token == 0),
            "attempts and leases begin together",
        );
        self.must(
            task.lease_expiry.is_none() || task.attempt == task.failures + 1,
            "the attempt is the one after those that failed",
        );
        self.must(
            task.failures < task.spec.max_attempts
                || (state == TaskState::Failed && task.failures == task.spec.max_attempts),
            "attempts are limited",
        );
        self.must(
            (task.fencing_token == 0 && !queued)
                || dependencies().all(|d| d.state == TaskState::Succeeded),
            "a task starts after those that it depends on",
        );
        self.must(
            state != TaskState::Pending
                || (dependencies().any(|d| d.state != TaskState::Succeeded)
                    && !dependencies().any(in_vain)),
            "a task is pending only while it waits for another that may succeed",
        );
        self.must(
            state != TaskState::Skipped
                || match job.spec.failure_policy {
                    FailurePolicy::FailFast => some_failed,
                    FailurePolicy::Continue => dependencies().any(in_vain),
                },
            "a task is skipped only because of a failed one",
        );
        self.must(
            !(waits && some_failed && job.spec.failure_policy == FailurePolicy::FailFast),
            "after a failure under FAIL_FAST nothing waits",
        );
        self.must(
            match job.cancel {
                Some(_) => !waits && state != TaskState::Running,
                None => !matches!(state, TaskState::Cancelling | TaskState::Cancelled),
            },
            "tasks are cancelled exactly when that was requested",
        );
        self.must(task.warnings.len() <= MAX_WARNINGS, "warnings are limited");
        let expected = match state {
            TaskState::Failed | TaskState::Cancelled | TaskState::Skipped => Status::Error,
            _ if task.warnings.is_empty() => Status::Normal,
            _ => Status::Warning,
        };
        self.must(
            task.status == expected,
            "a task's status follows from its life",
        );
    }

    fn of_job(&mut self, job: &Job, policy: &Policy) {
        let all = job.tasks.len();
        let succeeded = job.count(TaskState::Succeeded);
        let ended = job.tasks.iter().all(|task| task.state.is_terminal());
        let started = job.tasks.iter().any(|task| task.fencing_token > 0);
        let children = &job.children;
        let troubled = job.tasks.iter().any(|task| !task.warnings.is_empty())
            || children.failed + children.cancelled > 0;
        let healthy = match troubled {
            true => Status::Warning,
            false => Status::Normal,
        };
        let cancelled = job.cancel.is_some()
            && job.count(TaskState::Cancelled) + children.cancelled as usize > 0;
        let expected = match (ended && children.open() == 0, job.cancel.is_some()) {
            (false, true) => (JobState::Cancelling, healthy),
            (false, false) if started => (JobState::Running, healthy),
            (false, false) => (JobState::Queued, healthy),
            (true, _) if cancelled => (JobState::Cancelled, Status::Error),
            (true, _) if succeeded == all => (JobState::Succeeded, healthy),
            (true, _) if succeeded > 0 => (JobState::Failed, Status::PartialFailures),
            (true, _) => (JobState::Failed, Status::Error),
        };
        self.must(
            (job.state, job.status) == expected,
            "state and status follow from tasks, children and cancellation",
        );
        self.must(
            job.start_time.is_some() == started,
            "a job has started once a task has",
        );
        let kept = job.end_time.map(|end| end.after(policy.retention));
        self.must(
            job.state.is_terminal() == job.end_time.is_some() && job.expire_time == kept,
            "a finished job is kept for the time of retention",
        );
        self.must(
            !job.state.is_terminal() || job.timer.is_none(),
            "nothing happens to a finished job",
        );
        self.must(job.depth <= MAX_DEPTH, "nesting is limited");
        if let Some(cancel) = &job.cancel {
            self.must(
                cancel.acknowledged.is_none()
                    || (cancel.delivered.is_some() && cancel.delivered <= cancel.acknowledged),
                "what is acknowledged was delivered before",
            );
        }
    }
}
