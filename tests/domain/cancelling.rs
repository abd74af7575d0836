//! Cancellation, in each state, with its receipt.

use longhaul::domain::{
    JobState, LeaseKey, Status, TaskState,
    command::{Command, Report},
    event::EventKind,
    job::CancelReceipt,
    submission::{NewJob, NewTask},
};

use crate::world::*;

#[test]
fn what_waits_is_cancelled_at_once() {
    let mut world = World::new();
    let queued = world.submit(new_job([new_task("a", &[]), new_task("b", &["a"])]));
    let delayed = world.submit(NewJob {
        schedule_time: Some(world.now.after(seconds(60))),
        ..new_job([new_task("a", &[])])
    });
    for key in [queued, delayed] {
        let job = world.cancel(&key, "not needed");
        assert_eq!(
            (job.state, job.status),
            (JobState::Cancelled, Status::Error)
        );
        assert!(
            world
                .states(&key)
                .iter()
                .all(|s| *s == TaskState::Cancelled)
        );
        assert_eq!(
            job.cancel,
            Some(CancelReceipt {
                requested: world.now,
                delivered: None,
                acknowledged: None,
                forced: None,
                reason: "not needed".into(),
            })
        );
        assert_eq!(
            world.events(key.job),
            [EventKind::JobSubmitted, EventKind::CancelRequested]
        );
    }
    assert!(world.claim("d", 10).is_empty());
    assert!(world.orders.is_empty());
}

#[test]
fn a_pause_is_cancelled_at_once() {
    let mut world = World::new();
    let key = world.submit(new_job([NewTask {
        max_attempts: 2,
        ..new_task("a", &[])
    }]));
    let lease = world.lease("d");
    world.report(&lease, failure("x")).expect("held");
    world.cancel(&key, "");
    assert_eq!(world.states(&key), [TaskState::Cancelled]);
    assert_eq!(world.job(&key).state, JobState::Cancelled);
}

#[test]
fn a_running_task_is_told_and_its_receipt_kept() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[]), new_task("b", &["a"])]));
    let lease = world.lease("d");
    let requested = world.now;
    let job = world.cancel(&key, "wrong bucket");
    assert_eq!(job.state, JobState::Cancelling);
    assert_eq!(
        world.states(&key),
        [TaskState::Cancelling, TaskState::Cancelled]
    );
    let (told, order) = world.orders.pop_front().expect("an order for the holder");
    assert_eq!(
        (told, order.reason.as_str()),
        (lease.clone(), "wrong bucket")
    );
    assert_eq!(order.deadline, requested.after(world.policy.cancel_grace));

    world.pass(seconds(1));
    let delivered = world.now;
    for _ in 0..2 {
        let lease = lease.clone();
        world.one(Command::CancelDelivered { lease }).expect("done");
    }
    world.pass(seconds(1));
    let acknowledged = world.now;
    for _ in 0..2 {
        let answer = world
            .report(&lease, Report::CancelAcknowledged)
            .expect("held");
        assert_eq!(answer.cancel, None, "it knows");
    }
    world.pass(seconds(1));
    world.report(&lease, stopped()).expect("held");
    let job = world.job(&key);
    assert_eq!(
        (job.state, job.status),
        (JobState::Cancelled, Status::Error)
    );
    let receipt = job.cancel.clone().expect("a receipt");
    assert_eq!(receipt.requested, requested);
    assert_eq!(receipt.delivered, Some(delivered));
    assert_eq!(receipt.acknowledged, Some(acknowledged));
    assert_eq!(receipt.forced, None);
    let expected = [
        EventKind::JobSubmitted,
        EventKind::TaskLeased,
        EventKind::CancelRequested,
        EventKind::CancelDelivered,
        EventKind::CancelAcknowledged,
        EventKind::TaskCancelled,
    ];
    assert_eq!(world.events(key.job), expected);
}

#[test]
fn the_order_is_repeated_with_each_report_until_it_is_acknowledged() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    world.cancel(&key, "stop");
    for done in 1..4 {
        world.pass(seconds(1));
        let answer = world.report(&lease, progress(done)).expect("held");
        assert_eq!(answer.cancel.map(|c| c.reason), Some("stop".into()));
        assert!(answer.expiry.is_some());
    }
    let receipt = world.job(&key).cancel.clone().expect("a receipt");
    assert_eq!(
        receipt.delivered,
        Some(receipt.requested.after(seconds(1))),
        "by the first answer"
    );
    world
        .report(&lease, Report::CancelAcknowledged)
        .expect("held");
    let answer = world.report(&lease, Report::Heartbeat).expect("held");
    assert_eq!(answer.cancel, None);
}

#[test]
fn a_task_that_finished_first_stays_finished() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    world.cancel(&key, "");
    world.pass(seconds(1));
    world.report(&lease, success()).expect("held");
    let job = world.job(&key);
    assert_eq!(
        (job.state, job.status),
        (JobState::Succeeded, Status::Normal)
    );
    // The worker ended its task, which acknowledges as well: see CancelReceipt in the proto.
    assert_eq!(
        job.cancel.as_ref().and_then(|c| c.acknowledged),
        Some(world.now)
    );
}

