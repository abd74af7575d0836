//! NetApp Service Engine v2.1: the documented procedure, step by step, as its clients follow it.

mod lists;

use std::time::Duration;

use longhaul::proto::v1::CancelRequest;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::web::{Reply, call, get, post};
use crate::harness::Server;

/// Nothing in these tests should take longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a documented client pauses before it asks again.
const PAUSE: Duration = Duration::from_millis(50);
const UNKNOWN: &str = "01931b5e-7f3a-7cc3-98c4-dc0c0c07398f";

fn bucket(drivers: &[&str]) -> Value {
    let tasks = drivers.iter().map(|driver| {
        let payload = json!({"s3_bucket_name": "b1", "size": 3, "grid": [{"Admin-Password": "hush", "site": "nyc"}]});
        json!({"driver": driver, "resourceType": "sg_bucket", "requestPayload": payload})
    });
    json!({
        "action": "create",
        "summary": "Create S3 bucket b1",
        "object": {"type": "sg_buckets", "id": "5ed7", "name": "b1"},
        "creator": "5e85",
        "failurePolicy": "FAILURE_POLICY_CONTINUE",
        "tasks": tasks.collect::<Vec<_>>(),
    })
}

/// Issues the asynchronous call; answers the id of the job as the documents say.
async fn issue(server: &Server, path: &str, body: &Value) -> String {
    let reply = post(server, path, body).send().await;
    let accepted = reply.expect(202);
    assert_eq!(
        accepted["status"],
        json!({"user_message": "Okay. Accepted for processing.", "verbose_message": "", "code": 202})
    );
    assert_eq!(accepted["result"]["total_records"], 1);
    let record = &accepted["result"]["records"][0];
    assert_eq!(
        (&record["status"], &record["state"]),
        (&json!("pending"), &json!("QUEUED"))
    );
    assert_eq!(record["job_tasks"], Value::Null);
    assert_eq!(reply.header("etag"), "\"1\"");
    let id = record["id"].as_str().unwrap();
    assert!(
        reply
            .header("location")
            .ends_with(&format!("/v2.1/jobs/{id}"))
    );
    id.to_owned()
}

/// The one record of an answer.
#[track_caller]
fn record(reply: &Reply) -> Value {
    let mut answer = reply.expect(200);
    assert_eq!(
        answer["status"],
        json!({"user_message": "Okay. Returned 1 record.", "verbose_message": "", "code": 200})
    );
    assert_eq!(answer["result"]["total_records"], 1);
    assert_eq!(answer["result"]["records"].as_array().unwrap().len(), 1);
    answer["result"]["records"][0].take()
}

/// The standard loop of the documents: asks until the state is one of the last ones.
async fn polled(server: &Server, id: &str) -> Value {
    let looping = async {
        loop {
            let job = record(&get(server, &format!("/v2.1/jobs/{id}")).send().await);
            match job["state"].as_str().unwrap() {
                "NORMAL" | "PARTIAL_FAILURES" | "ERROR" => return job,
                "QUEUED" | "RUNNING" | "WARNING" => tokio::time::sleep(PAUSE).await,
                other => panic!("{other}: {job:#}"),
            }
        }
    };
    timeout(PATIENCE, looping).await.expect("it ends")
}

/// The same by long polls on the revision; answers all that it saw.
async fn followed(server: &Server, id: &str) -> Vec<Value> {
    let mut seen: Vec<Value> = Vec::new();
    let mut tag = "\"0\"".to_owned();
    let looping = async {
        loop {
            let path = format!("/api/v2.1/jobs/{id}/");
            let poll = get(server, &path)
                .header("prefer", "wait=30")
                .header("if-none-match", &tag);
            let reply = poll.send().await;
            assert_eq!(reply.header("preference-applied"), "wait=30");
            if reply.status.as_u16() == 304 {
                continue;
            }
            let job = record(&reply);
            assert_ne!(reply.header("etag"), tag, "it waits for a change");
            tag = reply.header("etag").to_owned();
            let status = job["status"].as_str().unwrap().to_owned();
            seen.push(job);
            if !["pending", "in_progress"].contains(&status.as_str()) {
                return;
            }
        }
    };
    timeout(PATIENCE, looping).await.expect("it ends");
    seen
}

