//! The watch hub: who is told of which change.
//!
//! A watched job has one topic with its newest versions, shared by all its watchers; a watcher holds a reference and the revision it has seen, never a
//! queue. A version is encoded once, by whoever sends it first. Followers of many jobs share one bounded stretch of the feed and fall back on the store
//! when they are behind it. The hub must not know rules, nor what an encoded job looks like.

use std::{
    collections::VecDeque,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use dashmap::DashMap;
use tokio::sync::watch;

use super::topic::{News, Seat, Topic, Version};
use crate::{
    domain::JobKey,
    store::{FeedCursor, FeedItem},
};

/// Items of the feed that are held for followers.
const FEED_ITEMS: usize = 8_192;
/// Bytes, as estimated, of the jobs in these items.
const FEED_BYTES: usize = 64 * 1024 * 1024;

/// The end of the feed, in memory.
#[derive(Debug)]
pub(super) struct Feed {
    /// How far it goes.
    pub(super) newest: FeedCursor,
    /// What was told at once: a commit, or what others have committed. Each begins where the one before ends; the last one ends at `newest`.
    pub(super) steps: VecDeque<Step>,
    items: usize,
    bytes: usize,
}

/// What followers are told at once.
#[derive(Debug)]
pub(super) struct Step {
    /// It begins here,
    pub(super) after: FeedCursor,
    /// and ends here.
    pub(super) until: FeedCursor,
    /// In the order of their newest changes.
    pub(super) items: Vec<FeedItem>,
}

impl Feed {
    fn new(newest: FeedCursor) -> Self {
        Self {
            newest,
            steps: VecDeque::new(),
            items: 0,
            bytes: 0,
        }
    }

    /// Adds a step, and forgets the oldest ones beyond what may be held.
    fn remember(&mut self, until: FeedCursor, items: Vec<FeedItem>) {
        self.items += items.len();
        self.bytes += items.iter().map(item_bytes).sum::<usize>();
        let after = std::mem::replace(&mut self.newest, until.clone());
        self.steps.push_back(Step {
            after,
            until,
            items,
        });
        while (self.items > FEED_ITEMS || self.bytes > FEED_BYTES || self.steps.len() > FEED_ITEMS)
            && let Some(oldest) = self.steps.pop_front()
        {
            self.items -= oldest.items.len();
            self.bytes -= oldest.items.iter().map(item_bytes).sum::<usize>();
        }
    }

    /// The steps from here on; none if something in between is not held any more.
    pub(super) fn steps_after(&self, position: &FeedCursor) -> Option<impl Iterator<Item = &Step>> {
        let first = self.steps.partition_point(|step| step.after < *position);
        let next = self.steps.get(first)?;
        (next.after == *position).then(|| self.steps.range(first..))
    }
}

/// Bytes of an item's job, as estimated.
pub(super) fn item_bytes(item: &FeedItem) -> usize {
    item.job.as_ref().map_or(0, |job| job.memory_bytes())
}

/// See the module.
pub(super) struct Hub {
    topics: DashMap<JobKey, Arc<Topic>>,
    followers: AtomicUsize,
    feed: RwLock<Feed>,
    newest: watch::Sender<FeedCursor>,
    draining: AtomicBool,
}

/// A watcher's seat at a topic. The topic goes when the last one is given up.
pub(super) struct Subscription {
    hub: Arc<Hub>,
    key: JobKey,
    topic: Arc<Topic>,
    seat: Seat,
}

/// A follower's hold on the feed.
pub(super) struct Follower {
    hub: Arc<Hub>,
    pub(super) newest: watch::Receiver<FeedCursor>,
}

impl Hub {
    pub(super) fn new(end_of_feed: FeedCursor) -> Arc<Self> {
        Arc::new(Self {
            topics: DashMap::new(),
            followers: AtomicUsize::new(0),
            feed: RwLock::new(Feed::new(end_of_feed.clone())),
            newest: watch::Sender::new(end_of_feed),
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
        // The seat is taken while the map holds the topic, or it might go in between.
        let topic = self
            .topics
            .entry(key.clone())
            .or_insert_with(|| Arc::new(Topic::new(self.is_draining())));
        let seat = topic.take_seat();
        Subscription {
            hub: Arc::clone(self),
            key: key.clone(),
            topic: Arc::clone(&topic),
            seat,
        }
    }

    /// Offers a job as it was read, to watchers that come later. Nobody is woken: it is not news.
    pub(super) fn seed(&self, version: &Arc<Version>) {
        if let Some(topic) = self.topics.get(&version.job.key()) {
            topic.seed(version);
        }
    }

    /// Tells the watchers of a job its new versions, oldest first.
    pub(super) fn publish(&self, key: &JobKey, versions: Vec<Arc<Version>>, deleted: bool) {
        let topic = self.topics.get(key).map(|topic| Arc::clone(&topic));
        if let Some(topic) = topic {
            topic.tell(|news| {
                news.deleted |= deleted;
                for version in versions {
                    news.push(version);
                }
            });
        }
    }

    /// Whether the watchers of a job, if there are any, have been told of this revision or a newer one.
    pub(super) fn has_told(&self, key: &JobKey, revision: u64) -> bool {
        let topic = self.topics.get(key);
        topic.is_none_or(|topic| topic.has_told(revision))
    }

    /// Tells the watchers of a job what others did to it, unless they know: its newest version, and the newest revision with more than progress.
    pub(super) fn catch_up(
        &self,
        key: &JobKey,
        version: Option<Arc<Version>>,
        changed: Option<u64>,
        deleted: bool,
    ) {
        let topic = self.topics.get(key).map(|topic| Arc::clone(&topic));
        if let Some(topic) = topic {
            topic.tell_if(|news| news.catch_up(version, changed, deleted));
        }
    }

    /// Registers a follower of many jobs.
    pub(super) fn follow(self: &Arc<Self>) -> Follower {
        // A commit either sees the follower, or is behind the beginning of the feed's memory.
        self.followers.fetch_add(1, Ordering::AcqRel);
        Follower {
            hub: Arc::clone(self),
            newest: self.newest.subscribe(),
        }
    }

    /// Whether anybody follows the feed.
    pub(super) fn has_followers(&self) -> bool {
        self.followers.load(Ordering::Acquire) > 0
    }

    /// Tells followers how far the feed goes now, with what is between there and here. Without that, which need not be made if nobody follows, whoever
    /// comes in the meantime reads from the store.
    pub(super) fn publish_feed(&self, newest: FeedCursor, items: Option<Vec<FeedItem>>) {
        {
            let poisoned = self.feed.is_poisoned();
            let mut feed = self.feed.write().unwrap_or_else(PoisonError::into_inner);
            match items {
                Some(items) if !poisoned => feed.remember(newest.clone(), items),
                // What was left half done is forgotten; followers find it in the store.
                Some(_) | None => *feed = Feed::new(newest.clone()),
            }
            self.feed.clear_poison();
        }
        self.newest.send_replace(newest);
    }

    /// Ends every watch with an error: what was told may never have been.
    pub(super) fn begin_anew(&self, newest: FeedCursor) {
        let keys: Vec<JobKey> = self
            .topics
            .iter()
            .map(|topic| topic.key().clone())
            .collect();
        for (_, topic) in keys.iter().filter_map(|key| self.topics.remove(key)) {
            topic.tell(|news| news.void = true);
        }
        self.publish_feed(newest, None);
    }

    /// Ends every watch: each says so and stops.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        let topics: Vec<Arc<Topic>> = self.topics.iter().map(|topic| Arc::clone(&topic)).collect();
        for topic in topics {
            topic.tell(|news| news.draining = true);
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

    /// The newest version that the topic holds.
    pub(super) fn newest(&self) -> Option<Arc<Version>> {
        self.topic.newest()
    }

    /// Resolves when `look` finds something in the news; it is called again after each change.
    pub(super) fn poll_news<T>(
        &self,
        cx: &mut Context<'_>,
        look: impl FnOnce(&News) -> Option<T>,
    ) -> Poll<T> {
        self.topic.poll_news(&self.seat, cx, look)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topic.give_up(&self.seat);
        self.hub
            .topics
            .remove_if(&self.key, |_, topic| topic.is_empty());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_hear_of_commits_though_the_feed_was_left_half_done() {
        let hub = Hub::new(FeedCursor::at(3));
        let follower = hub.follow();
        let breaks = Arc::clone(&hub);
        let broken = std::thread::spawn(move || {
            let _feed = breaks.feed.write();
            panic!("in the middle");
        });
        assert!(broken.join().is_err());
        assert!(follower.feed().is_none());
        hub.publish_feed(FeedCursor::at(7), Some(Vec::new()));
        assert_eq!(*follower.newest.borrow(), FeedCursor::at(7));
        let feed = follower.feed().expect("it is whole again");
        assert_eq!((feed.steps.len(), &feed.newest), (0, &FeedCursor::at(7)));
    }
}
