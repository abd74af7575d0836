//! Answers as HTTP carries them.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body::Body as _;

use crate::locale::Language;

/// What a request is answered with.
pub(super) type Response = http::Response<Body>;

/// Says that `Prefer` was heeded (RFC 7240).
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A body of JSON.
pub(super) fn json(status: StatusCode, text: impl Into<Bytes>) -> Response {
    typed(status, JSON, text)
}

/// A body of some type.
pub(super) fn typed(status: StatusCode, kind: HeaderValue, text: impl Into<Bytes>) -> Response {
    let mut response = empty(status);
    *response.body_mut() = Body::from(text.into());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// No body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The same without its body, which is not even begun; its length is told if it is known.
pub(super) fn head(response: Response) -> Response {
    let (head, body) = response.into_parts();
    let mut response = Response::from_parts(head, Body::empty());
    if let Some(length @ 1..) = body.size_hint().exact() {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// Adds a header whose value is made of ids, numbers and paths of ours; one that is not fit for a header is left out.
pub(super) fn with(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The revision of a job as an entity tag.
pub(super) fn etag(revision: u64) -> String {
    format!("\"{revision}\"")
}

/// The same of an answer that has another text in each language, and so another tag.
pub(super) fn etag_in(language: Language, revision: u64) -> String {
    format!("\"{revision}{}\"", suffix(language))
}

/// What the entity tags of a language end with.
pub(super) fn suffix(language: Language) -> &'static str {
    match language {
        Language::English => "",
        Language::French => "-fr",
    }
}

/// Tells caches that the answer depends on this header of the request, too.
pub(super) fn vary(mut response: Response, on: HeaderName) -> Response {
    let known = response.headers().get_all(header::VARY);
    if !known
        .iter()
        .any(|known| known.as_bytes() == on.as_str().as_bytes())
    {
        response.headers_mut().append(header::VARY, on.into());
    }
    response
}

/// The caller has what bears this tag already.
pub(super) fn unchanged(tag: &str) -> Response {
    let response = empty(StatusCode::NOT_MODIFIED);
    with(response, header::ETAG, tag)
}

/// Tells a caller who would rather wait that this was heeded.
pub(super) fn applied(response: Response, wait: Option<Duration>) -> Response {
    match wait {
        Some(wait) => {
            let applied = format!("wait={}", wait.as_secs());
            with(response, PREFERENCE_APPLIED, &applied)
        }
        None => response,
    }
}
