//! The body of one request, which ends: complete, or with an error that says why it was not waited for.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::BoxError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    framing::Framing,
    room::{Held, Room},
};
use crate::{api::BodyError, engine::monotonic_now};

/// How long a body may be silent: as long as a ping may stay unanswered.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a body may take in all: the largest, of 16 MiB, over a line of some 2 Mbit/s.
const WHOLE: Duration = Duration::from_secs(60);

/// What all bodies of a server have in common.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    /// Cancelled when requests that are not complete are not waited for any more.
    pub(super) draining: CancellationToken,
    pub(super) room: Room,
}

/// What is made of the bytes.
enum Kind {
    /// One message, which is held until it is complete.
    Whole { received: usize },
    /// Messages that are taken one by one, for as long as the caller likes.
    Stream(Framing),
}

/// See the module.
pub(super) struct RequestBody<B> {
    body: B,
    kind: Kind,
    bounds: Arc<Bounds>,
    held: Held,
    /// Set when the body was waited for; most are there at once.
    waiting: Option<Waiting>,
    /// How errors are told.
    form: fn(BodyError) -> BoxError,
    ended: bool,
}

impl<B> RequestBody<B> {
    /// A body that has to come in time.
    pub(super) fn whole(body: B, bounds: Arc<Bounds>, form: fn(BodyError) -> BoxError) -> Self {
        Self::new(body, Kind::Whole { received: 0 }, bounds, form)
    }

    /// A stream of gRPC messages, which is not timed.
    pub(super) fn stream(body: B, bounds: Arc<Bounds>, form: fn(BodyError) -> BoxError) -> Self {
        Self::new(body, Kind::Stream(Framing::default()), bounds, form)
    }

    fn new(body: B, kind: Kind, bounds: Arc<Bounds>, form: fn(BodyError) -> BoxError) -> Self {
        Self {
            body,
            kind,
            bounds,
            held: Held::default(),
            waiting: None,
            form,
            ended: false,
        }
    }

    /// Notes what has come; false if there is no room for it.
    fn take(&mut self, data: &[u8]) -> bool {
        let held = match &mut self.kind {
            Kind::Whole { received } => {
                *received += data.len();
                *received
            }
            Kind::Stream(framing) => framing.push(data),
        };
        self.bounds.room.hold(&mut self.held, held)
    }

    fn fail(&mut self, error: BodyError) -> BoxError {
        self.ended = true;
        (self.form)(error)
    }

    /// Resolves when the body is not to be waited for any longer.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        if let Kind::Stream(_) = self.kind {
            return Poll::Pending;
        }
        let waiting = (self.waiting).get_or_insert_with(|| Waiting::new(&self.bounds.draining));
        waiting.poll(cx)
    }
}

impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        self.bounds.room.hold(&mut self.held, 0);
    }
}

/// The clock of a body that was not there at once.
struct Waiting {
    heard: Instant,
    end: Instant,
    /// At the end of what is allowed now, or sooner: it is not moved for each frame.
    alarm: Pin<Box<Sleep>>,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Waiting {
    fn new(draining: &CancellationToken) -> Self {
        let now = monotonic_now();
        Self {
            heard: now,
            end: now + WHOLE,
            alarm: Box::pin(tokio::time::sleep_until(now + SILENCE)),
            draining: Box::pin(draining.clone().cancelled_owned()),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        if self.draining.as_mut().poll(cx).is_ready() {
            return Poll::Ready(BodyError::Draining);
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            let allowed = self.end.min(self.heard + SILENCE);
            if self.alarm.deadline() >= allowed {
                return Poll::Ready(BodyError::TooSlow);
            }
            self.alarm.as_mut().reset(allowed);
        }
        Poll::Pending
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let Some(waiting) = &mut this.waiting {
                    waiting.heard = monotonic_now();
                }
                let data = frame
                    .as_ref()
                    .and_then(|frame| frame.as_ref().ok()?.data_ref());
                if data.is_some_and(|data| !this.take(data)) {
                    return Poll::Ready(Some(Err(this.fail(BodyError::NoRoom))));
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => this
                .poll_patience(cx)
                .map(|error| Some(Err(this.fail(error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
