//! One port with TLS: what is spoken inside, and what becomes of those who speak something else, or nothing.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use longhaul::client::Client;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::certificates::{Certificates, Stream};
use crate::{harness::Server, jobs::submit};

/// A connection is closed 10 s after it began, unless it has asked for something by then.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);

async fn read(response: Response<Incoming>) -> (http::response::Parts, String) {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head, String::from_utf8(body.to_vec()).unwrap())
}

async fn ask_http1(stream: Stream, path: &str) -> (http::response::Parts, String) {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    // Ends with the answer; what goes wrong shows there.
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "jobs.example:1");
    let request = request.body(Full::<Bytes>::default()).unwrap();
    read(sender.send_request(request).await.unwrap()).await
}

async fn ask_http2(stream: Stream, path: &str) -> (http::response::Parts, String) {
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("https://localhost{path}"));
    let request = request.body(Full::<Bytes>::default()).unwrap();
    read(sender.send_request(request).await.unwrap()).await
}

#[tokio::test]
async fn one_port_speaks_grpc_and_rest_over_both_versions_of_http() {
    let certificates = Certificates::make();
    let server = certificates
        .serve(&["--allowed-hosts", "jobs.example"])
        .await;
    let client = Client::builder(&server.endpoint()).tls_ca(certificates.path("ca.pem"));
    let client = client.connect().await.unwrap();
    let job = submit(&client, "nobody").await.id;

    let path = format!("/v1/jobs/{job}");
    for (alpn, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["http/1.0", "http/1.1"], Some("http/1.1")),
        // An old client, which has never heard of it.
        (&[], None),
    ] {
        let stream = certificates.connect(&server, alpn).await.unwrap();
        let spoken = stream.get_ref().1.alpn_protocol();
        assert_eq!(spoken, chosen.map(str::as_bytes), "{alpn:?}");
        let (head, body) = match chosen {
            Some("h2") => ask_http2(stream, &path).await,
            _ => ask_http1(stream, &path).await,
        };
        assert_eq!(head.status.as_u16(), 200, "{alpn:?}: {body}");
        assert!(body.contains(&job), "{alpn:?}: {body}");
    }
    let stranger = certificates.connect(&server, &["http/1.0", "spdy/3"]).await;
    assert!(stranger.is_err());
    drop(client);
    server.stop().await;
}

/// Links are to where the caller came from.
#[tokio::test]
async fn links_are_to_https() {
    let certificates = Certificates::make();
    let server = certificates.serve(&[]).await;
    let stream = certificates.connect(&server, &["http/1.1"]).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("/api/jobs").header("host", "localhost:7");
    let request = request.header("content-type", "application/json");
    let job = r#"{"action": "create", "tasks": [{"driver": "d"}]}"#;
    let request = request.body(Full::new(Bytes::from(job))).unwrap();
    let (head, body) = read(sender.send_request(request).await.unwrap()).await;
    let location = head
        .headers
        .get("location")
        .map(|place| place.to_str().unwrap());
    let is_ours = location.is_some_and(|place| place.starts_with("https://localhost:7/api/jobs/"));
    assert!(is_ours, "{location:?} {body}");
    drop(sender);
    server.stop().await;
}

/// More than many records, both ways.
#[tokio::test]
async fn what_is_large_goes_through() {
    let certificates = Certificates::make();
    let server = certificates.serve(&[]).await;
    let client = Client::builder(&server.endpoint()).tls_ca(certificates.path("ca.pem"));
    let client = client.connect().await.unwrap();
    let text = "x".repeat(300_000);
    let jobs = (0..10).map(|_| {
        let payload = serde_json::json!({"text": text});
        let job = serde_json::json!({"action": "create", "tasks": [{"driver": "d", "requestPayload": payload}]});
        longhaul::proto::json::to_message::<longhaul::proto::v1::JobSpec>(&job.to_string())
    });
    for job in jobs {
        let request = longhaul::proto::v1::SubmitRequest {
            job: Some(job.unwrap()),
            ..Default::default()
        };
        client.submit(request).await.unwrap();
    }
    let list = longhaul::proto::v1::ListRequest {
        view: longhaul::proto::v1::View::Full.into(),
        page_size: 10,
        ..Default::default()
    };
    let listed = client.jobs().list(list).await.unwrap().into_inner();
    assert!(listed.jobs.len() >= 10 || !listed.next_page_token.is_empty());
    drop(client);
    server.stop().await;
}

/// Sends that without TLS and then nothing, and reads until the server closes the connection.
async fn closed_after(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    until_closed(&mut stream).await
}

async fn until_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = timeout(CLOSED_WITHIN, stream.read_to_end(&mut answer)).await;
    // A reset closes it as well.
    let _ = read.expect("the server closes it");
    answer
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_to() {
    let certificates = Certificates::make();
    let server = certificates.serve(&[]).await;
    let get = b"GET /v1/jobs HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let answer = closed_after(&server, get).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("https://"), "{answer}");
    for garbage in [
        &b"\0\0\0\0"[..],
        b"\xff\xff",
        b"\x16\x03\x01\xff\xff\0",
        b"SSH-2.0-x\r\n",
    ] {
        closed_after(&server, garbage).await;
    }
    let output = server
        .cli(&[
            "info",
            "--endpoint",
            &format!("http://{}", server.address()),
        ])
        .await;
    assert_eq!(output.code, Some(4), "{output:#?}");
    assert!(output.stderr.contains("write https://"), "{output:#?}");
    let ca = certificates.text("ca.pem");
    server.cli(&["info", "--tls-ca", &ca]).await.ok();
    server.stop().await;
}

/// A handshake has the same 10 s as all that a connection begins with.
#[tokio::test]
async fn who_says_nothing_or_not_enough_is_left() {
    let certificates = Certificates::make();
    let server = certificates.serve(&[]).await;
    let hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
    let dribbled = async {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let dribble = async {
            for byte in hello.iter().chain(&[0; 400]) {
                if write.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = dribble => {}
            _ = until_closed(&mut read) => {}
        }
    };
    let after = |alpn: &'static str, said: &'static [u8]| {
        let (certificates, server) = (&certificates, &server);
        async move {
            let mut stream = certificates.connect(server, &[alpn]).await.unwrap();
            stream.write_all(said).await.unwrap();
            until_closed(&mut stream).await
        }
    };
    tokio::join!(
        closed_after(&server, b""),
        closed_after(&server, &hello[..1]),
        closed_after(&server, hello),
        dribbled,
        after("h2", b""),
        after("h2", b"PRI * HTTP"),
        after("http/1.1", b""),
        after("http/1.1", b"GET / HTTP/1.1\r\nhost: local"),
    );
    let ca = certificates.text("ca.pem");
    server.cli(&["info", "--tls-ca", &ca]).await.ok();
    // Nor does a drain wait for them.
    let _silent = TcpStream::connect(server.address()).await.unwrap();
    server.stop().await;
}
