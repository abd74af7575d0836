//! Peers without a credential, who take connections: there is room for the others.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

use crate::{honest::meanwhile, server::Server, wire::Peer};

/// Of these a quarter may be strangers', and of those a quarter from one address.
const CONNECTIONS: usize = 400;
const OF_ONE: usize = 25;
/// How long who is refused may take to be, which is less than who is let in may be silent.
const LET_IN: Duration = Duration::from_secs(3);

/// As many connections from there that say nothing.
async fn crowd(server: &Server, origin: &str, count: usize) -> Vec<TcpStream> {
    let streams = (0..count).map(async |_| Peer::from(server, origin).await.unwrap());
    join_all(streams).await
}

/// Those that were not closed at once.
async fn let_in(streams: Vec<TcpStream>) -> Vec<TcpStream> {
    let looked_at = streams.into_iter().map(async |mut stream| {
        // Whoever is not closed by then is let in: they are accepted in order.
        let closed = timeout(LET_IN, stream.read(&mut [0])).await;
        closed.is_err().then_some(stream)
    });
    join_all(looked_at).await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_leave_room() {
    let most = CONNECTIONS.to_string();
    let server = Server::start(&["--max-connections", &most]).await;
    let attack = async {
        let streams = crowd(&server, "127.0.0.9", 2 * OF_ONE).await;
        let open = let_in(streams).await;
        assert_eq!(open.len(), OF_ONE);
        let log = server.log();
        assert!(log.contains("have not shown a credential"), "{log}");
    };
    // From another address each new connection finds its place.
    meanwhile(&server, "strangers", attack).await;
}
