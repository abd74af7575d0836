//! The settings of `serve`: each is a flag, a `LONGHAUL_…` variable, a key of the TOML file, or its default, in that order.
//!
//! Invariant: a setting is declared once, in [`ServeLayer`], and its flag, variable and key bear the same name.

mod file;
mod host;
mod listen;
mod storage;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgMatches, Args, parser::ValueSource};
use longhaul::server::{DEFAULT_DATA_DIR, ServeSettings};
use serde::{Deserialize, Serialize};

use self::{
    host::HostName,
    listen::ListenAddress,
    storage::{Chosen, DEFAULT_CONNECTIONS, FLAGS, StoreText},
};
use super::{
    exit::Failure,
    logging::{LogFormat, LogLevel},
    time::HumanDuration,
};

/// One layer of settings, from the command line and its environment, or from the file. What a layer does not say is left to the next one.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeLayer {
    /// IP address, or localhost, and port to listen on; port 0 takes a free one [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR", env = "LONGHAUL_LISTEN")]
    listen: Option<ListenAddress>,
    /// Directory that keeps the jobs; made if it is missing [default: ./longhaul-data]
    #[arg(long, value_name = "DIR", env = "LONGHAUL_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// PostgreSQL database that keeps the jobs instead, such as postgres://user@host/database [default: none]
    #[arg(
        long,
        value_name = "URL",
        env = "LONGHAUL_STORE",
        hide_env_values = true
    )]
    store: Option<StoreText>,
    /// File whose first line is the database's password; nobody else may read it [default: none]
    #[arg(long, value_name = "FILE", env = "LONGHAUL_STORE_PASSWORD_FILE")]
    store_password_file: Option<PathBuf>,
    /// The most connections to the database, beside the one that listens [default: 10]
    #[arg(long, value_name = "N", env = "LONGHAUL_STORE_CONNECTIONS")]
    store_connections: Option<usize>,
    /// Use a database that may lose in a crash what it has acknowledged (fsync or synchronous_commit off)
    #[arg(long, env = "LONGHAUL_UNSAFE_DURABILITY", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    unsafe_durability: Option<bool>,
    /// Serve other machines although there is neither TLS nor authentication
    #[arg(long, env = "LONGHAUL_INSECURE", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    insecure: Option<bool>,
    /// How long open calls have to end when the server stops [default: 25s]
    #[arg(long, value_name = "TIME", env = "LONGHAUL_DRAIN_TIMEOUT")]
    drain_timeout: Option<HumanDuration>,
    /// How long a lease lasts from each report of its worker [default: 30s]
    #[arg(long, value_name = "TIME", env = "LONGHAUL_LEASE_DURATION")]
    lease_duration: Option<HumanDuration>,
    /// How often workers report, at least [default: 10s]
    #[arg(long, value_name = "TIME", env = "LONGHAUL_HEARTBEAT_INTERVAL")]
    heartbeat_interval: Option<HumanDuration>,
    /// How long a worker has to stop a cancelled task [default: 30s]
    #[arg(long, value_name = "TIME", env = "LONGHAUL_CANCEL_GRACE")]
    cancel_grace: Option<HumanDuration>,
    /// How many leases of a task may be lost before it fails [default: 3]
    #[arg(long, value_name = "N", env = "LONGHAUL_MAX_LOST_LEASES")]
    max_lost_leases: Option<u32>,
    /// How long a finished job is kept [default: 7d]
    #[arg(long, value_name = "TIME", env = "LONGHAUL_RETENTION")]
    retention: Option<HumanDuration>,
    /// The most connections at a time [default: 10000]
    #[arg(long, value_name = "N", env = "LONGHAUL_MAX_CONNECTIONS")]
    max_connections: Option<usize>,
    /// The most calls at a time on one connection [default: 200000]
    #[arg(long, value_name = "N", env = "LONGHAUL_MAX_STREAMS_PER_CONNECTION")]
    max_streams_per_connection: Option<u32>,
    /// The most REST requests of one tenant that wait at a time for a change [default: 10000]
    #[arg(long, value_name = "N", env = "LONGHAUL_MAX_WAITS_PER_TENANT")]
    max_waits_per_tenant: Option<usize>,
    /// Names, besides localhost, by which a server on the loopback interface may be called over REST, such as that of a proxy in front of it [default: none]
    #[arg(
        long,
        value_name = "NAMES",
        env = "LONGHAUL_ALLOWED_HOSTS",
        value_delimiter = ','
    )]
    allowed_hosts: Option<Vec<HostName>>,
    /// A file, or a folder of files, with routes that turn HTTP requests into jobs; see docs/routes.md [default: none]
    #[arg(long, value_name = "PATH", env = "LONGHAUL_ROUTES")]
    routes: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or directives such as longhaul::engine=debug [default: info]
    #[arg(long, value_name = "LEVEL", env = "LONGHAUL_LOG")]
    log_level: Option<LogLevel>,
    /// How to log [default: text]
    #[arg(long, value_name = "FORMAT", env = "LONGHAUL_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

