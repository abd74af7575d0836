//! One connection: HTTP/1.1 or HTTP/2 by its first bytes, with a limit on everything that a client could drag out.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use hyper::{
    server::conn::{http1, http2},
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    net::TcpStream,
    time::{Sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    gather::{Outgoing, gather},
    incoming::Incoming,
    intake::Intake,
    seldom::Seldom,
    standing::Standing,
    strangers::Place,
    tls::Tls,
    wire::Wire,
};
use crate::{auth::Peer, engine::monotonic_now};

/// How long a client has to shake hands over TLS, to say which protocol it speaks, and to send the head of its first request that is let in; all together.
pub(super) const OPENING: Duration = Duration::from_secs(10);
/// How long a client that did not do so has to hear of its end: a request that is on its way is answered.
const FAREWELL: Duration = Duration::from_secs(2);
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
    /// Whether there are strangers.
    pub(super) requires_credentials: bool,
    /// [`OPENING`].
    pub(super) opening: Duration,
    /// [`BALANCE`](super::frames::BALANCE).
    pub(super) balance: u32,
}

/// What all connections have in common; cheap to clone.
#[derive(Clone)]
pub(super) struct Service {
    tls: Option<Tls>,
    intake: Intake,
    protocols: Protocols,
    limits: Limits,
    draining: CancellationToken,
    cut: Arc<Seldom>,
}

impl Service {
    pub(super) fn new(
        tls: Option<Tls>,
        intake: Intake,
        limits: Limits,
        draining: CancellationToken,
    ) -> Self {
        Self {
            tls,
            intake,
            protocols: Protocols::new(limits),
            limits,
            draining,
            cut: Arc::default(),
        }
    }
}

/// How connections are served, by the protocol that they speak. We look at their first bytes ourselves: what does that inside of HTTP/1 makes it read
/// into twice the buffer.
#[derive(Clone)]
struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Protocols {
    fn new(limits: Limits) -> Self {
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
    service: Service,
    stream: TcpStream,
    address: SocketAddr,
    place: Option<Place>,
) {
    let Service {
        tls,
        intake,
        protocols,
        limits,
        draining,
        cut,
    } = service;
    // Small messages must not wait for larger ones; without it they are only late.
    let _ = stream.set_nodelay(true);
    let mut deadline = Box::pin(tokio::time::sleep(limits.opening));
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
    let standing = Arc::new(Standing::new(place));
    let intake = intake.of(peer, Arc::clone(&standing));
    let (stream, outgoing) = gather(wire);
    let incoming = Incoming::new(stream, Arc::clone(&standing), limits.balance);
    let begun = Box::pin(begin(incoming, &mut deadline, &draining)).await;
    let Some((incoming, speaks_http2)) = begun else {
        return;
    };
    let io = TokioIo::new(incoming);
    let service = service_fn(move |request| intake.call(request));
    let end = End {
        deadline,
        standing: Arc::clone(&standing),
        draining,
    };
    let result = match speaks_http2 {
        true => {
            let connection = protocols.http2.serve_connection(io, service);
            Box::pin(drive(connection, outgoing, end)).await
        }
        false => {
            let connection = protocols.http1.serve_connection(io, service);
            Box::pin(drive(connection, outgoing, end)).await
        }
    };
    if standing.is_cut()
        && let Some(times) = cut.note(monotonic_now())
    {
        tracing::warn!(peer = %address, times, "a connection was cut off: it sent too many frames of HTTP/2 that ask for nothing");
    }
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
async fn begin(
    mut incoming: Incoming,
    deadline: &mut Pin<Box<Sleep>>,
    draining: &CancellationToken,
) -> Option<(Incoming, bool)> {
    let speaks_http2 = tokio::select! {
        biased;
        speaks = incoming.speaks_http2() => speaks,
        () = deadline => Err(io::ErrorKind::TimedOut.into()),
        () = draining.cancelled() => return None,
    };
    match speaks_http2 {
        Ok(speaks_http2) => Some((incoming, speaks_http2)),
        Err(error) => {
            tracing::debug!(%error, "a connection said nothing");
            None
        }
    }
}

/// Why a connection ends that would go on.
struct End {
    deadline: Pin<Box<Sleep>>,
    standing: Arc<Standing>,
    draining: CancellationToken,
}

impl End {
    /// Resolves if the peer has not shown who it is when it should have.
    async fn of_strangers(deadline: Pin<Box<Sleep>>, standing: &Standing) {
        // Its timer goes as soon as it was heard.
        deadline.await;
        if standing.may_stay() {
            std::future::pending().await
        }
    }
}

async fn drive(
    connection: impl GracefulConnection<Error = hyper::Error>,
    outgoing: Outgoing,
    end: End,
) -> Result<(), axum::BoxError> {
    let End {
        deadline,
        standing,
        draining,
    } = end;
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = outgoing.drive(connection.as_mut()) => return result,
        () = draining.cancelled() => connection.as_mut().graceful_shutdown(),
        () = End::of_strangers(deadline, &standing) => {
            connection.as_mut().graceful_shutdown();
            let parting = timeout(FAREWELL, outgoing.drive(connection.as_mut())).await;
            match parting {
                Ok(result) => return result,
                Err(_) if standing.is_known() => {}
                Err(_) => {
                    outgoing.part();
                    return Err(Box::new(io::Error::from(io::ErrorKind::TimedOut)));
                }
            }
        }
    }
    outgoing.drive(connection).await
}
