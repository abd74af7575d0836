//! Two engines on one store: what is done at one is seen at the other, and neither is in the other's way.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use longhaul::{
    domain::{
        JobKey, JobState, LeaseKey, TaskState, Timestamp,
        command::{Grant, Report},
        limits::Policy,
    },
    engine::{
        Engine, EngineError, EngineSettings, EngineThread, FollowItem, JobWatch, SteadyClock,
        ToWorker, WatchItem, WatchOptions, WorkSession,
    },
    store::StoreError,
};
use tokio::sync::mpsc;

use crate::{
    rig::{coming, hello, submission, tenant},
    shared_store::SharedStore,
};

/// Two engines, and the store that they share.
struct Pair {
    store: SharedStore,
    here: Engine,
    there: Engine,
    _threads: [EngineThread; 2],
}

fn start() -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000)
}

async fn node(store: &SharedStore, lease: Duration) -> (Engine, EngineThread) {
    let clock = Arc::new(SteadyClock::at(start(), Timestamp::default()));
    let store = Arc::new(store.clone());
    let settings = EngineSettings {
        policy: Policy {
            lease_duration: lease,
            ..Policy::default()
        },
        ..EngineSettings::default()
    };
    Engine::start(store, clock, settings).await.unwrap()
}

async fn pair() -> Pair {
    pair_with(Policy::default().lease_duration).await
}

/// With leases that last so long.
async fn pair_with(lease: Duration) -> Pair {
    let store = SharedStore::new(start());
    let (here, one) = node(&store, lease).await;
    let (there, other) = node(&store, lease).await;
    Pair {
        store,
        here,
        there,
        _threads: [one, other],
    }
}

async fn submit(engine: &Engine, drivers: &[&str]) -> JobKey {
    let mut answers = engine.submit(vec![submission(drivers)]).await.unwrap();
    answers.pop().unwrap().unwrap().0.key()
}

async fn lease(engine: &Engine) -> Grant {
    let drivers = [Arc::from("d")].into();
    let wait = Some(Duration::from_secs(20));
    let leased = engine.acquire("w".into(), drivers, 1, wait);
    coming("a lease", leased).await.unwrap().pop().unwrap()
}

async fn report(engine: &Engine, lease: &LeaseKey, report: Report) {
    let answers = engine.report(vec![(lease.clone(), report)]).await;
    answers.unwrap().pop().unwrap().unwrap();
}

fn success() -> Report {
    Report::Success {
        result: None,
        status_detail: String::new(),
    }
}

fn progress(detail: &str) -> Report {
    Report::Progress {
        progress: None,
        status_detail: detail.to_owned(),
    }
}

async fn watch(engine: &Engine, key: &JobKey, min_interval: Duration) -> JobWatch {
    let options = WatchOptions {
        after_revision: 0,
        min_interval,
        heartbeat: Duration::from_secs(600),
    };
    engine.watch(key, options).await.unwrap()
}

/// The next snapshot: its revision and state. Ranges must tile.
async fn next(watch: &mut JobWatch, seen: &mut u64) -> (u64, JobState) {
    let item = coming("a snapshot", watch.next()).await;
    let Some(Ok(WatchItem::Snapshot {
        version,
        from_revision,
        ..
    })) = item
    else {
        panic!("{item:?} is no snapshot");
    };
    assert_eq!(from_revision, *seen);
    *seen = version.job.revision;
    (version.job.revision, version.job.state)
}

async fn worker(engine: &Engine) -> (WorkSession, mpsc::Receiver<ToWorker>) {
    engine.work(hello("d", 1)).await.unwrap()
}

