//! One connection: HTTP/1.1 or HTTP/2 by its first bytes, with a limit on everything that a client could drag out.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    server::conn::{http1, http2},
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    gather::{Gathered, Outgoing, gather},
    intake::Intake,
    tls::Tls,
    wire::Wire,
};
use crate::auth::Peer;

/// How long a client has to shake hands over TLS, to say which protocol it speaks, and to send the head of its first request in HTTP/1; all together.
const OPENING: Duration = Duration::from_secs(10);
/// How every HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long an HTTP/1 connection may be kept without a request, and how long the head of a later one may take: longer than the pools of usual proxies
/// keep one, which is 60 s, or they would send requests into connections that are being closed.
const IDLE: Duration = Duration::from_secs(75);
/// How often a silent HTTP/2 connection is pinged, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Bytes that one stream may have under way to us.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes that one connection may have under way to us: many streams' worth, or h2 takes many small calls for an attack.
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
/// Bytes of a request's head: a query, which may have 8 KiB, and three times as much of headers. In HTTP/1 as much may be read ahead of a request's body, and be
/// written ahead of a slow reader; and there, no more than hyper's default of 100 headers.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// Bytes of one stream that may wait for a slow reader.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// Streams that were reset before we looked at them; a client that cancels many calls at once is no attack.
const MAX_RESET_STREAMS: usize = 20_000;

/// Limits that the operator sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once.
    pub(super) max_connections: usize,
    /// Calls at once on one connection.
    pub(super) max_streams: u32,
}

/// How connections are served, by the protocol that they speak. We look at their first bytes ourselves: what does that inside of HTTP/1 makes it read
/// into twice the buffer.
#[derive(Clone)]
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Protocols {
    pub(super) fn new(limits: Limits) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_header_size(MAX_HEADER_BYTES as usize)
            .max_buf_size(MAX_HEADER_BYTES as usize);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(limits.max_streams)
            .max_header_list_size(MAX_HEADER_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        Self { http1, http2 }
    }
}

/// Serves one connection to its end; after `draining` it takes no new calls and ends with the last open one.
pub(super) async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Tls>,
    protocols: Protocols,
    intake: Intake,
    draining: CancellationToken,
) {
    // Small messages must not wait for larger ones; without it they are only late.
    let _ = stream.set_nodelay(true);
    let mut deadline = Box::pin(tokio::time::sleep(OPENING));
    // In boxes, each as large as it is, so that none has to carry the others along.
    let (wire, peer) = match tls {
        None => (Wire::plain(stream), Peer::plain(address)),
        Some(tls) => {
            let shaken = Box::pin(shake_hands(tls, stream, address, &mut deadline, &draining));
            match shaken.await {
                Some(shaken) => shaken,
                None => return,
            }
        }
    };
    let intake = intake.of(peer);
    let (stream, outgoing) = gather(wire);
    let asked = Arc::new(AtomicBool::new(false));
    let opening = Opening::new(stream, deadline, Arc::clone(&asked));
    let begun = Box::pin(begin(opening, &draining)).await;
    let Some((opening, speaks_http2)) = begun else {
        return;
    };
    let io = TokioIo::new(opening);
    let service = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        intake.call(request)
    });
    let result = match speaks_http2 {
        true => {
            let connection = protocols.http2.serve_connection(io, service);
            Box::pin(drive(connection, outgoing, draining)).await
        }
        false => {
            let connection = protocols.http1.serve_connection(io, service);
            Box::pin(drive(connection, outgoing, draining)).await
        }
    };
    if let Err(error) = result {
        // Peers that go without a word are everyday business.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Begins TLS; none if it comes to nothing, or if the server goes before.
async fn shake_hands(
    tls: Tls,
    stream: TcpStream,
    address: SocketAddr,
    deadline: &mut Pin<Box<Sleep>>,
    draining: &CancellationToken,
) -> Option<(Wire, Peer)> {
    let shaken = tokio::select! {
        shaken = tls.accept(stream, address) => shaken,
        () = deadline => Err(io::ErrorKind::TimedOut.into()),
        () = draining.cancelled() => return None,
    };
    match shaken {
        Ok(shaken) => Some(shaken),
        Err(error) => {
            tracing::debug!(peer = %address, %error, "a handshake came to nothing");
            None
        }
    }
}

/// Finds out whether HTTP/2 is spoken; none if nothing is, or if the server goes before it is clear.
async fn begin(mut opening: Opening, draining: &CancellationToken) -> Option<(Opening, bool)> {
    let speaks_http2 = tokio::select! {
        speaks = opening.speaks_http2() => speaks,
        () = draining.cancelled() => return None,
    };
    match speaks_http2 {
        Ok(speaks_http2) => Some((opening, speaks_http2)),
        Err(error) => {
            tracing::debug!(%error, "a connection said nothing");
            None
        }
    }
}

async fn drive(
    connection: impl GracefulConnection<Error = hyper::Error>,
    outgoing: Outgoing,
    draining: CancellationToken,
) -> Result<(), axum::BoxError> {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = outgoing.drive(connection.as_mut()) => result,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            outgoing.drive(connection).await
        }
    }
}

/// A stream with a deadline for the preface of HTTP/2 and for the first request of HTTP/1. What comes later is watched by the protocol's own limits, and
/// bodies by the intake.
struct Opening {
    stream: Gathered,
    deadline: Option<Pin<Box<Sleep>>>,
    /// A request's head is complete.
    asked: Arc<AtomicBool>,
    /// The first bytes, and how many there are; they are told again.
    start: [u8; PREFACE.len()],
    length: usize,
    told: usize,
}

impl Opening {
    fn new(stream: Gathered, deadline: Pin<Box<Sleep>>, asked: Arc<AtomicBool>) -> Self {
        Self {
            stream,
            deadline: Some(deadline),
            asked,
            start: [0; PREFACE.len()],
            length: 0,
            told: 0,
        }
    }

    /// Reads until it is clear whether HTTP/2 is spoken.
    async fn speaks_http2(&mut self) -> io::Result<bool> {
        while PREFACE.starts_with(&self.start[..self.length]) && self.length < PREFACE.len() {
            let Some(deadline) = &mut self.deadline else {
                return Ok(false);
            };
            let read = tokio::select! {
                biased;
                read = self.stream.read(&mut self.start[self.length..]) => read?,
                () = deadline => return Err(io::ErrorKind::TimedOut.into()),
            };
            if read == 0 {
                // An end is HTTP/1's to make sense of.
                return Ok(false);
            }
            self.length += read;
        }
        let speaks = self.start == PREFACE;
        if speaks {
            self.deadline = None;
        }
        Ok(speaks)
    }
}

impl AsyncRead for Opening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.told < this.length {
            let again = &this.start[this.told..this.length];
            let again = &again[..again.len().min(buf.remaining())];
            buf.put_slice(again);
            this.told += again.len();
            // What has come besides belongs to the same read.
            if let Poll::Ready(Err(error)) = Pin::new(&mut this.stream).poll_read(cx, buf) {
                return Poll::Ready(Err(error));
            }
            return Poll::Ready(Ok(()));
        }
        let poll = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.deadline.is_some() && this.asked.load(Ordering::Relaxed) {
            this.deadline = None;
        }
        if let Some(deadline) = &mut this.deadline
            && poll.is_pending()
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        poll
    }
}

impl AsyncWrite for Opening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
