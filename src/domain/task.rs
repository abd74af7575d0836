//! A task: one unit of work in a job.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::Serialize;

use super::{Status, TaskId, Timestamp, secrecy::Secrets};

/// A JSON object in encoded form. The domain passes it on and never looks inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Document(pub Bytes);

/// Where in its life a task is. See `docs/state-machine.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// Waits for another task of the job.
    Pending,
    /// Waits for a worker, or for the job's schedule time.
    Queued,
    /// A worker holds its lease.
    Running,
    /// An attempt failed; the next one starts after a pause.
    BackingOff,
    /// A worker holds its lease and is to stop.
    Cancelling,
    /// A worker reported success.
    Succeeded,
    /// Failed for good.
    Failed,
    /// Cancelled.
    Cancelled,
    /// Never started, because another task failed.
    Skipped,
}

/// What a client asked for; never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSpec {
    /// Unique in the job.
    pub name: String,
    /// What it does.
    pub action: String,
    /// The kind of worker that can carry it out.
    pub driver: Arc<str>,
    /// What it is about; `None` means the job's object.
    pub object: Option<Object>,
    /// The kind of resource that it works on.
    pub resource_type: String,
    /// Positions of the tasks that must succeed first.
    pub depends_on: Vec<u32>,
    /// Attempts that may fail before the task does.
    pub max_attempts: u32,
    /// The pause between attempts.
    pub retry_policy: RetryPolicy,
    /// Limits on the task's time.
    pub timeouts: Timeouts,
    /// What the worker gets to work with.
    pub request_payload: Option<Document>,
}

/// The thing that a job or task is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Object {
    /// Its kind.
    pub kind: String,
    /// Its id in the system that owns it.
    pub id: String,
    /// Its name for people.
    pub name: String,
}

/// `initial * multiplier^(failed - 1)`, at most `max`, less a random part of up to `jitter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The first pause.
    pub initial_backoff: Duration,
    /// The longest pause.
    pub max_backoff: Duration,
    /// The growth from one pause to the next, from 1.
    pub multiplier: f64,
    /// The largest part that chance may take off, from 0 to 1.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(300),
            multiplier: 2.0,
            jitter: 0.2,
        }
    }
}

impl RetryPolicy {
    /// The pause after `failed` attempts; `chance` is from 0 (the whole pause) to 1 (the shortest).
    pub fn pause(&self, failed: u32, chance: f64) -> Duration {
        let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let whole = self.initial_backoff.as_secs_f64() * self.multiplier.powi(exponent);
        let capped = whole.min(self.max_backoff.as_secs_f64());
        let jittered = capped * (1.0 - self.jitter * chance.clamp(0.0, 1.0));
        Duration::try_from_secs_f64(jittered).unwrap_or(self.max_backoff)
    }
}

/// Limits on a task's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// From the time it may start until a worker takes it.
    pub schedule_to_start: Option<Duration>,
    /// From the start of an attempt to its end.
    pub start_to_close: Option<Duration>,
    /// From the time it may first start until its end.
    pub schedule_to_close: Option<Duration>,
    /// The longest silence of the worker: the length of its lease.
    pub heartbeat: Option<Duration>,
}

/// How far a piece of work is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Units done so far.
    pub done: i64,
    /// Units in all; 0 if not known.
    pub total: i64,
    /// What is counted.
    pub unit: String,
    /// One line for people.
    pub message: String,
}

/// How a lease ended, kept so that a repeated report can be told from a stale one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// The worker reported success.
    Succeeded,
    /// The worker reported failure.
    Failed,
    /// The worker gave it back.
    Released,
    /// The worker stopped because it was told to.
    Cancelled,
}

