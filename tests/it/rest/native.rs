//! The native API under `/v1`.

mod lists;

use std::time::Duration;

use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::web::{Reply, call, get, post};
use crate::harness::Server;

/// Nothing in these tests should take longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn job(driver: &str) -> Value {
    json!({"action": "create", "summary": "a job", "tasks": [{"driver": driver, "requestPayload": {"n": 1}}]})
}

pub(super) async fn submit(server: &Server, driver: &str) -> String {
    let reply = post(server, "/v1/jobs", &job(driver)).send().await;
    reply.expect(202)["id"].as_str().unwrap().to_owned()
}

/// Takes the only lease that there is.
pub(super) async fn lease(server: &Server, driver: &str) -> Value {
    let request = json!({"worker": "w", "drivers": [driver], "wait": "30s"});
    let reply = post(server, "/v1/workers:acquire", &request).send().await;
    reply.expect(200)["leases"][0].clone()
}

pub(super) async fn report(
    server: &Server,
    lease: &Value,
    report: &str,
    content: Value,
    wait: Option<&str>,
) -> Value {
    let mut request = json!({"reports": [{"leaseToken": lease["leaseToken"], report: content}]});
    if let Some(wait) = wait {
        request["wait"] = wait.into();
    }
    let reply = post(server, "/v1/workers:report", &request).send().await;
    reply.expect(200)
}

/// As docs/rest.md has them.
#[tokio::test]
async fn every_report_that_is_documented_is_taken() {
    let server = Server::start().await;
    let documented = include_str!("../../../docs/rest.md").lines();
    let documented = documented.filter_map(|line| line.strip_prefix("| `\""));
    let mut reports = 0;
    for line in documented {
        let (example, rest) = line.split_once("` |").expect("an example in a row");
        let example: Value = serde_json::from_str(&format!("{{\"{example}}}")).unwrap();
        let (report, _) = example.as_object().unwrap().iter().next().unwrap();
        let id = submit(&server, "d").await;
        let lease = lease(&server, "d").await;
        if report.starts_with("cancel") {
            let cancel = post(&server, &format!("/v1/jobs/{id}:cancel"), &json!({}));
            cancel.send().await.expect(202);
        }
        let mut entry = example.clone();
        entry["leaseToken"] = lease["leaseToken"].clone();
        let request = post(&server, "/v1/workers:report", &json!({"reports": [entry]}));
        let answer = request.send().await.expect(200);
        let result = &answer["results"][0];
        assert_eq!(result["error"], Value::Null, "{example}: {answer}");
        let ends = rest.contains("yes");
        assert_eq!(result["expireTime"].is_null(), ends, "{example}: {answer}");
        // Nobody else is to be given the task in a later round.
        let held = json!({"reports": [{"leaseToken": lease["leaseToken"], "success": {}}]});
        if !ends {
            post(&server, "/v1/workers:report", &held)
                .send()
                .await
                .expect(200);
        } else if report == "release" {
            let again = self::lease(&server, "d").await;
            let done = json!({"reports": [{"leaseToken": again["leaseToken"], "success": {}}]});
            post(&server, "/v1/workers:report", &done)
                .send()
                .await
                .expect(200);
        }
        reports += 1;
    }
    assert_eq!(reports, 8, "one for each kind");
}

/// The worker learns at once that it works for nothing, and not when something is wanted of its other lease.
#[tokio::test]
async fn a_refused_report_does_not_wait_for_orders() {
    let server = Server::start().await;
    submit(&server, "d").await;
    submit(&server, "d").await;
    let (lost, held) = (lease(&server, "d").await, lease(&server, "d").await);
    report(&server, &lost, "release", json!({}), None).await;
    let beat = |lease: &Value| json!({"leaseToken": lease["leaseToken"], "heartbeat": {}});
    let request = json!({"reports": [beat(&lost), beat(&held)], "wait": "60s"});
    let request = post(&server, "/v1/workers:report", &request);
    let reply = tokio::time::timeout(PATIENCE / 2, request.send()).await;
    let answer = reply
        .expect("it is there before the wait is over")
        .expect(200);
    let codes = [0, 1].map(|n| &answer["results"][n]["error"]["details"][0]["reason"]);
    assert_eq!(codes, [&json!("LEASE_LOST"), &Value::Null], "{answer}");
}

