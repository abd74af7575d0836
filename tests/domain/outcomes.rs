//! How a job ends, under each failure policy, and what it says of itself until then.

use std::time::Duration;

use longhaul::domain::{
    JobState, Status, TaskState, Timestamp, command::Command, event::EventKind, job::FailurePolicy,
    limits::MAX_WARNINGS, submission::NewJob, task::Document,
};

use crate::world::*;

/// What times are counted in.
const MICRO: Duration = Duration::from_micros(1);

/// Runs the tasks `a`, `b`, … at once, and ends each with a report.
fn end_with(
    policy: FailurePolicy,
    reports: Vec<longhaul::domain::command::Report>,
) -> (World, longhaul::domain::JobKey) {
    let mut world = World::new();
    let names = ["a", "b", "c"];
    let key = world.submit(NewJob {
        failure_policy: policy,
        ..new_job(
            names[..reports.len()]
                .iter()
                .map(|name| new_task(name, &[])),
        )
    });
    let grants = world.claim("d", 10);
    for (grant, report) in grants.iter().zip(reports) {
        world.report(&grant.lease, report).expect("held");
    }
    (world, key)
}

#[test]
fn state_and_status_of_a_finished_job_follow_from_its_tasks() {
    let cases = [
        (vec![success()], JobState::Succeeded, Status::Normal),
        (
            vec![success(), success()],
            JobState::Succeeded,
            Status::Normal,
        ),
        (vec![fatal("x")], JobState::Failed, Status::Error),
        (
            vec![fatal("x"), fatal("y")],
            JobState::Failed,
            Status::Error,
        ),
        (
            vec![success(), fatal("x")],
            JobState::Failed,
            Status::PartialFailures,
        ),
        (
            vec![fatal("x"), success(), success()],
            JobState::Failed,
            Status::PartialFailures,
        ),
    ];
    for policy in [FailurePolicy::FailFast, FailurePolicy::Continue] {
        for (reports, state, status) in cases.clone() {
            let (world, key) = end_with(policy, reports.clone());
            let job = world.job(&key);
            assert_eq!(
                (job.state, job.status),
                (state, status),
                "{policy:?} {reports:?}"
            );
            assert_eq!(job.end_time, Some(world.now));
            assert_eq!(
                job.expire_time,
                Some(world.now.after(world.policy.retention))
            );
        }
    }
}

#[test]
fn a_warning_shows_at_once_and_stays_to_a_successful_end() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    assert_eq!(world.job(&key).status, Status::Normal);
    world.report(&lease, warning("disk is slow")).expect("held");
    assert_eq!(world.job(&key).status, Status::Warning);
    assert_eq!(world.task(&lease).warnings, ["disk is slow"]);
    world.report(&lease, success()).expect("held");
    let job = world.job(&key);
    assert_eq!(
        (job.state, job.status),
        (JobState::Succeeded, Status::Warning)
    );
}

#[test]
fn only_the_newest_warnings_are_kept() {
    let mut world = World::new();
    world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    for i in 0..MAX_WARNINGS + 5 {
        world
            .report(&lease, warning(&format!("w{i}")))
            .expect("held");
    }
    let warnings = &world.task(&lease).warnings;
    assert_eq!(warnings.len(), MAX_WARNINGS);
    assert_eq!(
        (warnings[0].as_str(), warnings[MAX_WARNINGS - 1].as_str()),
        ("w5", "w24")
    );
}

#[test]
fn fail_fast_skips_what_has_not_started_and_lets_the_rest_finish() {
    let mut world = World::new();
    let key = world.submit(new_job([
        new_task("runs", &[]),
        new_task("fails", &[]),
        new_task("queued", &[]),
        new_task("pending", &["runs"]),
    ]));
    let grants = world.claim("d", 2);
    world
        .report(&grants[1].lease, fatal("no such bucket"))
        .expect("held");
    let states = [
        TaskState::Running,
        TaskState::Failed,
        TaskState::Skipped,
        TaskState::Skipped,
    ];
    assert_eq!(world.states(&key), states);
    assert_eq!(world.job(&key).state, JobState::Running);
    world.report(&grants[0].lease, success()).expect("held");
    let job = world.job(&key);
    assert_eq!(
        (job.state, job.status),
        (JobState::Failed, Status::PartialFailures)
    );
    assert_eq!(job.last_error, "no such bucket");
}

