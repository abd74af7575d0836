//! Jobs that were touched lately, so that they need not be read again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::domain::{Job, JobKey};

/// Bytes, as estimated, of the jobs that are kept.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Jobs by key, the longest untouched first to go.
struct Jobs {
    jobs: LruCache<JobKey, (Arc<Job>, usize)>,
    bytes: usize,
}

impl Jobs {
    fn new() -> Self {
        Self {
            jobs: LruCache::unbounded(),
            bytes: 0,
        }
    }

    fn take(&mut self, key: &JobKey) -> Option<Arc<Job>> {
        let (job, bytes) = self.jobs.pop(key)?;
        self.bytes -= bytes;
        Some(job)
    }

    fn put(&mut self, job: Arc<Job>) {
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

/// Open jobs as they are stored. Owned by the commit loop; right only because nobody else writes to an exclusive store. Terminal jobs are not kept:
/// nothing will ever change them.
pub(super) struct HotJobs(Jobs);

impl HotJobs {
    pub(super) fn new() -> Self {
        Self(Jobs::new())
    }

    /// Takes a job out, so that the decision owns it and need not copy it.
    pub(super) fn take(&mut self, key: &JobKey) -> Option<Arc<Job>> {
        self.0.take(key)
    }

    /// Keeps a job as it was committed.
    pub(super) fn put(&mut self, job: Arc<Job>) {
        if !job.state.is_terminal() {
            self.0.put(job);
        }
    }
}

/// Jobs as this process committed them to a store that others write to as well: on the way from the commit loop to whoever follows the feed, which tells
/// where in it they stand.
pub(super) struct OwnJobs(Mutex<Jobs>);

impl OwnJobs {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Jobs::new()))
    }

    /// Keeps a job as it was committed.
    pub(super) fn put(&self, job: Arc<Job>) {
        self.jobs().put(job);
    }

    /// Takes a job out, if it is as new as this revision.
    pub(super) fn take(&self, key: &JobKey, revision: u64) -> Option<Arc<Job>> {
        let job = self.jobs().take(key);
        job.filter(|job| job.revision >= revision)
    }

    pub(super) fn clear(&self) {
        *self.jobs() = Jobs::new();
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // Whatever was left half done, each job in it was committed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