#[tokio::test]
async fn a_job_that_is_accepted_says_where_it_is() {
    let server = Server::start().await;
    let reply = post(&server, "/v1/jobs", &job("d")).send().await;
    let job = reply.expect(202);
    let place = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(reply.header("location"), place);
    assert_eq!(reply.header("operation-location"), place);
    assert_eq!(reply.header("etag"), "\"1\"");
    assert!(reply.header("retry-after").parse::<u32>().is_ok());
    assert_eq!(job["state"], "STATE_QUEUED");
    assert_eq!(job["revision"], "1");
    assert_eq!(job["tasks"][0]["requestPayload"], json!({"n": 1}));
    let read = get(&server, &place).send().await;
    assert_eq!(read.expect(200), job);
    assert_eq!(
        get(&server, &format!("{place}/")).send().await.expect(200),
        job
    );
    let head = call(&server, "HEAD", &place).send().await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    assert_eq!(head.header("etag"), "\"1\"");
    server.stop().await;
}

#[tokio::test]
async fn a_conditional_get_is_a_long_poll_on_the_revision() {
    let server = Server::start().await;
    let id = submit(&server, "d").await;
    let path = format!("/v1/jobs/{id}");
    let same = get(&server, &path)
        .header("if-none-match", "\"1\"")
        .send()
        .await;
    assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""));
    let timed_out = get(&server, &path)
        .header("if-none-match", "\"1\"")
        .header("prefer", "wait=1");
    assert_eq!(timed_out.send().await.status.as_u16(), 304);

    let poll = get(&server, &path)
        .header("if-none-match", "\"1\"")
        .header("prefer", "wait=60")
        .send();
    let (reply, lease) = tokio::join!(poll, lease(&server, "d"));
    assert_eq!(reply.expect(200)["state"], "STATE_RUNNING");
    assert_eq!(reply.header("preference-applied"), "wait=60");
    assert_eq!(reply.header("etag"), "\"2\"");

    let end = get(&server, &path).header("prefer", "wait=60").send();
    let (end, _) = tokio::join!(
        end,
        report(
            &server,
            &lease,
            "success",
            json!({"result": {"size": 7}}),
            None
        )
    );
    assert_eq!(end.expect(200)["result"], json!({"size": 7}));
    server.stop().await;
}

#[tokio::test]
async fn who_submits_may_wait_for_the_end() {
    let server = Server::start().await;
    let waiting = post(&server, "/v1/jobs", &job("d"))
        .header("prefer", "respond-async, wait=60")
        .send();
    let working = async {
        let lease = lease(&server, "d").await;
        report(&server, &lease, "success", json!({}), None).await;
    };
    let (reply, ()) = tokio::join!(waiting, working);
    assert_eq!(reply.expect(200)["state"], "STATE_SUCCEEDED");
    let not_in_time = post(&server, "/v1/jobs", &job("nobody"))
        .header("prefer", "wait=1")
        .send()
        .await;
    assert_eq!(not_in_time.expect(202)["state"], "STATE_QUEUED");
    server.stop().await;
}

#[tokio::test]
async fn a_worker_without_a_stream_hears_of_a_cancel_while_it_waits() {
    let server = Server::start().await;
    let id = submit(&server, "d").await;
    let lease = lease(&server, "d").await;
    let place = format!("/v1/jobs/{id}");
    let leased = get(&server, &place).send().await;
    let progress = json!({"progress": {"done": "1", "total": "2"}});
    let waiting = report(&server, &lease, "progress", progress, Some("60s"));
    let cancelling = async {
        // When its progress is there the report was taken, and nothing was wanted of the worker.
        let next = get(&server, &place).header("if-none-match", leased.header("etag"));
        next.header("prefer", "wait=60").send().await.expect(200);
        let cancel = post(
            &server,
            &format!("{place}:cancel"),
            &json!({"reason": "enough"}),
        );
        cancel.send().await.expect(202)
    };
    let told = tokio::time::timeout(PATIENCE, async { tokio::join!(waiting, cancelling) });
    let (told, _) = told.await.expect("well before the wait is over");
    let directive = &told["directives"][0];
    assert_eq!(directive["type"], "TYPE_CANCEL");
    assert_eq!(directive["reason"], "enough");
    assert_eq!(directive["leaseToken"], lease["leaseToken"]);

    // Once it has said that it knows, it is not told again, and the wait is one for its end.
    let known = report(&server, &lease, "cancelAcknowledged", json!({}), Some("1s")).await;
    assert_eq!(known["directives"], Value::Null);
    report(&server, &lease, "cancelled", json!({}), None).await;
    let job = get(&server, &place).send().await.expect(200);
    assert_eq!(job["state"], "STATE_CANCELLED");
    assert!(job["cancel"]["deliveredTime"].is_string());
    server.stop().await;
}

