//! The native API under `/v1`: every method of the contract in the HTTP form that its annotation gives it, in canonical protobuf JSON.
//!
//! What HTTP adds: what was submitted or changed and has not ended is a 202 with its place, a job's revision is its entity tag, and `Prefer: wait` is a long poll.

mod describe;
mod events;
mod examples;
mod methods;
mod problem;
mod route;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{self, BoxFuture},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use prost_reflect::DynamicMessage;
use serde_json::{Map, Value};

pub(super) use self::describe::job_body;
use self::{
    events::EVENT_STREAM,
    route::{BodyRule, Route},
};
use super::{
    answer::{self, Response},
    call::Call,
    dialect::{Dialect, Endpoint, ErrorBody, Shared},
    openapi::Submission,
    query::Query,
};
use crate::{
    api::{Api, Fault, Reason, View, required},
    domain::{
        Job, JobId, JobKey,
        access::Permission,
        wording::{Sentence, sentence},
    },
    engine::Version,
    locale::Language,
    proto::json,
};

/// Where the state of what was accepted can be seen; as Location, for clients that look for this one.
const OPERATION_LOCATION: HeaderName = HeaderName::from_static("operation-location");
/// When to ask again for a job that has not ended, in seconds.
const RETRY_AFTER: &str = "1";
/// Methods that change no more when they are called again.
const HARMLESS_TWICE: [&str; 4] = ["Cancel", "Delete", "PauseDriver", "ResumeDriver"];
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// See the module.
pub(super) struct Native {
    routes: Vec<Arc<Route>>,
}

impl Native {
    pub(super) fn new() -> Self {
        let routes = route::routes();
        Self {
            routes: routes.into_iter().map(Arc::new).collect(),
        }
    }
}

impl Dialect for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["/v1/"]
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for route in &self.routes {
            let same = |other: &&Arc<Route>| other.is_at(route) && !Arc::ptr_eq(other, route);
            let other = self.routes.iter().find(same).cloned();
            // A method that streams may share the path of one that does not: what the caller accepts decides.
            if other.is_some() && route.method.is_server_streaming() {
                continue;
            }
            let (method, path) = (route.http_method.clone(), route.path.clone());
            // Every method of the contract says; one that did not would be nobody's.
            let permission = required(&route.rpc_path()).unwrap_or(Permission::Operate);
            let route = Arc::clone(route);
            let described = (Arc::clone(&route), other.clone());
            let endpoint = Endpoint::new(method, permission, path, move |shared, call| {
                let route = match &other {
                    Some(stream) if call.prefers(EVENT_STREAM) => stream,
                    Some(_) | None => &route,
                };
                let route = Arc::clone(route);
                match route.method.name() {
                    // It may wait for minutes, and should be no larger than it needs to be.
                    "Get" => get(shared, call, &route),
                    _ => handle(shared, call, route).boxed(),
                }
            });
            let (route, other) = described;
            endpoints
                .push(endpoint.described(move || describe::operation(&route, other.as_deref())));
        }
        endpoints
    }

    fn schemas(&self) -> Map<String, Value> {
        let routes: Vec<&Route> = self.routes.iter().map(|route| &**route).collect();
        describe::schemas(&routes)
    }

    fn error(&self, fault: &Fault, language: Language) -> ErrorBody {
        ErrorBody {
            kind: PROBLEM,
            text: problem::text(fault, language),
        }
    }

    fn submission(&self) -> Submission {
        describe::submission()
    }

    fn accepted(&self, _call: &Call, job: &Job) -> Response {
        Told::of_job(job).answer(StatusCode::ACCEPTED)
    }

    fn completed(&self, _call: &Call, job: &Job) -> Response {
        Told::of_job(job).answer(StatusCode::OK)
    }

    fn patience(&self, _query: &mut Query) -> Option<Duration> {
        // `Prefer: wait` is every dialect's.
        None
    }
}

/// Carries a request out.
async fn handle(shared: Shared, mut call: Call, route: Arc<Route>) -> Result<Response, Fault> {
    let body = match route.body {
        BodyRule::None => Bytes::new(),
        BodyRule::All | BodyRule::Field(_) => call.json()?.clone(),
    };
    let key = idempotency_key(&call, &route)?;
    let parameters = call.query.rest();
    call.query.finish()?;
    let request = route.bind(&call.gaps, parameters, &body, key)?;
    match route.method.name() {
        "WatchJob" => events::job(&shared, &call, methods::decode(&request)?).await,
        "WatchJobs" => events::jobs(&shared, &call, methods::decode(&request)?).await,
        "WatchAudit" => events::audit(&shared, &call, methods::decode(&request)?).await,
        _ => {
            let answer = unary(&shared, &call, &route, request).await?;
            match &route.answer {
                None => {
                    let response = answer::json(StatusCode::OK, line(&answer));
                    Ok(match route.method.name() {
                        "List" => answer::vary(response, header::ACCEPT),
                        "Explain" => answer::vary(response, header::ACCEPT_LANGUAGE),
                        _ => response,
                    })
                }
                Some(field) => {
                    let told = answer.get_field(field);
                    let told = told.as_message().map(Told::read).unwrap_or_default();
                    finish(&shared, &call, told).await
                }
            }
        }
    }
}

