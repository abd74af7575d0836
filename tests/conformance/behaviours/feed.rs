//! What those who follow a tenant's jobs are told.

use longhaul::domain::{JobState, Status, Tenant, event::EventKind};

use crate::fixture::*;

pub async fn the_feed_tells_each_job_once(mut stored: Stored) {
    let acme = Tenant::new("acme");
    let (feed, upto) = stored.store.feed(&acme, 0, 0).await.unwrap();
    assert!(feed.is_empty());
    assert_eq!(upto, 0);

    let (mut one, two) = (job("acme", 1), job("acme", 2));
    stored.submit(&one).await;
    stored.submit(&two).await;
    for _ in 0..2 {
        one.revision += 1;
        stored.change(&one, EventKind::TaskProgress).await;
    }
    let (feed, upto) = stored.store.feed(&acme, 0, 4).await.unwrap();
    assert_eq!(upto, 4);
    assert_eq!(feed.len(), 2);
    assert_eq!(feed[0].key, two.key());
    assert_eq!((feed[0].position, feed[0].before), (2, None));
    assert_eq!(feed[1].job.as_deref(), Some(&one));
    let range = |item: &longhaul::store::FeedItem| (item.from_revision, item.revision);
    assert_eq!((feed[1].position, range(&feed[1])), (4, (0, 3)));
    assert_eq!((feed[0].first_position, feed[1].first_position), (2, 1));

    // From the middle, what was before is told, and the stretch ends where its limit says.
    let (feed, upto) = stored.store.feed(&acme, 2, 3).await.unwrap();
    assert_eq!((upto, feed.len(), range(&feed[0])), (3, 1, (1, 2)));
    assert_eq!(feed[0].before, Some((JobState::Queued, Status::Normal)));
    let (feed, upto) = stored.store.feed(&acme, 4, 4).await.unwrap();
    assert!(feed.is_empty());
    assert_eq!(upto, 4);
}

pub async fn the_feed_is_of_one_tenant(mut stored: Stored) {
    stored.submit(&job("acme", 1)).await;
    stored.submit(&job("umbrella", 2)).await;
    stored.submit(&job("umbrella", 3)).await;
    let acme = Tenant::new("acme");
    let (feed, upto) = stored.store.feed(&acme, 0, 3).await.unwrap();
    assert_eq!((feed.len(), upto), (1, 3));
    // Others' events count as looked at.
    let (feed, upto) = stored.store.feed(&acme, 1, 2).await.unwrap();
    assert_eq!((feed.len(), upto), (0, 2));
}

pub async fn the_feed_tells_of_removed_jobs(mut stored: Stored) {
    let job = job("acme", 1);
    stored.submit(&job).await;
    stored.remove(&job, at(1)).await;
    let (feed, upto) = stored.store.feed(&job.tenant, 0, 2).await.unwrap();
    assert_eq!((feed.len(), upto), (1, 2));
    assert!(feed[0].job.is_none());
    assert_eq!(feed[0].key, job.key());
    assert_eq!((feed[0].from_revision, feed[0].revision), (1, 2));
}
