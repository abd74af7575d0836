//! A gRPC call whose request does not end.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Status, body::Body, transport::Channel};
use tower::{Service as _, ServiceExt as _};

/// The server is asked, and half of the question is missing.
pub struct HalfACall {
    answer: JoinHandle<Response<Body>>,
    /// More of the request may follow; while this is there, it does not end.
    pub more: mpsc::Sender<Bytes>,
}

impl HalfACall {
    /// Begins a call with these bytes.
    pub fn begin(channel: &Channel, path: &str, bytes: &[u8]) -> Self {
        let (more, sent) = mpsc::channel(1);
        let sent = ReceiverStream::new(sent).map(|data| Ok::<_, Infallible>(Frame::data(data)));
        let request = Request::post(path)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(StreamBody::new(sent)))
            .unwrap();
        // The channel is new and has room.
        more.try_send(Bytes::copy_from_slice(bytes)).unwrap();
        let mut channel = channel.clone();
        let answer = async move { channel.ready().await.unwrap().call(request).await.unwrap() };
        let answer = tokio::spawn(answer);
        Self { answer, more }
    }

    /// One whose message comes byte by byte.
    pub fn dribbling(channel: &Channel, path: &str, every: Duration) -> Self {
        let call = Self::begin(channel, path, b"\0\0\0\x01\0");
        let more = call.more.clone();
        tokio::spawn(async move {
            while more.send(Bytes::from_static(b"x")).await.is_ok() {
                tokio::time::sleep(every).await;
            }
        });
        call
    }

    /// Whether the server has not waited for the rest.
    pub fn is_answered(&self) -> bool {
        self.answer.is_finished()
    }

    /// The status that it is answered with, although it does not end.
    pub async fn ended(self, within: Duration) -> Status {
        let Self { answer, more } = self;
        let response = timeout(within, answer).await.expect("an answer").unwrap();
        drop(more);
        Status::from_header_map(response.headers()).expect("no more than a status")
    }
}
