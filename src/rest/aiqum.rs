//! The job API of Active IQ Unified Manager, under three prefixes: two as its clients exchange it, and one as its documents tell it.
//!
//! On the wire `state` is where in its life a job is, and `status` how it went. The documents tell clients to wait until `state` is an outcome, so under their
//! prefix it is one. `docs/rest/aiqum.md` has the tables; a test compares them with these.

mod describe;
mod grammar;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode, Uri, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    answer::{self, JSON, Response},
    call::{Call, MAX_WAIT, unescaped},
    dialect::{Dialect, Endpoint, ErrorBody, Shared},
    documented,
    openapi::Submission,
    query::Query,
    submit,
};
use crate::{
    api::{Fault, Reason, render},
    domain::{
        Job, JobState, Status, Task, TaskState, Timestamp, access::Permission, wording::Sentence,
    },
    locale::Language,
    proto::json,
};

/// How long to wait, in seconds: two names for the same.
const WAITS: [&str; 2] = ["wait", RETURN_TIMEOUT];
const RETURN_TIMEOUT: &str = "return_timeout";
/// What the link to the next page says anew.
const OFFSET: &str = "offset";
const PAGE_TOKEN: &str = "page_token";

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Aiqum(pub(super) Face);

/// Which of its forms is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    /// On the wire.
    Wire,
    /// The same, under the prefix of the second version.
    WireV2,
    /// As the documents tell it.
    Documented,
}

impl Face {
    fn jobs(self) -> &'static str {
        match self {
            Self::Wire => "/api/management-server/jobs",
            Self::WireV2 => "/api/v2/management-server/jobs",
            Self::Documented => "/management-server/jobs",
        }
    }

    /// A word of a table, as this form writes it.
    fn word(self, word: &str) -> String {
        match self {
            Self::Wire | Self::WireV2 => word.to_ascii_lowercase(),
            Self::Documented => word.to_owned(),
        }
    }

    /// What it calls the state of a job.
    fn state(self, state: JobState, status: Status) -> &'static str {
        match self {
            Self::Wire | Self::WireV2 => life_cycle(state),
            Self::Documented => documented::state(state, status),
        }
    }
}

/// `state` on the wire.
fn life_cycle(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "QUEUED",
        JobState::Running => "RUNNING",
        JobState::Cancelling => "ABORTING",
        JobState::Succeeded | JobState::Failed => "COMPLETED",
        JobState::Cancelled => "ABORTED",
    }
}

/// `state` of a task.
fn task_state(state: TaskState) -> &'static str {
    match state {
        TaskState::Pending | TaskState::BackingOff => "WAITING",
        TaskState::Queued => "QUEUED",
        TaskState::Running | TaskState::Cancelling => "RUNNING",
        TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled | TaskState::Skipped => {
            "COMPLETED"
        }
    }
}

/// `status` of a task.
fn task_status(state: TaskState) -> &'static str {
    match state {
        TaskState::Failed | TaskState::Cancelled => "ERROR",
        TaskState::Skipped => "SKIPPED",
        TaskState::Pending
        | TaskState::Queued
        | TaskState::Running
        | TaskState::BackingOff
        | TaskState::Cancelling
        | TaskState::Succeeded => "NORMAL",
    }
}

/// A job.
#[derive(JsonSchema, Serialize)]
struct JobRecord<'a> {
    /// The id of the job, the same as in the other APIs.
    key: String,
    /// What it does, for people.
    name: &'a str,
    /// The action, and the type of what it is about: `create_luns`.
    #[serde(rename = "type")]
    kind: String,
    /// Where in its life it is; under `/management-server` how far it is and, once it has ended, how it went.
    state: String,
    /// How it goes, or went.
    status: String,
    #[schemars(extend("format" = "date-time"))]
    submit_time: String,
    /// Null until it has ended.
    #[schemars(extend("format" = "date-time"))]
    complete_time: Option<String>,
    /// Null if it is no other job's child.
    parent_job_key: Option<String>,
    spawned_job_summary: SpawnedJobSummary,
    task_reports: Vec<TaskReport<'a>>,
    /// What its tasks returned, field by field.
    job_results: Vec<JobResult>,
    #[serde(rename = "_links")]
    links: SelfLink,
}

/// How its child jobs are doing.
#[derive(JsonSchema, Serialize)]
struct SpawnedJobSummary {
    total_jobs: u32,
    running_jobs: u32,
    completed_jobs: u32,
    successful_jobs: u32,
    failed_jobs: u32,
    aborted_jobs: u32,
}

/// A task of a job.
#[derive(JsonSchema, Serialize)]
struct TaskReport<'a> {
    key: String,
    name: &'a str,
    /// The action, and the type of resource.
    #[serde(rename = "type")]
    kind: String,
    /// What its worker said last.
    description: &'a str,
    state: String,
    status: String,
    /// Null unless it failed.
    failure_reason: Option<&'a str>,
    /// Null until it has started.
    #[schemars(extend("format" = "date-time"))]
    start_time: Option<String>,
    /// Null until it has ended.
    #[schemars(extend("format" = "date-time"))]
    complete_time: Option<String>,
}