#[tokio::test]
async fn everything_that_the_contract_has_can_be_done_with_curl() {
    let server = Server::start().await;
    let batch = json!({"requests": [{"job": job("d")}, {"job": {}}]});
    let batch = post(&server, "/v1/jobs:batch", &batch)
        .send()
        .await
        .expect(200);
    let id = batch["results"][0]["jobId"].as_str().unwrap();
    assert_eq!(batch["results"][1]["error"]["code"], 3);
    let path = |rest: &str| format!("/v1/jobs/{id}{rest}");
    let explained = get(&server, &path(":explain")).send().await.expect(200);
    assert_eq!(explained["explanations"][0]["reason"], "NO_WORKER");
    let counts = get(&server, "/v1/jobs:counts").send().await.expect(200);
    assert_eq!(
        counts["jobs"][0],
        json!({"state": "STATE_QUEUED", "count": "1"})
    );
    let list = get(&server, "/v1/jobs?filter=state%20%3D%20QUEUED&pageSize=5")
        .send()
        .await;
    assert_eq!(list.expect(200)["totalSize"], "1");
    let waited = get(&server, &path(":wait?afterRevision=1&timeout=0.1s"))
        .send()
        .await
        .expect(200);
    assert_eq!(waited["timedOut"], true);
    post(&server, "/v1/drivers/d:pause", &json!({"reason": "tea"}))
        .send()
        .await
        .expect(200);
    let info = get(&server, "/v1/server").send().await.expect(200);
    assert_eq!(info["pausedDrivers"][0]["reason"], "tea");
    post(&server, "/v1/drivers/d:resume", &json!({}))
        .send()
        .await
        .expect(200);
    let ended = post(&server, &path(":cancel"), &json!({}))
        .send()
        .await
        .expect(200);
    assert_eq!(ended["state"], "STATE_CANCELLED");
    let events = get(&server, &path("/events?pageSize=1"))
        .send()
        .await
        .expect(200);
    let token = events["nextPageToken"].as_str().unwrap();
    let rest = get(&server, &path(&format!("/events?pageToken={token}")))
        .send()
        .await;
    assert_eq!(rest.expect(200)["events"][0]["revision"], "2");
    let again = post(&server, &path(":retry"), &json!({}))
        .send()
        .await
        .expect(202);
    assert_eq!(again["retryOfJobId"], *id);
    call(&server, "DELETE", &path("")).send().await.expect(200);
    get(&server, &path("")).send().await.expect(404);
    server.stop().await;
}

/// The ids, events and data of a stream of events, as far as it has come.
fn parsed(text: &str) -> Vec<(Option<String>, String, Value)> {
    let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
    let events = whole.split("\n\n").filter_map(|block| {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::to_owned)
        };
        let data = serde_json::from_str(&field("data: ")?).unwrap();
        Some((field("id: "), field("event: ")?, data))
    });
    events.collect()
}

