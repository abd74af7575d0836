use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        Document, JobId, JobSpec, TaskId, TaskSpec, Tenant,
        job::{ChildCounts, FailurePolicy},
        submission::Violation,
        task::{Object, RetryPolicy, Timeouts},
    },
    proto::Struct,
};

const FACES: [Face; 3] = [Face::Wire, Face::WireV2, Face::Documented];
pub(super) const JOB: &str = "019aa5a0-0000-7000-8000-000000000001";
pub(super) const PARENT: &str = "019aa5a0-0000-7000-8000-0000000000ff";
/// 2026-11-21T12:00:00Z
const NOON: i64 = 1_795_262_400_000_000;

pub(super) fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(NOON + micros)
}

fn document(value: &Value) -> Document {
    Document(Struct::from_json(value).unwrap().encode_to_vec().into())
}

fn task(name: &str, resource_type: &str) -> Task {
    let spec = TaskSpec {
        name: name.into(),
        action: "create".into(),
        driver: "ontap".into(),
        object: None,
        resource_type: resource_type.into(),
        depends_on: Vec::new(),
        max_attempts: 1,
        retry_policy: RetryPolicy::default(),
        timeouts: Timeouts::default(),
        request_payload: None,
    };
    Task::new(TaskId(Uuid::nil()), Arc::new(spec), at(0))
}

pub(super) fn job(tasks: Vec<Task>) -> Job {
    let spec = JobSpec {
        action: "create".into(),
        summary: "Create LUN a".into(),
        object: Some(Object {
            kind: "luns".into(),
            ..Object::default()
        }),
        labels: BTreeMap::new(),
        priority: 0,
        creator: String::new(),
        parent: None,
        failure_policy: FailurePolicy::FailFast,
        schedule_time: None,
        traceparent: String::new(),
    };
    Job {
        id: JobId(JOB.parse().unwrap()),
        tenant: Tenant::new("default"),
        spec: Arc::new(spec),
        request_id: String::new(),
        depth: 0,
        retry_of: None,
        state: JobState::Queued,
        status: Status::Normal,
        last_error: String::new(),
        revision: 7,
        tasks,
        children: ChildCounts::default(),
        cancel: None,
        timer: None,
        create_time: at(0),
        start_time: None,
        update_time: at(0),
        end_time: None,
        expire_time: None,
    }
}

/// A job that has ended, with all that a job can have.
pub(super) fn ended() -> Job {
    let mut create = task("create", "lun");
    create.state = TaskState::Succeeded;
    create.status_detail = "created".into();
    create.start_time = Some(at(1_500_000));
    create.end_time = Some(at(2_000_001));
    create.result = Some(document(&json!({"uuid": "5-6", "size": 10})));
    let mut map = task("map", "");
    map.state = TaskState::Failed;
    map.last_error = "no such initiator group".into();
    map.start_time = Some(at(2_500_000));
    map.end_time = Some(at(3_000_000));
    let mut notify = task("notify", "mail");
    notify.state = TaskState::Skipped;
    notify.end_time = Some(at(3_000_000));
    let mut job = job(vec![create, map, notify]);
    let mut spec = (*job.spec).clone();
    spec.parent = Some(JobId(PARENT.parse().unwrap()));
    job.spec = Arc::new(spec);
    job.state = JobState::Failed;
    job.status = Status::PartialFailures;
    job.end_time = Some(at(3_000_000));
    job.children = ChildCounts {
        total: 10,
        succeeded: 4,
        failed: 2,
        cancelled: 1,
    };
    job
}

fn text(body: &impl Serialize) -> String {
    serde_json::to_string_pretty(body).unwrap()
}