/// A field of what a job returned.
#[derive(JsonSchema, Serialize)]
struct JobResult {
    name: String,
    /// Text as it is, everything else as JSON.
    value: String,
}

/// Where something is.
#[derive(JsonSchema, Serialize)]
struct SelfLink {
    #[serde(rename = "self")]
    here: Link,
}

/// A path, to be followed as it is.
#[derive(JsonSchema, Serialize)]
struct Link {
    href: String,
}

/// What an asynchronous call is answered with.
#[derive(JsonSchema, Serialize)]
struct Accepted {
    job: AcceptedJob,
}

/// Where to follow it.
#[derive(JsonSchema, Serialize)]
struct AcceptedJob {
    key: String,
    #[serde(rename = "_links")]
    links: SelfLink,
}

/// A page of jobs.
#[derive(JsonSchema, Serialize)]
struct JobList<'a> {
    records: Vec<JobRecord<'a>>,
    /// Of this page.
    num_records: usize,
    /// Of all pages.
    total_records: i64,
    #[serde(rename = "_links")]
    links: PageLinks,
}

/// Where the page is, and the next one if there is one.
#[derive(JsonSchema, Serialize)]
struct PageLinks {
    #[serde(rename = "self")]
    here: Link,
    /// Not there on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Link>,
}

/// What went wrong.
#[derive(JsonSchema, Serialize)]
struct ErrorReply<'a> {
    error: ErrorRecord<'a>,
}

/// What went wrong: for programs, for people, and where in the request.
#[derive(JsonSchema, Serialize)]
struct ErrorRecord<'a> {
    /// Stable, for programs; as over gRPC.
    code: &'a str,
    /// In the caller's language.
    message: String,
    /// The first bad parameter or field; null if it is about none.
    target: Option<&'a str>,
}

impl Face {
    fn record(self, job: &Job) -> JobRecord<'_> {
        JobRecord {
            key: job.id.to_string(),
            name: &job.spec.summary,
            kind: job.spec.kind().into_owned(),
            state: self.word(self.state(job.state, job.status)),
            status: self.word(job.status.name()),
            submit_time: moment(job.create_time),
            complete_time: job.end_time.map(moment),
            parent_job_key: job.spec.parent.map(|parent| parent.to_string()),
            spawned_job_summary: SpawnedJobSummary {
                total_jobs: job.children.total,
                running_jobs: job.children.open(),
                completed_jobs: job.children.total - job.children.open(),
                successful_jobs: job.children.succeeded,
                failed_jobs: job.children.failed,
                aborted_jobs: job.children.cancelled,
            },
            task_reports: job.tasks.iter().map(|task| self.report(task)).collect(),
            job_results: results(job),
            links: self.link(job),
        }
    }

    fn report(self, task: &Task) -> TaskReport<'_> {
        let failed = task_status(task.state) == "ERROR" && !task.last_error.is_empty();
        TaskReport {
            key: task.id.to_string(),
            name: &task.spec.name,
            kind: match task.spec.resource_type.as_str() {
                "" => task.spec.action.clone(),
                resource => format!("{}_{resource}", task.spec.action),
            },
            description: &task.status_detail,
            state: self.word(task_state(task.state)),
            status: self.word(task_status(task.state)),
            failure_reason: failed.then_some(&task.last_error),
            start_time: task.start_time.map(moment),
            complete_time: task.end_time.map(moment),
        }
    }

    fn link(self, job: &Job) -> SelfLink {
        let href = format!("{}/{}", self.jobs(), job.id);
        SelfLink {
            here: Link { href },
        }
    }

    fn one(self, job: &Job) -> Response {
        let response = reply(StatusCode::OK, &self.record(job));
        answer::with(response, header::ETAG, &answer::etag(job.revision))
    }
}

/// What the job returned, field by field.
fn results(job: &Job) -> Vec<JobResult> {
    let result = render::result(job).and_then(|result| result.to_json().ok());
    let Some(serde_json::Value::Object(fields)) = result else {
        return Vec::new();
    };
    let fields = fields.into_iter().map(|(name, value)| {
        let value = match value {
            serde_json::Value::String(text) => text,
            value => json::line(&value).unwrap_or_default(),
        };
        JobResult { name, value }
    });
    fields.collect()
}

/// All digits that are stored, so that a time that is sent back in a filter is the same.
fn moment(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_microsecond(time.as_micros()).unwrap_or_default();
    format!("{time:.6}")
}

fn reply(status: StatusCode, body: &impl Serialize) -> Response {
    // Texts and numbers alone: there is nothing that JSON has no form for.
    answer::json(status, serde_json::to_string(body).unwrap_or_default())
}

