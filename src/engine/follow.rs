//! Following all jobs that match a filter: a listing, and then every change, in the order of commits.
//!
//! Exact: each page of the listing says up to which position of the feed it has seen; a change is told only if the page that would hold its job is older.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Engine, EngineError, fingerprint,
    hub::{Follower, item_bytes},
    query::parse_filter,
};
use crate::{
    domain::{
        Job, JobId, JobKey, Tenant, command::Fingerprint, filter::Filter, submission::Violation,
        wording::Sentence,
    },
    store::{FeedCursor, FeedItem, ListOrder, ListPosition, ListQuery, StoreError},
};

/// Jobs in a message of the listing.
const PAGE: usize = 200;
/// Items that are taken from memory at once, and what was told with the last one.
const STRETCH: usize = 1_000;
/// Bytes, as estimated, of the jobs that are taken from memory at once, and what was told with the last one: about a message's.
const STRETCH_BYTES: usize = 4 * 1024 * 1024;

/// How long a follower waits for a store that can not be reached, before it tries again.
const AWAY_PAUSE: Duration = Duration::from_millis(500);

/// What a follower is told.
#[derive(Clone, Debug)]
pub enum FollowItem {
    /// Jobs of the listing.
    Listed(Vec<Arc<Job>>),
    /// The listing is complete.
    Synced {
        /// Where to go on from.
        cursor: String,
    },
    /// What changed.
    Changes {
        /// In the order of their newest changes.
        changes: Vec<Change>,
        /// Where to go on from.
        cursor: String,
    },
    /// Nothing happened.
    Heartbeat {
        /// Where to go on from; empty before the listing is complete.
        cursor: String,
    },
    /// The server goes; this is the end.
    Draining {
        /// Where to go on from; empty before the listing is complete.
        cursor: String,
    },
}

/// A change of one job.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which.
    pub key: JobKey,
    /// The job as it is; `None` if it was removed.
    pub job: Option<Arc<Job>>,
    /// Whether it matches the filter now.
    pub matches: bool,
    /// The revision before the first change that this stands for.
    pub from_revision: u64,
    /// The newest one.
    pub revision: u64,
    /// The feed's position of the first change.
    first_position: u64,
}

#[derive(Serialize, Deserialize)]
struct Cursor {
    bound_to: Fingerprint,
    position: FeedCursor,
}

fn bound_to(engine: &Engine, tenant: &Tenant, filter: &str) -> Fingerprint {
    let feed = engine.store_info().feed_id;
    fingerprint(&[&feed, tenant.0.as_bytes(), filter.as_bytes()])
}

/// The filter, and the position that the cursor stands for.
fn read(
    engine: &Engine,
    bound_to: Fingerprint,
    filter: &str,
    cursor: &str,
) -> Result<(Filter, Option<FeedCursor>), Vec<Violation>> {
    let sealer = &engine.shared.sealer;
    let resumed = match cursor {
        "" => Ok(None),
        text => match sealer.open_text::<Cursor>(b"follow", text) {
            Ok(cursor) if cursor.bound_to == bound_to => Ok(Some(cursor.position)),
            Ok(_) | Err(_) => Err(Violation::new(
                "cursor",
                Sentence::plain(
                    "foreign-cursor",
                    "is not from a watch of this store with the same filter, as after a restore or a copy of it; begin again without it",
                ),
            )),
        },
    };
    match (parse_filter(filter), resumed) {
        (Ok(filter), Ok(resumed)) => Ok((filter, resumed)),
        (filter, resumed) => Err([filter.err(), resumed.err()]
            .into_iter()
            .flatten()
            .collect()),
    }
}

impl Engine {
    /// What is wrong with a request to follow.
    pub fn check_follow(&self, tenant: &Tenant, filter: &str, cursor: &str) -> Vec<Violation> {
        let bound_to = bound_to(self, tenant, filter);
        let read = read(self, bound_to, filter, cursor);
        read.err().unwrap_or_default()
    }
}

/// Where in its course a follower is.
enum Phase {
    Listing { after: Option<ListPosition> },
    Synced,
    Following,
    Over,
}

/// A page of the listing: jobs down to this id were read when the feed was here.
struct PageEdge {
    last: Option<JobId>,
    seen: FeedCursor,
}

