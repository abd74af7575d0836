//! Bytes that are no message, or no message of the method.

use bytes::{Buf as _, BufMut as _, Bytes};
use longhaul::proto::{DESCRIPTORS, v1};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};
use tower::{Service as _, ServiceExt as _};

use crate::{harness::Server, jobs::reason};

/// One more than the largest message that is accepted.
const OVERSIZE: usize = 16 * 1024 * 1024 + 1;

/// Messages that are just bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}

async fn connect(server: &Server) -> Channel {
    let endpoint = Endpoint::from_shared(server.endpoint()).unwrap();
    endpoint.connect().await.unwrap()
}

/// Sends one message; the error that comes back.
async fn refused(channel: &Channel, path: &str, message: impl Into<Bytes>) -> Status {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = path.parse().unwrap();
    let answer = grpc.unary(Request::new(message.into()), path, Raw).await;
    answer.expect_err("it is refused")
}

#[track_caller]
fn assert_refused(status: &Status, code: Code, expected: &str) {
    assert_eq!(
        (status.code(), reason(status).as_str()),
        (code, expected),
        "{status:?}"
    );
}

/// The paths of all our methods.
fn methods() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS)
        .unwrap()
        .file;
    let ours = files.iter().filter(|file| file.package() == "longhaul.v1");
    let services = ours.flat_map(|file| &file.service);
    services
        .flat_map(|service| {
            let path = |method: &str| format!("/longhaul.v1.{}/{method}", service.name());
            service.method.iter().map(move |method| path(method.name()))
        })
        .collect()
}

#[tokio::test]
async fn malformed_messages_are_invalid_for_every_method() {
    let server = Server::start().await;
    let channel = connect(&server).await;
    let methods = methods();
    assert!(methods.len() > 15, "{methods:?}");
    for path in &methods {
        // Field 1 has five bytes, of which one is there; a field number of 0; a wire type that there is not; a varint without end.
        for garbage in [&b"\x0a\x05\x01"[..], b"\x00\x01", b"\x0f", &[0xff; 11]] {
            let status = refused(&channel, path, garbage).await;
            assert_eq!(reason(&status), "MALFORMED_MESSAGE", "{path}: {status:?}");
            assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status:?}");
        }
        let status = refused(&channel, path, vec![0; OVERSIZE]).await;
        assert_eq!(status.code(), Code::ResourceExhausted, "{path}: {status:?}");
        assert_eq!(reason(&status), "MESSAGE_TOO_LARGE", "{path}: {status:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_invalid() {
    let server = Server::start().await;
    let channel = connect(&server).await;
    let get = "/longhaul.v1.JobService/Get";
    let status = refused(&channel, get, &b"\x0a\x02\xc3\x28"[..]).await;
    assert_refused(&status, Code::InvalidArgument, "MALFORMED_MESSAGE");

    // In a payload, which is carried without being looked into until it is checked: {"k": "\xc3\x28"}.
    let value = b"\x1a\x02\xc3\x28";
    let entry = [b"\x0a\x01k\x12\x04", &value[..]].concat();
    let payload = field(1, &entry);
    let task = [field(3, b"driver"), field(10, &payload)].concat();
    let job = field(10, &task);
    let submit = "/longhaul.v1.JobService/Submit";
    let status = refused(&channel, submit, field(1, &job)).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(!reason(&status).is_empty(), "{status:?}");
    server.stop().await;
}

/// A field that holds bytes.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    prost::encoding::bytes::encode(number, &content.to_vec(), &mut field);
    field
}

#[tokio::test]
async fn unknown_methods_are_unimplemented() {
    let server = Server::start().await;
    let channel = connect(&server).await;
    for path in [
        "/longhaul.v1.JobService/Destroy",
        "/no.such.Service/Method",
        "/",
    ] {
        let status = refused(&channel, path, Bytes::new()).await;
        assert_refused(&status, Code::Unimplemented, "NOT_SUPPORTED");
        let expected = format!("there is no method {path};");
        assert!(status.message().starts_with(&expected), "{status:?}");
    }
    server.stop().await;
}

/// What may be wrong around a message: its frame.
#[tokio::test]
async fn broken_frames_are_invalid() {
    let server = Server::start().await;
    let channel = connect(&server).await;
    let frames: [(&str, &[u8]); 5] = [
        ("nothing", b""),
        ("half a header", b"\0\0\0"),
        ("less than was announced", b"\0\0\0\0\x09\x0a"),
        ("a flag that there is not", b"\x07\0\0\0\0"),
        ("compressed, without a word how", b"\x01\0\0\0\0"),
    ];
    for (what, frame) in frames {
        for method in ["JobService/Get", "WorkerService/Work"] {
            let status = send(&channel, method, frame).await;
            assert_eq!(
                status.code(),
                Code::InvalidArgument,
                "{what}, {method}: {status:?}"
            );
            assert!(!reason(&status).is_empty(), "{what}, {method}: {status:?}");
        }
    }
    server.stop().await;
}

/// Sends a body as it is.
async fn send(channel: &Channel, method: &str, body: &'static [u8]) -> Status {
    let request = http::Request::post(format!("/longhaul.v1.{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(http_body_util::Full::new(
            Bytes::from_static(body),
        )))
        .unwrap();
    let mut channel = channel.clone();
    let response = channel.ready().await.unwrap().call(request).await.unwrap();
    Status::from_header_map(response.headers()).expect("an error comes without a body")
}

#[tokio::test]
async fn a_bad_message_in_a_worker_s_stream_ends_it_with_an_error() {
    let server = Server::start().await;
    let channel = connect(&server).await;
    let hello = v1::WorkRequest {
        hello: Some(v1::WorkerHello {
            name: "rough".to_owned(),
            drivers: vec!["any".to_owned()],
            ..v1::WorkerHello::default()
        }),
        ..v1::WorkRequest::default()
    };
    let bad = [
        (
            Bytes::from_static(b"\x0a\x05\x01"),
            Code::InvalidArgument,
            "MALFORMED_MESSAGE",
        ),
        (
            vec![0; OVERSIZE].into(),
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
        ),
        (
            hello.encode_to_vec().into(),
            Code::InvalidArgument,
            "INVALID_REQUEST",
        ),
    ];
    for (message, code, expected) in bad {
        let (requests, outgoing) = mpsc::channel(2);
        requests.send(hello.encode_to_vec().into()).await.unwrap();
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let path = "/longhaul.v1.WorkerService/Work".parse().unwrap();
        let outgoing = Request::new(ReceiverStream::new(outgoing));
        let mut responses = grpc
            .streaming(outgoing, path, Raw)
            .await
            .unwrap()
            .into_inner();
        responses.message().await.unwrap().expect("the greeting");
        requests.send(message).await.unwrap();
        let status = responses.message().await.unwrap_err();
        assert_refused(&status, code, expected);
    }
    server.stop().await;
}
