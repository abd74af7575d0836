//! The address of a PostgreSQL database, as libpq writes it: `postgres://user@host:5432/database?sslmode=verify-full`.
//!
//! Invariants: nothing that is meant to be printed of an address holds its password, and no error about one holds any of its text but the names of parameters: a
//! password that was written wrongly may stand where a host is expected. What libpq would guess from the machine, the user and the host, has to be named.

mod url;

#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use percent_encoding::{
    AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_encode, utf8_percent_encode,
};

use super::password::{PasswordSource, SecretFile};

/// PostgreSQL's own.
const DEFAULT_PORT: u16 = 5432;
/// How long one host may take, unless the address says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);
/// What a database's list of sessions calls this program.
const DEFAULT_NAME: &str = "longhaul";
/// What need not be escaped in what is printed.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// And in a value, where a path may be read as such.
const ESCAPED_VALUE: &AsciiSet = &ESCAPED.remove(b'/').remove(b':');

/// Where the database is, and how to get in.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) hosts: Vec<Host>,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) application_name: String,
    pub(super) password: PasswordSource,
    /// How much TLS is asked for.
    pub(super) tls: TlsMode,
    pub(super) root: Option<RootSource>,
    /// A client certificate, and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    pub(super) timeout: Duration,
    pub(super) session: Session,
}

/// One of the places that may be the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) place: Place,
    pub(super) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A name or an IP address.
    Network(String),
    /// The directory of a socket.
    Socket(PathBuf),
}

/// `sslmode`, in the order of what it protects from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the server refuses to do without.
    Allow,
    /// TLS if the server can.
    Prefer,
    /// TLS; the certificate is checked only if `sslrootcert` says against what.
    Require,
    /// TLS with a certificate that `sslrootcert` vouches for, whatever its name.
    VerifyCa,
    /// TLS with a certificate that `sslrootcert` vouches for, in the host's name.
    VerifyFull,
}

/// `sslrootcert`: what vouches for the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RootSource {
    /// What the system trusts.
    System,
    File(PathBuf),
}

/// `target_session_attrs`: which server of several will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    Any,
    ReadWrite,
    Primary,
}

/// Why an address can not be used. Holds nothing of its text but names of parameters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No scheme that is known.
    #[error("this is no address of a PostgreSQL database; write it like {EXAMPLE}")]
    Scheme,
    /// It can not be taken apart.
    #[error(
        "the {0} of the address can not be read; write it like {EXAMPLE}, and in a user or a password / as %2F, @ as %40, : as %3A, ? as %3F and % as %25"
    )]
    Unreadable(&'static str),
    /// Parts that libpq would guess.
    #[error("the address names no {0}; write it like {EXAMPLE}, or with a socket like {SOCKET}")]
    Missing(&'static str),
    /// Something is said twice.
    #[error("the address says {0} twice; leave one out")]
    Twice(String),
    /// Parameters that are not there.
    #[error("the address has parameters that are not known here: {}; there are {}", .0.join(", "), url::PARAMETERS.join(", "))]
    Unknown(Vec<String>),
    /// A parameter that has no such value.
    #[error("{parameter} in the address must be {expected}")]
    Value {
        /// Its name.
        parameter: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// As many ports as hosts, or one.
    #[error("the address has {ports} ports for {hosts} hosts; name one port, or one for each host")]
    Ports {
        /// So many of the one.
        ports: usize,
        /// And of the other.
        hosts: usize,
    },
    /// More hosts than are tried.
    #[error("the address has {0} hosts; at most {MOST_HOSTS} are tried")]
    TooManyHosts(usize),
    /// A check without anything to check against.
    #[error(
        "sslmode={0} needs sslrootcert=FILE, with the certificates that vouch for the server's, or sslrootcert=system for what the system trusts"
    )]
    NoRoot(TlsMode),
    /// Whoever has a name of their own can have a certificate that the system trusts.
    #[error(
        "sslrootcert=system says nothing about who the server is unless sslmode=verify-full; use that, or name a file"
    )]
    SystemRoot,
    /// Half of a pair.
    #[error("a client certificate needs both sslcert=FILE and sslkey=FILE")]
    HalfIdentity,
    /// Two passwords.
    #[error(
        "there is a password in the address and a password file; leave one out, and rather the one in the address"
    )]
    TwoPasswords,
}

