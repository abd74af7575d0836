use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Request;
use http_body_util::BodyExt as _;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        JobId, JobSpec, Status, Task, TaskId, TaskSpec, TaskState, Tenant,
        job::{CancelReceipt, ChildCounts, FailurePolicy},
        submission::Violation,
        task::{RetryPolicy, Timeouts},
        wording::Sentence,
    },
    rest::query::not_text,
};

const JOB: &str = "019aa5a0-0000-7000-8000-000000000001";
/// 2019-04-04T15:41:29.140265Z
const CHANGED: i64 = 1_554_392_489_140_265;
const DOC: &str = include_str!("../../../docs/rest/deploy.md");

pub(super) fn task(name: &str, state: TaskState, at: i64) -> Task {
    let spec = TaskSpec {
        name: name.into(),
        action: String::new(),
        driver: "deploy".into(),
        object: None,
        resource_type: String::new(),
        depends_on: Vec::new(),
        max_attempts: 3,
        retry_policy: RetryPolicy::default(),
        timeouts: Timeouts::default(),
        request_payload: None,
    };
    let mut task = Task::new(
        TaskId(Uuid::nil()),
        Arc::new(spec),
        Timestamp::from_micros(at),
    );
    task.state = state;
    task
}

pub(super) fn job(state: JobState, status: Status, tasks: Vec<Task>) -> Job {
    let spec = JobSpec {
        action: "create".into(),
        summary: "Create cluster one".into(),
        object: None,
        labels: BTreeMap::new(),
        priority: 0,
        creator: String::new(),
        parent: None,
        failure_policy: FailurePolicy::FailFast,
        schedule_time: None,
        traceparent: String::new(),
    };
    let changed = Timestamp::from_micros(CHANGED);
    Job {
        id: JobId(JOB.parse().unwrap()),
        tenant: Tenant::new("default"),
        spec: Arc::new(spec),
        request_id: String::new(),
        depth: 0,
        retry_of: None,
        state,
        status,
        last_error: String::new(),
        revision: 7,
        tasks,
        children: ChildCounts::default(),
        cancel: None,
        timer: None,
        create_time: changed,
        start_time: None,
        update_time: changed,
        end_time: None,
        expire_time: None,
    }
}

/// A job in the middle of its work.
fn running() -> Job {
    let mut task = task("create", TaskState::Running, 1);
    task.status_detail = "creating node 2 of 4".into();
    job(JobState::Running, Status::Normal, vec![task])
}

fn cancelled(state: JobState, reason: &str) -> Job {
    let task = task("create", TaskState::Running, 1);
    let mut job = job(state, Status::Error, vec![task]);
    job.cancel = Some(CancelReceipt {
        requested: job.create_time,
        delivered: None,
        acknowledged: None,
        forced: None,
        reason: reason.into(),
    });
    job
}

fn call(uri: &str) -> Call {
    let request = Request::builder()
        .uri(uri)
        .header(header::HOST, "deploy:7070");
    let (head, ()) = request.body(()).unwrap().into_parts();
    Call::new(
        head,
        Bytes::new(),
        Vec::new(),
        Query::default(),
        crate::api::Caller::anybody(),
    )
}

fn header_of(response: &Response, name: HeaderName) -> &str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

fn body_of(response: Response) -> String {
    let body = response.into_body().collect().now_or_never().unwrap();
    String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap()
}

const RECORD: &str = r#"{"id":"019aa5a0-0000-7000-8000-000000000001","state":"running","message":"creating node 2 of 4","last_modified":"2019-04-04T15:41:29.140265Z","_links":{"self":{"href":"/api/v3/jobs/019aa5a0-0000-7000-8000-000000000001"}}}"#;

#[test]
fn what_was_accepted_says_where_its_job_is() {
    for (uri, collection) in [
        ("/api/v3/jobs", "/api/v3/jobs"),
        ("/api/v3/clusters?x=1", "/api/v3/jobs"),
        ("/api/jobs", "/api/jobs"),
        ("/api/clusters", "/api/jobs"),
    ] {
        let response = Deploy.accepted(&call(uri), &running());
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(header_of(&response, header::ETAG), "\"7\"");
        let place = format!("http://deploy:7070{collection}/{JOB}");
        assert_eq!(header_of(&response, header::LOCATION), place);
        let record = RECORD.replace("/api/v3/jobs", collection);
        assert_eq!(body_of(response), format!("{{\"job\":{record}}}"));
    }
    let response = Deploy.completed(&call("/api/v3/jobs"), &running());
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(body_of(response), format!("{{\"job\":{RECORD}}}"));
}

