//! What this dialect says of itself in the OpenAPI document.

use serde_json::{Map, Value, json};

use super::{
    Accepted, ErrorReply, Face, JobList, JobRecord, MAX_WAIT, OFFSET, PAGE_TOKEN, RETURN_TIMEOUT,
    grammar, task_state, task_status,
};
use crate::{
    domain::{JobState, Status, TaskState},
    rest::{
        native,
        openapi::{
            self, Answer, Operation, Submission, faults, job_id, parameter, shape, shapes, text,
            whole_number, words,
        },
    },
};

/// Whom examples are about.
const KEY: &str = "01931b5e-7f3a-7cc3-98c4-dc0c0c07398f";
/// How values of filters are written.
const GRAMMAR: &str =
    "`a|b` is either of up to 50 values, `!` in front is none of them, `null` is no value.";

impl Face {
    /// What the names of its operations begin with.
    fn id(self) -> &'static str {
        match self {
            Self::Wire => "aiqum",
            Self::WireV2 => "aiqumV2",
            Self::Documented => "aiqumDocumented",
        }
    }

    /// What the names of its schemas begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Wire | Self::WireV2 => "aiqum",
            Self::Documented => "aiqumDocumented",
        }
    }

    fn words(self, of: impl IntoIterator<Item = &'static str>) -> Vec<String> {
        words(of.into_iter().map(|word| self.word(word)))
    }

    fn job_words(self, of: fn(Self, JobState, Status) -> &'static str) -> Vec<String> {
        let states = JobState::ALL.into_iter();
        self.words(states.flat_map(|state| Status::ALL.map(|status| of(self, state, status))))
    }
}