#[test]
fn however_the_holder_stops_the_task_is_cancelled() {
    for report in [stopped(), failure("killed"), fatal("killed"), release()] {
        let mut world = World::new();
        let key = world.submit(new_job([NewTask {
            max_attempts: 5,
            ..new_task("a", &[])
        }]));
        let lease = world.lease("d");
        world.cancel(&key, "");
        world.report(&lease, report.clone()).expect("held");
        assert_eq!(world.states(&key), [TaskState::Cancelled], "{report:?}");
        assert_eq!(world.job(&key).state, JobState::Cancelled);
        let receipt = world.job(&key).cancel.clone().expect("a receipt");
        assert_eq!(receipt.acknowledged, Some(world.now));
    }
}

#[test]
fn after_the_grace_the_server_no_longer_waits() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    world.cancel(&key, "");
    for _ in 0..29 {
        world.pass(seconds(1));
        world.report(&lease, Report::Heartbeat).expect("held");
    }
    assert_eq!(world.states(&key), [TaskState::Cancelling]);
    world.pass(seconds(1));
    assert_eq!(world.states(&key), [TaskState::Cancelled]);
    let receipt = world.job(&key).cancel.clone().expect("a receipt");
    assert_eq!(
        (receipt.forced, receipt.acknowledged),
        (Some(world.now), None)
    );
    assert!(world.ended.iter().any(|e| e.lease == lease && e.by_server));
    assert!(world.report(&lease, success()).is_err());
}

#[test]
fn a_holder_that_falls_silent_while_cancelling_is_not_waited_for() {
    let mut world = World::new();
    world.policy.cancel_grace = seconds(600);
    let key = world.submit(new_job([new_task("a", &[])]));
    world.lease("d");
    world.cancel(&key, "");
    world.pass(seconds(30));
    let job = world.job(&key);
    assert_eq!(job.state, JobState::Cancelled);
    assert_eq!(job.tasks[0].lost_leases, 1);
    assert_eq!(job.cancel.as_ref().and_then(|c| c.forced), None);
}

#[test]
fn cancelling_again_or_too_late_changes_nothing() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    world.cancel(&key, "first");
    let before = world.job(&key).clone();
    world.pass(seconds(1));
    assert_eq!(*world.cancel(&key, "second"), before);
    world.report(&lease, success()).expect("held");
    let ended = world.job(&key).clone();
    assert_eq!(*world.cancel(&key, "third"), ended);
}

#[test]
fn a_worker_that_says_cancelled_though_nobody_asked_gives_the_task_back() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    world
        .report(&lease, Report::CancelAcknowledged)
        .expect("held");
    world.report(&lease, stopped()).expect("held");
    assert_eq!(world.states(&key), [TaskState::Queued]);
    assert_eq!(world.task(&lease).failures, 0);
}

#[test]
fn what_had_ended_before_keeps_its_state() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[]), new_task("b", &["a"])]));
    let lease = world.lease("d");
    world.report(&lease, success()).expect("held");
    world.cancel(&key, "");
    assert_eq!(
        world.states(&key),
        [TaskState::Succeeded, TaskState::Cancelled]
    );
    let job = world.job(&key);
    assert_eq!(
        (job.state, job.status),
        (JobState::Cancelled, Status::Error)
    );
}

#[test]
fn a_second_acknowledgement_by_another_worker_is_no_change_that_anybody_sees() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[]), new_task("b", &[])]));
    let grants = world.claim("d", 2);
    world.cancel(&key, "");
    world
        .report(&grants[0].lease, Report::CancelAcknowledged)
        .expect("held");
    let lease = grants[1].lease.clone();
    world.one(Command::CancelDelivered { lease }).expect("done");
    let revision = world.job(&key).revision;
    world.pass(seconds(1));
    // The audit compares what is visible.
    world
        .report(&grants[1].lease, Report::CancelAcknowledged)
        .expect("held");
    assert_eq!(world.job(&key).revision, revision);
}

#[test]
fn the_holder_of_a_lease_can_be_told_again_what_it_has_to_know() {
    let mut world = World::new();
    let recall = |world: &mut World, lease: &LeaseKey| {
        let before = world.store.events.len();
        let lease = lease.clone();
        let decision = world.run(vec![Command::Recall { lease }], &[]);
        assert!(decision.changes.is_empty(), "nothing changes by it");
        assert_eq!(world.store.events.len(), before);
        (decision.cancels, decision.lost, decision.dead)
    };
    let key = world.submit(new_job([new_task("a", &[]), new_task("b", &[])]));
    let (mine, other) = (world.lease("d"), world.lease("d"));
    assert_eq!(recall(&mut world, &mine), (vec![], vec![], vec![]));
    world.cancel(&key, "stop");
    let (orders, lost, dead) = recall(&mut world, &mine);
    assert_eq!((orders.len(), lost, dead), (1, vec![], vec![]));
    assert_eq!((&orders[0].0, orders[0].1.reason.as_str()), (&mine, "stop"));

    // One ended its lease itself, the other one is told that it has none.
    world.report(&mine, stopped()).expect("held");
    assert_eq!(recall(&mut world, &mine), (vec![], vec![], vec![mine]));
    world.pass(world.policy.cancel_grace + seconds(1));
    world.sweep();
    assert_eq!(recall(&mut world, &other), (vec![], vec![other], vec![]));
}
