use super::*;
use crate::{
    domain::{
        JobState, Status, TaskState, Timestamp,
        command::Submission,
        submission::{NewJob, NewTask, check},
    },
    engine::{Clock, EngineSettings, EngineThread, SteadyClock},
    rest::deploy::tests::{job, task},
    store::memory::MemoryStore,
    vault::Vault,
};

/// Jobs that differ in all fields: `019aa5a0-…-000N`, changed in the second N of 2019-04-04T15:41.
fn jobs() -> Vec<Job> {
    let outcomes = [
        (JobState::Queued, Status::Normal, TaskState::Queued, ""),
        (
            JobState::Running,
            Status::Normal,
            TaskState::Running,
            "node 1",
        ),
        (
            JobState::Cancelling,
            Status::Normal,
            TaskState::Cancelling,
            "",
        ),
        (
            JobState::Succeeded,
            Status::Normal,
            TaskState::Succeeded,
            "node 4",
        ),
        (JobState::Failed, Status::Error, TaskState::Skipped, ""),
        (JobState::Cancelled, Status::Error, TaskState::Cancelled, ""),
    ];
    let jobs = outcomes.into_iter().zip(0_i64..);
    let jobs = jobs.map(|((state, status, of_task, said), n)| {
        let mut task = task("a", of_task, n);
        task.status_detail = said.into();
        let mut job = job(state, status, vec![task]);
        job.id = id(n);
        job.update_time = Timestamp::from_micros(1_554_392_460_000_000 + n * 1_000_000);
        job
    });
    jobs.collect()
}

fn id(n: i64) -> JobId {
    let id = format!("019aa5a0-0000-7000-8000-00000000000{n}");
    JobId(id.parse().unwrap())
}

fn asked(raw: &str) -> (Asked, Vec<String>) {
    asked_in(raw, Language::English)
}

/// What is asked for, and which parameters are bad.
fn asked_in(raw: &str, language: Language) -> (Asked, Vec<String>) {
    let mut query = Query::parse(Some(raw)).unwrap();
    let asked = read(&mut query, language);
    let bad = match query.finish() {
        Ok(()) => Vec::new(),
        Err(fault) => fault.violations.into_iter().map(|v| v.field).collect(),
    };
    (asked, bad)
}

/// The numbers of the jobs that match.
fn found(asked: &Asked) -> Vec<usize> {
    let fits = |job: &Job| {
        let fits = asked.fits.as_ref().is_none_or(|fits| fits(job));
        fits && asked.filter.matches(job)
    };
    let jobs = jobs();
    let found = jobs.iter().enumerate().filter(|(_, job)| fits(job));
    found.map(|(n, _)| n).collect()
}

#[test]
fn every_field_can_be_filtered_with_every_operator() {
    let all = [0, 1, 2, 3, 4, 5];
    for (raw, expected) in [
        ("", &all[..]),
        ("fields=*", &all),
        ("fields=**", &all),
        ("fields=id,state", &all),
        ("state=queued", &[0]),
        ("state=RUNNING", &[1, 2]),
        ("state=success|failure", &[3, 4, 5]),
        ("state=!success", &[0, 1, 2, 4, 5]),
        ("state=%21%20success|failure", &[0, 1, 2]),
        ("state=*u*", &all),
        ("state=*ure", &[4, 5]),
        ("state=%3Cqueued", &[4, 5]),
        ("state=%3E=running", &[1, 2, 3]),
        ("state=null", &[]),
        ("state=!null", &all),
        ("id=019aa5a0-0000-7000-8000-000000000003", &[3]),
        ("id=019AA5A0-0000-7000-8000-000000000003", &[3]),
        ("id=!019aa5a0-0000-7000-8000-000000000003", &[0, 1, 2, 4, 5]),
        ("id=%3E019aa5a0-0000-7000-8000-000000000003", &[4, 5]),
        ("id=%3C=%20019aa5a0-0000-7000-8000-000000000001", &[0, 1]),
        ("id=*3|*5", &[3, 5]),
        ("id=*", &all),
        ("id=none", &[]),
        ("id=null", &[]),
        ("message=node%201", &[1]),
        ("message=node*", &[1, 3]),
        ("message=!node*", &[0, 2, 4, 5]),
        ("message=*worker|*cancelled", &[0, 2, 5]),
        ("message=%3E=the", &[0, 2, 5]),
        ("message=!null", &all),
        ("message=null", &[]),
        ("last_modified=2019-04-04T15:41:02.000000Z", &[2]),
        ("last_modified=!2019-04-04T15:41:02Z", &[0, 1, 3, 4, 5]),
        ("last_modified=%3E2019-04-04T15:41:02Z", &[3, 4, 5]),
        ("last_modified=%3E=%202019-04-04T15:41:02Z", &[2, 3, 4, 5]),
        ("last_modified=%3C=2019-04-04T17:41:02+02:00", &[0, 1, 2]),
        ("last_modified=*:04.000000Z", &[4]),
        (
            "last_modified=*:04.000000Z|%3C2019-04-04T17:41:01%2B02:00",
            &[0, 4],
        ),
        ("state=running&message=node*&last_modified=!null", &[1]),
    ] {
        let (asked, bad) = asked(raw);
        assert_eq!(bad, [""; 0], "{raw}");
        assert_eq!(found(&asked), expected, "{raw}");
    }
}

