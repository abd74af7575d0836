//! The audit log: what was done and what was tried, by whom, to what, from where; nothing that is secret; for those of the tenant, and whole on every node.

use std::collections::{BTreeMap, BTreeSet};

use longhaul::proto::v1::{
    AuditRecord, CreateKeyRequest, CreateKeyResponse, ListAuditRequest, ListAuditResponse, Role,
    WatchAuditRequest, WatchAuditResponse, audit_record::Outcome,
};
use prost::Message;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    cast::{CANARY, Cast, OTHER, OWN, caller, key, make_key, revoke, wanted},
    contract::own,
    requests::{good, grpc},
    served::{On, Served, call, on_each_store},
    wire::{Ask, PATIENCE, Wire},
};

/// Methods that change something, and so are in the log; what workers and submitters do all day is in the history of each job.
const AUDITED: [&str; 10] = [
    "JobService.Cancel",
    "JobService.Retry",
    "JobService.Delete",
    "AdminService.PauseDriver",
    "AdminService.ResumeDriver",
    "AdminService.CreateTenant",
    "AdminService.UpdateTenant",
    "AdminService.CreateKey",
    "AdminService.RevokeKey",
    "AdminService.RotateDataKeys",
];

/// All of the log that somebody may read, newest first, in pages of this size.
async fn log(served: &Served, key: &str, page_size: i32) -> Vec<AuditRecord> {
    let mut records = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListAuditRequest {
            page_size,
            page_token,
            ..ListAuditRequest::default()
        };
        let page = served.call(key, "AdminService/ListAudit", &request);
        let page: ListAuditResponse = page.await.unwrap();
        assert!(page.records.len() <= page_size.unsigned_abs() as usize);
        records.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return records;
        }
    }
}

/// The record of this call; what was denied is written when there is time.
async fn record(served: &Served, key: &str, request_id: &str) -> AuditRecord {
    let found = async {
        loop {
            let records = log(served, key, 200).await;
            if let Some(record) = records.into_iter().find(|r| r.request_id == request_id) {
                return record;
            }
        }
    };
    let found = timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("{request_id} is not in the log"))
}

/// What it is about, by the request.
fn target(name: &str, message: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match name {
        "AdminService.CreateTenant" => text(&message["tenant"]["name"]),
        "AdminService.UpdateTenant" => text(&message["name"]),
        "AdminService.RevokeKey" => text(&message["key_id"]),
        // It has no name before it is made.
        "AdminService.CreateKey" => None,
        name if name.starts_with("JobService.") => text(&message["job_id"]),
        _ => text(&message["driver"]),
    }
}

async fn what_changes_something_is_in_the_log(on: On) {
    let cast = Cast::on(on).await;
    let served = &cast.served;
    let operator = &served.first_key;
    for method in own() {
        let name = method.name();
        if !AUDITED.contains(&name.as_str()) {
            continue;
        }
        // The owner does what is its own, the operator what is everybody's.
        let is_own = !matches!(method.asks, crate::contract::Asks::Operator);
        let who = if is_own { &cast.owner } else { operator };
        let called = caller(served, who).await.unwrap();
        let message = good(&cast, &name).await.message;
        let request_id = Uuid::now_v7().to_string();
        let ask = grpc(&method, &message)
            .key(who)
            .with("x-request-id", &request_id);
        let answer = served.wire().ask(&ask, false).await;
        answer.grpc().unwrap();
        let record = record(served, operator, &request_id).await;
        assert_eq!(record.actor, called.name, "{name}");
        assert_eq!(record.actor_tenant, called.tenant, "{name}");
        assert_eq!(record.address, "127.0.0.1", "{name}");
        assert_eq!(record.action, method.descriptor.name());
        assert_eq!(record.outcome(), Outcome::Done, "{name}");
        assert_eq!(record.detail, "", "{name}");
        if let Some(target) = target(&name, &message) {
            assert_eq!(record.target, target, "{name}");
        }
        if is_own {
            assert_eq!(record.tenant, OWN, "{name}");
        }
    }
    assert_eq!(
        own()
            .iter()
            .filter(|m| AUDITED.contains(&m.name().as_str()))
            .count(),
        AUDITED.len()
    );
    cast.served.stop().await;
}

