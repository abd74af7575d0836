//! Servers do as they are told, and databases are apart.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use super::postgres::{
    Cluster, Database, Options, Tls,
    programs::{found, psql},
};

#[test]
fn databases_are_separate() {
    let (one, other) = (Database::fresh(), Database::fresh());
    query(&one.url(), "CREATE TABLE mine (n int)").unwrap();
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'mine'";
    assert_eq!(one.sql(tables), "1");
    assert_eq!(other.sql(tables), "0");
}

#[test]
fn a_database_that_was_dropped_is_gone() {
    let database = Database::fresh();
    let there = format!(
        "SELECT count(*) FROM pg_database WHERE datname = '{}'",
        database.name()
    );
    let cluster = database.cluster().clone();
    assert_eq!(cluster.sql(&there), "1");
    drop(database);
    assert_eq!(cluster.sql(&there), "0");
}

#[test]
fn the_owner_of_a_database_is_nobody_special_and_has_a_password() {
    let database = Database::fresh();
    let who = "SELECT usesuper FROM pg_user WHERE usename = current_user";
    assert_eq!(query(&database.url(), who).unwrap(), "f");
    let wrong = database.url_as("longhaul:wrong", "127.0.0.1");
    for url in [database.url_without_password(), wrong] {
        let refused = query(&url, who).unwrap_err();
        assert!(refused.contains("password"), "{refused}");
    }
}

#[test]
fn what_is_promised_stands_on_these_settings() {
    let database = Database::fresh();
    let cluster = database.cluster();
    assert_eq!(cluster.sql("SHOW fsync"), "on");
    assert_eq!(cluster.sql("SHOW synchronous_commit"), "on");
}

#[test]
fn a_server_of_its_own_has_its_settings_and_changes_them() {
    let options = Options::default().max_connections(17).set("fsync", "off");
    let cluster = Cluster::start(options);
    assert_eq!(cluster.sql("SHOW max_connections"), "17");
    assert_eq!(cluster.sql("SHOW fsync"), "off");
    cluster.reconfigure(&[("max_connections", "23"), ("log_line_prefix", "it's %p ")]);
    assert_eq!(cluster.sql("SHOW max_connections"), "23");
    assert_eq!(cluster.sql("SHOW log_line_prefix"), "it's %p ".trim_end());
}

#[test]
fn a_server_is_back_where_it_was_with_what_was_committed() {
    let cluster = Cluster::start(Options::default());
    let database = cluster.database();
    query(&database.url(), "CREATE TABLE kept (n int)").unwrap();
    let first = cluster.pid();

    cluster.restart_immediately();
    assert_ne!(cluster.pid(), first);
    query(&database.url(), "INSERT INTO kept VALUES (1)").unwrap();
    let recovered = "database system was not properly shut down";
    assert_eq!(cluster.log().matches(recovered).count(), 1);

    cluster.stop();
    query(&database.url(), "SELECT 1").unwrap_err();
    cluster.start_again();
    assert_eq!(query(&database.url(), "SELECT n FROM kept").unwrap(), "1");
    assert_eq!(cluster.log().matches(recovered).count(), 1);
}

#[test]
fn a_frozen_server_stands_still_until_it_is_thawed() {
    let cluster = Cluster::start(Options::default());
    let database = cluster.database();
    let mut session = Session::open(&database.url(), "still");
    let all = [cluster.pid(), session.backend];

    assert!(all.iter().all(|pid| !stopped(*pid)));
    cluster.freeze();
    assert!(all.iter().all(|pid| stopped(*pid)));
    cluster.thaw();
    assert!(all.iter().all(|pid| !stopped(*pid)));
    assert_eq!(session.ask("SELECT 'there'").as_deref(), Some("there"));
}

#[test]
fn connections_are_cut_by_their_name_and_database() {
    let (one, other) = (Database::fresh(), Database::fresh());
    let mut cut = Session::open(&one.url(), "listener");
    let mut stays = [
        Session::open(&one.url(), "writer"),
        Session::open(&other.url(), "listener"),
    ];
    assert_eq!(one.kill_backends("listener"), 1);
    assert_eq!(cut.ask("SELECT 'there'"), None);
    for session in &mut stays {
        assert_eq!(session.ask("SELECT 'there'").as_deref(), Some("there"));
    }
    assert_eq!(other.cluster().kill_backends("listener"), 1);
    assert_eq!(stays[1].ask("SELECT 'there'"), None);
}

const ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[test]
fn tls_that_is_offered_may_be_taken() {
    let cluster = Cluster::start(Options::default().tls(Tls::Offered));
    let url = cluster.database().url();
    for (mode, encrypted) in [("require", "t"), ("disable", "f")] {
        let url = format!("{url}?sslmode={mode}");
        assert_eq!(query(&url, ENCRYPTED).unwrap(), encrypted);
    }
    // Without TLS there is none to take.
    let refused = query(
        &format!("{}?sslmode=require", Database::fresh().url()),
        ENCRYPTED,
    );
    assert!(refused.unwrap_err().contains("does not support SSL"));
}

#[test]
fn tls_that_is_required_is_not_left_out() {
    let cluster = Cluster::start(Options::default().tls(Tls::Required));
    let url = cluster.database().url_at("localhost");
    let files = cluster.certificates();
    let verified = format!(
        "{url}?sslmode=verify-full&sslrootcert={}",
        files.ca.display()
    );
    assert_eq!(query(&verified, ENCRYPTED).unwrap(), "t");
    let stranger = format!(
        "{url}?sslmode=verify-full&sslrootcert={}",
        files.other_ca.display()
    );
    let refused = query(&stranger, ENCRYPTED).unwrap_err();
    assert!(refused.contains("certificate verify failed"), "{refused}");
    let refused = query(&format!("{url}?sslmode=disable"), ENCRYPTED).unwrap_err();
    assert!(refused.contains("no encryption"), "{refused}");
}

#[test]
fn tls_with_a_client_certificate_and_another_name() {
    let options = Options::default()
        .tls(Tls::ClientCertificate)
        .certificate_for(&["db.example"]);
    let cluster = Cluster::start(options);
    let files = cluster.certificates();
    let url = cluster.database().url_at("localhost");
    let tls = format!("{url}?sslrootcert={}", files.ca.display());
    let (client, key) = (files.client.display(), files.client_key.display());
    let shown = format!("{tls}&sslcert={client}&sslkey={key}");
    assert_eq!(
        query(&format!("{shown}&sslmode=verify-ca"), "SELECT 1").unwrap(),
        "1"
    );
    let refused = query(&format!("{tls}&sslmode=verify-ca"), "SELECT 1").unwrap_err();
    assert!(refused.contains("client certificate"), "{refused}");
    let refused = query(&format!("{shown}&sslmode=verify-full"), "SELECT 1").unwrap_err();
    assert!(refused.contains("db.example"), "{refused}");
}

#[test]
fn the_programs_are_those_in_the_path_or_the_newest_of_debian() {
    let folder = tempfile::tempdir().unwrap();
    let (path, debian) = (folder.path().join("path"), folder.path().join("debian"));
    let look = || found(&["/nowhere".into(), path.clone()], &debian);
    let install = |folder: &std::path::Path, programs: &[&str]| {
        fs::create_dir_all(folder).unwrap();
        for program in programs {
            fs::write(folder.join(program), "").unwrap();
        }
    };
    let server = ["postgres", "initdb", "pg_ctl", "psql"];

    assert_eq!(look(), None);
    // A client alone, as Debian links it into the path.
    install(&path, &["psql"]);
    install(&debian.join("17/bin"), &["psql"]);
    assert_eq!(look(), None);
    install(&debian.join("9/bin"), &server);
    install(&debian.join("15/bin"), &server);
    assert_eq!(look(), Some(debian.join("15/bin")));
    install(&path, &server);
    assert_eq!(look(), Some(path.clone()));
}

/// What a statement answers to whoever connects by this URL.
fn query(url: &str, statement: &str) -> Result<String, String> {
    let output = client(url).args(["--command", statement]).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

fn client(url: &str) -> Command {
    let mut client = psql();
    client.args(["-XqAt", "--no-password", url]);
    client
}

fn stopped(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().any(|line| line.starts_with("State:\tT"))
}

/// A connection that stays open.
struct Session {
    client: Child,
    backend: u32,
}

impl Session {
    fn open(url: &str, application_name: &str) -> Self {
        let mut client = client(url);
        client
            .env("PGAPPNAME", application_name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let client = client.spawn().unwrap();
        let mut session = Self { client, backend: 0 };
        let backend = session.ask("SELECT pg_backend_pid()");
        session.backend = backend.unwrap().parse().unwrap();
        session
    }

    /// The answer of one line; `None` if the connection is gone.
    fn ask(&mut self, statement: &str) -> Option<String> {
        let stdin = self.client.stdin.as_mut().unwrap();
        writeln!(stdin, "{statement};").ok()?;
        let mut line = String::new();
        let stdout = self.client.stdout.as_mut().unwrap();
        BufReader::with_capacity(1, stdout)
            .read_line(&mut line)
            .unwrap();
        (!line.is_empty()).then(|| line.trim_end().to_owned())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