/// Settings that apply, and where each came from.
#[derive(Debug)]
pub struct Settings {
    /// For the server.
    pub serve: ServeSettings,
    /// Whether other machines may be served without TLS.
    pub insecure: bool,
    /// Whether the database's password stands in the process list.
    pub shows_password: bool,
    /// What to log.
    pub log_level: LogLevel,
    /// How to log.
    pub log_format: LogFormat,
    sources: Vec<Sourced>,
}

/// A setting's value with where it came from.
#[derive(Debug)]
struct Sourced {
    key: &'static str,
    value: String,
    source: Source,
    /// What was left out of the value.
    without: &'static str,
}

/// Where a value came from.
#[derive(Debug)]
enum Source {
    Default,
    File(PathBuf),
    Variable(String),
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "env {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

impl Settings {
    /// Puts the layers on top of each other. `matches` says which values of the `top` layer are flags and which are variables.
    ///
    /// # Errors
    /// The file can not be read or understood.
    pub fn resolve(
        top: ServeLayer,
        matches: &ArgMatches,
        path: Option<&Path>,
    ) -> Result<Self, Failure> {
        let file = path.map(file::read).transpose()?.unwrap_or_default();
        let mut layers = Layers {
            matches,
            path,
            sources: Vec::new(),
        };
        let ServeLayer {
            listen,
            data_dir,
            store,
            store_password_file,
            store_connections,
            unsafe_durability,
            insecure,
            drain_timeout,
            lease_duration,
            heartbeat_interval,
            cancel_grace,
            max_lost_leases,
            retention,
            max_connections,
            max_streams_per_connection,
            max_waits_per_tenant,
            allowed_hosts,
            routes,
            log_level,
            log_format,
        } = top;
        let default = ServeSettings::default();
        let listen = layers.pick("listen", listen, file.listen, ListenAddress(default.listen));
        let chosen = Chosen {
            data_dir: layers.pick(
                "data_dir",
                data_dir,
                file.data_dir,
                PathBuf::from(DEFAULT_DATA_DIR),
            ),
            store: layers.pick("store", store, file.store, StoreText::default()),
            password_file: layers.pick(
                "store_password_file",
                store_password_file,
                file.store_password_file,
                PathBuf::new(),
            ),
            connections: layers.pick(
                "store_connections",
                store_connections,
                file.store_connections,
                DEFAULT_CONNECTIONS,
            ),
            unsafe_durability: layers.pick(
                "unsafe_durability",
                unsafe_durability,
                file.unsafe_durability,
                false,
            ),
            flags: layers.flags(),
        };
        let holds_password = chosen.store.holds_password();
        let shows_password = holds_password && chosen.flags.contains(&"--store");
        if holds_password {
            layers.leave_out("store", "the password");
        }
        let serve = ServeSettings {
            listen: listen.0,
            storage: storage::storage(chosen)?,
            drain_timeout: layers.pick_time(
                "drain_timeout",
                drain_timeout,
                file.drain_timeout,
                default.drain_timeout,
            ),
            lease_duration: layers.pick_time(
                "lease_duration",
                lease_duration,
                file.lease_duration,
                default.lease_duration,
            ),
            heartbeat_interval: layers.pick_time(
                "heartbeat_interval",
                heartbeat_interval,
                file.heartbeat_interval,
                default.heartbeat_interval,
            ),
            cancel_grace: layers.pick_time(
                "cancel_grace",
                cancel_grace,
                file.cancel_grace,
                default.cancel_grace,
            ),
            max_lost_leases: layers.pick(
                "max_lost_leases",
                max_lost_leases,
                file.max_lost_leases,
                default.max_lost_leases,
            ),
            retention: layers.pick_time("retention", retention, file.retention, default.retention),
            max_connections: layers.pick(
                "max_connections",
                max_connections,
                file.max_connections,
                default.max_connections,
            ),
            max_streams_per_connection: layers.pick(
                "max_streams_per_connection",
                max_streams_per_connection,
                file.max_streams_per_connection,
                default.max_streams_per_connection,
            ),
            max_waits_per_tenant: layers.pick(
                "max_waits_per_tenant",
                max_waits_per_tenant,
                file.max_waits_per_tenant,
                default.max_waits_per_tenant,
            ),
            allowed_hosts: layers
                .pick(
                    "allowed_hosts",
                    allowed_hosts,
                    file.allowed_hosts,
                    Vec::new(),
                )
                .into_iter()
                .map(String::from)
                .collect(),
            routes: Some(layers.pick("routes", routes, file.routes, PathBuf::new()))
                .filter(|path| !path.as_os_str().is_empty()),
        };
        Ok(Self {
            serve,
            shows_password,
            insecure: layers.pick("insecure", insecure, file.insecure, false),
            log_level: layers.pick("log_level", log_level, file.log_level, LogLevel::default()),
            log_format: layers.pick(
                "log_format",
                log_format,
                file.log_format,
                LogFormat::default(),
            ),
            sources: layers.sources,
        })
    }

