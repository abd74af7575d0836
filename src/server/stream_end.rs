//! Ends a body that would not end by itself: what a server says to a caller that stays, or what such a caller might still say.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// A gRPC body that is ended when a token is cancelled, at the next time that it has nothing to say.
pub(super) struct EndWith<B> {
    body: Pin<Box<B>>,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
    /// What is said at the end.
    farewell: Option<HeaderMap>,
    /// Told when this body is gone.
    _gone: Option<DropGuard>,
    ended: bool,
    /// Whether it ends even if it has more to say.
    at_once: bool,
}

impl<B> EndWith<B> {
    /// A response, which ends with UNAVAILABLE; `gone` is cancelled when it has been sent, or nobody wants it any more.
    pub(super) fn response(body: B, end: CancellationToken, gone: CancellationToken) -> Self {
        let mut farewell = HeaderMap::new();
        farewell.insert(
            "grpc-status",
            HeaderValue::from(tonic::Code::Unavailable as i32),
        );
        farewell.insert(
            "grpc-message",
            HeaderValue::from_static("the server is shutting down"),
        );
        Self {
            farewell: Some(farewell),
            _gone: Some(gone.drop_guard()),
            ..Self::request(body, end)
        }
    }

    /// A response that is cut short: with these trailers, if there are any.
    pub(super) fn at_once(body: B, end: CancellationToken, farewell: Option<HeaderMap>) -> Self {
        Self {
            farewell,
            at_once: true,
            ..Self::request(body, end)
        }
    }

    /// A request; whoever reads it sees its end.
    pub(super) fn request(body: B, end: CancellationToken) -> Self {
        Self {
            body: Box::pin(body),
            end: Box::pin(end.cancelled_owned()),
            farewell: None,
            _gone: None,
            ended: false,
            at_once: false,
        }
    }
}

impl<B: Body<Data = Bytes>> Body for EndWith<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let must_end = self.at_once && self.end.as_mut().poll(cx).is_ready();
        if !must_end && let Poll::Ready(frame) = self.body.as_mut().poll_frame(cx) {
            self.ended = frame.is_none();
            return Poll::Ready(frame);
        }
        if must_end || self.end.as_mut().poll(cx).is_ready() {
            self.ended = true;
            let farewell = self.farewell.take().map(Frame::trailers);
            return Poll::Ready(farewell.map(Ok));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
