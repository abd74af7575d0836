use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use serde_json::json;

use super::*;
use crate::domain::{
    JobId, JobSpec, TaskId, TaskSpec, Tenant,
    job::{ChildCounts, FailurePolicy},
    submission::Violation,
    task::{Object, RetryPolicy, Timeouts},
};

const DOCUMENT: &str = include_str!("../../../docs/rest/nse.md");
/// The states and statuses that a job can have together.
const OUTCOMES: [(JobState, Status); 11] = [
    (JobState::Queued, Status::Normal),
    (JobState::Queued, Status::Warning),
    (JobState::Running, Status::Normal),
    (JobState::Running, Status::Warning),
    (JobState::Cancelling, Status::Normal),
    (JobState::Cancelling, Status::Warning),
    (JobState::Succeeded, Status::Normal),
    (JobState::Succeeded, Status::Warning),
    (JobState::Failed, Status::PartialFailures),
    (JobState::Failed, Status::Error),
    (JobState::Cancelled, Status::Error),
];

/// 2020-06-03T04:52:28.478912Z
const CREATED: Timestamp = Timestamp::from_micros(1_591_159_948_478_912);
const STARTED: Timestamp = Timestamp::from_micros(1_591_159_949_000_000);
const UPDATED: Timestamp = Timestamp::from_micros(1_591_159_952_636_000);

fn bucket() -> Object {
    Object {
        kind: "sg_buckets".to_owned(),
        id: "5ed7".to_owned(),
        name: "test1234".to_owned(),
    }
}

/// A job of one task that nobody has taken yet.
fn queued() -> Job {
    let payload = Struct::from_json(&json!({
        "s3_bucket_name": "test1234",
        "size": 3,
        "tenant": {"user": "root", "Admin-Password": "hush"},
    }));
    let spec = TaskSpec {
        name: "task-1".to_owned(),
        action: "create".to_owned(),
        driver: Arc::from("storagegrid_ansible"),
        object: None,
        resource_type: "sg_bucket".to_owned(),
        depends_on: Vec::new(),
        max_attempts: 1,
        retry_policy: RetryPolicy::default(),
        timeouts: Timeouts::default(),
        request_payload: Some(Document(payload.unwrap().encoded().clone())),
    };
    let task = Task::new(TaskId(uuid::Uuid::from_u128(9)), Arc::new(spec), CREATED);
    Job {
        id: JobId(uuid::Uuid::from_u128(7)),
        tenant: Tenant::new("default"),
        spec: Arc::new(JobSpec {
            action: "create".to_owned(),
            summary: "Create S3 bucket test1234".to_owned(),
            object: Some(bucket()),
            labels: Default::default(),
            priority: 0,
            creator: "5e85".to_owned(),
            parent: None,
            failure_policy: FailurePolicy::FailFast,
            schedule_time: None,
            traceparent: String::new(),
        }),
        request_id: String::new(),
        depth: 0,
        retry_of: None,
        state: JobState::Queued,
        status: Status::Normal,
        last_error: String::new(),
        revision: 1,
        tasks: vec![Task {
            state: TaskState::Queued,
            ..task
        }],
        children: ChildCounts::default(),
        cancel: None,
        timer: None,
        create_time: CREATED,
        start_time: None,
        update_time: CREATED,
        end_time: None,
        expire_time: None,
    }
}

/// The same, done by a worker that had a warning.
fn succeeded() -> Job {
    let mut job = queued();
    let task = &mut job.tasks[0];
    task.state = TaskState::Succeeded;
    task.status = Status::Warning;
    task.status_detail = "Creation of s3 bucket 'test1234' completed.".to_owned();
    job.state = JobState::Succeeded;
    job.status = Status::Warning;
    job.revision = 4;
    job.start_time = Some(STARTED);
    job.update_time = UPDATED;
    job.end_time = Some(UPDATED);
    job
}

fn call(path: &str, headers: &[(&str, &str)]) -> Call {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let query = Query::parse(head.uri.query()).unwrap();
    Call::new(
        head,
        Bytes::new(),
        Vec::new(),
        query,
        crate::api::Caller::anybody(),
    )
}

async fn body(response: Response) -> String {
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
    String::from_utf8(body.unwrap().to_vec()).unwrap()
}

/// Lines of a text put together; so the order of fields counts.
fn joined(golden: &str) -> String {
    golden.lines().map(str::trim).collect()
}

