//! What is checked of a certificate, without a server.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use super::*;

/// Seconds from 1970 to some day in 2026.
const NOW_S: u64 = 1_790_000_000;

fn params(is_authority: bool) -> CertificateParams {
    let mut params = CertificateParams::new(["db.example".to_owned()]).expect("a name");
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params
}

/// A certificate that its own key signed.
fn of_its_own(params: CertificateParams) -> CertificateDer<'static> {
    let key = KeyPair::generate().expect("randomness");
    let certificate = params.self_signed(&key).expect("a key that can sign");
    certificate.der().clone()
}

fn check(
    roots: &[&CertificateDer<'_>],
    with_name: bool,
    shown: &CertificateDer<'_>,
    name: &'static str,
) -> Result<(), Error> {
    let pem = tempfile::NamedTempFile::new().expect("a temporary file");
    let armoured = |der: &&CertificateDer<'_>| {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let text = BASE64_STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    let text: String = roots.iter().map(armoured).collect();
    fs::write(pem.path(), text).expect("a temporary file");
    let trust = Trust::of_file("ca", pem.path(), with_name).expect("certificates");
    let verifier = trust.verifier(provider());
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW_S));
    let name = ServerName::try_from(name).expect("a name");
    let checked = verifier.verify_server_cert(shown, &[], &name, &[], now);
    checked.map(drop)
}

#[test]
fn a_certificate_that_was_named_itself_is_trusted() {
    for is_authority in [true, false] {
        let (named, other) = (
            of_its_own(params(is_authority)),
            of_its_own(params(is_authority)),
        );
        assert_eq!(
            check(&[&other, &named], false, &named, "else.example"),
            Ok(())
        );
        assert_eq!(check(&[&named], true, &named, "db.example"), Ok(()));
        let refused = check(&[&named], true, &named, "else.example");
        assert!(
            matches!(
                refused,
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForNameContext { .. }
                ))
            ),
            "{refused:?}"
        );
        check(&[&other], false, &named, "db.example").expect_err("a stranger");
    }
}

#[test]
fn a_certificate_that_was_named_itself_has_its_time() {
    for is_authority in [true, false] {
        let mut expired = params(is_authority);
        expired.not_after = date_time_ymd(2025, 1, 1);
        let expired = of_its_own(expired);
        let refused = check(&[&expired], false, &expired, "db.example");
        assert!(
            matches!(
                refused,
                Err(Error::InvalidCertificate(
                    CertificateError::ExpiredContext { .. }
                ))
            ),
            "{refused:?}"
        );
    }
}

#[test]
fn an_authority_below_the_one_that_was_named_is_no_server() {
    let key = KeyPair::generate().expect("randomness");
    let root = CertifiedIssuer::self_signed(params(true), key).expect("a key that can sign");
    let signed = |params: CertificateParams| {
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.signed_by(&key, &root).expect("a key that can sign");
        certificate.der().clone()
    };
    let (server, authority) = (signed(params(false)), signed(params(true)));
    assert_eq!(check(&[root.der()], true, &server, "db.example"), Ok(()));
    check(&[root.der()], true, &authority, "db.example").expect_err("an authority");
}