/// A task as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// What was asked for.
    pub spec: Arc<TaskSpec>,
    /// Where in its life it is.
    pub state: TaskState,
    /// The outcome so far.
    pub status: Status,
    /// What the worker said last: a line, or the message of its progress if that came without one.
    pub status_detail: String,
    /// The newest error that an attempt reported.
    pub last_error: String,
    /// The reason code of `last_error`.
    pub error_reason: String,
    /// The number of the current or last attempt; 0 before the first.
    pub attempt: u32,
    /// Attempts that failed.
    pub failures: u32,
    /// That of the newest lease: the time of its grant in microseconds, or one more than the last; 0 if there was none.
    pub fencing_token: u64,
    /// Leases that ran out without a word.
    pub lost_leases: u32,
    /// Who holds, or last held, the lease.
    pub worker: Arc<str>,
    /// When the lease runs out; set exactly in RUNNING and CANCELLING.
    pub lease_expiry: Option<Timestamp>,
    /// The last lease that ended by a report, by fencing token.
    pub last_end: Option<(u64, LeaseEnd)>,
    /// How far the current attempt is.
    pub progress: Option<Progress>,
    /// Warnings, oldest first.
    pub warnings: Vec<String>,
    /// What the worker returned.
    pub result: Option<Document>,
    /// Not before this time: the job's schedule time or the end of a pause.
    pub schedule_time: Option<Timestamp>,
    /// Since when a worker may take it; set exactly while one may.
    pub ready_time: Option<Timestamp>,
    /// When it could be taken for the first time.
    pub first_ready_time: Option<Timestamp>,
    /// When the current or last attempt started.
    pub start_time: Option<Timestamp>,
    /// When it last changed.
    pub update_time: Timestamp,
    /// When it became terminal.
    pub end_time: Option<Timestamp>,
    /// Whether the holder acknowledged the request to cancel.
    pub cancel_acknowledged: bool,
    /// What its workers alone may know.
    pub secrets: Secrets,
}

impl TaskState {
    /// All of them, in the order of the proto enum.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Queued,
        Self::Running,
        Self::BackingOff,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Skipped,
    ];

    /// Whether a task in this state never changes again.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Skipped => true,
            Self::Pending | Self::Queued | Self::Running | Self::BackingOff | Self::Cancelling => {
                false
            }
        }
    }

    /// Whether a worker holds a lease of a task in this state.
    pub fn is_leased(self) -> bool {
        matches!(self, Self::Running | Self::Cancelling)
    }

    /// As in the proto enum, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::BackingOff => "BACKING_OFF",
            Self::Cancelling => "CANCELLING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::Skipped => "SKIPPED",
        }
    }
}

impl Task {
    /// A task that was just submitted.
    pub fn new(id: TaskId, spec: Arc<TaskSpec>, now: Timestamp) -> Self {
        Self {
            id,
            spec,
            state: TaskState::Pending,
            status: Status::Normal,
            status_detail: String::new(),
            last_error: String::new(),
            error_reason: String::new(),
            attempt: 0,
            failures: 0,
            fencing_token: 0,
            lost_leases: 0,
            worker: Arc::from(""),
            lease_expiry: None,
            last_end: None,
            progress: None,
            warnings: Vec::new(),
            result: None,
            schedule_time: None,
            ready_time: None,
            first_ready_time: None,
            start_time: None,
            update_time: now,
            end_time: None,
            cancel_acknowledged: false,
            secrets: Secrets::None,
        }
    }

    /// Whether it is to stop, and its holder has not said that it knows.
    pub fn has_order(&self) -> bool {
        self.state == TaskState::Cancelling && !self.cancel_acknowledged
    }

    /// Bytes of what was said of it.
    pub(super) fn text_bytes(&self) -> usize {
        let warnings = self.warnings.iter().map(String::len).sum::<usize>();
        warnings + self.status_detail.len() + self.last_error.len()
    }

    /// How long a lease of this task lasts.
    pub fn lease_duration(&self, default: Duration) -> Duration {
        self.spec.timeouts.heartbeat.unwrap_or(default)
    }

    /// When the current attempt must have ended by its timeouts.
    pub fn attempt_deadline(&self) -> Option<Timestamp> {
        let timeouts = &self.spec.timeouts;
        let close = timeouts.start_to_close.zip(self.start_time);
        let whole = timeouts.schedule_to_close.zip(self.first_ready_time);
        [close, whole]
            .into_iter()
            .flatten()
            .map(|(span, from)| from.after(span))
            .min()
    }
}
