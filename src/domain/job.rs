//! A job: what a client submits and follows.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::{
    JobId, JobKey, LeaseKey, Task, TaskState, Tenant, Timestamp,
    task::{Object, Progress},
    wording::{Sentence, count},
};

/// What a job or a task takes besides its documents and what workers said, roughly.
const BASE_BYTES: usize = 1_024;
/// What stands between the parts of [`Job::standing`].
pub const STANDING_PARTS: &str = "; ";

/// Where in its life a job is. See `docs/state-machine.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobState {
    /// Stored; no task has started yet.
    Queued,
    /// At least one task has started.
    Running,
    /// Cancellation was requested and has not ended.
    Cancelling,
    /// Every task succeeded.
    Succeeded,
    /// At least one task failed.
    Failed,
    /// Cancelled before it could finish.
    Cancelled,
}

/// The outcome so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Healthy.
    Normal,
    /// A warning was reported, or a child job did not succeed.
    Warning,
    /// Some tasks succeeded and some did not.
    PartialFailures,
    /// Nothing succeeded, or cancelled.
    Error,
}

/// What a failed task does to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum FailurePolicy {
    /// The rest is skipped.
    #[default]
    FailFast,
    /// Only its dependents are skipped.
    Continue,
}

/// What a client asked for; never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    /// What the operation does.
    pub action: String,
    /// One line for people.
    pub summary: String,
    /// What it is about.
    pub object: Option<Object>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Higher runs first.
    pub priority: i32,
    /// Who submitted it.
    pub creator: String,
    /// The job that it is a part of.
    pub parent: Option<JobId>,
    /// What a failed task does to the others.
    pub failure_policy: FailurePolicy,
    /// Not before this time.
    pub schedule_time: Option<Timestamp>,
    /// W3C trace context of the submission.
    pub traceparent: String,
}

/// How the child jobs are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChildCounts {
    /// All of them.
    pub total: u32,
    /// Those that succeeded.
    pub succeeded: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that were cancelled.
    pub cancelled: u32,
}

impl ChildCounts {
    /// Those that have not ended.
    pub fn open(&self) -> u32 {
        self.total
            .saturating_sub(self.succeeded + self.failed + self.cancelled)
    }
}

/// What became of a request to cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelReceipt {
    /// When it was accepted.
    pub requested: Timestamp,
    /// When it was first sent to a worker.
    pub delivered: Option<Timestamp>,
    /// When a worker first acknowledged it.
    pub acknowledged: Option<Timestamp>,
    /// When the server stopped waiting.
    pub forced: Option<Timestamp>,
    /// The caller's reason.
    pub reason: String,
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Its owner.
    pub tenant: Tenant,
    /// What was asked for.
    pub spec: Arc<JobSpec>,
    /// Under which request id it was submitted; empty if none.
    pub request_id: String,
    /// How deep it is nested under other jobs.
    pub depth: u32,
    /// The job that it repeats.
    pub retry_of: Option<JobId>,
    /// Where in its life it is.
    pub state: JobState,
    /// The outcome so far.
    pub status: Status,
    /// The newest error that an attempt of a task reported.
    pub last_error: String,
    /// One more for each committed change.
    pub revision: u64,
    /// The tasks, as submitted.
    pub tasks: Vec<Task>,
    /// How its child jobs are doing.
    pub children: ChildCounts,
    /// The receipt of a cancellation.
    pub cancel: Option<CancelReceipt>,
    /// When the sweeper must look at it, at the latest. May be early, never late.
    pub timer: Option<Timestamp>,
    /// When it was submitted.
    pub create_time: Timestamp,
    /// When the first task started.
    pub start_time: Option<Timestamp>,
    /// When it last changed; later with each revision.
    pub update_time: Timestamp,
    /// When it became terminal.
    pub end_time: Option<Timestamp>,
    /// When it may be removed.
    pub expire_time: Option<Timestamp>,
}

impl JobSpec {
    /// What kind of operation it is, in one word: the action and the type of its object, if it has one with a type.
    pub fn kind(&self) -> Cow<'_, str> {
        match self.object.as_ref().map_or("", |object| &object.kind) {
            "" => Cow::Borrowed(&self.action),
            kind => Cow::Owned(format!("{}_{kind}", self.action)),
        }
    }
}

impl JobState {
    /// All of them, in the order of the proto enum.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Running,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether a job in this state never changes again.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
            Self::Queued | Self::Running | Self::Cancelling => false,
        }
    }

    /// As in the proto enum, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Cancelling => "CANCELLING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

impl Status {
    /// All of them, in the order of the proto enum.
    pub const ALL: [Self; 4] = [
        Self::Normal,
        Self::Warning,
        Self::PartialFailures,
        Self::Error,
    ];

    /// As in the proto enum, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Warning => "WARNING",
            Self::PartialFailures => "PARTIAL_FAILURES",
            Self::Error => "ERROR",
        }
    }
}

impl Job {
    /// What finds this job.
    pub fn key(&self) -> JobKey {
        JobKey {
            tenant: self.tenant.clone(),
            job: self.id,
        }
    }

    /// What finds the parent of this job.
    pub fn parent_key(&self) -> Option<JobKey> {
        self.spec.parent.map(|job| JobKey {
            tenant: self.tenant.clone(),
            job,
        })
    }

    /// The name of the current lease of a task.
    pub fn lease_key(&self, ordinal: u32) -> LeaseKey {
        let task = &self.tasks[ordinal as usize];
        LeaseKey {
            tenant: self.tenant.clone(),
            job: self.id,
            ordinal,
            attempt: task.attempt,
            fencing_token: task.fencing_token,
        }
    }

