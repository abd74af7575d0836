//! Handshakes over real sockets, and files that change.

use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::{auth::Peer, server::wire::Wire, trust::Trust};

/// Longer than anything here takes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().expect("randomness");
    CertifiedIssuer::self_signed(params, key).expect("a certificate of its own")
}

/// A certificate for a client, and its key.
fn client(ca: &CertifiedIssuer<'static, KeyPair>, names: &[SanType]) -> (String, String) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.to_vec();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    signed(params, ca)
}

fn signed(params: CertificateParams, ca: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().expect("randomness");
    let certificate = params.signed_by(&key, ca).expect("a key that can sign");
    (certificate.pem(), key.serialize_pem())
}

/// The files of a server, and what clients go by.
struct Files {
    folder: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
    clients: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    fn make() -> Self {
        let files = Self {
            folder: TempDir::new().expect("a folder"),
            ca: authority("Servers"),
            clients: authority("Clients"),
        };
        files.put("ca.pem", &files.ca.pem());
        files.put("clients.pem", &files.clients.pem());
        let (certificate, key) = files.server("localhost");
        files.put("server.pem", &certificate);
        files.put("server.key", &key);
        files
    }

    fn server(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        signed(params, &self.ca)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How to serve, with client certificates that are required or not, or none.
    fn settings(&self, clients: Option<bool>) -> TlsSettings {
        TlsSettings {
            certificate: self.path("server.pem"),
            key: self.path("server.key"),
            clients: clients.map(|required| ClientCertificates {
                ca: self.path("clients.pem"),
                required,
            }),
        }
    }

    /// How to call, with a certificate or without.
    fn config(&self, identity: Option<&(String, String)>) -> ClientConfig {
        self.config_for(rustls::ALL_VERSIONS, identity)
    }

    /// The same with these versions.
    fn config_for(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        identity: Option<&(String, String)>,
    ) -> ClientConfig {
        let trusted = Trust::of_file("ca", &self.path("ca.pem"), true).expect("certificates");
        let builder = ClientConfig::builder_with_provider(trust::provider())
            .with_protocol_versions(versions)
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(trusted.verifier(trust::provider()));
        let Some((certificate, key)) = identity else {
            return builder.with_no_client_auth();
        };
        let path = Path::new("a test's");
        let chain = trust::certificates("c", path, certificate.as_bytes()).expect("certificates");
        let key = trust::private_key("k", path, key.as_bytes()).expect("a key");
        builder.with_client_auth_cert(chain, key).expect("a pair")
    }
}

/// One connection, as the server and the client see it.
async fn shake(
    tls: &Tls,
    config: ClientConfig,
    name: &'static str,
) -> (io::Result<(Wire, Peer)>, io::Result<TlsStream<TcpStream>>) {
    let (near, far, address) = pair().await;
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(name).expect("a name");
    let client = async {
        let mut stream = connector.connect(name, far).await?;
        // In TLS 1.3 a client has its certificate checked after that.
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut [0; 4]).await?;
        Ok(stream)
    };
    let server = async {
        let (mut wire, peer) = tls.clone().accept(near, address).await?;
        wire.read_exact(&mut [0; 4]).await?;
        wire.write_all(b"pong").await?;
        wire.flush().await?;
        Ok((wire, peer))
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(server, client) })
        .await
        .expect("both sides end")
}

async fn pair() -> (TcpStream, TcpStream, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let connect = TcpStream::connect(listener.local_addr().expect("an address"));
    let (far, accepted) = tokio::try_join!(connect, listener.accept()).expect("a connection");
    (accepted.0, far, accepted.1)
}