#[test]
fn a_job_on_the_wire() {
    let expected = r#"{
  "key": "019aa5a0-0000-7000-8000-000000000001",
  "name": "Create LUN a",
  "type": "create_luns",
  "state": "completed",
  "status": "partial_failures",
  "submit_time": "2026-11-21T12:00:00.000000Z",
  "complete_time": "2026-11-21T12:00:03.000000Z",
  "parent_job_key": "019aa5a0-0000-7000-8000-0000000000ff",
  "spawned_job_summary": {
    "total_jobs": 10,
    "running_jobs": 3,
    "completed_jobs": 7,
    "successful_jobs": 4,
    "failed_jobs": 2,
    "aborted_jobs": 1
  },
  "task_reports": [
    {
      "key": "00000000-0000-0000-0000-000000000000",
      "name": "create",
      "type": "create_lun",
      "description": "created",
      "state": "completed",
      "status": "normal",
      "failure_reason": null,
      "start_time": "2026-11-21T12:00:01.500000Z",
      "complete_time": "2026-11-21T12:00:02.000001Z"
    },
    {
      "key": "00000000-0000-0000-0000-000000000000",
      "name": "map",
      "type": "create",
      "description": "",
      "state": "completed",
      "status": "error",
      "failure_reason": "no such initiator group",
      "start_time": "2026-11-21T12:00:02.500000Z",
      "complete_time": "2026-11-21T12:00:03.000000Z"
    },
    {
      "key": "00000000-0000-0000-0000-000000000000",
      "name": "notify",
      "type": "create_mail",
      "description": "",
      "state": "completed",
      "status": "skipped",
      "failure_reason": null,
      "start_time": null,
      "complete_time": "2026-11-21T12:00:03.000000Z"
    }
  ],
  "job_results": [
    {
      "name": "create",
      "value": "{\"size\":10,\"uuid\":\"5-6\"}"
    }
  ],
  "_links": {
    "self": {
      "href": "/api/management-server/jobs/019aa5a0-0000-7000-8000-000000000001"
    }
  }
}"#;
    let job = ended();
    assert_eq!(text(&Face::Wire.record(&job)), expected);
    let v2 = expected.replace("/api/", "/api/v2/");
    assert_eq!(text(&Face::WireV2.record(&job)), v2);
}

#[test]
fn a_job_as_documented() {
    let record = serde_json::to_value(Face::Documented.record(&ended())).unwrap();
    assert_eq!(record["state"], "PARTIAL_FAILURES");
    assert_eq!(record["status"], "PARTIAL_FAILURES");
    assert_eq!(record["task_reports"][0]["state"], "COMPLETED");
    assert_eq!(record["task_reports"][1]["status"], "ERROR");
    let href = &record["_links"]["self"]["href"];
    assert_eq!(*href, format!("/management-server/jobs/{JOB}"));

    let mut open = job(vec![task("create", "lun")]);
    let record = serde_json::to_value(Face::Documented.record(&open)).unwrap();
    assert_eq!(record["state"], "QUEUED");
    assert_eq!(record["complete_time"], Value::Null);
    assert_eq!(record["parent_job_key"], Value::Null);
    assert_eq!(record["job_results"], json!([]));
    // An attempt that failed is no failed task.
    open.tasks[0].state = TaskState::BackingOff;
    open.tasks[0].last_error = "busy".into();
    let record = serde_json::to_value(Face::Documented.record(&open)).unwrap();
    assert_eq!(record["task_reports"][0]["state"], "WAITING");
    assert_eq!(record["task_reports"][0]["failure_reason"], Value::Null);
}

#[test]
fn results_are_the_fields_of_what_the_only_task_returned() {
    let mut only = task("create", "lun");
    only.state = TaskState::Succeeded;
    let returned = json!({"key": "5-6", "size": 10, "ratio": 0.5, "nodes": ["a", 2], "none": null});
    only.result = Some(document(&returned));
    let mut job = job(vec![only]);
    assert!(Face::Wire.record(&job).job_results.is_empty());
    job.state = JobState::Succeeded;
    let record = serde_json::to_value(Face::Wire.record(&job)).unwrap();
    let expected = json!([
        {"name": "key", "value": "5-6"},
        {"name": "nodes", "value": "[\"a\",2]"},
        {"name": "none", "value": "null"},
        {"name": "ratio", "value": "0.5"},
        {"name": "size", "value": "10"},
    ]);
    assert_eq!(record["job_results"], expected);
}