    /// Whether the holder of a lease has something to hear: it is lost, or its task is to stop.
    pub fn has_order_for(&self, lease: &LeaseKey) -> bool {
        let task = self.tasks.get(lease.ordinal as usize);
        task.is_none_or(|task| !self.is_held(lease) || task.has_order())
    }

    /// Whether a lease is the current one of its task.
    pub fn is_held(&self, lease: &LeaseKey) -> bool {
        let task = self.tasks.get(lease.ordinal as usize);
        task.is_some_and(|task| {
            task.state.is_leased()
                && task.attempt == lease.attempt
                && task.fencing_token == lease.fencing_token
        })
    }

    /// Bytes of memory that it takes, roughly: for bounds, not for bookkeeping.
    pub fn memory_bytes(&self) -> usize {
        let tasks = self.tasks.iter().map(|task| {
            let documents = [&task.spec.request_payload, &task.result];
            let documents = documents.into_iter().flatten();
            BASE_BYTES
                + documents.map(|document| document.0.len()).sum::<usize>()
                + task.secrets.len()
                + task.text_bytes()
        });
        BASE_BYTES + tasks.sum::<usize>()
    }

    /// Bytes of memory that it takes, roughly, beside what it shares with its other versions: documents and specs.
    pub fn unshared_bytes(&self) -> usize {
        let tasks = self
            .tasks
            .iter()
            .map(|task| size_of::<Task>() + task.text_bytes());
        size_of::<Self>() + tasks.sum::<usize>()
    }

    /// How many tasks are in a state.
    pub fn count(&self, state: TaskState) -> usize {
        self.tasks.iter().filter(|t| t.state == state).count()
    }

    /// Its only task's own progress, or finished tasks out of all.
    pub fn progress(&self) -> Progress {
        if let [task] = self.tasks.as_slice()
            && let Some(progress) = &task.progress
        {
            return progress.clone();
        }
        let done = self.tasks.iter().filter(|t| t.state.is_terminal()).count();
        Progress {
            done: i64::try_from(done).unwrap_or(i64::MAX),
            total: i64::try_from(self.tasks.len()).unwrap_or(i64::MAX),
            unit: "tasks".into(),
            message: String::new(),
        }
    }

    /// What explains state and status to a person, in English.
    pub fn status_detail(&self) -> String {
        let parts = self.standing();
        let parts: Vec<&str> = parts.iter().map(Sentence::english).collect();
        parts.join(STANDING_PARTS)
    }

    /// The parts of one line that explains state and status to a person: of its tasks and, if there are any, of its child jobs.
    pub fn standing(&self) -> Vec<Sentence> {
        if let [task] = self.tasks.as_slice()
            && !task.status_detail.is_empty()
            && self.children.total == 0
        {
            return vec![Sentence::foreign(task.status_detail.as_str())];
        }
        let mut parts = vec![self.standing_of_tasks()];
        if self.children.total > 0 {
            parts.push(self.standing_of_children());
        }
        parts
    }

    fn standing_of_tasks(&self) -> Sentence {
        let tasks = |number| count(number, "task");
        let total = self.tasks.len();
        let [succeeded, failed, cancelled, skipped] = [
            TaskState::Succeeded,
            TaskState::Failed,
            TaskState::Cancelled,
            TaskState::Skipped,
        ]
        .map(|state| self.count(state));
        match self.state {
            JobState::Queued => match self.spec.schedule_time {
                Some(_) => Sentence::plain(
                    "job-waits-for-time",
                    "waits for its schedule time or a worker",
                ),
                None => Sentence::plain("job-waits-for-worker", "waits for a worker"),
            },
            JobState::Running => {
                let done = self.tasks.iter().filter(|t| t.state.is_terminal()).count();
                Sentence::made(
                    "job-tasks-done",
                    format!("{done} of {} done", tasks(total)),
                    vec![("done", (&done).into()), ("total", (&total).into())],
                )
            }
            JobState::Cancelling => {
                let stopping = self.count(TaskState::Cancelling);
                Sentence::made(
                    "job-waits-to-stop",
                    format!("waits for {} to stop", tasks(stopping)),
                    vec![("tasks", (&stopping).into())],
                )
            }
            JobState::Succeeded => Sentence::made(
                "job-tasks-succeeded",
                format!("{total} of {} succeeded", tasks(total)),
                vec![("total", (&total).into())],
            ),
            JobState::Failed | JobState::Cancelled => Sentence::made(
                "job-tasks-ended",
                format!(
                    "{succeeded} of {} succeeded, {failed} failed, {cancelled} cancelled, {skipped} skipped",
                    tasks(total)
                ),
                vec![
                    ("succeeded", (&succeeded).into()),
                    ("total", (&total).into()),
                    ("failed", (&failed).into()),
                    ("cancelled", (&cancelled).into()),
                    ("skipped", (&skipped).into()),
                ],
            ),
        }
    }

    fn standing_of_children(&self) -> Sentence {
        let ChildCounts { total, failed, .. } = self.children;
        let ended = total - self.children.open();
        Sentence::made(
            "job-children-ended",
            format!(
                "{ended} of {} ended, {failed} failed",
                count(total, "child job")
            ),
            vec![
                ("ended", (&ended).into()),
                ("total", (&total).into()),
                ("failed", (&failed).into()),
            ],
        )
    }
}
