//! Two engines on one store: what is done at one is seen at the other, and neither is in the other's way.

mod trouble;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use longhaul::{
    domain::{
        JobKey, JobState, LeaseKey, TaskState, Tenant, Timestamp,
        command::{Grant, Report},
        limits::Policy,
    },
    engine::{
        Engine, EngineError, EngineSettings, EngineThread, FollowItem, Hello, JobWatch,
        SteadyClock, ToWorker, WatchItem, WatchOptions, WorkSession,
    },
    store::StoreError,
};
use tokio::sync::mpsc;

use crate::{
    rig::{coming, everything, hello, reach, submission, submission_of, tenant, vault},
    shared_store::SharedStore,
};

/// Two engines, and the store that they share.
struct Pair {
    store: SharedStore,
    here: Engine,
    there: Engine,
    threads: [EngineThread; 2],
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
    Engine::start(store, clock, vault(), settings)
        .await
        .unwrap()
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
        threads: [one, other],
    }
}

async fn submit(engine: &Engine, drivers: &[&str]) -> JobKey {
    let mut answers = engine.submit(vec![submission(drivers)]).await.unwrap();
    answers.pop().unwrap().unwrap().0.key()
}

async fn lease(engine: &Engine) -> Grant {
    lease_of(engine, "d").await
}

async fn lease_of(engine: &Engine, driver: &str) -> Grant {
    let drivers = [Arc::from(driver)].into();
    let wait = Some(Duration::from_secs(20));
    let reach = everything();
    let leased = engine.acquire(&reach, "w".into(), drivers, 1, wait);
    coming("a lease", leased).await.unwrap().pop().unwrap()
}

async fn report(engine: &Engine, lease: &LeaseKey, report: Report) {
    let answers = engine
        .report(&everything(), vec![(lease.clone(), report)])
        .await;
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
    for _ in 0..3 {
        let key = submit(&pair.here, &["other"]).await;
        // So that there is a snapshot to be had, which somebody was told.
        let mut waiting = watch(&pair.there, &key, Duration::ZERO).await;
        let mut seen = 0;
        next(&mut waiting, &mut seen).await;
        let grant = lease_of(&pair.here, "other").await;
        next(&mut waiting, &mut seen).await;
        pair.store.set_deaf(true);
        report(&pair.here, &grant.lease, success()).await;
        let mut watch = watch(&pair.there, &key, Duration::ZERO).await;
        let (_, state) = next(&mut watch, &mut 0).await;
        assert_eq!(state, JobState::Succeeded);
        pair.store.set_deaf(false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_watcher_read_is_not_kept_from_those_who_wait() {
    let pair = pair().await;
    let key = submit(&pair.here, &["d"]).await;
    // When this is heard of, what is before it is no news any more.
    let later = submit(&pair.here, &["other"]).await;
    let mut heard = watch(&pair.there, &later, Duration::ZERO).await;
    pair.here.cancel(later, String::new(), None).await.unwrap();
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
    pair.here
        .cancel(key.clone(), String::new(), None)
        .await
        .unwrap();
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
    pair.here
        .cancel(key.clone(), "stop".into(), None)
        .await
        .unwrap();
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
    pair.here
        .pause_driver("d", "broken".into(), None)
        .await
        .unwrap();
    let key = submit(&pair.there, &["d"]).await;
    let job = pair.there.get(&key).await.unwrap();
    assert_eq!(job.tasks[0].state, TaskState::Queued);
    assert!(messages.recv().now_or_never().is_none());
    pair.store.set_deaf(false);
    pair.here.resume_driver("d", None).await.unwrap();
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
            engine
                .cancel(key.clone(), String::new(), None)
                .await
                .unwrap();
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
async fn workers_that_are_connected_elsewhere_count() {
    let pair = pair().await;
    // Another tenant's own worker is told of first, and is nothing to this one.
    let theirs = Hello {
        reach: reach(Some("globex"), None),
        ..hello("e", 3)
    };
    let (_theirs, _messages_of_theirs) = pair.there.work(theirs).await.unwrap();
    let (_session, _messages) = worker(&pair.there).await;
    // They are told of within some seconds.
    let known = async {
        while pair.here.connected_drivers(&tenant()).await.unwrap() != [Arc::from("d")] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    coming("the announcement", known).await;
    let globex = Tenant::new("globex");
    let of_globex = pair.here.connected_drivers(&globex).await.unwrap();
    assert_eq!(of_globex, [Arc::from("d"), Arc::from("e")]);
    let key = submit(&pair.here, &["none", "e"]).await;
    let (_, told) = pair.here.explain(&key).await.unwrap();
    let reasons: Vec<_> = told.iter().map(|told| told.reason).collect();
    assert_eq!(reasons, ["NO_WORKER", "NO_WORKER"]);
    let theirs = submission_of("globex", &["e"]);
    let theirs = pair.here.submit(vec![theirs]).await.unwrap().remove(0);
    let (_, told) = pair.here.explain(&theirs.unwrap().0.key()).await.unwrap();
    assert_eq!(told[0].reason, "QUEUED_BEHIND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_wakes_those_who_wait_elsewhere_for_its_tenant_s() {
    let pair = pair().await;
    let of = |tenant| Hello {
        reach: reach(Some(tenant), None),
        ..hello("d", 2)
    };
    let (_acme, mut of_acme) = pair.there.work(of("acme")).await.unwrap();
    let (_globex, mut of_globex) = pair.there.work(of("globex")).await.unwrap();
    for _ in 0..2 {
        let own = submit(&pair.here, &["d"]).await;
        assert_eq!(leased(&mut of_acme).await.job_key(), own);
        let theirs = submission_of("globex", &["d"]);
        pair.here.submit(vec![theirs]).await.unwrap();
        let lease = leased(&mut of_globex).await;
        assert_eq!(lease.tenant, Tenant::new("globex"));
    }
}
