//! Leases that reach nobody cost nothing; dead workers are found by the clock.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use longhaul::{
    domain::{
        TaskState,
        command::{Refusal, Report},
    },
    engine::ToWorker,
};

use crate::rig::{coming, everything, hello, rig};

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_not_acknowledged_goes_back_when_the_stream_breaks() {
    let rig = rig().await;
    let (session, mut messages) = rig.engine.work(hello("d", 1)).await.unwrap();
    let job = rig.submit(&["d"]).await;
    let Some(ToWorker::Leases(_)) = messages.recv().await else {
        panic!("no lease");
    };
    drop(session);
    drop(messages);
    rig.tick().await;
    let stored = rig.engine.get(&job.key()).await.unwrap();
    let task = &stored.tasks[0];
    assert_eq!(
        (task.state, task.lost_leases, task.failures),
        (TaskState::Queued, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_acknowledged_outlives_the_stream() {
    let rig = rig().await;
    let (session, mut messages) = rig.engine.work(hello("d", 1)).await.unwrap();
    let job = rig.submit(&["d"]).await;
    let Some(ToWorker::Leases(grants)) = messages.recv().await else {
        panic!("no lease");
    };
    let lease = grants[0].lease.clone();
    session.acknowledge(vec![lease.clone()]).await.unwrap();
    drop(session);
    rig.tick().await;
    let stored = rig.engine.get(&job.key()).await.unwrap();
    assert_eq!(stored.tasks[0].state, TaskState::Running);
    rig.succeed(&lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_worker_loses_its_lease_and_its_late_report_is_refused() {
    let rig = rig().await;
    let job = rig.submit(&["d"]).await;
    let late = rig.lease("d").await.lease;
    rig.clock.advance(Duration::from_secs(29));
    rig.tick().await;
    let stored = rig.engine.get(&job.key()).await.unwrap();
    assert_eq!(stored.tasks[0].state, TaskState::Running);

    rig.clock.advance(Duration::from_secs(2));
    rig.tick().await;
    let stored = rig.engine.get(&job.key()).await.unwrap();
    assert_eq!(
        (stored.tasks[0].state, stored.tasks[0].lost_leases),
        (TaskState::Queued, 1)
    );
    let report = Report::Success {
        result: None,
        status_detail: String::new(),
    };
    let mut answers = rig
        .engine
        .report(&everything(), vec![(late, report)])
        .await
        .unwrap();
    assert_eq!(answers.pop().unwrap().unwrap_err(), Refusal::LeaseLost);

    let again = rig.lease("d").await.lease;
    rig.succeed(&again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_a_report_frees_is_filled_by_the_same_commit() {
    let rig = rig().await;
    let (_session, mut messages) = rig.engine.work(hello("d", 1)).await.unwrap();
    rig.submit(&["d"]).await;
    let Some(ToWorker::Leases(grants)) = messages.recv().await else {
        panic!("no lease");
    };
    rig.submit(&["d"]).await;
    let before = rig.faults.commits.load(std::sync::atomic::Ordering::SeqCst);
    rig.succeed(&grants[0].lease).await;
    assert!(matches!(messages.recv().await, Some(ToWorker::Leases(_))));
    let after = rig.faults.commits.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(after - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acquire_that_waits_is_served_by_the_next_submit() {
    let rig = rig().await;
    let engine = rig.engine.clone();
    let waits = tokio::spawn(async move {
        let drivers = [Arc::from("d")].into();
        let wait = Some(Duration::from_secs(60));
        engine
            .acquire(&everything(), "worker".into(), drivers, 4, wait)
            .await
            .unwrap()
    });
    rig.submit(&["d"]).await;
    assert_eq!(waits.await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_driver_gets_nothing_until_it_is_resumed() {
    let rig = rig().await;
    rig.engine
        .pause_driver("d", "maintenance".into(), None)
        .await
        .unwrap();
    let (_session, mut messages) = rig.engine.work(hello("d", 1)).await.unwrap();
    let job = rig.submit(&["d"]).await;
    rig.tick().await;
    assert!(messages.try_recv().is_err());
    let (_, why) = rig.engine.explain(&job.key()).await.unwrap();
    assert_eq!(why[0].reason, "DRIVER_PAUSED");
    rig.engine.resume_driver("d", None).await.unwrap();
    assert!(matches!(messages.recv().await, Some(ToWorker::Leases(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_lease_that_a_worker_brings_along_does_not_keep_its_slot() {
    let rig = rig().await;
    rig.submit(&["d"]).await;
    let dead = rig.lease("d").await.lease;
    rig.clock.advance(Duration::from_secs(31));
    rig.tick().await;
    let held = vec![dead.clone()];
    let hello = longhaul::engine::Hello {
        held,
        ..hello("d", 1)
    };
    let (_session, mut messages) = rig.engine.work(hello).await.unwrap();
    let heartbeat = vec![(dead, Report::Heartbeat)];
    let mut answers = rig.engine.report(&everything(), heartbeat).await.unwrap();
    assert_eq!(answers.pop().unwrap().unwrap_err(), Refusal::LeaseLost);
    let next = coming("a lease for the slot of the dead one", messages.recv()).await;
    assert!(matches!(next, Some(ToWorker::Leases(_))), "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_late_end_of_an_old_stream_takes_nothing_from_the_new_one() {
    let rig = rig().await;
    let (old, mut messages) = rig.engine.work(hello("d", 1)).await.unwrap();
    let job = rig.submit(&["d"]).await;
    let Some(ToWorker::Leases(grants)) = messages.recv().await else {
        panic!("no lease");
    };
    let lease = grants[0].lease.clone();
    let held = vec![lease.clone()];
    let hello = longhaul::engine::Hello {
        held,
        ..hello("d", 1)
    };
    let (_new, _messages) = rig.engine.work(hello).await.unwrap();
    rig.tick().await;
    drop(old);
    rig.tick().await;
    let stored = rig.engine.get(&job.key()).await.unwrap();
    assert_eq!(stored.tasks[0].state, TaskState::Running);
    rig.succeed(&lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_payloads_come_a_few_at_a_time() {
    let rig = rig().await;
    let large = || {
        let mut submission = crate::rig::submission(&["d"]);
        let mut spec = (*submission.tasks[0]).clone();
        spec.request_payload = Some(longhaul::domain::Document(vec![0; 1_000_000].into()));
        submission.tasks = vec![Arc::new(spec)];
        submission
    };
    rig.engine
        .submit((0..5).map(|_| large()).collect())
        .await
        .unwrap();
    let (_session, mut messages) = rig.engine.work(hello("d", 5)).await.unwrap();
    let mut granted = Vec::new();
    while granted.len() < 2 {
        let Some(ToWorker::Leases(grants)) = messages.recv().await else {
            panic!("no leases");
        };
        granted.push(grants.len());
    }
    assert_eq!(granted, [3, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_caller_has_gone_goes_back_at_once() {
    let rig = rig().await;
    let drivers = [Arc::from("d")].into();
    let wait = Some(Duration::from_secs(60));
    let reach = everything();
    let acquired = rig
        .engine
        .acquire(&reach, "worker".into(), drivers, 1, wait);
    let mut call = Box::pin(acquired);
    assert!((&mut call).now_or_never().is_none());
    let job = rig.submit(&["d"]).await;
    rig.tick().await;
    let stored = rig.engine.get(&job.key()).await.unwrap();
    assert_eq!(stored.tasks[0].state, TaskState::Running, "it was granted");
    // Before it has looked at its lease.
    drop(call);
    rig.lease("d").await;
    let stored = rig.engine.get(&job.key()).await.unwrap();
    let task = &stored.tasks[0];
    assert_eq!((task.lost_leases, task.failures), (0, 0));
}
