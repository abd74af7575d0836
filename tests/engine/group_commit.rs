//! Whatever waits shares one commit; a lone call has its own.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use futures_util::{future::join_all, poll};
use tokio::sync::Semaphore;

use crate::rig::{rig, submission, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_share_a_commit() {
    let rig = rig().await;
    let gate = Arc::new(Semaphore::new(0));
    *rig.faults.gate.lock().unwrap() = Some(gate.clone());
    // Fewer than the operations that the runtime allows a task before it has to yield.
    let calls = (0..100).map(|_| rig.engine.submit(vec![submission(&["d"])]));
    let mut calls = pin!(join_all(calls));
    // All are sent by now, and none is answered: the loop waits at the gate with those that came first.
    assert!(poll!(calls.as_mut()).is_pending());
    gate.add_permits(100);
    for answers in calls.await {
        answers.unwrap().pop().unwrap().unwrap();
    }
    assert!(rig.faults.commits.load(Ordering::SeqCst) <= 2);
    rig.thread.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_and_its_lease_share_a_commit() {
    let rig = rig().await;
    let (_session, mut messages) = rig.engine.work(crate::rig::hello("d", 1)).await.unwrap();
    rig.engine.connected_drivers(&tenant()).await.unwrap();
    rig.submit(&["d"]).await;
    messages.recv().await.unwrap();
    assert_eq!(rig.faults.commits.load(Ordering::SeqCst), 1);
}