#[tokio::test]
async fn the_documented_procedure_ends_whatever_the_outcome() {
    let server = Server::start().await;
    let _good = server.worker("good", &[], &["true"]);
    let warns = r#"echo '{"warning": "one site is slow"}'; echo done"#;
    let _warns = server.worker("warns", &[], &["sh", "-c", warns]);
    let _bad = server.worker("bad", &[], &["sh", "-c", "echo no space >&2; exit 3"]);
    for (drivers, status, state, error) in [
        (&["good"][..], "successful", "NORMAL", ""),
        (&["warns"], "successful", "NORMAL", ""),
        (
            &["good", "bad"],
            "partial_failures",
            "PARTIAL_FAILURES",
            "no space",
        ),
        (&["bad"], "failed", "ERROR", "no space"),
    ] {
        let job = bucket(drivers);
        let id = issue(&server, "/v2.1/jobs", &job).await;
        let polled = polled(&server, &id).await;
        assert_eq!(polled["status"], status, "{polled:#}");
        assert_eq!(polled["state"], state, "{polled:#}");
        let last_error = polled["last_error"].as_str().unwrap();
        assert!(last_error.contains(error), "{polled:#}");
        assert_eq!(last_error.is_empty(), error.is_empty(), "{polled:#}");
        let tasks = polled["job_tasks"].as_array().unwrap();
        assert_eq!(tasks.len(), drivers.len());
        for task in tasks {
            assert_eq!(task["job_id"], *id);
            assert_eq!(task["object_id"], "5ed7");
            assert_eq!(
                task["request_payload"],
                json!({"s3_bucket_name": "b1", "size": 3, "grid": [{"Admin-Password": "********", "site": "nyc"}]})
            );
        }

        let id = issue(&server, "/api/v2.1/jobs/", &job).await;
        let seen = followed(&server, &id).await;
        let last = seen.last().unwrap();
        assert_eq!(
            (&last["status"], &last["state"]),
            (&json!(status), &json!(state))
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_warning_shows_while_the_job_runs() {
    let server = Server::start().await;
    let client = server.client().await;
    let id = issue(&server, "/v2.1/jobs", &bucket(&["d"])).await;
    let request = json!({"worker": "w", "drivers": ["d"], "wait": "30s"});
    let leases = post(&server, "/v1/workers:acquire", &request).send().await;
    let token = leases.expect(200)["leases"][0]["leaseToken"].clone();
    let path = format!("/v2.1/jobs/{id}");
    let running = record(&get(&server, &path).send().await);
    assert_eq!(
        (&running["status"], &running["state"]),
        (&json!("in_progress"), &json!("RUNNING"))
    );

    let poll = get(&server, &path)
        .header("prefer", "wait=60")
        .header("if-none-match", "\"2\"");
    let warning = json!({"reports": [{"leaseToken": token, "warning": {"message": "slow"}}]});
    let (reply, reported) = tokio::join!(
        poll.send(),
        post(&server, "/v1/workers:report", &warning).send()
    );
    reported.expect(200);
    assert_eq!(record(&reply)["state"], "WARNING");
    let cancel = CancelRequest {
        job_id: id.clone(),
        ..CancelRequest::default()
    };
    client.jobs().cancel(cancel).await.unwrap();
    let cancelling = record(&get(&server, &path).send().await);
    assert_eq!(
        (&cancelling["status"], &cancelling["state"]),
        (&json!("in_progress"), &json!("WARNING"))
    );
    let cancelled = json!({"reports": [{"leaseToken": token, "cancelled": {}}]});
    post(&server, "/v1/workers:report", &cancelled)
        .send()
        .await
        .expect(200);
    let ended = polled(&server, &id).await;
    assert_eq!(
        (&ended["status"], &ended["state"]),
        (&json!("cancelled"), &json!("ERROR"))
    );
    server.stop().await;
}

#[tokio::test]
async fn a_job_that_is_cancelled_before_its_start_ends_both_loops() {
    let server = Server::start().await;
    let client = server.client().await;
    let id = issue(&server, "/v2.1/jobs", &bucket(&["nobody"])).await;
    let request = CancelRequest {
        job_id: id.clone(),
        ..CancelRequest::default()
    };
    let (seen, cancelled) = tokio::join!(followed(&server, &id), async {
        client.jobs().cancel(request).await
    });
    cancelled.unwrap();
    let last = seen.last().unwrap();
    assert_eq!(last["status"], "cancelled");
    assert_eq!(last["job_tasks"], Value::Null, "none has started");
    assert_eq!(polled(&server, &id).await, *last);
    server.stop().await;
}

#[tokio::test]
async fn long_polls_end_by_a_change_by_the_end_or_by_time() {
    let server = Server::start().await;
    let id = issue(&server, "/v2.1/jobs", &bucket(&["d"])).await;
    let path = format!("/v2.1/jobs/{id}");
    let known = |wait: &str| {
        let poll = get(&server, &path).header("prefer", wait);
        poll.header("if-none-match", "\"1\"").send()
    };
    // Nothing happens: the time is up, with or without a revision to compare with.
    let same = known("wait=1").await;
    assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""));
    assert_eq!(same.header("etag"), "\"1\"");
    let still = get(&server, &path).header("prefer", "wait=1").send().await;
    assert_eq!(record(&still)["status"], "pending");

    // The start is a change, and no end.
    let end = get(&server, &path).header("prefer", "wait=60").send();
    let working = async {
        let request = json!({"worker": "w", "drivers": ["d"], "wait": "30s"});
        let acquired = post(&server, "/v1/workers:acquire", &request).send();
        let (change, acquired) = tokio::join!(known("wait=60"), acquired);
        assert_eq!(record(&change)["status"], "in_progress");
        assert_eq!(change.header("etag"), "\"2\"");
        let token = acquired.expect(200)["leases"][0]["leaseToken"].clone();
        let success = json!({"reports": [{"leaseToken": token, "success": {}}]});
        let reported = post(&server, "/v1/workers:report", &success).send().await;
        reported.expect(200);
    };
    let (end, ()) = tokio::join!(end, working);
    assert_eq!(record(&end)["status"], "successful");
    assert_eq!(end.header("preference-applied"), "wait=60");
    // The end is told at once, also to who does not know it.
    let told = get(&server, &path).header("prefer", "wait=60").send().await;
    assert_eq!(record(&told), record(&end));
    server.stop().await;
}

#[tokio::test]
async fn a_long_poll_is_answered_when_the_server_goes() {
    let mut server = Server::start_with(&["--quota-watches", "1"]).await;
    let id = issue(&server, "/v2.1/jobs", &bucket(&["nobody"])).await;
    let path = format!("/v2.1/jobs/{id}");
    let poll = |wait| get(&server, &path).header("prefer", wait).send();
    let long_poll = async {
        loop {
            let reply = poll("wait=120").await;
            // Whoever looks whether it is there takes its place for a moment.
            if reply.status.as_u16() != 429 {
                return reply;
            }
            error(&reply, 429, &["watches and waits"]);
        }
    };
    let drain = async {
        while poll("wait=0").await.status.as_u16() != 429 {}
        server.sigterm();
    };
    let (reply, ()) = tokio::join!(long_poll, drain);
    assert_eq!(record(&reply)["status"], "pending");
    let status = server.exit(crate::harness::EXIT_WITHIN).await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn who_submits_may_wait_for_the_end() {
    let server = Server::start().await;
    let _good = server.worker("good", &[], &["true"]);
    let waiting = post(&server, "/v2.1/jobs", &bucket(&["good"])).header("prefer", "wait=60");
    let reply = waiting.send().await;
    assert_eq!(record(&reply)["status"], "successful");
    assert_eq!(reply.header("preference-applied"), "wait=60");
    let not_in_time = post(&server, "/v2.1/jobs", &bucket(&["nobody"])).header("prefer", "wait=1");
    let accepted = not_in_time.send().await.expect(202);
    assert_eq!(accepted["status"]["code"], 202);
    server.stop().await;
}

#[tokio::test]
async fn an_asynchronous_call_is_answered_in_the_same_words() {
    let routes = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/routes");
    let server = Server::start_with(&["--routes", routes]).await;
    let _worker = server.worker("storagegrid_ansible", &[], &["true"]);
    let body = json!({"name": "test1234", "subtenant_id": "5e7c3af7ab46c00014ce877f"});
    let path = "/v2.1/objectstorage/buckets";
    let id = issue(&server, path, &body).await;
    let job = polled(&server, &id).await;
    assert_eq!(
        (&job["action"], &job["object_type"]),
        (&json!("create"), &json!("sg_buckets"))
    );
    assert_eq!(job["job_tasks"][0]["driver"], "storagegrid_ansible");
    let refused = post(&server, path, &json!({"size": 1})).send().await;
    error(&refused, 400, &["name"]);
    server.stop().await;
}

/// An error in an envelope whose message has all of these.
#[track_caller]
fn error(reply: &Reply, code: u16, words: &[&str]) {
    assert_eq!(reply.header("content-type"), "application/json");
    let answer = reply.expect(code);
    assert_eq!(answer["result"], Value::Null);
    assert!(answer.as_object().unwrap().contains_key("result"));
    assert_eq!(answer["status"]["code"], code);
    assert_eq!(answer["status"]["verbose_message"], "");
    let message = answer["status"]["user_message"].as_str().unwrap();
    for word in words {
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[tokio::test]
async fn mistakes_are_answered_in_an_envelope() {
    let server = Server::start().await;
    let id = issue(&server, "/v2.1/jobs", &bucket(&["nobody"])).await;
    let bad = get(
        &server,
        "/v2.1/jobs?limit=0&offset=x&sort_by=size&order_by=up&color=red&tenant_id=a&tenant_id=b",
    );
    error(
        &bad.send().await,
        400,
        &[
            "limit: ",
            "offset: ",
            "sort_by: ",
            "order_by: ",
            "color: ",
            "tenant_id: ",
        ],
    );
    let bad = get(&server, &format!("/v2.1/jobs/{id}?limit=1"))
        .send()
        .await;
    error(&bad, 400, &["limit: "]);
    let forged = get(&server, "/v2.1/jobs?page_token=abc").send().await;
    error(&forged, 400, &["page_token: "]);
    for unknown in [UNKNOWN, "none", "%2e%2e", "17"] {
        let reply = get(&server, &format!("/api/v2.1/jobs/{unknown}"))
            .send()
            .await;
        error(&reply, 404, &["no job"]);
    }
    let nothing = get(&server, "/v2.1/nothing").send().await;
    error(&nothing, 404, &["/v2.1/nothing"]);
    let put = call(&server, "PUT", "/v2.1/jobs").send().await;
    error(&put, 405, &["PUT"]);
    assert_eq!(put.header("allow"), "GET, POST, HEAD, OPTIONS");
    let delete = call(&server, "DELETE", &format!("/v2.1/jobs/{id}"))
        .send()
        .await;
    error(&delete, 405, &["DELETE"]);
    assert_eq!(delete.header("allow"), "GET, HEAD, OPTIONS");
    let form = call(&server, "POST", "/v2.1/jobs").body("{}").send().await;
    error(&form, 415, &["application/json"]);
    let wrong = post(
        &server,
        "/v2.1/jobs?x=1",
        &json!({"tasks": [{"driver": ""}]}),
    )
    .send();
    error(&wrong.await, 400, &["x: "]);
    let wrong = post(&server, "/v2.1/jobs", &json!({"tasks": [{"driver": ""}]})).send();
    error(&wrong.await, 400, &["job.tasks[0].driver: "]);
    server.stop().await;
}

#[tokio::test]
async fn french_is_spoken_to_those_who_read_it() {
    let server = Server::start().await;
    let french = |path: &str| {
        get(&server, path)
            .header("accept-language", "fr-CH, fr;q=0.9")
            .send()
    };
    let list = french("/v2.1/jobs").await;
    assert_eq!(list.header("content-language"), "fr");
    assert_eq!(
        list.expect(200)["status"]["user_message"],
        "D'accord. 0 enregistrement renvoyé."
    );
    let accepted =
        post(&server, "/v2.1/jobs", &bucket(&["nobody"])).header("accept-language", "fr");
    let accepted = accepted.send().await.expect(202);
    assert_eq!(
        accepted["status"]["user_message"],
        "D'accord. Demande acceptée, en cours de traitement."
    );
    assert_eq!(
        accepted["result"]["records"][0]["status_detail"],
        "attend un exécutant"
    );
    error(
        &french(&format!("/v2.1/jobs/{UNKNOWN}")).await,
        404,
        &["aucun job"],
    );
    let bad = french("/v2.1/jobs?limit=0").await;
    error(
        &bad,
        400,
        &["limit: doit être un nombre entier de 1 à 1000"],
    );
    server.stop().await;
}

#[tokio::test]
async fn a_tenant_id_never_widens_what_is_seen() {
    let server = Server::start().await;
    let id = issue(&server, "/v2.1/jobs", &bucket(&["nobody"])).await;
    let one = |tenant: &str| get(&server, &format!("/v2.1/jobs/{id}?tenant_id={tenant}")).send();
    let list = |tenant: &str| get(&server, &format!("/v2.1/jobs?tenant_id={tenant}")).send();
    let own = list("default").await.expect(200);
    assert_eq!(own["result"]["records"][0], record(&one("default").await));
    for other in ["other", "", "DEFAULT", "default%20", "*"] {
        let none = list(other).await.expect(200);
        assert_eq!(none["status"]["user_message"], "Okay. Returned 0 records.");
        let result = json!({
            "returned_records": 0, "total_records": 0, "sort_by": "created", "order_by": "desc",
            "offset": 0, "limit": 20, "records": [],
        });
        assert_eq!(none["result"], result);
        // The same words as for a job that never was.
        error(&one(other).await, 404, &["no job", &id]);
    }
    server.stop().await;
}
