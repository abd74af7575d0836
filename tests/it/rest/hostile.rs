//! Requests that mean harm, or nothing: each gets a 4xx in the words of the dialect that it was sent to, nothing is stored, and others are served.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::web::{Reply, call, get, post};
use crate::harness::Server;

/// Whether a body is an error in the words of a dialect.
pub(super) type IsOurs = fn(&Value) -> bool;
/// The collections of jobs, and what is always in the error bodies of their dialects.
pub(super) const COLLECTIONS: [(&str, IsOurs); 8] = [
    ("/v1/jobs", is_problem),
    ("/api/management-server/jobs", is_error),
    ("/api/v2/management-server/jobs", is_error),
    ("/management-server/jobs", is_error),
    ("/api/jobs", is_error),
    ("/api/v3/jobs", is_error),
    ("/v2.1/jobs", is_envelope),
    ("/api/v2.1/jobs", is_envelope),
];
/// Nothing should take longer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

fn is_problem(body: &Value) -> bool {
    body["reason"].is_string() && body["detail"].is_string() && body["status"].is_number()
}

fn is_error(body: &Value) -> bool {
    body["error"]["code"].is_string() && body["error"]["message"].is_string()
}

pub(super) fn is_envelope(body: &Value) -> bool {
    body["status"]["code"].is_number()
        && body["status"]["user_message"].is_string()
        && body["result"].is_null()
}

#[track_caller]
pub(super) fn refused(reply: &Reply, is_ours: IsOurs, what: &str) {
    assert!(reply.status.is_client_error(), "{what}: {reply:?}");
    let body: Value =
        serde_json::from_str(&reply.text).unwrap_or_else(|e| panic!("{what}: {e}: {reply:?}"));
    assert!(is_ours(&body), "{what}: {reply:?}");
}

pub(super) async fn nothing_is_stored(server: &Server) {
    let counts = get(server, "/v1/jobs:counts").send().await;
    assert_eq!(counts.expect(200), json!({}));
}

