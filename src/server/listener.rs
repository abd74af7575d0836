//! Accepts connections, owns their tasks, and ends them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustix::net::sockopt;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{self, Limits, Service},
    intake::Intake,
    routes::Front,
    seldom::Seldom,
    strangers::Strangers,
    tls::Tls,
};
use crate::{auth::Authenticator, engine::monotonic_now};

/// The pause after an accept that failed for want of something, such as file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// How often a peer that says nothing is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long a peer may leave what it was sent without a receipt: as long as HTTP/2's pings take to find out. Without it the system tries for a quarter of
/// an hour.
const UNACKNOWLEDGED: Duration = Duration::from_secs(40);

/// Finds out about peers that vanish without a word, also where the protocol has no pings. Accepted sockets have it from the one that listens.
fn watch_peers(socket: &TcpListener) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(socket, KEEP_ALIVE)?;
    let millis = UNACKNOWLEDGED.as_millis() as u32;
    sockopt::set_tcp_user_timeout(socket, millis)?;
    Ok(())
}

/// Whether an accept failed because of the one connection that it would have answered; the next one is another.
fn is_of_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut
    )
}

/// The task that accepts.
pub(super) struct Listener {
    address: SocketAddr,
    draining: CancellationToken,
    task: JoinHandle<JoinSet<()>>,
}

impl Listener {
    pub(super) fn start(
        socket: TcpListener,
        tls: Option<Tls>,
        front: Front,
        authenticator: Authenticator,
        limits: Limits,
    ) -> io::Result<Self> {
        let address = socket.local_addr()?;
        watch_peers(&socket)?;
        let draining = CancellationToken::new();
        let intake = Intake::new(front, authenticator, draining.clone());
        let service = Service::new(tls, intake, limits, draining.clone());
        let task = tokio::spawn(accept(socket, service, limits, draining.clone()));
        Ok(Self {
            address,
            draining,
            task,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, waits for the connections to end, and cuts off those that do not; answers how many these were.
    pub(super) async fn drain(self, timeout: Duration) -> usize {
        self.draining.cancel();
        let Ok(mut connections) = self.task.await else {
            return 0;
        };
        let all_end = async { while connections.join_next().await.is_some() {} };
        // Either way, what is left is what did not end.
        let _ = tokio::time::timeout(timeout, all_end).await;
        let left = connections.len();
        connections.shutdown().await;
        left
    }
}

/// Answers the connections that were open when the draining began.
async fn accept(
    socket: TcpListener,
    service: Service,
    limits: Limits,
    draining: CancellationToken,
) -> JoinSet<()> {
    let strangers = (limits.requires_credentials).then(|| Strangers::of(limits.max_connections));
    let (full, crowded) = (Seldom::default(), Seldom::default());
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections = JoinSet::new();
    let mut is_short = false;
    loop {
        let accepted = tokio::select! {
            () = draining.cancelled() => return connections,
            accepted = socket.accept() => accepted,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the task of a connection panicked");
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => {
                is_short = false;
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    // Left in the kernel it would look accepted, and its client would wait for nothing.
                    if let Some(refused) = full.note(monotonic_now()) {
                        let max_connections = limits.max_connections;
                        tracing::warn!(%peer, refused, max_connections, "connections are refused: max_connections, or the limit on open files, allows no more");
                    }
                    drop(stream);
                    continue;
                };
                let place = strangers.as_ref().map(|all| all.enter(peer.ip()));
                let Some(place) = place.map_or(Some(None), |place| place.map(Some)) else {
                    if let Some(refused) = crowded.note(monotonic_now()) {
                        tracing::warn!(%peer, refused, "connections are refused: too many are open that have not shown a credential");
                    }
                    drop(stream);
                    continue;
                };
                let serve = connection::serve(service.clone(), stream, peer, place);
                connections.spawn(async move {
                    serve.await;
                    drop(permit);
                });
            }
            Err(error) if is_of_one(&error) => {
                tracing::debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                if !is_short {
                    tracing::warn!(%error, "connections can not be accepted");
                }
                is_short = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn accepted_sockets_notice_peers_that_vanish() -> io::Result<()> {
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        watch_peers(&socket)?;
        let connect = TcpStream::connect(socket.local_addr()?);
        let (_peer, accepted) = tokio::try_join!(connect, socket.accept())?;
        let accepted = accepted.0;
        assert!(sockopt::socket_keepalive(&accepted)?);
        assert_eq!(sockopt::tcp_keepidle(&accepted)?, KEEP_ALIVE);
        assert_eq!(sockopt::tcp_keepintvl(&accepted)?, KEEP_ALIVE);
        assert_eq!(sockopt::tcp_user_timeout(&accepted)?, 40_000);
        Ok(())
    }
}
