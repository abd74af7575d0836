//! Each refusal is told apart, says what to do, and shows no password.

use std::{collections::HashMap, fs, process::Command};

use longhaul::store::postgres::connect::{ConnectError, Connector, Reason};
use rcgen::{CertificateParams, DnType, KeyPair};

use super::{
    fake,
    postgres::{Cluster, Database, Options, Tls},
    reaching::{address, reach},
};

/// A refusal by one host, which is for the reason that is expected, and says these words.
macro_rules! assert_refused {
    ($url:expr, $reason:pat, $words:expr) => {{
        let error = refusal(&$url).await;
        let [refusal] = error.refusals() else {
            panic!("{error}");
        };
        assert!(matches!(refusal.reason(), $reason), "{error} {error:?}");
        let told = error.to_string();
        for words in $words {
            assert!(told.contains(words), "{words:?} is missing: {told}");
        }
    }};
}

/// Why nothing can be reached there; without the password, in whatever form.
async fn refusal(url: &str) -> ConnectError {
    let error = match reach(url).await {
        Ok(_) => panic!("{url} was reached"),
        Err(error) => error,
    };
    let password = url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('@'))
        .and_then(|(who, _)| who.split_once(':'));
    if let Some((_, password)) = password {
        let shown = format!("{error} {error:?} {error:#?}");
        assert!(!shown.contains(password), "{shown}");
    }
    error
}

