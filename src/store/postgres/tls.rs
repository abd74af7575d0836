//! TLS to PostgreSQL, as libpq's `sslmode` means it: what is checked of the server's certificate, and which one we show.
//!
//! Invariant: files are read anew for each connection, so that certificates can be renewed while the server runs.

use std::{
    future::Future,
    io,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{ClientConfig, Error};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    address::{Address, RootSource, TlsMode},
    password::{SecretFile, SecretFileError},
};
use crate::trust::{self, Trust, TrustError};

/// Why there can be no TLS, whatever the server says.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is of no use, or the system has none.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The key is not safe.
    #[error("sslkey: {0}")]
    Key(#[from] SecretFileError),
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
    /// A fault of this build.
    #[error("TLS can not be set up: {0}")]
    Setup(#[source] Error),
}

/// Reads the files that an address names, and makes of them how to speak TLS. Blocks.
pub(super) fn client_config(address: &Address) -> Result<ClientConfig, TlsError> {
    let provider = trust::provider();
    let with_name = address.tls == TlsMode::VerifyFull;
    let trusted = match &address.root {
        // As `sslmode=require` without `sslrootcert`.
        None => Trust::Anyone,
        Some(RootSource::File(path)) => Trust::of_file("sslrootcert", path, with_name)?,
        Some(RootSource::System) => Trust::of_system("sslrootcert=system", with_name)?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(trusted.verifier(provider));
    let Some((certificate, key)) = &address.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let pem = trust::read("sslcert", certificate)?;
    let chain = trust::certificates("sslcert", certificate, &pem)?;
    let pem = SecretFile::new(key).read()?;
    let secret = trust::private_key("sslkey", key, &pem)?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|error| TlsError::Identity {
            certificate: certificate.clone(),
            key: key.clone(),
            error,
        })
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
