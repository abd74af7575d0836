//! TLS to PostgreSQL, as libpq's `sslmode` means it: what is checked of the server's certificate, and which one we show.
//!
//! Invariants: whatever is not checked of a certificate, the server proves that it holds its key; the provider of cryptography is named here, so that
//! nothing depends on a default of the process. Files are read anew for each connection, so that certificates can be renewed while the server runs.

#[cfg(test)]
mod tests;

use std::{
    fmt, fs,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    address::{Address, RootSource, TlsMode},
    password::{SecretFile, SecretFileError},
};

/// Why there can be no TLS, whatever the server says.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can not be read.
    #[error("{parameter} {} can not be read: {error}; check that it exists and that this user may read it", path.display())]
    Unreadable {
        /// What named it.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The key is not safe.
    #[error("sslkey: {0}")]
    Key(#[from] SecretFileError),
    /// A file holds no such thing.
    #[error("{parameter} {} holds {what}; it must hold them in PEM, between lines of -----BEGIN and -----END", path.display())]
    NotPem {
        /// What named it.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        what: String,
    },
    /// The certificate and its key do not fit.
    #[error("sslcert {} and sslkey {} can not be used together: {error}", certificate.display(), key.display())]
    Identity {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        #[source]
        error: Error,
    },
    /// The system has no certificates that it trusts.
    #[error(
        "sslrootcert=system: the system's trusted certificates can not be found{0}; install them (Debian: ca-certificates), or name a file"
    )]
    NoSystemRoots(String),
    /// A fault of this build.
    #[error("TLS can not be set up: {0}")]
    Setup(#[source] Error),
}

/// Reads the files that an address names, and makes of them how to speak TLS. Blocks.
pub(super) fn client_config(address: &Address) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let trust = match &address.root {
        None => Trust::Anyone,
        Some(source) => Trust::of(source, address.tls == TlsMode::VerifyFull)?,
    };
    let verifier = Verifier {
        provider: Arc::clone(&provider),
        trust,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some((certificate, key)) = &address.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("sslcert", certificate)?;
    let pem = SecretFile::new(key).read()?;
    let secret = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| not_pem("sslkey", key, "private key", &error))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|error| TlsError::Identity {
            certificate: certificate.clone(),
            key: key.clone(),
            error,
        })
}

/// All certificates in a file.
fn certificates(
    parameter: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = fs::read(path).map_err(|error| TlsError::Unreadable {
        parameter,
        path: path.to_owned(),
        error,
    })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(not_pem(
            parameter,
            path,
            "certificate",
            &pem::Error::NoItemsFound,
        )),
        Ok(found) => Ok(found),
        Err(error) => Err(not_pem(parameter, path, "certificate", &error)),
    }
}

fn not_pem(parameter: &'static str, path: &Path, kind: &str, error: &pem::Error) -> TlsError {
    TlsError::NotPem {
        parameter,
        path: path.to_owned(),
        what: match error {
            pem::Error::NoItemsFound => format!("no {kind} that can be used without a passphrase"),
            // Not its text: it may quote what it stumbled over.
            _ => format!("a {kind} that is damaged"),
        },
    }
}

/// What makes a server the right one.
enum Trust {
    /// As `sslmode=require` without `sslrootcert`: who only listens learns nothing, who stands between learns everything.
    Anyone,
    Roots {
        anchors: RootCertStore,
        /// The anchors as they were given, among which a server's own certificate may be.
        given: Vec<CertificateDer<'static>>,
        /// Whether the certificate must be for the host's name.
        with_name: bool,
    },
}

impl Trust {
    fn of(source: &RootSource, with_name: bool) -> Result<Self, TlsError> {
        let mut anchors = RootCertStore::empty();
        let given = match source {
            RootSource::File(path) => certificates("sslrootcert", path)?,
            RootSource::System => {
                let loaded = rustls_native_certs::load_native_certs();
                if loaded.certs.is_empty() {
                    let why = loaded.errors.first();
                    let why = why.map_or_else(String::new, |error| format!(" ({error})"));
                    return Err(TlsError::NoSystemRoots(why));
                }
                // Of so many, some may be of a kind that is not known here.
                anchors.add_parsable_certificates(loaded.certs);
                return Ok(Self::Roots {
                    anchors,
                    given: Vec::new(),
                    with_name,
                });
            }
        };
        for certificate in &given {
            let wrong = |error| match source {
                RootSource::File(path) => TlsError::NotPem {
                    parameter: "sslrootcert",
                    path: path.clone(),
                    what: format!("a certificate that can not be used ({error})"),
                },
                RootSource::System => TlsError::Setup(error),
            };
            anchors.add(certificate.clone()).map_err(wrong)?;
        }
        Ok(Self::Roots {
            anchors,
            given,
            with_name,
        })
    }
}

/// Checks what the mode asks for.
struct Verifier {
    provider: Arc<CryptoProvider>,
    trust: Trust,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::Roots {
            anchors,
            given,
            with_name,
        } = &self.trust
        else {
            return Ok(ServerCertVerified::assertion());
        };
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let signed = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            anchors,
            intermediates,
            now,
            algorithms,
        );
        match signed {
            // A certificate that `openssl req -x509` made calls itself an authority, and so may not be a server's own; but this very one was named as the
            // one to trust. Its time has been looked at before, and has an error of its own.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if given.iter().any(|given| given == certificate) => {}
            signed => signed?,
        }
        if *with_name {
            verify_server_name(&parsed, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// An encrypted stream.
pub type TlsStream<S> = <MakeRustlsConnect as MakeTlsConnect<S>>::Stream;

/// One handshake, which tells whether it was begun: a server without TLS lets it not come to that.
pub(super) struct Handshake {
    name: String,
    tls: Option<ClientConfig>,
    begun: Arc<AtomicBool>,
}

impl Handshake {
    /// With a server of this name; without a configuration there will be none.
    pub(super) fn new(name: &str, tls: Option<&Arc<ClientConfig>>) -> Self {
        Self {
            name: name.to_owned(),
            tls: tls.map(|tls| ClientConfig::clone(tls)),
            begun: Arc::default(),
        }
    }

    /// Whether it was.
    pub(super) fn begun(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.begun)
    }
}

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = TlsStream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Stream>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        self.begun.store(true, Ordering::Relaxed);
        Box::pin(async move {
            let tls = self.tls.ok_or(io::ErrorKind::Unsupported)?;
            let mut tls = MakeRustlsConnect::new(tls);
            let Ok(tls) = MakeTlsConnect::<S>::make_tls_connect(&mut tls, &self.name);
            tls.connect(stream).await
        })
    }
}
