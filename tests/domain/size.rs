//! The largest job there may be goes through its whole life, and how long that takes. Run it with `--release … --nocapture` to see.

use std::{collections::HashMap, sync::Arc, time::Instant};

use longhaul::domain::{
    Job, JobState, LeaseKey, Timestamp,
    command::{Command, Context, Decision, Loaded, ReadyTask, WriteKind},
    decide::decide,
    job::FailurePolicy,
    limits::MAX_TASKS,
    submission::{NewJob, NewTask},
};

use crate::world::*;

/// One after another, with nothing between the decisions but the newest job: what is measured is the core.
struct Alone {
    world: World,
    job: Option<Arc<Job>>,
    events: usize,
}

impl Alone {
    fn decide(&mut self, commands: Vec<Command>, slots: u32) -> Decision {
        let job = self.job.take();
        let ready: Vec<ReadyTask> = job
            .iter()
            .flat_map(|job| ready(job, slots as usize))
            .collect();
        let loaded = Loaded {
            jobs: job.clone().into_iter().collect(),
            requests: HashMap::new(),
            records: Vec::new(),
            ready: HashMap::from([(Arc::from("d"), ready)]),
        };
        drop(job);
        let claims = match slots {
            0 => Vec::new(),
            slots => vec![claim("w", &["d"], slots)],
        };
        let mut decision = decide(
            commands,
            &claims,
            loaded,
            &mut Context {
                now: self.world.now,
                policy: self.world.policy,
                leases_hold_until: Timestamp::default(),
                source: &mut self.world.source,
                secrecy: &self.world.vault,
                is_paused: &|_| false,
                served: &mut self.world.served,
                is_watched: &|_| false,
            },
        );
        self.events += decision.changes.events.len();
        decision.history.clear();
        let write = decision
            .changes
            .jobs
            .pop()
            .expect("every batch here changes the job");
        assert_ne!(write.how, WriteKind::Delete);
        self.job = Some(write.job);
        decision
    }
}

fn ready(job: &Job, most: usize) -> Vec<ReadyTask> {
    let tasks = (0u32..).zip(&job.tasks);
    tasks
        .filter_map(|(ordinal, task)| {
            task.ready_time.map(|ready_time| ReadyTask {
                key: job.key(),
                ordinal,
                priority: 0,
                ready_time,
            })
        })
        .take(most)
        .collect()
}

/// Submits a job and has its tasks done one at a time.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "how long it takes is printed for a person and judged by none: a busy machine must not fail a test"
)]
fn live(name: &str, spec: NewJob) {
    let world = World::new();
    let submission = world.submission(spec);
    let mut alone = Alone {
        world,
        job: None,
        events: 0,
    };
    let begin = Instant::now();
    alone.decide(vec![Command::Submit(submission)], 0);
    loop {
        let job = alone.job.as_ref().expect("there is one");
        if job.state.is_terminal() {
            break;
        }
        let grants = alone.decide(Vec::new(), 100).grants.remove(0);
        let leases: Vec<LeaseKey> = grants.into_iter().map(|grant| grant.lease).collect();
        for lease in leases {
            alone.decide(
                vec![Command::Report {
                    lease,
                    report: success(),
                    reach: None,
                }],
                0,
            );
        }
    }
    let job = alone.job.expect("there is one");
    assert_eq!(job.state, JobState::Succeeded);
    assert_eq!(alone.events, 1 + 2 * MAX_TASKS);
    println!(
        "{name}: {MAX_TASKS} tasks, {} revisions in {:?}",
        job.revision,
        begin.elapsed()
    );
}

fn named(i: usize) -> String {
    format!("t{i}")
}

#[test]
fn a_job_of_a_thousand_tasks_lives_quickly() {
    let middle: Vec<String> = (1..MAX_TASKS - 1).map(named).collect();
    let fan = (0..MAX_TASKS).map(|i| NewTask {
        depends_on: match i {
            0 => Vec::new(),
            i if i == MAX_TASKS - 1 => middle.clone(),
            _ => vec![named(0)],
        },
        ..new_task(&named(i), &[])
    });
    live("fan out and in", new_job(fan));
    let chain = (0..MAX_TASKS).rev().map(|i| NewTask {
        depends_on: (i > 0).then(|| named(i - 1)).into_iter().collect(),
        ..new_task(&named(i), &[])
    });
    live("chain, last task first", new_job(chain));
    let everything = (0..MAX_TASKS).map(|i| NewTask {
        depends_on: (i.saturating_sub(180)..i).map(named).collect(),
        ..new_task(&named(i), &[])
    });
    live("each after the 180 before", new_job(everything));
    live(
        "side by side",
        new_job((0..MAX_TASKS).map(|i| new_task(&named(i), &[]))),
    );
}

#[test]
fn a_failure_at_the_root_of_a_thousand_tasks_skips_them_all() {
    for failure_policy in [FailurePolicy::FailFast, FailurePolicy::Continue] {
        let mut world = World::new();
        let chain = (0..MAX_TASKS).rev().map(|i| NewTask {
            depends_on: (i > 0).then(|| named(i - 1)).into_iter().collect(),
            ..new_task(&named(i), &[])
        });
        let key = world.submit(NewJob {
            failure_policy,
            ..new_job(chain)
        });
        let lease = world.lease("d");
        world.report(&lease, fatal("x")).expect("held");
        assert_eq!(world.job(&key).state, JobState::Failed);
        assert_eq!(world.job(&key).revision, 3);
    }
}

#[test]
fn watching_a_large_job_costs_a_commit_a_bounded_memory() {
    let mut world = World::new();
    let key = world.submit(new_job((0..MAX_TASKS).map(|_| new_task("", &[]))));
    let slots = u32::try_from(MAX_TASKS).expect("a few");
    let decision = world.run(Vec::new(), &[claim("w", &["d"], slots)]);
    assert_eq!(decision.grants[0].len(), MAX_TASKS);
    let shown: Vec<_> = decision.history.iter().flatten().collect();
    assert!((2..=51).contains(&shown.len()), "{} snapshots", shown.len());
    assert_eq!(shown[shown.len() - 1].revision, world.job(&key).revision);
}