const QUEUED: &str = r#"
    {
        "id":"00000000-0000-0000-0000-000000000007",
        "action":"create",
        "job_summary":"Create S3 bucket test1234",
        "created":"2020-06-03T04:52:28.478Z",
        "updated":"2020-06-03T04:52:28.478Z",
        "object_id":"5ed7",
        "object_type":"sg_buckets",
        "object_name":"test1234",
        "status":"pending",
        "status_detail":"waits for a worker",
        "last_error":"",
        "user_id":"5e85",
        "job_tasks":null,
        "state":"QUEUED"
    }"#;

const SUCCEEDED: &str = r#"
    {
        "id":"00000000-0000-0000-0000-000000000007",
        "action":"create",
        "job_summary":"Create S3 bucket test1234",
        "created":"2020-06-03T04:52:28.478Z",
        "updated":"2020-06-03T04:52:32.636Z",
        "object_id":"5ed7",
        "object_type":"sg_buckets",
        "object_name":"test1234",
        "status":"successful",
        "status_detail":"Creation of s3 bucket 'test1234' completed.",
        "last_error":"",
        "user_id":"5e85",
        "job_tasks":[
            {
                "id":"00000000-0000-0000-0000-000000000009",
                "job_id":"00000000-0000-0000-0000-000000000007",
                "action":"create",
                "driver":"storagegrid_ansible",
                "object_id":"5ed7",
                "object_type":"sg_buckets",
                "resource_type":"sg_bucket",
                "status":"successful",
                "status_detail":"Creation of s3 bucket 'test1234' completed.",
                "last_error":"",
                "user_id":"5e85",
                "request_payload":{
                    "s3_bucket_name":"test1234",
                    "size":3,
                    "tenant":{
                        "Admin-Password":"********",
                        "user":"root"
                    }
                }
            }
        ],
        "state":"NORMAL"
    }"#;

#[tokio::test]
async fn an_accepted_request_is_a_record_in_an_envelope() {
    let job = queued();
    let response = Nse.accepted(&call("/api/v2.1/buckets", &[]), &job);
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let header = |name: &str| response.headers()[name].to_str().unwrap();
    let place = "/api/v2.1/jobs/00000000-0000-0000-0000-000000000007";
    assert_eq!(header("location"), place);
    assert_eq!(header("retry-after"), "1");
    assert_eq!(header("etag"), "\"1\"");
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("content-language"), "en");
    let golden = r#"
        {
            "status":{
                "user_message":"Okay. Accepted for processing.",
                "verbose_message":"",
                "code":202
            },
            "result":{
                "total_records":1,
                "records":[JOB]
            }
        }"#;
    let golden = joined(golden).replace("JOB", &joined(QUEUED));
    assert_eq!(body(response).await, golden);
    let elsewhere = Nse.accepted(&call("/buckets", &[]), &job);
    let place = &elsewhere.headers()["location"];
    assert_eq!(place, "/v2.1/jobs/00000000-0000-0000-0000-000000000007");
}

#[tokio::test]
async fn a_job_that_has_ended_shows_its_tasks_and_no_secrets() {
    let response = Nse.completed(&call("/v2.1/jobs", &[]), &succeeded());
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["etag"], "\"4\"");
    let golden = r#"
        {
            "status":{
                "user_message":"Okay. Returned 1 record.",
                "verbose_message":"",
                "code":200
            },
            "result":{
                "total_records":1,
                "records":[JOB]
            }
        }"#;
    let golden = joined(golden).replace("JOB", &joined(SUCCEEDED));
    assert_eq!(body(response).await, golden);
}

#[tokio::test]
async fn a_list_tells_what_was_asked_for() {
    let jobs = [succeeded(), queued()];
    let page = Page {
        returned_records: 2,
        total_records: 2_625,
        sort_by: "created",
        order_by: "desc",
        offset: 40,
        limit: 20,
        records: jobs
            .iter()
            .map(|job| record(job, Language::English))
            .collect(),
    };
    let said = returned(2);
    let response = enveloped(StatusCode::OK, &said, Language::English, page);
    let golden = r#"
        {
            "status":{
                "user_message":"Okay. Returned 2 records.",
                "verbose_message":"",
                "code":200
            },
            "result":{
                "returned_records":2,
                "total_records":2625,
                "sort_by":"created",
                "order_by":"desc",
                "offset":40,
                "limit":20,
                "records":[FIRST,SECOND]
            }
        }"#;
    let golden = joined(golden)
        .replace("FIRST", &joined(SUCCEEDED))
        .replace("SECOND", &joined(QUEUED));
    assert_eq!(body(response).await, golden);
}

