//! Names of things.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A job's id: a UUIDv7, so that ids sort by time of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub Uuid);

/// A task's id: a UUIDv7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub Uuid);

/// Who owns a job. It comes from the caller's credential and is the first part of every key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tenant(pub Arc<str>);

/// Finds a job. Another tenant's job is not found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// The owner.
    pub tenant: Tenant,
    /// The job.
    pub job: JobId,
}

/// Names one lease: a task, an attempt, and the fencing token that tells it from every other lease of the task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseKey {
    /// The owner of the job.
    pub tenant: Tenant,
    /// The job.
    pub job: JobId,
    /// The task's position in the job.
    pub ordinal: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Greater than that of every lease of the task before.
    pub fencing_token: u64,
}

impl LeaseKey {
    /// The key of the job that the lease belongs to.
    pub fn job_key(&self) -> JobKey {
        JobKey {
            tenant: self.tenant.clone(),
            job: self.job,
        }
    }
}

impl Tenant {
    /// Wraps a name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