#[test]
fn under_fail_fast_a_task_that_lost_its_chance_is_not_started_again() {
    for (report, state) in [
        (release(), TaskState::Skipped),
        (failure("x"), TaskState::Failed),
    ] {
        let mut world = World::new();
        let key = world.submit(new_job([
            new_task("fails", &[]),
            longhaul::domain::submission::NewTask {
                max_attempts: 9,
                ..new_task("a", &[])
            },
        ]));
        let grants = world.claim("d", 2);
        world.report(&grants[0].lease, fatal("x")).expect("held");
        world.report(&grants[1].lease, report).expect("held");
        assert_eq!(world.states(&key), [TaskState::Failed, state]);
        assert_eq!(world.job(&key).state, JobState::Failed);
    }
}

#[test]
fn continue_skips_only_what_depends_on_the_failed_task() {
    let mut world = World::new();
    // In an order in which dependents come before what they depend on.
    let key = world.submit(NewJob {
        failure_policy: FailurePolicy::Continue,
        ..new_job([
            new_task("third", &["second"]),
            new_task("second", &["first"]),
            new_task("first", &[]),
            new_task("other", &[]),
            new_task("both", &["first", "other"]),
        ])
    });
    let grants = world.claim("d", 2);
    world.report(&grants[0].lease, fatal("x")).expect("held");
    let skipped = TaskState::Skipped;
    let states = [
        skipped,
        skipped,
        TaskState::Failed,
        TaskState::Running,
        skipped,
    ];
    assert_eq!(world.states(&key), states);
    world.report(&grants[1].lease, success()).expect("held");
    assert_eq!(world.job(&key).status, Status::PartialFailures);
}

#[test]
fn a_task_starts_once_all_that_it_depends_on_have_succeeded() {
    let mut world = World::new();
    let key = world.submit(new_job([
        new_task("c", &["a", "b"]),
        new_task("a", &[]),
        new_task("b", &[]),
    ]));
    assert_eq!(world.job(&key).state, JobState::Queued);
    let grants = world.claim("d", 10);
    let names: Vec<_> = grants.iter().map(|g| g.task.spec.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    world.report(&grants[0].lease, success()).expect("held");
    assert!(world.claim("d", 10).is_empty());
    world.report(&grants[1].lease, success()).expect("held");
    let last = world.claim("d", 10);
    assert_eq!(last[0].task.spec.name, "c");
    assert_eq!(last[0].depends_on, ["a", "b"]);
    world.report(&last[0].lease, success()).expect("held");
    assert_eq!(world.job(&key).state, JobState::Succeeded);
}

#[test]
fn the_history_tells_each_change_once() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    world.report(&lease, progress(3)).expect("held");
    world.report(&lease, progress(3)).expect("held");
    world
        .report(&lease, longhaul::domain::command::Report::Heartbeat)
        .expect("held");
    world.report(&lease, success()).expect("held");
    let expected = [
        EventKind::JobSubmitted,
        EventKind::TaskLeased,
        EventKind::TaskProgress,
        EventKind::TaskSucceeded,
    ];
    assert_eq!(world.events(key.job), expected);
    assert_eq!(world.job(&key).revision, 4);
}

#[test]
fn progress_and_details_stay_until_something_newer_is_said() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    let say = |progress, line: &str| longhaul::domain::command::Report::Progress {
        progress,
        status_detail: line.into(),
    };
    world.report(&lease, progress(3)).expect("held");
    world.report(&lease, say(None, "copying")).expect("held");
    assert_eq!(
        world.task(&lease).progress.as_ref().map(|p| p.done),
        Some(3)
    );
    assert_eq!(world.job(&key).progress().done, 3);
    assert_eq!(world.job(&key).status_detail(), "copying");
    world.report(&lease, progress(4)).expect("held");
    assert_eq!(world.task(&lease).status_detail, "copying");
    let result = Some(Document(vec![1, 2, 3].into()));
    let done = longhaul::domain::command::Report::Success {
        result: result.clone(),
        status_detail: "copied".into(),
    };
    world.report(&lease, done).expect("held");
    assert_eq!(world.task(&lease).result, result);
    assert_eq!(world.job(&key).status_detail(), "copied");
}

