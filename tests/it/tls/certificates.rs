//! Certificates for one test, gone with it, and clients that go by them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::harness::Server;

/// PEM files in a folder.
pub struct Certificates {
    folder: TempDir,
    servers: CertifiedIssuer<'static, KeyPair>,
    clients: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    /// Those of a server for `localhost` (`server.pem`, `server.key`), their authority (`ca.pem`), the authority of clients (`clients.pem`), a client's
    /// (`client.pem`, `client.key`), and a stranger's (`stranger.pem`, `stranger.key`).
    pub fn make() -> Self {
        let all = Self {
            folder: TempDir::new().unwrap(),
            servers: authority("Servers"),
            clients: authority("Clients"),
        };
        all.put("ca.pem", &all.servers.pem());
        all.put("clients.pem", &all.clients.pem());
        all.put_server(all.server("localhost"));
        let mut params = CertificateParams::default();
        let uri = "spiffe://example.com/tests".try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        for (name, ca) in [
            ("client", &all.clients),
            ("stranger", &authority("Strangers")),
        ] {
            let (certificate, key) = signed(params.clone(), ca);
            all.put(&format!("{name}.pem"), &certificate);
            all.put(&format!("{name}.key"), &key);
        }
        all
    }

    /// A server's, and its key.
    pub fn server(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        signed(params, &self.servers)
    }

    /// One whose time is over.
    pub fn expired(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        signed(params, &self.servers)
    }

    /// Makes it the server's.
    pub fn put_server(&self, (certificate, key): (String, String)) {
        self.put("server.pem", &certificate);
        self.put("server.key", &key);
    }

    pub fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same for a command line.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A server with these files.
    pub async fn serve(&self, flags: &[&str]) -> Server {
        let (certificate, key) = (self.text("server.pem"), self.text("server.key"));
        let tls = ["--tls-cert", &certificate, "--tls-key", &key];
        Server::start_with(&[&tls, flags].concat()).await
    }

    /// One that asks clients for a certificate, or requires one.
    pub async fn serve_clients(&self, whether: &str) -> Server {
        let ca = self.text("clients.pem");
        let flags = ["--tls-client-ca", &ca, "--tls-client-certificates", whether];
        self.serve(&flags).await
    }

    /// One that asks who calls, whom a certificate may tell, and its first key.
    pub async fn serve_guarded(&self) -> (Server, String) {
        let [certificate, key, ca] =
            ["server.pem", "server.key", "clients.pem"].map(|name| self.text(name));
        let tls = ["--tls-cert", &certificate, "--tls-key", &key];
        Server::start_guarded(&[&tls[..], &["--tls-client-ca", &ca]].concat()).await
    }

    /// A client of another kind than ours, which offers these protocols.
    pub async fn connect(&self, server: &Server, alpn: &[&str]) -> std::io::Result<Stream> {
        self.connect_as(server, alpn, "localhost", None).await
    }

    /// The same, which expects a server of this name, and has a certificate to show.
    pub async fn connect_as(
        &self,
        server: &Server,
        alpn: &[&str],
        name: &'static str,
        identity: Option<&str>,
    ) -> std::io::Result<Stream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.servers.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let pem = self.path(&format!("{name}.pem"));
                let key = self.path(&format!("{name}.key"));
                builder
                    .with_client_auth_cert(chain(&pem), PrivateKeyDer::from_pem_file(key).unwrap())
                    .unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(server.address()).await.unwrap();
        let name = ServerName::try_from(name).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await
    }
}

/// A connection of a client.
pub type Stream = TlsStream<TcpStream>;

fn chain(pem: &Path) -> Vec<CertificateDer<'static>> {
    let found = CertificateDer::pem_file_iter(pem).unwrap();
    found.map(Result::unwrap).collect()
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn signed(params: CertificateParams, ca: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    (certificate.pem(), key.serialize_pem())
}
