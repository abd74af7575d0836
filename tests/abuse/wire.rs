//! Raw connections, and frames of HTTP/2 as nobody should send them.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::server::Server;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// How every HTTP/2 connection begins, with empty settings.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A frame with its head, if nobody has agreed on more.
const MOST_BYTES: usize = 9 + 16_384;
/// How long anything may take that is not about a deadline of the server's.
const SOON: Duration = Duration::from_secs(30);

/// A frame with a payload.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    lying(kind, flags, stream, payload.len(), payload)
}

/// A frame that says that its payload has another length.
pub fn lying(kind: u8, flags: u8, stream: u32, length: usize, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// The fields of a request, each as a literal that is not to be remembered; at most 126 bytes each.
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let length = u8::try_from(text.len()).unwrap();
            assert!(length < 127, "{text}");
            block.push(length);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The fields of a GET.
pub fn get(path: &str, key: Option<&str>) -> Vec<u8> {
    let bearer = key.map(|key| format!("Bearer {key}"));
    let mut all = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
    ];
    all.extend(bearer.as_deref().map(|value| ("authorization", value)));
    fields(&all)
}

/// The fields of a gRPC call.
pub fn call(path: &str, key: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let bearer = format!("Bearer {key}");
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", &bearer),
    ];
    fields(&[&usual, more].concat())
}

/// A request without a body, in one frame.
pub fn request(stream: u32, path: &str, key: Option<&str>) -> Vec<u8> {
    let flags = END_HEADERS | END_STREAM;
    frame(HEADERS, flags, stream, &get(path, key))
}

trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// One end of a connection to the server.
pub struct Peer {
    read: ReadHalf<Box<dyn Both>>,
    write: WriteHalf<Box<dyn Both>>,
    received: Vec<u8>,
}

/// How a connection ended.
pub struct Ended {
    /// The last that came and was not looked at.
    pub received: Vec<u8>,
    /// How often the attacker could send its bytes.
    pub sent: usize,
}

