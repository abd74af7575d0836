//! A request, taken apart.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, request::Parts};
use percent_encoding::percent_decode_str;

use super::{answer, body, query::Query, submit::IDEMPOTENCY_KEY};
use crate::{
    api::{Caller, Fault, Reason},
    domain::{
        JobId, JobKey,
        wording::{Sentence, sentence},
    },
    locale::{Language, preference},
};

/// Characters of what should be an id that an error repeats.
const MAX_SHOWN_CHARS: usize = 64;
/// RFC 7240.
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The longest wait of one request: proxies close what is silent for longer.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(120);

/// See the module.
pub(super) struct Call {
    pub(super) caller: Caller,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    /// What stands in the gaps of the path, without escapes.
    pub(super) gaps: Vec<(String, String)>,
    pub(super) query: Query,
    body: Bytes,
}

impl Call {
    pub(super) fn new(
        head: Parts,
        body: Bytes,
        gaps: Vec<(String, String)>,
        query: Query,
        caller: Caller,
    ) -> Self {
        let head = match body.is_empty() {
            true => detached(head),
            false => head,
        };
        Self {
            caller,
            uri: head.uri,
            headers: head.headers,
            gaps,
            query,
            body,
        }
    }

    /// Where the connection comes from, as far as this machine can see.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.caller.peer.as_ref().map(|peer| peer.address.ip())
    }

    /// A header that is text.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What stands in a gap of the path.
    pub(super) fn gap(&self, name: &str) -> &str {
        let gap = self.gaps.iter().find(|(n, _)| n == name);
        gap.map_or("", |(_, value)| value.as_str())
    }

    /// The job whose id stands in a gap of the path. What is no id is no job's.
    pub(super) fn job(&self, gap: &str) -> Result<JobKey, Fault> {
        let id = self.gap(gap);
        match id.parse() {
            Ok(id) => Ok(JobKey {
                tenant: self.caller.tenant.clone(),
                job: JobId(id),
            }),
            Err(_) => {
                let job: String = id.chars().take(MAX_SHOWN_CHARS).collect();
                let message = sentence!("job-not-found", "no job {job}", job);
                Err(Fault::new(Reason::JobNotFound, message))
            }
        }
    }

    /// The body, which has to be JSON, or empty.
    pub(super) fn json(&self) -> Result<&Bytes, Fault> {
        body::check_json(&self.headers, &self.body).map(|()| &self.body)
    }

    /// What makes repeating this request safe, if anything does. The standard's form is a quoted string, and most clients send it bare. One that can not be
    /// read is refused: its sender counts on it.
    pub(super) fn idempotency_key(&self) -> Result<Option<String>, Fault> {
        let mut keys = self.headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(key) = keys.next() else {
            return Ok(None);
        };
        if keys.next().is_some() {
            let description = Sentence::plain("given-twice", "is given twice");
            return Err(Fault::bad_field("Idempotency-Key", description));
        }
        let key = key.to_str().unwrap_or_default().trim();
        let quoted = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
        let key = quoted.unwrap_or(key);
        if key.is_empty() || key.contains('"') {
            let description = Sentence::plain(
                "one-key",
                "must be one key of printable ASCII, bare or in quotation marks",
            );
            return Err(Fault::bad_field("Idempotency-Key", description));
        }
        Ok(Some(key.to_owned()))
    }

    /// How long the caller would rather wait than ask again: `Prefer: wait=N`, in seconds.
    pub(super) fn wait(&self) -> Option<Duration> {
        let prefers = self.headers.get_all(PREFER);
        let prefers = prefers.iter().filter_map(|value| value.to_str().ok());
        let mut words = prefers.flat_map(|value| value.split([',', ';']));
        let seconds = words.find_map(|word| {
            let (name, value) = word.split_once('=')?;
            let is_wait = name.trim().eq_ignore_ascii_case("wait");
            is_wait.then(|| value.trim().trim_matches('"').parse().ok())?
        })?;
        Some(Duration::from_secs(seconds).min(MAX_WAIT))
    }

    /// What the caller has already: `If-None-Match`, on one line or several.
    pub(super) fn known(&self) -> Known {
        let lines = self.headers.get_all(header::IF_NONE_MATCH).iter();
        let tags = lines.flat_map(|line| line.to_str().unwrap_or_default().split(','));
        // Weak or not makes no difference here (RFC 9110, 13.1.2), and some send a tag without its quotation marks.
        let tags = tags.map(|tag| {
            let tag = tag.trim();
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            let bare = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            bare.unwrap_or(tag).into()
        });
        Known(tags.collect())
    }

    /// Whether the caller names this type, and would rather have it than JSON; of types that are as dear, the first.
    pub(super) fn prefers(&self, kind: &str) -> bool {
        let accepted = self.headers.get_all(header::ACCEPT).iter();
        let accepted: Vec<&str> = accepted.filter_map(|value| value.to_str().ok()).collect();
        let accepted = accepted.join(",");
        let is_one =
            |accepted: &str, of: &[&str]| of.iter().any(|k| accepted.eq_ignore_ascii_case(k));
        let json = ["application/json", "application/*", "*/*"];
        let mut of_both = preference::wanted(&accepted)
            .filter(|accepted| is_one(accepted, &[kind]) || is_one(accepted, &json));
        of_both.next().is_some_and(|first| is_one(first, &[kind]))
    }

    /// Where the caller has reached us, as in `http://host:port`. HTTP/1 does not tell the scheme; over TLS it is clear, and without, in HTTP/2, a proxy may
    /// pass on what it was told.
    pub(super) fn origin(&self) -> String {
        let authority = self.uri.authority().map(|authority| authority.as_str());
        let host = authority.or_else(|| self.header(&header::HOST));
        let is_tls = self.caller.peer.as_ref().is_some_and(|peer| peer.is_tls);
        let scheme = match is_tls {
            true => "https",
            false => self.uri.scheme_str().unwrap_or("http"),
        };
        format!("{scheme}://{}", host.unwrap_or("localhost"))
    }
}

