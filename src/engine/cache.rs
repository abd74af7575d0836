//! Open jobs that were touched lately, so that a lease or a report need not read them again.
//!
//! Owned by the commit loop; right only because nobody else writes to an exclusive store. Terminal jobs are not kept: nothing will ever change them.

use std::sync::Arc;

use lru::LruCache;

use crate::domain::{Job, JobKey};

/// Bytes, as estimated, of the jobs that are kept.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Jobs by key, the longest untouched first to go.
pub(super) struct HotJobs {
    jobs: LruCache<JobKey, (Arc<Job>, usize)>,
    bytes: usize,
}

impl HotJobs {
    pub(super) fn new() -> Self {
        Self {
            jobs: LruCache::unbounded(),
            bytes: 0,
        }
    }

    /// Takes a job out, so that the decision owns it and need not copy it.
    pub(super) fn take(&mut self, key: &JobKey) -> Option<Arc<Job>> {
        let (job, bytes) = self.jobs.pop(key)?;
        self.bytes -= bytes;
        Some(job)
    }

    /// Keeps a job as it was committed.
    pub(super) fn put(&mut self, job: Arc<Job>) {
        if job.state.is_terminal() {
            return;
        }
        let bytes = job.memory_bytes();
        self.bytes += bytes;
        if let Some((_, (_, old))) = self.jobs.push(job.key(), (job, bytes)) {
            self.bytes -= old;
        }
        while self.bytes > MAX_BYTES
            && let Some((_, (_, bytes))) = self.jobs.pop_lru()
        {
            self.bytes -= bytes;
        }
    }
}
