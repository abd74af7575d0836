//! A throw-away PostgreSQL. Part of each test binary that asks for it, by its path:
//!
//! ```ignore
//! #[path = "../postgres/cluster.rs"]
//! #[expect(dead_code, reason = "other tests use the rest")]
//! mod postgres;
//! ```
//!
//! [`Database::fresh`] is all that most tests need: one server for the process, started by the first that asks, and a database for each test. Who
//! stops the server, freezes it, or wants other settings starts a [`Cluster`] of its own. Every call blocks, some for a second: in a runtime whose
//! other tasks matter meanwhile, `spawn_blocking`.

mod certificates;
mod database;
mod guard;
pub mod programs;

use std::{
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

use uuid::Uuid;

pub use certificates::Certificates;
pub use database::Database;
use guard::Guard;

/// Who owns the databases: a user without privileges.
pub const USER: &str = "longhaul";
/// Where ports begin: below those that the system gives to outgoing connections, above those that tests give to Longhaul.
const FIRST_PORT: u16 = 30_000;
/// How many ports from there on are tried.
const PORTS: u16 = 2_700;
/// Connections to a server that is shared: some nodes for each test on a machine of many cores.
const SHARED_CONNECTIONS: u16 = 500;

/// What a server is to be like.
#[derive(Default)]
pub struct Options {
    settings: Vec<(String, String)>,
    tls: Option<Tls>,
    names: Vec<String>,
}

/// Who may connect how to a server with `ssl = on`.
#[derive(Clone, Copy)]
pub enum Tls {
    /// With TLS or without.
    Offered,
    /// With TLS only.
    Required,
    /// With TLS and a certificate only, and a password besides.
    ClientCertificate,
}

impl Options {
    pub fn max_connections(self, number: u16) -> Self {
        self.set("max_connections", &number.to_string())
    }

    /// A line of `postgresql.conf`; a later one counts.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// TLS, with a certificate for `localhost` and `127.0.0.1` unless [`Self::certificate_for`] says other names.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The names that the server's certificate is for.
    pub fn certificate_for(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|&name| name.to_owned()).collect();
        self
    }
}

/// A PostgreSQL server: on 127.0.0.1 and on a socket in its folder, with scram passwords. It ends when it is dropped, and with this process.
pub struct Cluster {
    guard: Mutex<Guard>,
    folder: PathBuf,
    port: u16,
    superuser_password: String,
    password: String,
    certificates: Option<Certificates>,
}

impl Cluster {
    /// The server that the tests of this process share. Nobody stops it or changes its settings.
    pub fn shared() -> Arc<Self> {
        // Statics are not dropped; the guard does without.
        static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
        let start = || Self::start(Options::default().max_connections(SHARED_CONNECTIONS));
        Arc::clone(SHARED.get_or_init(start))
    }

    /// A new server, which runs when this returns.
    pub fn start(options: Options) -> Arc<Self> {
        let programs = programs::folder();
        let folder = env::temp_dir().join(format!("longhaul-postgres-{}", Uuid::new_v4().simple()));
        let mut cluster = Self {
            guard: Mutex::new(Guard::start(&folder, &programs)),
            folder,
            port: 0,
            superuser_password: Uuid::new_v4().simple().to_string(),
            password: Uuid::new_v4().simple().to_string(),
            certificates: None,
        };
        cluster.did(&format!("init {}", cluster.superuser_password));
        cluster.configure(options);
        cluster.port = cluster.start_on_free_port();
        cluster.sql(&format!(
            "CREATE ROLE {USER} LOGIN PASSWORD '{}'",
            cluster.password
        ));
        Arc::new(cluster)
    }