#[test]
fn an_error_is_a_status_without_a_result() {
    let fault = Fault::invalid(vec![
        Violation::new("limit", "x"),
        Violation::new("offset", one_of("a, b")),
    ]);
    let told = |language| {
        let error = Nse.error(&fault, language);
        assert_eq!(error.kind, answer::JSON);
        error.text
    };
    let english = r#"{"status":{"user_message":"2 fields of the request are bad: limit: x; offset: must be one of a, b","verbose_message":"","code":400},"result":null}"#;
    assert_eq!(told(Language::English), english);
    let french = r#"{"status":{"user_message":"2 champs de la requête sont incorrects: limit: x; offset: doit être l'une de ces valeurs : a, b","verbose_message":"","code":400},"result":null}"#;
    assert_eq!(told(Language::French), french);
    let missing = Fault::from(Refusal::JobNotFound(queued().id));
    let missing = Nse.error(&missing, Language::English).text;
    assert!(
        missing.ends_with(r#""code":404},"result":null}"#),
        "{missing}"
    );
}

#[test]
fn records_are_counted_in_both_languages() {
    for (records, english, french) in [
        (
            0,
            "Okay. Returned 0 records.",
            "D'accord. 0 enregistrement renvoyé.",
        ),
        (
            1,
            "Okay. Returned 1 record.",
            "D'accord. 1 enregistrement renvoyé.",
        ),
        (
            2,
            "Okay. Returned 2 records.",
            "D'accord. 2 enregistrements renvoyés.",
        ),
        (
            1_000,
            "Okay. Returned 1000 records.",
            "D'accord. 1000 enregistrements renvoyés.",
        ),
    ] {
        let said = returned(records);
        assert_eq!(Language::English.say(&said), english);
        assert_eq!(Language::French.say(&said), french);
    }
}

fn asked(query: &str) -> Result<Asked, Vec<String>> {
    let mut query = Query::parse(Some(query)).unwrap();
    Asked::read(&mut query).map_err(|fault| fault.violations.into_iter().map(|v| v.field).collect())
}

#[test]
fn a_list_that_says_nothing_is_the_newest_twenty() {
    let asked = asked("").unwrap();
    assert_eq!((asked.offset, asked.limit), (0, 20));
    assert_eq!((asked.sort_by, asked.order_by()), ("created", "desc"));
    assert_eq!((asked.tenant, asked.token), (None, None));
}

#[test]
fn a_list_by_time_uses_an_index_and_no_other_does() {
    for (query, order) in [
        ("", Some(ListOrder::CreateTimeDesc)),
        (
            "sort_by=created&order_by=desc",
            Some(ListOrder::CreateTimeDesc),
        ),
        ("order_by=asc", Some(ListOrder::CreateTime)),
        ("sort_by=updated", Some(ListOrder::UpdateTimeDesc)),
        ("sort_by=updated&order_by=asc", Some(ListOrder::UpdateTime)),
        ("sort_by=status", None),
        ("sort_by=id&order_by=asc", None),
    ] {
        let by = match asked(query).unwrap().listing(Language::English).sorting {
            Sorting::Indexed(order) => Some(order),
            Sorting::Keys(_) => None,
        };
        assert_eq!(by, order, "{query}");
    }
}

#[test]
fn every_bad_parameter_is_named() {
    for (query, fields) in [
        ("limit=0", &["limit"][..]),
        ("limit=1001&offset=-1", &["offset", "limit"]),
        ("limit=ten&offset=4294967296", &["offset", "limit"]),
        ("sort_by=job_tasks&order_by=down", &["sort_by", "order_by"]),
        ("sort_by=created&sort_by=id", &["sort_by"]),
        ("tenant_id=a&tenant_id=b", &["tenant_id"]),
        ("state=NORMAL&x=1", &["state", "x"]),
    ] {
        assert_eq!(asked(query).unwrap_err(), fields, "{query}");
    }
}

#[test]
fn a_link_to_the_next_page_carries_every_parameter() {
    let query = "sort_by=status&order_by=asc&limit=5&offset=10&tenant_id=a%20b%26c";
    let next = asked(query).unwrap().next(5, "TOKEN-_");
    assert_eq!(
        next,
        "tenant_id=a%20b%26c&offset=15&limit=5&sort_by=status&order_by=asc&page_token=TOKEN-_"
    );
    let again = asked(&next).unwrap();
    assert_eq!(again.tenant.as_deref(), Some("a b&c"));
    assert_eq!(again.token.as_deref(), Some("TOKEN-_"));
    assert_eq!((again.offset, again.limit), (15, 5));
    assert_eq!(
        again.listing(Language::English).of,
        asked(query).unwrap().listing(Language::English).of
    );
}

#[test]
fn lists_are_sorted_by_what_is_shown() {
    let mut job = succeeded();
    job.last_error = "e".to_owned();
    let shown = serde_json::to_value(record(&job, Language::English)).unwrap();
    let shown = shown.as_object().unwrap();
    let names = SORT_FIELDS.map(|(name, _)| name);
    for (name, value) in shown.iter().filter(|(name, _)| *name != "job_tasks") {
        let at = names.iter().position(|n| n == name);
        let (_, sort_value) = SORT_FIELDS[at.unwrap_or_else(|| panic!("{name} is missing"))];
        let expected = match name.as_str() {
            "created" => SortValue::time(Some(CREATED)),
            "updated" => SortValue::time(Some(UPDATED)),
            _ => SortValue::text(value.as_str().unwrap()),
        };
        assert_eq!(sort_value(&job, Language::English), expected, "{name}");
    }
    assert_eq!(names.len() + 1, shown.len());
}

#[test]
fn how_a_job_stands_is_said_and_sorted_in_the_language_of_the_reader() {
    let mut job = succeeded();
    for task in &mut job.tasks {
        task.status_detail = String::new();
    }
    job.children.total = 1;
    job.children.succeeded = 1;
    for (language, said) in [
        (
            Language::English,
            "1 of 1 task succeeded; 1 of 1 child job ended, 0 failed",
        ),
        (
            Language::French,
            "1 sur 1 tâche réussie ; 1 sur 1 job enfant fini, 0 en échec",
        ),
    ] {
        assert_eq!(record(&job, language).status_detail, said);
        let (_, value) = SORT_FIELDS[9];
        assert_eq!(value(&job, language), SortValue::text(said));
    }
}

#[test]
fn a_task_may_be_about_something_else_than_its_job() {
    let mut job = succeeded();
    let mut spec = (*job.tasks[0].spec).clone();
    spec.object = Some(Object {
        kind: "sg_keys".to_owned(),
        id: "k".to_owned(),
        name: String::new(),
    });
    spec.request_payload = None;
    job.tasks[0].spec = Arc::new(spec);
    let shown = serde_json::to_value(record(&job, Language::English)).unwrap();
    let task = &shown["job_tasks"][0];
    assert_eq!(
        (&task["object_id"], &task["object_type"]),
        (&json!("k"), &json!("sg_keys"))
    );
    assert_eq!(task["request_payload"], json!({}));
}

#[test]
fn the_documented_tables_are_those_of_the_code() {
    let rows = |heading: &str| -> Vec<&str> {
        let section = DOCUMENT.split(heading).nth(1).unwrap();
        let lines = section.lines().skip_while(|line| !line.starts_with('|'));
        lines
            .take_while(|line| line.starts_with('|'))
            .skip(2)
            .collect()
    };
    let jobs = OUTCOMES.map(|(state, outcome)| {
        let (shown, word) = (status(state, outcome), documented::state(state, outcome));
        let (state, outcome) = (state.name(), outcome.name());
        format!("| {state} | {outcome} | `{shown}` | `{word}` |")
    });
    assert_eq!(rows("### States of jobs"), jobs);
    let tasks = TaskState::ALL.map(|state| {
        let shown = task_status(state);
        format!("| {} | `{shown}` |", state.name())
    });
    assert_eq!(rows("### States of tasks"), tasks);
    let (least, most) = (1, MAX_LIMIT);
    let limit = format!("| `limit` | `{DEFAULT_LIMIT}` | from {least} to {most}");
    assert!(DOCUMENT.contains(&limit), "{limit}");
    for (field, _) in SORT_FIELDS {
        let sort_by = DOCUMENT
            .lines()
            .find(|line| line.starts_with("| `sort_by`"));
        assert!(sort_by.unwrap().contains(&format!("`{field}`")), "{field}");
    }
}
