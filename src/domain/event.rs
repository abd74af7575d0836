//! One committed change of a job, as it is kept.

use super::{JobId, JobKey, JobState, Status, TaskId, Tenant, Timestamp};

/// What changed. The order is that of the proto enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The job was stored.
    JobSubmitted,
    /// A worker took a lease.
    TaskLeased,
    /// A worker got on.
    TaskProgress,
    /// A worker reported a warning.
    TaskWarning,
    /// A worker reported success.
    TaskSucceeded,
    /// An attempt failed and another one follows.
    TaskBackingOff,
    /// A task failed for good.
    TaskFailed,
    /// A lease ran out.
    TaskLeaseLost,
    /// A lease was given back.
    TaskReleased,
    /// A task that waited for a time may start now.
    TaskDue,
    /// A task was cancelled.
    TaskCancelled,
    /// Cancellation was requested.
    CancelRequested,
    /// The cancellation was sent to a worker.
    CancelDelivered,
    /// A worker acknowledged the cancellation.
    CancelAcknowledged,
    /// A child job was added or ended.
    ChildChanged,
    /// A pause between attempts was cut short.
    RetryRequested,
    /// The job was removed.
    JobDeleted,
}

impl EventKind {
    /// All of them, in the order of the proto enum.
    pub const ALL: [Self; 17] = [
        Self::JobSubmitted,
        Self::TaskLeased,
        Self::TaskProgress,
        Self::TaskWarning,
        Self::TaskSucceeded,
        Self::TaskBackingOff,
        Self::TaskFailed,
        Self::TaskLeaseLost,
        Self::TaskReleased,
        Self::TaskDue,
        Self::TaskCancelled,
        Self::CancelRequested,
        Self::CancelDelivered,
        Self::CancelAcknowledged,
        Self::ChildChanged,
        Self::RetryRequested,
        Self::JobDeleted,
    ];

    /// Whether the change is of progress alone, which a watch may throttle.
    pub fn is_progress(self) -> bool {
        self == Self::TaskProgress
    }

    /// Whether tasks may be ready after it that were not before.
    pub fn may_ready_tasks(self) -> bool {
        match self {
            Self::JobSubmitted
            | Self::TaskSucceeded
            | Self::TaskBackingOff
            | Self::TaskFailed
            | Self::TaskLeaseLost
            | Self::TaskReleased
            | Self::TaskDue
            | Self::TaskCancelled
            | Self::RetryRequested => true,
            Self::TaskLeased
            | Self::TaskProgress
            | Self::TaskWarning
            | Self::CancelRequested
            | Self::CancelDelivered
            | Self::CancelAcknowledged
            | Self::ChildChanged
            | Self::JobDeleted => false,
        }
    }

    /// Whether a lease may have ended by it, or its holder have been asked to stop.
    pub fn may_concern_holders(self) -> bool {
        match self {
            Self::TaskSucceeded
            | Self::TaskBackingOff
            | Self::TaskFailed
            | Self::TaskLeaseLost
            | Self::TaskReleased
            | Self::TaskCancelled
            | Self::CancelRequested
            | Self::JobDeleted => true,
            Self::JobSubmitted
            | Self::TaskLeased
            | Self::TaskProgress
            | Self::TaskWarning
            | Self::TaskDue
            | Self::CancelDelivered
            | Self::CancelAcknowledged
            | Self::ChildChanged
            | Self::RetryRequested => false,
        }
    }
}

/// One committed change of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The job's owner.
    pub tenant: Tenant,
    /// The job.
    pub job: JobId,
    /// The revision that the change made.
    pub revision: u64,
    /// The job's update time from then on: when it was decided, or just behind the revision before.
    pub time: Timestamp,
    /// What changed.
    pub kind: EventKind,
    /// The task that changed.
    pub task: Option<TaskRef>,
    /// State and status before the change; `None` when the job is new.
    pub before: Option<(JobState, Status)>,
    /// State and status after the change.
    pub after: (JobState, Status),
    /// What was said.
    pub detail: String,
}

impl Event {
    /// The key of the job that changed.
    pub fn job_key(&self) -> JobKey {
        JobKey {
            tenant: self.tenant.clone(),
            job: self.job,
        }
    }
}

/// The task that an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskRef {
    /// Its position in the job.
    pub ordinal: u32,
    /// Its id.
    pub id: TaskId,
    /// The attempt.
    pub attempt: u32,
}
