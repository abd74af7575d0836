//! What is sent twice, tried again, or removed.

use longhaul::domain::{
    JobState, TaskState, Tenant,
    command::{Command, Refusal, Submission},
    event::EventKind,
    submission::{NewJob, NewTask},
};

use crate::world::*;

fn submission(world: &World, request_id: &str, fingerprint: u8) -> Submission {
    Submission {
        request_id: request_id.into(),
        fingerprint: [fingerprint; 32],
        ..world.submission(new_job([new_task("a", &[])]))
    }
}

#[test]
fn the_same_request_gives_the_same_job() {
    let mut world = World::new();
    let same = submission(&world, "r", 1);
    let (job, created) = world.try_submit(same.clone()).expect("accepted");
    assert!(created);
    world.pass(seconds(1));
    let lease = world.lease("d");
    world.report(&lease, success()).expect("held");
    let (again, created) = world.try_submit(same).expect("accepted");
    assert!(!created);
    assert_eq!(
        (again.id, again.state),
        (job.id, JobState::Succeeded),
        "as it is now"
    );
}

#[test]
fn the_same_request_twice_in_a_batch_makes_one_job() {
    let mut world = World::new();
    let same = Command::Submit(submission(&world, "r", 1));
    world.run(vec![same.clone(), same], &[]);
    assert_eq!(world.store.jobs.len(), 1);
}

#[test]
fn another_body_under_the_same_request_id_is_refused() {
    let mut world = World::new();
    let first = submission(&world, "r", 1);
    let (job, _) = world.try_submit(first).expect("accepted");
    let refused = world
        .try_submit(submission(&world, "r", 2))
        .expect_err("reused");
    assert_eq!(
        refused,
        Refusal::RequestIdReused {
            request_id: "r".into(),
            job: job.id
        }
    );
    assert_eq!(world.store.jobs.len(), 1);
    let foreign = Submission {
        tenant: Tenant::new("globex"),
        ..submission(&world, "r", 2)
    };
    assert!(world.try_submit(foreign).expect("another tenant's id").1);
    for _ in 0..2 {
        let none = submission(&world, "", 3);
        assert!(world.try_submit(none).expect("no id, no memory").1);
    }
}

#[test]
fn a_request_id_is_free_again_once_its_job_is_removed() {
    for together in [false, true] {
        let mut world = World::new();
        let first = submission(&world, "r", 1);
        let key = world.try_submit(first).expect("accepted").0.key();
        world.cancel(&key, "");
        let delete = Command::Delete { key };
        let other = Command::Submit(submission(&world, "r", 2));
        let decision = match together {
            true => world.run(vec![delete, other], &[]),
            false => {
                world.one(delete).expect("done");
                world.run(vec![other], &[])
            }
        };
        assert!(
            decision.replies.iter().all(Result::is_ok),
            "{:?}",
            decision.replies
        );
        assert_eq!(world.store.jobs.len(), 1);
        assert_eq!(world.store.requests.len(), 1);
    }
}

#[test]
fn retry_of_a_failed_or_cancelled_job_submits_its_like() {
    let mut world = World::new();
    let spec = NewJob {
        schedule_time: Some(world.now.after(seconds(60))),
        priority: 7,
        ..new_job([
            NewTask {
                max_attempts: 2,
                ..new_task("a", &[])
            },
            new_task("b", &["a"]),
        ])
    };
    let key = world.submit(spec);
    world.cancel(&key, "");
    let old = world.job(&key).clone();
    let (job, created) = world.retry(&key, "again", [1; 32]).expect("accepted");
    assert!(created);
    assert_eq!(job.retry_of, Some(key.job));
    assert_eq!(job.state, JobState::Queued);
    assert_eq!(job.spec.schedule_time, None, "it starts at once");
    assert_eq!(job.spec.priority, 7);
    let specs = |job: &longhaul::domain::Job| -> Vec<_> {
        job.tasks.iter().map(|t| t.spec.clone()).collect()
    };
    assert_eq!(specs(&job), specs(&old));
    assert_eq!(*world.job(&key), old, "the old one has ended for ever");
    let (again, created) = world.retry(&key, "again", [1; 32]).expect("accepted");
    assert_eq!((again.id, created), (job.id, false));
    let refused = world.retry(&key, "again", [2; 32]).expect_err("reused");
    assert!(matches!(refused, Refusal::RequestIdReused { .. }));
}