#[tokio::test]
async fn who_shows_a_certificate_is_known_by_its_names() {
    let files = Files::make();
    let uri = SanType::URI("spiffe://example.com/worker".try_into().expect("ASCII"));
    let host = |name: &str| SanType::DnsName(name.try_into().expect("ASCII"));
    let names = [host("a.example.com"), uri, host("*.b.example.com")];
    let known = client(&files.clients, &names);
    let expected = [
        "spiffe://example.com/worker",
        "dns:a.example.com",
        "dns:*.b.example.com",
    ];
    for required in [false, true] {
        let (tls, _) = load(files.settings(Some(required))).await.expect("files");
        let (server, client) = shake(&tls, files.config(Some(&known)), "localhost").await;
        client.expect("a client that is known");
        let (_, peer) = server.expect("a client that is known");
        assert!(peer.is_tls);
        let names: Vec<&str> = peer.identities.iter().map(AsRef::as_ref).collect();
        assert_eq!(names, expected);
    }
    // Where nobody asks for it, it is not shown.
    let (tls, _) = load(files.settings(None)).await.expect("files");
    let (server, _) = shake(&tls, files.config(Some(&known)), "localhost").await;
    let (_, peer) = server.expect("any client");
    assert!(peer.is_tls && peer.identities.is_empty());
}

