//! Watchers: of single jobs to their ends, and of all jobs. When a node goes, and now and then for no reason, they go on at another.

use std::{collections::HashSet, sync::atomic::Ordering, time::Duration};

use futures_util::StreamExt as _;
use longhaul::{
    client::{ClientError, WatchOptions, WatchUpdate},
    proto::v1::{JobChange, WatchJobsRequest, WatchJobsResponse, watch_jobs_response::Kind},
};
use rand::RngExt as _;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::{
    Roamer, Slip, Stage, answer,
    history::{Ending, Fact, is_terminal},
};

/// Jobs that one watcher watches at once.
const WATCHED_AT_ONCE: usize = 4;
/// The shortest silence that may be asked for.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// After which silence a follower takes its node for dead.
const SILENCE: Duration = Duration::from_secs(15);

impl Stage {
    /// Watches jobs to their ends.
    pub(super) async fn watcher(self, jobs: mpsc::Receiver<String>) {
        let watch = |job| self.watch(job);
        ReceiverStream::new(jobs)
            .for_each_concurrent(WATCHED_AT_ONCE, watch)
            .await;
    }

    async fn watch(&self, job: String) {
        let watch = self.watches.fetch_add(1, Ordering::Relaxed);
        let mut roamer = self.roamer("watch", watch);
        let mut known = 0;
        loop {
            let after = match self.slips(Slip::ForgetsRevision) {
                true => 0,
                false => known,
            };
            if self
                .watch_here(&mut roamer, watch, &job, after, &mut known)
                .await
            {
                return;
            }
            roamer.move_on();
            let node = roamer.at;
            self.history.note(Fact::Moved { watch, node });
        }
    }

    /// Watches a job at one node; answers whether the watch has ended.
    async fn watch_here(
        &self,
        roamer: &mut Roamer,
        watch: usize,
        job: &str,
        after_revision: u64,
        known: &mut u64,
    ) -> bool {
        let options = WatchOptions {
            after_revision,
            min_interval: Some(Duration::ZERO),
            heartbeat_interval: Some(HEARTBEAT),
            ..WatchOptions::default()
        };
        let mut updates = roamer.here().watch(job, options);
        let patience = match roamer.rng.random_ratio(1, 2) {
            true => roamer.rng.random_range(1..5),
            false => usize::MAX,
        };
        for _ in 0..patience {
            match updates.next().await {
                None => return true,
                Some(Ok(WatchUpdate::Snapshot {
                    job,
                    from_revision,
                    revision,
                    coalesced,
                    is_final,
                    ..
                })) => {
                    *known = revision;
                    self.history.note(Fact::Shown {
                        watch,
                        state: job.state(),
                        job: job.id,
                        from: from_revision,
                        to: revision,
                        coalesced,
                        last: is_final,
                    });
                    if is_final {
                        return true;
                    }
                }
                Some(Ok(
                    WatchUpdate::Synced { revision } | WatchUpdate::Heartbeat { revision },
                )) => {
                    self.history.note(Fact::Synced { watch, revision });
                }
                Some(Ok(WatchUpdate::Disconnected { error, retry_in })) => {
                    let ending = Ending::of(&error);
                    self.history.note(Fact::Disconnected { watch, ending });
                    // It comes back by itself.
                    if !roamer.has_one_node() {
                        tokio::time::sleep(retry_in).await;
                        return false;
                    }
                }
                Some(Err(error)) => {
                    let error = error.to_string();
                    self.history.note(Fact::Broken { watch, error });
                    return true;
                }
            }
        }
        false
    }

    /// Follows all jobs until it knows the end of each that was acknowledged; that there will be no more, it is told.
    pub(super) async fn follower(self, number: usize, complete: CancellationToken) {
        let mut follower = Follower {
            roamer: self.roamer("follower", number),
            stage: self,
            number,
            cursor: String::new(),
            ended: HashSet::new(),
            wanted: None,
        };
        follower.note_node();
        while !follower.follow_here(&complete).await {
            follower.roamer.retreat().await;
            follower.note_node();
        }
    }
}

struct Follower {
    stage: Stage,
    number: usize,
    roamer: Roamer,
    cursor: String,
    ended: HashSet<String>,
    /// All jobs, once there will be no more.
    wanted: Option<HashSet<String>>,
}

impl Follower {
    fn note_node(&self) {
        let (follower, node) = (self.number, self.roamer.at);
        self.stage.history.note(Fact::Followed { follower, node });
    }

    fn note_ending(&self, error: &ClientError) {
        self.stage.history.note(Fact::Unfollowed {
            follower: self.number,
            ending: Ending::of(error),
        });
    }

    /// Follows at one node; answers whether everything is known.
    async fn follow_here(&mut self, complete: &CancellationToken) -> bool {
        // Among them the one who begins at the second node.
        let forgets = self.stage.slips(Slip::ForgetsCursor) && !self.number.is_multiple_of(2);
        let request = WatchJobsRequest {
            cursor: match forgets {
                true => String::new(),
                false => self.cursor.clone(),
            },
            heartbeat_interval: Some(HEARTBEAT.try_into().unwrap()),
            ..WatchJobsRequest::default()
        };
        let mut messages = match answer(self.roamer.here().jobs().watch_jobs(request)).await {
            Ok(messages) => messages,
            Err(error) => {
                self.note_ending(&error);
                return false;
            }
        };
        let patience = self.roamer.rng.random_range(20..200);
        for _ in 0..patience {
            if complete.is_cancelled() && self.knows_all() {
                return true;
            }
            tokio::select! {
                biased;
                message = next(&mut messages) => match message {
                    Ok(message) => self.take_in(message),
                    Err(error) => {
                        self.note_ending(&error);
                        return false;
                    }
                },
                () = complete.cancelled(), if !complete.is_cancelled() => {}
            }
        }
        false
    }

    fn take_in(&mut self, message: WatchJobsResponse) {
        match message.kind() {
            Kind::Listed if !self.cursor.is_empty() => {
                let follower = self.number;
                self.stage.history.note(Fact::Relisted { follower });
            }
            Kind::Listed | Kind::Changes => {}
            // Whatever it holds beside a cursor.
            _ => return self.advance(message.cursor),
        }
        let skip = self.stage.slips(Slip::SkipsMessages) && self.roamer.rng.random_ratio(1, 8);
        for change in message.changes {
            let JobChange {
                job_id,
                job,
                from_revision,
                revision,
                ..
            } = change;
            if job.is_some_and(|job| is_terminal(job.state())) {
                self.ended.insert(job_id.clone());
            }
            if skip {
                continue;
            }
            self.stage.history.note(Fact::Told {
                follower: self.number,
                job: job_id,
                from: from_revision,
                to: revision,
            });
        }
        self.advance(message.cursor);
    }

    fn advance(&mut self, cursor: String) {
        if !cursor.is_empty() {
            self.cursor = cursor;
        }
    }

    fn knows_all(&mut self) -> bool {
        let history = &self.stage.history;
        let wanted = self.wanted.get_or_insert_with(|| history.acknowledged());
        wanted.is_subset(&self.ended)
    }
}

/// The next message, or how the stream ended; that of a follower has no end.
async fn next(
    messages: &mut Streaming<WatchJobsResponse>,
) -> Result<WatchJobsResponse, ClientError> {
    let message = timeout(SILENCE, messages.message()).await;
    let message = message.map_err(|_| ClientError::Silent(SILENCE))?;
    message?.ok_or(ClientError::EndedEarly)
}
