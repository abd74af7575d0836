//! What this dialect says of itself in the OpenAPI document.

use serde_json::{Map, Value, json};

use super::{
    COLLECTIONS, ErrorAnswer, Found, MAX_WAIT_SECONDS, RETURN_TIMEOUT, Started, V3, list::List,
};
use crate::rest::{
    native,
    openapi::{
        self, Answer, Operation, Submission, faults, job_id, parameter, shape, shapes, text,
        whole_number,
    },
};

/// What the names of its schemas begin with.
const PREFIX: &str = "deploy";
/// Whom examples are about.
const ID: &str = "01931b5e-7f3a-7cc3-98c4-dc0c0c07398f";
/// How values of filters are written.
const GRAMMAR: &str = "`<`, `<=`, `>` or `>=` may stand in front of a value; `a|b` is either of up to 50 values, `!` in front is none of them, `*` stands for \
    any text, `null` is no value, which no job has.";

pub(super) fn list(jobs: &str) -> Operation {
    let filter = |name: &str, what: &str| {
        text(
            name,
            &format!("Only jobs of which this is so: {what} {GRAMMAR}"),
        )
    };
    let list = json!({"records": [job(jobs)], "num_records": 1});
    let all = Answer::new("200", "All jobs that match.");
    let mut answers = vec![signed(all.json(shape::<List>(PREFIX), Some(list)))];
    answers.extend(errors());
    Operation {
        id: id(jobs, "ListJobs"),
        tag: openapi::DEPLOY,
        description: "List jobs, last submitted first.\n\nAll that match, unless `max_records` says how many.".to_owned(),
        parameters: vec![
            filter("id", "the id."),
            filter("state", "queued, running, success or failure, in capitals or not."),
            filter("message", "the text, as the caller's language has it."),
            filter("last_modified", "a time, in any offset."),
            parameter(
                "query",
                "order_by",
                "The fields above, parted by commas, each with `asc` (default) or `desc` behind it.",
                json!({"type": "string", "examples": ["state asc, last_modified desc"]}),
            ),
            whole_number("max_records", "At most so many jobs.", 1, u32::MAX),
            fields(),
        ],
        body: None,
        answers,
    }
}

pub(super) fn get(jobs: &str) -> Operation {
    let found = Answer::new("200", "The job, whether it went well or not.");
    let found = found.json(shape::<Found>(PREFIX), Some(json!({"record": job(jobs)})));
    let mut answers = vec![signed(found).etag(), signed(Answer::unchanged())];
    answers.extend(errors());
    Operation {
        id: id(jobs, "GetJob"),
        tag: openapi::DEPLOY,
        description: "Read a job.\n\nAsk until `state` is `success` or `failure`. With both `poll_timeout` and `last_modified` the answer comes with the next \
            change, or at once if the job is newer than that or has ended."
            .to_owned(),
        parameters: vec![
            job_id("id"),
            whole_number(
                "poll_timeout",
                "Waits up to so many seconds for the job to be newer than `last_modified`.",
                1,
                MAX_WAIT_SECONDS,
            ),
            text(
                "last_modified",
                "What the caller was told last, with `>=` in front or nothing: in either case an answer that waits is a newer one. `None`, and what is no time, \
                 is no bound.",
            ),
            fields(),
            openapi::if_none_match(),
        ],
        body: None,
        answers,
    }
}

pub(super) fn submit(jobs: &str) -> Operation {
    let id = id(jobs, "SubmitJob");
    Operation::submission(id, openapi::DEPLOY, native::job_body(), submission())
}

pub(super) fn submission() -> Submission {
    let [_, jobs] = COLLECTIONS;
    let started = |status, description| {
        let answer = Answer::new(status, description);
        signed(answer.json(shape::<Started>(PREFIX), Some(json!({"job": job(jobs)})))).etag()
    };
    let accepted = started("202", "The job is stored: follow it at the link.");
    let mut answers = vec![
        started("200", "The job has ended while the caller waited."),
        accepted.header("Location", "Where the job is: an absolute address."),
    ];
    answers.extend(errors());
    Submission {
        parameters: vec![
            whole_number(
                RETURN_TIMEOUT,
                "Waits up to so many seconds for the end of the job.",
                0,
                MAX_WAIT_SECONDS,
            ),
            openapi::idempotency_key(),
            openapi::prefer("the job's end, if there is no `return_timeout`"),
        ],
        answers,
    }
}

/// The names of operations tell the versions apart.
fn id(jobs: &str, what: &str) -> String {
    match jobs.starts_with(V3) {
        true => format!("deployV3{what}"),
        false => format!("deploy{what}"),
    }
}

fn fields() -> Value {
    text(
        "fields",
        "Accepted, and changes nothing: all fields are always there.",
    )
}

fn signed(answer: Answer) -> Answer {
    answer.header("request-id", "Names this answer.")
}

fn errors() -> [Answer; 2] {
    let example = json!({"error": {
        "code": "INVALID_REQUEST",
        "message": "poll_timeout: must be a whole number from 1 to 120",
        "target": "poll_timeout",
    }});
    let schema = shape::<ErrorAnswer<'_>>(PREFIX);
    faults("application/json", &schema, Some(example)).map(signed)
}

pub(super) fn schemas() -> Map<String, Value> {
    shapes(PREFIX, |generator| {
        generator.subschema_for::<List>();
        generator.subschema_for::<Found>();
        generator.subschema_for::<Started>();
        generator.subschema_for::<ErrorAnswer<'_>>();
    })
}

fn job(jobs: &str) -> Value {
    json!({
        "id": ID,
        "state": "running",
        "message": "configuring node 2 of 4",
        "last_modified": "2026-01-31T12:00:00.140265Z",
        "_links": {"self": {"href": format!("{jobs}/{ID}")}},
    })
}
