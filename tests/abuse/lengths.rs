//! Peers that send too much, or say that they send what they do not.

use std::time::Duration;

use crate::{
    honest::meanwhile,
    server::Server,
    wire::{
        DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Peer, RST_STREAM, call, fields, frame, get,
        lying,
    },
};

const SOON: Duration = Duration::from_secs(30);
const SUBMIT: &str = "/longhaul.v1.JobService/Submit";
/// PROTOCOL_ERROR (RFC 9113, 7).
const PROTOCOL: u32 = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lengths_are_not_believed() {
    let server = &Server::start(&[]).await;
    let attack = async {
        tokio::join!(
            over_http_1(server),
            chunks_with_extensions(server),
            many_requests_at_once(server),
            frames(server),
            bodies(server),
            messages(server),
            heads(server),
        )
    };
    meanwhile(server, "lengths", attack).await;
}

/// A request over HTTP/1.1 with more headers and a body; the status of the answer.
async fn status(server: &Server, more: &str, body: &str) -> String {
    let request = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n{more}\r\n{body}",
        server.key
    );
    let answer = Peer::http1(server, request.as_bytes()).await.read(12).await;
    answer.get(9..12).unwrap_or_default().to_owned()
}

async fn over_http_1(server: &Server) {
    let json = "content-type: application/json\r\n";
    let long = "x".repeat(40 * 1024);
    for (what, more, body, expected) in [
        (
            "two lengths",
            "content-length: 2\r\ncontent-length: 3\r\n".to_owned(),
            "{}",
            "400",
        ),
        (
            "less than nothing",
            "content-length: -1\r\n".to_owned(),
            "{}",
            "400",
        ),
        (
            "no number",
            "content-length: 0x2\r\n".to_owned(),
            "{}",
            "400",
        ),
        (
            "more than there is",
            "content-length: 99999999999999999999\r\n".to_owned(),
            "{}",
            "400",
        ),
        (
            "more than may be",
            format!("{json}content-length: 99999999999\r\n"),
            "{}",
            "413",
        ),
        (
            "no chunk",
            format!("{json}transfer-encoding: chunked\r\n"),
            "zz\r\n",
            "400",
        ),
        (
            "a chunk of all",
            format!("{json}transfer-encoding: chunked\r\n"),
            "ffffffffffffffff1\r\n",
            "400",
        ),
        (
            "not chunked at last",
            "transfer-encoding: chunked, gzip\r\n".to_owned(),
            "",
            "400",
        ),
        ("a huge header", format!("x-long: {long}\r\n"), "", "431"),
        ("many headers", "x: y\r\n".repeat(101), "", "431"),
        ("no header", "x\r\n".to_owned(), "", "400"),
        ("a folded header", "x: y\r\n z\r\n".to_owned(), "", "400"),
    ] {
        assert_eq!(status(server, &more, body).await, expected, "{what}");
    }
    // Of both lengths the chunks count (RFC 9112, 6.3): what comes after the last one is a request of its own, and not what the other length says.
    let job = r#"{"tasks":[{"driver":"d"}]}"#;
    let both = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n{json}content-length: 5\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{job}\r\n0\r\n\r\n",
        server.key,
        job.len()
    );
    let mut peer = Peer::http1(server, both.as_bytes()).await;
    assert!(
        peer.read(12).await.starts_with("HTTP/1.1 202"),
        "{}",
        peer.read(0).await
    );
    // A body that is longer than it says is no body, but no request either.
    let long = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n{json}content-length: {}\r\n\r\n{job}\r\n\r\n",
        server.key,
        job.len() - 1
    );
    let ended = Peer::http1(server, long.as_bytes()).await.ended(SOON).await;
    assert_eq!(ended.text().matches("HTTP/1.1 400").count(), 2, "{ended:?}");
}

async fn chunks_with_extensions(server: &Server) {
    let begin = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        server.key
    );
    let peer = Peer::http1(server, begin.as_bytes()).await;
    let chunk = format!("1;{}\r\n \r\n", "x".repeat(1_000));
    let ended = peer
        .floods(SOON, 1_000_000, |_| chunk.clone().into_bytes())
        .await;
    assert!(ended.sent < 100_000, "{}", ended.sent);
}