#[test]
fn what_was_said_last_is_a_line_or_the_message_that_came_without_one() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    for (message, line, said) in [
        (Some("copying a"), "", "copying a"),
        (None, "half way", "half way"),
        (Some("copying b"), "nearly done", "nearly done"),
        // The progress is the same, but now it is what was said last.
        (Some("copying b"), "", "copying b"),
        (Some(""), "", "copying b"),
        (None, "", "copying b"),
    ] {
        let progress = message.map(|message| longhaul::domain::task::Progress {
            message: message.into(),
            ..Default::default()
        });
        let report = longhaul::domain::command::Report::Progress {
            progress,
            status_detail: line.into(),
        };
        world.report(&lease, report).expect("held");
        assert_eq!(world.task(&lease).status_detail, said);
        assert_eq!(world.job(&key).status_detail(), said);
    }
}

#[test]
fn the_progress_of_a_job_of_several_tasks_is_finished_tasks() {
    let (mut world, key) = end_with(FailurePolicy::Continue, vec![success(), fatal("x")]);
    assert_eq!(
        (
            world.job(&key).progress().done,
            world.job(&key).progress().total
        ),
        (2, 2)
    );
    let key = world.submit(new_job([new_task("a", &[]), new_task("b", &[])]));
    assert_eq!(
        (
            world.job(&key).progress().done,
            world.job(&key).progress().total
        ),
        (0, 2)
    );
    let lease = world.lease("d");
    world.report(&lease, success()).expect("held");
    assert_eq!(world.job(&key).progress().done, 1);
    assert_eq!(world.job(&key).status_detail(), "1 of 2 tasks done");
}

#[test]
fn a_job_says_how_many_of_its_tasks_and_knows_one_from_many() {
    let mut world = World::new();
    let said = |world: &World, key| world.job(key).status_detail();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    assert_eq!(said(&world, &key), "0 of 1 task done");
    let child = world.submit(NewJob {
        parent: Some(key.job),
        ..new_job([new_task("b", &[]), new_task("c", &[])])
    });
    world.report(&lease, success()).expect("held");
    assert_eq!(
        said(&world, &key),
        "1 of 1 task done; 0 of 1 child job ended, 0 failed"
    );
    let lease = world.lease("d");
    assert_eq!(said(&world, &child), "0 of 2 tasks done");
    world.cancel(&child, "enough");
    assert_eq!(said(&world, &child), "waits for 1 task to stop");
    world.report(&lease, stopped()).expect("held");
    assert_eq!(
        said(&world, &child),
        "0 of 2 tasks succeeded, 0 failed, 2 cancelled, 0 skipped"
    );
    let good = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    world.report(&lease, success()).expect("held");
    assert_eq!(said(&world, &good), "1 of 1 task succeeded");
}

#[test]
fn revisions_of_one_moment_are_told_apart_by_their_times() {
    let mut world = World::new();
    let key = world.submit(new_job([new_task("a", &[])]));
    let lease = world.lease("d");
    // The clock stands, and one batch makes several revisions.
    let say = |done| Command::Report {
        lease: lease.clone(),
        report: progress(done),
        reach: None,
    };
    world.run((1..=3).map(say).collect(), &[]);
    let micros = |time: Timestamp| time.as_micros() - world.now.as_micros();
    let events = world.store.events.iter();
    let times: Vec<i64> = events.map(|event| micros(event.time)).collect();
    assert_eq!(times, [0, 1, 2, 3, 4]);
    assert_eq!(micros(world.job(&key).update_time), 4);
    // It goes on behind the last one, or with the clock once that is ahead again.
    world.run(vec![say(4)], &[]);
    assert_eq!(world.job(&key).update_time.since(world.now), 5 * MICRO);
    world.now = world.now.after(5 * MICRO);
    world.run(vec![say(5)], &[]);
    assert_eq!(world.job(&key).update_time, world.now.after(MICRO));
    world.now = world.now.after(seconds(1));
    world.run(vec![say(6)], &[]);
    assert_eq!(world.job(&key).update_time, world.now);
    // Other jobs have times of their own.
    let other = world.submit(new_job([new_task("b", &[])]));
    assert_eq!(world.job(&other).update_time, world.now);
}