#[tokio::test]
async fn a_wrong_password_and_none_are_told_apart() {
    let database = Database::fresh();
    let wrong = database.url_as("longhaul:s3cret", "127.0.0.1");
    assert_refused!(
        wrong,
        Reason::WrongPassword,
        ["127.0.0.1", "user longhaul", "password"]
    );
    let nobody = database.url_as("nobody:s3cret", "127.0.0.1");
    assert_refused!(nobody, Reason::WrongPassword, ["user nobody"]);
    let none = database.url_without_password();
    assert_refused!(
        none,
        Reason::NoPassword,
        ["--store-password-file", "PGPASSWORD"]
    );
    reach(&database.url()).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_there_is_to_be_made() {
    let database = Database::fresh();
    let missing = database.url().replace(database.name(), "nowhere");
    assert_refused!(
        missing,
        Reason::NoDatabase,
        ["nowhere", "createdb --owner longhaul nowhere"]
    );
    reach(&database.url()).await.unwrap();
}

#[tokio::test]
async fn where_nobody_listens_is_told_apart_from_where_nobody_answers() {
    let nobody = "postgres://u:s3cret@127.0.0.1:1/d";
    assert_refused!(
        nobody,
        Reason::Unreachable(_),
        ["127.0.0.1:1", "refused", "PostgreSQL runs"]
    );
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("postgres://u@/d?host={}", folder.path().display());
    assert_refused!(
        socket,
        Reason::Unreachable(_),
        [".s.PGSQL.5432", "unix_socket_directories"]
    );
    let name = "postgres://u:s3cret@database.invalid/d";
    assert_refused!(name, Reason::Unresolved(_), ["database.invalid", "name"]);

    let silent = fake::serve(Vec::new(), HashMap::new()).await;
    let silent =
        format!("postgres://u:s3cret@127.0.0.1:{silent}/d?sslmode=disable&connect_timeout=1");
    assert_refused!(
        silent,
        Reason::TimedOut(_),
        ["within 1 s", "connect_timeout"]
    );
}

#[tokio::test]
async fn every_host_of_a_list_is_told_of() {
    let error = refusal("postgres://u:s3cret@127.0.0.1:1,127.0.0.1:2/d").await;
    let told = error.to_string();
    assert!(
        told.contains("127.0.0.1:1: ") && told.contains("127.0.0.1:2: "),
        "{told}"
    );
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_it_is_asked_for() {
    let database = Database::fresh();
    let ca = tempfile::NamedTempFile::new().unwrap();
    fs::write(ca.path(), stranger().0).unwrap();
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = format!(
            "{}?sslmode={mode}&sslrootcert={}",
            database.url(),
            ca.path().display()
        );
        assert_refused!(url, Reason::NoTls, [&format!("sslmode={mode}"), "ssl = on"]);
    }
    reach(&format!("{}?sslmode=prefer", database.url()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_that_asks_for_tls_refuses_to_do_without() {
    let cluster = Cluster::start(Options::default().tls(Tls::Required));
    let url = cluster.database().url();
    let plain = format!("{url}?sslmode=disable");
    assert_refused!(
        plain,
        Reason::NotAllowed(_),
        ["no encryption", "pg_hba.conf"]
    );
    assert!(reach(&format!("{url}?sslmode=require")).await.unwrap());
}

#[tokio::test]
async fn a_certificate_that_a_stranger_signed_is_refused() {
    let cluster = Cluster::start(Options::default().tls(Tls::Offered));
    let url = cluster.database().url_at("localhost");
    let files = cluster.certificates();
    let with = |mode: &str, ca: &std::path::Path| {
        format!("{url}?sslmode={mode}&sslrootcert={}", ca.display())
    };
    // As libpq, require means verify-ca as soon as there is something to check against.
    for mode in ["require", "verify-ca", "verify-full"] {
        let stranger = with(mode, &files.other_ca);
        assert_refused!(
            stranger,
            Reason::Untrusted(_),
            ["not trusted", "sslrootcert=FILE"]
        );
        assert!(reach(&with(mode, &files.ca)).await.unwrap(), "{mode}");
    }
    // What the system trusts did not sign it either.
    let system = format!("{url}?sslrootcert=system");
    match refusal(&system).await {
        ConnectError::Refused(refusals) => {
            assert!(
                matches!(refusals[0].reason(), Reason::Untrusted(_)),
                "{refusals:?}"
            );
        }
        // Nor anything else, on a machine that trusts nobody.
        error => assert!(error.to_string().contains("ca-certificates"), "{error}"),
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused_by_verify_full_alone() {
    let options = Options::default().tls(Tls::Offered);
    let cluster = Cluster::start(options.certificate_for(&["db.example"]));
    let ca = cluster.certificates().ca.display();
    for name in ["localhost", "127.0.0.1"] {
        let url = cluster.database().url_at(name);
        let full = format!("{url}?sslmode=verify-full&sslrootcert={ca}");
        assert_refused!(full, Reason::WrongName(_), ["db.example", "subjectAltName"]);
        for mode in ["require", "verify-ca"] {
            let url = format!("{url}?sslmode={mode}&sslrootcert={ca}");
            assert!(reach(&url).await.unwrap(), "{mode}");
        }
    }
}

/// A certificate that nobody knows, and its key.
fn stranger() -> (String, String) {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "longhaul");
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn no_client_certificate_or_a_strangers_is_refused() {
    let cluster = Cluster::start(Options::default().tls(Tls::ClientCertificate));
    let files = cluster.certificates();
    let url = cluster.database().url_at("localhost");
    let url = format!(
        "{url}?sslmode=verify-full&sslrootcert={}",
        files.ca.display()
    );
    assert_refused!(url, Reason::NotAllowed(_), ["client certificate"]);

    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    let (strange, strange_key) = stranger();
    fs::write(&certificate, strange).unwrap();
    fs::write(&key, strange_key).unwrap();
    let with = format!(
        "{url}&sslcert={}&sslkey={}",
        certificate.display(),
        key.display()
    );
    // Keys are secrets, too.
    let open = refusal(&with).await.to_string();
    assert!(open.contains("chmod 600"), "{open}");
    close(&key);
    assert_refused!(with, Reason::CertificateRefused(_), ["sslcert=FILE"]);

    let swapped = format!(
        "{url}&sslcert={}&sslkey={}",
        files.client.display(),
        key.display()
    );
    let swapped = refusal(&swapped).await.to_string();
    assert!(swapped.contains("can not be used together"), "{swapped}");
    let good = format!(
        "{url}&sslcert={}&sslkey={}",
        files.client.display(),
        files.client_key.display()
    );
    assert!(reach(&good).await.unwrap());
}

fn close(file: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn files_that_are_no_certificates_are_named() {
    let database = Database::fresh();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "s3cret, but no certificate").unwrap();
    let path = file.path().display();
    for (parameters, words) in [
        (
            "sslmode=require&sslrootcert=/nonexistent/ca.pem".to_owned(),
            "/nonexistent/ca.pem",
        ),
        (
            format!("sslmode=require&sslrootcert={path}"),
            "holds no certificate",
        ),
        (
            format!("sslmode=require&sslcert={path}&sslkey={path}"),
            "sslcert",
        ),
    ] {
        let error = refusal(&format!("{}?{parameters}", database.url())).await;
        let told = error.to_string();
        assert!(told.contains(words) && !told.contains("s3cret"), "{told}");
    }
}

#[tokio::test]
async fn a_server_whose_connections_are_taken_says_so() {
    // Three of them are the superuser's, and one may be that of a command that has just ended.
    let cluster = Cluster::start(Options::default().max_connections(6));
    let database = cluster.database();
    let connector = Connector::new(address(&database.url()));
    let mut held = Vec::new();
    let error = loop {
        match connector.client().await {
            Ok(client) => held.push(client),
            Err(error) => break error,
        }
        assert!(held.len() <= 3, "the superuser's are taken");
    };
    assert!(held.len() >= 2, "there was room: {error}");
    assert!(
        matches!(error.refusals(), [one] if matches!(one.reason(), Reason::TooMany(_))),
        "{error:?}"
    );
    let told = error.to_string();
    for words in ["--store-connections", "max_connections"] {
        assert!(told.contains(words), "{told}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_ready_yet_will_be() {
    let hello = fake::error("57P03", "the database system is \u{1b}[31mstarting up\n");
    let port = fake::serve(hello, HashMap::new()).await;
    let url = format!("postgres://u:s3cret@127.0.0.1:{port}/d?sslmode=disable");
    assert_refused!(url, Reason::NotReady(_), ["starting up"]);
    let told = refusal(&url).await.to_string();
    assert!(!told.contains(char::is_control), "{told:?}");

    let port = fake::serve(fake::error("08P01", "no such thing"), HashMap::new()).await;
    let url = format!("postgres://u:s3cret@127.0.0.1:{port}/d?sslmode=disable");
    assert_refused!(url, Reason::Other { .. }, ["no such thing", "08P01"]);
}

#[tokio::test]
async fn a_server_that_may_not_write_is_refused() {
    let cluster = Cluster::start(Options::default());
    let url = cluster.database().url();
    reach(&url).await.unwrap();
    cluster.sql("ALTER ROLE longhaul SET default_transaction_read_only = on");
    assert_refused!(url, Reason::ReadOnly, ["standby", "host1,host2"]);
    reach(&format!("{url}?target_session_attrs=any"))
        .await
        .unwrap();
}

#[test]
fn serve_says_what_to_do_and_shows_no_password() {
    let database = Database::fresh();
    let wrong = database.url_as("longhaul:s3cret", "127.0.0.1");
    let serve = |store: &str, more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_longhaul"))
            .args(["serve", "--listen", "127.0.0.1:0", "--store", store])
            .args(more)
            .env_remove("PGPASSWORD")
            .env("HOME", "/nonexistent")
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), stderr)
    };
    let (code, told) = serve(&wrong, &[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("does not accept the password"), "{told}");
    assert!(told.contains("list of processes"), "{told}");
    assert!(!told.contains("s3cret"), "{told}");

    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "s3cret").unwrap();
    let named = ["--store-password-file", file.path().to_str().unwrap()];
    let (code, told) = serve(&database.url_without_password(), &named);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("does not accept the password"), "{told}");
    assert!(
        !told.contains("list of processes") && !told.contains("s3cret"),
        "{told}"
    );
}