pub(super) fn list(face: Face) -> Operation {
    let list = json!({
        "records": [job(face)],
        "num_records": 1,
        "total_records": 1,
        "_links": {"self": {"href": face.jobs()}},
    });
    let page = Answer::new("200", "A page of jobs.");
    let mut answers = vec![page.json(shape::<JobList<'_>>(face.prefix()), Some(list))];
    answers.extend(errors(face));
    Operation {
        id: format!("{}ListJobs", face.id()),
        tag: openapi::AIQUM,
        description: "List jobs, last submitted first.\n\nFollow `_links.next.href` as it is for the next page: no job is left out or told twice, \
            however many are added meanwhile."
            .to_owned(),
        parameters: list_parameters(face),
        body: None,
        answers,
    }
}

fn list_parameters(face: Face) -> Vec<Value> {
    let filter = |name: &str, description: &str| {
        text(
            name,
            &format!("Only jobs of which this is so: {description} {GRAMMAR}"),
        )
    };
    let time = "a time, with `<`, `<=`, `>` or `>=` in front of it or nothing; a space may stand for the `+` of its offset.";
    let one_of = |words: Vec<String>| {
        let words = words.join(", ");
        format!("one of {words}, in capitals or not; `*` stands for any text.")
    };
    let whole = "the text, in which `*` stands for any text.";
    let status = face.job_words(|_, _, status| status.name());
    vec![
        filter("key", "the id; `*` stands for any text."),
        filter("name", whole),
        filter("type", whole),
        filter("state", &one_of(face.job_words(Face::state))),
        filter("status", &one_of(status)),
        filter("submit_time", time),
        filter("complete_time", time),
        filter("parent_job_key", "the id; `*` stands for any text."),
        parameter(
            "query",
            "order_by",
            "Up to 8 of the fields above, parted by commas, each with `asc` (default) or `desc` behind it.",
            json!({"type": "string", "examples": ["state asc, submit_time desc"]}),
        ),
        whole_number(OFFSET, "So many jobs are left out.", 0, u32::MAX),
        whole_number(
            grammar::MAX_RECORDS_PARAMETER,
            "At most so many jobs: 20 if it is not said, and never more than 1,000.",
            1,
            u32::MAX,
        ),
        text(PAGE_TOKEN, "A part of `_links.next.href`."),
    ]
}

pub(super) fn get(face: Face) -> Operation {
    let most = u32::try_from(MAX_WAIT.as_secs()).unwrap_or(u32::MAX);
    let wait = "Waits up to so many seconds for the end of the job.";
    let job = ended(face, "The job, whether it went well or not.");
    let mut answers = vec![job, Answer::unchanged()];
    answers.extend(errors(face));
    Operation {
        id: format!("{}GetJob", face.id()),
        tag: openapi::AIQUM,
        description: match face {
            Face::Wire | Face::WireV2 => {
                "Read a job.\n\nAsk until `state` is `completed` or `aborted`; `status` says how it went."
            }
            Face::Documented => {
                "Read a job.\n\nAsk until `state` is `NORMAL`, `PARTIAL_FAILURES` or `ERROR`."
            }
        }
        .to_owned(),
        parameters: vec![
            job_id("key"),
            whole_number("wait", wait, 1, most),
            whole_number(RETURN_TIMEOUT, "The same as `wait`; give one.", 1, most),
            openapi::if_none_match(),
        ],
        body: None,
        answers,
    }
}

pub(super) fn submit(face: Face) -> Operation {
    let id = format!("{}SubmitJob", face.id());
    Operation::submission(id, openapi::AIQUM, native::job_body(), submission(face))
}

pub(super) fn submission(face: Face) -> Submission {
    let most = u32::try_from(MAX_WAIT.as_secs()).unwrap_or(u32::MAX);
    let accepted = json!({"job": {"key": KEY, "_links": {"self": {"href": here(face)}}}});
    let accepted = Answer::new("202", "The job is stored: follow it at the link.")
        .json(shape::<Accepted>(face.prefix()), Some(accepted))
        .etag()
        .header("Location", "Where the job is.");
    let mut answers = vec![
        ended(face, "The job has ended while the caller waited."),
        accepted,
    ];
    answers.extend(errors(face));
    Submission {
        parameters: vec![
            whole_number(
                RETURN_TIMEOUT,
                "Waits up to so many seconds for the end of the job.",
                1,
                most,
            ),
            openapi::idempotency_key(),
            openapi::prefer("the job's end, if there is no `return_timeout`"),
        ],
        answers,
    }
}

fn ended(face: Face, description: &'static str) -> Answer {
    let answer = Answer::new("200", description);
    answer
        .json(shape::<JobRecord<'_>>(face.prefix()), Some(job(face)))
        .etag()
}

fn errors(face: Face) -> [Answer; 2] {
    let example = json!({"error": {
        "code": "INVALID_REQUEST",
        "message": "max_records: must be a whole number from 1 to 1000",
        "target": "max_records",
    }});
    let schema = shape::<ErrorReply<'_>>(face.prefix());
    faults("application/json", &schema, Some(example))
}

/// The schemas of all that it sends, with the words that this form of it has.
pub(super) fn schemas(face: Face) -> Map<String, Value> {
    let mut schemas = shapes(face.prefix(), |generator| {
        generator.subschema_for::<JobList<'_>>();
        generator.subschema_for::<Accepted>();
        generator.subschema_for::<ErrorReply<'_>>();
    });
    let tasks = TaskState::ALL.into_iter();
    for (shape, field, words) in [
        ("JobRecord", "state", face.job_words(Face::state)),
        (
            "JobRecord",
            "status",
            face.job_words(|_, _, status| status.name()),
        ),
        (
            "TaskReport",
            "state",
            face.words(tasks.clone().map(task_state)),
        ),
        ("TaskReport", "status", face.words(tasks.map(task_status))),
    ] {
        let schema = schemas.get_mut(&format!("{}.{shape}", face.prefix()));
        if let Some(schema) = schema {
            schema["properties"][field]["enum"] = json!(words);
        }
    }
    schemas
}

fn here(face: Face) -> String {
    format!("{}/{KEY}", face.jobs())
}

fn job(face: Face) -> Value {
    let (submit, start, end) = (
        "2026-01-31T12:00:00.000000Z",
        "2026-01-31T12:00:00.004100Z",
        "2026-01-31T12:00:09.250000Z",
    );
    json!({
        "key": KEY,
        "name": "Create LUN lun1",
        "type": "create_luns",
        "state": face.word(face.state(JobState::Succeeded, Status::Normal)),
        "status": face.word(Status::Normal.name()),
        "submit_time": submit,
        "complete_time": end,
        "parent_job_key": null,
        "spawned_job_summary": {
            "total_jobs": 0,
            "running_jobs": 0,
            "completed_jobs": 0,
            "successful_jobs": 0,
            "failed_jobs": 0,
            "aborted_jobs": 0,
        },
        "task_reports": [{
            "key": "01931b5e-7f3a-7cc3-98c4-dc1f5d1c6a10",
            "name": "create",
            "type": "create_lun",
            "description": "created",
            "state": face.word(task_state(TaskState::Succeeded)),
            "status": face.word(task_status(TaskState::Succeeded)),
            "failure_reason": null,
            "start_time": start,
            "complete_time": end,
        }],
        "job_results": [{"name": "lun_key", "value": "8c9b5cbe-8f2e-11f0-a8d5-0050568e1c9a"}],
        "_links": {"self": {"href": here(face)}},
    })
}