impl Peer {
    /// From an address of the machine's own, in any of which it may begin: 127.0.0.0/8 are 16 million.
    pub async fn from(server: &Server, origin: &str) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        let origin: SocketAddr = format!("{origin}:0").parse().unwrap();
        socket.bind(origin)?;
        socket.connect(server.address().parse().unwrap()).await
    }

    /// From 127.0.0.2, over TLS if the server speaks it; `protocol` is offered there.
    pub async fn connect(server: &Server, protocol: &str) -> Self {
        let stream = Self::from(server, "127.0.0.2").await.unwrap();
        let stream: Box<dyn Both> = match server.certificate() {
            None => Box::new(stream),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                let certificate = CertificateDer::from_pem_file(file).unwrap();
                roots.add(certificate).unwrap();
                let provider = Arc::new(aws_lc_rs::default_provider());
                let mut config = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
                let name = ServerName::try_from("localhost").unwrap();
                let connector = TlsConnector::from(Arc::new(config));
                Box::new(connector.connect(name, stream).await.unwrap())
            }
        };
        Self::over(stream)
    }

    fn over(stream: Box<dyn Both>) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            read,
            write,
            received: Vec::new(),
        }
    }

    /// One that speaks HTTP/2, and has shown the credential if it has one.
    pub async fn http2(server: &Server, key: Option<&str>) -> Self {
        let mut peer = Self::connect(server, "h2").await;
        peer.send(PREFACE).await.unwrap();
        peer.send(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
        if let Some(key) = key {
            peer.send(&request(1, "/v1/jobs", Some(key))).await.unwrap();
            loop {
                let (kind, stream, _) = peer.frame().await.expect("an answer");
                if (kind, stream) == (HEADERS, 1) {
                    break;
                }
            }
        }
        peer
    }

    /// One that speaks HTTP/1.1, and sends this.
    pub async fn http1(server: &Server, bytes: &[u8]) -> Self {
        let mut peer = Self::connect(server, "http/1.1").await;
        // The server may have had enough before the end.
        let _ = peer.send(bytes).await;
        peer
    }

    /// The status of the next answer over HTTP/1.1.
    pub async fn status(&mut self) -> String {
        let mut read = 12;
        loop {
            let text = self.read(read).await;
            if let Some((_, after)) = text.split_once("HTTP/1.1 ")
                && let Some(status) = after.get(..3)
            {
                self.received.clear();
                return status.to_owned();
            }
            assert!(text.len() >= read, "it ended: {text}");
            read = text.len() + 1;
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await?;
        self.write.flush().await
    }

    /// The next frame: its kind, its stream and its payload; none at the end.
    pub async fn frame(&mut self) -> Option<Frame> {
        let frame = timeout(SOON, self.frame_at_last()).await;
        frame.expect("a frame, or the end")
    }

    async fn frame_at_last(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = first_frame(&self.received) {
                self.received.drain(..length);
                return Some(frame);
            }
            if let Ok(0) | Err(_) = self.read.read_buf(&mut self.received).await {
                return None;
            }
        }
    }

    /// The first frame of an answer: its kind and its payload.
    pub async fn answer(&mut self, stream: u32, within: Duration) -> (u8, Vec<u8>) {
        let answered = async {
            loop {
                let (kind, of, payload) =
                    self.frame_at_last().await.expect("an answer, not the end");
                if of == stream && kind != WINDOW_UPDATE {
                    return (kind, payload);
                }
            }
        };
        let answered = timeout(within, answered).await;
        answered.expect("an answer")
    }

    /// Reads until so many bytes were received, or to the end; all that came.
    pub async fn read(&mut self, bytes: usize) -> String {
        while self.received.len() < bytes {
            let read = timeout(SOON, self.read.read_buf(&mut self.received)).await;
            if matches!(read.expect("bytes, or the end"), Ok(0) | Err(_)) {
                break;
            }
        }
        String::from_utf8_lossy(&self.received).into_owned()
    }

    /// Waits until the server ends the connection.
    pub async fn ended(self, within: Duration) -> Ended {
        self.floods(within, 0, |_| Vec::new()).await
    }

    /// Sends what `next` makes, at most so often, and takes what is answered, until the server ends the connection.
    pub async fn floods(
        self,
        within: Duration,
        most: usize,
        mut next: impl FnMut(u32) -> Vec<u8>,
    ) -> Ended {
        let Self {
            mut read,
            mut write,
            mut received,
        } = self;
        let mut sent = 0;
        let sending = async {
            // Many at once: one by one the writer would be what is measured.
            const AT_ONCE: usize = 100;
            let mut numbers = 0..u32::try_from(most).unwrap();
            loop {
                let bytes: Vec<u8> = numbers.by_ref().take(AT_ONCE).flat_map(&mut next).collect();
                if bytes.is_empty() || write.write_all(&bytes).await.is_err() {
                    break;
                }
                let _ = write.flush().await;
                sent += AT_ONCE;
            }
            std::future::pending::<()>().await;
        };
        let reading = async {
            while let Ok(1..) = read.read_buf(&mut received).await {
                // The last is enough.
                while let Some((frame, length)) = first_frame(&received)
                    && frame.0 != GOAWAY
                    // Longer ones are none, but text.
                    && length <= MOST_BYTES
                {
                    received.drain(..length);
                }
            }
        };
        let both = async {
            tokio::select! {
                () = sending => {}
                () = reading => {}
            }
        };
        let ended = timeout(within, both).await;
        ended.unwrap_or_else(|_| panic!("it goes on after {within:?}"));
        Ended { received, sent }
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} times, with {:?}", self.sent, self.text())
    }
}

impl Ended {
    /// The reason in the frame that ends a connection, if it came through: what is on its way when a socket closes may be lost.
    pub fn reason(&self) -> Option<u32> {
        let ((kind, _, payload), _) = first_frame(&self.received)?;
        let reason = payload.get(4..8)?.try_into().unwrap();
        (kind == GOAWAY).then(|| u32::from_be_bytes(reason))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}

/// Its kind, its stream and its payload.
type Frame = (u8, u32, Vec<u8>);

fn first_frame(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&[a, b, c, kind, _, d, e, f, g], rest) = bytes.split_first_chunk::<9>()?;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let payload = rest.get(..length)?.to_vec();
    let stream = u32::from_be_bytes([d, e, f, g]);
    Some(((kind, stream, payload), 9 + length))
}
