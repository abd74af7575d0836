//! Leases: who may speak, what is late, and what becomes of tasks whose workers are gone.

use longhaul::domain::{
    JobState, LeaseKey, TaskState,
    command::{Command, Refusal, Report, Reported},
    event::EventKind,
    submission::NewTask,
};

use crate::world::*;

#[test]
fn a_lost_lease_puts_the_task_back_at_no_attempt_s_cost() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let first = world.lease("d");
    world.pass(seconds(30));
    assert_eq!(world.states(&key), [TaskState::Queued]);
    assert_eq!(world.task(&first).lost_leases, 1);
    assert!(world.ended.iter().any(|e| e.lease == first && e.by_server));
    let second = world.lease("d");
    assert_eq!(second.attempt, 1);
    assert!(second.fencing_token > first.fencing_token);
    world.report(&second, success()).expect("held");
    assert_eq!(world.job(&key).state, JobState::Succeeded);
    assert_eq!(world.events(key.job)[2], EventKind::TaskLeaseLost);
}

#[test]
fn a_lease_after_a_restore_is_another_than_the_one_that_was_lost() {
    // Two lives of one database: in the second the first one's lease never was.
    let lease_after = |pause| {
        let mut world = World::new();
        world.submit(new_job([new_task("a", &[])]));
        world.pass(seconds(pause));
        world.lease("d")
    };
    let (lost, new) = (lease_after(1), lease_after(2));
    assert_eq!((lost.job, lost.attempt), (new.job, new.attempt));
    assert!(new.fencing_token > lost.fencing_token);
}

#[test]
fn a_task_that_loses_its_workers_is_quarantined() {
    let mut world = World::new();
    let key = world.submit(new_job([NewTask {
        max_attempts: 100,
        ..new_task("a", &[])
    }]));
    for lost in 1..=3 {
        world.lease("d");
        world.pass(seconds(30));
        assert_eq!(world.job(&key).tasks[0].lost_leases, lost);
    }
    assert_eq!(world.states(&key), [TaskState::Failed]);
    assert_eq!(world.job(&key).tasks[0].error_reason, "LEASES_LOST");
    assert_eq!(world.job(&key).tasks[0].failures, 0, "no attempt failed");
}

#[test]
fn a_late_report_is_refused_and_changes_nothing() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let dead = world.lease("d");
    world.pass(seconds(30));
    let alive = world.lease("d");
    let before = world.job(&key).clone();
    let reports = [
        Report::Heartbeat,
        progress(9),
        warning("late"),
        success(),
        failure("late"),
        release(),
        Report::CancelAcknowledged,
        stopped(),
    ];
    for report in reports.clone() {
        assert_eq!(world.report(&dead, report), Err(Refusal::LeaseLost));
    }
    for wrong in [
        LeaseKey {
            attempt: 2,
            ..alive.clone()
        },
        LeaseKey {
            fencing_token: 3,
            ..alive.clone()
        },
        LeaseKey {
            fencing_token: 0,
            ..alive.clone()
        },
        LeaseKey {
            ordinal: 1,
            ..alive.clone()
        },
        LeaseKey {
            ordinal: u32::MAX,
            ..alive.clone()
        },
        LeaseKey {
            tenant: longhaul::domain::Tenant::new("other"),
            ..alive.clone()
        },
        LeaseKey {
            job: longhaul::domain::JobId(uuid::Uuid::max()),
            ..alive.clone()
        },
    ] {
        for report in reports.clone() {
            assert_eq!(
                world.report(&wrong, report),
                Err(Refusal::LeaseLost),
                "{wrong:?}"
            );
        }
    }
    assert_eq!(*world.job(&key), before);
}

#[test]
fn repeating_the_report_that_ended_a_lease_is_fine_and_another_one_is_not() {
    for ending in [success(), failure("x"), release(), stopped()] {
        let mut world = World::new();
        let key = world.submit(new_job([NewTask {
            max_attempts: 3,
            ..new_task("a", &[])
        }]));
        let lease = world.lease("d");
        world.report(&lease, ending.clone()).expect("held");
        let before = world.job(&key).clone();
        assert_eq!(
            world.report(&lease, ending.clone()),
            Ok(Reported::default())
        );
        for other in [
            success(),
            failure("x"),
            release(),
            stopped(),
            Report::Heartbeat,
        ] {
            let same = std::mem::discriminant(&other) == std::mem::discriminant(&ending);
            assert_eq!(
                world.report(&lease, other).is_ok(),
                same,
                "after {ending:?}"
            );
        }
        assert_eq!(*world.job(&key), before);
    }
}

