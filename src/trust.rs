//! Certificates and keys: read from PEM files, and which certificates a server may show to be the right one.
//!
//! Invariants: whatever is not checked of a certificate, the server proves that it holds its key; the provider of cryptography is named here, so that
//! nothing depends on a default of the process; no error quotes what stands in a file.

#[cfg(test)]
mod tests;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{self, CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
};

/// Why a file is of no use for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It can not be read.
    #[error("{name} {} can not be read: {error}; check that it exists and that this user may read it", path.display())]
    Unreadable {
        /// What named it.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It holds no such thing.
    #[error("{name} {} holds {what}; it must hold them in PEM, between lines of -----BEGIN and -----END", path.display())]
    NotPem {
        /// What named it.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        what: String,
    },
    /// The system has no certificates that it trusts.
    #[error(
        "{name}: the system's trusted certificates can not be found{why}; install them (Debian: ca-certificates), or name a file"
    )]
    NoSystemRoots {
        /// What asked for them.
        name: &'static str,
        /// Why not, if that is known.
        why: String,
    },
}

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::aws_lc_rs::default_provider())
}

/// What stands in a file that a setting names. Blocks.
pub(crate) fn read(name: &'static str, path: &Path) -> Result<Vec<u8>, TrustError> {
    fs::read(path).map_err(|error| TrustError::Unreadable {
        name,
        path: path.to_owned(),
        error,
    })
}

/// All certificates in what was read from a file; there is at least one.
pub(crate) fn certificates(
    name: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => {
            let error = pem::Error::NoItemsFound;
            Err(not_pem(name, path, "certificate", &error))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(not_pem(name, path, "certificate", &error)),
    }
}

/// The first private key in what was read from a file.
pub(crate) fn private_key(
    name: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<PrivateKeyDer<'static>, TrustError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| not_pem(name, path, "private key", &error))
}

/// Those who may vouch for others, of whom there is at least one.
pub(crate) fn anchors(
    name: &'static str,
    path: &Path,
    given: &[CertificateDer<'static>],
) -> Result<RootCertStore, TrustError> {
    let mut anchors = RootCertStore::empty();
    for certificate in given {
        anchors
            .add(certificate.clone())
            .map_err(|error| TrustError::NotPem {
                name,
                path: path.to_owned(),
                what: format!("a certificate that can not be used ({error})"),
            })?;
    }
    Ok(anchors)
}

fn not_pem(name: &'static str, path: &Path, kind: &str, error: &pem::Error) -> TrustError {
    TrustError::NotPem {
        name,
        path: path.to_owned(),
        what: match error {
            pem::Error::NoItemsFound => format!("no {kind} that can be used without a passphrase"),
            // Not its text: it may quote what it stumbled over.
            _ => format!("a {kind} that is damaged"),
        },
    }
}

/// What makes a server the right one.
pub(crate) enum Trust {
    /// Nothing: who only listens learns nothing, who stands between learns everything.
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
    /// In those whose certificates a file holds. Blocks.
    pub(crate) fn of_file(
        name: &'static str,
        path: &Path,
        with_name: bool,
    ) -> Result<Self, TrustError> {
        let given = certificates(name, path, &read(name, path)?)?;
        Ok(Self::Roots {
            anchors: anchors(name, path, &given)?,
            given,
            with_name,
        })
    }

    /// In those whom the system trusts. Blocks.
    pub(crate) fn of_system(name: &'static str, with_name: bool) -> Result<Self, TrustError> {
        let loaded = rustls_native_certs::load_native_certs();
        if loaded.certs.is_empty() {
            let why = loaded.errors.first();
            let why = why.map_or_else(String::new, |error| format!(" ({error})"));
            return Err(TrustError::NoSystemRoots { name, why });
        }
        let mut anchors = RootCertStore::empty();
        // Of so many, some may be of a kind that is not known here.
        anchors.add_parsable_certificates(loaded.certs);
        Ok(Self::Roots {
            anchors,
            given: Vec::new(),
            with_name,
        })
    }

    /// What checks certificates by it.
    pub(crate) fn verifier(self, provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
        Arc::new(Verifier {
            provider,
            trust: self,
        })
    }
}

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
