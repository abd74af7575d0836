//! Hearing of others: where several processes write to one store, each follows the feed and tells its watchers, followers and workers what the others did.
//!
//! One task, one reader of the feed, however many watch. What this process committed itself its watchers know already; the feed's place of it, which
//! followers need, comes from here as well.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Shared, commit::Message, monotonic_now, reach::Side, topic::Version};
use crate::{
    domain::{Job, JobKey, Tenant, command::Pause, event::EventKind},
    store::{FeedCursor, FeedItem, StoreError, Stretch, Tail},
};

/// The least time between two reads: changes that come in a burst are read together.
const PACE: Duration = Duration::from_millis(5);
/// Pauses after a read failed.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(Duration::from_secs(1))
    .with_jitter()
    .without_max_times();

/// Reads that fail one after the other, for another reason than that the store is away, until this process counts as one that can not hear.
const DEAF_AFTER: usize = 5;
/// Jobs that are read at once: at first, and at the most,
const JOBS_AT_ONCE: (usize, usize) = (16, 256);
/// fewer when they have more bytes together than this.
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;
/// Bytes of jobs that are kept for the followers of one stretch; who wants more reads it from the store, in bounds of its own.
const BYTES_FOR_FOLLOWERS: usize = 32 * 1024 * 1024;

/// How often the others are told which workers are connected here: several times in the life of an announcement.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a process that ends tries to say so.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// What the commit loop has to know of what others did.
#[derive(Debug)]
pub(super) struct Heard {
    /// Tasks of these tenants may have become ready; of any if `None`.
    pub(super) ready_of: Option<HashSet<Tenant>>,
    /// Revisions of jobs by which leases may have ended, or their holders may have been asked to stop.
    pub(super) changed: Vec<(JobKey, u64)>,
    /// It goes on where the last one ended; otherwise any lease may have ended.
    pub(super) is_gapless: bool,
    /// Drivers that are paused.
    pub(super) paused: HashMap<Arc<str>, Pause>,
}

/// What a stretch of the feed says of one job.
struct News {
    item: FeedItem,
    /// The newest change that was more than progress.
    changed: Option<u64>,
    deleted: bool,
}

pub(super) struct Follower {
    pub(super) shared: Arc<Shared>,
    pub(super) tail: Arc<dyn Tail>,
    pub(super) messages: mpsc::Sender<Message>,
    pub(super) position: FeedCursor,
}