/// How an address looks.
const EXAMPLE: &str =
    "postgres://user@db.example.com:5432/database?sslmode=verify-full&sslrootcert=system";
/// And one with a socket.
const SOCKET: &str = "postgres://user@/database?host=/var/run/postgresql";
/// One attempt tries them in turn, so they bound how long it takes.
const MOST_HOSTS: usize = 16;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        url::parse(text)
    }
}

impl Address {
    /// Takes the password from a file, anew for each connection; its first line counts.
    ///
    /// # Errors
    /// The address holds one already.
    pub fn with_password_file(mut self, path: &Path) -> Result<Self, AddressError> {
        match self.password {
            PasswordSource::Given(_) => Err(AddressError::TwoPasswords),
            _ => {
                self.password = PasswordSource::File(SecretFile::new(path));
                Ok(self)
            }
        }
    }

    /// Where no password was named, takes it from `PGPASSWORD`, or looks into the file that `PGPASSFILE` names, or into `~/.pgpass`.
    #[must_use]
    pub fn with_environment(mut self, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        if self.password == PasswordSource::None {
            self.password = PasswordSource::from_environment(variable);
        }
        self
    }

    /// Whether the text of the address held a password.
    pub fn holds_password(&self) -> bool {
        matches!(self.password, PasswordSource::Given(_))
    }

    /// Another database of the same server, for the same user.
    #[must_use]
    pub fn with_database(self, database: &str) -> Self {
        Self {
            database: database.to_owned(),
            ..self
        }
    }

    /// All of the address, and the password if the text of the address held it: for a child's environment, and for nobody to read.
    pub fn to_secret_url(&self) -> String {
        let url = self.to_url();
        let PasswordSource::Given(password) = &self.password else {
            return url;
        };
        let separator = if url.contains('?') { '&' } else { '?' };
        let password = percent_encode(password.as_bytes(), ESCAPED);
        format!("{url}{separator}password={password}")
    }

    /// All of the address but the password, so that it can be read again.
    pub fn to_url(&self) -> String {
        let mut parameters = Vec::new();
        let mut say = |name: &str, value: &str| {
            let value = utf8_percent_encode(value, ESCAPED_VALUE);
            parameters.push(format!("{name}={value}"));
        };
        if self.tls != TlsMode::Prefer {
            say("sslmode", &self.tls.to_string());
        }
        match &self.root {
            Some(RootSource::System) => say("sslrootcert", "system"),
            Some(RootSource::File(path)) => say("sslrootcert", &path.to_string_lossy()),
            None => {}
        }
        if let Some((certificate, key)) = &self.identity {
            say("sslcert", &certificate.to_string_lossy());
            say("sslkey", &key.to_string_lossy());
        }
        if self.timeout != DEFAULT_TIMEOUT {
            say("connect_timeout", &self.timeout.as_secs().to_string());
        }
        match self.session {
            Session::ReadWrite => {}
            Session::Any => say("target_session_attrs", "any"),
            Session::Primary => say("target_session_attrs", "primary"),
        }
        if self.application_name != DEFAULT_NAME {
            say("application_name", &self.application_name);
        }
        match parameters.is_empty() {
            true => self.to_string(),
            false => format!("{self}?{}", parameters.join("&")),
        }
    }
}

/// Safe to print: who, where, and which database.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn escaped(text: &str) -> PercentEncode<'_> {
            utf8_percent_encode(text, ESCAPED)
        }
        write!(f, "postgres://{}@", escaped(&self.user))?;
        for (i, host) in self.hosts.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match &host.place {
                Place::Network(name) if name.contains(':') => write!(f, "{comma}[{name}]")?,
                Place::Network(name) => write!(f, "{comma}{}", escaped(name))?,
                Place::Socket(path) => write!(f, "{comma}{}", escaped(&path.to_string_lossy()))?,
            }
            write!(f, ":{}", host.port)?;
        }
        write!(f, "/{}", escaped(&self.database))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Address({}, password: {:?})",
            self.to_url(),
            self.password
        )
    }
}

/// For people, so a name is not escaped; whoever wrote the settings chose it.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Network(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Place::Network(name) => write!(f, "{name}:{}", self.port),
            Place::Socket(path) => write!(f, "{}", socket_file(path, self.port).display()),
        }
    }
}

/// The file of a socket.
pub(super) fn socket_file(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        })
    }
}