/// Reads a stream of events until one of them is the last that is wanted, or it ends.
async fn events_until(
    call: super::web::Call<'_>,
    last: impl Fn(&(Option<String>, String, Value)) -> bool,
) -> Vec<(Option<String>, String, Value)> {
    let response = call.header("accept", "text/event-stream").open().await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(
        response.headers()["cache-control"],
        "no-cache, no-transform"
    );
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    let reading = async {
        while let Some(Ok(bytes)) = body.next().await {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
            if parsed(&text).iter().any(&last) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("it comes");
    parsed(&text)
}

#[tokio::test]
async fn events_of_a_job_go_on_behind_the_last_id_after_a_restart() {
    let mut server = Server::start().await;
    let id = submit(&server, "d").await;
    let path = format!("/v1/jobs/{id}");
    let first = events_until(get(&server, &path), |_| true).await;
    assert_eq!(first[0].0.as_deref(), Some("1"));
    assert_eq!(first[0].1, "snapshot");

    let lease = lease(&server, "d").await;
    report(&server, &lease, "warning", json!({"message": "slow"}), None).await;
    server.kill9().await;
    server.restart().await;

    let resumed = get(&server, &path).header("last-event-id", "1");
    let end = report(
        &server,
        &lease,
        "success",
        json!({"result": {"a": 1}}),
        None,
    );
    let (rest, _) = tokio::join!(
        events_until(resumed, |(_, _, data)| data["final"] == true),
        end
    );
    let mut known = 1;
    for (id, event, data) in &rest {
        assert_eq!(event, "snapshot");
        assert_eq!(data["fromRevision"], known.to_string(), "{rest:?}");
        known = data["revision"].as_str().unwrap().parse().unwrap();
        assert_eq!(id.as_deref(), Some(known.to_string().as_str()));
        assert_eq!(data["job"]["revision"], data["revision"]);
    }
    let (_, _, last) = rest.last().unwrap();
    assert_eq!(
        (last["final"].clone(), last["job"]["result"].clone()),
        (true.into(), json!({"a": 1}))
    );

    // Who has the last word is told not to come back.
    let over = get(&server, &path).header("accept", "text/event-stream");
    let over = over
        .header("last-event-id", &known.to_string())
        .send()
        .await;
    assert_eq!(over.status.as_u16(), 204);
    server.stop().await;
}

#[tokio::test]
async fn events_of_a_filtered_set_go_on_behind_the_last_id_after_a_restart() {
    let mut server = Server::start().await;
    let before = submit(&server, "d").await;
    submit(&server, "other").await;
    let path = "/v1/jobs?filter=driver%3Dd";
    let listed = events_until(get(&server, path), |(_, event, _)| event == "synced").await;
    assert_eq!(listed[0].2["changes"][0]["jobId"], *before);
    assert_eq!(listed.len(), 2, "{listed:?}");
    let cursor = listed[1].0.clone().unwrap();

    let during = submit(&server, "d").await;
    server.kill9().await;
    server.restart().await;
    let after = submit(&server, "d").await;

    let resumed = get(&server, path).header("last-event-id", &cursor);
    let is_last = |data: &Value| {
        let changes = data["changes"].as_array();
        changes.is_some_and(|changes| changes.iter().any(|c| c["jobId"] == *after))
    };
    let told = events_until(resumed, |(_, _, data)| is_last(data)).await;
    let changes = told
        .iter()
        .filter_map(|(_, _, data)| data["changes"].as_array());
    let jobs: Vec<&str> = changes
        .flatten()
        .map(|change| change["jobId"].as_str().unwrap())
        .collect();
    assert_eq!(jobs, [during.as_str(), after.as_str()]);
    server.stop().await;
}

#[tokio::test]
async fn long_polls_and_events_end_cleanly_when_the_server_goes() {
    let mut server = Server::start_with(&["--quota-watches", "6"]).await;
    let id = submit(&server, "d").await;
    let path = format!("/v1/jobs/{id}");
    let poll = |wait| get(&server, &path).header("prefer", wait).send();
    let long_poll = || async {
        loop {
            let reply = poll("wait=120").await;
            // Whoever looks whether there is room takes some of it for a moment.
            if reply.status.as_u16() != 429 {
                return reply;
            }
        }
    };
    let events = get(&server, &path).header("accept", "text/event-stream");
    let events = events.open().await.into_body().collect();
    let polls = futures_util::future::join_all((0..5).map(|_| long_poll()));
    let drain = async {
        // There is no room for a seventh once all six are there.
        while poll("wait=0").await.status.as_u16() != 429 {}
        server.sigterm();
    };
    let (polls, events, ()) = tokio::join!(polls, events, drain);
    for poll in polls {
        assert_eq!(poll.expect(200)["state"], "STATE_QUEUED");
    }
    let events = events.unwrap().to_bytes();
    let events = parsed(std::str::from_utf8(&events).unwrap());
    assert!(
        events.iter().any(|(_, event, _)| event == "draining"),
        "{events:?}"
    );
    let status = server.exit(crate::harness::EXIT_WITHIN).await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn mistakes_are_problems_that_say_what_to_do() {
    let server = Server::start().await;
    let problem = |reply: Reply, status: u16, reason: &str| {
        assert_eq!(reply.header("content-type"), "application/problem+json");
        let problem = reply.expect(status);
        assert_eq!(problem["reason"], reason);
        assert_eq!(problem["status"], status);
        problem
    };
    let bad = post(&server, "/v1/jobs?x=1", &json!({"tasks": [{"driver": 3}]}))
        .send()
        .await;
    let bad = problem(bad, 400, "INVALID_REQUEST");
    let fields: Vec<_> = bad["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["job.tasks[0].driver", "x"]);
    let none = get(&server, "/v1/jobs/01931b5e-7f3a-7cc3-98c4-dc0c0c07398f")
        .header("accept-language", "fr");
    let none = problem(none.send().await, 404, "JOB_NOT_FOUND");
    assert_eq!(
        none["detail"],
        "aucun job 01931b5e-7f3a-7cc3-98c4-dc0c0c07398f"
    );
    let put = call(&server, "PUT", "/v1/jobs").send().await;
    assert_eq!(put.header("allow"), "POST, GET, HEAD, OPTIONS");
    problem(put, 405, "METHOD_NOT_ALLOWED");
    problem(
        get(&server, "/v2/nothing").send().await,
        404,
        "PATH_NOT_FOUND",
    );
    let form = call(&server, "POST", "/v1/jobs").body("{}").send().await;
    problem(form, 415, "UNSUPPORTED_MEDIA_TYPE");
    let foreign = post(&server, "/v1/jobs", &job("d")).header("sec-fetch-site", "cross-site");
    problem(foreign.send().await, 403, "CROSS_SITE");
    let options = call(&server, "OPTIONS", "/v1/jobs").send().await;
    assert_eq!(options.status.as_u16(), 204);
    let counts = get(&server, "/v1/jobs:counts").send().await.expect(200);
    assert_eq!(counts, json!({}), "nothing was submitted");
    server.stop().await;
}

#[tokio::test]
async fn only_so_many_requests_of_a_tenant_wait() {
    let server = Server::start_with(&["--quota-watches", "1"]).await;
    let id = submit(&server, "d").await;
    let path = format!("/v1/jobs/{id}");
    let events = get(&server, &path)
        .header("accept", "text/event-stream")
        .open()
        .await;
    let second = get(&server, &path).header("prefer", "wait=9").send().await;
    assert_eq!(second.expect(429)["reason"], "QUOTA_EXCEEDED");
    assert_eq!(second.header("retry-after"), "1");
    // What is stored is not answered as if it were not, and nothing is said of a wait that was none.
    for collection in ["/v1/jobs", "/v2.1/jobs", "/api/jobs"] {
        let stored = post(&server, collection, &job("d")).header("prefer", "wait=9");
        let stored = stored.send().await;
        stored.expect(202);
        assert!(
            stored.headers.get("preference-applied").is_none(),
            "{stored:?}"
        );
    }
    // Whatever may be answered later counts, and what is answered at once does not.
    let waits = format!("{path}:wait");
    let report = json!({"reports": [{"leaseToken": ""}], "wait": "9s"});
    for waiting in [
        get(&server, &waits),
        get(&server, &format!("{waits}?timeout=9s")),
        post(
            &server,
            "/v1/workers:acquire",
            &json!({"worker": "w", "drivers": ["e"], "wait": "9s"}),
        ),
        post(&server, "/v1/workers:report", &report),
    ] {
        assert_eq!(waiting.send().await.expect(429)["reason"], "QUOTA_EXCEEDED");
    }
    for at_once in [
        get(&server, &format!("{waits}?timeout=0s")),
        post(
            &server,
            "/v1/workers:acquire",
            &json!({"worker": "w", "drivers": ["e"]}),
        ),
        post(
            &server,
            "/v1/workers:report",
            &json!({"reports": [{"leaseToken": ""}]}),
        ),
    ] {
        at_once.send().await.expect(200);
    }
    drop(events);
    server.stop().await;
}

#[tokio::test]
async fn the_reference_comes_from_here_alone() {
    let server = Server::start().await;
    let document = get(&server, "/openapi.json").send().await.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    let submit = &document["paths"]["/v1/jobs"]["post"];
    assert_eq!(submit["operationId"], "Submit");
    assert!(submit["requestBody"]["content"]["application/json"]["example"].is_object());
    for path in ["/", "/docs"] {
        let reply = get(&server, path).send().await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("location")),
            (307, "/docs/")
        );
    }
    let page = get(&server, "/docs/").send().await;
    assert!(page.header("content-security-policy").contains("'self'"));
    let loads = page
        .text
        .split(['"', '\''])
        .filter(|word| word.ends_with(".js") || word.ends_with(".css"));
    let mut loaded = 0;
    for file in loads {
        let file = file.strip_prefix("./").unwrap_or(file);
        let status = get(&server, &format!("/docs/{file}")).open().await.status();
        assert_eq!(status.as_u16(), 200, "{file}");
        loaded += 1;
    }
    assert!(loaded >= 4, "{}", page.text);
    assert!(!page.text.contains("http"), "{}", page.text);
    server.stop().await;
}

#[tokio::test]
async fn probes_are_answered() {
    let server = Server::start().await;
    for path in ["/livez", "/readyz"] {
        let probe = get(&server, path).send().await;
        assert_eq!(probe.expect(200), json!({"status": "SERVING"}));
    }
    server.stop().await;
}