impl Follower {
    /// Follows until it is told to stop, or nobody listens any more.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&mut self) {
        let mut pauses = PAUSES.build();
        let mut failed = 0_usize;
        loop {
            self.tail.woken().await;
            loop {
                match self.step().await {
                    Ok(Some(more)) => {
                        self.shared.reach.note(Side::Hearing, true);
                        self.shared.reach.note(Side::Understanding, true);
                        pauses = PAUSES.build();
                        failed = 0;
                        if !more {
                            break;
                        }
                    }
                    Ok(None) => return,
                    Err(error) => {
                        // Others use what it is reached by: that says nothing of the store.
                        failed += usize::from(!matches!(error, StoreError::Busy(_)));
                        let is_away = matches!(error, StoreError::Unavailable(_));
                        if is_away {
                            self.shared.reach.note(Side::Hearing, false);
                        } else if failed >= DEAF_AFTER {
                            self.shared.reach.note(Side::Understanding, false);
                        }
                        if !is_away {
                            tracing::warn!(%error, "what others did could not be read; trying again");
                        }
                        tokio::time::sleep(pauses.next().unwrap_or_default()).await;
                    }
                }
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Reads and tells one stretch; answers whether there is more, and nothing if nobody listens.
    async fn step(&mut self) -> Result<Option<bool>, StoreError> {
        let asked = monotonic_now();
        let stretch = self.tail.read(&self.position).await?;
        self.shared.clock.hear(stretch.now, asked.elapsed());
        let heard = heard(&stretch, &self.position);
        if !stretch.until.is_of_the_era_of(&self.position) {
            // What was lost with the former one nobody knows. Whoever comes back with a revision is told if it was.
            tracing::warn!("the database has failed over: those who watch have to begin again");
            self.shared.own_jobs.clear();
            self.shared.hub.begin_anew(stretch.until.clone());
            self.position = stretch.until;
            let told = self.messages.send(Message::Heard(heard)).await;
            return Ok(told.ok().map(|()| false));
        }
        let mut news = gather(&stretch);
        let follows = self.read_jobs(&mut news).await?;
        self.tell(news, stretch.until, follows);
        let told = self.messages.send(Message::Heard(heard)).await;
        Ok(told.ok().map(|()| stretch.more))
    }

    /// Reads the jobs that somebody watches, and all of them for followers as long as they are not too large together; answers whether these have all.
    async fn read_jobs(&self, news: &mut HashMap<JobKey, News>) -> Result<bool, StoreError> {
        let hub = &self.shared.hub;
        let mut follows = hub.has_followers();
        let mut wanted: Vec<JobKey> = Vec::new();
        for (key, news) in news.iter_mut().filter(|(_, news)| !news.deleted) {
            let revision = news.item.revision;
            if !follows && hub.has_told(key, revision) {
                continue;
            }
            news.item.job = self.shared.own_jobs.take(key, revision);
            if news.item.job.is_none() {
                wanted.push(key.clone());
            }
        }
        let (mut at_once, most) = JOBS_AT_ONCE;
        let mut bytes = 0;
        while !wanted.is_empty() {
            let rest = wanted.split_off(at_once.min(wanted.len()));
            let mut read = 0;
            for job in self.tail.jobs(&wanted).await? {
                read += job.memory_bytes();
                let key = job.key();
                if let Some(news) = news.get_mut(&key)
                    && (follows || hub.is_watched(&key))
                {
                    news.item.job = Some(job);
                }
            }
            at_once = match read > BYTES_AT_ONCE {
                true => (at_once / 2).max(1),
                false => (at_once * 2).min(most),
            };
            bytes += read;
            wanted = rest;
            if follows && bytes > BYTES_FOR_FOLLOWERS {
                follows = false;
                wanted.retain(|key| hub.is_watched(key));
                for (_, news) in news.iter_mut().filter(|(key, _)| !hub.is_watched(key)) {
                    news.item.job = None;
                }
            }
            if !follows {
                self.tell_watchers(news);
            }
        }
        Ok(follows)
    }

    /// Tells those who watch a job, and keeps no more of it than they.
    fn tell_watchers(&self, news: &mut HashMap<JobKey, News>) {
        for (key, news) in news.iter_mut() {
            if let Some(job) = news.item.job.take() {
                let version = Some(version(&job, news));
                self.shared.hub.catch_up(key, version, news.changed, false);
            }
        }
    }

    fn tell(&mut self, news: HashMap<JobKey, News>, until: FeedCursor, follows: bool) {
        let hub = &self.shared.hub;
        for (key, news) in &news {
            let version = news.item.job.as_ref().map(|job| version(job, news));
            hub.catch_up(key, version, news.changed, news.deleted);
        }
        // Otherwise most jobs were not read.
        let items = follows.then(|| {
            let mut items: Vec<FeedItem> = news.into_values().map(|news| news.item).collect();
            items.sort_unstable_by_key(|item| item.position);
            items
        });
        hub.publish_feed(until.clone(), items);
        self.position = until;
    }
}

/// Tells the others which workers are connected here, and at the end that nobody is here any more.
pub(super) async fn announce(
    tail: Arc<dyn Tail>,
    messages: mpsc::Sender<Message>,
    stop: CancellationToken,
) {
    let mut interval = tokio::time::interval(ANNOUNCE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        let (reply, roster) = oneshot::channel();
        if messages.send(Message::Roster(reply)).await.is_err() {
            break;
        }
        let Ok(roster) = roster.await else { break };
        // What can not be told is told the next time.
        let _ = stop.run_until_cancelled(tail.announce(&roster)).await;
    }
    // If that fails, it is forgotten soon.
    let _ = tokio::time::timeout(LEAVE_WITHIN, tail.leave()).await;
}

fn version(job: &Arc<Job>, news: &News) -> Arc<Version> {
    // Read after the events, so it may be newer than they, by who knows what.
    let progress_only = news.changed.is_none() && job.revision == news.item.revision;
    Version::new(Arc::clone(job), progress_only)
}

fn gather(stretch: &Stretch) -> HashMap<JobKey, News> {
    let mut news: HashMap<JobKey, News> = HashMap::new();
    for (position, event) in &stretch.events {
        let key = event.job_key();
        let entry = news.entry(key.clone()).or_insert_with(|| News {
            item: FeedItem {
                first_position: *position,
                position: *position,
                key,
                job: None,
                from_revision: event.revision.saturating_sub(1),
                revision: event.revision,
                before: event.before,
            },
            changed: None,
            deleted: false,
        });
        entry.item.position = *position;
        entry.item.revision = event.revision;
        entry.deleted |= event.kind == EventKind::JobDeleted;
        if !event.kind.is_progress() {
            entry.changed = Some(event.revision);
        }
    }
    news
}

fn heard(stretch: &Stretch, position: &FeedCursor) -> Heard {
    let events = || stretch.events.iter().map(|(_, event)| event);
    let changed = events().filter(|event| event.kind.may_concern_holders());
    let paused = stretch.paused.iter().cloned();
    Heard {
        // Without news it is a look because time has passed, and something may have been missed.
        ready_of: (!stretch.events.is_empty()).then(|| {
            let readying = events().filter(|event| event.kind.may_ready_tasks());
            readying.map(|event| event.tenant.clone()).collect()
        }),
        changed: changed
            .map(|event| (event.job_key(), event.revision))
            .collect(),
        is_gapless: stretch.until.is_of_the_era_of(position),
        paused: paused
            .map(|(driver, since, reason)| (driver, (since, reason)))
            .collect(),
    }
}
