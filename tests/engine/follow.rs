//! Following many jobs: the listing and the changes together tell every revision of every job once, wherever the follower was interrupted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use longhaul::{
    domain::{JobId, JobState},
    engine::{FollowItem, JobFollow},
};

use crate::rig::{Rig, coming, everything, rig, rig_whose_feed_takes, submission, tenant};

async fn follow(rig: &Rig, filter: &str, cursor: &str) -> JobFollow {
    rig.engine
        .follow(tenant(), filter, cursor, Duration::from_secs(600))
        .await
        .unwrap()
}

/// What a follower knows, and a check that what it is told fits to that.
#[derive(Default)]
struct Known {
    revisions: HashMap<JobId, u64>,
    cursor: String,
}

impl Known {
    fn take(&mut self, item: FollowItem) -> bool {
        match item {
            FollowItem::Listed(jobs) => {
                for job in jobs {
                    assert!(
                        self.revisions.insert(job.id, job.revision).is_none(),
                        "listed twice"
                    );
                }
                false
            }
            FollowItem::Changes { changes, cursor } => {
                for change in changes {
                    let known = self.revisions.insert(change.key.job, change.revision);
                    assert_eq!(known.unwrap_or(0), change.from_revision, "{change:?}");
                }
                self.cursor = cursor;
                false
            }
            FollowItem::Synced { cursor } => {
                self.cursor = cursor;
                true
            }
            FollowItem::Heartbeat { .. } | FollowItem::Draining { .. } => true,
        }
    }