impl Dialect for Aiqum {
    fn name(&self) -> &'static str {
        "aiqum"
    }

    fn prefixes(&self) -> &'static [&'static str] {
        match self.0 {
            Face::Wire => &["/api/management-server/"],
            Face::WireV2 => &["/api/v2/management-server/"],
            Face::Documented => &["/management-server/"],
        }
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let this = *self;
        let jobs = this.0.jobs();
        let job = format!("{jobs}/{{key}}");
        vec![
            Endpoint::new(Method::GET, Permission::Read, jobs, move |shared, call| {
                list(shared, call, this.0)
            })
            .described(move || describe::list(this.0)),
            Endpoint::new(
                Method::POST,
                Permission::Submit,
                jobs,
                move |shared, call| async move { submit::described(shared, call, &this).await },
            )
            .described(move || describe::submit(this.0)),
            Endpoint::new(Method::GET, Permission::Read, job, move |shared, call| {
                get(shared, call, this.0)
            })
            .described(move || describe::get(this.0)),
        ]
    }

    fn schemas(&self) -> Map<String, Value> {
        describe::schemas(self.0)
    }

    fn error(&self, fault: &Fault, language: Language) -> ErrorBody {
        let target = match fault.reason {
            Reason::JobNotFound => Some("key"),
            _ => fault.violations.first().map(|bad| bad.field.as_str()),
        };
        let error = ErrorRecord {
            code: fault.reason.name(),
            message: fault.text(language),
            target,
        };
        ErrorBody {
            kind: JSON,
            text: serde_json::to_string(&ErrorReply { error }).unwrap_or_default(),
        }
    }

    fn submission(&self) -> Submission {
        describe::submission(self.0)
    }

    fn accepted(&self, _call: &Call, job: &Job) -> Response {
        let links = self.0.link(job);
        let place = links.here.href.clone();
        let job_record = AcceptedJob {
            key: job.id.to_string(),
            links,
        };
        let response = reply(StatusCode::ACCEPTED, &Accepted { job: job_record });
        let response = answer::with(response, header::LOCATION, &place);
        answer::with(response, header::ETAG, &answer::etag(job.revision))
    }

    fn completed(&self, _call: &Call, job: &Job) -> Response {
        self.0.one(job)
    }

    fn patience(&self, query: &mut Query) -> Option<Duration> {
        wait(query, RETURN_TIMEOUT)
    }
}

fn wait(query: &mut Query, name: &str) -> Option<Duration> {
    let most = u32::try_from(MAX_WAIT.as_secs()).unwrap_or(u32::MAX);
    let seconds = query.number::<u32>(name, 1..=most)?;
    Some(Duration::from_secs(u64::from(seconds)))
}

/// One job, at once or when it has ended.
async fn get(shared: Shared, mut call: Call, face: Face) -> Result<Response, Fault> {
    let [wait, alias] = WAITS.map(|name| wait(&mut call.query, name));
    if wait.is_some() && alias.is_some() {
        let description = Sentence::plain("aiqum-wait-twice", "means the same as wait; give one");
        call.query.bad(RETURN_TIMEOUT, description);
    }
    call.query.finish()?;
    let key = call.job("key")?;
    let job = match wait.or(alias) {
        None => shared.api.engine().get(&key).await?,
        Some(patience) => {
            let waited = shared
                .polls
                .wait(&shared.api, &call.caller, &key, None, patience);
            Arc::clone(&waited.await?.job)
        }
    };
    if call.known().has(job.revision, None) {
        return Ok(answer::unchanged(&answer::etag(job.revision)));
    }
    Ok(face.one(&job))
}

/// A page of jobs.
async fn list(shared: Shared, mut call: Call, face: Face) -> Result<Response, Fault> {
    let listing = grammar::listing(face, &mut call.query);
    call.query.finish()?;
    let offset = listing.offset;
    let page = shared
        .pages
        .page(shared.api.engine(), &call, listing)
        .await?;
    let next = page
        .next
        .map(|token| next_page(&call.uri, offset + page.jobs.len(), &token));
    let here = call.uri.path_and_query().map_or("", |here| here.as_str());
    let list = JobList {
        records: page.jobs.iter().map(|job| face.record(job)).collect(),
        num_records: page.jobs.len(),
        total_records: page.total,
        links: PageLinks {
            here: Link {
                href: here.to_owned(),
            },
            next: next.map(|href| Link { href }),
        },
    };
    Ok(reply(StatusCode::OK, &list))
}

/// The same list from another offset on: the parameters as they were sent, and where to go on.
fn next_page(uri: &Uri, offset: usize, token: &str) -> String {
    let mut href = format!("{}?", uri.path());
    for pair in uri.query().unwrap_or_default().split('&') {
        let name = unescaped(pair.split('=').next().unwrap_or_default()).unwrap_or_default();
        if !name.is_empty() && name != OFFSET && name != PAGE_TOKEN {
            href.push_str(pair);
            href.push('&');
        }
    }
    href.push_str(&format!("{OFFSET}={offset}&{PAGE_TOKEN}={token}"));
    href
}
