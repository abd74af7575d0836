//! NetApp Service Engine v2.1: every answer in an envelope, lists by offset and limit, jobs with their tasks and what these were asked to do.
//!
//! See `docs/rest/nse.md`. A single job, and what became one, is a list of one record.

mod describe;

use std::time::Duration;

use http::{Method, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    answer::{self, Response},
    call::Call,
    dialect::{Dialect, Endpoint, ErrorBody, Shared},
    documented, masking,
    openapi::Submission,
    pages::{Listed, Listing, Sorting},
    query::Query,
    standing, submit,
};
use crate::{
    api::Fault,
    domain::{
        Document, Job, JobState, Status, Task, TaskState, Timestamp,
        access::Permission,
        command::Refusal,
        filter::Filter,
        wording::{Sentence, sentence},
    },
    engine::{SortKey, SortValue},
    locale::Language,
    proto::{Struct, json},
    store::ListOrder,
};

/// Where jobs are; the first one for links from elsewhere.
const JOBS: [&str; 2] = ["/v2.1/jobs", "/api/v2.1/jobs"];
/// Records of a page, if the caller does not say.
const DEFAULT_LIMIT: u32 = 20;
/// The most that a caller may ask for.
const MAX_LIMIT: u32 = 1_000;
/// When to ask again for a job that has not ended, in seconds.
const RETRY_AFTER: &str = "1";
/// The parameter of a link to a page.
const PAGE_TOKEN: &str = "page_token";

/// The value of a field, as it is shown to readers of a language.
type ShownValue = fn(&Job, Language) -> SortValue;
/// A field that lists may be sorted by, and its value.
type SortField = (&'static str, ShownValue);

/// All of a job that is one value, as it is shown.
const SORT_FIELDS: [SortField; 13] = [
    ("created", |job, _| SortValue::time(Some(job.create_time))),
    ("updated", |job, _| SortValue::time(Some(job.update_time))),
    ("id", |job, _| SortValue::text(&job.id.to_string())),
    ("action", |job, _| SortValue::text(&job.spec.action)),
    ("job_summary", |job, _| SortValue::text(&job.spec.summary)),
    ("object_id", |job, _| SortValue::text(job_object(job).id)),
    ("object_type", |job, _| {
        SortValue::text(job_object(job).kind)
    }),
    ("object_name", |job, _| {
        SortValue::text(job_object(job).name)
    }),
    ("status", |job, _| {
        SortValue::text(status(job.state, job.status))
    }),
    ("status_detail", |job, language| {
        SortValue::text(&standing::of(job, language))
    }),
    ("last_error", |job, _| SortValue::text(&job.last_error)),
    ("user_id", |job, _| SortValue::text(&job.spec.creator)),
    ("state", |job, _| {
        SortValue::text(documented::state(job.state, job.status))
    }),
];

/// See the module.
pub(super) struct Nse;

/// Every answer.
#[derive(Debug, JsonSchema, Serialize)]
#[schemars(rename = "EnvelopeOf{R}")]
struct Envelope<R> {
    status: Outcome,
    /// Null if there is none, because something went wrong.
    result: R,
}

/// How a request went.
#[derive(Debug, JsonSchema, Serialize)]
struct Outcome {
    /// In the caller's language.
    user_message: String,
    verbose_message: &'static str,
    /// That of HTTP.
    code: u16,
}

/// The result of what went wrong.
#[derive(Debug, JsonSchema, Serialize)]
struct Nothing;

/// The result of a list.
#[derive(Debug, JsonSchema, Serialize)]
struct Page<'a> {
    /// Of this page.
    returned_records: usize,
    /// Of all pages.
    total_records: i64,
    sort_by: &'a str,
    #[schemars(extend("enum" = ["asc", "desc"]))]
    order_by: &'a str,
    offset: u32,
    limit: u32,
    records: Vec<JobRecord<'a>>,
}

/// The result of a request for one job, or of one that became a job.
#[derive(Debug, JsonSchema, Serialize)]
struct Single<'a> {
    total_records: u32,
    records: [JobRecord<'a>; 1],
}

/// A job.
#[derive(Debug, JsonSchema, Serialize)]
struct JobRecord<'a> {
    /// The same as in the other APIs.
    id: String,
    action: &'a str,
    /// What it does, for people.
    job_summary: &'a str,
    #[schemars(extend("format" = "date-time"))]
    created: String,
    #[schemars(extend("format" = "date-time"))]
    updated: String,
    object_id: &'a str,
    object_type: &'a str,
    object_name: &'a str,
    #[schemars(extend("enum" = describe::job_words()))]
    status: &'static str,
    /// What is to be said of it now.
    status_detail: String,
    /// Empty if there was none.
    last_error: &'a str,
    /// Who is said to have submitted it.
    user_id: &'a str,
    /// Null until one of them has started.
    job_tasks: Option<Vec<TaskRecord<'a>>>,
    /// The same in the words by which documented loops end: with NORMAL, PARTIAL_FAILURES or ERROR.
    #[schemars(extend("enum" = describe::state_words()))]
    state: &'static str,
}

