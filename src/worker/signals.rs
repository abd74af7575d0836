//! What the runtime tells whoever works on a task: that it was cancelled, that its lease is lost, that the worker stops.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use tokio_util::sync::CancellationToken;

use crate::client::clock;

/// A request to cancel a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CancelRequest {
    /// Why, for people; may be empty.
    pub reason: String,
    /// After this time the server no longer waits for the worker.
    pub deadline: Option<SystemTime>,
}

impl CancelRequest {
    /// How long the server still waits, if it set a limit.
    pub fn remaining(&self) -> Option<Duration> {
        let remaining = self.deadline?.duration_since(clock::wall_now());
        Some(remaining.unwrap_or_default())
    }
}

/// Why work on a task should stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Somebody cancelled the job: clean up and return [`Outcome::Cancelled`](super::Outcome::Cancelled).
    Cancelled(CancelRequest),
    /// The lease is lost and another worker may be at work already: touch nothing any more. The outcome is dropped.
    LeaseLost,
    /// The worker shuts down and its drain time is over: return [`Outcome::Released`](super::Outcome::Released), or an end if it is near.
    Shutdown,
}

/// The signals of one lease. Each is given at most once and stays.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Whose lease it is, for the log.
    pub(super) task_id: String,
    pub(super) cancelled: CancellationToken,
    request: OnceLock<CancelRequest>,
    pub(super) lease_lost: CancellationToken,
    pub(super) shutdown: CancellationToken,
}

impl Signals {
    pub(super) fn new(task_id: &str) -> Self {
        Self {
            task_id: task_id.to_owned(),
            ..Self::default()
        }
    }

    /// Cancels the task; the first request counts.
    pub(super) fn cancel(&self, request: CancelRequest) {
        self.request.get_or_init(|| request);
        self.cancelled.cancel();
    }

    /// Resolves when the task was cancelled.
    pub(super) async fn cancel_request(&self) -> CancelRequest {
        self.cancelled.cancelled().await;
        self.request.get().cloned().unwrap_or_default()
    }

    /// Resolves when work on the task should stop, for whichever reason; a lost lease goes before the others.
    pub(super) async fn stop(&self) -> Stop {
        tokio::select! {
            biased;
            () = self.lease_lost.cancelled() => Stop::LeaseLost,
            request = self.cancel_request() => Stop::Cancelled(request),
            () = self.shutdown.cancelled() => Stop::Shutdown,
        }
    }
}
