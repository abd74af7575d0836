//! Connections that speak another protocol, or none, or not to the end.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tonic::Code;

use super::half_a_call::HalfACall;
use crate::{
    harness::Server,
    jobs::{reason, submit},
};

/// A connection that asks for nothing is closed after 12 s, one whose body does not come after 60 s.
const CLOSED_WITHIN: Duration = Duration::from_secs(70);
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
    let half_a_header =
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx-long: and more than the preface has";
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

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::start().await;
    let head = |bytes| {
        let long = "x".repeat(bytes);
        format!("GET /x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-long: {long}\r\n\r\n")
    };
    for (bytes, status) in [(30 * 1024, "404"), (40 * 1024, "431"), (300_000, "431")] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        // The server may have had enough before the end.
        let _ = stream.write_all(head(bytes).as_bytes()).await;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(
            answer,
            format!("HTTP/1.1 {status}").as_bytes(),
            "{bytes} bytes"
        );
    }
    server.stop().await;
}

/// Longer than a first request may take: pools keep connections for a minute, and would send into one that is being closed.
#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    // The shortest request that there is: shorter than the beginning of HTTP/2.
    let get = b"GET / HTTP/1.1\r\nhost:\r\n\r\n";
    for pause in [Duration::from_secs(12), Duration::ZERO] {
        stream.write_all(get).await.unwrap();
        let mut answer = [0; 512];
        let read = timeout(CLOSED_WITHIN, stream.read(&mut answer)).await;
        let answer = &answer[..read.unwrap().unwrap()];
        assert!(answer.starts_with(b"HTTP/1.1 "), "{answer:?}");
        tokio::time::sleep(pause).await;
    }
    drop(stream);
    server.stop().await;
}

/// The client has asked, and breaks off in the middle of the next request: what was answered by then is its own.
#[tokio::test]
async fn what_was_answered_is_sent_though_the_connection_fails() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let get = "GET /x HTTP/1.1\r\nhost: localhost\r\n\r\n";
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

/// In HTTP/1 the status of a call would be lost, and each call look as if it were well.
#[tokio::test]
async fn grpc_needs_http_2() {
    let server = Server::start().await;
    for content_type in ["application/grpc", "application/grpc+proto"] {
        let head = format!(
            "POST /longhaul.v1.JobService/GetCounts HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: {content_type}\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0"
        );
        let answer = closed_after(&server, head.as_bytes()).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
        assert!(answer.contains("gRPC needs HTTP/2"), "{answer}");
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

/// Where descriptors run out, connections stay in the kernel: to their clients they look accepted.
#[tokio::test]
async fn connections_beyond_the_limit_on_files_are_refused() {
    const FILES: usize = 64;
    let server = Server::start_with_files(FILES as u32).await;
    let client = server.client().await;
    submit(&client, "nobody").await;
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..FILES {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let get = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        // A reset refuses it as well.
        let _ = stream.write_all(get).await;
        let read = timeout(Duration::from_secs(5), stream.read(&mut [0; 512])).await;
        match read.expect("an answer, or an end") {
            Ok(1..) => open.push(stream),
            Ok(0) | Err(_) => refused += 1,
        }
    }
    assert!(refused > 0 && open.len() >= FILES / 4, "{refused} refused");
    assert!(server.log().contains("LimitNOFILE"), "{}", server.log());
    submit(&client, "nobody").await;
    drop(open);
    server.stop().await;
}

/// In HTTP/1.1 and HTTP/2, with silence and with a byte now and then.
#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start().await;
    let client = server.client().await;
    let half = |path, length, body| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{length}\r\n\r\n{body}"
        )
    };
    let (length, chunked) = ("content-length: 1000", "transfer-encoding: chunked");
    let halves = [
        half("/v1/jobs:batch", length, "{}"),
        half("/v1/jobs:batch", chunked, "2\r\n{}"),
        half("/v1/jobs", length, "{}"),
        half("/v1/jobs", chunked, "2\r\n{}"),
    ];
    let closed = halves.map(|half| {
        let server = &server;
        async move { closed_after(server, half.as_bytes()).await }
    });
    let dribble = half("/v1/jobs", length, "");
    let channel = server.channel().await;
    let submit_to = "/longhaul.v1.JobService/Submit";
    let (answers, (), silent, slow) = tokio::join!(
        futures_util::future::join_all(closed),
        closed_though_it_dribbles(&server, dribble.as_bytes()),
        HalfACall::begin(&channel, submit_to, b"\0\0\0\x01\0\x0a").ended(CLOSED_WITHIN),
        HalfACall::dribbling(&channel, submit_to, Duration::from_secs(5)).ended(CLOSED_WITHIN),
    );
    for answer in answers {
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("BODY_TOO_SLOW"), "{answer}");
    }
    for status in [silent, slow] {
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(reason(&status), "BODY_TOO_SLOW", "{status:?}");
    }
    submit(&client, "nobody").await;
    server.stop().await;
}

/// As [`closed_after`], but a byte follows every 5 s.
async fn closed_though_it_dribbles(server: &Server, bytes: &[u8]) {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    write.write_all(bytes).await.unwrap();
    let dribble = async {
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let closed = async {
        let _ = read.read_to_end(&mut answer).await;
    };
    let either = async {
        tokio::select! {
            () = dribble => {}
            () = closed => {}
        }
    };
    let ended = timeout(CLOSED_WITHIN, either).await;
    ended.expect("the server closes it");
}

/// What the server may grow by while it holds halves of messages: the room that they share, in buffers that grow by doubling, the window of the connection,
/// and what comes and goes. Unbounded it is 1.4 GB.
const GROWTH_KB: u64 = 768 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_messages_are_bounded_together() {
    const CALLS: usize = 100;
    const HALF_BYTES: usize = 15 * 1024 * 1024;
    let server = Server::start().await;
    let client = server.client().await;
    let before = server.resident_kb();
    let part = Bytes::from(vec![0; 1024 * 1024]);
    let mut calls = JoinSet::new();
    let channel = server.channel().await;
    for _ in 0..CALLS {
        let head = [0, 0, 0xff, 0xff, 0xff];
        let call = HalfACall::begin(&channel, "/longhaul.v1.JobService/SubmitBatch", &head);
        let part = part.clone();
        calls.spawn(async move {
            for _ in 0..HALF_BYTES / part.len() {
                if call.more.send(part.clone()).await.is_err() {
                    break;
                }
            }
            call
        });
    }
    // Each has sent its half, or was refused.
    let calls = timeout(CLOSED_WITHIN, calls.join_all()).await.unwrap();
    submit(&client, "nobody").await;
    let after = server.resident_kb();
    assert!(after < before + GROWTH_KB, "from {before} KB to {after} KB");
    let mut refused = 0;
    for call in calls.into_iter().filter(HalfACall::is_answered) {
        let status = call.ended(CLOSED_WITHIN).await;
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert_eq!(reason(&status), "NO_ROOM", "{status:?}");
        refused += 1;
    }
    assert!(refused >= CALLS / 2, "{refused} were refused");
    server.stop().await;
}
