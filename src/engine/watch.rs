//! One watch of one job: what to say next, and when.
//!
//! The ranges of what is said tile; a change of state is said on its own to a watcher that keeps up; progress is throttled; silence is bounded.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::{
    EngineError,
    hub::Subscription,
    topic::{News, Version},
};

/// How a watch is wanted.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// The newest revision that the watcher has seen.
    pub after_revision: u64,
    /// The least time between two snapshots that differ in progress alone.
    pub min_interval: Duration,
    /// The longest silence.
    pub heartbeat: Duration,
}

/// What a watch says.
#[derive(Clone, Debug)]
pub enum WatchItem {
    /// The job as it is, or was a moment ago.
    Snapshot {
        /// The job.
        version: Arc<Version>,
        /// The newest revision that was said before.
        from_revision: u64,
        /// Changes that were merged, besides the newest.
        coalesced: u64,
        /// The last one.
        is_final: bool,
        /// What the watcher knew is void.
        reset: bool,
    },
    /// The watcher is up to date.
    Synced {
        /// The job's revision.
        revision: u64,
    },
    /// Nothing happened.
    Heartbeat {
        /// The revision that the watcher has.
        revision: u64,
    },
    /// The server goes; the watch ends here.
    Draining {
        /// The revision that the watcher has.
        revision: u64,
    },
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitEnd {
    /// What was waited for has come.
    Done,
    /// The time was up.
    TimedOut,
    /// The server is about to go.
    Draining,
}

/// A watch that goes on. Made by [`super::Engine::watch`].
pub struct JobWatch {
    subscription: Subscription,
    /// The job as read after registering; said first.
    first: Option<Arc<Version>>,
    seen: u64,
    options: WatchOptions,
    spoke: Instant,
    progressed: Instant,
    alarm: std::pin::Pin<Box<Sleep>>,
    over: bool,
}

impl JobWatch {
    pub(super) fn new(
        subscription: Subscription,
        first: Arc<Version>,
        options: WatchOptions,
    ) -> Self {
        let now = super::monotonic_now();
        Self {
            subscription,
            first: Some(first),
            seen: options.after_revision,
            spoke: now,
            progressed: now,
            alarm: Box::pin(tokio::time::sleep_until(now + options.heartbeat)),
            options,
            over: false,
        }
    }

    /// What to say next; `None` after the final snapshot or `Draining`.
    ///
    /// # Errors
    /// The job was deleted.
    pub async fn next(&mut self) -> Option<Result<WatchItem, EngineError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Self::next`], for who polls.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<WatchItem, EngineError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let (item, now) = match self.first.take() {
            Some(version) => (Ok(self.begin(version)), super::monotonic_now()),
            None => ready!(self.poll_item(cx)),
        };
        self.spoke = now;
        match &item {
            Ok(WatchItem::Snapshot {
                version, is_final, ..
            }) => {
                self.seen = version.job.revision;
                self.over = *is_final;
                self.progressed = now;
            }
            Ok(WatchItem::Synced { .. } | WatchItem::Heartbeat { .. }) => {}
            Ok(WatchItem::Draining { .. }) | Err(_) => self.over = true,
        }
        Poll::Ready(Some(item))
    }

    /// The next item, and when it came.
    fn poll_item(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(Result<WatchItem, EngineError>, Instant)> {
        loop {
            let now = super::monotonic_now();
            let silent_until = self.spoke + self.options.heartbeat;
            let mut wake = silent_until;
            let news = self
                .subscription
                .poll_news(cx, |news| self.look(news, now, &mut wake).transpose());
            if let Poll::Ready(item) = news {
                return Poll::Ready((item, now));
            }
            if now >= silent_until {
                let revision = self.seen;
                return Poll::Ready((Ok(WatchItem::Heartbeat { revision }), now));
            }
            // Messages are frequent and put the alarm off, so it may go off too early and is set again then.
            if self.alarm.deadline() > wake {
                self.alarm.as_mut().reset(wake);
            }
            ready!(self.alarm.as_mut().poll(cx));
            self.alarm.as_mut().reset(wake);
        }
    }

    /// The first message: a snapshot, or that there is nothing new.
    fn begin(&self, version: Arc<Version>) -> WatchItem {
        let revision = version.job.revision;
        let is_final = version.job.state.is_terminal();
        let reset = self.seen > revision;
        if self.seen == revision && !is_final {
            return WatchItem::Synced { revision };
        }
        let from_revision = if reset { 0 } else { self.seen };
        WatchItem::Snapshot {
            version,
            from_revision,
            coalesced: (revision - from_revision).saturating_sub(1),
            is_final,
            reset,
        }
    }

    /// The next version to say, if it is time; otherwise `wake` may be brought forward.
    fn look(
        &self,
        news: &News,
        now: Instant,
        wake: &mut Instant,
    ) -> Result<Option<WatchItem>, EngineError> {
        if news.void {
            return Err(EngineError::FailedOver);
        }
        let seen = self.seen;
        let due = self.progressed + self.options.min_interval;
        let version = match news.behind(seen) {
            Some((version, is_change)) if is_change || now >= due || news.draining => version,
            Some(_) => {
                *wake = (*wake).min(due);
                return Ok(None);
            }
            None if news.draining => return Ok(Some(WatchItem::Draining { revision: seen })),
            None if news.deleted => {
                return Err(EngineError::job_not_found(self.subscription.key().job));
            }
            None => return Ok(None),
        };
        Ok(Some(WatchItem::Snapshot {
            version: Arc::clone(version),
            from_revision: seen,
            coalesced: version.job.revision - seen - 1,
            is_final: version.job.state.is_terminal(),
            reset: false,
        }))
    }
}
