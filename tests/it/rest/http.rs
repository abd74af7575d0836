//! What HTTP itself asks for: HEAD, conditions, what is accepted, what caches may keep.

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    hostile::{COLLECTIONS, nothing_is_stored, refused},
    native::{PATIENCE, job, submit},
    web::{Call, Reply, call, get, post},
};
use crate::harness::Server;

/// An answer that does not wait for anything.
async fn at_once(call: Call<'_>) -> Reply {
    timeout(PATIENCE, call.send())
        .await
        .expect("it is answered at once")
}

#[tokio::test]
async fn a_head_has_no_body_and_no_stream_in_any_protocol() {
    let server = Server::start_with(&["--quota-watches", "1"]).await;
    let id = submit(&server, "d").await;
    let place = format!("/v1/jobs/{id}");
    let whole = get(&server, &place).send().await;
    let length = whole.text.len().to_string();
    let heads = |path: &str, accept: &str| {
        let head = || call(&server, "HEAD", path).header("accept", accept);
        let (first, second) = (head(), head());
        async {
            // A stream would never end.
            let both = async { [first.send().await, second.send_http2().await] };
            let both = timeout(PATIENCE, both).await;
            both.expect("a HEAD is over at once")
        }
    };
    for head in heads(&place, "*/*").await {
        assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
        assert_eq!(head.header("content-length"), length);
        assert_eq!(head.header("etag"), "\"1\"");
    }
    for path in [place.as_str(), "/v1/jobs", "/v1/jobs:watch"] {
        for head in heads(path, "text/event-stream").await {
            assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
            assert_eq!(head.header("content-type"), "text/event-stream");
        }
    }
    for head in heads("/v1/nothing", "*/*").await {
        assert_eq!((head.status.as_u16(), head.text.as_str()), (404, ""));
    }
    server.stop().await;
}

/// The entity tags that a caller has, in all of their forms.
#[tokio::test]
async fn what_is_known_is_told_by_any_of_the_tags() {
    let server = Server::start().await;
    let id = submit(&server, "d").await;
    for collection in ["/v1/jobs", "/v2.1/jobs"] {
        let path = format!("{collection}/{id}");
        for (tags, status) in [
            (&["\"1\""] as &[&str], 304),
            (&["1"], 304),
            (&["W/\"1\""], 304),
            (&["\"7\", \"1\""], 304),
            (&["\"7\",W/\"1\" ,\"8\""], 304),
            (&["\"7\"", "\"1\""], 304),
            (&["*"], 304),
            (&["\"7\"", "\"x\""], 200),
            (&["\"+1\""], 200),
            (&["\"01\""], 200),
            (&["\"1-fr\""], 200),
            (&["\"1"], 200),
            (&[""], 200),
        ] {
            // With a wait, what is known is waited for no longer than this, and what is not known is answered at once, as is what any tag would do for.
            for wait in [None, Some("wait=0")] {
                let request = tags.iter().fold(get(&server, &path), |request, tag| {
                    request.header("if-none-match", tag)
                });
                let request = wait
                    .into_iter()
                    .fold(request, |r, wait| r.header("prefer", wait));
                let reply = request.send().await;
                assert_eq!(
                    reply.status.as_u16(),
                    status,
                    "{path} {tags:?} {wait:?}: {reply:?}"
                );
                assert_eq!(reply.header("etag"), "\"1\"");
            }
        }
        // A tag of a job that was newer once, before a restore from a backup, and one that is any.
        for (tag, status) in [("\"7\"", 200), ("*", 304)] {
            let poll = get(&server, &path).header("if-none-match", tag);
            let reply = at_once(poll.header("prefer", "wait=120")).await;
            assert_eq!(reply.status.as_u16(), status, "{tag}: {reply:?}");
        }
    }
    server.stop().await;
}

/// In every dialect: the tag is in each answer, so that a client may say it again.
#[tokio::test]
async fn each_dialect_knows_its_own_tags() {
    let server = Server::start().await;
    let id = submit(&server, "d").await;
    for (collection, _) in COLLECTIONS {
        for language in ["en", "fr"] {
            let read = || {
                let path = format!("{collection}/{id}");
                get(&server, &path).header("accept-language", language)
            };
            let told = read().send().await;
            assert_eq!(told.status.as_u16(), 200, "{collection}");
            let tag = told.header("etag");
            let again = read().header("if-none-match", tag).send().await;
            assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
            assert_eq!(again.header("etag"), tag);
            let newer = read().header("if-none-match", "\"9\"").send().await;
            assert_eq!(newer.status.as_u16(), 200, "{collection}");
        }
    }
    server.stop().await;
}

/// It would be read as something that it is not.
#[tokio::test]
async fn a_compressed_body_is_refused() {
    let server = Server::start().await;
    for (collection, is_ours) in COLLECTIONS {
        let request = post(&server, collection, &job("d")).header("content-encoding", "gzip");
        let reply = request.send().await;
        assert_eq!(reply.status.as_u16(), 415, "{collection}: {reply:?}");
        refused(&reply, is_ours, collection);
        assert!(reply.text.contains("content-encoding"), "{reply:?}");
    }
    nothing_is_stored(&server).await;
    server.stop().await;
}

