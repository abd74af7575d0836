//! Watches as server-sent events: `id` is where to go on from, `event` says what it is, `data` is the message of the gRPC stream as JSON.
//! See the HTML standard, section 9.2.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::super::{
    answer::{self, Response},
    call::Call,
    dialect::Shared,
};
use crate::{
    api::{Fault, View, render},
    domain::{Job, submission::Violation, wording::Sentence},
    engine::WatchItem,
    locale::Language,
    proto::{
        json,
        v1::{self, watch_job_response, watch_jobs_response},
    },
};

/// The type of these streams.
pub(super) const EVENT_STREAM: &str = "text/event-stream";
/// Where a client that lost its stream goes on from.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Keeps nginx from gathering what is said.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// When a client that lost its stream asks again.
const RETRY: Duration = Duration::from_secs(1);

/// Follows one job.
pub(super) async fn job(
    shared: &Shared,
    call: &Call,
    mut request: v1::WatchJobRequest,
) -> Result<Response, Fault> {
    let last = call.header(&LAST_EVENT_ID).filter(|id| !id.is_empty());
    if let Some(last) = last {
        request.after_revision = last.parse().map_err(|_| bad_last_id())?;
    }
    let after = request.after_revision;
    let mut watch = shared.api.watch_job(&call.caller, request).await?;
    let view = watch.view;
    let first = watch.next().await;
    if let Some(Ok(WatchItem::Snapshot {
        version,
        is_final: true,
        ..
    })) = &first
        && last.is_some()
        && version.job.revision == after
    {
        // The client has the last word already. This is how it is told not to come back.
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    let language = call.caller.language;
    let items = stream::iter(first).chain(watch);
    Ok(events(items.map(move |item| match item {
        Ok(item) => job_event(item, view),
        Err(fault) => farewell(&fault, language),
    })))
}

/// Follows all jobs that match.
pub(super) async fn jobs(
    shared: &Shared,
    call: &Call,
    mut request: v1::WatchJobsRequest,
) -> Result<Response, Fault> {
    if let Some(last) = call.header(&LAST_EVENT_ID).filter(|id| !id.is_empty()) {
        last.clone_into(&mut request.cursor);
    }
    let watch = shared.api.watch_jobs(&call.caller, request).await?;
    let language = call.caller.language;
    Ok(events(watch.messages().map(move |message| match message {
        Ok(message) => jobs_event(&message),
        Err(fault) => farewell(&fault, language),
    })))
}

/// Follows the audit log. Its events have no ids to go on from: the records have.
pub(super) async fn audit(
    shared: &Shared,
    call: &Call,
    request: v1::WatchAuditRequest,
) -> Result<Response, Fault> {
    let messages = shared.api.watch_audit(&call.caller, request).await?;
    let language = call.caller.language;
    Ok(events(messages.map(move |message| match message {
        Ok(message) if message.records.is_empty() => comment(),
        Ok(message) => event("records", "", &json_of(&message)),
        Err(fault) => farewell(&fault, language),
    })))
}

fn events(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let opening = Bytes::from(format!("retry: {}\n\n", RETRY.as_millis()));
    let events = stream::iter([opening]).chain(events);
    let mut response = Response::new(Body::from_stream(events.map(Ok::<_, Infallible>)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    answer::vary(response, header::ACCEPT)
}

/// A job's item. The job is turned into JSON once for all who see it.
fn job_event(item: WatchItem, view: View) -> Bytes {
    use watch_job_response::Kind;
    let bare = |name: &str, kind: Kind, revision: u64| {
        let head = v1::WatchJobResponse {
            kind: kind.into(),
            from_revision: revision,
            revision,
            ..v1::WatchJobResponse::default()
        };
        event(name, &revision.to_string(), &json_of(&head))
    };
    match item {
        WatchItem::Snapshot {
            version,
            from_revision,
            coalesced,
            is_final,
            reset,
        } => {
            let revision = version.job.revision;
            let head = v1::WatchJobResponse {
                job: None,
                kind: Kind::Snapshot.into(),
                from_revision,
                revision,
                coalesced,
                r#final: is_final,
                reset,
            };
            let job = version.encoded(view.json_form(), |job| job_json(job, view));
            event(
                "snapshot",
                &revision.to_string(),
                &with_job(&json_of(&head), job),
            )
        }
        WatchItem::Synced { revision } => bare("synced", Kind::Synced, revision),
        WatchItem::Heartbeat { .. } => comment(),
        WatchItem::Draining { revision } => bare("draining", Kind::Draining, revision),
    }
}

/// A job in a view, as JSON.
pub(super) fn job_json(job: &Job, view: View) -> Bytes {
    Bytes::from(json_of(&render::job(job, view)))
}

/// Puts the job, which is an object, into the object of the rest, which is not empty.
fn with_job(head: &str, job: &[u8]) -> String {
    let mut text = String::with_capacity(head.len() + job.len() + 8);
    text.push_str("{\"job\":");
    text.push_str(&String::from_utf8_lossy(job));
    text.push(',');
    text.push_str(head.strip_prefix('{').unwrap_or(head));
    text
}

fn jobs_event(message: &v1::WatchJobsResponse) -> Bytes {
    use watch_jobs_response::Kind;
    let name = match message.kind() {
        Kind::Heartbeat => return comment_with(&message.cursor),
        Kind::Unspecified | Kind::Listed => "listed",
        Kind::Synced => "synced",
        Kind::Changes => "changes",
        Kind::Draining => "draining",
    };
    event(name, &message.cursor, &json_of(message))
}

fn json_of<M: json::ApiMessage>(message: &M) -> String {
    // Only a time beyond the calendar has no form, and what is stored was checked; the reader sees that something is there.
    json::compact(message).unwrap_or_else(|_| "{\"kind\":\"KIND_UNSPECIFIED\"}".to_owned())
}

/// JSON has no line breaks, and cursors are printable.
fn event(name: &str, id: &str, data: &str) -> Bytes {
    let id = match id {
        "" => String::new(),
        id => format!("id: {id}\n"),
    };
    Bytes::from(format!("{id}event: {name}\ndata: {data}\n\n"))
}

/// Nothing happened.
fn comment() -> Bytes {
    Bytes::from_static(b": nothing new\n\n")
}

/// Nothing happened that matters here, but there is a newer place to go on from.
fn comment_with(cursor: &str) -> Bytes {
    match cursor {
        "" => comment(),
        cursor => Bytes::from(format!(": nothing new\nid: {cursor}\n\n")),
    }
}

/// The stream ends for this reason; the client comes back with its last id.
fn farewell(fault: &Fault, language: Language) -> Bytes {
    let text = super::problem::text(fault, language);
    Bytes::from(format!("event: error\ndata: {text}\n\n"))
}

fn bad_last_id() -> Fault {
    let description = Sentence::plain("last-event-id", "must be the id of an event of this stream");
    Fault::invalid(vec![Violation::new("Last-Event-ID", description)])
}
