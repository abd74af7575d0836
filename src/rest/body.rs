//! Reading the body of a request: bounded in bytes. That it comes in time is seen to where it comes in.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Version, header};
use http_body_util::BodyExt as _;

use crate::{
    api::{BodyError, Fault, MAX_MESSAGE_BYTES, Reason},
    domain::wording::{Sentence, sentence},
};

/// Bytes for which room is made before they come.
const FIRST_ROOM_BYTES: usize = 64 * 1024;
/// Bytes of a body that are taken though nobody wants them.
const MAX_DRAINED_BYTES: usize = 256 * 1024;
/// How long that may take.
const MAX_DRAIN: Duration = Duration::from_secs(1);

/// All of a body.
pub(super) async fn read(headers: &HeaderMap, body: &mut Body) -> Result<Bytes, Fault> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    if !codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let message = Sentence::plain(
            "body-compressed",
            "bodies of requests are not decompressed here; send it as it is, without content-encoding",
        );
        return Err(Fault::new(Reason::UnsupportedMediaType, message));
    }
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_MESSAGE_BYTES as u64) {
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match BodyError::behind(&error) {
            Some(error) => error.into(),
            None => Fault::malformed(&error),
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = first.as_ref().map_or(0, Bytes::len) + joined.len();
        if length + data.len() > MAX_MESSAGE_BYTES {
            return Err(too_large());
        }
        // Most bodies come in one piece, which needs no copy.
        match first.take() {
            None if joined.is_empty() => first = Some(data),
            None => joined.extend_from_slice(&data),
            Some(earlier) => {
                joined.reserve((earlier.len() + data.len()).max(FIRST_ROOM_BYTES));
                joined.extend_from_slice(&earlier);
                joined.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| joined.freeze()))
}

/// Takes the rest of a body that makes no difference any more, if it is small and comes soon. Some clients of HTTP/2 take an answer that comes before all of
/// their body is sent for an error: curl before 8.0 does.
pub(super) async fn drain(version: Version, body: &mut Body) {
    if version != Version::HTTP_2 || body.is_end_stream() {
        return;
    }
    let rest = async {
        let mut drained = 0;
        while drained < MAX_DRAINED_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            drained += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Whether it came or not makes no difference to us.
    let _ = tokio::time::timeout(MAX_DRAIN, rest).await;
}

/// A body has to be JSON, and to say so: that keeps web pages of other sites from sending it through a browser.
pub(super) fn check_json(headers: &HeaderMap, body: &Bytes) -> Result<(), Fault> {
    if !body.is_empty() && !is_json(headers) {
        let message = Sentence::plain(
            "not-json",
            "the body must be JSON and say so: content-type: application/json",
        );
        return Err(Fault::new(Reason::UnsupportedMediaType, message));
    }
    Ok(())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}

fn too_large() -> Fault {
    let message = sentence!(
        "body-too-large",
        "the body may have {most} bytes at most",
        most = MAX_MESSAGE_BYTES
    );
    Fault::new(Reason::MessageTooLarge, message)
}
