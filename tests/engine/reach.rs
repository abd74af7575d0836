//! What a worker is given and what its word counts for: no more than its credential says.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use longhaul::{
    domain::{
        JobKey, LeaseKey, TaskState, Tenant,
        command::{Refusal, Report},
        reach::Reach,
    },
    engine::{Hello, ToWorker},
    store::MAX_TENANTS_PER_CLAIM,
};
use tokio::sync::mpsc;

use crate::rig::{Rig, coming, everything, hello, reach, rig};

fn hello_of(reach: Arc<Reach>, drivers: &[&str], slots: u32) -> Hello {
    Hello {
        reach,
        drivers: drivers.iter().map(|driver| Arc::from(*driver)).collect(),
        ..hello("d", slots)
    }
}

fn of(tenant: &str) -> Arc<Reach> {
    reach(Some(tenant), None)
}

async fn leased(messages: &mut mpsc::Receiver<ToWorker>) -> Vec<LeaseKey> {
    match coming("leases", messages.recv()).await {
        Some(ToWorker::Leases(grants)) => grants.into_iter().map(|grant| grant.lease).collect(),
        other => panic!("{other:?} are no leases"),
    }
}

fn success() -> Report {
    Report::Success {
        result: None,
        status_detail: String::new(),
    }
}

impl Rig {
    async fn refuses(&self, reach: &Arc<Reach>, lease: &LeaseKey, report: Report) {
        let reports = vec![(lease.clone(), report)];
        let mut answers = self.engine.report(reach, reports).await.unwrap();
        assert_eq!(answers.pop().unwrap().unwrap_err(), Refusal::LeaseLost);
    }

    async fn state(&self, key: &JobKey) -> TaskState {
        self.engine.get(key).await.unwrap().tasks[0].state
    }

