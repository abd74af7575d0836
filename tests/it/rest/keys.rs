//! `Idempotency-Key`: a request that may be sent again.

use serde_json::{Value, json};

use super::{
    hostile::{COLLECTIONS, IsOurs, is_envelope, nothing_is_stored, refused},
    native::{job, lease, report},
    web::{get, post},
};
use crate::harness::Server;

#[tokio::test]
async fn the_same_idempotency_key_is_the_same_job() {
    let server = Server::start().await;
    let send = |body: Value| {
        post(&server, "/v1/jobs", &body)
            .header("idempotency-key", "\"k-1\"")
            .send()
    };
    let first = send(job("d")).await.expect(202);
    assert_eq!(send(job("d")).await.expect(202)["id"], first["id"]);
    let other = send(job("other")).await.expect(409);
    assert_eq!(other["reason"], "REQUEST_ID_REUSED");

    // A retry has its id in the body, or as a key, or as both if they agree.
    let id = first["id"].as_str().unwrap();
    post(&server, &format!("/v1/jobs/{id}:cancel"), &json!({}))
        .send()
        .await
        .expect(200);
    let retry = |body: Value| {
        post(&server, &format!("/v1/jobs/{id}:retry"), &body)
            .header("idempotency-key", "k-2")
            .send()
    };
    let again = retry(json!({})).await.expect(202);
    assert_eq!(again["retryOfJobId"], *id);
    let twice = retry(json!({"requestId": "k-2"})).await.expect(202);
    assert_eq!(twice["id"], again["id"]);
    let other = retry(json!({"requestId": "k-3"})).await.expect(400);
    assert_eq!(other["violations"][0]["field"], "request_id");
    server.stop().await;
}

#[tokio::test]
async fn a_key_that_can_not_be_honoured_is_refused_where_it_would_matter() {
    let server = Server::start().await;
    for (path, body) in [
        ("/v1/jobs:batch", json!({"requests": [{"job": job("d")}]})),
        (
            "/v1/workers:acquire",
            json!({"worker": "w", "drivers": ["d"]}),
        ),
        ("/v1/workers:report", json!({"reports": []})),
    ] {
        let reply = post(&server, path, &body).header("idempotency-key", "k");
        let problem = reply.send().await.expect(400);
        assert_eq!(
            problem["violations"][0]["field"], "Idempotency-Key",
            "{path}"
        );
    }
    let counts = get(&server, "/v1/jobs:counts").header("idempotency-key", "k");
    assert_eq!(counts.send().await.expect(200), json!({}));
    // What is harmless twice is safe to repeat, key or not.
    let pause = post(&server, "/v1/drivers/d:pause", &json!({})).header("idempotency-key", "k");
    pause.send().await.expect(200);
    server.stop().await;
}

/// Whoever sends a key counts on it: one that can not be read must not be taken for none.
#[tokio::test]
async fn keys_that_can_not_be_read_are_refused() {
    let server = Server::start_with(&["--routes", "examples/routes"]).await;
    let route = ("/v2.1/objectstorage/buckets", is_envelope as IsOurs);
    for (path, is_ours) in COLLECTIONS.into_iter().chain([route]) {
        let request = || {
            let body = match path {
                "/v2.1/objectstorage/buckets" => json!({"name": "films", "subtenant_id": "5684"}),
                _ => json!({"tasks": [{"driver": "d"}]}),
            };
            post(&server, path, &body)
        };
        for keys in [
            &[&b""[..]] as &[&[u8]],
            &[b"\"\""],
            &[b"\""],
            &[b"caf\xc3\xa9"],
            &[b"\xff"],
            &[b"\"a\", \"b\""],
            &[b"a", b"a"],
        ] {
            let keyed = keys.iter().fold(request(), |request, key| {
                request.header_bytes("idempotency-key", key)
            });
            let reply = keyed.send().await;
            assert_eq!(reply.status.as_u16(), 400, "{path} {keys:?}: {reply:?}");
            refused(&reply, is_ours, path);
            assert!(reply.text.contains("Idempotency-Key"), "{reply:?}");
        }
    }
    nothing_is_stored(&server).await;
    server.stop().await;
}

/// Whoever repeats a submission after its job has ended hears so, in every dialect and on routes.
#[tokio::test]
async fn a_repeated_submission_of_a_job_that_has_ended_is_a_200() {
    let server = Server::start_with(&["--routes", "examples/routes"]).await;
    let bucket = json!({"name": "films", "subtenant_id": "5684"});
    let native = job("storagegrid_ansible");
    for (path, body) in [
        ("/v1/jobs", &native),
        ("/api/management-server/jobs", &native),
        ("/api/jobs", &native),
        ("/v2.1/jobs", &native),
        ("/v2.1/objectstorage/buckets", &bucket),
    ] {
        let send = || {
            post(&server, path, body)
                .header("idempotency-key", path)
                .send()
        };
        send().await.expect(202);
        send().await.expect(202);
        let lease = lease(&server, "storagegrid_ansible").await;
        report(&server, &lease, "success", json!({}), None).await;
        send().await.expect(200);
    }
    server.stop().await;
}
