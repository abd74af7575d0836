//! Certificates that are renewed while the server runs.

use std::time::Duration;

use longhaul::client::Client;
use tokio::time::{sleep, timeout};

use super::certificates::Certificates;
use crate::{harness::Server, jobs::submit};

/// How long it may take until the server has seen what was put there; it looks every two seconds.
const SEEN_WITHIN: Duration = Duration::from_secs(60);
/// The pause between two looks at what the server does.
const PAUSE: Duration = Duration::from_millis(50);

async fn until_served(certificates: &Certificates, server: &Server, name: &'static str) {
    let served = async {
        while certificates
            .connect_as(server, &[], name, None)
            .await
            .is_err()
        {
            sleep(PAUSE).await;
        }
    };
    timeout(SEEN_WITHIN, served).await.expect("it is served");
}

async fn until_logged(server: &Server, words: &str) {
    let logged = async {
        while !server.log().contains(words) {
            sleep(PAUSE).await;
        }
    };
    timeout(SEEN_WITHIN, logged).await.expect("it is logged");
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_a_bad_one_for_none() {
    let certificates = Certificates::make();
    let server = certificates.serve(&[]).await;
    let client = Client::builder(&server.endpoint()).tls_ca(certificates.path("ca.pem"));
    let client = client.connect().await.unwrap();
    submit(&client, "nobody").await;

    certificates.put_server(certificates.server("second.example"));
    until_served(&certificates, &server, "second.example").await;
    let former = certificates.connect_as(&server, &[], "localhost", None);
    assert!(former.await.is_err());
    // It could not connect again: its server has another name now.
    submit(&client, "nobody").await;

    certificates.put("server.pem", "no certificate");
    until_logged(&server, "what was put there for TLS can not be used").await;
    let log = server.log();
    assert!(log.contains(&certificates.text("server.pem")), "{log}");
    until_served(&certificates, &server, "second.example").await;

    certificates.put_server(certificates.server("localhost"));
    until_served(&certificates, &server, "localhost").await;
    submit(&client, "nobody").await;
    drop(client);
    server.stop().await;
}
