//! What a store keeps, as a whole: for those who copy it, or look at all of it.

use std::sync::Arc;

use crate::domain::{Job, JobKey, command::Fingerprint, event::Event};

/// Events of one job that a [`Store::scan`](super::Store::scan) tells: what most jobs come to many times over, and what can be held for a page of jobs.
pub const MAX_KEPT_EVENTS: usize = 1_000;
/// Bytes of jobs and events after which a page of a scan ends.
pub(super) const MAX_SCANNED_BYTES: usize = 16 * 1024 * 1024;

/// A job with everything that is kept of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The job.
    pub job: Arc<Job>,
    /// Its oldest events, at most [`MAX_KEPT_EVENTS`]; those behind are had with [`Store::events`](super::Store::events).
    pub events: Vec<Event>,
    /// What its request id stands for, if it was made under one.
    pub request: Option<Fingerprint>,
    /// Whether the queue has those of its tasks that may be taken, and no others; so it is where the queue is an index of the tasks.
    pub is_queued: bool,
}

/// A way through all jobs of all tenants, and where on it one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// By tenant and id, behind this one. Meets every job that is stored.
    ByKey(Option<JobKey>),
    /// First changed first, behind this place, which is that of a [`ListPosition::Feed`](super::ListPosition::Feed). A job that changes moves to the end,
    /// so that it may be met again.
    ByChange(Option<u64>),
}

/// A page of a scan.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// The jobs.
    pub jobs: Vec<Kept>,
    /// Where the next page begins; `None` if there is none.
    pub next: Option<Scan>,
}

/// Something that is kept beside the jobs, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Note {
    /// What seals tokens: [`StoreInfo::token_key`](super::StoreInfo::token_key), which is read when the store is opened.
    TokenKey,
    /// The store is a copy that was not finished; of what, the copying knows.
    HalfCopied,
    /// The store is a copy that was finished; of what, the copying knows.
    CopyOf,
}

impl Note {
    /// Its name in the store.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TokenKey => "token_key",
            Self::HalfCopied => "half_copied",
            Self::CopyOf => "copy_of",
        }
    }
}

impl Kept {
    /// Bytes that it takes in memory, about.
    pub(super) fn memory_bytes(&self) -> usize {
        let details = self.events.iter().map(|event| event.detail.len());
        self.job.memory_bytes() + self.events.len() * size_of::<Event>() + details.sum::<usize>()
    }

    /// Whether all of its events are here.
    pub fn has_all_events(&self) -> bool {
        self.events.len() < MAX_KEPT_EVENTS
    }
}
