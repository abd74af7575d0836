//! What is to be written of jobs that were read, given what is there already.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    domain::{
        Job, JobKey, Timestamp,
        command::{Changes, JobWrite, RequestKey, RequestRecord, WriteKind},
        counts::Counted,
        event::Event,
    },
    store::{Kept, MAX_KEPT_EVENTS},
};

/// One commit, and what follows it before the next.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) changes: Changes,
    /// A job whose events go on after a revision. It is as it was then, until they have followed.
    pub(super) rest: Option<(Arc<Job>, u64)>,
}

/// What becomes of jobs in their order, which is that of their changes; `there` are the revisions of those that the destination has.
pub(super) fn steps(page: Vec<Kept>, there: &HashMap<JobKey, u64>) -> Vec<Step> {
    let mut steps = vec![Step::default()];
    for kept in page {
        let step = match steps.last_mut() {
            Some(step) if step.rest.is_none() => step,
            _ => {
                // What comes next has changed later than the events that are still to follow.
                steps.push(Step::default());
                let last = steps.len() - 1;
                &mut steps[last]
            }
        };
        match there.get(&kept.job.key()) {
            None => insert(step, kept),
            Some(revision) if *revision < kept.job.revision => {
                step.rest = Some((kept.job, *revision));
            }
            Some(_) => {}
        }
    }
    steps.retain(|step| !step.changes.is_empty() || step.rest.is_some());
    steps
}

fn insert(step: &mut Step, kept: Kept) {
    let is_whole = kept.has_all_events();
    let Kept {
        job,
        events,
        request,
        is_queued: _,
    } = kept;
    let newest = events.last().map_or(job.revision, |event| event.revision);
    let counts = &mut step.changes.counts;
    let tenant = || job.tenant.clone();
    counts.add(Counted::Jobs(tenant(), job.state, job.status), 1);
    for task in &job.tasks {
        let driver = task.spec.driver.clone();
        counts.add(Counted::Tasks(tenant(), driver, task.state), 1);
    }
    if let Some(fingerprint) = request {
        let id = RequestKey {
            tenant: tenant(),
            id: job.request_id.clone(),
        };
        let key = job.key();
        let record = RequestRecord { key, fingerprint };
        step.changes.requests.push((id, record));
    }
    step.changes.events.extend(events);
    step.changes.jobs.push(JobWrite {
        job: match is_whole {
            true => Arc::clone(&job),
            false => as_of(&job, newest),
        },
        how: WriteKind::Insert,
    });
    if !is_whole && newest < job.revision {
        step.rest = Some((job, newest));
    }
}

/// More events of a job that is there as it was before them.
pub(super) fn continuation(job: &Arc<Job>, events: Vec<Event>) -> Changes {
    let newest = match events.last() {
        Some(event) if events.len() == MAX_KEPT_EVENTS => event.revision,
        _ => job.revision,
    };
    let write = JobWrite {
        job: as_of(job, newest),
        how: WriteKind::Update {
            job: true,
            tasks: Vec::new(),
        },
    };
    Changes {
        jobs: vec![write],
        events,
        ..Changes::default()
    }
}

/// The job with another revision: so a store can hold it to what its events say.
fn as_of(job: &Arc<Job>, revision: u64) -> Arc<Job> {
    let mut job = Job::clone(job);
    job.revision = revision;
    Arc::new(job)
}

/// A driver that is paused, since when, and why.
type Paused = (Arc<str>, Timestamp, String);

/// What makes the same drivers paused there as here.
pub(super) fn drivers(here: Vec<Paused>, there: &[Paused]) -> Changes {
    let resumed = there.iter().map(|(driver, ..)| (driver.clone(), None));
    let mut drivers: BTreeMap<_, _> = resumed.collect();
    let paused = here.into_iter();
    drivers.extend(paused.map(|(driver, since, reason)| (driver, Some((since, reason)))));
    Changes {
        drivers: drivers.into_iter().collect(),
        ..Changes::default()
    }
}