/// A task of a job.
#[derive(Debug, JsonSchema, Serialize)]
struct TaskRecord<'a> {
    id: String,
    job_id: String,
    action: &'a str,
    driver: &'a str,
    object_id: &'a str,
    object_type: &'a str,
    resource_type: &'a str,
    #[schemars(extend("enum" = describe::task_words()))]
    status: &'static str,
    status_detail: &'a str,
    last_error: &'a str,
    user_id: &'a str,
    /// What its worker has to work with, without secrets.
    #[schemars(extend("type" = "object"))]
    request_payload: Value,
}

/// What a job or a task is about; empty if that was not said.
#[derive(Default)]
struct About<'a> {
    kind: &'a str,
    id: &'a str,
    name: &'a str,
}

/// A list as it is asked for.
#[derive(Debug)]
struct Asked {
    tenant: Option<String>,
    offset: u32,
    limit: u32,
    sort_by: &'static str,
    value: ShownValue,
    descending: bool,
    token: Option<String>,
}

impl Dialect for Nse {
    fn name(&self) -> &'static str {
        "nse"
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["/v2.1/", "/api/v2.1/"]
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let at = |jobs: &'static str| {
            let job = format!("{jobs}/{{id}}");
            let submitted = |shared, call| submit::described(shared, call, &Self);
            [
                Endpoint::new(Method::GET, Permission::Read, jobs, list)
                    .described(move || describe::list(jobs)),
                Endpoint::new(Method::POST, Permission::Submit, jobs, submitted)
                    .described(move || describe::submit(jobs)),
                Endpoint::new(Method::GET, Permission::Read, job, one)
                    .described(move || describe::one(jobs)),
            ]
        };
        JOBS.into_iter().flat_map(at).collect()
    }

    fn schemas(&self) -> Map<String, Value> {
        describe::schemas()
    }

    fn error(&self, fault: &Fault, language: Language) -> ErrorBody {
        ErrorBody {
            kind: answer::JSON,
            text: text(fault.reason.http(), fault.text(language), Nothing),
        }
    }

    fn submission(&self) -> Submission {
        describe::submission()
    }

    fn accepted(&self, call: &Call, job: &Job) -> Response {
        let said = Sentence::plain("nse-accepted", "Okay. Accepted for processing.");
        let response = single(StatusCode::ACCEPTED, &said, call, job);
        // Like with like: who has come by the longer prefix goes on there.
        let [short, long] = JOBS;
        let jobs = match call.uri.path().starts_with("/api/") {
            true => long,
            false => short,
        };
        let place = format!("{jobs}/{}", job.id);
        let response = answer::with(response, header::LOCATION, &place);
        answer::with(response, header::RETRY_AFTER, RETRY_AFTER)
    }

    fn completed(&self, call: &Call, job: &Job) -> Response {
        single(StatusCode::OK, &returned(1), call, job)
    }

    fn patience(&self, _query: &mut Query) -> Option<Duration> {
        // `Prefer: wait` is every dialect's, and this one has no other.
        None
    }
}

/// `GET` of the collection.
async fn list(shared: Shared, mut call: Call) -> Result<Response, Fault> {
    let asked = Asked::read(&mut call.query)?;
    let listed = match is_own(&call, asked.tenant.as_deref()) {
        true => {
            let engine = shared.api.engine();
            let listing = asked.listing(call.caller.language);
            let page = shared.pages.page(engine, &call, listing);
            page.await.map_err(in_our_names)?
        }
        false => Listed {
            jobs: Vec::new(),
            total: 0,
            next: None,
        },
    };
    let returned_records = listed.jobs.len();
    let language = call.caller.language;
    let page = Page {
        returned_records,
        total_records: listed.total,
        sort_by: asked.sort_by,
        order_by: asked.order_by(),
        offset: asked.offset,
        limit: asked.limit,
        records: (listed.jobs.iter())
            .map(|job| record(job, language))
            .collect(),
    };
    let said = returned(returned_records);
    let response = enveloped(StatusCode::OK, &said, language, page);
    Ok(match listed.next {
        Some(token) => {
            let query = asked.next(returned_records, &token);
            let link = format!("<{}?{query}>; rel=\"next\"", call.uri.path());
            answer::with(response, header::LINK, &link)
        }
        None => response,
    })
}

