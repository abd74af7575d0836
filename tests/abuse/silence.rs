//! Peers that say nothing, or not all of it, and wait.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{
    honest::meanwhile,
    server::Server,
    wire::{END_HEADERS, Ended, HEADERS, PREFACE, Peer, call, frame, get, request},
};

/// Ten seconds to show who it is, two to hear of the end, and what a busy machine adds.
const OPENING: Duration = Duration::from_secs(25);
/// The 20 s of silence that a body is allowed, and what a busy machine adds.
const BODY: Duration = Duration::from_secs(35);
/// Of those that the most is made of, and of all others.
const MANY: usize = 500;
const SOME: usize = 20;

/// Connections that say this and no more; how they ended.
async fn many(server: &Server, count: usize, bytes: &[u8], within: Duration) -> Vec<Ended> {
    let peers = join_all((0..count).map(|_| Peer::http1(server, bytes))).await;
    join_all(peers.into_iter().map(|peer| peer.ended(within))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_not_waited_for() {
    // Of strangers from one address 1,250 are let in.
    let server = &Server::start(&["--max-connections", "20000"]).await;
    let key = &server.key;
    let half_a_head = b"GET / HTTP/1.1\r\nhost: localhost\r\nx-long: and more of it to come";
    let half_of_fields = [PREFACE, &frame(HEADERS, 0, 1, &get("/v1/jobs", Some(key)))].concat();
    let bad = "lh_nobody_knows";
    let refused =
        format!("GET /v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bad}\r\n\r\n");
    let refused_http2 = [PREFACE, &request(1, "/v1/jobs", Some(bad))].concat();
    let half_a_body = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{"
    );
    let half_a_chunk = half_a_body
        .replace("content-length: 1000", "transfer-encoding: chunked")
        .replace('{', "2\r\n{");
    let half_a_message = frame(
        HEADERS,
        END_HEADERS,
        1,
        &call("/longhaul.v1.JobService/Submit", key, &[]),
    );
    let half_a_message = [
        PREFACE,
        &half_a_message,
        b"\0\0\x06\0\0\0\0\0\x01\0\0\0\x01\0\x0a",
    ]
    .concat();
    let attack = async {
        tokio::join!(
            many(server, MANY, b"", OPENING),
            many(server, MANY, PREFACE, OPENING),
            many(server, SOME, &PREFACE[..10], OPENING),
            many(server, SOME, &PREFACE[..24], OPENING),
            many(server, SOME, half_a_head, OPENING),
            many(server, SOME, &half_of_fields, OPENING),
            many(server, SOME, refused.as_bytes(), OPENING),
            many(server, SOME, &refused_http2, OPENING),
            many(server, SOME, half_a_body.as_bytes(), BODY),
            many(server, SOME, half_a_chunk.as_bytes(), BODY),
            half_a_call(server, &half_a_message),
        )
    };
    let (_, _, _, _, _, _, refused, _, bodies, chunks, ()) =
        meanwhile(server, "silence", attack).await;
    for ended in refused {
        assert!(ended.text().contains("CREDENTIAL_INVALID"), "{ended:?}");
    }
    for ended in bodies.into_iter().chain(chunks) {
        assert!(ended.text().contains("BODY_TOO_SLOW"), "{ended:?}");
    }
}

/// Its connection goes on; the call does not.
async fn half_a_call(server: &Server, bytes: &[u8]) {
    let mut peers = join_all((0..SOME).map(|_| Peer::http1(server, bytes))).await;
    for peer in &mut peers {
        peer.answer(1, BODY).await;
    }
}
