//! What a job brings along for its workers alone: sealed when it is accepted, open in a lease, gone at the end, and in nothing that is shown.

use std::sync::Arc;

use longhaul::{
    domain::{
        JobState, LeaseKey, TaskState,
        command::{Command, Decision, Refusal, Report},
        event::EventKind,
        limits::*,
        secrecy::{Hidden, Secrets},
        submission::{self, NewJob, NewTask},
    },
    vault::Vault,
};

use crate::world::*;

const WORD: &str = "open-sesame-1";

/// As a submission has them.
pub fn secrets(all: &[(&str, &str)]) -> Arc<Hidden> {
    let all = all
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    Arc::new(Hidden::new(all.collect(), Vec::new()))
}

fn with_secret(name: &str, depends_on: &[&str]) -> NewTask {
    NewTask {
        hidden: Some(secrets(&[("word", WORD)])),
        max_attempts: 2,
        ..new_task(name, depends_on)
    }
}

fn repeats() -> [Report; 4] {
    let said = || format!("it said {WORD}");
    let progress = longhaul::domain::task::Progress {
        unit: said(),
        message: said(),
        ..Default::default()
    };
    [
        Report::Progress {
            progress: Some(progress),
            status_detail: said(),
        },
        warning(&said()),
        Report::Release { reason: said() },
        failure(&said()),
    ]
}

/// Nothing of a decision has the secret but the leases in it.
#[track_caller]
fn shows_nothing(decision: &Decision) {
    let told = format!("{decision:?}");
    assert!(!told.contains(WORD), "{told}");
}

fn hidden_of(world: &mut World) -> (LeaseKey, Option<Arc<Hidden>>) {
    let decision = world.run(Vec::new(), &[claim("w", &["d"], 1)]);
    shows_nothing(&decision);
    let grant = decision.grants[0].first().expect("a task is ready");
    (grant.lease.clone(), grant.hidden.clone())
}

#[test]
fn each_lease_has_the_secrets_and_nothing_else_has() {
    let mut world = World::new();
    let submission = world.submission(new_job([with_secret("a", &[]), new_task("b", &["a"])]));
    let decision = world.run(vec![Command::Submit(submission)], &[]);
    shows_nothing(&decision);
    let key = decision.changes.jobs[0].job.key();
    assert!(
        matches!(&world.job(&key).tasks[0].secrets, Secrets::Sealed(sealed) if !sealed.is_empty())
    );
    assert_eq!(world.job(&key).tasks[1].secrets, Secrets::None);
    for report in repeats() {
        let (lease, hidden) = hidden_of(&mut world);
        assert_eq!(hidden, Some(secrets(&[("word", WORD)])));
        let commands = vec![Command::Report {
            lease: lease.clone(),
            reach: None,
            report: report.clone(),
        }];
        let decision = world.run(commands, &[]);
        shows_nothing(&decision);
        assert!(format!("{decision:?}").contains("it said ********"));
        if !report.ends_lease() {
            world.report(&lease, release()).expect("held");
        }
        world.pass(seconds(600));
    }
    let (lease, _) = hidden_of(&mut world);
    world.report(&lease, success()).expect("held");
    assert_eq!(world.job(&key).tasks[0].secrets, Secrets::Erased);
    let (_, hidden) = hidden_of(&mut world);
    assert_eq!(hidden, None, "the other task has none");
}

#[test]
fn every_end_erases() {
    for end in [
        TaskState::Succeeded,
        TaskState::Failed,
        TaskState::Cancelled,
        TaskState::Skipped,
    ] {
        let mut world = World::new();
        let key = world.submit(new_job([with_secret("a", &[]), with_secret("b", &["a"])]));
        let ordinal = match end {
            TaskState::Succeeded => {
                let lease = world.lease("d");
                world.report(&lease, success()).expect("held");
                0
            }
            TaskState::Failed | TaskState::Skipped => {
                let lease = world.lease("d");
                world.report(&lease, fatal("broken")).expect("held");
                usize::from(end == TaskState::Skipped)
            }
            _ => {
                world.cancel(&key, "");
                0
            }
        };
        let task = &world.job(&key).tasks[ordinal];
        assert_eq!((task.state, &task.secrets), (end, &Secrets::Erased));
    }
}

#[test]
fn what_had_secrets_can_not_be_retried() {
    let mut world = World::new();
    let key = world.submit(new_job([with_secret("a", &[])]));
    world.cancel(&key, "");
    assert_eq!(world.job(&key).state, JobState::Cancelled);
    let refused = world.retry(&key, "", [0; 32]).expect_err("erased");
    assert_eq!(refused, Refusal::SecretsErased(key.job));
    // Before its end it can: the pause between attempts is cut short.
    let key = world.submit(new_job([with_secret("a", &[])]));
    let lease = world.lease("d");
    world.report(&lease, failure("broken")).expect("held");
    assert!(!world.retry(&key, "", [0; 32]).expect("open").1);
    assert!(hidden_of(&mut world).1.is_some());
}

