//! ONTAP Select Deploy's jobs: `/api/jobs` and `/api/v3/jobs`. A client follows a job by its `last_modified`, which is another one with each change.

mod describe;
mod list;
mod message;

use std::{sync::Arc, time::Duration};

use http::{HeaderName, Method, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    answer::{self, JSON, Response},
    call::Call,
    dialect::{Dialect, Endpoint, ErrorBody, Shared},
    openapi::Submission,
    query::Query,
    submit, terms,
};
use crate::{
    api::Fault,
    domain::{Job, JobState, Timestamp, access::Permission},
    locale::Language,
};

/// Names an answer, for support.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// Where jobs are, in each of the versions. The one that a request is made in is the one that its links stay in.
const COLLECTIONS: [&str; 2] = ["/api/jobs", "/api/v3/jobs"];
/// What the paths of the later version begin with.
const V3: &str = "/api/v3/";
/// The longest that a request waits, in seconds.
const MAX_WAIT_SECONDS: u32 = 120;
/// How long who submits waits for the end, in seconds.
const RETURN_TIMEOUT: &str = "return_timeout";

/// The states of jobs in this dialect. Whatever ended without success is a failure, and the message says why.
const STATES: [(JobState, &str); 6] = [
    (JobState::Queued, "queued"),
    (JobState::Running, "running"),
    (JobState::Cancelling, "running"),
    (JobState::Succeeded, "success"),
    (JobState::Failed, "failure"),
    (JobState::Cancelled, "failure"),
];

/// See the module.
pub(super) struct Deploy;

/// The answer to what became a job: 202, or 200 if the job has ended while the caller waited.
#[derive(JsonSchema, Serialize)]
struct Started {
    job: JobRecord,
}

/// One job: always all of it, whatever `fields` says.
#[derive(JsonSchema, Serialize)]
struct Found {
    record: JobRecord,
}

/// A job.
#[derive(JsonSchema, Serialize)]
struct JobRecord {
    /// The same as in the other APIs.
    id: String,
    #[schemars(extend("enum" = ["queued", "running", "success", "failure"]))]
    state: &'static str,
    /// What its workers said last, or why it ended as it did.
    message: String,
    /// When it last changed: UTC, in microseconds. Later with each change.
    #[schemars(extend("format" = "date-time", "pattern" = "^[-0-9]{10}T[:0-9]{8}[.][0-9]{6}Z$"))]
    last_modified: String,
    #[serde(rename = "_links")]
    links: Links,
}

/// Where to go from here.
#[derive(JsonSchema, Serialize)]
struct Links {
    #[serde(rename = "self")]
    this: Link,
}

/// A path to follow.
#[derive(JsonSchema, Serialize)]
struct Link {
    href: String,
}

/// An error.
#[derive(JsonSchema, Serialize)]
struct ErrorAnswer<'a> {
    error: ErrorDetail<'a>,
}

/// What went wrong.
#[derive(JsonSchema, Serialize)]
struct ErrorDetail<'a> {
    /// For programs: the same reasons as gRPC's.
    code: &'a str,
    /// In the caller's language.
    message: String,
    /// The first bad parameter; empty if it is about none.
    target: &'a str,
}

impl Dialect for Deploy {
    fn name(&self) -> &'static str {
        "deploy"
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["/api/jobs", V3]
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let endpoints = COLLECTIONS.into_iter().flat_map(|path| {
            [
                Endpoint::new(Method::GET, Permission::Read, path, list::list)
                    .described(move || describe::list(path)),
                Endpoint::new(Method::POST, Permission::Submit, path, post)
                    .described(move || describe::submit(path)),
                Endpoint::new(Method::GET, Permission::Read, format!("{path}/{{id}}"), get)
                    .described(move || describe::get(path)),
            ]
        });
        endpoints.collect()
    }

    fn schemas(&self) -> Map<String, Value> {
        describe::schemas()
    }

    fn error(&self, fault: &Fault, language: Language) -> ErrorBody {
        let target = fault.violations.first();
        let answer = ErrorAnswer {
            error: ErrorDetail {
                code: fault.reason.name(),
                message: fault.text(language),
                target: target.map_or("", |violation| &violation.field),
            },
        };
        ErrorBody {
            kind: JSON,
            text: text(&answer),
        }
    }

    fn sign(&self, response: Response) -> Response {
        // Messages are in the caller's language.
        let response = answer::vary(response, header::ACCEPT_LANGUAGE);
        answer::with(
            response,
            REQUEST_ID,
            &uuid::Uuid::new_v4().hyphenated().to_string(),
        )
    }

    fn submission(&self) -> Submission {
        describe::submission()
    }

    fn accepted(&self, call: &Call, job: &Job) -> Response {
        let started = Started {
            job: record(call, job),
        };
        let place = format!("{}{}", call.origin(), started.job.links.this.href);
        let response = told(StatusCode::ACCEPTED, &started, call, job);
        answer::with(response, header::LOCATION, &place)
    }

    fn completed(&self, call: &Call, job: &Job) -> Response {
        let started = Started {
            job: record(call, job),
        };
        told(StatusCode::OK, &started, call, job)
    }

    fn patience(&self, query: &mut Query) -> Option<Duration> {
        let seconds = query.number(RETURN_TIMEOUT, 0..=MAX_WAIT_SECONDS)?;
        Some(Duration::from_secs(seconds.into()))
    }
}