    /// The settings as lines of a configuration file, each with a comment that says where its value came from.
    pub fn lines(&self) -> Vec<String> {
        let widest = |text: fn(&Sourced) -> usize| self.sources.iter().map(text).max().unwrap_or(0);
        let keys = widest(|sourced| sourced.key.len());
        let values = widest(|sourced| sourced.value.len());
        self.sources
            .iter()
            .map(|sourced| {
                let Sourced {
                    key,
                    value,
                    source,
                    without,
                } = sourced;
                let comma = if without.is_empty() { "" } else { ", without " };
                format!("{key:keys$} = {value:values$}  # {source}{comma}{without}")
            })
            .collect()
    }
}

/// The two upper layers' origins, and what was picked so far.
struct Layers<'a> {
    matches: &'a ArgMatches,
    path: Option<&'a Path>,
    sources: Vec<Sourced>,
}

impl Layers<'_> {
    fn pick<T: Serialize>(
        &mut self,
        key: &'static str,
        top: Option<T>,
        file: Option<T>,
        default: T,
    ) -> T {
        let (value, source) = match (top, file, self.path) {
            (Some(value), _, _) => (value, self.top_source(key)),
            (None, Some(value), Some(path)) => (value, Source::File(path.to_owned())),
            (None, _, _) => (default, Source::Default),
        };
        // Only a number beyond i64 or a path that is not UTF-8 has no form in TOML.
        let printed = toml::Value::try_from(&value)
            .map_or_else(|error| format!("({error})"), |value| value.to_string());
        self.sources.push(Sourced {
            key,
            value: printed,
            source,
            without: "",
        });
        value
    }

    fn pick_time(
        &mut self,
        key: &'static str,
        top: Option<HumanDuration>,
        file: Option<HumanDuration>,
        default: Duration,
    ) -> Duration {
        self.pick(key, top, file, HumanDuration(default)).0
    }

    /// The settings so far that are flags.
    fn flags(&self) -> Vec<&'static str> {
        FLAGS
            .into_iter()
            .filter(|(key, _)| self.matches.value_source(key) == Some(ValueSource::CommandLine))
            .map(|(_, flag)| flag)
            .collect()
    }

    /// Says what is not printed of a value.
    fn leave_out(&mut self, key: &str, what: &'static str) {
        let picked = self.sources.iter_mut().filter(|sourced| sourced.key == key);
        picked.for_each(|sourced| sourced.without = what);
    }

    fn top_source(&self, key: &str) -> Source {
        match self.matches.value_source(key) {
            Some(ValueSource::EnvVariable) => {
                Source::Variable(format!("LONGHAUL_{}", variable(key)))
            }
            _ => Source::Flag(key.replace('_', "-")),
        }
    }
}

