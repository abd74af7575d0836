//! TLS to a server: whom a client trusts, what it shows, and why it came to nothing.
//!
//! Invariant: files are read anew for each connection, so that certificates can be renewed while the client runs.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage};

use crate::trust::{self, Trust, TrustError};

/// What is spoken inside.
pub(super) const ALPN_H2: &[u8] = b"h2";

/// The files that a client goes by.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsFiles {
    /// Those who may vouch for servers; if absent, those whom the system trusts.
    pub(super) ca: Option<PathBuf>,
    /// A certificate to show, and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    pub(super) fn is_empty(&self) -> bool {
        self.ca.is_none() && self.identity.is_none()
    }

    /// Reads them. Blocks.
    pub(super) fn config(&self) -> Result<ClientConfig, TlsError> {
        let trusted = match &self.ca {
            Some(path) => Trust::of_file("tls_ca", path, true)?,
            None => Trust::of_system("tls_ca", true)?,
        };
        let provider = trust::provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(trusted.verifier(provider));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let pem = trust::read("tls_cert", certificate)?;
                let chain = trust::certificates("tls_cert", certificate, &pem)?;
                let pem = trust::read("tls_key", key)?;
                let secret = trust::private_key("tls_key", key, &pem)?;
                let built = builder.with_client_auth_cert(chain, secret);
                built.map_err(|error| TlsError::Identity {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    error,
                })?
            }
        };
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        Ok(config)
    }
}

/// Why no server can be spoken to by TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is of no use, or the system has none.
    #[error(transparent)]
    File(#[from] TrustError),
    /// The certificate and its key do not fit.
    #[error("tls_cert {} and tls_key {} can not be used together: {error}", certificate.display(), key.display())]
    Identity {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        #[source]
        error: Error,
    },
    /// A fault of this build.
    #[error("TLS can not be set up: {0}")]
    Setup(#[source] Error),
}

/// Why one did not come to trust the other; trying again will not help.
#[derive(Debug, thiserror::Error)]
pub(super) enum Distrust {
    #[error(
        "what answers there speaks no TLS; write http:// in the place of https://, or another port"
    )]
    NoTls,
    #[error("what answers there speaks TLS; write https:// in the place of http://")]
    NeedsTls,
    #[error(
        "the server speaks no HTTP/2 over TLS (ALPN), which gRPC needs; is there a proxy between that does not?"
    )]
    NoHttp2,
    #[error(
        "the server's certificate is not trusted ({0}); name the file with the certificate of its authority, or with its own: --tls-ca FILE"
    )]
    Untrusted(String),
    #[error("{0}; call the server by a name of its certificate, or have that made for this name")]
    OtherName(String),
    #[error(
        "the server's certificate is out of date ({0}); renew it, or set this machine's clock right"
    )]
    OutOfDate(String),
    #[error(
        "the server asks for a client certificate; name yours and its key: --tls-cert FILE --tls-key FILE"
    )]
    CertificateRequired,
    #[error(
        "the server does not accept the client certificate ({0}); it must be in date, for clients, and of an authority that the server knows"
    )]
    CertificateRefused(String),
}

impl Distrust {
    fn of(error: &Error) -> Option<Self> {
        Some(match error {
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NoTls,
            Error::InvalidCertificate(certificate) => match certificate {
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    Self::OtherName(certificate.to_string())
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => {
                    Self::OutOfDate(certificate.to_string())
                }
                CertificateError::UnknownIssuer
                | CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                    Self::Untrusted("signed by nobody who is trusted here".to_owned())
                }
                _ => Self::Untrusted(certificate.to_string()),
            },
            Error::NoApplicationProtocol
            | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::NoHttp2,
            Error::AlertReceived(AlertDescription::CertificateRequired) => {
                Self::CertificateRequired
            }
            Error::AlertReceived(
                alert @ (AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError),
            ) => Self::CertificateRefused(format!("{alert:?}")),
            _ => return None,
        })
    }
}

impl From<Distrust> for io::Error {
    fn from(distrust: Distrust) -> Self {
        Self::new(DISTRUST, distrust)
    }
}

/// How it is known again: HTTP/2 keeps nothing of an error but its kind and its text.
const DISTRUST: io::ErrorKind = io::ErrorKind::PermissionDenied;

/// What went wrong on an encrypted connection, so that it says what to do.
pub(super) fn explained(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner.and_then(Distrust::of) {
        Some(distrust) => distrust.into(),
        None => error,
    }
}

/// Why the newest connection came to nothing, if one did not come to trust the other. A client hears of that when it has begun to speak, in TLS 1.3 that its
/// certificate will not do, and without TLS that it is needed; then HTTP/2 may tell its calls only that the connection was closed.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict(Arc<Mutex<Option<Arc<str>>>>);

impl Verdict {
    /// Of what a connection has just met.
    pub(super) fn set(&self, error: Option<&io::Error>) {
        let error = error.filter(|error| is_distrust(*error));
        *self.text() = error.map(|error| error.to_string().into());
    }

    /// The same for another error that it has caused.
    pub(super) fn error(&self) -> Option<io::Error> {
        let text = self.text().clone();
        text.map(|text| io::Error::new(DISTRUST, text.as_ref()))
    }

    fn text(&self) -> std::sync::MutexGuard<'_, Option<Arc<str>>> {
        // It is set at once.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error comes from [`explained`], or from what it explains. The system has an error of the same kind, which has a number.
pub(super) fn is_distrust(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|error| {
        let error: Option<&io::Error> = error.downcast_ref();
        error.is_some_and(|error| error.kind() == DISTRUST && error.raw_os_error().is_none())
    })
}
