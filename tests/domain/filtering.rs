//! The filter's language: what it accepts and means, what it refuses and how, and that no text makes it fall over.

use longhaul::domain::{
    Job, JobId, JobState, Status, Timestamp,
    counts::Counts,
    filter::{FIELDS, Field, Filter, Order, Pattern},
    submission::{NewJob, NewTask},
    task::Object,
};
use proptest::prelude::*;

use crate::world::*;

/// A job to match against, still queued.
fn job() -> Job {
    let mut world = World::new();
    let key = world.submit(NewJob {
        action: "create".into(),
        summary: "Create S3 bucket test1234".into(),
        creator: "ann@example.com".into(),
        priority: 5,
        object: Some(Object {
            kind: "sg_buckets".into(),
            id: "17".into(),
            name: "test1234".into(),
        }),
        labels: [("team", "storage"), ("env", "prod"), ("empty", "")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        ..new_job([
            NewTask {
                driver: "ansible".into(),
                ..new_task("a", &[])
            },
            NewTask {
                driver: "terraform".into(),
                ..new_task("b", &[])
            },
        ])
    });
    world.job(&key).clone()
}

fn parse(text: &str) -> Filter {
    Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_filter_matches_what_it_says() {
    let job = job();
    let cases = [
        ("", true),
        ("   ", true),
        ("state = QUEUED", true),
        ("state = queued", true),
        ("state = \"QUEUED\"", true),
        ("state:QUEUED", true),
        ("state != QUEUED", false),
        ("state < RUNNING", true),
        ("state >= SUCCEEDED", false),
        ("status = NORMAL", true),
        ("status > NORMAL", false),
        ("action = create", true),
        ("action = Create", false),
        ("action != create", false),
        ("action = \"cre*\"", true),
        ("action = \"*ate\"", true),
        ("action = \"*rea*\"", true),
        ("action = \"*\"", true),
        ("action = \"**\"", true),
        ("action = \"cre\"", false),
        ("action = \"x*\"", false),
        ("action != \"cre*\"", false),
        ("action:rea", true),
        ("action:\"rea\"", true),
        ("action:\"cre*\"", true),
        ("summary = \"Create S3 bucket test1234\"", true),
        ("summary:bucket", true),
        ("summary = \"Delete*\"", false),
        ("creator = \"ann@example.com\"", true),
        ("creator:example", true),
        ("driver = ansible", true),
        ("driver = terraform", true),
        ("driver = puppet", false),
        ("driver != ansible", false),
        ("object.type = sg_buckets", true),
        ("object.id = 17", true),
        ("object.id = \"17\"", true),
        ("object.name = \"test*\"", true),
        ("labels.team = storage", true),
        ("labels.team = network", false),
        ("labels.team:*", true),
        ("labels.nobody:*", false),
        ("labels:team", true),
        ("labels:nobody", false),
        ("labels.empty = \"\"", true),
        ("labels.nobody = \"\"", false),
        ("labels.nobody != x", true),
        ("parent_job_id = \"\"", true),
        ("parent_job_id != \"\"", false),
        (
            "parent_job_id = \"01890000-0000-7000-8000-000000000000\"",
            false,
        ),
        ("job_id = \"00000000-0000-0000-0000-000000000002\"", true),
        ("job_id = \"00000000-0000-0000-0000-000000000003\"", false),
        ("job_id != \"00000000-0000-0000-0000-000000000003\"", true),
        // It has neither started nor ended.
        ("start_time > \"1970-01-01T00:00:00Z\"", false),
        ("NOT start_time > \"1970-01-01T00:00:00Z\"", true),
        ("end_time <= \"2100-01-01T00:00:00Z\"", false),
        ("end_time != \"2100-01-01T00:00:00Z\"", true),
        ("priority = 5", true),
        ("priority > 4", true),
        ("priority <= 4", false),
        ("priority > -3", true),
        ("create_time > \"2025-01-01T00:00:00Z\"", true),
        ("create_time < \"2026-01-01T00:00:00Z\"", false),
        ("create_time = \"2026-01-01T00:00:00Z\"", true),
        ("create_time = \"2026-01-01T01:00:00+01:00\"", true),
        ("update_time >= \"2026-01-01T00:00:00Z\"", true),
        ("NOT state = QUEUED", false),
        ("-state = QUEUED", false),
        ("NOT NOT state = QUEUED", true),
        ("state = QUEUED AND action = create", true),
        ("state = QUEUED AND action = delete", false),
        ("state = QUEUED action = create", true),
        ("state = QUEUED action = delete", false),
        ("state = RUNNING OR action = create", true),
        // OR binds tighter than AND, as AIP-160 has it.
        (
            "action = create OR action = delete AND state = RUNNING",
            false,
        ),
        (
            "action = create OR (action = delete AND state = RUNNING)",
            true,
        ),
        (
            "state = RUNNING AND action = create OR action = delete",
            false,
        ),
        ("NOT state = RUNNING AND action = create", true),
        ("NOT (state = RUNNING OR action = create)", false),
        ("(((state = QUEUED)))", true),
    ];
    for (text, expected) in cases {
        match Filter::parse(text) {
            Ok(filter) => assert_eq!(filter.matches(&job), expected, "{text}: {filter:?}"),
            // Whether NOT may be doubled is the grammar's business; meaning the wrong thing is ours.
            Err(error) => assert_eq!(text, "NOT NOT state = QUEUED", "{error}"),
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_a_hint() {
    let cases = [
        ("colour = red", "there is no field \"colour\""),
        ("object = x", "there is no field \"object\""),
        (
            "state = FINISHED",
            "FINISHED is none of QUEUED, RUNNING, CANCELLING, SUCCEEDED, FAILED, CANCELLED",
        ),
        (
            "status = GOOD",
            "GOOD is none of NORMAL, WARNING, PARTIAL_FAILURES, ERROR",
        ),
        ("priority = high", "not a whole number"),
        ("priority = 99999999999", "not a whole number"),
        ("priority = 1.5", "not a whole number"),
        ("create_time > yesterday", "not a time such as"),
        (
            "create_time > \"2026-13-01T00:00:00Z\"",
            "not a time such as",
        ),
        ("parent_job_id = x", "not a UUID"),
        ("job_id = \"\"", "not a UUID"),
        (
            "job_id > \"01890000-0000-7000-8000-000000000000\"",
            "can be compared with =, != and :",
        ),
        ("parent_job_id > \"\"", "can be compared with =, != and :"),
        ("action > create", "can be compared with =, != and :"),
        ("storage", "compared with nothing"),
        ("regex(action, \"x\")", "functions are not supported"),
        ("action = lower(x)", "plain value"),
    ];
    for (text, hint) in cases {
        let error = Filter::parse(text).expect_err(text).to_string();
        assert!(error.contains(hint), "{text}: {error}");
    }
    for text in [
        "state =",
        "= QUEUED",
        "(state = QUEUED",
        "state = QUEUED)",
        "AND",
        "state = \"x",
        "a = b OR",
        "NOT",
    ] {
        let error = Filter::parse(text).expect_err(text).to_string();
        assert!(!error.is_empty() && error.len() < 1_024, "{error}");
    }
    for field in FIELDS.split(", ") {
        let field = field.replace("KEY", "k");
        let value = match field.as_str() {
            "state" => "RUNNING",
            "status" => "ERROR",
            "priority" => "1",
            "job_id" => "\"01890000-0000-7000-8000-000000000000\"",
            _ if field.ends_with("_time") => "\"2026-01-01T00:00:00Z\"",
            _ => "\"\"",
        };
        parse(&format!("{field} = {value}"));
    }
}

#[test]
fn a_filter_is_bounded() {
    let terms = |n: usize| vec!["priority = 1"; n].join(" AND ");
    parse(&terms(50));
    assert!(
        Filter::parse(&terms(51))
            .expect_err("too many")
            .to_string()
            .contains("50")
    );
    let long = format!("action = \"{}\"", "x".repeat(4_096));
    assert!(
        Filter::parse(&long)
            .expect_err("too long")
            .to_string()
            .contains("4096")
    );
}

#[test]
fn deep_nesting_is_refused_and_not_recursed_into() {
    let inner = "state = QUEUED";
    for (open, close) in [
        ("(", ")"),
        ("NOT (", ")"),
        ("-(", ")"),
        ("NOT ", ""),
        ("-", ""),
        ("(", ""),
    ] {
        let times = (4_096 - inner.len()) / (open.len() + close.len());
        let text = format!("{}{inner}{}", open.repeat(times), close.repeat(times));
        // On half of the stack that a thread of the server has.
        let parsed = std::thread::Builder::new()
            .stack_size(1024 * 1024)
            .spawn(move || Filter::parse(&text).is_ok())
            .expect("a thread")
            .join()
            .expect("it does not overflow");
        assert!(!parsed, "{open}");
    }
    let text = format!("{}{inner}{}", "(".repeat(20), ")".repeat(20));
    assert!(parse(&text).matches(&job()));
}

#[test]
fn state_and_status_can_be_those_of_another_time() {
    let job = job();
    let filter = parse("state = RUNNING AND status = WARNING");
    assert!(!filter.matches(&job));
    assert!(filter.may_have_matched(&job, JobState::Running, Status::Warning));
}

#[test]
fn a_job_that_has_ended_had_not_ended_before() {
    let mut job = job();
    job.state = JobState::Succeeded;
    job.start_time = Some(Timestamp::from_micros(5));
    job.end_time = Some(Timestamp::from_micros(7));
    let ended = Filter::EndTime(Order::Greater, Timestamp::from_micros(6));
    let started = Filter::StartTime(Order::Greater, Timestamp::from_micros(4));
    for (state, had_started, had_ended) in [
        (JobState::Queued, false, false),
        (JobState::Running, true, false),
        (JobState::Cancelling, true, false),
        (JobState::Succeeded, true, true),
    ] {
        let matched = |filter: &Filter| filter.may_have_matched(&job, state, Status::Normal);
        assert_eq!(
            (matched(&started), matched(&ended)),
            (had_started, had_ended),
            "{state:?}"
        );
        // Who follows the others learns that it is not among them any more.
        assert_eq!(
            matched(&Filter::Not(Box::new(ended.clone()))),
            !had_ended,
            "{state:?}"
        );
    }
    assert!(ended.matches(&job));
}

#[test]
fn what_is_not_known_of_the_past_is_taken_for_a_match() {
    let mut job = job();
    job.update_time = Timestamp::from_micros(9);
    let early = Filter::UpdateTime(Order::Less, Timestamp::from_micros(5));
    let running = Filter::State(Order::Equal, JobState::Running);
    let matched = |filter: &Filter, state| filter.may_have_matched(&job, state, Status::Normal);
    assert!(matched(&early, JobState::Queued));
    assert!(matched(
        &Filter::Not(Box::new(early.clone())),
        JobState::Queued
    ));
    let both = Filter::And(vec![early, running]);
    assert!(matched(&both, JobState::Running));
    assert!(!matched(&both, JobState::Queued), "it did not run");
}

#[test]
fn the_kind_of_a_job_is_its_action_and_what_it_is_done_to() {
    let mut job = job();
    assert_eq!(job.spec.kind(), "create_sg_buckets");
    let kind = |text: &str| Filter::Text(Field::Kind, Pattern::from_wildcard(text));
    assert!(kind("create_sg_buckets").matches(&job));
    assert!(kind("create*").matches(&job));
    assert!(!kind("create").matches(&job));
    let mut spec = (*job.spec).clone();
    spec.object = None;
    job.spec = spec.into();
    assert!(kind("create").matches(&job));
    assert!(Filter::parse("kind = create").is_err());
}

#[test]
fn a_wildcard_is_read_as_the_simplest_pattern_that_will_do() {
    let text = str::to_owned;
    for (wildcard, pattern) in [
        ("", Pattern::Exact(text(""))),
        ("ab", Pattern::Exact(text("ab"))),
        ("*", Pattern::Prefix(text(""))),
        ("***", Pattern::Prefix(text(""))),
        ("ab*", Pattern::Prefix(text("ab"))),
        ("*ab", Pattern::Suffix(text("ab"))),
        ("**ab**", Pattern::Contains(text("ab"))),
        ("a*b", Pattern::Glob(vec![text("a"), text("b")])),
        (
            "*a**b*",
            Pattern::Glob(vec![text(""), text("a"), text("b"), text("")]),
        ),
    ] {
        assert_eq!(Pattern::from_wildcard(wildcard), pattern, "{wildcard}");
    }
}

#[test]
fn a_filter_knows_whether_the_outcome_decides() {
    for text in [
        "",
        "state = FAILED",
        "state != FAILED",
        "state < RUNNING OR status = ERROR",
        "NOT (state = RUNNING AND (status = WARNING OR status = NORMAL))",
        // No job matches, whatever its priority.
        "state = RUNNING AND state = FAILED AND priority = 1",
        "state <= CANCELLED OR priority = 1",
    ] {
        assert!(parse(text).is_about_outcome(), "{text}");
    }
    for text in [
        "priority = 1",
        "state = FAILED AND priority = 1",
        "state = FAILED OR action = create",
        "NOT (state = FAILED AND labels:env)",
        "create_time > \"2026-01-01T00:00:00Z\"",
    ] {
        assert!(!parse(text).is_about_outcome(), "{text}");
    }
}

#[test]
fn counters_by_outcome_tell_how_many_match() {
    let counts = Counts {
        jobs: vec![
            (JobState::Queued, Status::Normal, 1),
            (JobState::Running, Status::Normal, 2),
            (JobState::Running, Status::Warning, 4),
            (JobState::Failed, Status::PartialFailures, 8),
            (JobState::Failed, Status::Error, 16),
        ],
        tasks: Vec::new(),
    };
    for (text, total) in [
        ("", Some(31)),
        ("state = RUNNING", Some(6)),
        ("state = RUNNING AND NOT status = NORMAL", Some(4)),
        ("status >= PARTIAL_FAILURES OR state = QUEUED", Some(25)),
        ("state = CANCELLED", Some(0)),
        ("state = RUNNING AND priority = 1", None),
    ] {
        assert_eq!(counts.matching(&parse(text)), total, "{text}");
    }
    let by_state = [
        (JobState::Queued, 1),
        (JobState::Running, 6),
        (JobState::Failed, 24),
    ];
    assert_eq!(counts.jobs_by_state(), by_state);
}

#[test]
fn a_parent_is_matched_by_its_id() {
    let mut job = job();
    let parent = JobId(uuid::Uuid::from_u128(7));
    let mut spec = (*job.spec).clone();
    spec.parent = Some(parent);
    job.spec = spec.into();
    assert!(parse(&format!("parent_job_id = \"{parent}\"")).matches(&job));
    assert!(!parse("parent_job_id = \"\"").matches(&job));
    job.create_time = Timestamp::from_micros(1);
    assert!(parse("create_time > \"1970-01-01T00:00:00Z\"").matches(&job));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_fall_over(text in prop_oneof![
        ".{0,200}",
        "[()a-z=\"*:<>! -]{0,200}",
        "((state|labels\\.[a-z]|action|create_time|priority)( = |:|<|!=)(QUEUED|\"[*é]{0,3}\"|-?[0-9]{1,3})( AND | OR | |\\)| NOT ))*",
    ]) {
        if let Ok(filter) = Filter::parse(&text) {
            filter.matches(&job());
        }
    }

    #[test]
    fn wildcards_agree_with_their_meaning(value in "[a*é]{0,4}", pattern in "[a*é]{0,5}") {
        let mut job = job();
        let mut spec = (*job.spec).clone();
        spec.action = value.clone();
        job.spec = spec.into();
        let Ok(filter) = Filter::parse(&format!("action = \"{pattern}\"")) else {
            return Ok(());
        };
        let middle = pattern.strip_prefix('*').unwrap_or(&pattern);
        let from_start = middle.len() == pattern.len();
        let (middle, from_end) = match middle.strip_suffix('*') {
            Some(middle) => (middle, true),
            None => (middle, false),
        };
        let expected = match (from_start, from_end) {
            (true, false) => value == middle,
            (true, true) => value.starts_with(middle),
            (false, false) => value.ends_with(middle),
            (false, true) => value.contains(middle),
        };
        prop_assert_eq!(filter.matches(&job), expected, "{:?}", filter);
    }

    #[test]
    fn a_star_stands_for_anything_wherever_it_is(value in "[abé]{0,8}", pattern in "[abé*]{0,8}") {
        /// As it is defined: a star takes nothing, or one more character.
        fn matches(pattern: &[char], text: &[char]) -> bool {
            match (pattern, text) {
                (['*', rest @ ..], _) => {
                    matches(rest, text) || !text.is_empty() && matches(pattern, &text[1..])
                }
                ([first, pattern @ ..], [same, text @ ..]) if first == same => matches(pattern, text),
                ([], []) => true,
                _ => false,
            }
        }
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        let expected = matches(&chars(&pattern), &chars(&value));
        let read = Pattern::from_wildcard(&pattern);
        prop_assert_eq!(read.matches(&value), expected, "{:?}", read);
    }
}