#[test]
fn a_repetition_is_recognised_while_the_next_lease_runs() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let first = world.lease("d");
    world.report(&first, release()).expect("held");
    let second = world.lease("d");
    let before = world.job(&key).clone();
    world
        .report(&first, release())
        .expect("it was accepted before");
    assert_eq!(*world.job(&key), before);
    world.report(&second, success()).expect("held");
}

#[test]
fn giving_a_lease_back_costs_nothing_and_keeps_the_place() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("old", &[])]));
    world.pass(seconds(1));
    world.submit(new_job([new_task("young", &[])]));
    let mut token = 0;
    for _ in 1..20 {
        let grants = world.claim("d", 1);
        assert_eq!(grants[0].task.spec.name, "old");
        let lease = &grants[0].lease;
        assert!(lease.attempt == 1 && lease.fencing_token > token);
        token = lease.fencing_token;
        world.pass(seconds(1));
        world.report(&grants[0].lease, release()).expect("held");
    }
    assert_eq!(world.job(&key).tasks[0].lost_leases, 0);
    assert_eq!(world.job(&key).tasks[0].failures, 0);
}

#[test]
fn two_ends_in_one_batch_count_once() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    let report = |report| Command::Report {
        lease: lease.clone(),
        report,
        reach: None,
    };
    let decision = world.run(vec![report(failure("x")), report(success())], &[]);
    assert!(decision.replies[0].is_ok());
    assert_eq!(
        decision.replies[1].as_ref().err(),
        Some(&Refusal::LeaseLost)
    );
    assert_eq!(world.job(&key).state, JobState::Failed);
}

#[test]
fn every_revision_of_a_watched_job_is_shown_as_it_was() {
    let mut world = World::new();
    let key = world.submit(new_job([
        new_task("a", &[]),
        new_task("b", &[]),
        new_task("c", &[]),
    ]));
    world.claim("d", 3);
    world.now = world.now.after(seconds(30));
    let sweep = Command::Sweep { key: key.clone() };
    // One command, three revisions.
    let decision = world.run(vec![sweep], &[]);
    let shown: Vec<_> = decision
        .history
        .iter()
        .map(|job| {
            job.as_ref()
                .map(|job| (job.revision, job.count(TaskState::Queued)))
        })
        .collect();
    assert_eq!(shown, [Some((5, 1)), Some((6, 2)), Some((7, 3))]);
    world.watched = false;
    let decision = world.run(Vec::new(), &[claim("w", &["d"], 3)]);
    let shown: Vec<_> = decision.history.iter().map(Option::is_some).collect();
    assert_eq!(shown, [false, false, true], "the last word is always there");
}

#[test]
fn a_report_counts_within_the_reporter_s_reach() {
    let mut world = World::new();
    world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    let say = |world: &mut World, reach, report| {
        let lease = lease.clone();
        world.one(Command::Report {
            lease,
            report,
            reach: Some(reach),
        })
    };
    let before = world.task(&lease).clone();
    for beyond in [
        reach(Some("globex"), None),
        reach(Some("globex"), Some(&["d"])),
        reach(None, Some(&["e", "f"])),
        reach(Some("acme"), Some(&[])),
    ] {
        for report in [Report::Heartbeat, progress(3), failure("x"), success()] {
            let answer = say(&mut world, beyond.clone(), report);
            assert_eq!(answer.err(), Some(Refusal::LeaseLost));
        }
    }
    assert_eq!(*world.task(&lease), before);
    for within in [
        reach(None, None),
        reach(Some("acme"), None),
        reach(None, Some(&["e", "d"])),
    ] {
        assert!(say(&mut world, within, Report::Heartbeat).is_ok());
    }
    let own = reach(Some("acme"), Some(&["d"]));
    assert!(say(&mut world, own.clone(), success()).is_ok());
    // Nor is it told to anybody else how it ended.
    let others = reach(Some("globex"), None);
    let answer = say(&mut world, others, success());
    assert_eq!(answer.err(), Some(Refusal::LeaseLost));
    assert!(say(&mut world, own, success()).is_ok(), "repeated");
}
