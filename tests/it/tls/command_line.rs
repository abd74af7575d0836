//! The command line over TLS: what works, and what is told when it does not.

use std::time::Duration;

use super::certificates::Certificates;
use crate::harness::{self, Output, Server};

const EXIT_WITHIN: Duration = Duration::from_secs(30);

#[track_caller]
fn assert_told(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, Some(code), "{output:#?}");
    for words in words {
        assert!(
            output.stderr.contains(words),
            "{words:?} is missing: {output:#?}"
        );
    }
}

/// Submits, works and watches with these flags.
async fn a_job_is_done(server: &Server, flags: &[&str]) {
    let mut worker = server.worker("good", flags, &["true"]);
    let submit = [&["submit", "--driver", "good", "--wait"], flags].concat();
    let told = server.cli(&submit).await.ok();
    assert!(told.contains("SUCCEEDED"), "{told}");
    let submit = [&["submit", "--driver", "good"], flags].concat();
    let job = server.cli(&submit).await.ok();
    let watched = server.cli(&[&["watch", job.trim()], flags].concat()).await;
    assert!(watched.ok().contains("SUCCEEDED"));
    worker.sigterm();
    assert!(worker.exit(EXIT_WITHIN).await.success());
}

#[tokio::test]
async fn jobs_are_submitted_worked_on_and_watched_over_tls() {
    let certificates = Certificates::make();
    let ca = certificates.text("ca.pem");
    let server = certificates.serve(&[]).await;
    a_job_is_done(&server, &["--tls-ca", &ca]).await;
    server.stop().await;
}

#[tokio::test]
async fn jobs_are_submitted_worked_on_and_watched_with_a_certificate() {
    let certificates = Certificates::make();
    let [ca, certificate, key] =
        ["ca.pem", "client.pem", "client.key"].map(|n| certificates.text(n));
    let identity = [
        "--tls-ca",
        &ca,
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
    ];
    for whether in ["optional", "required"] {
        let server = certificates.serve_clients(whether).await;
        a_job_is_done(&server, &identity).await;
        if whether == "optional" {
            a_job_is_done(&server, &["--tls-ca", &ca]).await;
        }
        server.stop().await;
    }
}