    fn looks(&self) -> usize {
        self.faults.looks.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_one_tenant_is_given_that_tenant_s_tasks_alone() {
    let rig = rig().await;
    let theirs = rig.submit_of("globex", &["d"]).await.key();
    // More tenants before it than take part in a round.
    for n in 0..MAX_TENANTS_PER_CLAIM {
        rig.submit_of(&format!("a{n}"), &["d"]).await;
    }
    let own = rig.submit_of("acme", &["d"]).await.key();
    let acme = hello_of(of("acme"), &["d"], 9);
    let (_session, mut messages) = rig.engine.work(acme).await.unwrap();
    let leases = leased(&mut messages).await;
    assert_eq!(
        leases.iter().map(LeaseKey::job_key).collect::<Vec<_>>(),
        [own]
    );
    rig.tick().await;
    assert!(messages.try_recv().is_err());

    let acquire = async |reach: Arc<Reach>| {
        let drivers = [Arc::from("d")].into();
        let acquired = rig.engine.acquire(&reach, "w".into(), drivers, 9, None);
        let grants = acquired.await.unwrap().into_iter();
        grants
            .map(|grant| grant.lease.job_key())
            .collect::<Vec<_>>()
    };
    assert_eq!(acquire(of("acme")).await, []);
    assert_eq!(acquire(of("nobody")).await, []);
    assert_eq!(acquire(of("globex")).await, [theirs]);
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_beyond_its_reach_have_nothing_for_a_worker() {
    let rig = rig().await;
    let jobs = [rig.submit(&["d"]).await, rig.submit(&["e"]).await];
    let of_d = reach(None, Some(&["d", "f"]));
    let both = hello_of(of_d.clone(), &["e", "d"], 9);
    let (_session, mut messages) = rig.engine.work(both).await.unwrap();
    assert_eq!(leased(&mut messages).await[0].job, jobs[0].id);
    let drivers = [Arc::from("e")].into();
    let acquired = rig.engine.acquire(&of_d, "w".into(), drivers, 9, None);
    assert!(acquired.await.unwrap().is_empty());
    let told = rig.engine.connected_drivers(&jobs[0].tenant).await.unwrap();
    assert_eq!(told, [Arc::from("d")]);
    assert_eq!(rig.state(&jobs[1].key()).await, TaskState::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_nothing_to_take_neither_spins_nor_hides_what_others_have() {
    let rig = rig().await;
    let (_acme, mut of_acme) = rig
        .engine
        .work(hello_of(of("acme"), &["d"], 9))
        .await
        .unwrap();
    rig.tick().await;
    // What is there, it may not take; and there is nobody who may.
    let theirs = rig.submit_of("globex", &["d"]).await;
    rig.tick().await;
    let looks = rig.looks();
    for _ in 0..5 {
        rig.tick().await;
        rig.submit_of("globex", &["d"]).await;
    }
    assert_eq!(
        rig.looks(),
        looks,
        "it was looked for what can not be there"
    );

    // Those who come for it find it, and take all there is.
    let (_globex, mut of_globex) = rig
        .engine
        .work(hello_of(of("globex"), &["d"], 3))
        .await
        .unwrap();
    assert_eq!(leased(&mut of_globex).await[0].job, theirs.id);
    let (_all, mut of_all) = rig.engine.work(hello("d", 9)).await.unwrap();
    assert_eq!(leased(&mut of_all).await.len(), 3);
    rig.tick().await;
    let looks = rig.looks();
    rig.tick().await;
    assert_eq!(rig.looks(), looks);
    // A task of its own is taken by one of the two who may.
    let own = rig.submit_of("acme", &["d"]).await;
    let taken = async {
        tokio::select! {
            taken = leased(&mut of_acme) => taken,
            taken = leased(&mut of_all) => taken,
        }
    };
    assert_eq!(taken.await[0].job, own.id);
    assert!(rig.looks() > looks, "looks are counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_its_tenant_wakes_a_worker() {
    let rig = rig().await;
    let engine = rig.engine.clone();
    let waits = tokio::spawn(async move {
        let drivers = [Arc::from("d")].into();
        let wait = Some(Duration::from_secs(60));
        let acme = of("acme");
        let acquired = engine.acquire(&acme, "w".into(), drivers, 4, wait);
        acquired.await.unwrap()
    });
    let (_session, mut messages) = rig
        .engine
        .work(hello_of(of("acme"), &["e"], 4))
        .await
        .unwrap();
    rig.tick().await;
    rig.submit_of("globex", &["d", "e"]).await;
    rig.tick().await;
    let own = rig.submit_of("acme", &["d", "e"]).await;
    let grants = coming("a lease", waits).await.unwrap();
    assert_eq!((grants[0].lease.job, grants[0].lease.ordinal), (own.id, 0));
    assert_eq!(leased(&mut messages).await[0].ordinal, 1);
    // And one that becomes ready by what happens to another.
    let lease = &grants[0].lease;
    let failed = Report::Release {
        reason: "going home".into(),
    };
    rig.report(lease, failed).await;
    let (_other, mut messages) = rig
        .engine
        .work(hello_of(of("acme"), &["d"], 1))
        .await
        .unwrap();
    assert_eq!(leased(&mut messages).await[0].job, own.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_from_beyond_its_reach_counts_for_nothing() {
    let rig = rig().await;
    let first = rig.submit(&["d"]).await.key();
    rig.clock.advance(Duration::from_millis(1));
    let second = rig.submit(&["d"]).await.key();
    let (session, mut messages) = rig.engine.work(hello("d", 1)).await.unwrap();
    let lease = leased(&mut messages).await.remove(0);
    assert_eq!(lease.job_key(), first);
    for beyond in [
        of("globex"),
        reach(None, Some(&["e"])),
        reach(Some("acme"), Some(&[])),
    ] {
        rig.refuses(&beyond, &lease, Report::Heartbeat).await;
        rig.refuses(&beyond, &lease, success()).await;
    }
    rig.tick().await;
    // Neither is the slot free,
    assert!(messages.try_recv().is_err());
    assert_eq!(rig.state(&second).await, TaskState::Queued);
    // nor has the worker got the lease.
    drop((session, messages));
    rig.tick().await;
    assert_eq!(rig.state(&first).await, TaskState::Queued);

    let (session, mut messages) = rig.engine.work(hello("d", 1)).await.unwrap();
    let lease = leased(&mut messages).await.remove(0);
    let own = reach(Some("acme"), Some(&["d"]));
    let heartbeat = vec![(lease.clone(), Report::Heartbeat)];
    let mut answers = rig.engine.report(&own, heartbeat).await.unwrap();
    assert!(answers.pop().unwrap().is_ok());
    drop((session, messages));
    rig.tick().await;
    assert_eq!(rig.state(&first).await, TaskState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_was_sent_a_lease_says_that_it_has_come() {
    let rig = rig().await;
    let key = rig.submit(&["d"]).await.key();
    let (session, mut messages) = rig.engine.work(hello("d", 1)).await.unwrap();
    let lease = leased(&mut messages).await.remove(0);
    let (other, _messages_of_other) = rig.engine.work(hello("e", 1)).await.unwrap();
    other.acknowledge(vec![lease]).await.unwrap();
    drop((session, messages));
    rig.tick().await;
    assert_eq!(rig.state(&key).await, TaskState::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_brought_along_from_beyond_its_reach_is_not_the_worker_s() {
    for (brings, is_within) in [
        (of("globex"), false),
        (reach(None, Some(&["e"])), false),
        (reach(Some("acme"), Some(&["e"])), false),
        (reach(Some("acme"), Some(&["e", "d"])), true),
        (everything(), true),
    ] {
        let rig = rig().await;
        let job = rig.submit(&["e", "d"]).await;
        let (holder, mut messages) = rig.engine.work(hello("d", 1)).await.unwrap();
        let lease = leased(&mut messages).await.remove(0);
        holder.acknowledge(vec![lease.clone()]).await.unwrap();
        let brought = Hello {
            held: vec![lease.clone(), lease.clone()],
            ..hello_of(brings, &["f"], 1)
        };
        let (_other, mut messages_of_other) = rig.engine.work(brought).await.unwrap();
        rig.tick().await;
        rig.engine
            .cancel(job.key(), "enough".into(), None)
            .await
            .unwrap();
        let (told, untold) = match is_within {
            true => (&mut messages_of_other, &mut messages),
            false => (&mut messages, &mut messages_of_other),
        };
        let order = coming("the order", told.recv()).await;
        assert!(matches!(order, Some(ToWorker::Cancel(of, _)) if of == lease));
        rig.tick().await;
        assert!(untold.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_another_tenant_s_workers_nothing_is_told() {
    let rig = rig().await;
    let acme = rig.submit_of("acme", &["d"]).await.key();
    let (_globex, _messages) = rig
        .engine
        .work(hello_of(of("globex"), &["d"], 4))
        .await
        .unwrap();
    let why = async |key: &JobKey| rig.engine.explain(key).await.unwrap().1.remove(0);
    let drivers = async |tenant| {
        let tenant = Tenant::new(tenant);
        rig.engine.connected_drivers(&tenant).await.unwrap()
    };
    assert_eq!(why(&acme).await.reason, "NO_WORKER");
    assert!(drivers("acme").await.is_empty());
    assert_eq!(drivers("globex").await, [Arc::from("d")]);
    // Those of all tenants are everybody's.
    rig.engine
        .pause_driver("d", String::new(), None)
        .await
        .unwrap();
    let (_all, _messages_of_all) = rig.engine.work(hello("d", 2)).await.unwrap();
    assert_eq!(drivers("acme").await, [Arc::from("d")]);
    rig.engine.resume_driver("d", None).await.unwrap();
    let globex = rig.submit_of("globex", &["e"]).await;
    let (_own, _messages_of_own) = rig
        .engine
        .work(hello_of(of("acme"), &["e"], 7))
        .await
        .unwrap();
    let (_other, _messages_of_other) = rig
        .engine
        .work(hello_of(of("umbrella"), &["e"], 7))
        .await
        .unwrap();
    assert_eq!(why(&globex.key()).await.reason, "NO_WORKER");
}