/// As many as one likes: they are answered one by one, and wait in the sockets and not in the server.
async fn many_requests_at_once(server: &Server) {
    let many = 20_000;
    let get = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let last = get.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    let all = get.repeat(many) + &last;
    let peer = Peer::http1(server, b"").await;
    let ended = peer.floods(SOON, 1, |_| all.clone().into_bytes()).await;
    assert_eq!(ended.text().matches("HTTP/1.1 200").count(), many + 1);
}

async fn frames(server: &Server) {
    for bytes in [
        // Longer than may be, said and done.
        lying(DATA, 0, 3, 16_385, &[0; 16_385]),
        lying(DATA, 0, 3, 0xff_ffff, b"x"),
        // A ping has 8 bytes, a setting 6, a priority 5.
        frame(6, 0, 0, &[0; 7]),
        frame(4, 0, 0, &[0; 5]),
        // A padding that is longer than the frame.
        frame(HEADERS, END_HEADERS | 8, 3, &[200, 0, 0]),
        // Nobody has opened it; it opens none; it is even.
        frame(DATA, 0, 3, b"x"),
        frame(HEADERS, END_HEADERS, 0, &get("/v1/jobs", None)),
        frame(HEADERS, END_HEADERS, 2, &get("/v1/jobs", None)),
        // Nothing that HPACK knows: a reference to an entry that is not there, a number without an end, and a table of 4 GB.
        frame(HEADERS, END_HEADERS, 3, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        frame(HEADERS, END_HEADERS, 3, &[0xff; 32]),
        frame(
            HEADERS,
            END_HEADERS,
            3,
            &[0x3f, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ),
    ] {
        let mut peer = Peer::http2(server, Some(&server.key)).await;
        let _ = peer.send(&bytes).await;
        // The connection is ended, or the one stream is.
        while let Some((kind, stream, payload)) = peer.frame().await {
            if kind == GOAWAY {
                let reason = payload.get(4..8).unwrap();
                assert!((1..=9).contains(&reason[3]), "{reason:?}: {bytes:?}");
            }
            if (kind, stream) == (RST_STREAM, 3) {
                break;
            }
            assert!(kind != HEADERS, "it is answered: {bytes:?}");
        }
    }
}

/// A length that a request states is held to.
async fn bodies(server: &Server) {
    let message = [0, 0, 0, 0, 2, 0x0a, 0];
    for stated in ["3", "100"] {
        let mut peer = Peer::http2(server, Some(&server.key)).await;
        let head = call(SUBMIT, &server.key, &[("content-length", stated)]);
        let head = frame(HEADERS, END_HEADERS, 3, &head);
        let body = frame(DATA, END_STREAM, 3, &message);
        peer.send(&[head, body].concat()).await.unwrap();
        let (kind, payload) = peer.answer(3, SOON).await;
        assert_eq!(
            (kind, &*payload),
            (RST_STREAM, &PROTOCOL.to_be_bytes()[..]),
            "{stated}"
        );
    }
}

/// A message that says that it has 4 GB, and one that has less than it says.
async fn messages(server: &Server) {
    for message in [&b"\0\xff\xff\xff\xff\x0a"[..], b"\0\0\0\0\x09\x0a"] {
        let mut peer = Peer::http2(server, Some(&server.key)).await;
        let head = frame(HEADERS, END_HEADERS, 3, &call(SUBMIT, &server.key, &[]));
        let body = frame(DATA, END_STREAM, 3, message);
        peer.send(&[head, body].concat()).await.unwrap();
        let (kind, _) = peer.answer(3, SOON).await;
        assert_eq!(kind, HEADERS);
    }
}

/// More fields than may be: answered with 431.
async fn heads(server: &Server) {
    let mut peer = Peer::http2(server, Some(&server.key)).await;
    let long = "x".repeat(100);
    let more = fields(&[("x-long", &long)]).repeat(140);
    let begin = frame(HEADERS, END_STREAM, 3, &get("/v1/jobs", None));
    let rest: Vec<u8> = (0..3)
        .flat_map(|n| frame(9, if n == 2 { END_HEADERS } else { 0 }, 3, &more))
        .collect();
    let _ = peer.send(&[begin, rest].concat()).await;
    let (kind, payload) = peer.answer(3, SOON).await;
    // The status as HPACK writes it.
    assert_eq!(
        (kind, &payload[..5]),
        (HEADERS, &b"\x48\x83\x69\x90\xff"[..])
    );
}