/// The variable of a setting, without its prefix. The log level alone has a shorter one, as is the custom.
fn variable(key: &str) -> String {
    match key {
        "log_level" => "LOG".to_owned(),
        _ => key.to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Parser};

    use longhaul::server::Storage;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        layer: ServeLayer,
    }

    fn resolve(line: &[&str], path: Option<&Path>) -> Result<Settings, Failure> {
        let matches = Line::command().get_matches_from([&["longhaul"], line].concat());
        let line = Line::from_arg_matches(&matches).expect("the flags of the test");
        Settings::resolve(line.layer, &matches, path)
    }

    fn file_with(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("a temporary file");
        file
    }

    #[test]
    fn a_flag_counts_more_than_the_file_and_the_file_more_than_the_default() {
        let file = file_with("retention = \"2d\"\nmax_lost_leases = 5\n");
        let settings = resolve(
            &["--retention", "12h", "--listen", "127.0.0.1:0"],
            Some(file.path()),
        )
        .expect("settings");
        assert_eq!(settings.serve.retention, Duration::from_secs(43_200));
        assert_eq!(settings.serve.max_lost_leases, 5);
        assert_eq!(settings.serve.drain_timeout, Duration::from_secs(25));

        let lines = settings.lines();
        let source = |key: &str| {
            let line = lines.iter().find(|line| line.starts_with(key));
            line.and_then(|line| line.split("  # ").nth(1))
        };
        let from_file = format!("file {}", file.path().display());
        assert_eq!(source("retention"), Some("flag --retention"));
        assert_eq!(source("max_lost_leases"), Some(from_file.as_str()));
        assert_eq!(source("drain_timeout"), Some("default"));
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let hosts = ["--allowed-hosts", "a.example,b"];
        let flags = [&["--insecure", "--log-format", "json"], &hosts[..]].concat();
        let printed = resolve(&flags, None).expect("settings").lines().join("\n");
        let again = resolve(&[], Some(file_with(&printed).path())).expect("settings");
        assert!(again.insecure);
        assert_eq!(again.serve.allowed_hosts, ["a.example", "b"]);
        assert_eq!(again.log_format, LogFormat::Json);
        assert_eq!(again.serve.listen, ServeSettings::default().listen);
    }

    #[test]
    fn a_database_is_one_store_and_is_shown_without_its_password() {
        let url = "postgres://u:s3cret@h/d?sslmode=require";
        let settings = resolve(&["--store", url], None).expect("settings");
        assert!(matches!(settings.serve.storage, Storage::Postgres(_)));
        assert!(settings.shows_password);
        let printed = settings.lines().join("\n");
        assert!(
            printed.contains(
                "\"postgres://u@h:5432/d?sslmode=require\"  # flag --store, without the password"
            ),
            "{printed}"
        );
        let quiet = resolve(&["--store", "postgres://u@h/d"], None).expect("settings");
        assert!(!quiet.shows_password);
        let told = format!("{settings:?} {printed}");
        assert!(!told.contains("s3cret"), "{told}");
        let again = resolve(&[], Some(file_with(&printed).path())).expect("settings");
        assert!(matches!(again.serve.storage, Storage::Postgres(_)));
    }

    #[test]
    fn flags_that_name_two_stores_or_none_are_refused() {
        let file = file_with("store = \"postgres://u@h/d\"\ndata_dir = \"/a\"\n");
        let url = ["--store", "postgres://u@h/d"];
        for (line, path, told) in [
            (
                &["--data-dir", "/b"][..],
                Some(file.path()),
                "--data-dir is for",
            ),
            (&["--store-connections", "5"], None, "only with --store"),
            (&["--unsafe-durability"], None, "only with --store"),
            (
                &[&url[..], &["--store-connections", "1"]].concat(),
                None,
                "at least 2",
            ),
            (&["--store", "postgres://h/d"], None, "names no user"),
        ] {
            let failure = resolve(line, path).expect_err(told).to_string();
            assert!(failure.contains(told), "{failure}");
        }
        // A file may say both, for whoever starts it with the embedded store.
        let settings = resolve(&[], Some(file.path())).expect("settings");
        assert!(matches!(settings.serve.storage, Storage::Postgres(_)));
        let settings = resolve(&["--store", "", "--data-dir", "/b"], Some(file.path()));
        let storage = settings.expect("settings").serve.storage;
        assert_eq!(storage, Storage::Embedded("/b".into()));
    }

    #[test]
    fn no_refusal_shows_a_password() {
        let file = file_with("store = \"postgres://u:s3cret@h/d?passwort=1\"\n");
        for (line, path) in [
            (&["--store", "postgres://u:s3cret@h:x/d"][..], None),
            (&[], Some(file.path())),
        ] {
            let failure = format!("{0} {0:?}", resolve(line, path).expect_err("a refusal"));
            assert!(
                failure.contains("store:") && !failure.contains("s3cret"),
                "{failure}"
            );
        }
    }

    #[test]
    fn every_setting_has_a_variable_of_its_name() {
        for arg in Line::command().get_arguments() {
            let key = arg.get_id().as_str();
            let expected = format!("LONGHAUL_{}", variable(key));
            assert_eq!(
                arg.get_env().and_then(|name| name.to_str()),
                Some(expected.as_str())
            );
            assert_eq!(arg.get_long(), Some(key.replace('_', "-").as_str()));
        }
    }
}
