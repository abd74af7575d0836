//! One tenant that takes connections: it has as many as its quota says, and what it asks on others is refused.

use std::time::Duration;

use longhaul::client::Client;

use crate::{
    honest::{get, submit},
    server::Server,
    wire::{HEADERS, Peer, call, frame},
};

const SOON: Duration = Duration::from_secs(30);

fn rest(server: &Server) -> String {
    format!(
        "GET /v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
        server.key
    )
}

async fn asks(server: &Server, peer: &mut Peer) -> String {
    peer.send(rest(server).as_bytes()).await.unwrap();
    peer.status().await
}

#[tokio::test]
async fn connections_beyond_a_tenants_quota_are_refused_what_they_ask() {
    let server = Server::start(&["--quota-connections", "3"]).await;
    let client: Client = server.client().await;
    let id = submit(&client).await;
    let mut second = Peer::http1(&server, rest(&server).as_bytes()).await;
    assert_eq!(second.status().await, "200");
    let third = Peer::http2(&server, Some(&server.key)).await;

    // The fourth is told so, however it asks; health it may ask for.
    let mut fourth = Peer::http1(&server, rest(&server).as_bytes()).await;
    let answer = fourth.read(500).await;
    for words in ["HTTP/1.1 429", "QUOTA_EXCEEDED", "3 connections"] {
        assert!(answer.contains(words), "{answer}");
    }
    let mut fifth = Peer::http1(&server, b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(fifth.status().await, "200");
    let mut grpc = Peer::http2(&server, None).await;
    let fields = call("/longhaul.v1.JobService/GetCounts", &server.key, &[]);
    let asked = frame(HEADERS, 4, 1, &fields);
    let body = frame(0, 1, 1, &[0; 5]);
    grpc.send(&[asked, body].concat()).await.unwrap();
    let (kind, _) = grpc.answer(1, SOON).await;
    assert_eq!(kind, HEADERS);
    let refused = server.client_error().await;
    assert!(refused.contains("3 connections"), "{refused}");
    assert!(refused.contains("QUOTA_EXCEEDED"), "{refused}");

    // Those that are there go on.
    get(&client, &id).await;
    assert_eq!(asks(&server, &mut second).await, "200");

    // What one gives back another takes, as soon as the server has seen it.
    drop(third);
    loop {
        let mut other = Peer::http1(&server, rest(&server).as_bytes()).await;
        let status = other.status().await;
        if status == "200" {
            break;
        }
        assert_eq!(status, "429");
    }
}