#[test]
fn a_message_is_filtered_as_its_reader_sees_it() {
    let (asked, _) = asked_in("message=attend*", Language::French);
    assert_eq!(found(&asked), [0]);
}

#[test]
fn only_what_is_shown_needs_a_look_at_each_job() {
    for (raw, looks) in [
        ("", false),
        ("id=019aa5a0-0000-7000-8000-000000000003|*", false),
        ("state=succ*&last_modified=%3E2019-04-04T15:41:02Z", false),
        ("id=019aa5a0*", true),
        ("message=x", true),
    ] {
        assert_eq!(asked(raw).0.fits.is_some(), looks, "{raw}");
    }
}

#[test]
fn every_bad_parameter_is_named() {
    let many = format!("id={}", "|".repeat(60));
    for (raw, expected) in [
        ("state=done", &["state"][..]),
        ("state=", &["state"]),
        ("state=%3Edone", &["state"]),
        ("last_modified=None", &["last_modified"]),
        ("last_modified=%3E=yesterday", &["last_modified"]),
        ("id=%3Eabc", &["id"]),
        (&many, &["id"]),
        ("max_records=0", &["max_records"]),
        ("max_records=many", &["max_records"]),
        ("order_by=name", &["order_by"]),
        ("order_by=id%20down", &["order_by"]),
        ("state=queued&state=running", &["state"]),
        ("offset=3&poll_timeout=3", &["offset", "poll_timeout"]),
        (
            "state=x&max_records=x&order_by=x&x=x",
            &["max_records", "state", "order_by", "x"],
        ),
    ] {
        assert_eq!(asked(raw).1, expected, "{raw}");
    }
}

#[test]
fn jobs_are_sorted_by_any_field() {
    let indexed = |raw: &str| match asked(raw).0.sorting {
        Sorting::Indexed(order) => Some(order),
        Sorting::Keys(_) => None,
    };
    for (raw, order) in [
        ("", Some(ListOrder::CreateTimeDesc)),
        ("order_by=", Some(ListOrder::CreateTimeDesc)),
        ("order_by=id%20desc,state", Some(ListOrder::CreateTimeDesc)),
        ("order_by=id", Some(ListOrder::CreateTime)),
        (
            "order_by=last_modified%20desc&max_records=9",
            Some(ListOrder::UpdateTimeDesc),
        ),
        ("order_by=last_modified%20desc", None),
        ("order_by=last_modified&max_records=9", None),
    ] {
        assert_eq!(indexed(raw), order, "{raw}");
    }
    for (raw, expected) in [
        ("order_by=last_modified", [0, 1, 2, 3, 4, 5]),
        ("order_by=last_modified%20desc", [5, 4, 3, 2, 1, 0]),
        (
            "order_by=state%20desc,last_modified%20asc",
            [3, 1, 2, 0, 4, 5],
        ),
        ("order_by=state,id%20desc", [5, 4, 0, 2, 1, 3]),
        ("order_by=message", [1, 3, 4, 2, 5, 0]),
    ] {
        let Sorting::Keys(keys) = asked(raw).0.sorting else {
            panic!("{raw} has an index");
        };
        let jobs = jobs();
        let mut order: Vec<usize> = (0..jobs.len()).collect();
        order.sort_by_key(|n| keys(&jobs[*n]));
        assert_eq!(order, expected, "{raw}");
    }
}