async fn what_was_refused_or_denied_is_in_the_log(on: On) {
    let cast = Cast::on(on).await;
    let served = &cast.served;
    let reader = key(served, OWN, &[Role::Read], false).await;
    let admin = key(served, OWN, &[Role::Admin], false).await;
    let of_one = CreateKeyRequest {
        drivers: vec!["mine".to_owned()],
        ..wanted(OWN, &[Role::Work])
    };
    let made = served.call(&served.first_key, "AdminService/CreateKey", &of_one);
    let made: CreateKeyResponse = made.await.unwrap();
    let worker = made.secret;
    let open = cast.job().await.id;
    let takes = json!({"worker": "w", "drivers": ["yours"]});
    let works = json!({"hello": {"name": "w", "drivers": ["mine", "yours"]}});
    let given = json!({"roles": ["ROLE_SUBMIT"]});
    let path = format!("/v1/jobs/{open}:cancel");
    let grpc = |name: &str, message: &Value| {
        let methods = own();
        let method = methods.iter().find(|method| method.name() == name);
        grpc(method.unwrap(), message)
    };
    let job = json!({"job_id": open});
    let delete = || grpc("JobService.Delete", &job);
    for (who, ask, action, target, outcome) in [
        (
            &cast.owner,
            delete(),
            "Delete",
            open.as_str(),
            Outcome::Refused,
        ),
        (&reader, delete(), "Delete", "", Outcome::Denied),
        (
            &reader,
            grpc("JobService.Submit", &json!({})),
            "Submit",
            "",
            Outcome::Denied,
        ),
        (
            &reader,
            grpc("AdminService.ListAudit", &json!({})),
            "ListAudit",
            "",
            Outcome::Denied,
        ),
        (
            &reader,
            Ask::http("POST", &path),
            "POST",
            path.as_str(),
            Outcome::Denied,
        ),
        (
            &admin,
            grpc("AdminService.CreateKey", &given),
            "CreateKey",
            OWN,
            Outcome::Denied,
        ),
        (
            &worker,
            grpc("WorkerService.Acquire", &takes),
            "Acquire",
            "yours",
            Outcome::Denied,
        ),
        (
            &worker,
            grpc("WorkerService.Work", &works),
            "Work",
            "mine yours",
            Outcome::Denied,
        ),
    ] {
        let request_id = Uuid::now_v7().to_string();
        let ask = ask.key(who).with("x-request-id", &request_id);
        let answer = served.other_wire().ask(&ask, false).await;
        assert!(answer.status >= 400 || answer.grpc().is_err(), "{answer:?}");
        let record = record(served, &served.first_key, &request_id).await;
        assert_eq!(
            (record.action.as_str(), record.target.as_str()),
            (action, target)
        );
        assert_eq!(record.outcome(), outcome, "{record:?}");
        assert_eq!(
            (record.tenant.as_str(), record.actor_tenant.as_str()),
            (OWN, OWN)
        );
        assert_eq!(record.actor, caller(served, who).await.unwrap().name);
        assert_eq!(record.address, "127.0.0.1");
        assert_eq!(
            record.detail.is_empty(),
            outcome == Outcome::Denied,
            "{record:?}"
        );
    }
    cast.served.stop().await;
}

/// Those of a tenant read what concerns it, whoever did it, and nothing else.
async fn the_log_is_of_ones_own_tenant(on: On) {
    let cast = Cast::on(on).await;
    let served = &cast.served;
    let spare = cast.spare_key().await.key_id;
    revoke(served, &spare).await;
    let whole = log(served, &served.first_key, 200).await;
    for (who, tenant) in [(&cast.owner, OWN), (&cast.other, OTHER)] {
        let own = log(served, who, 200).await;
        let expected: Vec<_> = whole
            .iter()
            .filter(|r| r.tenant == tenant)
            .cloned()
            .collect();
        assert_eq!(own, expected);
        // However long the pages are.
        assert_eq!(log(served, who, 3).await, expected);
    }
    let own = log(served, &cast.owner, 200).await;
    let revoked = own
        .iter()
        .find(|r| r.action == "RevokeKey" && r.target == spare);
    let revoked = revoked.expect("the operator's doings concern the tenant");
    assert_eq!(revoked.actor_tenant, "default");
    let times: Vec<_> = whole.iter().map(|r| r.time.unwrap()).collect();
    let is_newest_first = times
        .windows(2)
        .all(|two| (two[0].seconds, two[0].nanos) >= (two[1].seconds, two[1].nanos));
    assert!(is_newest_first);
    cast.served.stop().await;
}

