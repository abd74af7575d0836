//! What may be submitted: each limit from both sides, everything wrong at once, and nothing that makes the check fall over.

use std::{collections::BTreeMap, time::Duration};

use longhaul::domain::{
    Document, Timestamp,
    job::FailurePolicy,
    limits::*,
    submission::{self, Checked, NewJob, NewRetryPolicy, NewTask, Violation},
    task::{Object, RetryPolicy, Timeouts},
};
use proptest::prelude::*;

use crate::world::{new_job, new_task, seconds};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

pub fn check(job: NewJob) -> Result<Checked, Vec<Violation>> {
    let mut violations = Vec::new();
    let checked = submission::check(job, "job", NOW, &mut violations);
    assert_eq!(checked.is_some(), violations.is_empty());
    checked.ok_or(violations)
}

/// The fields that are wrong.
pub fn wrong(job: NewJob) -> Vec<String> {
    match check(job) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.into_iter().map(|v| v.field).collect(),
    }
}

pub fn job() -> NewJob {
    new_job([new_task("a", &[])])
}

fn with_task(change: impl FnOnce(&mut NewTask)) -> NewJob {
    let mut job = job();
    change(&mut job.tasks[0]);
    job
}

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

type Set = fn(&mut NewJob, String);
type SetPart = fn(&mut Object, String);

/// Names and texts of one line, with the most bytes of each.
const LINES: [(&str, usize, Set); 8] = [
    ("job.action", MAX_WORD_BYTES, |j, t| j.action = t),
    ("job.summary", MAX_LINE_BYTES, |j, t| j.summary = t),
    ("job.creator", MAX_NAME_BYTES, |j, t| j.creator = t),
    ("job.tasks[0].name", MAX_WORD_BYTES, |j, t| {
        j.tasks[0].name = t
    }),
    ("job.tasks[0].action", MAX_WORD_BYTES, |j, t| {
        j.tasks[0].action = t
    }),
    ("job.tasks[0].driver", MAX_WORD_BYTES, |j, t| {
        j.tasks[0].driver = t
    }),
    ("job.tasks[0].resource_type", MAX_WORD_BYTES, |j, t| {
        j.tasks[0].resource_type = t
    }),
    ("job.labels[\"k\"]", MAX_NAME_BYTES, |j, t| {
        j.labels.insert("k".into(), t);
    }),
];
const OBJECT_PARTS: [(&str, SetPart); 3] = [
    ("type", |o, t| o.kind = t),
    ("id", |o, t| o.id = t),
    ("name", |o, t| o.name = t),
];

#[test]
fn texts_have_their_limits() {
    let object = |part: SetPart| {
        move |job: &mut NewJob, text| part(job.object.get_or_insert_default(), text)
    };
    let traceparent: (_, _, Set) = ("job.traceparent", MAX_TRACEPARENT_BYTES, |j, t| {
        j.traceparent = t
    });
    for (field, most, set) in LINES.into_iter().chain([traceparent]) {
        let mut at_most = job();
        set(&mut at_most, text(most));
        assert_eq!(wrong(at_most), [""; 0], "{field}");
        let mut beyond = job();
        set(&mut beyond, text(most + 1));
        assert_eq!(wrong(beyond), [field]);
    }
    for (part, set) in OBJECT_PARTS {
        let mut of_job = job();
        object(set)(&mut of_job, text(MAX_NAME_BYTES));
        assert_eq!(wrong(of_job.clone()), [""; 0]);
        object(set)(&mut of_job, text(MAX_NAME_BYTES + 1));
        assert_eq!(wrong(of_job), [format!("job.object.{part}")]);
        let of_task =
            with_task(|t| set(t.object.get_or_insert_default(), text(MAX_NAME_BYTES + 1)));
        assert_eq!(wrong(of_task), [format!("job.tasks[0].object.{part}")]);
    }
}

