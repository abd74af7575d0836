//! Attempts, and the pauses between them.

use std::time::Duration;

use longhaul::domain::{
    JobState, TaskState,
    command::Report,
    event::EventKind,
    submission::{NewRetryPolicy, NewTask},
    task::RetryPolicy,
};
use proptest::prelude::*;

use crate::world::*;

fn task(max_attempts: u32) -> NewTask {
    NewTask {
        max_attempts,
        retry_policy: NewRetryPolicy {
            jitter: Some(0.0),
            ..NewRetryPolicy::default()
        },
        ..new_task("a", &[])
    }
}

#[test]
fn pauses_grow_until_attempts_run_out() {
    let mut world = World::new();
    let key = world.submit(new_job([task(4)]));
    for (attempt, pause) in [(1, 1), (2, 2), (3, 4)] {
        let lease = world.lease("d");
        assert_eq!(lease.attempt, attempt);
        world.report(&lease, failure("no route")).expect("held");
        assert_eq!(world.states(&key), [TaskState::BackingOff]);
        assert_eq!(
            world.task(&lease).schedule_time,
            Some(world.now.after(seconds(pause)))
        );
        world.pass(seconds(pause) - Duration::from_micros(1));
        assert!(world.claim("d", 1).is_empty(), "the pause is not over");
        world.pass(Duration::from_micros(1));
    }
    let lease = world.lease("d");
    world.report(&lease, failure("no route")).expect("held");
    assert_eq!(world.states(&key), [TaskState::Failed]);
    assert_eq!(world.job(&key).state, JobState::Failed);
    assert_eq!(world.task(&lease).failures, 4);
    assert_eq!(world.task(&lease).error_reason, "TASK_FAILED");
    assert_eq!(
        world.events(key.job)[1..5],
        [
            EventKind::TaskLeased,
            EventKind::TaskBackingOff,
            EventKind::TaskDue,
            EventKind::TaskLeased,
        ]
    );
}

#[test]
fn one_attempt_is_the_default() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    world.report(&lease, failure("x")).expect("held");
    assert_eq!(world.states(&key), [TaskState::Failed]);
}

#[test]
fn a_permanent_failure_leaves_no_attempt() {
    let mut world = World::new();
    let key = world.submit(new_job([task(9)]));
    let lease = world.lease("d");
    world.report(&lease, fatal("gone")).expect("held");
    assert_eq!(world.states(&key), [TaskState::Failed]);
    assert_eq!(
        (
            world.task(&lease).last_error.as_str(),
            world.task(&lease).error_reason.as_str()
        ),
        ("gone", "DISK_GONE")
    );
}

#[test]
fn the_worker_may_choose_the_pause() {
    for pause in [seconds(0), seconds(3_600), Duration::MAX] {
        let mut world = World::new();
        let key = world.submit(new_job([task(2)]));
        let lease = world.lease("d");
        let report = Report::Failure {
            message: "busy".into(),
            reason: "BUSY".into(),
            permanent: false,
            retry_after: Some(pause),
            status_detail: String::new(),
        };
        world.report(&lease, report).expect("held");
        assert_eq!(
            world.job(&key).tasks[0].schedule_time,
            Some(world.now.after(pause))
        );
        world.sweep();
        let ready = world.claim("d", 1).len();
        assert_eq!(ready, usize::from(pause.is_zero()));
    }
}

#[test]
fn an_error_stays_visible_after_a_later_success() {
    let mut world = World::new();
    let key = world.submit(new_job([task(2)]));
    let lease = world.lease("d");
    world.report(&lease, progress(7)).expect("held");
    world.report(&lease, failure("no route")).expect("held");
    world.pass(seconds(1));
    let lease = world.lease("d");
    assert_eq!(
        world.task(&lease).progress,
        None,
        "progress is that of the current attempt"
    );
    world.report(&lease, success()).expect("held");
    assert_eq!(world.job(&key).state, JobState::Succeeded);
    assert_eq!(world.job(&key).last_error, "no route");
}

#[test]
fn chance_takes_off_at_most_the_jitter() {
    for (chance, millis) in [(0.0, 1_000), (0.5, 900), (1.0, 800)] {
        let mut world = World::new();
        world.source.always = Some(chance);
        let key = world.submit(new_job([NewTask {
            max_attempts: 2,
            ..new_task("a", &[])
        }]));
        let lease = world.lease("d");
        world.report(&lease, failure("x")).expect("held");
        let due = world.now.after(Duration::from_millis(millis));
        assert_eq!(world.job(&key).tasks[0].schedule_time, Some(due));
    }
}

#[test]
fn pauses_are_capped() {
    let policy = RetryPolicy {
        jitter: 0.0,
        ..RetryPolicy::default()
    };
    assert_eq!(policy.pause(9, 0.5), seconds(256));
    assert_eq!(policy.pause(10, 0.5), seconds(300));
    assert_eq!(policy.pause(u32::MAX, 0.5), seconds(300));
}

proptest! {
    #[test]
    fn a_pause_is_never_longer_than_the_cap_nor_shorter_than_jitter_allows(
        initial_millis in 0..86_400_000u64,
        max_millis in 0..86_400_000u64,
        multiplier in 1.0..10.0f64,
        jitter in 0.0..=1.0f64,
        failed in 1..=100u32,
        chance in 0.0..1.0f64,
    ) {
        let policy = RetryPolicy {
            initial_backoff: Duration::from_millis(initial_millis),
            max_backoff: Duration::from_millis(max_millis),
            multiplier,
            jitter,
        };
        let pause = policy.pause(failed, chance);
        prop_assert!(pause <= policy.max_backoff);
        prop_assert!(pause <= policy.pause(failed, 0.0));
        let least = policy.initial_backoff.min(policy.max_backoff).mul_f64(1.0 - jitter);
        prop_assert!(pause + Duration::from_micros(1) >= least);
    }
}
