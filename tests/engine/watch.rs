//! Ranges tile, a reader that keeps up sees every change of state, and the end is always told.

use std::{pin::pin, time::Duration};

use longhaul::{
    domain::{JobState, command::Report, task::Progress},
    engine::{EngineError, JobWatch, WaitEnd, WatchItem, WatchOptions},
};

use crate::rig::{Rig, coming, everything, rig};

fn options(after_revision: u64) -> WatchOptions {
    WatchOptions {
        after_revision,
        min_interval: Duration::ZERO,
        heartbeat: Duration::from_secs(600),
    }
}

/// Checks that snapshots tile; the negative control below shows that it can fail.
struct Tiles {
    seen: u64,
    over: bool,
}

impl Tiles {
    fn add(
        &mut self,
        from: u64,
        revision: u64,
        coalesced: u64,
        is_final: bool,
    ) -> Result<(), String> {
        let whole = from == self.seen && coalesced + 1 == revision - from && !self.over;
        self.seen = revision;
        self.over = is_final;
        whole
            .then_some(())
            .ok_or(format!("({from}, {revision}] after {}", self.seen))
    }
}

async fn next(watch: &mut JobWatch) -> WatchItem {
    watch.next().await.unwrap().unwrap()
}

async fn all_states(rig: &Rig, drivers: &[&str]) -> (JobWatch, longhaul::domain::JobKey) {
    let job = rig.submit(drivers).await;
    (
        rig.engine.watch(&job.key(), options(0)).await.unwrap(),
        job.key(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_keeps_up_sees_every_change_of_state() {
    let rig = rig().await;
    let (mut watch, _) = all_states(&rig, &["a", "b"]).await;
    let mut tiles = Tiles {
        seen: 0,
        over: false,
    };
    let mut states = Vec::new();
    let mut read = async |watch: &mut JobWatch| match next(watch).await {
        WatchItem::Snapshot {
            version,
            from_revision,
            coalesced,
            is_final,
            ..
        } => {
            tiles
                .add(from_revision, version.job.revision, coalesced, is_final)
                .unwrap();
            assert_eq!(coalesced, 0);
            states.push(version.job.state);
        }
        other => panic!("{other:?}"),
    };
    read(&mut watch).await;
    let a = rig.lease("a").await.lease;
    read(&mut watch).await;
    let b = rig.lease("b").await.lease;
    // Two changes in one commit are still told one by one.
    let done = || Report::Success {
        result: None,
        status_detail: String::new(),
    };
    rig.engine
        .report(&everything(), vec![(a, done()), (b, done())])
        .await
        .unwrap();
    for _ in 0..3 {
        read(&mut watch).await;
    }
    assert!(watch.next().await.is_none());
    use JobState::{Queued, Running, Succeeded};
    assert_eq!(states, [Queued, Running, Running, Running, Succeeded]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_sleeps_gets_the_newest_and_is_told_what_was_merged() {
    let rig = rig().await;
    let (mut watch, _) = all_states(&rig, &["a"]).await;
    next(&mut watch).await;
    let lease = rig.lease("a").await.lease;
    for done in 1..=10_000 {
        rig.progress(&lease, done).await;
    }
    let mut tiles = Tiles {
        seen: 1,
        over: false,
    };
    let mut messages = 0;
    while tiles.seen < 10_002 {
        if let WatchItem::Snapshot {
            version,
            from_revision,
            coalesced,
            is_final,
            ..
        } = next(&mut watch).await
        {
            tiles
                .add(from_revision, version.job.revision, coalesced, is_final)
                .unwrap();
            messages += 1;
        }
    }
    assert!(messages <= 3, "{messages} messages for a reader that slept");
    rig.succeed(&lease).await;
    let last = next(&mut watch).await;
    assert!(matches!(
        last,
        WatchItem::Snapshot {
            is_final: true,
            from_revision: 10_002,
            ..
        }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_where_it_was() {
    let rig = rig().await;
    let (_, key) = all_states(&rig, &["a"]).await;
    let lease = rig.lease("a").await.lease;
    let mut watch = rig.engine.watch(&key, options(2)).await.unwrap();
    assert!(matches!(
        next(&mut watch).await,
        WatchItem::Synced { revision: 2 }
    ));
    let mut ahead = rig.engine.watch(&key, options(99)).await.unwrap();
    let first = next(&mut ahead).await;
    assert!(matches!(
        first,
        WatchItem::Snapshot {
            reset: true,
            from_revision: 0,
            ..
        }
    ));
    rig.succeed(&lease).await;
    for watch in [&mut watch, &mut ahead] {
        let last = next(watch).await;
        assert!(matches!(
            last,
            WatchItem::Snapshot {
                is_final: true,
                from_revision: 2,
                ..
            }
        ));
    }
    // The last word is told again to who asks again.
    let mut late = rig.engine.watch(&key, options(3)).await.unwrap();
    let last = next(&mut late).await;
    assert!(matches!(
        last,
        WatchItem::Snapshot {
            is_final: true,
            from_revision: 3,
            ..
        }
    ));
    assert!(late.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_engine_ends_watches_and_waits() {
    let rig = rig().await;
    let (mut watch, key) = all_states(&rig, &["a"]).await;
    next(&mut watch).await;
    let mut wait = pin!(rig.engine.wait(&key, None, Duration::from_secs(600)));
    assert!(futures_util::poll!(&mut wait).is_pending(), "it has begun");
    rig.engine.drain().await;
    assert!(matches!(
        next(&mut watch).await,
        WatchItem::Draining { revision: 1 }
    ));
    assert!(watch.next().await.is_none());
    // Whoever waits has the job as it was last; whoever comes later has nothing.
    let (version, end) = wait.await.unwrap();
    assert_eq!((version.job.revision, end), (1, WaitEnd::Draining));
    assert!(rig.engine.watch(&key, options(0)).await.is_err());
    let late = rig.engine.wait(&key, None, Duration::ZERO).await;
    assert!(matches!(late, Err(EngineError::Draining)));
}

#[tokio::test(start_paused = true)]
async fn a_wait_says_why_it_ended() {
    let rig = rig().await;
    let key = rig.submit(&["a"]).await.key();
    let wait = async |after, seconds| {
        let timeout = Duration::from_secs(seconds);
        let (version, end) = rig.engine.wait(&key, after, timeout).await.unwrap();
        (version.job.revision, end)
    };
    assert_eq!(wait(None, 0).await, (1, WaitEnd::TimedOut));
    assert_eq!(wait(Some(1), 10).await, (1, WaitEnd::TimedOut));
    assert_eq!(wait(Some(0), 10).await, (1, WaitEnd::Done));
    let lease = rig.lease("a").await.lease;
    assert_eq!(wait(Some(1), 10).await, (2, WaitEnd::Done));
    assert_eq!(wait(None, 10).await, (2, WaitEnd::TimedOut));
    rig.succeed(&lease).await;
    assert_eq!(wait(None, 10).await, (3, WaitEnd::Done));
}

/// In paused time, which goes on by itself when there is nothing to do but wait.
#[tokio::test(start_paused = true)]
async fn silence_is_broken_and_progress_is_told_in_time_whatever_came_before() {
    let rig = rig().await;
    let job = rig.submit(&["a"]).await;
    let (heartbeat, min_interval) = (Duration::from_secs(10), Duration::from_secs(3));
    let options = WatchOptions {
        min_interval,
        heartbeat,
        ..options(0)
    };
    let mut watch = rig.engine.watch(&job.key(), options).await.unwrap();
    next(&mut watch).await;
    let lease = rig.lease("a").await.lease;
    next(&mut watch).await;
    // The timer counts in milliseconds.
    let in_time = |took: Duration, bound: Duration| took <= bound + Duration::from_millis(2);
    for round in 1..=5 {
        rig.progress(&lease, 2 * round).await;
        rig.progress(&lease, 2 * round + 1).await;
        let newest = rig.engine.get(&job.key()).await.unwrap().revision;
        let ((), took) = timed(async {
            loop {
                if let WatchItem::Snapshot { version, .. } = next(&mut watch).await
                    && version.job.revision == newest
                {
                    return;
                }
            }
        })
        .await;
        assert!(in_time(took, min_interval), "after {took:?}");
        for _ in 0..2 {
            let (item, took) = timed(next(&mut watch)).await;
            assert!(matches!(item, WatchItem::Heartbeat { .. }), "{item:?}");
            assert!(in_time(took, heartbeat), "after {took:?}");
            assert!(took >= heartbeat, "after {took:?}");
        }
    }
}

async fn timed<T>(wait: impl Future<Output = T>) -> (T, Duration) {
    let start = now();
    let value = wait.await;
    (value, now() - start)
}

#[expect(clippy::disallowed_methods, reason = "the time is the test's own")]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_job_can_not_be_watched_though_somebody_still_does() {
    let rig = rig().await;
    let (mut watch, key) = all_states(&rig, &["a"]).await;
    next(&mut watch).await;
    let lease = rig.lease("a").await.lease;
    rig.succeed(&lease).await;
    rig.engine.delete(key.clone(), None).await.unwrap();
    assert!(rig.engine.get(&key).await.is_err());
    assert!(rig.engine.watch(&key, options(0)).await.is_err());
    // Who was there before still hears the end.
    loop {
        if let WatchItem::Snapshot { is_final: true, .. } = next(&mut watch).await {
            break;
        }
    }
}

#[test]
fn the_check_of_tiles_can_fail() {
    let tiles = || Tiles {
        seen: 4,
        over: false,
    };
    assert!(tiles().add(4, 7, 2, false).is_ok());
    assert!(tiles().add(5, 7, 1, false).is_err(), "a gap");
    assert!(tiles().add(3, 7, 3, false).is_err(), "an overlap");
    assert!(
        tiles().add(4, 7, 0, false).is_err(),
        "a merge that was not said"
    );
    let mut over = tiles();
    over.add(4, 5, 0, true).unwrap();
    assert!(over.add(5, 6, 0, false).is_err(), "something after the end");
}

/// More snapshots than are shown of one batch: the last one is of progress, and stands for the end of a task as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_state_that_was_not_shown_is_not_throttled() {
    let rig = rig().await;
    let job = rig.submit(&["d"; 1_000]).await;
    let (one, other) = (rig.lease("d").await.lease, rig.lease("d").await.lease);
    let now = rig.engine.get(&job.key()).await.unwrap().revision;
    let slowly = WatchOptions {
        min_interval: Duration::from_secs(600),
        ..options(now)
    };
    let mut watch = rig.engine.watch(&job.key(), slowly).await.unwrap();
    let WatchItem::Synced { .. } = next(&mut watch).await else {
        panic!("nothing is new");
    };
    // The first snapshot of progress is told after the interval, and so are all that follow.
    let progress = |done| Report::Progress {
        progress: Some(Progress {
            done,
            ..Progress::default()
        }),
        status_detail: String::new(),
    };
    let success = Report::Success {
        result: None,
        status_detail: String::new(),
    };
    let mut reports: Vec<_> = (0..60).map(|done| (one.clone(), progress(done))).collect();
    reports.push((other, success));
    reports.push((one, progress(60)));
    let told = reports.len() as u64;
    for answer in rig.engine.report(&everything(), reports).await.unwrap() {
        answer.unwrap();
    }
    let WatchItem::Snapshot {
        version, coalesced, ..
    } = coming("the end of a task", next(&mut watch)).await
    else {
        panic!("much has changed");
    };
    assert_eq!(version.job.revision, now + told);
    assert_eq!(coalesced, told - 1);
}