#[test]
fn names_and_lines_have_no_control_characters() {
    let of_control = |job: NewJob, field: &str| {
        let violations = check(job).expect_err("refused");
        // A driver has its own rule.
        let told = violations[0]
            .description
            .english()
            .contains("the control character");
        assert!(told || field == "job.tasks[0].driver", "{violations:?}");
        let fields: Vec<_> = violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, [field]);
    };
    for control in ["\0", "\n", "\r", "\t", "\u{1b}", "\u{7f}", "\u{85}"] {
        for (field, _, set) in LINES {
            let mut bad = job();
            set(&mut bad, format!("a{control}b"));
            of_control(bad, field);
        }
        for (part, set) in OBJECT_PARTS {
            let mut object = Object::default();
            set(&mut object, control.to_owned());
            let of_task = with_task(|t| t.object = Some(object.clone()));
            of_control(of_task, &format!("job.tasks[0].object.{part}"));
            let of_job = NewJob {
                object: Some(object),
                ..job()
            };
            of_control(of_job, &format!("job.object.{part}"));
        }
    }
    for (field, _, set) in LINES {
        if field != "job.tasks[0].driver" {
            let mut good = job();
            set(&mut good, "naïve 名 \u{1f680}".to_owned());
            assert_eq!(wrong(good), [""; 0], "{field}");
        }
    }
}

#[test]
fn limits_count_bytes_not_characters() {
    let word = "é".repeat(MAX_WORD_BYTES / 2);
    assert_eq!(
        wrong(NewJob {
            action: word.clone(),
            ..job()
        }),
        [""; 0]
    );
    assert_eq!(
        wrong(NewJob {
            action: word + "é",
            ..job()
        }),
        ["job.action"]
    );
}

#[test]
fn labels() {
    let labels = |n: usize| -> BTreeMap<String, String> {
        (0..n).map(|i| (format!("k{i}"), String::new())).collect()
    };
    assert_eq!(
        wrong(NewJob {
            labels: labels(MAX_LABELS),
            ..job()
        }),
        [""; 0]
    );
    assert_eq!(
        wrong(NewJob {
            labels: labels(MAX_LABELS + 1),
            ..job()
        }),
        ["job.labels"]
    );
    for (key, fits) in [
        ("a.b_c-9", true),
        (&*"k".repeat(63), true),
        (&*"k".repeat(64), false),
        ("", false),
        ("Team", false),
        ("a b", false),
        ("é", false),
    ] {
        let labels = BTreeMap::from([(key.to_owned(), "Any välue".to_owned())]);
        assert_eq!(check(NewJob { labels, ..job() }).is_ok(), fits, "{key:?}");
    }
}

#[test]
fn numbers() {
    for (priority, fits) in [
        (0, true),
        (MAX_PRIORITY, true),
        (-MAX_PRIORITY, true),
        (MAX_PRIORITY + 1, false),
        (-MAX_PRIORITY - 1, false),
        (i32::MAX, false),
        (i32::MIN, false),
    ] {
        assert_eq!(
            check(NewJob { priority, ..job() }).is_ok(),
            fits,
            "{priority}"
        );
    }
    for (attempts, result) in [
        (0, Some(1)),
        (1, Some(1)),
        (MAX_ATTEMPTS, Some(MAX_ATTEMPTS)),
        (MAX_ATTEMPTS + 1, None),
        (u32::MAX, None),
    ] {
        let checked = check(with_task(|t| t.max_attempts = attempts));
        assert_eq!(checked.ok().map(|c| c.tasks[0].max_attempts), result);
    }
    for multiplier in [
        0.0,
        0.99,
        10.01,
        -1.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        let job = with_task(|t| t.retry_policy.multiplier = Some(multiplier));
        assert_eq!(
            wrong(job),
            ["job.tasks[0].retry_policy.multiplier"],
            "{multiplier}"
        );
    }
    for jitter in [-0.01, 1.01, f64::NAN, f64::INFINITY] {
        let job = with_task(|t| t.retry_policy.jitter = Some(jitter));
        assert_eq!(wrong(job), ["job.tasks[0].retry_policy.jitter"], "{jitter}");
    }
    for (multiplier, jitter) in [(1.0, 0.0), (10.0, 1.0)] {
        let policy = NewRetryPolicy {
            multiplier: Some(multiplier),
            jitter: Some(jitter),
            ..NewRetryPolicy::default()
        };
        assert_eq!(wrong(with_task(|t| t.retry_policy = policy)), [""; 0]);
    }
}