/// `GET` of a job: conditional with `If-None-Match`, a long poll with `Prefer: wait`.
async fn one(shared: Shared, mut call: Call) -> Result<Response, Fault> {
    let tenant = call.query.one("tenant_id");
    call.query.finish()?;
    let key = call.job("id")?;
    if !is_own(&call, tenant.as_deref()) {
        return Err(Refusal::JobNotFound(key.job).into());
    }
    let (polls, wait) = (&shared.polls, call.wait());
    let (known, language) = (call.known(), call.caller.language);
    let looked = polls.look(
        &shared.api,
        &call.caller,
        &key,
        &known,
        Some(language),
        wait,
    );
    let job = &looked.await?.job;
    let response = match known.has(job.revision, Some(language)) {
        true => answer::unchanged(&answer::etag_in(language, job.revision)),
        false => single(StatusCode::OK, &returned(1), &call, job),
    };
    let response = answer::vary(response, header::ACCEPT_LANGUAGE);
    Ok(answer::applied(response, wait))
}

/// Whether the caller means jobs that it may see. Those of any other tenant are none, whether there is such a tenant or not.
fn is_own(call: &Call, tenant: Option<&str>) -> bool {
    tenant.is_none_or(|tenant| *tenant == *call.caller.tenant.0)
}

impl Asked {
    fn read(query: &mut Query) -> Result<Self, Fault> {
        let tenant = query.one("tenant_id");
        let offset = query.number("offset", 0..=u32::MAX).unwrap_or(0);
        let limit = query.number("limit", 1..=MAX_LIMIT);
        let token = query.one(PAGE_TOKEN);
        let [default, ..] = SORT_FIELDS;
        let (sort_by, value) = match query.one("sort_by") {
            None => default,
            Some(name) => {
                let field = SORT_FIELDS.into_iter().find(|(field, _)| *field == name);
                field.unwrap_or_else(|| {
                    let options = SORT_FIELDS.map(|(field, _)| field).join(", ");
                    query.bad("sort_by", one_of(&options));
                    default
                })
            }
        };
        let descending = match query.one("order_by").as_deref() {
            None | Some("desc") => true,
            Some("asc") => false,
            Some(_) => {
                query.bad("order_by", one_of("asc, desc"));
                true
            }
        };
        query.finish()?;
        Ok(Self {
            tenant,
            offset,
            limit: limit.unwrap_or(DEFAULT_LIMIT),
            sort_by,
            value,
            descending,
            token,
        })
    }

    fn order_by(&self) -> &'static str {
        match self.descending {
            true => "desc",
            false => "asc",
        }
    }

    fn listing(&self, language: Language) -> Listing {
        let (value, descending) = (self.value, self.descending);
        let sorting = match (self.sort_by, descending) {
            ("created", true) => Sorting::Indexed(ListOrder::CreateTimeDesc),
            ("created", false) => Sorting::Indexed(ListOrder::CreateTime),
            ("updated", true) => Sorting::Indexed(ListOrder::UpdateTimeDesc),
            ("updated", false) => Sorting::Indexed(ListOrder::UpdateTime),
            _ => Sorting::Keys(Box::new(move |job| {
                vec![SortKey::new(value(job, language), descending)]
            })),
        };
        Listing {
            of: format!(
                "nse {} {} {}",
                self.sort_by,
                self.order_by(),
                language.tag()
            ),
            filter: Filter::All,
            fits: None,
            sorting,
            offset: self.offset as usize,
            limit: self.limit as usize,
            token: self.token.clone(),
        }
    }

    /// The parameters of the page behind this one.
    fn next(&self, returned: usize, token: &str) -> String {
        let tenant = self.tenant.as_deref().map(|tenant| {
            let tenant = utf8_percent_encode(tenant, NON_ALPHANUMERIC);
            format!("tenant_id={tenant}&")
        });
        format!(
            "{}offset={}&limit={}&sort_by={}&order_by={}&{PAGE_TOKEN}={token}",
            tenant.unwrap_or_default(),
            self.offset as usize + returned,
            self.limit,
            self.sort_by,
            self.order_by(),
        )
    }
}

fn one_of(options: &str) -> Sentence {
    sentence!("not-one-of", "must be one of {options}", options)
}

/// What the engine calls the order is here the field to sort by.
fn in_our_names(mut fault: Fault) -> Fault {
    for violation in &mut fault.violations {
        if violation.field == "order_by" {
            violation.field = "sort_by".to_owned();
        }
    }
    fault
}