/// By every command, streams included, and at once: nothing is tried again for a certificate that will not do.
#[tokio::test]
async fn a_client_without_the_certificate_that_is_asked_for_is_told_so() {
    let certificates = Certificates::make();
    let [ca, stranger, key] =
        ["ca.pem", "stranger.pem", "stranger.key"].map(|n| certificates.text(n));
    let server = certificates.serve_clients("required").await;
    let commands: [&[&str]; 4] = [
        &["info"],
        &["submit", "--driver", "d"],
        &["watch", "01a20142-3ca4-7436-8b82-e34761ee4c76"],
        &["work", "--driver", "d"],
    ];
    for command in commands {
        let run: &[&str] = match command[0] {
            "work" => &["--", "true"],
            _ => &[],
        };
        let none = [command, &["--tls-ca", &ca], run].concat();
        let told = server.cli(&none).await;
        assert_told(&told, 4, &["asks for a client certificate", "--tls-cert"]);
        let wrong = ["--tls-ca", &ca, "--tls-cert", &stranger, "--tls-key", &key];
        let told = server.cli(&[command, &wrong, run].concat()).await;
        assert_told(&told, 4, &["does not accept the client certificate"]);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_not_to_be_trusted_is_told_from_others() {
    let certificates = Certificates::make();
    let ca = certificates.text("ca.pem");
    let [others, stranger] = ["clients.pem", "stranger.pem"].map(|name| certificates.text(name));
    let server = certificates.serve(&[]).await;
    for wrong in [&others, &stranger] {
        let told = server.cli(&["info", "--tls-ca", wrong]).await;
        assert_told(&told, 4, &["certificate is not trusted", "--tls-ca"]);
    }
    let by_address = format!("https://{}", server.address());
    let told = server
        .cli(&["info", "--tls-ca", &ca, "--endpoint", &by_address])
        .await;
    assert_told(
        &told,
        4,
        &["127.0.0.1", "localhost", "by a name of its certificate"],
    );
    server.stop().await;

    certificates.put_server(certificates.expired("localhost"));
    let server = certificates.serve(&[]).await;
    let told = server.cli(&["info", "--tls-ca", &ca]).await;
    assert_told(&told, 4, &["out of date", "renew"]);
    server.stop().await;

    let plain = Server::start().await;
    let endpoint = format!("https://{}", plain.address());
    let told = plain
        .cli(&["info", "--tls-ca", &ca, "--endpoint", &endpoint])
        .await;
    assert_told(&told, 4, &["speaks no TLS", "write http://"]);
    let told = plain.cli(&["info", "--tls-ca", &ca]).await;
    assert_told(&told, 2, &["https://"]);
    plain.stop().await;
}

/// The file that is its own authority, as the refusal tells to make it and as many do without the last extension.
#[tokio::test]
async fn what_openssl_makes_is_trusted_when_it_is_named() {
    let refused = harness::cli(&["serve", "--print-config", "--listen", "0.0.0.0:7070"]).await;
    assert_told(
        &refused,
        2,
        &["neither TLS nor authentication", "--insecure"],
    );
    let lines: Vec<_> = refused.stderr.lines().map(str::trim).collect();
    let openssl = lines
        .iter()
        .find(|line| line.starts_with("openssl "))
        .unwrap();
    let serve = lines
        .iter()
        .find(|line| line.starts_with("longhaul serve "));
    let serve = serve.unwrap();
    let extensions = " -addext basicConstraints=critical,CA:FALSE";
    assert!(openssl.contains(extensions), "{openssl}");
    let name = openssl.split("/CN=").nth(1).unwrap();
    let name = name.split(' ').next().unwrap();
    let openssl = openssl
        .replace(&format!("CN={name}"), "CN=localhost")
        .replace(&format!("DNS:{name}"), "DNS:localhost");
    for openssl in [openssl.clone(), openssl.replace(extensions, "")] {
        let certificates = Certificates::make();
        let mut shell = tokio::process::Command::new("sh");
        let here = certificates.path("");
        shell.args(["-c", &openssl]).current_dir(&here);
        harness::output(shell).await.ok();

        // What it tells to type next is accepted.
        let mut shell = tokio::process::Command::new("sh");
        shell
            .args(["-c", &format!("{serve} --print-config")])
            .env("PATH", harness::path_with_tools())
            .current_dir(&here);
        let printed = harness::output(shell).await.ok();
        assert!(
            printed.contains("tls.crt") && printed.contains("auth"),
            "{printed}"
        );

        let (certificate, key) = (certificates.text("tls.crt"), certificates.text("tls.key"));
        let tls = ["--tls-cert", &certificate, "--tls-key", &key];
        let server = Server::start_with(&tls).await;
        assert!(!server.log().contains("chmod"), "{}", server.log());
        server.cli(&["info", "--tls-ca", &certificate]).await.ok();
        let told = server.cli(&["info"]).await;
        assert_told(&told, 4, &["certificate is not trusted"]);
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-sS", "--cacert", &certificate])
            .arg(format!("{}/v1/jobs", server.endpoint()));
        let told = harness::output(curl).await.ok();
        assert!(told.contains("totalSize"), "{told}");
        server.stop().await;
    }
}

#[tokio::test]
async fn settings_that_do_not_belong_together_are_refused() {
    for (flags, told) in [
        (&["--tls-cert", "a"][..], "tls_key"),
        (&["--tls-key", "a"], "tls_cert"),
        (&["--tls-client-ca", "a"], "tls_cert"),
        (
            &[
                "--tls-cert",
                "a",
                "--tls-key",
                "b",
                "--tls-client-certificates",
                "required",
            ],
            "tls_client_ca",
        ),
        (&["--listen", "0.0.0.0:1", "--auth"], "no TLS"),
        (
            &["--listen", "0.0.0.0:1", "--tls-cert", "a", "--tls-key", "b"],
            "no authentication",
        ),
    ] {
        let refused = harness::cli(&[&["serve", "--print-config"], flags].concat()).await;
        assert_told(&refused, 2, &[told]);
    }
    let files = ["--tls-cert", "/nothing", "--tls-key", "/nothing"];
    let refused = harness::cli(&[&["serve", "--listen", "127.0.0.1:0"], &files[..]].concat()).await;
    assert_told(&refused, 1, &["tls_cert /nothing can not be read"]);
}
