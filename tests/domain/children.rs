//! Child jobs: counted in the parent, waited for, and cancelled with it.

use longhaul::domain::{
    JobId, JobKey, JobState, Status, TaskState,
    command::{Command, Refusal},
    event::EventKind,
    limits::MAX_DEPTH,
    submission::{NewJob, NewTask},
};

use crate::world::*;

fn of_driver(driver: &str) -> NewTask {
    NewTask {
        driver: driver.into(),
        ..new_task("t", &[])
    }
}

fn child_of(parent: &JobKey, driver: &str) -> NewJob {
    NewJob {
        parent: Some(parent.job),
        ..new_job([of_driver(driver)])
    }
}

#[test]
fn a_parent_waits_for_its_children_and_counts_them() {
    let mut world = World::new();
    let parent = world.submit(new_job([of_driver("p")]));
    let lease = world.lease("p");
    for _ in 0..3 {
        world.submit(child_of(&parent, "c"));
    }
    world.report(&lease, success()).expect("held");
    assert_eq!(world.job(&parent).state, JobState::Running);
    assert_eq!(world.job(&parent).status, Status::Normal);
    let grants = world.claim("c", 3);
    world.report(&grants[0].lease, success()).expect("held");
    assert_eq!(world.job(&parent).status, Status::Normal);
    world.report(&grants[1].lease, fatal("x")).expect("held");
    assert_eq!(world.job(&parent).status, Status::Warning);
    assert_eq!(world.job(&parent).children.open(), 1);
    world.cancel(&grants[2].lease.job_key(), "");
    world.report(&grants[2].lease, stopped()).expect("held");
    let job = world.job(&parent);
    assert_eq!(
        (job.state, job.status),
        (JobState::Succeeded, Status::Warning)
    );
    let counts = (
        job.children.succeeded,
        job.children.failed,
        job.children.cancelled,
    );
    assert_eq!((job.children.total, counts), (3, (1, 1, 1)));
    let changes = world.events(parent.job);
    let told = changes
        .iter()
        .filter(|kind| **kind == EventKind::ChildChanged);
    assert_eq!(told.count(), 6);
}

#[test]
fn a_child_that_ends_first_does_not_end_its_parent() {
    let mut world = World::new();
    let parent = world.submit(new_job([of_driver("p")]));
    world.submit(child_of(&parent, "c"));
    let lease = world.lease("c");
    world.report(&lease, success()).expect("held");
    assert_eq!(world.job(&parent).state, JobState::Queued);
    let lease = world.lease("p");
    world.report(&lease, success()).expect("held");
    assert_eq!(world.job(&parent).state, JobState::Succeeded);
}

#[test]
fn the_end_of_the_last_descendant_ends_a_whole_line() {
    let mut world = World::new();
    let mut line = vec![world.submit(new_job([of_driver("p")]))];
    for _ in 0..MAX_DEPTH {
        let next = child_of(&line[line.len() - 1], "p");
        line.push(world.submit(next));
    }
    let too_deep = world.submission(child_of(&line[line.len() - 1], "p"));
    let refused = world.try_submit(too_deep).expect_err("too deep");
    assert_eq!(refused, Refusal::TooDeep(line[line.len() - 1].job));
    let grants = world.claim("p", 100);
    for grant in &grants[..grants.len() - 1] {
        world.report(&grant.lease, success()).expect("held");
    }
    assert!(
        line.iter()
            .all(|key| world.job(key).state == JobState::Running)
    );
    world
        .report(&grants[grants.len() - 1].lease, success())
        .expect("held");
    assert!(
        line.iter()
            .all(|key| world.job(key).state == JobState::Succeeded)
    );
}

