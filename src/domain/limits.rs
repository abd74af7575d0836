//! Limits on what may be submitted and how long things may take.

use std::time::Duration;

/// Tasks in a job: enough for a fan-out by hand, and few enough to be read at once.
pub const MAX_TASKS: usize = 1_000;
/// Bytes of a job's payloads and texts together.
pub const MAX_JOB_BYTES: usize = 1024 * 1024;
/// Bytes of the results of a job's tasks together: a watcher's last message has them twice, and clients take 4 MiB by default.
pub const MAX_RESULT_BYTES: usize = 1024 * 1024;
/// Submissions in a batch: one commit's worth.
pub const MAX_BATCH_JOBS: usize = 1_000;
/// Reports in a message.
pub const MAX_REPORTS: usize = 1_000;
/// Bytes of request payloads that one worker is given at once, besides the first: clients take messages of 4 MiB by default.
pub const MAX_GRANT_BYTES: usize = 2 * 1024 * 1024;
/// Leases that one worker may hold at once.
pub const MAX_SLOTS: u32 = 10_000;
/// Leases in an answer to Acquire.
pub const MAX_ACQUIRE: u32 = 1_000;
/// Drivers that one worker may serve.
pub const MAX_DRIVERS: usize = 100;
/// Secrets of a task.
pub const MAX_SECRETS: usize = 64;
/// Bytes of the name of a secret.
pub const MAX_SECRET_NAME_BYTES: usize = 128;
/// Bytes of a secret: keys and certificates are a few thousand.
pub const MAX_SECRET_BYTES: usize = 32 * 1024;
/// Bytes of a task's secrets together: each report of its worker is searched for them.
pub const MAX_SECRETS_BYTES: usize = 64 * 1024;
/// Paths of sensitive fields of a task: each name of a payload is compared with them.
pub const MAX_SENSITIVE_FIELDS: usize = 64;
/// Labels of a job.
pub const MAX_LABELS: usize = 64;
/// Bytes of a label's key.
pub const MAX_LABEL_KEY_BYTES: usize = 63;
/// Bytes of a label's value, and of names of people, workers and objects.
pub const MAX_NAME_BYTES: usize = 256;
/// Bytes of a word: action, driver, task name, resource type, request id.
pub const MAX_WORD_BYTES: usize = 128;
/// Bytes of a line for people.
pub const MAX_LINE_BYTES: usize = 1_024;
/// Bytes of a W3C `traceparent`: version 00 has 55, later ones may have more.
pub const MAX_TRACEPARENT_BYTES: usize = 512;
/// Bytes of what a worker may say about a task.
pub const MAX_DETAIL_BYTES: usize = 4_096;
/// The highest priority; the lowest is its negative.
pub const MAX_PRIORITY: i32 = 1_000;
/// Attempts of a task.
pub const MAX_ATTEMPTS: u32 = 100;
/// Warnings that a task keeps; older ones are in the events.
pub const MAX_WARNINGS: usize = 20;
/// How deep child jobs may nest: each change of a child may change all of its ancestors.
pub const MAX_DEPTH: u32 = 8;
/// Jobs in a page.
pub const MAX_PAGE: usize = 1_000;
/// Jobs in a page if the caller does not say.
pub const DEFAULT_PAGE: usize = 50;
/// How far ahead a job may be scheduled.
pub const MAX_DELAY: Duration = Duration::from_secs(366 * 24 * 3600);
/// The longest limit on a task's time.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);
/// The shortest limit on a task's time.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(1);
/// The shortest lease that a task may ask for.
pub const MIN_HEARTBEAT: Duration = Duration::from_secs(1);
/// The longest pause between attempts.
pub const MAX_BACKOFF: Duration = Duration::from_secs(24 * 3600);

/// What the operator sets; every decision is made under these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a lease lasts from each report, unless the task says otherwise.
    pub lease_duration: Duration,
    /// How long a worker may take to stop after a request to cancel.
    pub cancel_grace: Duration,
    /// How many leases of a task may be lost before it fails.
    pub max_lost_leases: u32,
    /// How long a finished job is kept.
    pub retention: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(30),
            max_lost_leases: 3,
            retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
