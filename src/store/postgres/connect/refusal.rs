//! Why there is no connection, in words that say what to do. What the server said is passed on without anything that could upset a terminal.

use std::{error::Error, fmt, io, time::Duration};

use rustls::CertificateError;
use tokio_postgres::error::{DbError, SqlState};

use super::super::{
    address::{Address, Host, Place, TlsMode},
    password::SecretFileError,
    tls::TlsError,
};

/// Letters of what a server said that are passed on.
const MOST_LETTERS: usize = 300;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Files for TLS.
    #[error("can not connect to PostgreSQL: {0}")]
    Tls(#[from] TlsError),
    /// The password's file.
    #[error("can not connect to PostgreSQL: the password file {0}")]
    Password(#[from] SecretFileError),
    /// What each host said.
    #[error("can not connect to PostgreSQL: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Refusal>),
    /// The runtime is going down.
    #[error("can not connect to PostgreSQL, because this process is ending: {0}")]
    Ended(String),
}

impl ConnectError {
    /// Why each of the hosts can not be used.
    pub fn refusals(&self) -> &[Refusal] {
        match self {
            Self::Refused(refusals) => refusals,
            Self::Tls(_) | Self::Password(_) | Self::Ended(_) => &[],
        }
    }
}

/// Why one host can not be used.
#[derive(Debug)]
pub struct Refusal {
    host: Host,
    user: String,
    database: String,
    tls: TlsMode,
    reason: Reason,
}

/// What went wrong.
#[derive(Debug)]
pub enum Reason {
    /// The name leads nowhere, or could not be looked up in time.
    Unresolved(Option<io::Error>),
    /// Nobody listens there, or there is no way.
    Unreachable(io::Error),
    /// Nothing came in time.
    TimedOut(Duration),
    /// The server speaks no TLS.
    NoTls,
    /// Nobody who is trusted vouches for the server's certificate.
    Untrusted(String),
    /// The certificate is for another name.
    WrongName(String),
    /// There was no agreement on TLS.
    TlsFailed(String),
    /// The server did not like our certificate, or that there was none.
    CertificateRefused(String),
    /// The server wants a password, and there is none.
    NoPassword,
    /// The password is wrong, or there is no such user.
    WrongPassword,
    /// The server does not let this user in from here in this way.
    NotAllowed(String),
    /// There is no such database.
    NoDatabase,
    /// All connections are taken.
    TooMany(String),
    /// The server starts, stops, or recovers.
    NotReady(String),
    /// The server may not write.
    ReadOnly,
    /// The connection ended.
    Lost(String),
    /// What was asked or answered could not be understood.
    Garbled(String),
    /// The server refused for another reason.
    Other {
        /// PostgreSQL's code.
        code: String,
        /// Its words.
        message: String,
    },
}

impl Refusal {
    pub(super) fn new(address: &Address, host: &Host, reason: Reason) -> Self {
        Self {
            host: host.clone(),
            user: address.user.clone(),
            database: address.database.clone(),
            tls: address.tls,
            reason,
        }
    }

    /// What went wrong.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }
}

impl Reason {
    /// Of an error on a connection that stands.
    pub fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(error) = error.as_db_error() {
            return Self::of_server(error);
        }
        if let Some(error) = of_rustls(error) {
            return Self::of_tls(error);
        }
        match error.source() {
            _ if error.is_closed() => Self::closed(),
            Some(source) if source.is::<io::Error>() => {
                Self::Lost(tame(&format!("{error}: {source}")))
            }
            Some(source) => Self::Garbled(tame(&format!("{error}: {source}"))),
            None => Self::Garbled(error.to_string()),
        }
    }

    /// Of an error while a connection was made; `refused_tls`: TLS was required, and it did not come to a handshake.
    pub(super) fn of_start(
        error: &tokio_postgres::Error,
        refused_tls: bool,
        has_password: bool,
    ) -> Self {
        let is_wire = |source: &(dyn Error + 'static)| source.is::<io::Error>();
        match error.source() {
            Some(source) if source.is::<DbError>() || is_wire(source) => Self::of(error),
            Some(_) if refused_tls => Self::NoTls,
            // The library has something to say of its own only when it lacks a password; all else comes from the server or the wire.
            Some(_) if !has_password => Self::NoPassword,
            _ => Self::of(error),
        }
    }

    pub(super) fn closed() -> Self {
        Self::Lost("the server closed the connection".to_owned())
    }

    fn of_server(error: &DbError) -> Self {
        let message = || tame(error.message());
        match error.code() {
            code if *code == SqlState::INVALID_PASSWORD => Self::WrongPassword,
            code if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
                || *code == SqlState::INSUFFICIENT_PRIVILEGE =>
            {
                Self::NotAllowed(message())
            }
            code if *code == SqlState::INVALID_CATALOG_NAME => Self::NoDatabase,
            code if *code == SqlState::TOO_MANY_CONNECTIONS => Self::TooMany(message()),
            code if *code == SqlState::CANNOT_CONNECT_NOW
                || *code == SqlState::ADMIN_SHUTDOWN
                || *code == SqlState::CRASH_SHUTDOWN =>
            {
                Self::NotReady(message())
            }
            code => Self::Other {
                code: code.code().to_owned(),
                message: message(),
            },
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => Self::WrongName(tame(&error.to_string())),
            rustls::Error::InvalidCertificate(_) => Self::Untrusted(tame(&error.to_string())),
            rustls::Error::AlertReceived(_) => Self::CertificateRefused(tame(&error.to_string())),
            _ => Self::TlsFailed(tame(&error.to_string())),
        }
    }

    /// Whether a server could like us better without TLS, or with it.
    pub(super) fn is_about_tls(&self) -> bool {
        matches!(
            self,
            Self::NoTls
                | Self::Untrusted(_)
                | Self::WrongName(_)
                | Self::TlsFailed(_)
                | Self::CertificateRefused(_)
                | Self::NotAllowed(_)
        )
    }
}

/// TLS's own error, wherever it is wrapped.
fn of_rustls(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    let mut next = error.source();
    while let Some(error) = next {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(error);
        }
        next = error.source();
    }
    None
}

