//! What this dialect says of itself in the OpenAPI document.

use serde_json::{Map, Value, json};

use super::{
    DEFAULT_LIMIT, Envelope, JOBS, MAX_LIMIT, Nothing, PAGE_TOKEN, Page, SORT_FIELDS, Single,
    status, task_status,
};
use crate::{
    domain::{JobState, Status, TaskState},
    rest::{
        documented, native,
        openapi::{
            self, Answer, Operation, Submission, faults, job_id, parameter, shape, shapes, text,
            whole_number, words,
        },
    },
};

/// What the names of its schemas begin with.
const PREFIX: &str = "nse";
/// Whom examples are about.
const ID: &str = "01931b5e-7f3a-7cc3-98c4-dc0c0c07398f";

pub(super) fn list(jobs: &str) -> Operation {
    let page = json!({
        "status": {"user_message": "Okay. Returned 1 record.", "verbose_message": "", "code": 200},
        "result": {
            "returned_records": 1,
            "total_records": 1,
            "sort_by": "created",
            "order_by": "desc",
            "offset": 0,
            "limit": DEFAULT_LIMIT,
            "records": [job()],
        },
    });
    let page = Answer::new("200", "A page of jobs.")
        .json(shape::<Envelope<Page<'_>>>(PREFIX), Some(page))
        .maybe_header("Link", "The next page, as `<…>; rel=\"next\"`.");
    let mut answers = vec![page];
    answers.extend(errors());
    let sort_by =
        json!({"type": "string", "enum": SORT_FIELDS.map(|(name, _)| name), "default": "created"});
    let order_by = json!({"type": "string", "enum": ["asc", "desc"], "default": "desc"});
    Operation {
        id: id(jobs, "ListJobs"),
        tag: openapi::NSE,
        description: "List jobs, last submitted first.\n\nWho follows `Link` reads each job once, however many are added meanwhile.".to_owned(),
        parameters: vec![
            tenant(),
            whole_number("offset", "So many jobs are left out.", 0, u32::MAX),
            whole_number("limit", "At most so many jobs; 20 if it is not said.", 1, MAX_LIMIT),
            parameter("query", "sort_by", "What to sort by.", sort_by),
            parameter("query", "order_by", "In which order.", order_by),
            text(PAGE_TOKEN, "A part of `Link`."),
        ],
        body: None,
        answers,
    }
}

pub(super) fn one(jobs: &str) -> Operation {
    let job = single(
        "200",
        "The job, whether it went well or not.",
        "Okay. Returned 1 record.",
    );
    let mut answers = vec![job, Answer::unchanged().maybe_waited()];
    answers.extend(errors());
    Operation {
        id: id(jobs, "GetJob"),
        tag: openapi::NSE,
        description: "Read a job.\n\nAsk until `state` is `NORMAL`, `PARTIAL_FAILURES` or `ERROR`."
            .to_owned(),
        parameters: vec![
            job_id("id"),
            tenant(),
            openapi::prefer("the job's end, or with If-None-Match for its next change"),
            openapi::if_none_match(),
        ],
        body: None,
        answers,
    }
}

pub(super) fn submit(jobs: &str) -> Operation {
    let id = id(jobs, "SubmitJob");
    Operation::submission(id, openapi::NSE, native::job_body(), submission())
}

pub(super) fn submission() -> Submission {
    let accepted = single(
        "202",
        "The job is stored: follow it at Location.",
        "Okay. Accepted for processing.",
    );
    let mut answers = vec![
        single(
            "200",
            "The job has ended while the caller waited.",
            "Okay. Returned 1 record.",
        ),
        accepted
            .header("Location", "Where the job is.")
            .header("Retry-After", "Seconds after which to ask for it."),
    ];
    answers.extend(errors());
    Submission {
        parameters: vec![openapi::idempotency_key(), openapi::prefer("the job's end")],
        answers,
    }
}

/// The names of operations tell the prefixes apart.
fn id(jobs: &str, what: &str) -> String {
    let [short, _] = JOBS;
    match jobs == short {
        true => format!("nse{what}"),
        false => format!("nseApi{what}"),
    }
}

fn tenant() -> Value {
    text(
        "tenant_id",
        "Only jobs of this tenant. It never shows more than the caller may see.",
    )
}

fn single(status: &'static str, description: &'static str, said: &str) -> Answer {
    let code = status.parse::<u16>().unwrap_or_default();
    let example = json!({
        "status": {"user_message": said, "verbose_message": "", "code": code},
        "result": {"total_records": 1, "records": [job()]},
    });
    let answer = Answer::new(status, description);
    let answer = answer.json(shape::<Envelope<Single<'_>>>(PREFIX), Some(example));
    answer.etag().maybe_waited()
}

fn errors() -> [Answer; 2] {
    let example = json!({
        "status": {
            "user_message": "limit: must be a whole number from 1 to 1000",
            "verbose_message": "",
            "code": 400,
        },
        "result": null,
    });
    let schema = shape::<Envelope<Nothing>>(PREFIX);
    faults("application/json", &schema, Some(example))
}

pub(super) fn schemas() -> Map<String, Value> {
    shapes(PREFIX, |generator| {
        generator.subschema_for::<Envelope<Page<'_>>>();
        generator.subschema_for::<Envelope<Single<'_>>>();
        generator.subschema_for::<Envelope<Nothing>>();
    })
}

/// What `status` of a job can be.
pub(super) fn job_words() -> Vec<&'static str> {
    words(
        JobState::ALL
            .into_iter()
            .flat_map(|state| Status::ALL.map(|s| status(state, s))),
    )
}

/// What `state` of a job can be.
pub(super) fn state_words() -> Vec<&'static str> {
    let states = JobState::ALL.into_iter();
    words(states.flat_map(|state| Status::ALL.map(|s| documented::state(state, s))))
}

/// What `status` of a task can be.
pub(super) fn task_words() -> Vec<&'static str> {
    words(TaskState::ALL.map(task_status))
}

fn job() -> Value {
    json!({
        "id": ID,
        "action": "create",
        "job_summary": "Create S3 bucket photos",
        "created": "2026-01-31T12:00:00.140Z",
        "updated": "2026-01-31T12:00:01.250Z",
        "object_id": "",
        "object_type": "sg_buckets",
        "object_name": "photos",
        "status": "in_progress",
        "status_detail": "step 3 of 9",
        "last_error": "",
        "user_id": "",
        "job_tasks": [{
            "id": "01931b5e-7f3a-7cc3-98c4-dc1f5d1c6a10",
            "job_id": ID,
            "action": "create",
            "driver": "storagegrid_ansible",
            "object_id": "",
            "object_type": "sg_buckets",
            "resource_type": "sg_bucket",
            "status": "in_progress",
            "status_detail": "step 3 of 9",
            "last_error": "",
            "user_id": "",
            "request_payload": {"s3_bucket_name": "photos", "grid_account_id": "56842191736109485301"},
        }],
        "state": "RUNNING",
    })
}