#[tokio::test]
async fn who_shows_none_is_nobody_or_is_turned_away() {
    let files = Files::make();
    let (tls, _) = load(files.settings(Some(false))).await.expect("files");
    let (server, client) = shake(&tls, files.config(None), "localhost").await;
    client.expect("any client");
    assert!(server.expect("any client").1.identities.is_empty());

    let (tls, _) = load(files.settings(Some(true))).await.expect("files");
    for version in rustls::ALL_VERSIONS {
        let config = files.config_for(&[*version], None);
        let (server, client) = shake(&tls, config, "localhost").await;
        assert!(server.is_err());
        let refused = client.expect_err("a refusal").to_string();
        assert!(refused.contains("CertificateRequired"), "{refused}");
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_refused_even_where_none_is_needed() {
    let files = Files::make();
    let host = [SanType::DnsName("a.example.com".try_into().expect("ASCII"))];
    let stranger = client(&authority("Strangers"), &host);
    let mut late = CertificateParams::default();
    late.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    late.not_before = date_time_ymd(2020, 1, 1);
    late.not_after = date_time_ymd(2021, 1, 1);
    let late = signed(late, &files.clients);
    let mut other_use = CertificateParams::default();
    other_use.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let other_use = signed(other_use, &files.clients);
    for required in [false, true] {
        let (tls, _) = load(files.settings(Some(required))).await.expect("files");
        for (identity, alert) in [
            (&stranger, "UnknownCA"),
            (&late, "CertificateExpired"),
            (&other_use, "UnsupportedCertificate"),
        ] {
            let config = files.config(Some(identity));
            let (server, client) = shake(&tls, config, "localhost").await;
            assert!(server.is_err(), "{alert}");
            let refused = client.expect_err(alert).to_string();
            assert!(refused.contains(alert), "{refused}");
        }
    }
}

/// Whoever comes back shows a certificate again, and is not known by a ticket.
#[tokio::test]
async fn there_are_no_tickets_where_there_are_certificates() {
    let files = Files::make();
    let known = client(&files.clients, &[]);
    for (clients, kind) in [
        (None, rustls::HandshakeKind::Resumed),
        (Some(false), rustls::HandshakeKind::Full),
    ] {
        let (tls, _) = load(files.settings(clients)).await.expect("files");
        let config = files.config(Some(&known));
        shake(&tls, config.clone(), "localhost")
            .await
            .1
            .expect("a client");
        let (_, again) = shake(&tls, config, "localhost").await;
        let again = again.expect("the same client");
        assert_eq!(again.get_ref().1.handshake_kind(), Some(kind));
    }
}

#[tokio::test]
async fn files_that_can_not_be_used_are_told_of() {
    let files = Files::make();
    let other = files.server("other.example").1;
    for (name, text, told) in [
        ("server.pem", "", "tls_cert"),
        ("server.pem", "-----BEGIN CERTIFICATE-----\n%\n", "damaged"),
        ("server.key", "s3cret", "tls_key"),
        ("server.key", other.as_str(), "can not be used together"),
        ("clients.pem", "s3cret", "tls_client_ca"),
    ] {
        let before = fs::read_to_string(files.path(name)).expect("a file");
        files.put(name, text);
        let refused = load(files.settings(Some(true))).await.err().expect(told);
        let refused = refused.to_string();
        let path = files.path(name).display().to_string();
        assert!(
            refused.contains(told) && refused.contains(&path),
            "{refused}"
        );
        assert!(!refused.contains("s3cret"), "{refused}");
        files.put(name, &before);
    }
    let mut settings = files.settings(None);
    settings.key = files.path("nothing");
    let refused = load(settings).await.err().expect("no file").to_string();
    assert!(refused.contains("tls_key") && refused.contains("can not be read"));
}

/// Looks as often as it likes until the server is another one.
async fn until_served(files: &Files, tls: &Tls, name: &'static str) {
    let served = async {
        while shake(tls, files.config(None), name).await.1.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let served = tokio::time::timeout(PATIENCE, served).await;
    served.expect("the new certificate is served");
}

#[tokio::test]
async fn new_connections_get_what_was_put_there() {
    let files = Files::make();
    let (tls, watcher) = load(files.settings(None)).await.expect("files");
    let watcher = tokio::spawn(watcher.follow());
    let (server, client) = shake(&tls, files.config(None), "localhost").await;
    let ((mut near, _), mut far) = (server.expect("a client"), client.expect("a server"));

    let (certificate, key) = files.server("second.example");
    files.put("server.pem", &certificate);
    files.put("server.key", &key);
    until_served(&files, &tls, "second.example").await;
    let (_, former) = shake(&tls, files.config(None), "localhost").await;
    assert!(former.is_err(), "the former one is served no more");

    // Whoever is connected is not disturbed.
    near.write_all(b"still").await.expect("a connection");
    near.flush().await.expect("a connection");
    far.read_exact(&mut [0; 5]).await.expect("a connection");

    watcher.abort();
    assert!(watcher.await.expect_err("it never ends").is_cancelled());
    let (_, served) = shake(&tls, files.config(None), "second.example").await;
    served.expect("what was there last is served to the end");
}

/// Each look is asked for here, so that no time has to pass.
#[tokio::test]
async fn what_can_not_be_used_changes_nothing() {
    let files = Files::make();
    let (tls, mut watcher) = load(files.settings(Some(false))).await.expect("files");
    assert!(matches!(watcher.look().await, Ok(None)));
    let (certificate, key) = files.server("second.example");
    files.put("server.pem", &certificate);
    let refused = watcher.look().await.expect_err("the key is missing");
    assert!(refused.to_string().contains("tls_key"), "{refused}");
    let (_, served) = shake(&tls, files.config(None), "localhost").await;
    served.expect("what was there before");

    files.put("server.key", &key);
    let (config, seen) = watcher.look().await.ok().flatten().expect("both are there");
    watcher.config.send_replace(config);
    watcher.served = seen;
    assert!(matches!(watcher.look().await, Ok(None)));
    let (_, served) = shake(&tls, files.config(None), "second.example").await;
    served.expect("what is there now");

    // The authorities of clients count as well.
    files.put("clients.pem", &authority("Others").pem());
    assert!(matches!(watcher.look().await, Ok(Some(_))));
    fs::remove_file(files.path("clients.pem")).expect("a file");
    assert!(watcher.look().await.is_err());
}

#[test]
fn a_key_that_others_may_read_is_noticed() {
    let files = Files::make();
    let key = files.path("server.key");
    let is_root = fs::metadata(&key).expect("a file").uid() == 0;
    for (mode, open) in [
        (0o600, false),
        (0o400, false),
        (0o640, !is_root),
        (0o644, true),
    ] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("a file");
        assert_eq!(is_open(&key).expect("a file"), open, "{mode:o}");
    }
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_so_in_its_own_words() {
    let files = Files::make();
    let (tls, _) = load(files.settings(None)).await.expect("files");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for (said, begin) in [
        (
            &b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..],
            &b"HTTP/1.1 400 "[..],
        ),
        (preface, b"\0\0\0\x04\0"),
        (b"\0", b"HTTP/1.1 400 "),
    ] {
        let (near, mut far, address) = pair().await;
        let talk = async {
            far.write_all(said).await.expect("a connection");
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).await.expect("an end");
            drop(far);
            heard
        };
        let both = async { tokio::join!(tls.clone().accept(near, address), talk) };
        let (accepted, heard) = tokio::time::timeout(PATIENCE, both).await.expect("an end");
        assert!(accepted.is_err());
        let told = String::from_utf8_lossy(&heard);
        assert!(
            heard.starts_with(begin) && told.contains("https://"),
            "{told}"
        );
    }
}