#[test]
fn spans() {
    let day = Duration::from_secs(24 * 3600);
    type Set = fn(&mut NewTask, Duration);
    let cases: [(&str, Duration, Duration, Set); 6] = [
        (
            "retry_policy.initial_backoff",
            Duration::ZERO,
            day,
            |t, d| t.retry_policy.initial_backoff = Some(d),
        ),
        ("retry_policy.max_backoff", Duration::ZERO, day, |t, d| {
            t.retry_policy.max_backoff = Some(d)
        }),
        (
            "timeouts.schedule_to_start",
            MIN_TIMEOUT,
            MAX_TIMEOUT,
            |t, d| t.timeouts.schedule_to_start = Some(d),
        ),
        (
            "timeouts.start_to_close",
            MIN_TIMEOUT,
            MAX_TIMEOUT,
            |t, d| t.timeouts.start_to_close = Some(d),
        ),
        (
            "timeouts.schedule_to_close",
            MIN_TIMEOUT,
            MAX_TIMEOUT,
            |t, d| t.timeouts.schedule_to_close = Some(d),
        ),
        ("timeouts.heartbeat", seconds(1), MAX_TIMEOUT, |t, d| {
            t.timeouts.heartbeat = Some(d)
        }),
    ];
    let nano = Duration::from_nanos(1);
    for (field, least, most, set) in cases {
        for (span, fits) in [
            (Some(least), true),
            (Some(most), true),
            (least.checked_sub(nano), false),
            (Some(most + nano), false),
            (Some(Duration::MAX), false),
        ] {
            let Some(span) = span else { continue };
            let expected = match fits {
                true => vec![],
                false => vec![format!("job.tasks[0].{field}")],
            };
            assert_eq!(wrong(with_task(|t| set(t, span))), expected, "{span:?}");
        }
    }
}

#[test]
fn schedule_times() {
    let far = NOW.after(MAX_DELAY);
    for (time, result) in [
        (far, Ok(Some(far))),
        (NOW.after(seconds(1)), Ok(Some(NOW.after(seconds(1))))),
        (NOW, Ok(None)),
        (Timestamp::from_micros(0), Ok(None)),
        (Timestamp::from_micros(i64::MIN), Ok(None)),
        (far.after(Duration::from_micros(1)), Err(())),
        (Timestamp::from_micros(i64::MAX), Err(())),
    ] {
        let checked = check(NewJob {
            schedule_time: Some(time),
            ..job()
        });
        assert_eq!(
            checked.map(|c| c.spec.schedule_time).map_err(|_| ()),
            result,
            "{time:?}"
        );
    }
}

#[test]
fn the_number_of_tasks_and_their_drivers() {
    let tasks = |n: usize| (0..n).map(|_| new_task("", &[])).collect::<Vec<_>>();
    for (count, fits) in [
        (0, false),
        (1, true),
        (MAX_TASKS, true),
        (MAX_TASKS + 1, false),
    ] {
        let result = wrong(NewJob {
            tasks: tasks(count),
            ..job()
        });
        assert_eq!(result.is_empty(), fits);
        assert!(fits || result == ["job.tasks"]);
    }
    for (driver, fits) in [
        ("storagegrid_ansible", true),
        ("A-1.b_c", true),
        ("", false),
        ("a b", false),
        ("a/b", false),
        ("dö", false),
        ("a\0", false),
    ] {
        assert_eq!(submission::is_driver(driver), fits, "{driver:?}");
        assert_eq!(check(with_task(|t| t.driver = driver.into())).is_ok(), fits);
    }
}

#[test]
fn one_mebibyte_of_payloads_and_texts_is_enough() {
    let payload = |bytes: usize| Some(Document(vec![0; bytes].into()));
    let mut big = job();
    let used = big.action.len() + "a".len() + "d".len();
    big.tasks[0].request_payload = payload(MAX_JOB_BYTES - used);
    assert_eq!(wrong(big.clone()), [""; 0]);
    big.creator = "x".into();
    assert_eq!(wrong(big), ["job.tasks"]);
    let many: Vec<NewTask> = (0..MAX_TASKS)
        .map(|_| NewTask {
            request_payload: payload(MAX_JOB_BYTES / MAX_TASKS),
            ..new_task("", &[])
        })
        .collect();
    assert_eq!(
        wrong(NewJob {
            tasks: many,
            ..job()
        }),
        ["job.tasks"]
    );
}

