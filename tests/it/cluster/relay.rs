//! Between clients and servers: what a load balancer does, or a pooler that knows no LISTEN.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, copy_bidirectional},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

/// Bytes that are passed on at once.
const CHUNK: usize = 16 * 1024;

/// Passes connections on to one of several servers in turn, to the next if that takes none. Ends with its connections when it is dropped.
pub struct Relay {
    address: SocketAddr,
    cut: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Relay {
    /// In front of servers, each given as `HOST:PORT`.
    pub async fn balance(servers: Vec<String>) -> Self {
        Self::start(servers, None).await
    }

    /// In front of a server; cuts each connection on which a client says this word, in whichever case.
    pub async fn without(word: &'static str, server: String) -> Self {
        Self::start(vec![server], Some(word)).await
    }

    async fn start(servers: Vec<String>, forbidden: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cut = Arc::new(AtomicUsize::new(0));
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(accept(listener, servers, forbidden, Arc::clone(&cut)));
        Self {
            address,
            cut,
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections were cut because of a word.
    pub fn cut(&self) -> usize {
        self.cut.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    servers: Vec<String>,
    forbidden: Option<&'static str>,
    cut: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    for turn in 0.. {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        let servers = servers.clone();
        let cut = Arc::clone(&cut);
        connections.spawn(async move {
            let Some(server) = reach(&servers, turn).await else {
                return;
            };
            match forbidden {
                None => pass(client, server).await,
                Some(word) => pass_without(word, client, server, &cut).await,
            }
        });
    }
}

/// The first that takes a connection, beginning with that whose turn it is.
async fn reach(servers: &[String], turn: usize) -> Option<TcpStream> {
    for at in 0..servers.len() {
        let server = &servers[(turn + at) % servers.len()];
        if let Ok(server) = TcpStream::connect(server).await {
            return Some(server);
        }
    }
    None
}

async fn pass(mut client: TcpStream, mut server: TcpStream) {
    // However it ends, it is at an end.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

async fn pass_without(word: &str, client: TcpStream, server: TcpStream, cut: &AtomicUsize) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asked = async {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = from_client.read(&mut chunk).await {
            if says(&chunk[..length], word) {
                cut.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if write(&mut to_server, &chunk[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = asked => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
}

async fn write(to: &mut OwnedWriteHalf, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await
}

fn says(bytes: &[u8], word: &str) -> bool {
    let is_word = |window: &[u8]| window.eq_ignore_ascii_case(word.as_bytes());
    bytes.windows(word.len()).any(is_word)
}

#[test]
fn a_word_is_found_in_whichever_case() {
    assert!(says(b"Q\0\0\0listen changes\0", "LISTEN "));
    assert!(!says(b"Q\0\0\0NOTIFY changes\0", "LISTEN "));
    assert!(!says(b"LIST", "LISTEN "));
}