/// See the module.
pub struct JobFollow {
    engine: Engine,
    follower: Follower,
    tenant: Tenant,
    filter: Filter,
    bound_to: Fingerprint,
    heartbeat: Duration,
    phase: Phase,
    /// Changes up to here were told,
    position: FeedCursor,
    /// the last ones of them from here on.
    stretch_from: FeedCursor,
    /// Pages of the listing, newest jobs first, until the feed is past them.
    pages: Vec<PageEdge>,
    spoke: Instant,
}

impl JobFollow {
    pub(super) async fn start(
        engine: &Engine,
        tenant: Tenant,
        filter: &str,
        cursor: &str,
        heartbeat: Duration,
    ) -> Result<Self, EngineError> {
        let shared = &engine.shared;
        if shared.hub.is_draining() {
            return Err(EngineError::Draining);
        }
        let bound_to = bound_to(engine, &tenant, filter);
        let (filter, resumed) =
            read(engine, bound_to, filter, cursor).map_err(EngineError::Invalid)?;
        // Register first, then read, so that nothing falls in between.
        let follower = shared.hub.follow();
        let newest = shared.store.end_of_feed().await?;
        // A cursor of a time that a restored backup does not know begins again.
        let resumed = resumed.filter(|position| newest.includes(position));
        Ok(Self {
            engine: engine.clone(),
            follower,
            tenant,
            filter,
            bound_to,
            heartbeat,
            phase: match resumed {
                Some(_) => Phase::Following,
                None => Phase::Listing { after: None },
            },
            stretch_from: newest.clone(),
            position: resumed.unwrap_or(newest),
            pages: Vec::new(),
            spoke: super::monotonic_now(),
        })
    }

    /// What to say next; `None` after `Draining` or an error.
    ///
    /// # Errors
    /// The store failed.
    pub async fn next(&mut self) -> Option<Result<FollowItem, EngineError>> {
        let item = match self.phase {
            Phase::Listing { after } => self.list(after).await,
            Phase::Synced => {
                self.phase = Phase::Following;
                Ok(FollowItem::Synced {
                    cursor: self.cursor(),
                })
            }
            Phase::Following => self.change().await,
            Phase::Over => return None,
        };
        if matches!(item, Err(_) | Ok(FollowItem::Draining { .. })) {
            self.phase = Phase::Over;
        }
        self.spoke = super::monotonic_now();
        Some(item)
    }

    async fn list(&mut self, after: Option<ListPosition>) -> Result<FollowItem, EngineError> {
        if self.follower.is_draining() {
            return Ok(FollowItem::Draining {
                cursor: String::new(),
            });
        }
        let query = ListQuery {
            tenant: self.tenant.clone(),
            filter: self.filter.clone(),
            order: ListOrder::CreateTimeDesc,
            after,
            limit: PAGE,
        };
        let page = self.engine.shared.store.list(query).await?;
        self.pages.push(PageEdge {
            last: match page.next {
                Some(ListPosition::Job(last)) => Some(last),
                Some(ListPosition::Feed(_)) | None => None,
            },
            seen: page.seen,
        });
        self.phase = match page.next {
            Some(next) => Phase::Listing { after: Some(next) },
            None => Phase::Synced,
        };
        Ok(FollowItem::Listed(page.jobs))
    }

    async fn change(&mut self) -> Result<FollowItem, EngineError> {
        loop {
            let newest = self.follower.newest.borrow_and_update().clone();
            if self.follower.is_draining() {
                // What is untold is told by the next server.
                let cursor = self.cursor();
                return Ok(FollowItem::Draining { cursor });
            }
            if !newest.is_of_the_era_of(&self.position) {
                return Err(EngineError::FailedOver);
            }
            let alarm = self.spoke + self.heartbeat;
            if newest.is_ahead_of(&self.position) {
                let items = match self.stretch(newest).await {
                    Err(EngineError::Store(StoreError::Unavailable(_) | StoreError::Busy(_))) => {
                        // It comes back, and with it what is missed now.
                        if super::monotonic_now() >= alarm {
                            let cursor = self.cursor();
                            return Ok(FollowItem::Heartbeat { cursor });
                        }
                        let again = alarm.min(super::monotonic_now() + AWAY_PAUSE);
                        let _ =
                            tokio::time::timeout_at(again, self.follower.newest.changed()).await;
                        continue;
                    }
                    items => items?,
                };
                let changes: Vec<Change> = items
                    .into_iter()
                    .filter_map(|item| self.judge(item))
                    .collect();
                let told = &self.position;
                self.pages.retain(|page| page.seen.is_ahead_of(told));
                if !changes.is_empty() {
                    let cursor = self.cursor();
                    return Ok(FollowItem::Changes { changes, cursor });
                }
                // Whoever has much to catch up with that is none of its business is told how far it is.
                if super::monotonic_now() >= alarm {
                    let cursor = self.cursor();
                    return Ok(FollowItem::Heartbeat { cursor });
                }
                continue;
            }
            match tokio::time::timeout_at(alarm, self.follower.newest.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(EngineError::Stopped),
                Err(_elapsed) => {
                    let cursor = self.cursor();
                    return Ok(FollowItem::Heartbeat { cursor });
                }
            }
        }
    }

