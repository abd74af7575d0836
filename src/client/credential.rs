//! What a client shows with each call.
//!
//! Invariant: it stands in no error, no log and no `Debug` output.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, header};
use tonic::{
    body::Body,
    transport::{Channel, channel::ResponseFuture},
};
use tower::Service;

use super::{ClientError, tls::Verdict};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An API key, in the form in which it is sent.
#[derive(Clone)]
pub(super) struct ApiKey(HeaderValue);

impl ApiKey {
    pub(super) fn new(key: &str) -> Result<Self, ClientError> {
        let is_plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        let value = HeaderValue::try_from(format!("Bearer {key}"));
        match value {
            Ok(mut value) if is_plain => {
                // Nor does it stay in the tables of header compression.
                value.set_sensitive(true);
                Ok(Self(value))
            }
            Ok(_) | Err(_) => Err(ClientError::InvalidApiKey),
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

/// A connection on which each call has the credential with it; cheap to clone. What the generated clients call.
#[derive(Clone, Debug)]
pub struct Calls {
    channel: Channel,
    api_key: Option<ApiKey>,
    verdict: Verdict,
}

impl Calls {
    pub(super) fn new(channel: Channel, api_key: Option<ApiKey>, verdict: Verdict) -> Self {
        Self {
            channel,
            api_key,
            verdict,
        }
    }
}

impl Service<http::Request<Body>> for Calls {
    type Response = <Channel as Service<http::Request<Body>>>::Response;
    type Error = BoxError;
    type Future = Call;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(ApiKey(value)) = &self.api_key {
            let headers = request.headers_mut();
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        Call {
            answer: self.channel.call(request),
            verdict: self.verdict.clone(),
        }
    }
}

/// A call that is under way.
#[derive(Debug)]
pub struct Call {
    answer: ResponseFuture,
    verdict: Verdict,
}

impl Future for Call {
    type Output = Result<http::Response<Body>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready(answer.map_err(|error| match self.verdict.error() {
            Some(verdict) => verdict.into(),
            None => error.into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown() {
        let key = ApiKey::new("s3cret-key").expect("a key");
        assert_eq!(key.0, "Bearer s3cret-key");
        assert!(!format!("{key:?} {:?}", key.0).contains("s3cret"));
        for bad in ["", "s3cret key", "s3cret\n", "s3crét"] {
            let refused = ApiKey::new(bad).expect_err(bad);
            assert!(!format!("{refused} {refused:?}").contains("s3cr"));
        }
    }
}
