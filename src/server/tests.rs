//! What the limits on peers are for: without them the attack succeeds that `tests/abuse` sees fail.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::*;
use crate::store::memory::MemoryStore;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A ping, and its answer.
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0flooding";
const PONG: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0flooding";
const PINGS: usize = 150_000;
const GET: &[u8] = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

async fn server(change: impl FnOnce(&mut ServeSettings, &mut Limits)) -> RunningServer {
    let mut settings = ServeSettings {
        listen: ([127, 0, 0, 1], 0).into(),
        ..ServeSettings::default()
    };
    let mut limits = limits(&settings);
    change(&mut settings, &mut limits);
    let socket = bind(settings.listen).unwrap();
    let store = Arc::new(MemoryStore::new());
    serve(socket, None, settings, limits, store, Vault::without_key())
        .await
        .unwrap()
}

async fn connect(server: &RunningServer, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Pings as fast as it goes; how many were answered.
async fn flood(server: &RunningServer) -> usize {
    let stream = connect(server, PREFACE).await;
    let (mut read, mut write) = stream.into_split();
    let flooding = tokio::spawn(async move {
        let many = PING.repeat(1_000);
        for _ in 0..PINGS / 1_000 {
            if write.write_all(&many).await.is_err() {
                break;
            }
        }
        // Not closed before the answers are there.
        write
    });
    let mut answers = Vec::new();
    let expected = PINGS * PONG.len();
    let reading = async {
        while answers.len() < expected
            && let Ok(1..) = read.read_buf(&mut answers).await
        {}
    };
    timeout(SOON, reading).await.unwrap();
    drop(read);
    flooding.abort();
    let settings = answers.windows(PONG.len());
    settings.filter(|bytes| *bytes == PONG).count()
}

#[tokio::test]
async fn without_its_limit_a_flood_of_pings_goes_on() {
    let bounded = server(|_, limits| limits.balance = frames::BALANCE / 10).await;
    let answered = flood(&bounded).await;
    assert!(answered < PINGS / 2, "{answered}");
    bounded.drain().await.unwrap();
    let unbounded = server(|_, limits| limits.balance = u32::MAX).await;
    let answered = flood(&unbounded).await;
    assert!(answered > PINGS - 10, "{answered}");
    unbounded.drain().await.unwrap();
}

/// Reads to the end.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset closes it as well.
    let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn without_its_limit_who_says_nothing_stays() {
    let short = server(|_, limits| limits.opening = Duration::from_millis(100)).await;
    let long = server(|_, limits| limits.opening = Duration::from_secs(3_600)).await;
    for begun in [b"", &PREFACE[..10], PREFACE, b"GET / HTTP/1.1\r\nx: and"] {
        let stays = connect(&long, begun).await;
        let mut goes = connect(&short, begun).await;
        closed(&mut goes).await;
        // All that a server says to begin with may be there, but not the end.
        let mut said = [0; 1_000];
        while let Ok(read) = stays.try_read(&mut said) {
            assert_ne!(read, 0, "{begun:?}");
        }
    }
    short.drain().await.unwrap();
    long.drain().await.unwrap();
}

/// Whoever has asked has its time, and is not ended by the first limit.
#[tokio::test]
async fn who_has_asked_stays() {
    let server = server(|_, limits| limits.opening = Duration::from_millis(100)).await;
    let mut asks = connect(&server, GET).await;
    asks.read_exact(&mut [0; 12]).await.unwrap();
    let mut silent = connect(&server, b"").await;
    closed(&mut silent).await;
    asks.write_all(GET).await.unwrap();
    let mut answers = Vec::new();
    while answers
        .windows(8)
        .filter(|bytes| bytes == b"HTTP/1.1")
        .count()
        < 1
    {
        let read = timeout(SOON, asks.read_buf(&mut answers)).await.unwrap();
        assert_ne!(read.unwrap(), 0);
    }
    server.drain().await.unwrap();
}

#[tokio::test]
async fn who_has_no_credential_goes_and_who_probes_stays() {
    let server = server(|settings, limits| {
        settings.auth.is_required = true;
        limits.requires_credentials = true;
        limits.opening = Duration::from_millis(100);
    })
    .await;
    let mut probes = connect(&server, GET).await;
    probes.read_exact(&mut [0; 12]).await.unwrap();
    let refused = GET.to_vec();
    let refused = String::from_utf8(refused)
        .unwrap()
        .replace("/livez", "/v1/jobs");
    let mut refused = connect(&server, refused.as_bytes()).await;
    closed(&mut refused).await;
    probes.write_all(GET).await.unwrap();
    let mut answers = Vec::new();
    while answers
        .windows(8)
        .filter(|bytes| bytes == b"HTTP/1.1")
        .count()
        < 1
    {
        let read = timeout(SOON, probes.read_buf(&mut answers)).await.unwrap();
        assert_ne!(read.unwrap(), 0);
    }
    server.drain().await.unwrap();
}

#[tokio::test]
async fn strangers_may_have_all_connections_only_where_there_are_none() {
    for (requires_credentials, let_in) in [(true, 2), (false, 16)] {
        let server = server(|_, limits| {
            limits.max_connections = 32;
            limits.requires_credentials = requires_credentials;
        })
        .await;
        let mut streams = Vec::new();
        for _ in 0..16 {
            streams.push(connect(&server, b"").await);
        }
        if requires_credentials {
            // They are accepted in order: with the last one all are looked at.
            closed(streams.last_mut().unwrap()).await;
        }
        let mut open = Vec::new();
        for mut stream in streams {
            // Who was refused can not be asked.
            if stream.write_all(GET).await.is_ok()
                && let Ok(Ok(1..)) = timeout(SOON, stream.read(&mut [0; 12])).await
            {
                open.push(stream);
            }
        }
        assert_eq!(open.len(), let_in);
    }
}
