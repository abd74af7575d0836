//! What somebody may read: it has nothing of another tenant in it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    cast::{CANARY, Cast, OWN, cancel},
    contract::{forms, methods},
    matrix::{Wrong, assert_right},
    requests::{good, grpc, http},
    rest::COLLECTIONS,
    served::{On, Served, on_each_store},
    wire::Ask,
};

/// Calls whatever names nothing, and looks for what another tenant has.
async fn strangers_things(cast: &Cast) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let id = cast.job().await.id;
    let key = cast.spare_key().await.key_id;
    cancel(&cast.served, &cast.owner, &id).await.unwrap();
    let mut asks = Vec::new();
    for method in methods() {
        let asked = good(cast, &method.name()).await;
        if asked.foreign.is_some() {
            continue;
        }
        let mine = asked.message.to_string().replace(CANARY, "mine");
        let mine: Value = serde_json::from_str(&mine).unwrap();
        asks.push((method.name(), grpc(&method, &mine), method.may_last()));
        for form in forms().iter().filter(|f| f.method.name() == method.name()) {
            let name = format!("{} {}", form.verb, form.path);
            asks.push((name, http(form, &mine), method.may_last()));
        }
    }
    for (collection, _, _) in COLLECTIONS {
        asks.push((collection.to_owned(), Ask::http("GET", collection), false));
    }
    for (cell, ask, may_last) in asks {
        let answer = cast
            .served
            .wire()
            .ask(&ask.key(&cast.other), may_last)
            .await;
        let text = answer.text();
        let found = [CANARY, OWN, &id, &key]
            .into_iter()
            .find(|it| text.contains(it));
        if let Some(found) = found {
            let told = format!("{found} is in {answer:?}");
            wrong.push(Wrong { cell, told });
        }
    }
    wrong
}

async fn what_one_may_read_is_ones_own(on: On) {
    let cast = Cast::on(on).await;
    assert_right(&strangers_things(&cast).await);
    cast.served.stop().await;
}

on_each_store!(what_one_may_read_is_ones_own);

/// The control: with a key of the same tenant there is something to be found.
#[tokio::test]
async fn a_key_of_the_same_tenant_reads_it() {
    let served = Served::on(On::Memory).await;
    let cast = Cast::of(served, OWN).await;
    let read: BTreeSet<_> = strangers_things(&cast)
        .await
        .into_iter()
        .map(|w| w.cell)
        .collect();
    for expected in [
        "JobService.List",
        "GET /v1/jobs",
        "JobService.WatchJobs",
        "AdminService.GetCaller",
        "AdminService.ListKeys",
        "AdminService.ListAudit",
        "/api/jobs",
        "/v2.1/jobs",
        "/management-server/jobs",
    ] {
        assert!(read.contains(expected), "{expected}: {read:?}");
    }
    cast.served.stop().await;
}
