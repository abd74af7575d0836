//! TLS for connections that come in: certificate, key and authorities are read from files, and again when these change.
//!
//! Invariant: what is served with was whole and fits together. Files that can not be used are told of, and what was there before stays.

mod accept;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{self, Digest};
use rustls::{
    Error, ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
};
use tokio::{sync::watch, time::MissedTickBehavior};

use crate::trust::{self, TrustError};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// What is spoken inside, the best first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What to show, and whom to ask for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// A PEM file with the server's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// A PEM file with its key.
    pub key: PathBuf,
    /// Who vouches for clients, if they may show certificates.
    pub clients: Option<ClientCertificates>,
}

/// Certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// A PEM file with the certificates of those who may sign them.
    pub ca: PathBuf,
    /// Whether a client without one is turned away.
    pub required: bool,
}

/// Why TLS can not be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is of no use.
    #[error(transparent)]
    File(#[from] TrustError),
    /// The certificate and its key do not fit.
    #[error("tls_cert {} and tls_key {} can not be used together: {error}; is the key that of the first certificate?", certificate.display(), key.display())]
    Identity {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        #[source]
        error: Error,
    },
    /// There is nobody to vouch for clients.
    #[error("tls_client_ca {} can not be used: {error}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: VerifierBuilderError,
    },
    /// A fault of this build, or of the system's randomness.
    #[error("TLS can not be set up: {0}")]
    Setup(#[source] Error),
    /// A fault of this build.
    #[error("reading the files of TLS panicked: {0}")]
    Panicked(#[source] tokio::task::JoinError),
}

/// How TLS is spoken with whoever comes next; cheap to clone.
#[derive(Clone)]
pub(super) struct Tls(watch::Receiver<Arc<ServerConfig>>);

/// Looks at the files for as long as it is polled.
pub(super) struct Watcher {
    settings: TlsSettings,
    served: Digest,
    config: watch::Sender<Arc<ServerConfig>>,
}

/// Reads the files for the first time.
///
/// # Errors
/// They can not be used.
pub(super) async fn load(settings: TlsSettings) -> Result<(Tls, Watcher), TlsError> {
    let (seen, settings) = blocking(move || {
        warn_if_open(&settings);
        let seen = Files::read(&settings).map_err(TlsError::from);
        let seen = seen.and_then(|files| Ok((files.config(&settings)?, files.digest())));
        (seen, settings)
    })
    .await?;
    let (config, served) = seen?;
    let (config, current) = watch::channel(config);
    let watcher = Watcher {
        settings,
        served,
        config,
    };
    Ok((Tls(current), watcher))
}

impl Watcher {
    /// Lets new connections have what the files hold, whenever that is something else.
    pub(super) async fn follow(mut self) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What was wrong the last time, and whether that was told.
        let mut trouble: Option<(String, bool)> = None;
        loop {
            ticks.tick().await;
            match self.look().await {
                Ok(None) => trouble = None,
                Ok(Some((config, seen))) => {
                    tracing::info!(certificate = %self.settings.certificate.display(), "new connections get the certificate that was put there");
                    self.served = seen;
                    self.config.send_replace(config);
                    trouble = None;
                }
                Err(error) => {
                    let error = error.to_string();
                    trouble = Some(match trouble {
                        Some((same, true)) if same == error => (same, true),
                        // Not at first sight: whoever is about to put several files there is not done with the first.
                        Some((same, false)) if same == error => {
                            tracing::warn!(%error, "what was put there for TLS can not be used; new connections still get what was there before");
                            (same, true)
                        }
                        _ => (error, false),
                    });
                }
            }
        }
    }

    /// What there is now, if it is something else.
    async fn look(&self) -> Result<Option<(Arc<ServerConfig>, Digest)>, TlsError> {
        let settings = self.settings.clone();
        let served = self.served;
        blocking(move || {
            let files = Files::read(&settings)?;
            let seen = files.digest();
            match seen.as_ref() == served.as_ref() {
                true => Ok(None),
                false => Ok(Some((files.config(&settings)?, seen))),
            }
        })
        .await?
    }
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TlsError> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(TlsError::Panicked)
}

/// What stands in the files.
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Option<Vec<u8>>,
}

impl Files {
    fn read(settings: &TlsSettings) -> Result<Self, TrustError> {
        let clients = settings.clients.as_ref();
        let authorities = clients.map(|clients| trust::read("tls_client_ca", &clients.ca));
        Ok(Self {
            certificate: trust::read("tls_cert", &settings.certificate)?,
            key: trust::read("tls_key", &settings.key)?,
            authorities: authorities.transpose()?,
        })
    }

    /// What to know them again by, without keeping the key.
    fn digest(&self) -> Digest {
        let mut all = digest::Context::new(&digest::SHA256);
        let files = [Some(&self.certificate), Some(&self.key)];
        for file in files.into_iter().chain([self.authorities.as_ref()]) {
            let file = file.map_or(&[] as &[u8], Vec::as_slice);
            all.update(&file.len().to_be_bytes());
            all.update(file);
        }
        all.finish()
    }

    fn config(&self, settings: &TlsSettings) -> Result<Arc<ServerConfig>, TlsError> {
        let TlsSettings {
            certificate,
            key,
            clients,
        } = settings;
        let chain = trust::certificates("tls_cert", certificate, &self.certificate)?;
        let secret = trust::private_key("tls_key", key, &self.key)?;
        let provider = trust::provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?;
        let builder = match clients.as_ref().zip(self.authorities.as_ref()) {
            None => builder.with_no_client_auth(),
            Some((ClientCertificates { ca, required }, pem)) => {
                let given = trust::certificates("tls_client_ca", ca, pem)?;
                let anchors = trust::anchors("tls_client_ca", ca, &given)?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), provider);
                let verifier = match required {
                    true => verifier,
                    false => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build().map_err(|error| TlsError::Authorities {
                    path: ca.clone(),
                    error,
                })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config =
            builder
                .with_single_cert(chain, secret)
                .map_err(|error| TlsError::Identity {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    error,
                })?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        match clients {
            None => config.ticketer = Ticketer::new().map_err(TlsError::Setup)?,
            // Who comes back with a ticket shows no certificate, and the one shown before may have ended since.
            Some(_) => {
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
            }
        }
        Ok(Arc::new(config))
    }
}

/// Tells of a key that others may read. It is no reason not to serve: those who put secrets into containers have modes of their own.
fn warn_if_open(settings: &TlsSettings) {
    let key = &settings.key;
    // What can not be read is told of when it is read.
    if is_open(key).unwrap_or(false) {
        tracing::warn!(key = %key.display(), "others on this machine may read the key of the certificate: chmod 600");
    }
}

/// Whether more than its owner, or a group if it is root's, may read it.
fn is_open(key: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(key)?;
    let closed_to = match metadata.uid() {
        0 => 0o037,
        _ => 0o077,
    };
    Ok(metadata.mode() & closed_to != 0)
}
