//! What is written arrives, with TLS and without.

use std::pin::pin;

use rcgen::{CertificateParams, KeyPair};
use rustix::net::sockopt;
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::{
    server::wire::Socket,
    trust::{self, Trust},
};

/// The other end.
trait Far: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Far for T {}

type Pair = (Wire, Box<dyn Far>);

/// Without TLS and with it.
async fn pairs() -> io::Result<[Pair; 2]> {
    let (near, far) = sockets().await?;
    let others = sockets().await?;
    Ok([
        (Wire::plain(near), Box::new(far)),
        over_tls(others.0, others.1).await?,
    ])
}

async fn sockets() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    Ok((near, listener.accept().await?.0))
}

async fn over_tls(near: TcpStream, far: TcpStream) -> io::Result<Pair> {
    let key = KeyPair::generate().expect("randomness");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a key that can sign");
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let server = ServerConfig::builder_with_provider(trust::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    let client = ClientConfig::builder_with_provider(trust::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Trust::Anyone.verifier(trust::provider()))
        .with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let connector = TlsConnector::from(Arc::new(client));
    let name = ServerName::try_from("localhost").expect("a name");
    let (near, far) = tokio::try_join!(
        acceptor.accept(Socket::new(near)),
        connector.connect(name, far)
    )?;
    Ok((Wire::Tls(Box::new(near)), Box::new(far)))
}

async fn talk_for_ever(mut stream: Gathered) -> io::Result<()> {
    loop {
        stream.write_all(&[0; 4096]).await?;
        tokio::task::yield_now().await;
    }
}

/// More than the kernel takes at once, so that writing has to wait for the reader.
const ALL: usize = 16 * 1024 * 1024;
/// What a small socket keeps, as far as the system lets it.
const SMALL_BYTES: usize = 4 * 1024;

#[tokio::test]
async fn all_that_was_written_arrives_in_order() -> io::Result<()> {
    async fn over(pair: Pair) -> io::Result<()> {
        let (near, mut far) = pair;
        let (mut stream, outgoing) = gather(near);
        let said: Vec<u8> = (0..ALL).map(|at| (at % 251) as u8).collect();
        let protocol = async {
            let mut left = &said[..];
            for size in [9, 300, 16_393, 200_000].into_iter().cycle() {
                let (piece, rest) = left.split_at(left.len().min(size));
                stream.write_all(piece).await?;
                stream.flush().await?;
                left = rest;
                if left.is_empty() {
                    break;
                }
            }
            stream.shutdown().await
        };
        let mut heard = Vec::with_capacity(ALL);
        let protocol = pin!(protocol);
        let (driven, read): (io::Result<()>, _) =
            tokio::join!(outgoing.drive(protocol), far.read_to_end(&mut heard));
        driven?;
        assert_eq!(read?, ALL);
        assert!(heard == said, "what was heard is not what was said");
        Ok(())
    }
    for pair in pairs().await? {
        over(pair).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_little_is_written_though_nothing_follows() -> io::Result<()> {
    async fn over(pair: Pair) -> io::Result<()> {
        let (near, mut far) = pair;
        let (mut stream, outgoing) = gather(near);
        let protocol = async {
            for word in [b"one", b"two"] {
                stream.write_all(word).await?;
                stream.flush().await?;
                let mut answer = [0; 2];
                stream.read_exact(&mut answer).await?;
            }
            Ok::<_, io::Error>(())
        };
        let talk = async {
            for word in [b"one", b"two"] {
                let mut heard = [0; 3];
                far.read_exact(&mut heard).await?;
                assert_eq!(&heard, word);
                far.write_all(b"ok").await?;
            }
            Ok::<_, io::Error>(())
        };
        let protocol = pin!(protocol);
        let both = async { tokio::join!(outgoing.drive(protocol), talk) };
        // A minute of silence means that something was left behind.
        let (driven, talked) = tokio::time::timeout(Duration::from_secs(60), both).await?;
        driven.and(talked)
    }
    for pair in pairs().await? {
        over(pair).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_peer_that_has_gone_ends_the_protocol() -> io::Result<()> {
    async fn over(pair: Pair) -> io::Result<()> {
        let (near, far) = pair;
        let (stream, outgoing) = gather(near);
        drop(far);
        let protocol = talk_for_ever(stream);
        let driven: io::Result<()> = outgoing.drive(pin!(protocol)).await;
        assert!(driven.is_err());
        Ok(())
    }
    for pair in pairs().await? {
        over(pair).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_protocol_that_fails_has_said_what_it_flushed() -> io::Result<()> {
    async fn over(pair: Pair) -> io::Result<()> {
        let (near, mut far) = pair;
        let (mut stream, outgoing) = gather(near);
        let protocol = async {
            stream.write_all(b"an answer").await?;
            stream.flush().await?;
            Err::<(), _>(io::Error::from(io::ErrorKind::InvalidData))
        };
        let driven: io::Result<()> = outgoing.drive(pin!(protocol)).await;
        assert!(driven.is_err());
        drop((stream, outgoing));
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await?;
        assert_eq!(heard, b"an answer");
        Ok(())
    }
    for pair in pairs().await? {
        over(pair).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_at_rest_keeps_little_room() -> io::Result<()> {
    async fn over(pair: Pair) -> io::Result<()> {
        let (near, mut far) = pair;
        let (mut stream, outgoing) = gather(near);
        let protocol = async {
            for size in [9, MOST_BYTES, 9] {
                stream.write_all(&vec![0; size]).await?;
            }
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await.map(drop)
        };
        let listen = async {
            far.read_exact(&mut vec![0; MOST_BYTES + 18]).await?;
            far.write_all(b"ok").await
        };
        let protocol = pin!(protocol);
        let (driven, listened) = tokio::join!(outgoing.drive(protocol), listen);
        let kept = outgoing.pending().bytes.capacity();
        assert!(kept <= KEPT_BYTES, "{kept} bytes");
        driven.and(listened)
    }
    for pair in pairs().await? {
        over(pair).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_left() -> io::Result<()> {
    async fn over(pair: Pair) -> io::Result<()> {
        let (near, _far) = pair;
        let (stream, outgoing) = gather(near);
        let protocol = talk_for_ever(stream);
        let protocol = pin!(protocol);
        let driven = outgoing.drive(protocol);
        let ended: io::Result<()> = tokio::time::timeout(2 * PATIENCE, driven).await?;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        Ok(())
    }
    for pair in pairs().await? {
        over(pair).await?;
    }
    Ok(())
}

/// Over TLS that is not seen from what was handed over, because records wait in between.
#[tokio::test]
async fn a_peer_that_takes_a_little_is_waited_for_anew() -> io::Result<()> {
    async fn over(pair: Pair) -> io::Result<()> {
        let (near, mut far) = pair;
        let (stream, outgoing) = gather(near);
        let protocol = pin!(talk_for_ever(stream));
        let mut driven = pin!(outgoing.drive::<(), io::Error, io::Error>(protocol));
        let mut deadlines = Vec::new();
        while deadlines.len() < 2 {
            let stalled = async {
                loop {
                    tokio::task::yield_now().await;
                    let pending = outgoing.pending();
                    if let (MOST_BYTES.., Some(p)) = (pending.bytes.len(), &pending.patience) {
                        break p.deadline();
                    }
                }
            };
            deadlines.push(tokio::select! {
                ended = &mut driven => return ended,
                deadline = stalled => deadline,
            });
            // More than the system keeps on the way, and less than is gathered.
            let mut taken = [0; MOST_BYTES / 2];
            tokio::select! {
                ended = &mut driven => return ended,
                read = far.read_exact(&mut taken) => read.map(drop)?,
            }
        }
        assert!(deadlines[0] < deadlines[1], "{deadlines:?}");
        Ok(())
    }
    for is_tls in [false, true] {
        let (near, far) = sockets().await?;
        sockopt::set_socket_send_buffer_size(&near, SMALL_BYTES)?;
        sockopt::set_socket_recv_buffer_size(&far, SMALL_BYTES)?;
        let pair: Pair = match is_tls {
            false => (Wire::plain(near), Box::new(far)),
            true => over_tls(near, far).await?,
        };
        over(pair).await?;
    }
    Ok(())
}