async fn submit(engine: &Engine, jobs: usize) -> Vec<Arc<Job>> {
    let new = NewJob {
        tasks: vec![NewTask {
            driver: "a".into(),
            ..NewTask::default()
        }],
        ..NewJob::default()
    };
    let checked = check(new, "job", Timestamp::default(), &mut Vec::new()).unwrap();
    let submission = Submission {
        tenant: Tenant::new("default"),
        request_id: String::new(),
        fingerprint: Default::default(),
        spec: checked.spec,
        tasks: checked.tasks,
        hidden: checked.hidden,
    };
    let answers = engine.submit(vec![submission; jobs]).await.unwrap();
    answers
        .into_iter()
        .map(|answer| answer.unwrap().0)
        .collect()
}

async fn engine(clock: impl Clock) -> (Engine, EngineThread) {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::without_key());
    let started = Engine::start(store, Arc::new(clock), vault, EngineSettings::default()).await;
    started.unwrap()
}

fn walk(engine: &Engine, way: Way, left: usize) -> Walk {
    Walk {
        engine: engine.clone(),
        tenant: Tenant::new("default"),
        filter: Filter::All,
        fits: None,
        way,
        left,
        told: 0,
        ended: false,
        collection: "/api/jobs",
        language: Language::English,
    }
}

#[tokio::test]
async fn a_list_that_begins_with_the_oldest_ends_however_fast_jobs_are_added() {
    let (engine, thread) = engine(SteadyClock::start(Timestamp::default())).await;
    let mut there = 0;
    for _ in 0..3 {
        let way = Way::Indexed(ListOrder::CreateTime, None);
        let mut walk = walk(&engine, way, usize::MAX);
        walk.fix_end().await.unwrap();
        let mut added = 0;
        while !walk.ended {
            walk.piece().await.unwrap();
            assert!(walk.told <= there, "{} of {there}", walk.told);
            // More than a piece has.
            added += submit(&engine, PAGE + 1).await.len();
        }
        assert_eq!(walk.told, there);
        there += added;
    }
    assert!(there > 3 * PAGE);
    thread.stop().await.unwrap();
}

/// A clock that stands, so that changes of one job are later than those of others that were made behind them.
struct Standing;

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_554_392_460_000_000)
    }
}

#[tokio::test]
async fn jobs_of_one_moment_are_in_the_order_of_their_times_and_then_the_newer_is_first() {
    let (engine, thread) = engine(Standing).await;
    let mut jobs = submit(&engine, 3).await;
    for _ in 0..2 {
        let cancelled = engine
            .cancel(jobs[1].key(), String::new(), None)
            .await
            .unwrap();
        jobs[1] = cancelled;
        jobs.extend(submit(&engine, PAGE).await);
    }
    let mut expected = jobs.clone();
    expected.sort_by_key(|job| Reverse((job.update_time, job.id)));
    assert_eq!(expected[0].id, jobs[1].id, "it changed before most others");
    for most in [1, 2, PAGE] {
        let records = walk(&engine, Way::Latest, most).latest().await.unwrap();
        let ids = expected[..most].iter().map(|job| job.id.to_string());
        let told = records.iter().zip(ids);
        assert_eq!(records.len(), most);
        for (record, id) in told {
            assert!(record.contains(&id), "{record} is not {id}");
        }
    }
    thread.stop().await.unwrap();
}
