//! The watch hub: who is told of which change.
//!
//! A watched job has one topic with its newest versions, shared by all its watchers; a watcher holds a reference and the revision it has seen, never a
//! queue. A version is encoded once, by whoever sends it first. Followers of many jobs share one bounded stretch of the feed and fall back on the store
//! when they are behind it. The hub must not know rules, nor what an encoded job looks like.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use dashmap::DashMap;
use tokio::sync::watch;

use crate::{
    domain::{Job, JobKey},
    store::FeedItem,
};

/// Versions of a job that a topic holds: a watcher that is not further behind sees each change of state on its own.
const VERSIONS: usize = 8;
/// Items of the feed that are held for followers.
const FEED_ITEMS: usize = 8_192;
/// Bytes, as estimated, of the jobs in these items.
const FEED_BYTES: usize = 64 * 1024 * 1024;
/// Forms in which front ends encode a job, such as the views of the gRPC API.
pub const FORMS: usize = 4;

/// A job at one revision, with its encoded forms.
#[derive(Debug)]
pub struct Version {
    /// The job.
    pub job: Arc<Job>,
    /// It differs from the one before in progress alone.
    pub(super) progress_only: bool,
    encoded: [OnceLock<Bytes>; FORMS],
}

impl Version {
    pub(super) fn new(job: Arc<Job>, progress_only: bool) -> Arc<Self> {
        Arc::new(Self {
            job,
            progress_only,
            encoded: Default::default(),
        })
    }

    /// The job in a form, encoded by the first caller for all.
    pub fn encoded(&self, form: usize, encode: impl FnOnce(&Job) -> Bytes) -> &Bytes {
        self.encoded[form].get_or_init(|| encode(&self.job))
    }
}

/// What the watchers of one job see.
#[derive(Debug, Default)]
pub(super) struct Topic {
    /// The newest versions, oldest first.
    pub(super) versions: VecDeque<Arc<Version>>,
    pub(super) deleted: bool,
    pub(super) draining: bool,
}

impl Topic {
    fn push(&mut self, version: Arc<Version>) {
        if let Some(last) = self.versions.back()
            && version.job.revision <= last.job.revision
        {
            return;
        }
        let merge =
            version.progress_only && self.versions.back().is_some_and(|last| last.progress_only);
        if merge || self.versions.len() >= VERSIONS {
            let drop = if merge { self.versions.len() - 1 } else { 0 };
            self.versions.remove(drop);
        }
        self.versions.push_back(version);
    }
}

/// A stretch of the feed, in memory.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// Items after this position are all here.
    pub(super) after: u64,
    /// The newest position.
    pub(super) newest: u64,
    /// In order of their positions; each with the newest position of its commit.
    pub(super) items: VecDeque<(u64, FeedItem)>,
    bytes: usize,
}

impl Feed {
    fn forget_all(&mut self, newest: u64) {
        self.items.clear();
        self.bytes = 0;
        self.after = newest;
    }

    /// Adds a commit, and forgets the oldest ones beyond what may be held. Commits are forgotten whole.
    fn remember(&mut self, newest: u64, items: Vec<FeedItem>) {
        self.bytes += items.iter().map(item_bytes).sum::<usize>();
        self.items
            .extend(items.into_iter().map(|item| (newest, item)));
        while self.items.len() > FEED_ITEMS || self.bytes > FEED_BYTES {
            let Some(end) = self.items.front().map(|(end, _)| *end) else {
                return;
            };
            while let Some((_, item)) = self.items.pop_front_if(|(e, _)| *e == end) {
                self.bytes -= item_bytes(&item);
            }
            self.after = end;
        }
    }
}

fn item_bytes(item: &FeedItem) -> usize {
    item.job.as_ref().map_or(0, |job| job.memory_bytes())
}

/// See the module.
pub(super) struct Hub {
    topics: DashMap<JobKey, watch::Sender<Topic>>,
    followers: AtomicUsize,
    feed: RwLock<Feed>,
    newest: watch::Sender<u64>,
    draining: AtomicBool,
}

/// A watcher's hold on a topic. The topic goes when the last one is dropped.
pub(super) struct Subscription {
    hub: Arc<Hub>,
    key: JobKey,
    /// `None` only while it is dropped.
    topic: Option<watch::Receiver<Topic>>,
}