    /// A new database on it.
    pub fn database(self: &Arc<Self>) -> Database {
        Database::on(Arc::clone(self))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its unix socket is.
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// Its certificates, if it speaks TLS.
    pub fn certificates(&self) -> &Certificates {
        let certificates = self.certificates.as_ref();
        certificates.expect("a cluster that was started with TLS")
    }

    /// The id of its main process.
    pub fn pid(&self) -> u32 {
        let file = fs::read_to_string(self.folder.join("data/postmaster.pid"));
        let file = file.expect("a server that runs");
        file.lines().next().unwrap().parse().unwrap()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Runs one statement as the superuser in the database `postgres`, by a connection that is kept for him: see [`Database::sql`].
    #[track_caller]
    pub fn sql(&self, statement: &str) -> String {
        self.psql("postgres", statement)
            .unwrap_or_else(|error| panic!("{statement}\n{error}"))
    }

    /// Ends it in order, cutting connections.
    pub fn stop(&self) {
        self.did("stop fast");
    }

    /// Ends it as a crash would: it recovers when it is started.
    pub fn stop_immediately(&self) {
        self.did("stop immediate");
    }

    /// Starts it again, on the same port.
    pub fn start_again(&self) {
        self.did(&format!("start {}", self.port));
    }

    /// A crash, and the recovery.
    pub fn restart_immediately(&self) {
        self.stop_immediately();
        self.start_again();
    }

    /// Changes settings for good, with a restart.
    pub fn reconfigure(&self, settings: &[(&str, &str)]) {
        for (name, value) in settings {
            self.sql(&format!("ALTER SYSTEM SET {name} = {}", quoted(value)));
        }
        self.stop();
        self.start_again();
    }

    /// Halts all of its processes: connections stay open, and nobody answers.
    pub fn freeze(&self) {
        self.did("freeze");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.did("thaw");
    }

    /// Cuts connections of this `application_name` to any database; how many there were.
    pub fn kill_backends(&self, application_name: &str) -> usize {
        let killed = self.sql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{application_name}'"
        ));
        killed.lines().filter(|line| *line == "t").count()
    }

    fn configure(&mut self, options: Options) {
        let socket = self.folder.display().to_string();
        let mut settings = vec![
            ("listen_addresses".to_owned(), "127.0.0.1".to_owned()),
            ("unix_socket_directories".to_owned(), socket),
            ("shared_buffers".to_owned(), "16MB".to_owned()),
            // As by default, and what users are promised stands on it.
            ("fsync".to_owned(), "on".to_owned()),
            ("synchronous_commit".to_owned(), "on".to_owned()),
        ];
        if let Some(tls) = options.tls {
            let names = match options.names.as_slice() {
                [] => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
                names => names.to_vec(),
            };
            let made = Certificates::make(&self.folder, &names, |path, text| {
                self.write(path, text);
            });
            let ca = made.ca.display().to_string();
            let file = |name: &str| self.folder.join(name).display().to_string();
            settings.extend([
                ("ssl".to_owned(), "on".to_owned()),
                ("ssl_cert_file".to_owned(), file("server.pem")),
                ("ssl_key_file".to_owned(), file("server.key")),
                ("ssl_ca_file".to_owned(), ca),
            ]);
            self.certificates = Some(made);
            let access = match tls {
                Tls::Offered => "host all all 127.0.0.1/32 scram-sha-256",
                Tls::Required => "hostssl all all 127.0.0.1/32 scram-sha-256",
                Tls::ClientCertificate => {
                    "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full"
                }
            };
            let access = format!("local all all scram-sha-256\n{access}\n");
            self.write(&self.folder.join("data/pg_hba.conf"), &access);
        }
        settings.extend(options.settings);
        let lines = settings
            .iter()
            .map(|(name, value)| format!("{name} = {}\n", quoted(value)));
        let lines: String = lines.collect();
        self.write(&self.folder.join("settings.conf"), &lines);
    }

    /// Writes a file that the server can read, and nobody else but who runs the tests.
    fn write(&self, path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        let folder = fs::metadata(&self.folder).unwrap();
        chown(path, Some(folder.uid()), Some(folder.gid())).unwrap();
    }

    fn start_on_free_port(&self) -> u16 {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Two test processes at a time begin at different places.
        let start = (std::process::id() % u32::from(PORTS)) as u16;
        for _ in 0..PORTS {
            let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
            let port = FIRST_PORT + offset;
            let before = self.log().len();
            if self.guard().did(&format!("start {port}")) {
                return port;
            }
            // Asking the server itself leaves no moment in which somebody else takes the port.
            let log = self.log().split_off(before);
            assert!(
                log.contains("Address already in use"),
                "PostgreSQL does not start\n{log}"
            );
        }
        panic!("no port from {FIRST_PORT} on is free")
    }

    #[track_caller]
    fn did(&self, command: &str) {
        let did = self.guard().did(command);
        assert!(did, "PostgreSQL, {command:?}\n{}", self.log());
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        // It holds no state that a panic could have left half changed.
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn psql(&self, database: &str, statement: &str) -> Result<String, String> {
        let output = programs::psql()
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .arg(format!("--host={}", self.folder.display()))
            .arg(format!("--port={}", self.port))
            .args(["--username=postgres", "--no-password"])
            .arg(format!("--dbname={database}"))
            .args(["--command", statement])
            .env("PGPASSWORD", &self.superuser_password)
            // A server that is frozen takes connections and does not answer.
            .env("PGCONNECT_TIMEOUT", "10")
            .output()
            .map_err(|error| format!("can't run psql: {error}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout)
                .trim_end()
                .to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

/// A string of SQL or of `postgresql.conf`.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