#[test]
fn a_list_has_its_links_always() {
    let list = |next: Option<&str>| {
        let jobs = JobList {
            records: Vec::new(),
            num_records: 0,
            total_records: 3,
            links: PageLinks {
                here: Link {
                    href: "/api/management-server/jobs?a=b".into(),
                },
                next: next.map(|href| Link { href: href.into() }),
            },
        };
        serde_json::to_string(&jobs).unwrap()
    };
    let here = r#""self":{"href":"/api/management-server/jobs?a=b"}"#;
    let last = format!(r#"{{"records":[],"num_records":0,"total_records":3,"_links":{{{here}}}}}"#);
    assert_eq!(list(None), last);
    let other = format!(
        r#"{{"records":[],"num_records":0,"total_records":3,"_links":{{{here},"next":{{"href":"/x"}}}}}}"#
    );
    assert_eq!(list(Some("/x")), other);
}

#[test]
fn the_link_to_the_next_page_has_every_parameter_as_it_was_sent() {
    let next = |uri: &str| next_page(&uri.parse().unwrap(), 40, "t-k");
    assert_eq!(next("/jobs"), "/jobs?offset=40&page_token=t-k");
    assert_eq!(
        next("/jobs?name=a%20b+c&offset=20&page_token=old&&submit_time=%3E2026"),
        "/jobs?name=a%20b+c&submit_time=%3E2026&offset=40&page_token=t-k"
    );
    // A parameter is the same one with escapes.
    assert_eq!(
        next("/jobs?%6fffset=20&max_records=20"),
        "/jobs?max_records=20&offset=40&page_token=t-k"
    );
}

#[test]
fn an_asynchronous_call_is_answered_with_key_and_link() {
    let job = job(Vec::new());
    for face in FACES {
        let accepted = Accepted {
            job: AcceptedJob {
                key: job.id.to_string(),
                links: face.link(&job),
            },
        };
        let expected = format!(
            r#"{{"job":{{"key":"{JOB}","_links":{{"self":{{"href":"{}/{JOB}"}}}}}}}}"#,
            face.jobs()
        );
        assert_eq!(serde_json::to_string(&accepted).unwrap(), expected);
    }
}

#[test]
fn an_error_says_what_and_where() {
    let say = |fault: &Fault, language| Aiqum(Face::Wire).error(fault, language).text;
    let bad = Fault::invalid(vec![
        Violation::new("offset", "is bad"),
        Violation::new("x", "is worse"),
    ]);
    assert_eq!(
        say(&bad, Language::English),
        r#"{"error":{"code":"INVALID_REQUEST","message":"2 fields of the request are bad: offset: is bad; x: is worse","target":"offset"}}"#
    );
    let id = JobId(JOB.parse().unwrap());
    let missing = Fault::from(crate::domain::command::Refusal::JobNotFound(id));
    assert_eq!(
        say(&missing, Language::French),
        format!(
            r#"{{"error":{{"code":"JOB_NOT_FOUND","message":"aucun job {JOB}","target":"key"}}}}"#
        )
    );
    let draining = say(&Fault::draining(), Language::English);
    assert!(draining.ends_with(r#","target":null}}"#), "{draining}");
}

/// The rows of the tables of the document, each as its cells.
fn rows() -> Vec<Vec<String>> {
    let lines = include_str!("../../../docs/rest/aiqum.md").lines();
    let rows = lines.filter_map(|line| {
        let cells = line.strip_prefix('|')?.strip_suffix('|')?;
        let cells = cells
            .split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect();
        Some(cells)
    });
    rows.collect()
}

#[test]
fn the_document_has_the_states_of_jobs() {
    let rows = rows();
    let names = |cell: &str, name: &str| cell == "any" || cell.split(", ").any(|one| one == name);
    for state in JobState::ALL {
        for status in Status::ALL {
            let is_row = |row: &&Vec<String>| {
                row.len() == 5 && names(&row[0], state.name()) && names(&row[1], status.name())
            };
            let row = rows.iter().find(is_row);
            let row = row.unwrap_or_else(|| panic!("{state:?} {status:?} has no row"));
            assert_eq!(row[2], Face::Wire.word(Face::Wire.state(state, status)));
            assert_eq!(row[3], Face::Documented.state(state, status), "{row:?}");
            assert_eq!(row[4], "the same");
        }
    }
}

#[test]
fn the_document_has_the_states_of_tasks() {
    let rows = rows();
    for state in TaskState::ALL {
        let is_row = |row: &&Vec<String>| {
            row.len() == 3 && row[0].split(", ").any(|name| name == state.name())
        };
        let row = rows.iter().find(is_row);
        let row = row.unwrap_or_else(|| panic!("{state:?} has no row"));
        assert_eq!(row[1], task_state(state).to_ascii_lowercase());
        assert_eq!(row[2], task_status(state).to_ascii_lowercase());
    }
}

#[test]
fn a_wait_is_from_one_to_a_hundred_and_twenty_seconds() {
    let wait = |raw: &str| {
        let mut query = Query::parse(Some(raw)).unwrap();
        let patience = Aiqum(Face::Wire).patience(&mut query);
        query.finish().map(|()| patience).map_err(|_| ())
    };
    assert_eq!(wait(""), Ok(None));
    assert_eq!(
        wait("return_timeout=120"),
        Ok(Some(Duration::from_secs(120)))
    );
    for bad in ["0", "121", "1s", ""] {
        assert_eq!(wait(&format!("return_timeout={bad}")), Err(()), "{bad}");
    }
}