#[test]
fn without_a_key_secrets_are_refused() {
    let mut world = World::new();
    world.vault = Vault::without_key();
    let mut submission = world.submission(new_job([with_secret("a", &[])]));
    submission.request_id = "r".into();
    let refused = world.try_submit(submission.clone()).expect_err("no key");
    assert_eq!(refused, Refusal::MasterKeyRequired);
    // Not taken for another one under the same request id, either.
    world.vault = vault(7);
    world.try_submit(submission.clone()).expect("a key");
    world.vault = Vault::without_key();
    submission.fingerprint = [1; 32];
    let refused = world.try_submit(submission).expect_err("no key");
    assert_eq!(refused, Refusal::MasterKeyRequired);
    world.submit(new_job([new_task("a", &[])]));
}

#[test]
fn a_task_whose_secrets_can_not_be_opened_waits_for_a_server_that_can() {
    let mut world = World::new();
    let closed = world.submit(new_job([with_secret("a", &[])]));
    let open = world.submit(new_job([new_task("a", &[])]));
    world.vault = vault(8);
    let grants = world.claim("d", 2);
    assert_eq!(grants.len(), 1);
    assert_eq!(
        grants[0].lease.job, open.job,
        "others are not kept from their workers"
    );
    let task = &world.job(&closed).tasks[0];
    assert_eq!((task.state, task.ready_time), (TaskState::Queued, None));
    assert!(
        task.warnings[0].contains("--master-key-file"),
        "{:?}",
        task.warnings
    );
    assert_eq!(
        world.events(closed.job),
        [EventKind::JobSubmitted, EventKind::TaskWarning]
    );
    assert_eq!(world.claim("d", 1).len(), 0);
    assert_eq!(
        world.events(closed.job).len(),
        2,
        "and it is not looked at again at once"
    );
    world.report(&grants[0].lease, success()).expect("held");
    world.vault = vault(7);
    world.pass(seconds(60));
    assert!(hidden_of(&mut world).1.is_some());
}

#[test]
fn a_report_that_can_not_be_searched_is_kept_without_its_texts() {
    let mut world = World::new();
    let key = world.submit(new_job([with_secret("a", &[])]));
    let lease = world.lease("d");
    world.vault = vault(8);
    world
        .report(&lease, warning(&format!("it said {WORD}")))
        .expect("held");
    assert_eq!(world.job(&key).tasks[0].warnings, ["********"]);
}

#[test]
fn secrets_have_limits_and_no_refusal_repeats_one() {
    let long = "n".repeat(MAX_SECRET_NAME_BYTES + 1);
    let large = "x".repeat(MAX_SECRET_BYTES + 1);
    let half = "x".repeat(MAX_SECRETS_BYTES / 2);
    let many: Vec<String> = (0..=MAX_SECRETS).map(|n| n.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "v")).collect();
    for (hidden, field, told) in [
        (
            secrets(&[("", "xyz")]),
            "secrets[\"\"]",
            "the name of a secret is 1 to 128",
        ),
        (
            secrets(&[("a b", "xyz")]),
            "secrets[\"a b\"]",
            "the name of a secret is 1 to 128",
        ),
        (
            secrets(&[(&long, "xyz")]),
            "secrets[\"nnn",
            "the name of a secret is 1 to 128",
        ),
        (
            secrets(&[("a", &large)]),
            "secrets[\"a\"]",
            "at most 32768 bytes",
        ),
        (
            secrets(&[("a", &half), ("b", &half), ("c", "xyz")]),
            "secrets",
            "have 65539 bytes together",
        ),
        (secrets(&many), "secrets", "at most 64 are allowed"),
    ] {
        let task = NewTask {
            hidden: Some(hidden),
            ..new_task("a", &[])
        };
        let mut violations = Vec::new();
        let refused =
            submission::check(new_job([task]), "job", Default::default(), &mut violations);
        assert!(refused.is_none());
        let field = format!("job.tasks[0].{field}");
        let all = format!("{violations:?}");
        assert!(
            violations[0].field.starts_with(&field) && all.contains(told),
            "{all}"
        );
        assert!(!all.contains("xyz") && violations.len() == 1, "{all}");
    }
    let task = NewTask {
        hidden: Some(secrets(&[("A.b_c-1", &half), ("b", &half)])),
        ..new_task("a", &[])
    };
    let whole = new_job([task]);
    let check = |job: NewJob| submission::check(job, "job", Default::default(), &mut Vec::new());
    assert!(check(whole.clone()).is_some());
    // They count towards what a job may have.
    let tasks = (0..MAX_JOB_BYTES / MAX_SECRETS_BYTES).map(|n| NewTask {
        name: n.to_string(),
        ..whole.tasks[0].clone()
    });
    assert!(check(new_job(tasks)).is_none());
}