#[test]
fn everything_wrong_is_told_at_once() {
    let job = NewJob {
        action: text(1_000),
        summary: text(2_000),
        priority: 5_000,
        labels: BTreeMap::from([("No".to_owned(), text(300))]),
        schedule_time: Some(Timestamp::from_micros(i64::MAX)),
        tasks: vec![
            NewTask {
                driver: "".into(),
                max_attempts: 101,
                ..new_task("a", &["ghost"])
            },
            NewTask {
                timeouts: Timeouts {
                    heartbeat: Some(Duration::ZERO),
                    ..Timeouts::default()
                },
                ..new_task("a", &["a"])
            },
        ],
        ..NewJob::default()
    };
    let mut fields = wrong(job);
    fields.sort();
    assert_eq!(
        fields,
        [
            "job.action",
            "job.labels[\"No\"]",
            "job.labels[\"No\"]",
            "job.priority",
            "job.schedule_time",
            "job.summary",
            "job.tasks[0].depends_on[0]",
            "job.tasks[0].driver",
            "job.tasks[0].max_attempts",
            "job.tasks[1].depends_on",
            "job.tasks[1].name",
            "job.tasks[1].timeouts.heartbeat",
        ]
    );
}

#[test]
fn what_is_left_out_has_its_default() {
    let checked = check(NewJob {
        object: Some(Object {
            kind: "bucket".into(),
            ..Object::default()
        }),
        ..job()
    })
    .expect("fine");
    let task = &checked.tasks[0];
    assert_eq!(task.action, "create", "the job's");
    assert_eq!(task.retry_policy, RetryPolicy::default());
    assert_eq!(task.timeouts, Timeouts::default());
    assert_eq!(task.max_attempts, 1);
    assert_eq!(checked.spec.failure_policy, FailurePolicy::FailFast);
}

#[test]
fn request_ids() {
    for (id, fits) in [
        ("", true),
        ("6f1c1f9e-0d7e-4a0f-8c55-3f2f5f1d2c11", true),
        (&*"x".repeat(128), true),
        (&*"x".repeat(129), false),
        ("a\nb", false),
        ("é", false),
        ("\u{7f}", false),
    ] {
        let mut violations = Vec::new();
        submission::check_request_id(id, "request_id", &mut violations);
        assert_eq!(violations.is_empty(), fits, "{id:?}");
    }
}

fn span() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of(prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        any::<Duration>(),
        (0..100u64).prop_map(Duration::from_secs),
    ])
}

fn any_task() -> impl Strategy<Value = NewTask> {
    (
        prop_oneof!["[ab]", ".{0,200}"],
        prop_oneof!["[a-z]{1,8}", ".{0,200}"],
        prop::collection::vec(prop_oneof!["[ab]", "task-[12]", ".{0,200}"], 0..4),
        any::<u32>(),
        (
            span(),
            span(),
            prop::option::of(any::<f64>()),
            prop::option::of(any::<f64>()),
        ),
        (span(), span(), span(), span()),
    )
        .prop_map(
            |(name, driver, depends_on, max_attempts, retry, limits)| NewTask {
                name,
                driver,
                depends_on,
                max_attempts,
                retry_policy: NewRetryPolicy {
                    initial_backoff: retry.0,
                    max_backoff: retry.1,
                    multiplier: retry.2,
                    jitter: retry.3,
                },
                timeouts: Timeouts {
                    schedule_to_start: limits.0,
                    start_to_close: limits.1,
                    schedule_to_close: limits.2,
                    heartbeat: limits.3,
                },
                ..NewTask::default()
            },
        )
}

proptest! {
    #[test]
    fn whatever_is_submitted_is_answered(
        action in ".{0,200}",
        labels in prop::collection::btree_map(".{0,70}", ".{0,300}", 0..4),
        priority in any::<i32>(),
        schedule in prop::option::of(any::<i64>()),
        tasks in prop::collection::vec(any_task(), 0..5),
    ) {
        let job = NewJob {
            action,
            labels,
            priority,
            schedule_time: schedule.map(Timestamp::from_micros),
            tasks,
            ..NewJob::default()
        };
        match check(job) {
            // What passed can be decided on: times and pauses are finite.
            Ok(checked) => for task in &checked.tasks {
                for failed in [1, 100] {
                    prop_assert!(task.retry_policy.pause(failed, 0.5) <= MAX_BACKOFF);
                }
            },
            Err(violations) => for violation in violations {
                prop_assert!(violation.field.starts_with("job."));
                prop_assert!(violation.field.len() + violation.description.len() < 4_096);
            },
        }
    }
}
