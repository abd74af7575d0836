//! Maintained counters: how many jobs and tasks are in each state.

use std::{collections::HashMap, sync::Arc};

use super::{JobState, TaskState, Tenant};

/// What a counter counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// Jobs of a tenant in a state.
    Jobs(Tenant, JobState),
    /// Tasks of a tenant's driver in a state.
    Tasks(Tenant, Arc<str>, TaskState),
}

/// What a batch adds to and takes from the counters; written once per commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountDeltas(HashMap<Counted, i64>);

impl CountDeltas {
    /// Notes a change.
    pub fn add(&mut self, counted: Counted, by: i64) {
        *self.0.entry(counted).or_default() += by;
    }

    /// The counters that really change.
    pub fn iter(&self) -> impl Iterator<Item = (&Counted, i64)> {
        self.0
            .iter()
            .filter(|(_, by)| **by != 0)
            .map(|(counted, by)| (counted, *by))
    }
}

/// Counters as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs by state.
    pub jobs: Vec<(JobState, i64)>,
    /// Tasks by driver and state.
    pub tasks: Vec<(Arc<str>, TaskState, i64)>,
}