/// A line, of bounded length, without what a terminal would obey.
fn tame(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MOST_LETTERS).map(plain).collect()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            user,
            database,
            tls,
            reason,
        } = self;
        write!(f, "{host}: {reason}")?;
        match reason {
            Reason::Unresolved(_) => write!(f, "; check the host's name in the address"),
            Reason::Unreachable(_) => match host.place {
                Place::Network(_) => write!(
                    f,
                    "; check that PostgreSQL runs there, listens on this port, and that no firewall is between"
                ),
                Place::Socket(_) => write!(
                    f,
                    "; check that PostgreSQL runs here, and its unix_socket_directories and port"
                ),
            },
            Reason::TimedOut(_) => write!(
                f,
                "; check host and port, and that no firewall is between, or give it longer with connect_timeout in the address"
            ),
            Reason::NoTls => write!(
                f,
                ", and sslmode={tls} asks for it; set ssl = on in the server's postgresql.conf, or, on a network that you trust, use sslmode=prefer"
            ),
            Reason::Untrusted(_) => write!(
                f,
                "; name the certificate of the authority that signed the server's with sslrootcert=FILE in the address"
            ),
            Reason::WrongName(_) => write!(
                f,
                "; write the host as in the certificate's subjectAltName, or use sslmode=verify-ca if the authority signs for nobody else"
            ),
            Reason::TlsFailed(_) => write!(
                f,
                "; TLS 1.2 or 1.3 is spoken here: check the server's settings and log"
            ),
            Reason::CertificateRefused(_) => write!(
                f,
                "; name a certificate that the server trusts with sslcert=FILE and sslkey=FILE in the address"
            ),
            Reason::NoPassword => write!(
                f,
                " for the user {user}; give one with --store-password-file FILE or PGPASSWORD"
            ),
            Reason::WrongPassword => write!(
                f,
                " for the user {user}; check the password, and that there is such a user (in psql: \\du)"
            ),
            Reason::NotAllowed(_) => write!(
                f,
                "; check the user {user}, the database {database}, and the server's pg_hba.conf, which says who may come from where and how"
            ),
            Reason::NoDatabase => write!(
                f,
                " {database}; make it: createdb --owner {user} {database}"
            ),
            Reason::TooMany(_) => write!(
                f,
                "; raise max_connections there, or use fewer with --store-connections"
            ),
            Reason::NotReady(_) => write!(f, "; wait until it is, or see in its log what keeps it"),
            Reason::ReadOnly => write!(
                f,
                "; name the primary as well: postgres://user@host1,host2/database"
            ),
            Reason::Lost(_) => write!(f, "; the server's log may say why"),
            Reason::Garbled(_) | Reason::Other { .. } => Ok(()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresolved(Some(error)) => write!(f, "the name can not be looked up ({error})"),
            Self::Unresolved(None) => write!(
                f,
                "the name could not be looked up in time, or leads nowhere"
            ),
            Self::Unreachable(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    write!(f, "nobody listens there (connection refused)")
                }
                io::ErrorKind::NotFound => write!(f, "there is no such socket"),
                _ => write!(f, "it can not be reached ({error})"),
            },
            Self::TimedOut(limit) => write!(f, "no connection within {} s", limit.as_secs()),
            Self::NoTls => write!(f, "the server speaks no TLS"),
            Self::Untrusted(why) => write!(f, "the server's certificate is not trusted ({why})"),
            Self::WrongName(why) => {
                write!(f, "the server's certificate is for another host ({why})")
            }
            Self::TlsFailed(why) => write!(f, "no agreement on TLS ({why})"),
            Self::CertificateRefused(why) => write!(
                f,
                "the server refused the client certificate, or that there is none ({why})"
            ),
            Self::NoPassword => write!(f, "the server asks for a password, and there is none"),
            Self::WrongPassword => write!(f, "the server does not accept the password"),
            Self::NotAllowed(message) => write!(f, "the server does not let us in ({message})"),
            Self::NoDatabase => write!(f, "there is no database"),
            Self::TooMany(message) => {
                write!(f, "all connections of the server are taken ({message})")
            }
            Self::NotReady(message) => write!(f, "the server is not ready ({message})"),
            Self::ReadOnly => write!(
                f,
                "the server may not write: it is a standby, or read-only by default_transaction_read_only"
            ),
            Self::Lost(why) => write!(f, "the connection ended ({why})"),
            Self::Garbled(why) => write!(f, "{why}"),
            Self::Other { code, message } => write!(f, "{message} (SQLSTATE {code})"),
        }
    }
}