#[test]
fn cancelling_a_parent_cancels_its_children_and_theirs() {
    let mut world = World::new();
    let parent = world.submit(new_job([of_driver("p")]));
    let child = world.submit(child_of(&parent, "c"));
    let grandchild = world.submit(child_of(&child, "g"));
    let lease = world.lease("g");
    world.cancel(&parent, "all of it");
    assert_eq!(world.job(&parent).state, JobState::Cancelling);
    assert_eq!(world.states(&parent), [TaskState::Cancelled]);
    world.sweep();
    assert_eq!(world.job(&child).state, JobState::Cancelling);
    assert_eq!(world.job(&grandchild).state, JobState::Cancelling);
    world.report(&lease, stopped()).expect("held");
    for key in [&parent, &child, &grandchild] {
        let job = world.job(key);
        assert_eq!(
            (job.state, job.status),
            (JobState::Cancelled, Status::Error)
        );
    }
}

#[test]
fn children_that_were_not_reached_are_told_again() {
    let mut world = World::new();
    let parent = world.submit(new_job([of_driver("p")]));
    let child = world.submit(child_of(&parent, "c"));
    world.cancel(&parent, "");
    // Whoever was to tell them is gone.
    world.families.clear();
    world.sweep();
    assert_eq!(world.job(&child).state, JobState::Queued);
    world.pass(seconds(1));
    assert_eq!(world.job(&child).state, JobState::Cancelled);
    assert_eq!(world.job(&parent).state, JobState::Cancelled);
}

#[test]
fn a_cancelled_parent_whose_work_was_done_ends_as_its_children_do() {
    let cases = [
        (success(), JobState::Succeeded, Status::Normal),
        (fatal("x"), JobState::Cancelled, Status::Error),
    ];
    for (report, state, status) in cases {
        let mut world = World::new();
        let parent = world.submit(new_job([of_driver("p")]));
        world.submit(child_of(&parent, "c"));
        let lease = world.lease("p");
        world.report(&lease, success()).expect("held");
        let lease = world.lease("c");
        world.cancel(&parent, "");
        world.sweep();
        world.report(&lease, report).expect("held");
        assert_eq!(
            (world.job(&parent).state, world.job(&parent).status),
            (state, status)
        );
    }
}

#[test]
fn only_an_open_job_of_the_same_tenant_can_be_a_parent() {
    let mut world = World::new();
    let nobody = JobKey {
        tenant: longhaul::domain::Tenant::new("acme"),
        job: JobId(uuid::Uuid::max()),
    };
    let submission = world.submission(child_of(&nobody, "c"));
    assert_eq!(
        world.try_submit(submission).err(),
        Some(Refusal::ParentNotFound(nobody.job))
    );

    let parent = world.submit(new_job([of_driver("p")]));
    let mut foreign = world.submission(child_of(&parent, "c"));
    foreign.tenant = longhaul::domain::Tenant::new("globex");
    assert_eq!(
        world.try_submit(foreign).err(),
        Some(Refusal::ParentNotFound(parent.job))
    );

    world.submit(child_of(&parent, "c"));
    world.cancel(&parent, "");
    assert_eq!(world.job(&parent).state, JobState::Cancelling);
    let submission = world.submission(child_of(&parent, "c"));
    assert_eq!(
        world.try_submit(submission).err(),
        Some(Refusal::ParentEnded(parent.job))
    );
    world.sweep();
    let submission = world.submission(child_of(&parent, "c"));
    assert_eq!(
        world.try_submit(submission).err(),
        Some(Refusal::ParentEnded(parent.job))
    );
}

#[test]
fn a_parent_and_its_child_may_be_decided_together() {
    let mut world = World::new();
    let parent = world.submit(new_job([of_driver("p")]));
    let child = world.submit(child_of(&parent, "c"));
    let leases = [world.lease("p"), world.lease("c")];
    let reports = leases.map(|lease| Command::Report {
        lease,
        report: success(),
        reach: None,
    });
    let decision = world.run(reports.into(), &[]);
    // The child's end comes before what it does to the parent.
    let told: Vec<_> = decision
        .changes
        .events
        .iter()
        .map(|e| (e.job, e.kind))
        .collect();
    assert_eq!(
        told,
        [
            (parent.job, EventKind::TaskSucceeded),
            (child.job, EventKind::TaskSucceeded),
            (parent.job, EventKind::ChildChanged),
        ]
    );
    assert_eq!(world.job(&parent).state, JobState::Succeeded);
}