/// Entity tags that a caller has named, without their marks of weakness. What is no tag of ours is one that nothing has.
pub(super) struct Known(Box<[Box<str>]>);

impl Known {
    /// None is named: the caller has made no condition.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any will do.
    pub(super) fn is_any(&self) -> bool {
        self.0.iter().any(|tag| **tag == *"*")
    }

    /// Whether a job of this revision is known, as an answer that has this language if it has one.
    pub(super) fn has(&self, revision: u64, language: Option<Language>) -> bool {
        let suffix = language.map_or("", answer::suffix);
        let is_this = |tag: &str| {
            tag.strip_suffix(suffix)
                .is_some_and(|tag| tag == revision.to_string())
        };
        self.is_any() || self.0.iter().any(|tag| is_this(tag))
    }
}

/// The same head without the buffer that it was read into: a request that waits may wait for minutes, and has no use for 8 KiB.
fn detached(mut head: Parts) -> Parts {
    let headers = head.headers.iter().filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        Some((name, value))
    });
    head.headers = headers.collect();
    if let Ok(uri) = head.uri.to_string().parse() {
        head.uri = uri;
    }
    head
}

/// What the reader of messages reads.
pub(super) fn language(headers: &HeaderMap) -> Language {
    let accepted = headers.get(header::ACCEPT_LANGUAGE);
    Language::accepted(accepted.and_then(|value| value.to_str().ok()))
}

/// A part of a path without its escapes; `None` if it is not UTF-8 or has control characters.
pub(super) fn unescaped(part: &str) -> Option<String> {
    let part = percent_decode_str(part).decode_utf8().ok()?;
    (!part.chars().any(char::is_control)).then(|| part.into_owned())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::auth::Peer;

    fn call(uri: &str, host: Option<&str>, is_tls: bool) -> Call {
        let request = Request::builder().uri(uri);
        let request = host
            .into_iter()
            .fold(request, |r, host| r.header("host", host));
        let (head, ()) = request.body(()).unwrap().into_parts();
        let peer = Peer {
            is_tls,
            ..Peer::plain(([127, 0, 0, 1], 1).into())
        };
        let mut caller = Caller::anybody();
        caller.peer = Some(peer.into());
        Call::new(head, Bytes::new(), Vec::new(), Query::default(), caller)
    }

    #[test]
    fn a_caller_is_told_the_scheme_that_it_has_used() {
        for (uri, host, origin) in [
            ("/api/jobs", Some("d:7070"), "http://d:7070"),
            (
                "https://jobs.example/api/jobs",
                None,
                "https://jobs.example",
            ),
            ("http://d:7070/api/jobs", Some("other"), "http://d:7070"),
            ("/api/jobs", None, "http://localhost"),
        ] {
            assert_eq!(call(uri, host, false).origin(), origin, "{uri}");
            let (_, rest) = origin.split_once("://").unwrap();
            let over_tls = call(uri, host, true).origin();
            assert_eq!(over_tls, format!("https://{rest}"), "{uri}");
        }
    }
}
