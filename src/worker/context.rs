//! What a handler sees of its task and of the world.

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize;

use super::{
    desk::Desk,
    limits::{MAX_MESSAGE_BYTES, MAX_TEXT_BYTES, MAX_UNIT_BYTES, truncated},
    signals::{CancelRequest, Signals, Stop},
};
use crate::proto::v1::{JobTask, Lease, Progress, ProgressReport};

/// One attempt of one task. Cheap to clone; the clones speak for the same attempt. Once its lease is lost, whatever is reported here counts for nothing.
#[derive(Clone, Debug)]
pub struct TaskContext(Arc<Attempt>);

struct Attempt {
    task: JobTask,
    number: u32,
    fencing_token: u64,
    lease_token: Bytes,
    traceparent: String,
    secrets: BTreeMap<String, String>,
    deadline: Option<SystemTime>,
    signals: Arc<Signals>,
    desk: Arc<Desk>,
}

/// Names the attempt, and says nothing of what it is to work with.
impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("task", &self.task.id)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.secrets.values_mut().for_each(Zeroize::zeroize);
    }
}

impl TaskContext {
    pub(super) fn new(lease: Lease, signals: Arc<Signals>, desk: Arc<Desk>) -> Self {
        let Lease {
            task,
            attempt,
            fencing_token,
            lease_token,
            expire_time: _,
            duration: _,
            heartbeat_interval: _,
            traceparent,
            deadline,
            secrets,
        } = lease;
        Self(Arc::new(Attempt {
            task: task.unwrap_or_default(),
            number: attempt,
            fencing_token,
            lease_token,
            traceparent,
            secrets: secrets.into_iter().collect(),
            deadline: deadline.and_then(|time| time.try_into().ok()),
            signals,
            desk,
        }))
    }

    /// The task, with its request payload.
    pub fn task(&self) -> &JobTask {
        &self.0.task
    }

    /// The secrets of the task by name, as they were submitted. The server takes them out of reports where it knows them, but keep them out as far as you can.
    pub fn secrets(&self) -> &BTreeMap<String, String> {
        &self.0.secrets
    }

    /// The number of the attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.0.number
    }

    /// Larger with each lease of the task. Hand it to systems that can refuse the writes of an older holder.
    pub fn fencing_token(&self) -> u64 {
        self.0.fencing_token
    }

    /// The W3C trace context of the submission; empty if there was none.
    pub fn traceparent(&self) -> &str {
        &self.0.traceparent
    }

    /// When the attempt must have ended by its timeouts, if there are any.
    pub fn deadline(&self) -> Option<SystemTime> {
        self.0.deadline
    }

    /// Says how far the task is; a unit of more than 128 bytes and a message of more than 1,024 are cut. Never waits; of what was not sent yet only the newest counts.
    pub fn progress(&self, progress: Progress) {
        self.report(ProgressReport {
            progress: Some(Progress {
                done: progress.done.max(0),
                total: progress.total.max(0),
                unit: truncated(progress.unit, MAX_UNIT_BYTES),
                message: truncated(progress.message, MAX_MESSAGE_BYTES),
            }),
            status_detail: String::new(),
        });
    }

    /// Says in a line for people what the task is about. Never waits; of what was not sent yet only the newest counts.
    pub fn status_detail(&self, line: impl Into<String>) {
        self.report(ProgressReport {
            progress: None,
            status_detail: truncated(line.into(), MAX_TEXT_BYTES),
        });
    }

    /// Says that something is not right, though the work goes on. Never dropped, so it waits while 20 warnings are unanswered.
    pub async fn warning(&self, message: impl Into<String>) {
        let message = truncated(message.into(), MAX_TEXT_BYTES);
        if !message.is_empty() {
            self.0.desk.warn(&self.0.lease_token, message).await;
        }
    }

    /// Resolves when the task is cancelled.
    pub async fn cancelled(&self) -> CancelRequest {
        self.0.signals.cancel_request().await
    }

    /// Fires when the task is cancelled.
    pub fn cancel_token(&self) -> &CancellationToken {
        &self.0.signals.cancelled
    }

    /// Fires when the lease is lost: another worker may be at work on the task already.
    pub fn lease_lost_token(&self) -> &CancellationToken {
        &self.0.signals.lease_lost
    }

    /// Fires when the worker shuts down and its drain time is over.
    pub fn shutdown_token(&self) -> &CancellationToken {
        &self.0.signals.shutdown
    }

    /// Resolves when the work should stop, for whichever reason.
    pub async fn stop_requested(&self) -> Stop {
        self.0.signals.stop().await
    }

    fn report(&self, report: ProgressReport) {
        self.0.desk.progress(&self.0.lease_token, report);
    }
}
