//! A commit that fails: everybody in it is told, nobody else is told anything, and memory does not run ahead of the store.

use longhaul::{
    domain::{JobState, command::Report},
    engine::{EngineError, WatchItem, WatchOptions},
    store::StoreError,
};

use crate::rig::{everything, rig, submission};

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_commit_is_told_to_callers_and_to_nobody_else() {
    let rig = rig().await;
    let job = rig.submit(&["d"]).await;
    let lease = rig.lease("d").await.lease;
    let mut watch = rig.engine.watch(&job.key(), options(0)).await.unwrap();
    let first = watch.next().await.unwrap().unwrap();
    assert!(matches!(first, WatchItem::Snapshot { ref version, .. } if version.job.revision == 2));

    *rig.faults.next.lock().unwrap() = Some(StoreError::Failed("test".into()));
    let success = Report::Success {
        result: None,
        status_detail: String::new(),
    };
    let answer = rig
        .engine
        .report(&everything(), vec![(lease.clone(), success)])
        .await;
    assert!(matches!(
        answer,
        Err(EngineError::Store(StoreError::Failed(_)))
    ));
    let stored = rig.engine.get(&job.key()).await.unwrap();
    assert_eq!((stored.revision, stored.state), (2, JobState::Running));

    // The same report again is decided on what is stored, not on what failed.
    rig.succeed(&lease).await;
    match watch.next().await.unwrap().unwrap() {
        WatchItem::Snapshot {
            version,
            from_revision,
            is_final,
            ..
        } => {
            assert_eq!(
                (from_revision, version.job.revision, is_final),
                (2, 3, true)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreliable_store_ends_the_engine() {
    let mut rig = rig().await;
    *rig.faults.next.lock().unwrap() = Some(StoreError::Fatal("fsync failed".into()));
    let answer = rig.engine.submit(vec![submission(&["d"])]).await;
    assert!(matches!(
        answer,
        Err(EngineError::Store(StoreError::Fatal(_)))
    ));
    assert!(matches!(
        rig.thread.ended().await,
        Err(StoreError::Fatal(_))
    ));
    let answer = rig.engine.submit(vec![submission(&["d"])]).await;
    assert!(matches!(answer, Err(EngineError::Stopped)));
}

fn options(after_revision: u64) -> WatchOptions {
    WatchOptions {
        after_revision,
        min_interval: std::time::Duration::ZERO,
        heartbeat: std::time::Duration::from_secs(600),
    }
}
