//! Tenants, credentials and the audit log through the engine: one commit for what is done and its record, and each once, whoever is in the way.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use futures_util::{future::join_all, poll};
use longhaul::{
    domain::{
        Tenant, Timestamp,
        access::Actor,
        audit::{AuditRecord, Outcome},
        command::Refusal,
        registry::{Administration, Quotas, RecordKey, RecordKind},
    },
    engine::{Engine, EngineError, EngineSettings, SteadyClock},
    store::{AuditQuery, RecordQuery, StoreError},
};
use tokio::sync::Semaphore;

use crate::{rig::rig, shared_store::SharedStore};

fn actor() -> Actor {
    Actor {
        name: "key:first".into(),
        tenant: Tenant::new("operator"),
        address: "192.0.2.1".into(),
        request_id: "r".into(),
    }
}

fn create(name: &str) -> Administration {
    Administration::CreateTenant {
        name: Tenant::new(name),
        quotas: Quotas::default(),
    }
}

fn disable(name: &str, is_disabled: bool) -> Administration {
    Administration::UpdateTenant {
        name: Tenant::new(name),
        quotas: None,
        is_disabled: Some(is_disabled),
    }
}

async fn log(engine: &Engine) -> Vec<AuditRecord> {
    let query = AuditQuery {
        tenant: None,
        descending: false,
        after: None,
        limit: 99,
    };
    engine.audit(query).await.unwrap()
}

async fn tenants(engine: &Engine) -> Vec<(String, u64)> {
    let query = RecordQuery {
        kind: RecordKind::Tenant,
        tenant: None,
        after: None,
        limit: 99,
    };
    let records = engine.records(query).await.unwrap();
    let named = records
        .iter()
        .map(|record| (record.key().id.to_string(), record.revision));
    named.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_and_its_record_are_one_commit() {
    let rig = rig().await;
    let commits = || rig.faults.commits.load(Ordering::SeqCst);
    let made = rig.engine.administer(create("acme"), Some(actor())).await;
    assert_eq!(made.unwrap().map(|record| record.revision), Some(1));
    assert_eq!(commits(), 1);
    let twice = rig.engine.administer(create("acme"), Some(actor())).await;
    assert!(
        matches!(twice, Err(EngineError::Refused(Refusal::TenantExists(_)))),
        "{twice:?}"
    );
    let denied = rig
        .engine
        .note_denied("RevokeKey".into(), "k".into(), actor());
    denied.await.unwrap();
    assert_eq!(commits(), 3);
    let outcomes = log(&rig.engine)
        .await
        .into_iter()
        .map(|record| record.outcome);
    let expected = [Outcome::Done, Outcome::Refused, Outcome::Denied];
    assert_eq!(outcomes.collect::<Vec<_>>(), expected);
    // What nobody has to know of is committed only if it changes something.
    let same = rig.engine.administer(disable("acme", false), None).await;
    assert_eq!(same.unwrap().map(|record| record.revision), Some(1));
    assert_eq!((commits(), log(&rig.engine).await.len()), (3, 3));
    let key = RecordKey::tenant(&Tenant::new("acme"));
    assert!(rig.engine.record(&key).await.unwrap().is_some());
    rig.thread.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_commit_that_fails_nothing_is_logged() {
    let rig = rig().await;
    *rig.faults.next.lock().unwrap() = Some(StoreError::Failed("test".into()));
    let failed = rig.engine.administer(create("acme"), Some(actor())).await;
    assert!(matches!(
        failed,
        Err(EngineError::Store(StoreError::Failed(_)))
    ));
    assert_eq!(tenants(&rig.engine).await, []);
    assert_eq!(log(&rig.engine).await, []);
    rig.engine
        .administer(create("acme"), Some(actor()))
        .await
        .unwrap();
    assert_eq!(log(&rig.engine).await.len(), 1);
    rig.thread.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_record_that_wait_share_a_commit() {
    let rig = rig().await;
    rig.engine.administer(create("acme"), None).await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    *rig.faults.gate.lock().unwrap() = Some(gate.clone());
    let calls = (0..50).map(|n| {
        rig.engine
            .administer(disable("acme", n % 2 == 0), Some(actor()))
    });
    let mut calls = pin!(join_all(calls));
    assert!(poll!(calls.as_mut()).is_pending());
    gate.add_permits(50);
    for answer in calls.await {
        answer.unwrap();
    }
    assert!(rig.faults.commits.load(Ordering::SeqCst) <= 3);
    let [(_, revision)] = &tenants(&rig.engine).await[..] else {
        panic!("there is one");
    };
    assert!((2..=3).contains(revision), "{revision}");
    assert_eq!(log(&rig.engine).await.len(), 50);
    rig.thread.stop().await.unwrap();
}

/// Several nodes: what is tried again because others were in the way is done, and logged, once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_tried_again_is_logged_once() {
    let now = Timestamp::from_micros(1_800_000_000_000_000);
    let store = SharedStore::new(now);
    let start = || {
        let clock = Arc::new(SteadyClock::at(now, Timestamp::default()));
        Engine::start(
            Arc::new(store.clone()),
            clock,
            crate::rig::vault(),
            EngineSettings::default(),
        )
    };
    let (one, one_thread) = start().await.unwrap();
    let (other, other_thread) = start().await.unwrap();
    store.set_conflicts(2);
    one.administer(create("acme"), Some(actor())).await.unwrap();
    let twice = other.administer(create("acme"), Some(actor())).await;
    assert!(matches!(
        twice,
        Err(EngineError::Refused(Refusal::TenantExists(_)))
    ));
    let (first, second) = tokio::join!(
        one.administer(disable("acme", true), Some(actor())),
        other.administer(disable("acme", false), Some(actor())),
    );
    first.unwrap();
    second.unwrap();
    assert_eq!(log(&one).await.len(), 4);
    assert_eq!(log(&one).await, log(&other).await);
    // A store that can not be reached is told of, and nothing is made up.
    store.set_away(true);
    let key = RecordKey::tenant(&Tenant::new("acme"));
    let away = one.record(&key).await;
    assert!(matches!(
        away,
        Err(EngineError::Store(StoreError::Unavailable(_)))
    ));
    store.set_away(false);
    one_thread.stop().await.unwrap();
    other_thread.stop().await.unwrap();
}
