//! The settings of `serve`: each is a flag, a `LONGHAUL_…` variable, a key of the TOML file, or its default, in that order.
//!
//! Invariant: a setting is declared once, in [`ServeLayer`], and its flag, variable and key bear the same name.

mod access;
mod file;
mod host;
mod listen;
mod secrets;
mod storage;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgMatches, Args, parser::ValueSource};
use longhaul::{
    auth::{AuthSettings, SignedWith},
    domain::registry::Quotas,
    server::{DEFAULT_DATA_DIR, DEFAULT_WATCHES, ServeSettings},
};
use serde::{Deserialize, Serialize};

use self::{
    access::ChosenTokens,
    host::HostName,
    listen::ListenAddress,
    storage::{Chosen, DEFAULT_CONNECTIONS, FLAGS, StoreText},
    tls::{ChosenTls, ClientCertificate},
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
    /// PEM file with the server's certificate: speak TLS, and nothing else [default: none]
    #[arg(long, value_name = "FILE", env = "LONGHAUL_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the key of the certificate [default: none]
    #[arg(long, value_name = "FILE", env = "LONGHAUL_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// PEM file with the authorities that may sign certificates of clients [default: none]
    #[arg(long, value_name = "FILE", env = "LONGHAUL_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,
    /// Whether clients need a certificate, with --tls-client-ca [default: optional]
    #[arg(long, value_name = "WHETHER", env = "LONGHAUL_TLS_CLIENT_CERTIFICATES")]
    tls_client_certificates: Option<ClientCertificate>,
    /// Require a credential for every call
    #[arg(long, env = "LONGHAUL_AUTH", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    auth: Option<bool>,
    /// Issuer of the JSON web tokens that are credentials too: their `iss` [default: none]
    #[arg(long, value_name = "ISSUER", env = "LONGHAUL_JWT_ISSUER")]
    jwt_issuer: Option<String>,
    /// For whom these tokens have to be made: one of their `aud` [default: longhaul]
    #[arg(long, value_name = "AUDIENCE", env = "LONGHAUL_JWT_AUDIENCE")]
    jwt_audience: Option<String>,
    /// The issuer's public keys as a JSON Web Key Set: a file, or an https:// address that is read again every 5 minutes [default: none]
    #[arg(long, value_name = "FILE|URL", env = "LONGHAUL_JWT_KEYS")]
    jwt_keys: Option<String>,
    /// How tokens may be signed [default: RS256,ES256,EdDSA]
    #[arg(
        long,
        value_name = "NAMES",
        env = "LONGHAUL_JWT_ALGORITHMS",
        value_delimiter = ','
    )]
    jwt_algorithms: Option<Vec<String>>,
    /// The claim of tokens that has the tenant [default: tenant]
    #[arg(long, value_name = "CLAIM", env = "LONGHAUL_JWT_TENANT_CLAIM")]
    jwt_tenant_claim: Option<String>,
    /// The claim of tokens that has the roles [default: roles]
    #[arg(long, value_name = "CLAIM", env = "LONGHAUL_JWT_ROLES_CLAIM")]
    jwt_roles_claim: Option<String>,
    /// Claims that tokens must have besides exp, iss, aud, sub and the tenant [default: none]
    #[arg(
        long,
        value_name = "CLAIMS",
        env = "LONGHAUL_JWT_REQUIRED_CLAIMS",
        value_delimiter = ','
    )]
    jwt_required_claims: Option<Vec<String>>,
    /// Jobs that a tenant may submit in a second to this server, unless it has a quota of its own; 0 is no limit [default: 0]
    #[arg(long, value_name = "N", env = "LONGHAUL_QUOTA_SUBMITS_PER_SECOND")]
    quota_submits_per_second: Option<u32>,
    /// Jobs of a tenant that have not ended, likewise [default: 0]
    #[arg(long, value_name = "N", env = "LONGHAUL_QUOTA_OPEN_JOBS")]
    quota_open_jobs: Option<u64>,
    /// Watches and waits of a tenant at a time, likewise [default: 100000]
    #[arg(long, value_name = "N", env = "LONGHAUL_QUOTA_WATCHES")]
    quota_watches: Option<u32>,
    /// Connections of a tenant at a time, likewise [default: 0]
    #[arg(long, value_name = "N", env = "LONGHAUL_QUOTA_CONNECTIONS")]
    quota_connections: Option<u32>,
    /// File with the master key that protects secrets, and former ones on lines behind it; see docs/security.md [default: one in the data directory]
    #[arg(long, value_name = "FILE", env = "LONGHAUL_MASTER_KEY_FILE")]
    master_key_file: Option<PathBuf>,
    /// Serve other machines although TLS, authentication or both are missing
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
    /// Whether other machines may be served without TLS or without authentication.
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
            tls_cert,
            tls_key,
            tls_client_ca,
            tls_client_certificates,
            auth,
            jwt_issuer,
            jwt_audience,
            jwt_keys,
            jwt_algorithms,
            jwt_tenant_claim,
            jwt_roles_claim,
            jwt_required_claims,
            quota_submits_per_second,
            quota_open_jobs,
            quota_watches,
            quota_connections,
            master_key_file,
            insecure,
            drain_timeout,
            lease_duration,
            heartbeat_interval,
            cancel_grace,
            max_lost_leases,
            retention,
            max_connections,
            max_streams_per_connection,
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
        let storage = storage::storage(chosen)?;
        let chosen = ChosenTls {
            certificate: layers.pick_path("tls_cert", tls_cert, file.tls_cert),
            key: layers.pick_path("tls_key", tls_key, file.tls_key),
            client_ca: layers.pick_path("tls_client_ca", tls_client_ca, file.tls_client_ca),
            client_certificates: layers.pick(
                "tls_client_certificates",
                tls_client_certificates,
                file.tls_client_certificates,
                ClientCertificate::default(),
            ),
        };
        let is_required = layers.pick("auth", auth, file.auth, false);
        let tokens = access::tokens(ChosenTokens {
            issuer: layers.pick("jwt_issuer", jwt_issuer, file.jwt_issuer, String::new()),
            audience: layers.pick(
                "jwt_audience",
                jwt_audience,
                file.jwt_audience,
                "longhaul".to_owned(),
            ),
            keys: layers.pick("jwt_keys", jwt_keys, file.jwt_keys, String::new()),
            algorithms: layers.pick(
                "jwt_algorithms",
                jwt_algorithms,
                file.jwt_algorithms,
                SignedWith::usual().map(str::to_owned).to_vec(),
            ),
            tenant_claim: layers.pick(
                "jwt_tenant_claim",
                jwt_tenant_claim,
                file.jwt_tenant_claim,
                "tenant".to_owned(),
            ),
            roles_claim: layers.pick(
                "jwt_roles_claim",
                jwt_roles_claim,
                file.jwt_roles_claim,
                "roles".to_owned(),
            ),
            required_claims: layers.pick(
                "jwt_required_claims",
                jwt_required_claims,
                file.jwt_required_claims,
                Vec::new(),
            ),
            is_required,
        })?;
        let quotas = Quotas {
            submits_per_second: layers.pick_quota(
                "quota_submits_per_second",
                quota_submits_per_second,
                file.quota_submits_per_second,
                0,
            ),
            open_jobs: layers.pick_quota(
                "quota_open_jobs",
                quota_open_jobs,
                file.quota_open_jobs,
                0,
            ),
            stored_bytes: None,
            watches: layers.pick_quota(
                "quota_watches",
                quota_watches,
                file.quota_watches,
                DEFAULT_WATCHES,
            ),
            connections: layers.pick_quota(
                "quota_connections",
                quota_connections,
                file.quota_connections,
                0,
            ),
        };
        let serve = ServeSettings {
            auth: AuthSettings {
                is_required,
                tokens,
                quotas,
            },
            listen: listen.0,
            tls: tls::tls(chosen)?,
            storage,
            master_key: secrets::master_key(layers.pick(
                "master_key_file",
                master_key_file,
                file.master_key_file,
                PathBuf::new(),
            ))?,
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
            routes: layers.pick_path("routes", routes, file.routes),
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

    /// A path that may be none, which is written as an empty one.
    fn pick_path(
        &mut self,
        key: &'static str,
        top: Option<PathBuf>,
        file: Option<PathBuf>,
    ) -> Option<PathBuf> {
        let path = self.pick(key, top, file, PathBuf::new());
        Some(path).filter(|path| !path.as_os_str().is_empty())
    }

    /// A quota; 0 is none.
    fn pick_quota<T: Serialize + Default + PartialEq>(
        &mut self,
        key: &'static str,
        top: Option<T>,
        file: Option<T>,
        default: T,
    ) -> Option<T> {
        let quota = self.pick(key, top, file, default);
        Some(quota).filter(|quota| *quota != T::default())
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
