//! Connections that speak another protocol, or none.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{harness::Server, jobs::submit};

/// A silent connection is closed after 10 s; one that began to speak HTTP/2, after a ping and its answer's time, 20 s each.
const CLOSED_WITHIN: Duration = Duration::from_secs(75);
/// The beginning of every HTTP/2 connection, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Sends that and then nothing, and reads until the server closes the connection.
async fn closed_after(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(CLOSED_WITHIN, stream.read_to_end(&mut answer)).await;
    // A reset closes it as well.
    let _ = read.expect("the server closes it");
    answer
}

#[tokio::test]
async fn connections_that_say_nothing_are_closed() {
    let server = Server::start().await;
    let client = server.client().await;
    let half_a_header = b"GET / HTTP/1.1\r\nhost: x\r\nx-long: ";
    tokio::join!(
        closed_after(&server, b""),
        closed_after(&server, &PREFACE[..10]),
        closed_after(&server, &PREFACE[..24]),
        closed_after(&server, PREFACE),
        closed_after(&server, half_a_header),
        closed_after(&server, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
    );
    submit(&client, "nobody").await;
    server.stop().await;
}

/// The client has asked, and breaks off in the middle of the next request: what was answered by then is its own.
#[tokio::test]
async fn what_was_answered_is_sent_though_the_connection_fails() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let get = "GET /x HTTP/1.1\r\nhost: x\r\n\r\n";
    let text = format!("{}GET /y HT", get.repeat(5));
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer.matches("HTTP/1.1 404").count(), 5, "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_browser_on_a_grpc_path_is_told_what_this_is() {
    let server = Server::start().await;
    let path = "/longhaul.v1.JobService/Get";
    let get = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let answer = closed_after(&server, get.as_bytes()).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    for words in [path, "gRPC", "grpcurl", "/openapi.json"] {
        assert!(answer.contains(words), "{words} is missing: {answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_connection_too_many_is_refused_and_not_left_waiting() {
    let server = Server::start_with(&["--max-connections", "1"]).await;
    let mut first = TcpStream::connect(server.address()).await.unwrap();
    let get = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    first.write_all(get).await.unwrap();
    // The first one is served by now, or has the only place.
    first.read_exact(&mut [0; 12]).await.unwrap();
    assert_eq!(closed_after(&server, b"").await, b"");
    assert!(server.log().contains("max_connections"), "{}", server.log());
    let output = server.cli(&["info"]).await;
    assert_eq!(output.code, Some(4), "{output:?}");
    drop(first);
    server.stop().await;
}
