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
use crate::{domain::JobKey, store::FeedItem};

/// Items of the feed that are held for followers.
const FEED_ITEMS: usize = 8_192;
/// Bytes, as estimated, of the jobs in these items.
const FEED_BYTES: usize = 64 * 1024 * 1024;

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

/// Bytes of an item's job, as estimated.
pub(super) fn item_bytes(item: &FeedItem) -> usize {
    item.job.as_ref().map_or(0, |job| job.memory_bytes())
}

/// See the module.
pub(super) struct Hub {
    topics: DashMap<JobKey, Arc<Topic>>,
    followers: AtomicUsize,
    feed: RwLock<Feed>,
    newest: watch::Sender<u64>,
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

    /// Registers a follower of many jobs.
    pub(super) fn follow(self: &Arc<Self>) -> Follower {
        // A commit either sees the follower, or is behind the beginning of the feed's memory.
        self.followers.fetch_add(1, Ordering::AcqRel);
        Follower {
            hub: Arc::clone(self),
            newest: self.newest.subscribe(),
        }
    }

    /// Tells followers of a commit; `items` is asked for only if there are any.
    pub(super) fn publish_feed(&self, newest: u64, items: impl FnOnce() -> Vec<FeedItem>) {
        // Made before the lock is taken, for which all followers would wait. Whoever comes in between reads from the store.
        let items = (self.followers.load(Ordering::Acquire) > 0).then(items);
        {
            let poisoned = self.feed.is_poisoned();
            let mut feed = self.feed.write().unwrap_or_else(PoisonError::into_inner);
            match items {
                Some(items) if !poisoned => feed.remember(newest, items),
                // What was left half done is forgotten; followers find it in the store.
                Some(_) | None => feed.forget_all(newest),
            }
            feed.newest = newest;
            self.feed.clear_poison();
        }
        self.newest.send_replace(newest);
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
        let hub = Hub::new(3);
        let follower = hub.follow();
        let breaks = Arc::clone(&hub);
        let broken = std::thread::spawn(move || {
            let _feed = breaks.feed.write();
            panic!("in the middle");
        });
        assert!(broken.join().is_err());
        assert!(follower.feed().is_none());
        hub.publish_feed(7, Vec::new);
        assert_eq!(*follower.newest.borrow(), 7);
        let feed = follower.feed().expect("it is whole again");
        assert_eq!((feed.after, feed.newest), (7, 7));
    }
}
