//! Who is known by a certificate.

use super::{assert_refused, make_key};
use crate::tls::certificates::Certificates;

/// As it stands in the client's certificate.
const NAME: &str = "spiffe://example.com/tests";

#[tokio::test]
async fn a_name_in_a_certificate_is_a_credential() {
    let certificates = Certificates::make();
    let (server, first) = certificates.serve_guarded().await;
    let [ca, certificate, private] =
        ["ca.pem", "client.pem", "client.key"].map(|name| certificates.text(name));
    let trust = ["--tls-ca", &ca];
    let shows = ["--tls-cert", &certificate, "--tls-key", &private];
    let by_key = async |key: &str, args: &[&str]| {
        let args = [args, &trust, &["--api-key", key]].concat();
        server.cli(&args).await
    };
    let by_name = async |args: &[&str]| server.cli(&[args, &trust, &shows].concat()).await;

    // A certificate of the right authority is somebody's, but not yet anybody's.
    let submit = ["submit", "--driver", "d"];
    assert_refused(&by_name(&submit).await, 1, &["CREDENTIAL_INVALID"]);
    by_key(&first, &["tenant", "create", "acme"]).await.ok();
    let create = [
        "key",
        "create",
        "--tenant",
        "acme",
        "--role",
        "submit,read",
        "--certificate",
        NAME,
    ];
    let made = by_key(&first, &create).await;
    assert!(!made.stderr.contains("not shown again"), "{made:#?}");
    let id = made.ok();
    let id = id.trim();
    assert_eq!(id, format!("cert:{NAME}"));
    by_name(&submit).await.ok();
    let me = by_name(&["whoami"]).await.ok();
    assert!(me.contains(id) && me.contains("acme"), "{me}");
    // A name has one meaning at a time.
    let again = by_key(&first, &create).await;
    assert_refused(&again, 1, &["KEY_EXISTS", "longhaul key revoke"]);

    // Who sends a key is whom the key says.
    let flags = [&["--role", "read"][..], &trust].concat();
    let other = make_key(&first, &server, &flags).await;
    let both = [&["whoami", "--api-key", &other][..], &trust, &shows].concat();
    let told = server.cli(&both).await.ok();
    assert!(told.contains("default"), "{told}");

    by_key(&first, &["key", "revoke", id]).await.ok();
    assert_refused(&by_name(&submit).await, 1, &["CREDENTIAL_INVALID"]);
    by_key(&first, &create).await.ok();
    by_name(&submit).await.ok();
    server.stop().await;
}