    async fn until(&mut self, follow: &mut JobFollow, jobs: &[JobId], revision: u64) {
        while jobs
            .iter()
            .any(|job| self.revisions.get(job).is_none_or(|r| *r < revision))
        {
            let item = coming(&format!("revision {revision}"), follow.next()).await;
            self.take(item.unwrap().unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listing_and_the_changes_fit_together() {
    let rig = rig().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        let batch = (0..100).map(|_| submission(&["d"])).collect();
        let answers = rig.engine.submit(batch).await.unwrap();
        ids.extend(answers.into_iter().map(|a| a.unwrap().0.id));
    }
    let mut follower = follow(&rig, "", "").await;
    let mut known = Known::default();
    let mut leases = Vec::new();
    // Change jobs between the pages of the listing: in pages that were read, and in pages that were not.
    loop {
        let drivers = [Arc::from("d")].into();
        let grants = rig
            .engine
            .acquire(&everything(), "worker".into(), drivers, 60, None)
            .await
            .unwrap();
        for grant in grants {
            rig.succeed(&grant.lease).await;
            leases.push(grant.lease);
        }
        if known.take(follower.next().await.unwrap().unwrap()) {
            break;
        }
    }
    ids.push(rig.submit(&["d"]).await.id);
    while let Some(grant) = {
        let drivers = [Arc::from("d")].into();
        rig.engine
            .acquire(&everything(), "worker".into(), drivers, 1, None)
            .await
            .unwrap()
            .pop()
    } {
        rig.succeed(&grant.lease).await;
    }
    known.until(&mut follower, &ids, 3).await;
    assert_eq!(known.revisions.len(), ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_goes_on_exactly_where_it_was() {
    let rig = rig().await;
    let one = rig.submit(&["d"]).await;
    let mut known = Known::default();
    let mut first = follow(&rig, "", "").await;
    while !known.take(first.next().await.unwrap().unwrap()) {}
    drop(first);
    let lease = rig.lease("d").await.lease;
    rig.progress(&lease, 1).await;
    let mut second = follow(&rig, "", &known.cursor.clone()).await;
    known.until(&mut second, &[one.id], 3).await;
    drop(second);
    rig.succeed(&lease).await;
    let mut third = follow(&rig, "", &known.cursor.clone()).await;
    known.until(&mut third, &[one.id], 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_tells_who_comes_and_who_leaves() {
    let rig = rig().await;
    let job = rig.submit(&["d"]).await;
    let mut follower = follow(&rig, "state = RUNNING", "").await;
    while !matches!(
        follower.next().await.unwrap().unwrap(),
        FollowItem::Synced { .. }
    ) {}
    let lease = rig.lease("d").await.lease;
    let FollowItem::Changes { changes, .. } = follower.next().await.unwrap().unwrap() else {
        panic!("it came");
    };
    assert!(changes[0].matches && changes[0].key == job.key());
    rig.succeed(&lease).await;
    let FollowItem::Changes { changes, .. } = follower.next().await.unwrap().unwrap() else {
        panic!("it left");
    };
    assert!(!changes[0].matches);
    assert_eq!(changes[0].job.as_ref().unwrap().state, JobState::Succeeded);
    // A cursor is good for its own filter alone.
    let mut known = Known::default();
    let mut all = follow(&rig, "", "").await;
    while !known.take(all.next().await.unwrap().unwrap()) {}
    let other = rig.engine.follow(
        tenant(),
        "state = RUNNING",
        &known.cursor,
        Duration::from_secs(600),
    );
    assert!(other.await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_on_the_time_of_change_tells_who_leaves() {
    let rig = rig().await;
    let job = rig.submit(&["d"]).await;
    let time = jiff::Timestamp::from_microsecond(job.update_time.as_micros()).unwrap();
    let filter = format!("update_time <= \"{time}\"");
    let mut follower = follow(&rig, &filter, "").await;
    let mut known = Known::default();
    while !known.take(follower.next().await.unwrap().unwrap()) {}
    assert!(known.revisions.contains_key(&job.id));
    rig.lease("d").await;
    let item = coming("that it left", follower.next()).await;
    let FollowItem::Changes { changes, .. } = item.unwrap().unwrap() else {
        panic!("it left");
    };
    assert!(!changes[0].matches && changes[0].key == job.key());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_before_untold_changes_skips_none_of_them() {
    let rig = rig().await;
    let one = rig.submit(&["d"]).await;
    let mut known = Known::default();
    let mut first = follow(&rig, "state = QUEUED", "").await;
    while !known.take(first.next().await.unwrap().unwrap()) {}
    // The feed is read from the store, where a job's changes are merged: one left before the other came, and changed again after it.
    drop(first);
    let lease = rig.lease("d").await.lease;
    let other = rig.submit(&["e"]).await;
    rig.progress(&lease, 1).await;
    let mut second = follow(&rig, "state = QUEUED", &known.cursor).await;
    let FollowItem::Changes { changes, .. } = second.next().await.unwrap().unwrap() else {
        panic!("both changed");
    };
    let told: Vec<JobId> = changes.iter().map(|change| change.key.job).collect();
    assert_eq!(told, [other.id, one.id]);

    let cursor = second.cursor_before(&changes[1..]);
    let mut third = follow(&rig, "state = QUEUED", &cursor).await;
    let told = coming("the change that was not told", third.next()).await;
    let FollowItem::Changes { changes, .. } = told.unwrap().unwrap() else {
        panic!("one was not told");
    };
    let left = changes.iter().find(|change| change.key.job == one.id);
    assert!(left.is_some_and(|change| !change.matches), "{changes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_without_events_have_no_place_in_the_feed() {
    let rig = rig().await;
    let job = rig.submit(&["d"]).await;
    let mut follower = follow(&rig, "", "").await;
    let mut known = Known::default();
    while !known.take(follower.next().await.unwrap().unwrap()) {}
    let lease = rig.lease("d").await.lease;
    known.until(&mut follower, &[job.id], 2).await;
    for _ in 0..3 {
        rig.report(&lease, longhaul::domain::command::Report::Heartbeat)
            .await;
        // It looks after each: had it gone on to a position that is still free, it would miss the change that gets it.
        let told = follower.next().now_or_never();
        assert!(told.is_none(), "{told:?}");
    }
    rig.succeed(&lease).await;
    known.until(&mut follower, &[job.id], 3).await;
    let mut resumed = follow(&rig, "", &known.cursor.clone()).await;
    let next = rig.submit(&["d"]).await;
    known.until(&mut resumed, &[next.id], 1).await;
}

/// How long a read of the feed takes while much has to be caught up with, and what may be silent.
const READ: Duration = Duration::from_secs(2);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A follower that was away while thousands of events passed that are none of its business.
async fn behind(rig: &Rig) -> String {
    let mut known = Known::default();
    let mut first = follow(rig, "state = FAILED", "").await;
    while !known.take(first.next().await.unwrap().unwrap()) {}
    drop(first);
    for _ in 0..10 {
        let batch = (0..1_000).map(|_| submission(&["d"])).collect();
        rig.engine.submit(batch).await.unwrap();
    }
    known.cursor
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_catches_up_says_how_far_it_is() {
    let rig = rig_whose_feed_takes(READ).await;
    let mut cursors = vec![behind(&rig).await];
    for _ in 0..2 {
        let cursor = cursors.last().unwrap();
        let filter = "state = FAILED";
        let follow = rig.engine.follow(tenant(), filter, cursor, HEARTBEAT);
        let mut follower = follow.await.unwrap();
        let told = tokio::time::timeout(HEARTBEAT + READ, follower.next()).await;
        let told = told.expect("a heartbeat in time").unwrap().unwrap();
        let FollowItem::Heartbeat { cursor } = told else {
            panic!("nothing matches: {told:?}");
        };
        assert!(!cursors.contains(&cursor), "it is further on");
        // Whoever gives up and begins again from there has less to catch up with.
        cursors.push(cursor);
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_catches_up_notices_the_drain() {
    let rig = rig_whose_feed_takes(READ).await;
    let cursor = behind(&rig).await;
    let mut follower = follow(&rig, "state = FAILED", &cursor).await;
    let next = follower.next();
    let drain = async {
        tokio::time::sleep(READ / 2).await;
        rig.engine.drain().await;
    };
    let both = async { tokio::join!(next, drain) };
    let (told, ()) = tokio::time::timeout(2 * READ, both).await.unwrap();
    let told = told.unwrap().unwrap();
    assert!(
        matches!(&told, FollowItem::Draining { cursor: at } if *at != cursor),
        "{told:?}"
    );
}
