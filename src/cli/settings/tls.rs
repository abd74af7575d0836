//! TLS: what belongs together is there together.

use std::path::PathBuf;

use clap::ValueEnum;
use longhaul::server::{ClientCertificates, TlsSettings};
use serde::{Deserialize, Serialize};

use crate::cli::exit::Failure;

/// Whether clients need a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// One that is shown is checked
    #[default]
    Optional,
    /// Without one there is no connection
    Required,
}

/// What the settings say about it.
#[derive(Debug)]
pub struct ChosenTls {
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub client_ca: Option<PathBuf>,
    pub client_certificates: ClientCertificate,
}

/// Makes of what was chosen how to speak TLS, if it is to be spoken.
pub fn tls(chosen: ChosenTls) -> Result<Option<TlsSettings>, Failure> {
    let ChosenTls {
        certificate,
        key,
        client_ca,
        client_certificates,
    } = chosen;
    let required = client_certificates == ClientCertificate::Required;
    if required && client_ca.is_none() {
        return Err(Failure::usage(
            "tls_client_certificates = required needs tls_client_ca: a file with the authorities that may sign them",
        ));
    }
    let clients = client_ca.map(|ca| ClientCertificates { ca, required });
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsSettings {
            certificate,
            key,
            clients,
        })),
        (None, None) if clients.is_none() => Ok(None),
        (None, None) => Err(Failure::usage(
            "tls_client_ca counts only with TLS: name tls_cert and tls_key as well",
        )),
        (Some(_), None) => Err(Failure::usage(
            "tls_cert needs tls_key: a file with the key of the certificate",
        )),
        (None, Some(_)) => Err(Failure::usage(
            "tls_key needs tls_cert: a file with the certificate of the key",
        )),
    }
}
