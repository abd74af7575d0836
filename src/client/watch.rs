//! One job, followed to its end through disconnects and restarts.
//!
//! Invariants: the updates of a watch tile without gap or overlap, whatever connections they came over; the watch ends after the final snapshot, or
//! after an error that a retry can not mend, and never before; it is never silent for longer than twice its heartbeat interval and 5 s.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use tokio::time::{Instant, timeout};
use tonic::Streaming;

use super::{Backoff, Calls, ClientError, clock, position::Position};
use crate::proto::v1::{self, WatchJobResponse, job_service_client::JobServiceClient};

/// The server's heartbeat interval if none is asked for.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
/// What is allowed on top of two heartbeat intervals before a silent connection counts as dead.
const SILENCE_MARGIN: Duration = Duration::from_secs(5);

/// How to watch a job.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// The newest revision that the caller has seen; 0 if none.
    pub after_revision: u64,
    /// The least time between two updates that differ in progress alone. 250 ms if absent; from 0 to 60 s.
    pub min_interval: Option<Duration>,
    /// The longest silence of the server. 15 s if absent; from 5 s to 60 s.
    pub heartbeat_interval: Option<Duration>,
    /// How much of the job each snapshot has; all but the request payloads if unspecified.
    pub view: v1::View,
    /// End the watch when the server could not be reached for this long. If absent, try for ever.
    pub give_up_after: Option<Duration>,
}

/// What a watch tells.
#[derive(Debug)]
pub enum WatchUpdate {
    /// The job as of `revision`, complete.
    Snapshot {
        /// The job.
        job: Box<v1::Job>,
        /// The snapshot stands for the revisions from here, exclusive, to `revision`, inclusive.
        from_revision: u64,
        /// The newest revision known now.
        revision: u64,
        /// How many changes were merged into this one.
        coalesced: u64,
        /// The job is terminal; the watch ends now.
        is_final: bool,
        /// What was known before was newer than the job, after a restore from a backup: forget it.
        reset: bool,
    },
    /// The caller knows the newest revision.
    Synced {
        /// That revision.
        revision: u64,
    },
    /// Nothing happened, and the server is there.
    Heartbeat {
        /// The newest revision known.
        revision: u64,
    },
    /// The connection broke; the watch goes on by itself.
    Disconnected {
        /// Why.
        error: ClientError,
        /// When it tries again.
        retry_in: Duration,
    },
}

/// The updates of one job. Made by [`Client::watch`](super::Client::watch); does nothing unless it is read.
#[must_use = "a watch does nothing unless it is read"]
pub struct Watch {
    updates: BoxStream<'static, Result<WatchUpdate, ClientError>>,
}

impl Watch {
    pub(super) fn new(jobs: JobServiceClient<Calls>, job_id: &str, options: WatchOptions) -> Self {
        let follower = Follower::new(jobs, job_id, options);
        let updates = futures_util::stream::unfold(follower, |mut follower| async {
            let update = follower.next().await?;
            Some((update, follower))
        });
        Self {
            updates: updates.boxed(),
        }
    }

    /// The next update; none after the final snapshot or an error. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<WatchUpdate, ClientError>> {
        self.updates.next().await
    }
}

impl Stream for Watch {
    type Item = Result<WatchUpdate, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.updates.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// Where a watch is with its connection.
enum Link {
    /// To be opened, after a pause.
    Down(Duration),
    /// Open.
    Up(Box<Streaming<WatchJobResponse>>),
    /// The watch has ended.
    Ended,
}

struct Follower {
    jobs: JobServiceClient<Calls>,
    options: WatchOptions,
    position: Position,
    link: Link,
    backoff: Backoff,
    /// Since when the server has not been heard.
    lost_at: Option<Instant>,
    /// After which silence the connection counts as dead.
    max_silence: Duration,
}

impl Follower {
    fn new(jobs: JobServiceClient<Calls>, job_id: &str, options: WatchOptions) -> Self {
        let heartbeat = options.heartbeat_interval.unwrap_or(DEFAULT_HEARTBEAT);
        Self {
            jobs,
            position: Position::new(job_id, options.after_revision),
            link: Link::Down(Duration::ZERO),
            backoff: Backoff::default(),
            lost_at: None,
            max_silence: heartbeat.saturating_mul(2).saturating_add(SILENCE_MARGIN),
            options,
        }
    }

    async fn next(&mut self) -> Option<Result<WatchUpdate, ClientError>> {
        loop {
            let received = match &mut self.link {
                Link::Ended => return None,
                Link::Down(pause) => {
                    tokio::time::sleep(*pause).await;
                    match self.open().await {
                        Ok(stream) => {
                            self.link = Link::Up(Box::new(stream));
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
                Link::Up(stream) => match timeout(self.max_silence, stream.message()).await {
                    Ok(Ok(Some(message))) => Ok(message),
                    Ok(Ok(None)) => Err(ClientError::EndedEarly),
                    Ok(Err(status)) => Err(status.into()),
                    Err(_) => Err(ClientError::Silent(self.max_silence)),
                },
            };
            match received.and_then(|message| self.position.advance(message)) {
                Ok(update) => {
                    self.lost_at = None;
                    self.backoff.reset();
                    let Some(update) = update else { continue };
                    if matches!(update, WatchUpdate::Snapshot { is_final: true, .. }) {
                        self.link = Link::Ended;
                    }
                    return Some(Ok(update));
                }
                Err(error) => return Some(self.disconnected(error)),
            }
        }
    }

    async fn open(&mut self) -> Result<Streaming<WatchJobResponse>, ClientError> {
        let request = v1::WatchJobRequest {
            job_id: self.position.job_id().to_owned(),
            after_revision: self.position.revision(),
            min_interval: self.options.min_interval.map(duration),
            heartbeat_interval: self.options.heartbeat_interval.map(duration),
            view: self.options.view.into(),
        };
        match timeout(self.max_silence, self.jobs.watch_job(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => Err(ClientError::Silent(self.max_silence)),
        }
    }

    /// Decides whether to go on after an error.
    fn disconnected(&mut self, error: ClientError) -> Result<WatchUpdate, ClientError> {
        let lost_at = *self.lost_at.get_or_insert_with(clock::now);
        let given_up = self
            .options
            .give_up_after
            .is_some_and(|limit| lost_at.elapsed() >= limit);
        if given_up || !error.is_retryable() {
            self.link = Link::Ended;
            return Err(error);
        }
        let retry_in = self.backoff.pause_after(&error);
        self.link = Link::Down(retry_in);
        Ok(WatchUpdate::Disconnected { error, retry_in })
    }
}

/// As the protocol writes it; what is too long for it is as good as for ever.
fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration {
        seconds: i64::MAX,
        nanos: 0,
    })
}

#[cfg(test)]
mod tests;
