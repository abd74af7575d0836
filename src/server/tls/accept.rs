//! The beginning of a connection over TLS, and the end of one that does not come to that.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

use super::Tls;
use crate::{
    auth::Peer,
    server::wire::{Socket, Wire},
};

/// How each record of a handshake begins.
const HANDSHAKE: u8 = 22;
/// How those begin who speak HTTP/2 without TLS.
const HTTP2: &[u8] = b"PRI ";
/// Bytes of what a client has said without TLS that are looked at.
const MAX_SAID_BYTES: usize = 1024;
/// How long, and for how many bytes, one is listened to that was turned away: an answer is lost if the connection goes while something comes in.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: u64 = 64 * 1024;
/// Names of one certificate that count.
const MAX_NAMES: usize = 64;

/// What those are told who speak no TLS.
const HINT: &str = "this port speaks TLS: write https:// in the place of http://";
/// Empty settings, and a farewell without a stream that counts, for INADEQUATE_SECURITY; with the hint behind.
const HTTP2_FAREWELL: [u8; 26] = [
    0,
    0,
    0,
    4,
    0,
    0,
    0,
    0,
    0, //
    0,
    0,
    8 + HINT.len() as u8,
    7,
    0,
    0,
    0,
    0,
    0, //
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0xc,
];

impl Tls {
    /// Shakes hands, which takes as long as the client likes.
    ///
    /// # Errors
    /// It came to nothing; the client knows why, if it listens.
    pub(in crate::server) async fn accept(
        self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> io::Result<(Wire, Peer)> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first != [HANDSHAKE] {
            return Err(turn_away(stream).await);
        }
        let config = Arc::clone(&self.0.borrow());
        let accepted = TlsAcceptor::from(config).accept(Socket::new(stream));
        let stream = match accepted.into_fallible().await {
            Ok(stream) => stream,
            Err((error, socket)) => {
                part(socket.into_inner()).await;
                return Err(error);
            }
        };
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let peer = Peer {
            address,
            identities: shown.map(identities).unwrap_or_default(),
            is_tls: true,
        };
        Ok((Wire::Tls(Box::new(stream)), peer))
    }
}

/// The names in a certificate that was checked.
fn identities(certificate: &CertificateDer<'_>) -> Arc<[Arc<str>]> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Arc::default();
    };
    let uris = certificate.valid_uri_names().map(Arc::from);
    let hosts = certificate.valid_dns_names();
    let hosts = hosts.map(|host| format!("dns:{host}").into());
    uris.chain(hosts).take(MAX_NAMES).collect()
}

/// Tells a client that speaks no TLS what is spoken here.
async fn turn_away(mut stream: TcpStream) -> io::Error {
    let mut said = [0; MAX_SAID_BYTES];
    let said = match stream.read(&mut said).await {
        Ok(read) => &said[..read],
        Err(error) => return error,
    };
    let answer = match said.starts_with(HTTP2) {
        true => [&HTTP2_FAREWELL, HINT.as_bytes()].concat(),
        false => format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{HINT}\n",
            HINT.len() + 1
        )
        .into_bytes(),
    };
    if let Err(error) = stream.write_all(&answer).await {
        return error;
    }
    part(stream).await;
    io::Error::other("the client speaks no TLS")
}

/// Closes a connection so that what was said last is heard.
async fn part(mut stream: TcpStream) {
    // Either may fail because the client has gone, which is as well.
    let _ = stream.shutdown().await;
    let mut rest = stream.take(FAREWELL_BYTES);
    let mut nobody = tokio::io::sink();
    let listen = tokio::io::copy(&mut rest, &mut nobody);
    let _ = tokio::time::timeout(FAREWELL, listen).await;
}