#[test]
fn one_job_is_a_record() {
    let found = Found {
        record: record(&call("/api/v3/jobs/x"), &running()),
    };
    assert_eq!(text(&found), format!("{{\"record\":{RECORD}}}"));
}

#[test]
fn an_error_names_the_first_bad_parameter_apart_and_all_of_them_in_its_message() {
    let violations = vec![
        Violation::new("poll_timeout", not_text()),
        Violation::new("fields", Sentence::plain("given-twice", "is given twice")),
    ];
    let body = Deploy.error(&Fault::invalid(violations), Language::English);
    assert_eq!(
        body.text,
        r#"{"error":{"code":"INVALID_REQUEST","message":"2 fields of the request are bad: poll_timeout: must be UTF-8 without control characters, percent-encoded; fields: is given twice","target":"poll_timeout"}}"#
    );
    let body = Deploy.error(&Fault::draining(), Language::English);
    assert!(body.text.ends_with(r#","target":""}}"#), "{}", body.text);
}

#[test]
fn each_answer_has_an_id_of_its_own() {
    let ids = [(); 2].map(|()| {
        let signed = Deploy.sign(answer::empty(StatusCode::OK));
        header_of(&signed, REQUEST_ID).parse::<Uuid>().unwrap()
    });
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn times_have_six_digits_and_a_z() {
    for (micros, text) in [
        (CHANGED, "2019-04-04T15:41:29.140265Z"),
        (1_554_392_489_000_000, "2019-04-04T15:41:29.000000Z"),
        (1_554_392_489_100_000, "2019-04-04T15:41:29.100000Z"),
        (1_554_392_489_000_001, "2019-04-04T15:41:29.000001Z"),
    ] {
        let time_of = Timestamp::from_micros(micros);
        assert_eq!(time(time_of), text);
        assert_eq!(bound(&format!(">={text}")), Some(time_of));
    }
}

#[test]
fn a_bound_is_a_time_that_the_caller_knows() {
    for value in [
        ">=2019-04-04T15:41:29.140265Z",
        ">= 2019-04-04T15:41:29.140265Z",
        ">2019-04-04T15:41:29.140265Z",
        "2019-04-04T15:41:29.140265Z",
        ">=2019-04-04T15:41:29.140265 00:00",
        ">=2019-04-04T17:41:29.140265+02:00",
    ] {
        let known = bound(value);
        assert_eq!(known, Some(Timestamp::from_micros(CHANGED)), "{value}");
    }
    for value in [
        "",
        "None",
        ">=None",
        ">=",
        "null",
        "<2019-04-04T15:41:29.140265Z",
        "soon",
    ] {
        assert_eq!(bound(value), None, "{value}");
    }
}

/// The rows of a table of the document, without their backticks.
fn rows(head: &str) -> Vec<Vec<String>> {
    let table = DOC
        .split(head)
        .nth(1)
        .expect("the document has such a table");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.trim_matches('|').split('|'));
    let texts = cells.map(|cells| cells.map(|cell| cell.trim().replace('`', "")));
    texts.map(Iterator::collect).collect()
}

#[test]
fn the_states_are_those_of_the_document() {
    let rows = rows("| Job | `state` |");
    let told = rows.iter().flat_map(|row| {
        let states = row[0].split(", ");
        states.map(|state| (state.to_owned(), row[1].clone()))
    });
    let told: BTreeMap<_, _> = told.collect();
    let known = STATES.iter().map(|(state, shown)| (state.name(), *shown));
    let known: BTreeMap<_, _> = known
        .map(|(state, shown)| (state.to_owned(), shown.to_owned()))
        .collect();
    assert_eq!(told, known);
    for of in JobState::ALL {
        assert!(STATES.contains(&(of, state(of))), "{of:?} has no row");
        assert_eq!(
            ["success", "failure"].contains(&state(of)),
            of.is_terminal()
        );
    }
}

#[track_caller]
fn assert_says(job: &Job, english: &str, french: &str) {
    assert_eq!(message::of(job, Language::English), english);
    assert_eq!(message::of(job, Language::French), french);
}

#[test]
fn an_open_job_says_what_its_workers_said_last() {
    let queued = || vec![task("a", TaskState::Queued, 1)];
    let mut waits = job(JobState::Queued, Status::Normal, queued());
    assert_says(&waits, "waits for a worker", "attend un exécutant");
    let mut spec = (*waits.spec).clone();
    spec.schedule_time = Some(waits.create_time);
    waits.spec = Arc::new(spec);
    assert_says(
        &waits,
        "waits for its schedule time or a worker",
        "attend son heure ou un exécutant",
    );

    assert_says(&running(), "creating node 2 of 4", "creating node 2 of 4");
    // Of several tasks the one that changed last speaks, unless it has ended.
    let mut older = task("a", TaskState::Running, 1);
    older.status_detail = "older".into();
    let mut newer = task("b", TaskState::Running, 2);
    newer.status_detail = "newer".into();
    let mut several = job(JobState::Running, Status::Normal, vec![newer, older]);
    assert_says(&several, "newer", "newer");
    several.tasks[0].state = TaskState::Succeeded;
    assert_says(&several, "older", "older");
    several.tasks[1].status_detail = String::new();
    assert_says(&several, "1 of 2 tasks done", "1 sur 2 tâches finies");

    // Its own work is done, and it is open for its child jobs.
    let done = task("a", TaskState::Succeeded, 1);
    let mut parent = job(JobState::Running, Status::Normal, vec![done]);
    parent.children.total = 2;
    assert_says(
        &parent,
        "1 of 1 task done; 0 of 2 child jobs ended, 0 failed",
        "1 sur 1 tâche finie ; 0 sur 2 jobs enfants finis, 0 en échec",
    );

    let mut failing = running();
    failing.tasks[0].state = TaskState::BackingOff;
    failing.tasks[0].last_error = "no route".into();
    assert_says(
        &failing,
        "an attempt failed, another one follows: no route",
        "une tentative a échoué, une autre suivra : no route",
    );
}

#[test]
fn a_job_that_has_ended_says_why() {
    let mut done = running();
    (done.state, done.tasks[0].state) = (JobState::Succeeded, TaskState::Succeeded);
    assert_says(&done, "creating node 2 of 4", "creating node 2 of 4");
    done.tasks[0].status_detail = String::new();
    assert_says(&done, "succeeded", "réussi");
    done.status = Status::Warning;
    assert_says(
        &done,
        "succeeded, but not all of its child jobs did",
        "réussi, mais pas tous ses jobs enfants",
    );
    done.tasks[0].warnings = vec!["slow disk".into()];
    assert_says(
        &done,
        "succeeded with a warning: slow disk",
        "réussi avec un avertissement : slow disk",
    );
    done.tasks[0].warnings.push("hot disk".into());
    assert_says(
        &done,
        "succeeded with warnings, among them: hot disk",
        "réussi avec des avertissements, dont : hot disk",
    );

    let mut failed = task("nodes", TaskState::Failed, 1);
    failed.last_error = "no space".into();
    let ok = task("network", TaskState::Succeeded, 1);
    let mut failed = job(JobState::Failed, Status::Error, vec![ok, failed]);
    assert_says(
        &failed,
        "task \"nodes\" failed: no space",
        "la tâche « nodes » a échoué : no space",
    );
    failed.status = Status::PartialFailures;
    assert_says(
        &failed,
        "1 of 2 tasks succeeded; task \"nodes\" failed: no space",
        "1 des 2 tâches ont réussi ; la tâche « nodes » a échoué : no space",
    );
    failed.tasks[1].state = TaskState::Skipped;
    assert_says(
        &failed,
        "not all of the tasks were run",
        "toutes les tâches n'ont pas été exécutées",
    );
}

#[test]
fn a_cancelled_job_says_so() {
    for (state, reason, english, french) in [
        (
            JobState::Cancelling,
            "",
            "the job is being cancelled",
            "le job est en cours d'annulation",
        ),
        (
            JobState::Cancelling,
            "enough",
            "the job is being cancelled: enough",
            "le job est en cours d'annulation : enough",
        ),
        (
            JobState::Cancelled,
            "",
            "the job was cancelled",
            "le job a été annulé",
        ),
        (
            JobState::Cancelled,
            "enough",
            "the job was cancelled: enough",
            "le job a été annulé : enough",
        ),
    ] {
        assert_says(&cancelled(state, reason), english, french);
    }
}
