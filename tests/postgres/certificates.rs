//! Certificates for a server that speaks TLS: made for one cluster, gone with it.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use super::USER;

/// Files in PEM that a client may use.
pub struct Certificates {
    /// The authority that signed the server's certificate and the client's.
    pub ca: PathBuf,
    /// An authority that signed neither.
    pub other_ca: PathBuf,
    /// A certificate for the user that the databases belong to.
    pub client: PathBuf,
    /// Its key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes them for a server of these names and addresses. `write` gets each file; the server's are `server.pem` and `server.key`.
    pub fn make(folder: &Path, names: &[String], write: impl Fn(&Path, &str)) -> Self {
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            write(&path, text);
            path
        };
        let (ca, other_ca) = (authority("Tests"), authority("Strangers"));

        let server = CertificateParams::new(names).expect("names and addresses");
        let (server, server_key) = signed(server, ExtendedKeyUsagePurpose::ServerAuth, &ca);
        file("server.pem", &server);
        file("server.key", &server_key);

        let mut client = CertificateParams::default();
        client.distinguished_name.push(DnType::CommonName, USER);
        let (client, client_key) = signed(client, ExtendedKeyUsagePurpose::ClientAuth, &ca);
        Self {
            ca: file("ca.pem", &ca.pem()),
            other_ca: file("other_ca.pem", &other_ca.pem()),
            client: file("client.pem", &client),
            client_key: file("client.key", &client_key),
        }
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().expect("randomness");
    CertifiedIssuer::self_signed(params, key).expect("a certificate of its own")
}

fn signed(
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
    ca: &CertifiedIssuer<'static, KeyPair>,
) -> (String, String) {
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().expect("randomness");
    let certificate = params.signed_by(&key, ca).expect("a key that can sign");
    (certificate.pem(), key.serialize_pem())
}
