//! One watch of one job: what to say next, and when.
//!
//! The ranges of what is said tile; a change of state is said on its own to a watcher that keeps up; progress is throttled; silence is bounded.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, Sleep};

use super::{
    EngineError,
    hub::{Subscription, Version},
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
        if self.over {
            return None;
        }
        let item = self.wait().await;
        self.spoke = super::monotonic_now();
        match &item {
            Ok(WatchItem::Snapshot {
                version, is_final, ..
            }) => {
                self.seen = version.job.revision;
                self.over = *is_final;
                self.progressed = self.spoke;
            }
            Ok(WatchItem::Synced { .. } | WatchItem::Heartbeat { .. }) => {}
            Ok(WatchItem::Draining { .. }) | Err(_) => self.over = true,
        }
        Some(item)
    }

    async fn wait(&mut self) -> Result<WatchItem, EngineError> {
        if let Some(version) = self.first.take() {
            return Ok(self.begin(version));
        }
        loop {
            let now = super::monotonic_now();
            let mut wake = self.spoke + self.options.heartbeat;
            if let Some(item) = self.look(now, &mut wake)? {
                return Ok(item);
            }
            if now >= self.spoke + self.options.heartbeat {
                return Ok(WatchItem::Heartbeat {
                    revision: self.seen,
                });
            }
            if self.alarm.deadline() != wake {
                self.alarm.as_mut().reset(wake);
            }
            tokio::select! {
                changed = self.subscription.topic().changed() => {
                    if changed.is_err() {
                        return Err(EngineError::Stopped);
                    }
                }
                () = self.alarm.as_mut() => {}
            }
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
    fn look(&mut self, now: Instant, wake: &mut Instant) -> Result<Option<WatchItem>, EngineError> {
        let job = self.subscription.key().job;
        let seen = self.seen;
        let due = self.progressed + self.options.min_interval;
        let topic = self.subscription.topic().borrow_and_update();
        let newer = || topic.versions.iter().filter(|v| v.job.revision > seen);
        let version = match newer().find(|v| !v.progress_only) {
            Some(version) => version,
            None => match newer().next_back() {
                Some(version) if now >= due || topic.draining => version,
                Some(_) => {
                    *wake = (*wake).min(due);
                    return Ok(None);
                }
                None if topic.draining => return Ok(Some(WatchItem::Draining { revision: seen })),
                None if topic.deleted => return Err(EngineError::job_not_found(job)),
                None => return Ok(None),
            },
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
