//! What a commit tells: new versions to the watchers of a job, and the feed's items to the followers of many.

use std::{collections::HashMap, sync::Arc};

use super::{hub::Hub, topic::Version};
use crate::{
    domain::{
        JobKey,
        command::{Decision, WriteKind},
        event::EventKind,
    },
    store::{FeedCursor, FeedItem},
};

/// What the watchers of one job are told.
#[derive(Default)]
struct Told {
    versions: Vec<Arc<Version>>,
    deleted: bool,
    /// More than progress came since the last version, and was not shown: the next one stands for it.
    has_unshown_change: bool,
}

/// Wakes those who watch, after the commit: with its place in the feed, if that is known by now.
pub(super) fn publish(hub: &Hub, decision: &mut Decision, first_position: Option<u64>) {
    let events = &decision.changes.events;
    let Some(more) = (events.len() as u64).checked_sub(1) else {
        // What holders alone can see, such as an extended lease, has no place in the feed.
        return;
    };
    let mut told: HashMap<JobKey, Told> = HashMap::new();
    let watched = hub.has_watchers();
    for (event, job) in events.iter().zip(&mut decision.history).filter(|_| watched) {
        let key = event.job_key();
        if !hub.is_watched(&key) {
            continue;
        }
        let told = told.entry(key).or_default();
        let is_progress = event.kind.is_progress();
        match job.take() {
            Some(job) => {
                let progress_only = is_progress && !std::mem::take(&mut told.has_unshown_change);
                told.versions.push(Version::new(job, progress_only));
            }
            None => {
                told.has_unshown_change |= !is_progress;
                told.deleted |= event.kind == EventKind::JobDeleted;
            }
        }
    }
    for (key, told) in told {
        hub.publish(&key, told.versions, told.deleted);
    }
    if let Some(first) = first_position {
        // Made before the feed is locked, for which all followers would wait.
        let items = hub.has_followers().then(|| feed_items(decision, first));
        hub.publish_feed(FeedCursor::at(first + more), items);
    }
}

/// The feed's view of a commit: each job once.
fn feed_items(decision: &Decision, first_position: u64) -> Vec<FeedItem> {
    let mut items: HashMap<JobKey, FeedItem> = HashMap::new();
    for (position, event) in (first_position..).zip(&decision.changes.events) {
        let key = event.job_key();
        let item = items.entry(key.clone()).or_insert_with(|| FeedItem {
            first_position: position,
            position,
            key,
            job: None,
            from_revision: event.revision - 1,
            revision: event.revision,
            before: event.before,
        });
        item.position = position;
        item.revision = event.revision;
    }
    for write in &decision.changes.jobs {
        if write.how != WriteKind::Delete
            && let Some(item) = items.get_mut(&write.job.key())
        {
            item.job = Some(write.job.clone());
        }
    }
    let mut items: Vec<FeedItem> = items.into_values().collect();
    items.sort_unstable_by_key(|item| item.position);
    items
}