#[test]
fn retry_of_a_child_belongs_to_its_parent_while_that_takes_children() {
    let mut world = World::new();
    let parent = world.submit(new_job([NewTask {
        driver: "p".into(),
        ..new_task("t", &[])
    }]));
    let child = world.submit(NewJob {
        parent: Some(parent.job),
        ..new_job([new_task("t", &[])])
    });
    let lease = world.lease("d");
    world.report(&lease, fatal("x")).expect("held");
    let (second, _) = world.retry(&child, "", [0; 32]).expect("accepted");
    assert_eq!(second.spec.parent, Some(parent.job));
    assert_eq!(world.job(&parent).children.total, 2);
    world.cancel(&parent, "");
    world.sweep();
    assert_eq!(world.job(&parent).state, JobState::Cancelled);
    let (third, _) = world.retry(&child, "", [0; 32]).expect("accepted");
    assert_eq!(third.spec.parent, None);
}

#[test]
fn retry_of_an_open_job_ends_its_pauses() {
    let mut world = World::new();
    let key = world.submit(new_job([
        NewTask {
            max_attempts: 2,
            ..new_task("a", &[])
        },
        new_task("b", &[]),
    ]));
    let before = world.job(&key).clone();
    assert_eq!(
        *world.retry(&key, "", [0; 32]).expect("nothing to do").0,
        before
    );
    let grants = world.claim("d", 2);
    world.report(&grants[0].lease, failure("x")).expect("held");
    let (job, created) = world.retry(&key, "", [0; 32]).expect("accepted");
    assert_eq!((job.id, created), (key.job, false));
    assert_eq!(world.states(&key), [TaskState::Queued, TaskState::Running]);
    assert_eq!(world.lease("d").attempt, 2);
    assert!(world.events(key.job).contains(&EventKind::RetryRequested));
}

#[test]
fn retry_of_a_job_that_succeeded_is_refused() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    world.report(&lease, success()).expect("held");
    assert_eq!(
        world.retry(&key, "", [0; 32]).err(),
        Some(Refusal::JobSucceeded(key.job))
    );
}

#[test]
fn only_a_finished_job_can_be_removed() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let delete = || Command::Delete { key: key.clone() };
    assert_eq!(
        world.one(delete()).err(),
        Some(Refusal::JobNotEnded(key.job))
    );
    let lease = world.lease("d");
    assert_eq!(
        world.one(delete()).err(),
        Some(Refusal::JobNotEnded(key.job))
    );
    world.report(&lease, success()).expect("held");
    let decision = world.run(vec![delete()], &[]);
    assert!(decision.replies[0].is_ok());
    assert_eq!(decision.changes.events[0].kind, EventKind::JobDeleted);
    assert!(
        decision.history[0].is_none(),
        "there is nothing left to show"
    );
    assert!(world.store.jobs.is_empty());
    assert_eq!(
        world.one(delete()).err(),
        Some(Refusal::JobNotFound(key.job))
    );
    assert_eq!(
        world.report(&lease, success()).err(),
        Some(Refusal::LeaseLost)
    );
}

#[test]
fn retention_removes_a_finished_job_in_its_time_and_no_open_one() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let open = world.submit(new_job([new_task("b", &[])]));
    let lease = world.lease("d");
    world.report(&lease, success()).expect("held");
    let expire = |world: &mut World| {
        let commands = [&key, &open].map(|key| Command::Expire { key: key.clone() });
        world.run(commands.into(), &[]);
        world.store.jobs.len()
    };
    world.pass(world.policy.retention - seconds(1));
    assert_eq!(expire(&mut world), 2);
    world.pass(seconds(1));
    assert_eq!(expire(&mut world), 1);
    assert!(world.store.jobs.contains_key(&open));
}

#[test]
fn another_tenant_s_job_is_not_found() {
    let mut world = World::new();
    let mut key = world.submit(new_job([new_task("a", &[])]));
    key.tenant = Tenant::new("globex");
    let commands = [
        Command::Cancel {
            key: key.clone(),
            reason: String::new(),
        },
        Command::Delete { key: key.clone() },
        Command::Retry {
            key: key.clone(),
            request_id: String::new(),
            fingerprint: [0; 32],
        },
    ];
    for command in commands {
        assert_eq!(
            world.one(command).err(),
            Some(Refusal::JobNotFound(key.job))
        );
    }
    for command in [
        Command::Sweep { key: key.clone() },
        Command::Expire { key: key.clone() },
    ] {
        let decision = world.run(vec![command], &[]);
        assert!(decision.changes.is_empty(), "nothing to write");
    }
}

#[test]
fn a_sweep_without_need_writes_nothing() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let decision = world.run(vec![Command::Sweep { key }], &[]);
    assert!(decision.changes.is_empty());
}