/// The key of a request that changes something: one that could not be honoured must not look as if it were.
fn idempotency_key(call: &Call, route: &Route) -> Result<Option<String>, Fault> {
    if route.http_method.is_safe() {
        return Ok(None);
    }
    let key = call.idempotency_key()?;
    let method = route.method.name();
    if key.is_none() || route.is_repeatable() || HARMLESS_TWICE.contains(&method) {
        return Ok(key.filter(|_| route.is_repeatable()));
    }
    let description = match method {
        "SubmitBatch" => Sentence::plain(
            "key-of-batch",
            "can not stand for several jobs; name a requestId in each of the requests instead",
        ),
        _ => Sentence::plain(
            "key-not-honoured",
            "can not be honoured here, for each of these requests counts; leave it out",
        ),
    };
    Err(Fault::bad_field("Idempotency-Key", description))
}

async fn unary(
    shared: &Shared,
    call: &Call,
    route: &Route,
    request: Vec<u8>,
) -> Result<DynamicMessage, Fault> {
    let name = route.method.full_name();
    let Some(method) = methods::unary(name) else {
        let message = sentence!("no-method", "there is no method {name}", name);
        return Err(Fault::new(Reason::NotSupported, message));
    };
    let answer = method(shared.api.clone(), call.caller.clone(), request).await?;
    DynamicMessage::decode(route.method.output(), &*answer).map_err(|e| Fault::malformed(&e))
}

/// `GET` of a job: conditional with `If-None-Match`, a long poll with `Prefer: wait`.
fn get(
    shared: Shared,
    mut call: Call,
    route: &Route,
) -> BoxFuture<'static, Result<Response, Fault>> {
    let (known, wait) = (call.known(), call.wait());
    let asked = || {
        let parameters = call.query.rest();
        call.query.finish()?;
        let request = route.bind(&call.gaps, parameters, &[], None)?;
        let (key, view) = Api::read_get(&call.caller, methods::decode(&request)?)?;
        Ok((call.caller, key, view))
    };
    let (caller, key, view) = match asked() {
        Ok(asked) => asked,
        Err(fault) => return future::ready(Err(fault)).boxed(),
    };
    let answer = async move {
        let polls = &shared.polls;
        let looked = polls.look(&shared.api, &caller, &key, &known, None, wait);
        let version = looked.await?;
        let revision = version.job.revision;
        let response = match known.has(revision, None) {
            true => answer::unchanged(&answer::etag(revision)),
            false => Told::of(&version, view).answer(StatusCode::OK),
        };
        // The same path has a stream for those who would rather have one.
        let response = answer::vary(response, header::ACCEPT);
        Ok(answer::applied(response, wait))
    };
    answer.boxed()
}

/// Answers with a job that was submitted or changed: at once, or when it has ended if the caller would rather wait.
async fn finish(shared: &Shared, call: &Call, told: Told) -> Result<Response, Fault> {
    let wait = call.wait();
    let (Some(patience), false, Ok(id)) = (wait, told.is_terminal, told.id.parse()) else {
        let status = told.status();
        return Ok(answer::applied(told.answer(status), wait));
    };
    let key = JobKey {
        tenant: call.caller.tenant.clone(),
        job: JobId(id),
    };
    let polls = &shared.polls;
    let waited = polls.wait_for_stored(&shared.api, &call.caller, &key, patience);
    let waited = waited.await;
    let heeded = waited.as_ref().and(wait);
    let told = waited.map_or(told, |job| Told::of(&job, View::Full));
    let status = told.status();
    Ok(answer::applied(told.answer(status), heeded))
}

/// A job as it is told: its JSON, and what headers say of it.
#[derive(Default)]
struct Told {
    id: String,
    revision: u64,
    is_terminal: bool,
    text: Bytes,
}

impl Told {
    /// A job that others may be told as well: it is turned into JSON once for all.
    fn of(version: &Version, view: View) -> Self {
        let job = &version.job;
        let text = version.encoded(view.json_form(), |job| events::job_json(job, view));
        Self {
            id: job.id.to_string(),
            revision: job.revision,
            is_terminal: job.state.is_terminal(),
            text: text.clone(),
        }
    }

    fn of_job(job: &Job) -> Self {
        Self {
            id: job.id.to_string(),
            revision: job.revision,
            is_terminal: job.state.is_terminal(),
            text: events::job_json(job, View::Full),
        }
    }

    fn read(job: &DynamicMessage) -> Self {
        let field = |name| job.get_field_by_name(name);
        let id = field("id").and_then(|id| id.as_str().map(str::to_owned));
        let revision = field("revision").and_then(|revision| revision.as_u64());
        Self {
            id: id.unwrap_or_default(),
            revision: revision.unwrap_or_default(),
            is_terminal: job.has_field_by_name("end_time"),
            text: line(job).into(),
        }
    }

    /// Accepted, until it has ended.
    fn status(&self) -> StatusCode {
        match self.is_terminal {
            true => StatusCode::OK,
            false => StatusCode::ACCEPTED,
        }
    }

    fn answer(self, status: StatusCode) -> Response {
        let mut response = answer::json(status, self.text);
        response = answer::with(response, header::ETAG, &answer::etag(self.revision));
        if status == StatusCode::ACCEPTED {
            let place = format!("/v1/jobs/{}", self.id);
            response = answer::with(response, header::LOCATION, &place);
            response = answer::with(response, OPERATION_LOCATION, &place);
            response = answer::with(response, header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

fn line(message: &DynamicMessage) -> String {
    // What is stored was checked, so that it has a form in JSON.
    json::line(message).unwrap_or_default()
}
