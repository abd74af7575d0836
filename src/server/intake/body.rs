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

use crate::{api::BodyError, engine::monotonic_now};

/// How long a body may be silent: as long as a ping may stay unanswered.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a body may take in all: the largest, of 16 MiB, over a line of some 2 Mbit/s.
const WHOLE: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct RequestBody<B> {
    body: B,
    /// Says that the server goes; none for a stream, which is not watched.
    draining: Option<Arc<CancellationToken>>,
    /// Set when the body was waited for; most are there at once.
    waiting: Option<Waiting>,
    /// How errors are told.
    form: fn(BodyError) -> BoxError,
    ended: bool,
}

impl<B> RequestBody<B> {
    /// Watched if it is given the token of the drain.
    pub(super) fn new(
        body: B,
        draining: Option<Arc<CancellationToken>>,
        form: fn(BodyError) -> BoxError,
    ) -> Self {
        Self {
            body,
            draining,
            waiting: None,
            form,
            ended: false,
        }
    }

    /// Resolves when the body is not to be waited for any longer.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(draining) = &self.draining else {
            return Poll::Pending;
        };
        let waiting = self.waiting.get_or_insert_with(|| Waiting::new(draining));
        waiting.poll(cx)
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
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => this.poll_patience(cx).map(|error| {
                this.ended = true;
                Some(Err((this.form)(error)))
            }),
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