/// An old client, which takes an answer before the end of its body for an error of the connection.
#[tokio::test]
async fn curl_hears_over_http2_why_it_is_refused() {
    let server = Server::start().await;
    let address = server.address();
    for (path, method, status) in [
        ("/nothing", "POST", "404"),
        ("/livez", "POST", "405"),
        ("/v1/jobs", "PUT", "405"),
        ("/v1/jobs?pageSize=1", "GET", "200"),
    ] {
        for _ in 0..10 {
            let mut curl = tokio::process::Command::new("curl");
            curl.args(["-s", "--http2-prior-knowledge", "-o", "/dev/null"])
                .args(["-w", "%{http_code}", "-X", method, "-d", "{}"])
                .arg(format!("http://{address}{path}"));
            let said = curl.output().await.unwrap();
            assert_eq!(
                String::from_utf8_lossy(&said.stdout),
                status,
                "{method} {path}"
            );
        }
    }
    server.stop().await;
}

/// Whoever makes a condition must not believe that it held.
#[tokio::test]
async fn what_changes_something_has_no_condition() {
    let server = Server::start().await;
    for (collection, is_ours) in COLLECTIONS {
        for name in ["If-Match", "If-None-Match"] {
            let reply = post(&server, collection, &job("d")).header(name, "\"1\"");
            let reply = reply.send().await;
            assert_eq!(reply.status.as_u16(), 400, "{collection}: {reply:?}");
            refused(&reply, is_ours, collection);
            assert!(reply.text.contains(name), "{reply:?}");
        }
    }
    nothing_is_stored(&server).await;
    let id = submit(&server, "d").await;
    let path = format!("/v1/jobs/{id}");
    for (method, rest) in [("POST", ":cancel"), ("POST", ":retry"), ("DELETE", "")] {
        let request = call(&server, method, &format!("{path}{rest}"));
        let refused = request.header("if-match", "\"9\"").send().await.expect(400);
        assert_eq!(refused["violations"][0]["field"], "If-Match");
    }
    assert_eq!(
        get(&server, &path).send().await.expect(200)["revision"],
        "1"
    );
    server.stop().await;
}

/// A stream has no end: nobody gets one who would rather not.
#[tokio::test]
async fn a_stream_is_for_those_who_would_rather_have_it_than_json() {
    let server = Server::start().await;
    let id = submit(&server, "d").await;
    for path in ["/v1/jobs", &format!("/v1/jobs/{id}")] {
        for (accepted, streams) in [
            ("text/event-stream", true),
            ("text/event-stream, */*;q=0.5", true),
            ("Text/Event-Stream;q=0.9, application/json;q=0.8", true),
            ("text/event-stream, application/json", true),
            ("application/json, text/event-stream;q=0.1", false),
            ("application/json, text/event-stream", false),
            ("text/event-stream;q=0", false),
            ("text/event-stream;q=0.000, */*", false),
            ("text/html, */*;q=0.9, text/event-stream;q=0.1", false),
            ("text/*", false),
            ("*/*", false),
        ] {
            let reply = get(&server, path).header("accept", accepted).open().await;
            let kind = reply.headers()["content-type"].to_str().unwrap();
            assert_eq!(kind == "text/event-stream", streams, "{accepted}: {kind}");
            assert_eq!(reply.headers()["vary"], "accept", "{accepted}");
        }
    }
    server.stop().await;
}

/// A cache that was told one language does not serve another with it.
#[tokio::test]
async fn answers_in_a_language_are_that_languages() {
    let server = Server::start().await;
    let id = submit(&server, "d").await;
    let path = format!("/v2.1/jobs/{id}");
    let french = || get(&server, &path).header("accept-language", "fr");
    let english = get(&server, &path).send().await;
    assert_eq!(english.header("etag"), "\"1\"");
    let told = french().header("if-none-match", "\"1\"").send().await;
    assert_ne!(told.expect(200)["status"], english.json()["status"]);
    let tag = told.header("etag").to_owned();
    assert_ne!(tag, "\"1\"");
    let same = french().header("if-none-match", &tag).send().await;
    assert_eq!(
        (same.status.as_u16(), same.header("etag")),
        (304, tag.as_str())
    );
    // The wait is one for another answer than this.
    let poll = french()
        .header("if-none-match", &tag)
        .header("prefer", "wait=1");
    assert_eq!(poll.send().await.status.as_u16(), 304);
    let other = get(&server, &path).header("if-none-match", &tag);
    other.send().await.expect(200);

    let deploy = format!("/api/jobs/{id}");
    let explained = format!("/v1/jobs/{id}:explain");
    for path in [
        &path,
        "/v2.1/jobs",
        &deploy,
        "/api/jobs",
        &explained,
        "/nothing",
    ] {
        let reply = get(&server, path).send().await;
        assert_eq!(reply.header("vary"), "accept-language", "{path}");
    }
    let tag = |language: &str| {
        let reply = get(&server, &deploy)
            .header("accept-language", language)
            .send();
        async { reply.await.header("etag").to_owned() }
    };
    assert_ne!(tag("fr").await, tag("en").await);
    server.stop().await;
}

#[tokio::test]
async fn a_parameter_of_a_route_stands_once() {
    let server = Server::start_with(&["--routes", "examples/routes"]).await;
    let bucket: Value = json!({"name": "films", "subtenant_id": "5684"});
    let twice = post(
        &server,
        "/v2.1/objectstorage/buckets?size=1&size=9",
        &bucket,
    );
    let twice = twice.send().await;
    twice.expect(400);
    assert!(twice.text.contains("size"), "{twice:?}");
    nothing_is_stored(&server).await;
    let once = post(&server, "/v2.1/objectstorage/buckets?size=1", &bucket);
    once.send().await.expect(202);
    server.stop().await;
}
