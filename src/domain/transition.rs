//! The state machine of a task: one exhaustive table, compared with `docs/state-machine.md` by a test.

use super::TaskState;

/// What can happen to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskInput {
    /// All tasks that it depends on have succeeded.
    Unblock,
    /// A worker takes its lease.
    Lease,
    /// The holder reports success.
    Succeed,
    /// The attempt failed or timed out, and another one may follow.
    FailAttempt,
    /// The task can not go on: no attempt is left, a limit ran out, or too many leases were lost.
    FailForGood,
    /// The lease ran out without a word, or was given back: the task may be taken again.
    Requeue,
    /// The time that it waited for has come.
    Due,
    /// Cancellation of the job was requested.
    RequestCancel,
    /// The holder stopped as it was told to, or the server stopped waiting for it.
    FinishCancel,
    /// Another task failed, so this one is not started, or not started again.
    Skip,
}

impl TaskInput {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Unblock,
        Self::Lease,
        Self::Succeed,
        Self::FailAttempt,
        Self::FailForGood,
        Self::Requeue,
        Self::Due,
        Self::RequestCancel,
        Self::FinishCancel,
        Self::Skip,
    ];
}

/// The state that follows; `None` if this can not happen to a task in that state.
pub fn next(state: TaskState, input: TaskInput) -> Option<TaskState> {
    use TaskInput as I;
    use TaskState as S;
    match (state, input) {
        (S::Pending, I::Unblock) => Some(S::Queued),
        (S::Pending, I::RequestCancel) => Some(S::Cancelled),
        (S::Pending, I::Skip) => Some(S::Skipped),
        (
            S::Pending,
            I::Lease
            | I::Succeed
            | I::FailAttempt
            | I::FailForGood
            | I::Requeue
            | I::Due
            | I::FinishCancel,
        ) => None,

        (S::Queued, I::Lease) => Some(S::Running),
        (S::Queued, I::Due) => Some(S::Queued),
        (S::Queued, I::FailForGood) => Some(S::Failed),
        (S::Queued, I::RequestCancel) => Some(S::Cancelled),
        (S::Queued, I::Skip) => Some(S::Skipped),
        (S::Queued, I::Unblock | I::Succeed | I::FailAttempt | I::Requeue | I::FinishCancel) => {
            None
        }

        (S::Running, I::Succeed) => Some(S::Succeeded),
        (S::Running, I::FailAttempt) => Some(S::BackingOff),
        (S::Running, I::FailForGood) => Some(S::Failed),
        (S::Running, I::Requeue) => Some(S::Queued),
        (S::Running, I::RequestCancel) => Some(S::Cancelling),
        (S::Running, I::Skip) => Some(S::Skipped),
        (S::Running, I::Unblock | I::Lease | I::Due | I::FinishCancel) => None,

        (S::BackingOff, I::Due) => Some(S::Queued),
        (S::BackingOff, I::FailForGood) => Some(S::Failed),
        (S::BackingOff, I::RequestCancel) => Some(S::Cancelled),
        (S::BackingOff, I::Skip) => Some(S::Skipped),
        (
            S::BackingOff,
            I::Unblock | I::Lease | I::Succeed | I::FailAttempt | I::Requeue | I::FinishCancel,
        ) => None,

        (S::Cancelling, I::Succeed) => Some(S::Succeeded),
        (S::Cancelling, I::FinishCancel) => Some(S::Cancelled),
        (
            S::Cancelling,
            I::Unblock
            | I::Lease
            | I::FailAttempt
            | I::FailForGood
            | I::Requeue
            | I::Due
            | I::RequestCancel
            | I::Skip,
        ) => None,

        (
            S::Succeeded | S::Failed | S::Cancelled | S::Skipped,
            I::Unblock
            | I::Lease
            | I::Succeed
            | I::FailAttempt
            | I::FailForGood
            | I::Requeue
            | I::Due
            | I::RequestCancel
            | I::FinishCancel
            | I::Skip,
        ) => None,
    }
}