#[tokio::test]
async fn bodies_that_are_no_job_are_refused() {
    let server = Server::start().await;
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let deep_payload = format!(
        r#"{{"tasks":[{{"driver":"d","requestPayload":{}1{}}}]}}"#,
        r#"{"a":"#.repeat(60),
        "}".repeat(60)
    );
    let payload =
        |value: &str| format!(r#"{{"tasks":[{{"driver":"d","requestPayload":{{"n":{value}}}}}]}}"#);
    let long = payload(&format!("\"{}\"", "x".repeat(2 * 1024 * 1024)));
    let bodies = [
        "",
        "{",
        "null",
        "[]",
        "3",
        "\"x\"",
        "{}",
        "\u{feff}{}",
        &deep,
        &deep_payload,
        &long,
        r#"{"tasks":[{"driver":"d"}],"tasks":[{"driver":"e"}]}"#,
        r#"{"tasks":[{"driver":"d","driver":"e"}]}"#,
        &payload("NaN"),
        &payload("1e400"),
        &payload("-Infinity"),
        &payload("01"),
        &payload("12345678901234567890"),
        &payload(r#""\ud800""#),
        &payload(r#"{"a":1,"a":2}"#),
        r#"{"tasks":[{"driver":"d"}],"unknown":1}"#,
        r#"{"tasks":[{"driver":"a/b"}]}"#,
        r#"{"tasks":[{"driver":"d"}],"summary":"a\u0000b"}"#,
        r#"{"tasks":[{"driver":"d"}],"priority":1e99}"#,
        r#"{"tasks":[{"driver":"d"}],"scheduleTime":"9999-99-99T00:00:00Z"}"#,
        r#"{"tasks":[{"driver":"d"}]} trailing"#,
    ];
    for (collection, is_ours) in COLLECTIONS {
        for body in bodies {
            let request =
                call(&server, "POST", collection).header("content-type", "application/json");
            let reply = request.body(body.to_owned()).send().await;
            refused(&reply, is_ours, &format!("{collection} {:.80}", body));
        }
        let no_utf8 = call(&server, "POST", collection).header("content-type", "application/json");
        let reply = no_utf8.body(&b"{\"summary\":\"\xff\"}"[..]).send().await;
        refused(&reply, is_ours, "no UTF-8");
        let form = call(&server, "POST", collection).header("content-type", "text/plain");
        let reply = form.body(r#"{"tasks":[{"driver":"d"}]}"#).send().await;
        refused(&reply, is_ours, "no JSON");
    }
    nothing_is_stored(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn paths_and_parameters_that_lead_nowhere_are_refused() {
    let server = Server::start().await;
    for (collection, is_ours) in COLLECTIONS {
        for id in [
            "x",
            "..",
            "%2e%2e",
            "..%2F..%2Fetc",
            "%2F",
            "%00",
            "%ff",
            "a%0d%0ab",
            "%",
            "-",
            "🙂",
            &"9".repeat(3_000),
        ] {
            let id: String = id
                .chars()
                .map(|c| {
                    if c.is_ascii() {
                        c.to_string()
                    } else {
                        "%F0%9F%99%82".to_owned()
                    }
                })
                .collect();
            let reply = get(&server, &format!("{collection}/{id}")).send().await;
            refused(&reply, is_ours, &format!("{collection}/{id:.40}"));
        }
        for query in [
            "nothing=1",
            "a=%0d%0aSet-Cookie:x",
            "a=%ff",
            "%00=1",
            "a=1&a=2",
            "=",
            "%zz",
            &format!("a={}", "x".repeat(10_000)),
        ] {
            let reply = get(&server, &format!("{collection}?{query}")).send().await;
            refused(&reply, is_ours, &format!("{collection}?{query:.40}"));
            assert!(reply.headers.get("set-cookie").is_none());
        }
        for method in ["PUT", "PATCH", "TRACE", "BREW"] {
            let reply = call(&server, method, collection).send().await;
            assert_eq!(
                reply.status.as_u16(),
                405,
                "{method} {collection}: {reply:?}"
            );
            refused(&reply, is_ours, method);
            assert!(reply.header("allow").contains("GET"));
        }
        let below = get(&server, &format!("{collection}/a/b/c")).send().await;
        refused(&below, is_ours, "below");
    }
    server.stop().await;
}

/// A web page of somebody else, in the browser of somebody who may use the server.
#[tokio::test]
async fn pages_of_other_sites_reach_nothing() {
    let server = Server::start_with(&["--allowed-hosts", "jobs.example,other.example"]).await;
    let own = format!("http://{}", server.address());
    for (collection, is_ours) in COLLECTIONS {
        // Without a body, so that nothing else is wrong with it.
        for header in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "http://127.0.0.1:1"),
            ("origin", "null"),
        ] {
            let job = json!({"tasks": [{"driver": "d"}]});
            for request in [
                call(&server, "POST", collection),
                post(&server, collection, &job),
            ] {
                let reply = request.header(header.0, header.1).send().await;
                assert_eq!(
                    reply.status.as_u16(),
                    403,
                    "{collection} {header:?}: {reply:?}"
                );
                refused(&reply, is_ours, header.1);
            }
        }
        for method in ["GET", "POST"] {
            let foreign = || call(&server, method, collection).host("evil.example:7070");
            for reply in [foreign().send().await, foreign().send_http2().await] {
                assert_eq!(
                    reply.status.as_u16(),
                    421,
                    "{method} {collection}: {reply:?}"
                );
                refused(&reply, is_ours, "another host");
                assert!(reply.text.contains("evil.example:7070"), "{reply:?}");
            }
        }
    }
    nothing_is_stored(&server).await;
    // The same is done for whoever may.
    let job = json!({"tasks": [{"driver": "d"}]});
    let request = || post(&server, "/v1/jobs", &job);
    for allowed in [
        request(),
        request().header("sec-fetch-site", "same-origin"),
        request().header("sec-fetch-site", "none"),
        request().header("origin", &own),
        request().header("origin", "https://jobs.example"),
        request().host("localhost"),
        request().host("jobs.example"),
    ] {
        allowed.send().await.expect(202);
    }
    request()
        .host("other.example:8")
        .send_http2()
        .await
        .expect(202);
    server.stop().await;
}

/// Sends bytes, and reads what comes until the connection ends.
async fn raw(server: &Server, parts: Vec<Vec<u8>>) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let mut answer = Vec::new();
    let talk = async {
        for part in parts {
            // The server may have answered and left already.
            if stream.write_all(&part).await.is_err() {
                break;
            }
        }
        let _ = stream.read_to_end(&mut answer).await;
    };
    timeout(PATIENCE, talk).await.expect("the server ends it");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn lengths_that_lie_and_bodies_without_end_are_cut_off() {
    let server = Server::start().await;
    let head = |collection: &str, more: &str| {
        format!(
            "POST {collection} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n{more}\r\n\r\n"
        )
    };
    let two_gigabytes = head("/v1/jobs", "content-length: 2147483648");
    let deploy = head("/api/jobs", "content-length: 2147483648");
    let chunked = head("/v2.1/jobs", "transfer-encoding: chunked");
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(0x10_0000));
    let endless: Vec<Vec<u8>> = std::iter::once(chunked.into_bytes())
        .chain(std::iter::repeat_n(chunk.into_bytes(), 40))
        .collect();
    let negative = head("/v1/jobs", "content-length: -1");
    let two_lengths = head("/v1/jobs", "content-length: 5\r\ncontent-length: 6");
    let bad_chunk = head("/v1/jobs", "transfer-encoding: chunked") + "zz\r\n";
    let whole = |text: &str| vec![text.as_bytes().to_vec()];
    let (announced, deploys, endless, negative, twice, bad) = tokio::join!(
        raw(&server, whole(&two_gigabytes)),
        raw(&server, whole(&deploy)),
        raw(&server, endless),
        raw(&server, whole(&negative)),
        raw(&server, whole(&two_lengths)),
        raw(&server, whole(&bad_chunk)),
    );
    for (name, answer) in [("announced", &announced), ("deploy", &deploys)] {
        assert!(answer.starts_with("HTTP/1.1 413"), "{name}: {answer}");
        assert!(answer.contains("MESSAGE_TOO_LARGE"), "{name}: {answer}");
    }
    // A client that goes on sending may not get to read the answer.
    assert!(
        endless.is_empty() || endless.starts_with("HTTP/1.1 413"),
        "{endless}"
    );
    for (name, answer) in [
        ("negative", &negative),
        ("twice", &twice),
        ("bad chunk", &bad),
    ] {
        assert!(answer.starts_with("HTTP/1.1 400"), "{name}: {answer}");
    }
    post(&server, "/v1/jobs", &json!({"tasks": [{"driver": "d"}]}))
        .send()
        .await
        .expect(202);
    server.stop().await;
}

#[tokio::test]
async fn others_are_served_while_some_are_slow() {
    let server = Server::start().await;
    let mut slow = Vec::new();
    for beginning in [
        "GET /v1/jobs HTTP/1.1\r\nhost: localhost\r\nx-slow: ",
        "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
        "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
    ] {
        for _ in 0..100 {
            let mut stream = TcpStream::connect(server.address()).await.unwrap();
            stream.write_all(beginning.as_bytes()).await.unwrap();
            slow.push(stream);
        }
    }
    for _ in 0..50 {
        post(&server, "/v1/jobs", &json!({"tasks": [{"driver": "d"}]}))
            .send()
            .await
            .expect(202);
    }
    drop(slow);
    server.stop().await;
}