/// A follower's hold on the feed.
pub(super) struct Follower {
    hub: Arc<Hub>,
    pub(super) newest: watch::Receiver<u64>,
}

impl Hub {
    pub(super) fn new(position: u64) -> Arc<Self> {
        Arc::new(Self {
            topics: DashMap::new(),
            followers: AtomicUsize::new(0),
            feed: RwLock::new(Feed {
                after: position,
                newest: position,
                items: VecDeque::new(),
                bytes: 0,
            }),
            newest: watch::Sender::new(position),
            draining: AtomicBool::new(false),
        })
    }

    /// Whether any job is watched: asked once for a commit.
    pub(super) fn has_watchers(&self) -> bool {
        !self.topics.is_empty()
    }

    pub(super) fn is_watched(&self, key: &JobKey) -> bool {
        self.topics.contains_key(key)
    }

    /// Registers a watcher: what is committed from now on reaches it.
    pub(super) fn subscribe(self: &Arc<Self>, key: &JobKey) -> Subscription {
        let topic = self
            .topics
            .entry(key.clone())
            .or_insert_with(|| {
                watch::Sender::new(Topic {
                    draining: self.draining.load(Ordering::Acquire),
                    ..Topic::default()
                })
            })
            .subscribe();
        Subscription {
            hub: Arc::clone(self),
            key: key.clone(),
            topic: Some(topic),
        }
    }

    /// Offers a job as it was read, to watchers that come later. Nobody is woken: it is not news. A lone watcher has no use for it, and most jobs have
    /// one watcher, so only the second one's is kept.
    pub(super) fn seed(&self, version: &Arc<Version>) {
        if let Some(topic) = self.topics.get(&version.job.key())
            && topic.receiver_count() > 1
        {
            topic.send_if_modified(|topic| {
                if topic.versions.is_empty() {
                    topic.versions.push_back(Arc::clone(version));
                }
                false
            });
        }
    }

    /// Tells the watchers of a job its new versions, oldest first.
    pub(super) fn publish(&self, key: &JobKey, versions: Vec<Arc<Version>>, deleted: bool) {
        if let Some(topic) = self.topics.get(key) {
            topic.send_modify(|topic| {
                topic.deleted |= deleted;
                for version in versions {
                    topic.push(version);
                }
            });
        }
    }

    /// Registers a follower of many jobs.
    pub(super) fn follow(self: &Arc<Self>) -> Follower {
        // Counted under the lock, so that a commit either sees the follower or is behind the beginning of the feed's memory.
        let _feed = self.feed.read();
        self.followers.fetch_add(1, Ordering::AcqRel);
        Follower {
            hub: Arc::clone(self),
            newest: self.newest.subscribe(),
        }
    }

    /// Tells followers of a commit; `items` is asked for only if there are any.
    pub(super) fn publish_feed(&self, newest: u64, items: impl FnOnce() -> Vec<FeedItem>) {
        {
            let Ok(mut feed) = self.feed.write() else {
                return;
            };
            match self.followers.load(Ordering::Acquire) {
                0 => feed.forget_all(newest),
                _ => feed.remember(newest, items()),
            }
            feed.newest = newest;
        }
        self.newest.send_replace(newest);
    }

    /// Ends every watch: each says so and stops.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        for topic in &self.topics {
            topic.send_modify(|topic| topic.draining = true);
        }
        self.newest.send_modify(|_| {});
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

impl Subscription {
    pub(super) fn key(&self) -> &JobKey {
        &self.key
    }

    pub(super) fn topic(&mut self) -> &mut watch::Receiver<Topic> {
        self.topic
            .as_mut()
            .expect("it is taken only when the subscription is dropped")
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        drop(self.topic.take());
        self.hub
            .topics
            .remove_if(&self.key, |_, topic| topic.receiver_count() == 0);
    }
}

impl Follower {
    /// The stretch of the feed that is in memory.
    pub(super) fn feed(&self) -> Option<RwLockReadGuard<'_, Feed>> {
        self.hub.feed.read().ok()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.hub.is_draining()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.hub.followers.fetch_sub(1, Ordering::AcqRel);
    }
}
