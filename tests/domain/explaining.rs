//! Why a job is where it is: one reason for each task that matters.

use longhaul::domain::{
    JobKey, Timestamp,
    explain::{Explanation, Facts, explain},
    submission::{NewJob, NewTask},
    task::Timeouts,
};

use crate::world::*;

fn told(
    world: &World,
    key: &JobKey,
    workers: (usize, usize),
    paused: Option<&str>,
) -> Vec<Explanation> {
    let facts = Facts {
        now: world.now,
        paused: &|_| paused.map(str::to_owned),
        workers: &|_| workers,
        queued_before: &|_| Some(3),
    };
    let (summary, parts) = explain(world.job(key), &facts);
    assert!(summary.starts_with(world.job(key).state.name()));
    parts
}

fn reasons(parts: &[Explanation]) -> Vec<&str> {
    parts.iter().map(|part| part.reason).collect()
}

#[test]
fn what_a_queued_task_waits_for() {
    let mut world = World::new();
    let key = world.submit(new_job([
        NewTask {
            timeouts: Timeouts {
                schedule_to_start: Some(seconds(9)),
                ..Timeouts::default()
            },
            ..new_task("a", &[])
        },
        new_task("b", &["a"]),
    ]));
    let until = Some(world.now.after(seconds(9)));
    let cases: [((usize, usize), Option<&str>, &str); 4] = [
        ((0, 0), None, "NO_WORKER"),
        ((2, 0), None, "QUEUED_BEHIND"),
        ((2, 1), None, "QUEUED_BEHIND"),
        ((2, 1), Some("maintenance"), "DRIVER_PAUSED"),
    ];
    for (workers, paused, reason) in cases {
        let parts = told(&world, &key, workers, paused);
        assert_eq!(reasons(&parts), [reason, "WAITS_FOR_TASK"]);
        assert_eq!(parts[0].until, until);
        if reason == "QUEUED_BEHIND" {
            let free = if workers.1 == 1 { "1 slot" } else { "0 slots" };
            assert_eq!(
                parts[0].message,
                format!("waits behind 3 tasks of driver d; 2 workers connected, {free} free")
            );
        }
        assert_eq!(
            parts[0].hint.is_empty(),
            workers == (2, 1) && paused.is_none()
        );
        assert_eq!(parts[1].message, "waits for a");
    }
    let at: Timestamp = world.now.after(seconds(60));
    let delayed = world.submit(NewJob {
        schedule_time: Some(at),
        ..new_job([new_task("a", &[])])
    });
    let parts = told(&world, &delayed, (0, 0), None);
    assert_eq!(
        (reasons(&parts), parts[0].until),
        (vec!["SCHEDULED"], Some(at))
    );
}

#[test]
fn a_job_is_explained_through_its_whole_life() {
    let mut world = World::new();
    let key = world.submit(new_job([
        NewTask {
            max_attempts: 3,
            ..new_task("a", &[])
        },
        new_task("b", &["a"]),
    ]));
    let why = |world: &World| reasons(&told(world, &key, (1, 1), None)).join(" ");
    let lease = world.lease("d");
    assert_eq!(why(&world), "RUNNING WAITS_FOR_TASK");
    world.report(&lease, failure("no route")).expect("held");
    assert_eq!(why(&world), "BACKING_OFF WAITS_FOR_TASK");
    let pause = &told(&world, &key, (1, 1), None)[0];
    assert_eq!(pause.message, "attempt 1 of 3 failed: no route");
    assert_eq!(pause.until, world.job(&key).tasks[0].schedule_time);
    world.pass(seconds(1));
    let lease = world.lease("d");
    let child = world.submit(NewJob {
        parent: Some(key.job),
        ..new_job([new_task("c", &[])])
    });
    world.cancel(&key, "enough");
    assert_eq!(
        why(&world),
        "CANCEL_REQUESTED WAITS_FOR_CHILDREN CANCELLING"
    );
    let children = &told(&world, &key, (1, 1), None)[1];
    assert_eq!(children.message, "waits for 1 child job to end");
    world.sweep();
    world.report(&lease, stopped()).expect("held");
    assert_eq!(why(&world), "CANCEL_REQUESTED CANCELLED CANCELLED");
    assert_eq!(
        reasons(&told(&world, &child, (1, 1), None)),
        ["CANCEL_REQUESTED", "CANCELLED"]
    );
}

#[test]
fn a_finished_job_tells_what_decided_its_end() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[]), new_task("b", &["a"])]));
    let lease = world.lease("d");
    world.report(&lease, fatal("no such bucket")).expect("held");
    let parts = told(&world, &key, (1, 1), None);
    assert_eq!(reasons(&parts), ["FAILED", "SKIPPED"]);
    assert_eq!(parts[0].message, "failed after 1 attempt: no such bucket");
    let good = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    world.report(&lease, success()).expect("held");
    assert!(told(&world, &good, (1, 1), None).is_empty());
}
