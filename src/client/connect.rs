//! One connection to a server: through the network, and by TLS if the address says so.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::Service;

use super::tls::{ALPN_H2, Distrust, TlsFiles, Verdict, explained};

/// How long a connection may take to come about, and then shaking hands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What tonic connects with.
#[derive(Clone)]
pub(super) struct Connector {
    network: HttpConnector,
    /// If TLS is to be spoken.
    tls: Option<Arc<TlsFiles>>,
    verdict: Verdict,
}

impl Connector {
    pub(super) fn new(tls: Option<TlsFiles>, verdict: Verdict) -> Self {
        let mut network = HttpConnector::new();
        // It only looks for the host.
        network.enforce_http(false);
        network.set_nodelay(true);
        network.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self {
            network,
            tls: tls.map(Arc::new),
            verdict,
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.network.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls.clone();
        let verdict = self.verdict.clone();
        // What the one before has met says nothing of this one.
        verdict.set(None);
        let host = uri.host().unwrap_or_default().to_owned();
        let connected = self.network.call(uri);
        async move {
            let stream = connected.await?.into_inner();
            let stream = match tls {
                None => Stream::Plain(stream),
                Some(files) => {
                    let shaken = timeout(CONNECT_TIMEOUT, shake_hands(stream, &host, files)).await;
                    let late = || {
                        let text = format!("no TLS within {CONNECT_TIMEOUT:?}");
                        io::Error::new(io::ErrorKind::TimedOut, text)
                    };
                    Stream::Tls(Box::new(shaken.map_err(|_| late())??))
                }
            };
            Ok(TokioIo::new(Wire {
                stream,
                is_trusted: false,
                verdict,
            }))
        }
        .boxed()
    }
}

async fn shake_hands(
    stream: TcpStream,
    host: &str,
    files: Arc<TlsFiles>,
) -> Result<TlsStream<TcpStream>, BoxError> {
    let config = tokio::task::spawn_blocking(move || files.config()).await??;
    let address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let name = ServerName::try_from(address.unwrap_or(host).to_owned())?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(explained)?;
    match stream.get_ref().1.alpn_protocol() {
        Some(ALPN_H2) => Ok(stream),
        _ => Err(io::Error::from(Distrust::NoHttp2).into()),
    }
}

/// What a connection's bytes go through.
pub(super) struct Wire {
    stream: Stream,
    /// The server has said something of use.
    is_trusted: bool,
    verdict: Verdict,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Both directions.
trait Both: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

impl Wire {
    fn pinned(&mut self) -> Pin<&mut dyn Both> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream),
            Stream::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }

    /// What to make of the first that is read.
    fn judge(&mut self, read: io::Result<()>, said: &[u8]) -> io::Result<()> {
        let read = match (read, &self.stream) {
            (Ok(()), Stream::Plain(_)) if wants_tls(said) => Err(Distrust::NeedsTls.into()),
            (read, _) => read.map_err(explained),
        };
        self.verdict.set(read.as_ref().err());
        self.is_trusted = read.is_ok();
        read
    }
}

/// Whether this is how one answers who speaks TLS to somebody who does not: with an alert, or in words.
fn wants_tls(said: &[u8]) -> bool {
    const ALERT: u8 = 21;
    const WORDS: [&[u8]; 2] = [b"https://", b"HTTPS"];
    let says = |words: &[u8]| said.windows(words.len()).any(|part| part == words);
    said.first() == Some(&ALERT) || WORDS.into_iter().any(says)
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(self.pinned().poll_read(cx, buf));
        Poll::Ready(match self.is_trusted {
            true => read,
            false => self.judge(read, &buf.filled()[before..]),
        })
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_shutdown(cx)
    }
}
