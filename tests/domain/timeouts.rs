//! The four limits on a task's time, and starts that wait for theirs.

use std::time::Duration;

use longhaul::domain::{
    JobState, TaskState,
    submission::{NewJob, NewTask},
    task::Timeouts,
};

use crate::world::*;

const MOMENT: Duration = Duration::from_micros(1);

fn task(timeouts: Timeouts) -> NewTask {
    NewTask {
        max_attempts: 3,
        timeouts,
        ..new_task("a", &[])
    }
}

#[test]
fn schedule_to_start_fails_a_task_that_nobody_takes() {
    let mut world = World::new();
    let key = world.submit(new_job([task(Timeouts {
        schedule_to_start: Some(seconds(10)),
        ..Timeouts::default()
    })]));
    world.pass(seconds(10) - MOMENT);
    assert_eq!(world.states(&key), [TaskState::Queued]);
    world.pass(MOMENT);
    assert_eq!(world.states(&key), [TaskState::Failed]);
    assert_eq!(world.job(&key).state, JobState::Failed);
    assert_eq!(world.job(&key).tasks[0].error_reason, "TIMEOUT");
    assert_eq!(world.job(&key).start_time, None);
}

#[test]
fn schedule_to_start_counts_from_when_the_task_may_start_and_only_until_it_is_first_taken() {
    let mut world = World::new();
    let timeouts = Timeouts {
        schedule_to_start: Some(seconds(10)),
        ..Timeouts::default()
    };
    let key = world.submit(NewJob {
        schedule_time: Some(world.now.after(seconds(100))),
        ..new_job([task(timeouts)])
    });
    world.pass(seconds(100));
    world.pass(seconds(9));
    assert_eq!(world.states(&key), [TaskState::Queued]);
    let lease = world.lease("d");
    world.report(&lease, release()).expect("held");
    world.pass(seconds(1_000));
    assert_eq!(world.states(&key), [TaskState::Queued]);
}

#[test]
fn start_to_close_ends_an_attempt_and_the_retry_policy_decides() {
    let mut world = World::new();
    let key = world.submit(new_job([NewTask {
        max_attempts: 2,
        ..task(Timeouts {
            start_to_close: Some(seconds(5)),
            ..Timeouts::default()
        })
    }]));
    for after in [TaskState::BackingOff, TaskState::Failed] {
        let lease = world.lease("d");
        world.pass(seconds(5) - MOMENT);
        world.report(&lease, progress(1)).expect("held");
        world.pass(MOMENT);
        assert_eq!(world.states(&key), [after]);
        assert!(world.ended.iter().any(|e| e.lease == lease && e.by_server));
        assert!(world.report(&lease, success()).is_err(), "too late");
        world.pass(seconds(1));
    }
    assert_eq!(world.job(&key).tasks[0].error_reason, "TIMEOUT");
}

#[test]
fn schedule_to_close_fails_a_task_in_whatever_it_does() {
    let timeouts = Timeouts {
        schedule_to_close: Some(seconds(20)),
        heartbeat: Some(seconds(60)),
        ..Timeouts::default()
    };
    let fresh = || {
        let mut world = World::new();
        let key = world.submit(new_job([task(timeouts)]));
        (world, key)
    };
    let (mut queued, key) = fresh();
    queued.pass(seconds(20) - MOMENT);
    assert_eq!(queued.states(&key), [TaskState::Queued]);
    queued.pass(MOMENT);
    assert_eq!(queued.states(&key), [TaskState::Failed]);

    let (mut running, key) = fresh();
    let lease = running.lease("d");
    running.pass(seconds(20));
    assert_eq!(running.states(&key), [TaskState::Failed]);
    assert!(running.report(&lease, success()).is_err());

    let (mut pausing, key) = fresh();
    pausing.pass(seconds(19));
    let lease = pausing.lease("d");
    pausing.report(&lease, failure("x")).expect("held");
    assert_eq!(pausing.states(&key), [TaskState::BackingOff]);
    pausing.pass(seconds(1));
    assert_eq!(pausing.states(&key), [TaskState::Failed]);
}

#[test]
fn heartbeat_sets_the_lease_and_each_report_extends_it() {
    let mut world = World::new();
    let key = world.submit(new_job([task(Timeouts {
        heartbeat: Some(seconds(3)),
        ..Timeouts::default()
    })]));
    let lease = world.lease("d");
    for _ in 0..5 {
        world.pass(seconds(2));
        let answer = world
            .report(&lease, longhaul::domain::command::Report::Heartbeat)
            .expect("held");
        assert_eq!(answer.expiry, Some(world.now.after(seconds(3))));
    }
    world.pass(seconds(3) - MOMENT);
    assert_eq!(world.states(&key), [TaskState::Running]);
    world.pass(MOMENT);
    assert_eq!(world.states(&key), [TaskState::Queued]);
}

#[test]
fn a_lease_that_became_shorter_is_noticed_in_its_own_time() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    world.policy.lease_duration = seconds(2);
    world
        .report(&lease, longhaul::domain::command::Report::Heartbeat)
        .expect("held");
    world.pass(seconds(2));
    assert_eq!(world.states(&key), [TaskState::Queued]);
}

#[test]
fn a_delayed_job_starts_at_its_time() {
    let mut world = World::new();
    let at = world.now.after(seconds(3_600));
    let key = world.submit(NewJob {
        schedule_time: Some(at),
        ..new_job([new_task("a", &[]), new_task("b", &["a"])])
    });
    assert!(world.claim("d", 10).is_empty());
    assert_eq!(world.job(&key).timer, Some(at));
    world.pass(seconds(3_600) - MOMENT);
    assert!(world.claim("d", 10).is_empty());
    world.pass(MOMENT);
    let lease = world.lease("d");
    world.report(&lease, success()).expect("held");
    // The time is past for the task that follows.
    let lease = world.lease("d");
    world.report(&lease, success()).expect("held");
    assert_eq!(world.job(&key).state, JobState::Succeeded);
}

#[test]
fn nothing_runs_out_before_leases_may_and_other_limits_do_not_wait_for_that() {
    let mut world = World::new();
    let key = world.submit(new_job([
        new_task("silent", &[]),
        NewTask {
            timeouts: Timeouts {
                start_to_close: Some(seconds(40)),
                ..Timeouts::default()
            },
            ..new_task("limited", &[])
        },
    ]));
    world.claim("d", 2);
    // A restart just before the leases would run out.
    world.now = world.now.after(seconds(29));
    world.hold = world.now.after(seconds(30));
    world.pass(seconds(1));
    assert_eq!(world.states(&key), [TaskState::Running, TaskState::Running]);
    assert!(
        world.job(&key).timer > Some(world.now),
        "it is not looked at again and again"
    );
    world.pass(seconds(10));
    assert_eq!(world.states(&key)[1], TaskState::Failed);
    assert_eq!(world.states(&key)[0], TaskState::Running);
    world.pass(seconds(19));
    assert_ne!(world.states(&key)[0], TaskState::Running);
}