    /// The next stretch of the feed, from memory if it is there; moves the position on.
    async fn stretch(&mut self, newest: FeedCursor) -> Result<Vec<FeedItem>, EngineError> {
        self.stretch_from = self.position.clone();
        if self.pages.is_empty()
            && let Some(items) = self.remembered()
        {
            return Ok(items);
        }
        // No stretch goes across the position of a page, so that its changes are either all in the page or none is.
        let edges = self.pages.iter().map(|page| page.seen.clone());
        let edges = edges.filter(|seen| seen.is_ahead_of(&self.position));
        let until = edges.fold(newest, FeedCursor::min);
        let store = &self.engine.shared.store;
        let (items, until) = store.feed(&self.tenant, &self.position, &until).await?;
        let kept = items
            .into_iter()
            .filter(|item| !self.is_listed(item, &until))
            .collect();
        self.position = until;
        Ok(kept)
    }

    /// A stretch of items after our position, if all of them are in memory. What was told at once is taken whole.
    fn remembered(&mut self) -> Option<Vec<FeedItem>> {
        let feed = self.follower.feed()?;
        let mut ours = Vec::new();
        let (mut looked, mut bytes) = (0, 0);
        let mut until = None;
        for step in feed.steps_after(&self.position)? {
            if looked >= STRETCH || bytes >= STRETCH_BYTES {
                break;
            }
            looked += step.items.len();
            for item in &step.items {
                if item.key.tenant == self.tenant {
                    bytes += item_bytes(item);
                    ours.push(item.clone());
                }
            }
            until = Some(&step.until);
        }
        self.position = until?.clone();
        Some(ours)
    }

    /// Whether the listing has told this already: the page that holds the job was read after `until`.
    fn is_listed(&self, item: &FeedItem, until: &FeedCursor) -> bool {
        let page = self
            .pages
            .iter()
            .find(|page| page.last.is_none_or(|last| item.key.job >= last));
        page.is_some_and(|page| page.seen.includes(until))
    }

    /// What a change means to this follower, if anything.
    fn judge(&self, item: FeedItem) -> Option<Change> {
        let matches = item
            .job
            .as_ref()
            .is_some_and(|job| self.filter.matches(job));
        let matched = match (&item.job, item.before) {
            (Some(job), Some((state, status))) => self.filter.may_have_matched(job, state, status),
            // It was new.
            (Some(_), None) => false,
            // It was removed, and what it was is not known any more.
            (None, _) => true,
        };
        (matches || matched).then_some(Change {
            key: item.key,
            job: item.job,
            matches,
            from_revision: item.from_revision,
            revision: item.revision,
            first_position: item.first_position,
        })
    }

    /// Where to go on from if these changes, the last ones of an item, were not told: before the first of all their changes. What was told and is newer
    /// is told again.
    pub fn cursor_before(&self, untold: &[Change]) -> String {
        let first = untold.iter().map(|change| change.first_position).min();
        match first {
            Some(first) => {
                let before = first.saturating_sub(1);
                self.cursor_at(&self.stretch_from.on_the_way(&self.position, before))
            }
            None => self.cursor(),
        }
    }

    fn cursor(&self) -> String {
        self.cursor_at(&self.position)
    }

    fn cursor_at(&self, position: &FeedCursor) -> String {
        let cursor = Cursor {
            bound_to: self.bound_to,
            position: position.clone(),
        };
        self.engine.shared.seal_text(b"follow", &cursor)
    }
}