/// Submits the job that the body describes.
async fn post(shared: Shared, call: Call) -> Result<Response, Fault> {
    submit::described(shared, call, &Deploy).await
}

/// One job: at once, or as soon as it is newer than the caller knows.
async fn get(shared: Shared, mut call: Call) -> Result<Response, Fault> {
    let query = &mut call.query;
    query.one("fields");
    let patience = query.number("poll_timeout", 1..=MAX_WAIT_SECONDS);
    let known = query.one("last_modified").as_deref().and_then(bound);
    query.finish()?;
    let key = call.job("id")?;
    let mut job = shared.api.engine().get(&key).await?;
    if let (Some(patience), Some(known)) = (patience, known)
        && job.update_time <= known
        && !job.state.is_terminal()
    {
        let patience = Duration::from_secs(patience.into());
        let (polls, after) = (&shared.polls, Some(job.revision));
        let waited = polls.wait(&shared.api, &call.caller, &key, after, patience);
        job = Arc::clone(&waited.await?.job);
    }
    let language = call.caller.language;
    if call.known().has(job.revision, Some(language)) {
        return Ok(answer::unchanged(&answer::etag_in(language, job.revision)));
    }
    let found = Found {
        record: record(&call, &job),
    };
    Ok(told(StatusCode::OK, &found, &call, &job))
}

/// What the caller knows already: clients send what they were told last, with `>=` in front. An answer that is no newer would have them ask again and
/// again without a pause, so `>=` means `>`. What can not be read is no bound, such as the `None` of a client that was told nothing yet.
fn bound(value: &str) -> Option<Timestamp> {
    let value = value.trim();
    let time = value.strip_prefix(">=").or(value.strip_prefix('>'));
    terms::moment(time.unwrap_or(value))
}

/// A job as the caller of this request sees it.
fn record(call: &Call, job: &Job) -> JobRecord {
    projected(job, collection(call), call.caller.language)
}

fn projected(job: &Job, collection: &str, language: Language) -> JobRecord {
    let id = job.id.to_string();
    let href = format!("{collection}/{id}");
    JobRecord {
        id,
        state: state(job.state),
        message: message::of(job, language),
        last_modified: time(job.update_time),
        links: Links {
            this: Link { href },
        },
    }
}

/// The jobs' place in the version that the caller uses.
fn collection(call: &Call) -> &'static str {
    let [first, v3] = COLLECTIONS;
    match call.uri.path().starts_with(V3) {
        true => v3,
        false => first,
    }
}

fn state(state: JobState) -> &'static str {
    let shown = STATES.iter().find(|(of, _)| *of == state);
    shown.map_or("running", |(_, shown)| shown)
}

/// UTC with six digits of fraction, whatever they are, and a Z: some clients compare these as texts.
fn time(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_microsecond(time.as_micros());
    // The clock's times are far within the range of this type.
    format!("{:.6}", time.unwrap_or_default())
}

/// An answer about one job.
fn told(status: StatusCode, shape: &impl Serialize, call: &Call, job: &Job) -> Response {
    let response = answer::json(status, text(shape));
    let tag = answer::etag_in(call.caller.language, job.revision);
    answer::with(response, header::ETAG, &tag)
}

fn text(shape: &impl Serialize) -> String {
    // Texts alone: there is nothing that JSON has no form for.
    serde_json::to_string(shape).unwrap_or_default()
}

#[cfg(test)]
mod tests;
