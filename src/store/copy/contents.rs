//! What a store holds, in figures.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::digest::{Checksum, Digests};
use crate::domain::{
    JobState, Status, TaskState, counts::Counts, registry::RecordKind, wording::count,
};

/// How many jobs and tasks there are of each kind, as counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Jobs by state and status.
    pub jobs: BTreeMap<(JobState, Status), i64>,
    /// Tasks by driver and state.
    pub tasks: BTreeMap<(Arc<str>, TaskState), i64>,
}

/// How much is known of tenants and credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Tenants.
    pub tenants: u64,
    /// Credentials.
    pub keys: u64,
    /// Keys that secrets and tokens are sealed with.
    pub data_keys: u64,
}

/// What was found in a store by reading all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Tenants that have jobs.
    pub tenants: u64,
    /// Jobs and tasks.
    pub numbers: Numbers,
    /// Events of these jobs.
    pub events: u64,
    /// Request ids.
    pub requests: u64,
    /// Records of tenants and credentials.
    pub records: Records,
    /// Records of the audit log.
    pub audit: u64,
    /// Over each job with everything that is kept of it, and over each record.
    pub checksum: Checksum,
}

/// A job as it counts.
#[derive(Clone, Debug)]
pub(super) struct Weighed {
    pub(super) outcome: (JobState, Status),
    pub(super) tasks: Vec<(Arc<str>, TaskState)>,
    pub(super) events: u64,
    pub(super) has_request: bool,
    /// Whether those of its tasks that may be taken can be found.
    pub(super) is_queued: bool,
    pub(super) digests: Digests,
}

impl Numbers {
    /// Jobs in all.
    pub fn all_jobs(&self) -> u64 {
        self.jobs.values().sum::<i64>().unsigned_abs()
    }

    /// Tasks in all.
    pub fn all_tasks(&self) -> u64 {
        self.tasks.values().sum::<i64>().unsigned_abs()
    }

    pub(super) fn add(&mut self, counts: &Counts) {
        for (state, status, count) in &counts.jobs {
            *self.jobs.entry((*state, *status)).or_default() += count;
        }
        for (driver, state, count) in &counts.tasks {
            *self.tasks.entry((driver.clone(), *state)).or_default() += count;
        }
    }

    pub(super) fn count(&mut self, job: &Weighed) {
        *self.jobs.entry(job.outcome).or_default() += 1;
        for task in &job.tasks {
            *self.tasks.entry(task.clone()).or_default() += 1;
        }
    }

    /// What these say that others, which should be the same, do not.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let jobs = unlike(&self.jobs, &other.jobs, |(state, status)| {
            format!("jobs that are {} and {}", state.name(), status.name())
        });
        let tasks = unlike(&self.tasks, &other.tasks, |(driver, state)| {
            format!("tasks of {driver} that are {}", state.name())
        });
        jobs.into_iter().chain(tasks).collect()
    }
}

impl Records {
    /// Of no kind there are any.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn count(&mut self, kind: RecordKind) {
        *match kind {
            RecordKind::Tenant => &mut self.tenants,
            RecordKind::Key => &mut self.keys,
            RecordKind::DataKey => &mut self.data_keys,
        } += 1;
    }
}

/// For people.
impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tenants,
            keys,
            data_keys,
        } = *self;
        let tenants = count(tenants, "record");
        let (keys, data_keys) = (count(keys, "key"), count(data_keys, "data key"));
        write!(f, "{tenants} of tenants, {keys} and {data_keys}")
    }
}

impl Contents {
    pub(super) fn count(&mut self, job: &Weighed) {
        self.numbers.count(job);
        self.events += job.events;
        self.requests += u64::from(job.has_request);
        self.checksum.add(&job.digests.whole());
    }
}

fn unlike<K: Ord>(
    counted: &BTreeMap<K, i64>,
    found: &BTreeMap<K, i64>,
    name: impl Fn(&K) -> String,
) -> Vec<String> {
    let of = |numbers: &BTreeMap<K, i64>, key| numbers.get(key).copied().unwrap_or(0);
    let mut keys: Vec<&K> = counted.keys().chain(found.keys()).collect();
    keys.sort();
    keys.dedup();
    let both = keys
        .into_iter()
        .map(|key| (key, of(counted, key), of(found, key)));
    both.filter(|(_, counted, found)| counted != found)
        .map(|(key, counted, found)| format!("{counted} {} where there are {found}", name(key)))
        .collect()
}

/// For people.
impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (jobs, tasks) = (self.all_jobs(), self.all_tasks());
        write!(f, "{} with {}", count(jobs, "job"), count(tasks, "task"))
    }
}
