//! Maintained counters: how many jobs there are of each outcome, and how many tasks in each state.

use std::{collections::HashMap, sync::Arc};

use super::{JobState, Status, TaskState, Tenant, filter::Filter};

/// What a counter counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// Jobs of a tenant in a state, with a status.
    Jobs(Tenant, JobState, Status),
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
    /// Jobs by state and status, in their order.
    pub jobs: Vec<(JobState, Status, i64)>,
    /// Tasks by driver and state.
    pub tasks: Vec<(Arc<str>, TaskState, i64)>,
}

impl Counts {
    /// How many jobs match; `None` if the counters do not tell.
    pub fn matching(&self, filter: &Filter) -> Option<i64> {
        if !filter.is_about_outcome() {
            return None;
        }
        let matches = |(state, status, _): &&(JobState, Status, i64)| {
            filter.matches_outcome(*state, *status) == Some(true)
        };
        Some(self.jobs.iter().filter(matches).map(|(_, _, n)| n).sum())
    }

    /// Jobs by state alone.
    pub fn jobs_by_state(&self) -> Vec<(JobState, i64)> {
        let mut by_state: Vec<(JobState, i64)> = Vec::new();
        for (state, _, count) in &self.jobs {
            match by_state.last_mut() {
                Some((last, sum)) if last == state => *sum += count,
                _ => by_state.push((*state, *count)),
            }
        }
        by_state
    }
}
