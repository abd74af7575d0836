//! What those who follow a tenant's jobs are told.

use longhaul::{
    domain::{JobState, Status, event::EventKind},
    store::FeedItem,
};

use crate::fixture::*;

pub async fn the_feed_tells_each_job_once(mut stored: Stored) {
    let start = stored.mark().await;
    assert!(stored.feed("acme", &start, &start).await.is_empty());

    let (mut one, two) = (job("acme", 1), job("acme", 2));
    stored.submit(&one).await;
    stored.submit(&two).await;
    let middle = stored.mark().await;
    let mut marks = Vec::new();
    for _ in 0..2 {
        one.revision += 1;
        stored.change(&one, EventKind::TaskProgress).await;
        marks.push(stored.mark().await);
    }
    assert!(marks[0].is_ahead_of(&middle) && marks[1].is_ahead_of(&marks[0]));
    let feed = stored.feed("acme", &start, &marks[1]).await;
    assert_eq!(feed.len(), 2);
    assert_eq!(feed[0].key, two.key());
    assert_eq!(feed[0].before, None);
    assert_eq!(feed[1].job.as_deref(), Some(&one));
    let range = |item: &FeedItem| (item.from_revision, item.revision);
    assert_eq!(range(&feed[1]), (0, 3));
    assert!(feed[1].first_position < feed[0].position && feed[0].position < feed[1].position);
    // Short of its first change the one is untold, and the other too.
    let before = start.on_the_way(&marks[1], feed[1].first_position - 1);
    assert_eq!(stored.feed("acme", &before, &marks[1]).await.len(), 2);
    let between = start.on_the_way(&marks[1], feed[0].position);
    assert!(middle.includes(&between));
    assert_eq!(stored.feed("acme", &between, &marks[1]).await.len(), 1);

    // From the middle, what was before is told, and the stretch ends where its limit says.
    let feed = stored.feed("acme", &middle, &marks[0]).await;
    assert_eq!((feed.len(), range(&feed[0])), (1, (1, 2)));
    assert_eq!(feed[0].before, Some((JobState::Queued, Status::Normal)));
    assert!(stored.feed("acme", &marks[1], &marks[1]).await.is_empty());
}

pub async fn the_feed_is_of_one_tenant(mut stored: Stored) {
    let start = stored.mark().await;
    stored.submit(&job("acme", 1)).await;
    let first = stored.mark().await;
    stored.submit(&job("umbrella", 2)).await;
    stored.submit(&job("umbrella", 3)).await;
    let end = stored.mark().await;
    assert_eq!(stored.feed("acme", &start, &end).await.len(), 1);
    // Others' events count as looked at.
    assert!(stored.feed("acme", &first, &end).await.is_empty());
}

pub async fn the_feed_tells_of_removed_jobs(mut stored: Stored) {
    let start = stored.mark().await;
    let job = job("acme", 1);
    stored.submit(&job).await;
    let submitted = stored.mark().await;
    stored.remove(&job, at(1)).await;
    let end = stored.mark().await;
    for after in [start, submitted] {
        let feed = stored.feed("acme", &after, &end).await;
        assert_eq!(feed.len(), 1);
        assert!(feed[0].job.is_none());
        assert_eq!(feed[0].key, job.key());
        assert_eq!((feed[0].from_revision, feed[0].revision), (1, 2));
    }
}

pub async fn a_long_stretch_of_the_feed_comes_in_parts(mut stored: Stored) {
    let start = stored.mark().await;
    for commit in 0..6 {
        let mut changes = longhaul::domain::command::Changes::default();
        for n in 0..400 {
            let more = submitted(&job("acme", commit * 400 + n));
            changes.jobs.extend(more.jobs);
            changes.events.extend(more.events);
        }
        stored.commit(changes).await;
    }
    let end = stored.mark().await;
    let acme = longhaul::domain::Tenant::new("acme");
    let (mut at, mut told, mut parts) = (start, Vec::new(), 0);
    while at != end {
        let (items, reached) = stored.store.feed(&acme, &at, &end).await.unwrap();
        assert!(reached.is_ahead_of(&at) && end.includes(&reached));
        told.extend(items.into_iter().map(|item| item.key.job));
        (at, parts) = (reached, parts + 1);
    }
    assert!(parts > 1);
    let expected: Vec<_> = (0..2_400).map(|n| job("acme", n).id).collect();
    told.sort_unstable();
    assert_eq!(told, expected);
}