fn returned(records: usize) -> Sentence {
    match records {
        1 => Sentence::plain("nse-returned-one", "Okay. Returned 1 record."),
        _ => sentence!("nse-returned", "Okay. Returned {records} records.", records),
    }
}

/// One job, with its revision as entity tag.
fn single(status: StatusCode, said: &Sentence, call: &Call, job: &Job) -> Response {
    let language = call.caller.language;
    let result = Single {
        total_records: 1,
        records: [record(job, language)],
    };
    let response = enveloped(status, said, language, result);
    let tag = answer::etag_in(language, job.revision);
    answer::with(response, header::ETAG, &tag)
}

fn enveloped(
    status: StatusCode,
    said: &Sentence,
    language: Language,
    result: impl Serialize,
) -> Response {
    let text = text(status.as_u16(), language.say(said).into_owned(), result);
    let response = answer::json(status, text);
    let response = answer::vary(response, header::ACCEPT_LANGUAGE);
    answer::with(response, header::CONTENT_LANGUAGE, language.tag())
}

fn text(code: u16, user_message: String, result: impl Serialize) -> String {
    let status = Outcome {
        user_message,
        verbose_message: "",
        code,
    };
    // What is stored was checked, so that it has a form in JSON.
    json::line(&Envelope { status, result }).unwrap_or_default()
}

/// A job as it is shown.
fn record(job: &Job, language: Language) -> JobRecord<'_> {
    let about = job_object(job);
    let has_started = job.start_time.is_some();
    JobRecord {
        id: job.id.to_string(),
        action: &job.spec.action,
        job_summary: &job.spec.summary,
        created: time(job.create_time),
        updated: time(job.update_time),
        object_id: about.id,
        object_type: about.kind,
        object_name: about.name,
        status: status(job.state, job.status),
        status_detail: standing::of(job, language),
        last_error: &job.last_error,
        user_id: &job.spec.creator,
        job_tasks: has_started.then(|| job.tasks.iter().map(|t| task_record(job, t)).collect()),
        state: documented::state(job.state, job.status),
    }
}

fn task_record<'a>(job: &'a Job, task: &'a Task) -> TaskRecord<'a> {
    let about = match &task.spec.object {
        Some(object) => About::of(object),
        None => job_object(job),
    };
    TaskRecord {
        id: task.id.to_string(),
        job_id: job.id.to_string(),
        action: &task.spec.action,
        driver: &task.spec.driver,
        object_id: about.id,
        object_type: about.kind,
        resource_type: &task.spec.resource_type,
        status: task_status(task.state),
        status_detail: &task.status_detail,
        last_error: &task.last_error,
        user_id: &job.spec.creator,
        request_payload: payload(task.spec.request_payload.as_ref()),
    }
}

fn job_object(job: &Job) -> About<'_> {
    job.spec.object.as_ref().map(About::of).unwrap_or_default()
}

impl<'a> About<'a> {
    fn of(object: &'a crate::domain::task::Object) -> Self {
        Self {
            kind: &object.kind,
            id: &object.id,
            name: &object.name,
        }
    }
}

/// How a job is doing.
fn status(state: JobState, status: Status) -> &'static str {
    match (state, status) {
        (JobState::Queued, _) => "pending",
        (JobState::Running | JobState::Cancelling, _) => "in_progress",
        (JobState::Succeeded, _) => "successful",
        (JobState::Failed, Status::PartialFailures) => "partial_failures",
        (JobState::Failed, Status::Normal | Status::Warning | Status::Error) => "failed",
        (JobState::Cancelled, _) => "cancelled",
    }
}

/// How a task is doing. One that is never to start was cancelled, as far as these words go.
fn task_status(state: TaskState) -> &'static str {
    match state {
        TaskState::Pending | TaskState::Queued => "pending",
        TaskState::Running | TaskState::BackingOff | TaskState::Cancelling => "in_progress",
        TaskState::Succeeded => "successful",
        TaskState::Failed => "failed",
        TaskState::Cancelled | TaskState::Skipped => "cancelled",
    }
}

/// What a task was asked to do, without secrets; an empty object if that was not said.
fn payload(document: Option<&Document>) -> Value {
    let object = document.and_then(|document| {
        let object = Struct::from_encoded(document.0.clone());
        // What is stored was checked.
        object.to_json().ok()
    });
    object.map_or_else(|| Value::Object(Default::default()), masking::masked)
}

/// RFC 3339 in UTC, with milliseconds.
fn time(time: Timestamp) -> String {
    // The server's clock is well within the calendar.
    let time = jiff::Timestamp::from_microsecond(time.as_micros()).unwrap_or_default();
    format!("{time:.3}")
}

#[cfg(test)]
mod tests;
