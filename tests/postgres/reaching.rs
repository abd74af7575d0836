//! A database is reached in every way that libpq knows: TLS modes, sockets, lists of hosts, passwords from everywhere.

use std::{collections::HashMap, fs, os::unix::fs::PermissionsExt, path::Path};

use longhaul::store::postgres::{
    address::Address,
    connect::{ConnectError, Connector},
};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{
    fake,
    postgres::{Cluster, Database, Options, Tls},
};

pub fn address(url: &str) -> Address {
    url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// Connects, and says whether it is encrypted.
pub async fn reach(url: &str) -> Result<bool, ConnectError> {
    let client = Connector::new(address(url)).client().await?;
    let question = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(ask(&client, question).await.as_deref() == Some("t"))
}

async fn reached(url: &str) -> bool {
    reach(url)
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"))
}

async fn ask(client: &Client, question: &str) -> Option<String> {
    let messages = client.simple_query(question).await.unwrap();
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

#[tokio::test]
async fn each_mode_takes_as_much_tls_as_it_says() {
    let cluster = Cluster::start(Options::default().tls(Tls::Offered));
    let database = cluster.database();
    let ca = cluster.certificates().ca.display();
    for (mode, is_encrypted) in [
        ("disable", false),
        ("allow", false),
        ("prefer", true),
        ("require", true),
    ] {
        let url = format!("{}?sslmode={mode}", database.url());
        assert_eq!(reached(&url).await, is_encrypted, "{mode}");
    }
    assert!(reached(&database.url()).await, "prefer is the default");
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        for name in ["localhost", "127.0.0.1"] {
            let url = database.url_at(name);
            let url = format!("{url}?sslmode={mode}&sslrootcert={ca}");
            assert!(reached(&url).await, "{mode}");
        }
    }
}

#[tokio::test]
async fn where_the_server_asks_for_tls_or_has_none_the_mode_gives_way_if_it_may() {
    let required = Cluster::start(Options::default().tls(Tls::Required));
    let (with, without) = (required.database(), Database::fresh());
    for mode in ["allow", "prefer"] {
        let with = format!("{}?sslmode={mode}", with.url());
        assert!(reached(&with).await, "{mode}");
        let without = format!("{}?sslmode={mode}", without.url());
        assert!(!reached(&without).await, "{mode}");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_not_taken_where_it_need_not_be() {
    let cluster = Cluster::start(Options::default().tls(Tls::Offered));
    let stranger = cluster.certificates().other_ca.display();
    let url = cluster.database().url();
    let url = format!("{url}?sslmode=prefer&sslrootcert={stranger}");
    assert!(!reached(&url).await, "as libpq, prefer goes on without TLS");
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let options = Options::default().tls(Tls::ClientCertificate);
    let cluster = Cluster::start(options);
    let files = cluster.certificates();
    let url = cluster.database().url_at("localhost");
    assert!(
        reached(&format!(
            "{url}?sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
            files.ca.display(),
            files.client.display(),
            files.client_key.display()
        ))
        .await
    );
}

#[tokio::test]
async fn a_socket_is_reached_whatever_the_mode() {
    let database = Database::fresh();
    let folder = database.cluster().socket_folder().display();
    let (port, password) = (database.cluster().port(), database.password());
    let url = format!(
        "postgres://longhaul:{password}@/{}?host={folder}&port={port}",
        database.name()
    );
    assert!(!reached(&url).await);
    assert!(!reached(&format!("{url}&sslmode=require")).await);
}

#[tokio::test]
async fn the_password_may_be_changed_in_its_file() {
    let database = Database::fresh();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let write = |text: &str| {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let connector = |file: &Path| {
        let address = address(&database.url_without_password());
        Connector::new(address.with_password_file(file).unwrap())
    };
    let connector = connector(&file);
    write("wrong\n");
    connector.client().await.unwrap_err();
    write(&format!("{}\n", database.password()));
    connector.client().await.unwrap();
}

#[tokio::test]
async fn a_connection_bears_its_name() {
    let database = Database::fresh();
    let url = database.url();
    let named = format!("{url}?application_name=node%201");
    for (url, name) in [(&url, "longhaul"), (&named, "node 1")] {
        let connector = Connector::new(address(url));
        let client = connector.client().await.unwrap();
        let told = ask(&client, "SHOW application_name").await;
        assert_eq!(told.as_deref(), Some(name));
    }
}

/// The port of whoever says `told` of itself when it is asked, and nothing before.
async fn pooler(question: &'static str, told: &str) -> u16 {
    fake::serve(
        fake::welcome(),
        HashMap::from([(question, fake::row(told))]),
    )
    .await
}

#[tokio::test]
async fn the_first_of_several_hosts_that_may_write_is_taken() {
    let primary = Database::fresh();
    let read_only = Cluster::start(Options::default());
    // For this user as on a standby for everybody.
    read_only.sql("ALTER ROLE longhaul SET default_transaction_read_only = on");
    read_only.sql(&format!(
        "ALTER ROLE longhaul PASSWORD '{}'",
        primary.password()
    ));
    // Nobody listens on port 1.
    let hosts = format!(
        "127.0.0.1:1,127.0.0.1:{},127.0.0.1:{}",
        read_only.port(),
        primary.cluster().port()
    );
    let url = format!("postgres://longhaul:{}@{hosts}", primary.password());
    let database = |parameters: &str| format!("{url}/postgres?{parameters}");
    for (parameters, port) in [
        ("", primary.cluster().port()),
        ("target_session_attrs=read-write", primary.cluster().port()),
        ("target_session_attrs=any", read_only.port()),
        ("target_session_attrs=primary", read_only.port()),
    ] {
        let connector = Connector::new(address(&database(parameters)));
        // The second time it begins where the first one ended.
        for _ in 0..2 {
            let client = connector.client().await.unwrap();
            let told = ask(&client, "SHOW port").await;
            assert_eq!(told, Some(port.to_string()), "{parameters}");
        }
    }
}

#[tokio::test]
async fn a_pooler_that_keeps_still_about_the_server_is_asked() {
    let read_only = "SHOW transaction_read_only";
    let standby = "SELECT pg_catalog.pg_is_in_recovery()";
    for (session, question, good, bad) in [
        ("read-write", read_only, "off", "on"),
        ("primary", standby, "f", "t"),
        ("any", standby, "f", "t"),
    ] {
        let (good, bad) = (pooler(question, good).await, pooler(question, bad).await);
        let parameters = format!("sslmode=disable&target_session_attrs={session}");
        let url = |port| format!("postgres://u@127.0.0.1:{port}/d?{parameters}");
        let connector = Connector::new(address(&url(good)));
        connector.client().await.unwrap();
        let connector = Connector::new(address(&url(bad)));
        let refusal = connector.client().await.unwrap_err().to_string();
        assert!(refusal.contains("may not write"), "{refusal}");
    }
}

/// After a failover the former primary is one: whoever went on with it would read what was.
#[tokio::test]
async fn a_standby_is_passed_over_by_whoever_takes_any() {
    let hello = |standby| fake::welcome_with("in_hot_standby", standby);
    let told = |name| HashMap::from([("which", fake::row(name))]);
    let standby = fake::serve(hello("on"), told("standby")).await;
    let primary = fake::serve(hello("off"), told("primary")).await;
    let url = format!(
        "postgres://u@127.0.0.1:{standby},127.0.0.1:{primary}/d?sslmode=disable&target_session_attrs=any"
    );
    let client = Connector::new(address(&url)).client().await.unwrap();
    assert_eq!(ask(&client, "which").await.as_deref(), Some("primary"));
}