/// Neither the secrets of keys nor what jobs hold.
async fn nothing_secret_is_in_the_log(on: On) {
    let cast = Cast::on(on).await;
    let served = &cast.served;
    let made = make_key(served, OWN, &[Role::Read], false).await;
    let job = json!({
        "summary": CANARY,
        "labels": {"canary": CANARY},
        "tasks": [{"driver": "nobody", "request_payload": {"password": CANARY}}],
    });
    let submit = |who: &str| Ask::http("POST", "/v1/jobs").json(&job).key(who);
    let stored = served.wire().ask(&submit(&cast.owner), false).await.json();
    served.wire().ask(&submit(&made.secret), false).await;
    let id = stored["id"].as_str().unwrap();
    for (verb, path) in [
        ("POST", format!("/v1/jobs/{id}:cancel")),
        ("DELETE", format!("/v1/jobs/{id}")),
    ] {
        for (who, query) in [(&made.secret, "?canary=1"), (&cast.owner, "")] {
            let ask = Ask::http(verb, &format!("{path}{query}")).key(who);
            served.wire().ask(&ask, false).await;
        }
    }
    let marker = Uuid::now_v7().to_string();
    let ask = submit(&made.secret).with("x-request-id", &marker);
    served.wire().ask(&ask, false).await;
    // Denials are written in their order.
    record(served, &served.first_key, &marker).await;
    let whole = format!("{:?}", log(served, &served.first_key, 200).await);
    assert!(
        whole.contains("Cancel") && whole.contains("POST"),
        "{whole}"
    );
    for secret in [&made.secret, &cast.owner, &served.first_key] {
        let (_, hidden) = secret.rsplit_once('_').unwrap();
        assert!(!whole.contains(hidden));
    }
    assert!(
        !whole.contains(CANARY) && !whole.contains("canary="),
        "{whole}"
    );
    cast.served.stop().await;
}

/// Follows the log until it has told of so many calls of this name; each record once.
async fn follow(wire: Wire, key: String, request_id: String, count: usize) -> Vec<AuditRecord> {
    let request = WatchAuditRequest::default().encode_to_vec();
    let ask = Ask::grpc("/longhaul.v1.AdminService/WatchAudit", &request).key(&key);
    let mut stream = wire.open(&ask).await;
    let mut told = Vec::new();
    while told.len() < count {
        let said = stream.first().await;
        said.grpc().unwrap();
        for message in said.messages() {
            let message = WatchAuditResponse::decode(message).unwrap();
            let ours = message.records.into_iter();
            told.extend(ours.filter(|record| record.request_id == request_id));
        }
    }
    told
}

async fn a_watch_tells_all_that_is_done_anywhere(on: On) {
    let cast = Cast::on(on).await;
    let served = &cast.served;
    let request_id = Uuid::now_v7().to_string();
    let count = 40;
    let watches = served.wires.iter().map(|wire| {
        let follow = follow(wire.clone(), cast.owner.clone(), request_id.clone(), count);
        tokio::spawn(follow)
    });
    let watches: Vec<_> = watches.collect();
    let mut done = BTreeMap::new();
    for n in 0..count {
        let id = cast.job().await.id;
        let wire = &served.wires[n % served.wires.len()];
        let ask = Ask::http("POST", &format!("/v1/jobs/{id}:cancel")).key(&cast.owner);
        let answer = wire
            .ask(&ask.with("x-request-id", &request_id), false)
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        done.insert(id, ());
    }
    for watch in watches {
        let told = timeout(PATIENCE, watch)
            .await
            .expect("it tells all")
            .unwrap();
        let ids: BTreeSet<_> = told.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids.len(), count, "nothing is told twice");
        let targets: BTreeMap<_, _> = told.iter().map(|r| (r.target.clone(), ())).collect();
        assert_eq!(targets, done);
    }
    // And the newest come first to whoever asks for them, in their order.
    let request = WatchAuditRequest {
        newest: 5,
        ..WatchAuditRequest::default()
    };
    let ask = Ask::grpc(
        "/longhaul.v1.AdminService/WatchAudit",
        &request.encode_to_vec(),
    );
    let first = served.wire().ask(&ask.key(&cast.owner), true).await;
    let first: WatchAuditResponse = first.message().unwrap();
    let mut newest = log(served, &cast.owner, 200).await;
    newest.truncate(5);
    newest.reverse();
    assert_eq!(first.records, newest);
    let elsewhere: ListAuditResponse = call(
        served.other_wire(),
        &cast.owner,
        "AdminService/ListAudit",
        &ListAuditRequest {
            page_size: 5,
            ..ListAuditRequest::default()
        },
    )
    .await
    .unwrap();
    newest.reverse();
    assert_eq!(elsewhere.records, newest);
    cast.served.stop().await;
}

on_each_store!(
    what_changes_something_is_in_the_log,
    what_was_refused_or_denied_is_in_the_log,
    the_log_is_of_ones_own_tenant,
    nothing_secret_is_in_the_log,
    a_watch_tells_all_that_is_done_anywhere,
);