async fn leased(messages: &mut mpsc::Receiver<ToWorker>) -> LeaseKey {
    match coming("a lease", messages.recv()).await {
        Some(ToWorker::Leases(mut grants)) => grants.pop().unwrap().lease,
        other => panic!("{other:?} is no lease"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_what_is_done_elsewhere_to_the_end() {
    let pair = pair().await;
    let key = submit(&pair.here, &["d"]).await;
    let mut watch = watch(&pair.there, &key, Duration::ZERO).await;
    let mut seen = 0;
    assert_eq!(next(&mut watch, &mut seen).await, (1, JobState::Queued));
    let grant = lease(&pair.here).await;
    assert_eq!(next(&mut watch, &mut seen).await, (2, JobState::Running));
    report(&pair.here, &grant.lease, success()).await;
    assert_eq!(next(&mut watch, &mut seen).await, (3, JobState::Succeeded));
    assert!(watch.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_begins_sees_what_the_caller_did_elsewhere_a_moment_ago() {
    let pair = pair().await;
    for _ in 0..50 {
        let key = submit(&pair.here, &["other"]).await;
        // So that there is somebody's snapshot to be had.
        let mut waiting = watch(&pair.there, &key, Duration::ZERO).await;
        next(&mut waiting, &mut 0).await;
        let mut other = watch(&pair.there, &key, Duration::ZERO).await;
        next(&mut other, &mut 0).await;
        pair.here.cancel(key.clone(), String::new()).await.unwrap();
        let mut watch = watch(&pair.there, &key, Duration::ZERO).await;
        let (_, state) = next(&mut watch, &mut 0).await;
        assert_eq!(state, JobState::Cancelled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_watcher_read_is_not_kept_from_those_who_wait() {
    let pair = pair().await;
    let key = submit(&pair.here, &["d"]).await;
    // When this is heard of, what is before it is no news any more.
    let later = submit(&pair.here, &["other"]).await;
    let mut heard = watch(&pair.there, &later, Duration::ZERO).await;
    pair.here.cancel(later, String::new()).await.unwrap();
    let mut seen = 0;
    while next(&mut heard, &mut seen).await.1 != JobState::Cancelled {}
    let mut waiting = watch(&pair.there, &key, Duration::ZERO).await;
    let mut seen = 0;
    next(&mut waiting, &mut seen).await;
    // From now on it looks only when it is woken.
    let (waits, begun) = tokio::sync::oneshot::channel();
    let told = tokio::spawn(async move {
        let mut next = std::pin::pin!(waiting.next());
        let mut waits = Some(waits);
        std::future::poll_fn(|cx| {
            let told = next.as_mut().poll(cx).map(|item| item.is_some());
            waits
                .take()
                .into_iter()
                .for_each(|waits| waits.send(()).unwrap());
            told
        })
        .await
    });
    begun.await.unwrap();
    pair.store.set_deaf(true);
    pair.here.cancel(key.clone(), String::new()).await.unwrap();
    let mut reading = watch(&pair.there, &key, Duration::ZERO).await;
    let (_, state) = next(&mut reading, &mut 0).await;
    assert_eq!(state, JobState::Cancelled);
    pair.store.set_deaf(false);
    assert!(coming("the news", told).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_elsewhere_is_not_held_back_with_progress_from_here() {
    let pair = pair().await;
    let key = submit(&pair.here, &["d", "d"]).await;
    let (one, two) = (lease(&pair.here).await, lease(&pair.there).await);
    let mut seen = 0;
    let mut watch = watch(&pair.there, &key, Duration::from_secs(3_600)).await;
    next(&mut watch, &mut seen).await;
    for round in 0..20 {
        // Whichever way round they are heard of.
        let warning = Report::Warning {
            message: format!("warning {round}"),
        };
        let detail = format!("progress {round}");
        tokio::join!(
            report(&pair.here, &one.lease, warning),
            report(&pair.there, &two.lease, progress(&detail)),
        );
        let warned = |detail: &[String]| detail.iter().any(|w| *w == format!("warning {round}"));
        loop {
            let item = coming("the warning", watch.next()).await;
            let Some(Ok(WatchItem::Snapshot { version, .. })) = item else {
                panic!("{item:?} is no snapshot");
            };
            if version.job.tasks.iter().any(|task| warned(&task.warnings)) {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_gets_what_was_submitted_elsewhere() {
    let pair = pair().await;
    let (_session, mut messages) = worker(&pair.there).await;
    for _ in 0..20 {
        let key = submit(&pair.here, &["d"]).await;
        let lease = leased(&mut messages).await;
        assert_eq!(lease.job, key.job);
        report(&pair.there, &lease, success()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_can_be_finished_elsewhere_and_its_slot_is_free_again() {
    let pair = pair().await;
    let (_session, mut messages) = worker(&pair.there).await;
    for _ in 0..5 {
        submit(&pair.here, &["d"]).await;
        let lease = leased(&mut messages).await;
        report(&pair.here, &lease, success()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_hears_of_a_cancel_elsewhere() {
    let pair = pair().await;
    let (_session, mut messages) = worker(&pair.there).await;
    let key = submit(&pair.here, &["d"]).await;
    let lease = leased(&mut messages).await;
    pair.here.cancel(key.clone(), "stop".into()).await.unwrap();
    match coming("the order", messages.recv()).await {
        Some(ToWorker::Cancel(told, order)) => {
            assert_eq!((told, order.reason.as_str()), (lease, "stop"));
        }
        other => panic!("{other:?} is no order to stop"),
    }
    let mut watch = watch(&pair.here, &key, Duration::ZERO).await;
    let mut seen = 0;
    while pair
        .here
        .get(&key)
        .await
        .unwrap()
        .cancel
        .as_ref()
        .unwrap()
        .delivered
        .is_none()
    {
        next(&mut watch, &mut seen).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_elsewhere_counts_here() {
    let pair = pair().await;
    let (_session, mut messages) = worker(&pair.there).await;
    // From the answer on, before anybody hears of it.
    pair.store.set_deaf(true);
    pair.here.pause_driver("d", "broken".into()).await.unwrap();
    let key = submit(&pair.there, &["d"]).await;
    let job = pair.there.get(&key).await.unwrap();
    assert_eq!(job.tasks[0].state, TaskState::Queued);
    assert!(messages.recv().now_or_never().is_none());
    pair.store.set_deaf(false);
    pair.here.resume_driver("d").await.unwrap();
    assert_eq!(leased(&mut messages).await.job, key.job);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_misses_nothing_and_goes_on_elsewhere() {
    let pair = pair().await;
    let mut told = std::collections::HashMap::new();
    let mut cursor = String::new();
    for round in 0..6 {
        let engine = [&pair.here, &pair.there][round % 2];
        let heartbeat = Duration::from_secs(600);
        let follow = engine.follow(tenant(), "", &cursor, heartbeat).await;
        let mut follow = follow.unwrap();
        let mut new = Vec::new();
        for engine in [&pair.here, &pair.there] {
            new.push(submit(engine, &["other"]).await);
            let key = submit(engine, &["d"]).await;
            engine.cancel(key.clone(), String::new()).await.unwrap();
            new.push(key);
        }
        while cursor.is_empty() || new.iter().any(|key| !told.contains_key(&key.job)) {
            match coming("a change", follow.next()).await.unwrap().unwrap() {
                FollowItem::Listed(jobs) => {
                    for job in jobs {
                        assert!(told.insert(job.id, job.revision).is_none());
                    }
                }
                FollowItem::Synced { cursor: at } => cursor = at,
                FollowItem::Changes {
                    changes,
                    cursor: at,
                } => {
                    for change in changes {
                        let known = told.insert(change.key.job, change.revision).unwrap_or(0);
                        // A cursor of the listing's beginning may bring again what the listing told.
                        let again = change.revision <= known;
                        assert!(again || known == change.from_revision, "{change:?}");
                    }
                    cursor = at;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_meets_others_tries_again_within_bounds() {
    let pair = pair().await;
    pair.store.set_conflicts(5);
    submit(&pair.here, &["d"]).await;
    pair.store.set_conflicts(usize::MAX);
    let refused = pair.here.submit(vec![submission(&["d"])]).await;
    assert!(
        matches!(refused, Err(EngineError::Store(StoreError::Conflict(_)))),
        "{refused:?}"
    );
    pair.store.set_conflicts(0);
    submit(&pair.here, &["d"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_calls_are_refused_and_watches_wait() {
    let pair = pair().await;
    let key = submit(&pair.here, &["d"]).await;
    let mut watch = watch(&pair.there, &key, Duration::ZERO).await;
    let mut seen = 0;
    next(&mut watch, &mut seen).await;
    let heartbeat = Duration::from_secs(600);
    let mut follow = pair
        .there
        .follow(tenant(), "", "", heartbeat)
        .await
        .unwrap();
    while !matches!(follow.next().await, Some(Ok(FollowItem::Synced { .. }))) {}

    let mut reached = pair.there.reached();
    pair.store.set_away(true);
    coming("the news", reached.wait_for(|reached| !reached))
        .await
        .unwrap();
    for engine in [&pair.here, &pair.there] {
        let refused = engine.submit(vec![submission(&["d"])]).await;
        assert!(
            matches!(refused, Err(EngineError::Store(StoreError::Unavailable(_)))),
            "{refused:?}"
        );
    }
    assert!(watch.next().now_or_never().is_none());
    assert!(follow.next().now_or_never().is_none());

    pair.store.set_away(false);
    coming("the news", reached.wait_for(|reached| *reached))
        .await
        .unwrap();
    pair.here.cancel(key.clone(), String::new()).await.unwrap();
    assert_eq!(next(&mut watch, &mut seen).await, (2, JobState::Cancelled));
    let item = coming("the change", follow.next()).await;
    assert!(
        matches!(item, Some(Ok(FollowItem::Changes { .. }))),
        "{item:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_has_too_much_to_do_is_not_away() {
    let store = SharedStore::new(start());
    let (engine, _thread) = node(&store, Policy::default().lease_duration).await;
    let mut reached = engine.reached();
    // More than make a node one that can not hear.
    store.set_crowded(6);
    while store.is_crowded() {
        let away = reached.wait_for(|reached| !reached);
        let away = tokio::time::timeout(Duration::from_millis(20), away).await;
        assert!(away.is_err(), "it took the store to be away");
    }
    assert!(*engine.reached().borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_began_when_nothing_was_due_sees_to_what_others_leave_behind() {
    let pair = pair_with(Duration::from_secs(1)).await;
    let key = submit(&pair.here, &["d"]).await;
    let mut watch = watch(&pair.there, &key, Duration::ZERO).await;
    let mut seen = 0;
    next(&mut watch, &mut seen).await;
    lease(&pair.here).await;
    let [here, _there] = pair._threads;
    here.stop().await.unwrap();
    assert_eq!(next(&mut watch, &mut seen).await, (2, JobState::Running));
    next(&mut watch, &mut seen).await;
    let job = pair.there.get(&key).await.unwrap();
    assert_eq!(job.tasks[0].lost_leases, 1);
    assert_ne!(job.tasks[0].state, TaskState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_may_not_be_stored_is_given_back_at_once() {
    let pair = pair().await;
    let (_session, mut messages) = worker(&pair.here).await;
    pair.store.set_doubts(1);
    // It may share the commit with its lease, and so the doubt.
    let _ = pair.here.submit(vec![submission(&["d"])]).await;
    let lease = leased(&mut messages).await;
    let job = pair.here.get(&lease.job_key()).await.unwrap();
    assert_eq!(job.tasks[0].lost_leases, 0);
    report(&pair.here, &lease, success()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_of_a_job_that_others_are_at_waits_and_holds_up_nobody() {
    let pair = pair().await;
    let (_session, mut messages) = worker(&pair.there).await;
    let key = submit(&pair.here, &["d"]).await;
    leased(&mut messages).await;
    pair.store.set_busy(&key, true);
    pair.here.cancel(key.clone(), "stop".into()).await.unwrap();
    while pair.store.left_out() == 0 {
        tokio::task::yield_now().await;
    }
    submit(&pair.there, &["other"]).await;
    assert!(messages.recv().now_or_never().is_none());
    pair.store.set_busy(&key, false);
    let told = coming("the order", messages.recv()).await;
    assert!(matches!(told, Some(ToWorker::Cancel(..))), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_others_are_at_is_left_to_them_for_a_moment() {
    let pair = pair().await;
    let key = submit(&pair.here, &["d"]).await;
    pair.store.set_busy(&key, true);
    let (_session, mut messages) = worker(&pair.there).await;
    while pair.store.left_out() == 0 {
        tokio::task::yield_now().await;
    }
    // Five milliseconds each time: without that it would be thousands.
    let before = pair.store.left_out();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let looks = pair.store.left_out() - before;
    assert!(looks < 200, "{looks}");
    pair.store.set_busy(&key, false);
    assert_eq!(leased(&mut messages).await.job, key.job);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_around_a_failover_is_asked_of_every_lease() {
    let pair = pair().await;
    let (_session, mut messages) = worker(&pair.there).await;
    submit(&pair.here, &["d"]).await;
    let lease = leased(&mut messages).await;
    pair.store.set_deaf(true);
    report(&pair.here, &lease, success()).await;
    pair.store.fail_over();
    pair.store.set_deaf(false);
    // Its slot is free again.
    submit(&pair.here, &["d"]).await;
    loop {
        match coming("a lease", messages.recv()).await {
            Some(ToWorker::Leases(_)) => break,
            told => assert!(matches!(told, Some(ToWorker::Lost(_))), "{told:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_ends_though_its_store_is_away() {
    let pair = pair().await;
    let (session, mut messages) = worker(&pair.here).await;
    submit(&pair.here, &["d"]).await;
    leased(&mut messages).await;
    pair.store.set_away(true);
    // What it has not acknowledged is to go back.
    drop((session, messages));
    let [here, _there] = pair._threads;
    coming("the end", here.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_the_clock_ends_no_lease() {
    let pair = pair_with(Duration::from_secs(5)).await;
    submit(&pair.here, &["d"]).await;
    let grant = lease(&pair.here).await;
    let later = start().after(Duration::from_secs(3_600));
    pair.store.set_time(later);
    while pair.here.now() < later || pair.there.now() < later {
        tokio::task::yield_now().await;
    }
    // Both have looked for what is due by now.
    for engine in [&pair.here, &pair.there] {
        submit(engine, &["other"]).await;
    }
    report(&pair.here, &grant.lease, success()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_go_by_the_time_of_the_store() {
    let pair = pair().await;
    let later = start().after(Duration::from_secs(3_600));
    pair.store.set_time(later);
    let job = submit(&pair.here, &["other"]).await;
    let mut heard = watch(&pair.there, &job, Duration::ZERO).await;
    next(&mut heard, &mut 0).await;
    // A tail brings the time with what is new.
    while pair.here.now() < later || pair.there.now() < later {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_connected_elsewhere_count() {
    let pair = pair().await;
    let (_session, _messages) = worker(&pair.there).await;
    // They are told of within some seconds.
    let known = async {
        while pair.here.connected_drivers().await.unwrap() != [Arc::from("d")] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    coming("the announcement", known).await;
    let key = submit(&pair.here, &["none"]).await;
    let (_, told) = pair.here.explain(&key).await.unwrap();
    assert!(!told.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_begins_again_when_the_database_has_failed_over() {
    let pair = pair().await;
    let key = submit(&pair.here, &["d"]).await;
    let mut watching = watch(&pair.there, &key, Duration::ZERO).await;
    next(&mut watching, &mut 0).await;
    let heartbeat = Duration::from_secs(600);
    let follow = pair.there.follow(tenant(), "", "", heartbeat).await;
    let mut follow = follow.unwrap();
    let cursor = loop {
        match coming("the listing", follow.next()).await {
            Some(Ok(FollowItem::Synced { cursor })) => break cursor,
            item => assert!(matches!(item, Some(Ok(FollowItem::Listed(_)))), "{item:?}"),
        }
    };
    pair.store.fail_over();
    let away = |error: Option<EngineError>| {
        assert!(matches!(error, Some(EngineError::FailedOver)), "{error:?}");
    };
    away(
        coming("the end of the watch", watching.next())
            .await
            .and_then(Result::err),
    );
    away(
        coming("the end of the feed", follow.next())
            .await
            .and_then(Result::err),
    );

    // Both can go on; the cursor begins with a listing, because what it has seen may be gone.
    let mut watching = watch(&pair.there, &key, Duration::ZERO).await;
    next(&mut watching, &mut 0).await;
    let follow = pair.there.follow(tenant(), "", &cursor, heartbeat).await;
    let item = coming("a listing", follow.unwrap().next()).await;
    assert!(matches!(item, Some(Ok(FollowItem::Listed(_)))), "{item:?}");
    pair.here.cancel(key, String::new()).await.unwrap();
    assert_eq!(next(&mut watching, &mut 1).await, (2, JobState::Cancelled));
}
