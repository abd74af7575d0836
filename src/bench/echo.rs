//! The floor of a unary call: a server that decodes a `SubmitRequest`, encodes a `SubmitResponse`, and does nothing in between.
//!
//! Runs as a process of its own, as the real server does. The answer is one that a real server gave; it comes on stdin, so that the messages are the
//! same whatever they look like.

use std::{convert::Infallible, io, net::SocketAddr};

use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpListener,
};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::Grpc,
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::BenchError;
use crate::proto::v1::{SubmitRequest, SubmitResponse};

/// Bytes that one stream may have under way, as the real server has it.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes that one connection may have under way, as the real server has it.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;

/// What the echo reads from stdin: the answer with its length before it, so that the input may stay open.
pub(super) fn input(answer: &SubmitResponse) -> Vec<u8> {
    let body = answer.encode_to_vec();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &body].concat()
}

/// Serves echoes on a free loopback port until `input` ends, which begins with the answer. Says where it listens through `listening`.
///
/// # Errors
/// The input holds no answer, or nothing can be listened on.
pub async fn serve(
    mut input: impl AsyncRead + Unpin,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), BenchError> {
    let tried = BenchError::io;
    let length = input.read_u32().await;
    let length = length.map_err(tried("can't read the answer from stdin"))?;
    let mut body = vec![0; length as usize];
    let read = input.read_exact(&mut body).await;
    read.map_err(tried("can't read the answer from stdin"))?;
    let answer = SubmitResponse::decode(&body[..])
        .map_err(|error| BenchError::Broken(format!("no answer on stdin: {error}")))?;

    let echo = service_fn(move |_request: Request<SubmitRequest>| {
        let answer = answer.clone();
        async move { Ok::<_, Status>(Response::new(answer)) }
    });
    let service = service_fn(move |request: http::Request<Body>| {
        let echo = echo.clone();
        async move {
            let codec = ProstCodec::<SubmitResponse, SubmitRequest>::default();
            Ok::<_, Infallible>(Grpc::new(codec).unary(echo, request).await)
        }
    });
    let socket = TcpListener::bind(("127.0.0.1", 0)).await;
    let socket = socket.map_err(tried("can't listen"))?;
    listening(socket.local_addr().map_err(tried("can't listen"))?);
    let incoming = TcpIncoming::from(socket).with_nodelay(Some(true));
    let parent_gone = async {
        // Whatever else comes is not for us; the end, in whatever form, is.
        let _ = tokio::io::copy(&mut input, &mut tokio::io::sink()).await;
    };
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .serve_with_incoming_shutdown(service, incoming, parent_gone)
        .await
        .map_err(|error| BenchError::Io {
            tried: "can't serve echoes".to_owned(),
            source: io::Error::other(error),
        })
}
