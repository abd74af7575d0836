//! Reaching the database: one attempt, bounded in time, that ends with a connection or with what a person can do about it.
//!
//! The hosts of the address are tried in turn, beginning with the one that answered last, and each address of a host has the whole of `connect_timeout`.
//! A server that may not write is passed over, so that after a failover the new primary is found. Whether to try again is the caller's matter;
//! [`Pauses`] says how long to wait.

mod refusal;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use deadpool_postgres::ClientWrapper;
use rustix::net::sockopt;
use rustls::ClientConfig;
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    task::spawn_blocking,
    time::timeout,
};
use tokio_postgres::{Client, Config, SimpleQueryMessage, config::SslMode};
use tokio_util::either::Either;

use super::{
    address::{Address, Host, Place, Session, TlsMode, socket_file},
    password::Password,
    tls::{Handshake, TlsStream},
};
pub use refusal::{ConnectError, Reason, Refusal};

/// Addresses that one name may stand for; more are not tried.
const MOST_ADDRESSES: usize = 8;
/// A connection that is silent for this long is asked whether it is still there,
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// then again after each of these,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// and is given up after so many.
const KEEPALIVE_PROBES: u32 = 3;
/// The same for what was sent and is not acknowledged, in milliseconds.
const UNACKNOWLEDGED_MS: u32 = 10_000;
/// The first pause between attempts, at least,
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// and the longest one, at most: jitter adds up to as much again to half of it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// TCP, or a socket of this machine.
pub type Wire = Either<TcpStream, UnixStream>;
/// What has to be polled for the client to get on; of the connection that listens, it brings the notifications.
pub type Connection = tokio_postgres::Connection<Wire, TlsStream<Wire>>;

/// Makes connections to one database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: Address,
    /// The host that answered last.
    first: AtomicUsize,
}

/// One way to speak to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    TlsIfOffered,
    Tls,
}

/// What one attempt needs beside the host.
struct Means {
    tls: Option<Arc<ClientConfig>>,
    password: Option<Password>,
}

impl Connector {
    /// Connects to nothing yet.
    pub fn new(address: Address) -> Self {
        Self(Arc::new(Inner {
            address,
            first: AtomicUsize::new(0),
        }))
    }

    /// Where to.
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// One attempt. The caller drives the connection.
    ///
    /// # Errors
    /// See [`ConnectError`]; each says what to do.
    pub async fn connect(&self) -> Result<(Client, Connection), ConnectError> {
        let Inner { address, first } = &*self.0;
        let count = address.hosts.len();
        let begin = first.load(Ordering::Relaxed);
        let mut refusals = Vec::new();
        for index in (begin..begin + count).map(|index| index % count) {
            let host = &address.hosts[index];
            let means = self.means(host).await?;
            match reach(address, host, &means).await {
                Ok(connected) => {
                    first.store(index, Ordering::Relaxed);
                    return Ok(connected);
                }
                Err(reason) => refusals.push(Refusal::new(address, host, reason)),
            }
        }
        Err(ConnectError::Refused(refusals))
    }

    /// One attempt, with a task that drives the connection and ends with the client.
    ///
    /// # Errors
    /// See [`ConnectError`]; each says what to do.
    pub async fn client(&self) -> Result<ClientWrapper, ConnectError> {
        let (client, connection) = self.connect().await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                let reason = Reason::of(&error);
                tracing::warn!(%reason, "a connection to PostgreSQL was lost");
            }
        });
        Ok(ClientWrapper::new(client, task))
    }

    /// Reads what is on files; see `tls` and `password` for why each time.
    async fn means(&self, host: &Host) -> Result<Means, ConnectError> {
        let (inner, host) = (Arc::clone(&self.0), host.clone());
        let read = move || {
            let address = &inner.address;
            let is_plain =
                address.tls == TlsMode::Disable || matches!(host.place, Place::Socket(_));
            let tls = match is_plain {
                true => None,
                false => Some(Arc::new(super::tls::client_config(address)?)),
            };
            Ok(Means {
                tls,
                password: address.password.get(address, &host)?,
            })
        };
        spawn_blocking(read)
            .await
            .map_err(|error| ConnectError::Ended(error.to_string()))?
    }
}

/// Tries the addresses of a host, each in its own time.
async fn reach(
    address: &Address,
    host: &Host,
    means: &Means,
) -> Result<(Client, Connection), Reason> {
    let limit = address.timeout;
    let too_slow = |_| Err(Reason::TimedOut(limit));
    let targets = match &host.place {
        Place::Socket(_) => vec![None],
        Place::Network(name) => {
            let found = timeout(limit, lookup_host((name.as_str(), host.port)));
            let found = found.await.map_err(|_| Reason::Unresolved(None))?;
            let found = found.map_err(|error| Reason::Unresolved(Some(error)))?;
            found.take(MOST_ADDRESSES).map(Some).collect()
        }
    };
    let mut last = Reason::Unresolved(None);
    for target in targets {
        let attempt = timeout(limit, enter(address, host, target, means));
        match attempt.await.unwrap_or_else(too_slow) {
            Ok(connected) => return Ok(connected),
            Err(reason) => last = reason,
        }
    }
    Err(last)
}

/// Tries the ways that the mode allows, as libpq does: a second one only if the first one was what the server minded.
async fn enter(
    address: &Address,
    host: &Host,
    target: Option<SocketAddr>,
    means: &Means,
) -> Result<(Client, Connection), Reason> {
    let (way, other) = match address.tls {
        _ if means.tls.is_none() => (Way::Plain, None),
        TlsMode::Disable => (Way::Plain, None),
        TlsMode::Allow => (Way::Plain, Some(Way::Tls)),
        TlsMode::Prefer => (Way::TlsIfOffered, Some(Way::Plain)),
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => (Way::Tls, None),
    };
    match (talk(address, host, target, means, way).await, other) {
        (Err(reason), Some(other)) if reason.is_about_tls() => {
            let second = talk(address, host, target, means, other).await;
            // If both were refused, what was wrong with the first way is what can be mended.
            second.map_err(|second| match second.is_about_tls() {
                true => reason,
                false => second,
            })
        }
        (outcome, _) => outcome,
    }
}

/// Connects, in one way.
async fn talk(
    address: &Address,
    host: &Host,
    target: Option<SocketAddr>,
    means: &Means,
    way: Way,
) -> Result<(Client, Connection), Reason> {
    let wire = dial(host, target).await.map_err(Reason::Unreachable)?;
    let mut config = Config::new();
    config
        .user(&address.user)
        .dbname(&address.database)
        .application_name(&address.application_name);
    if let Some(password) = &means.password {
        config.password(password.as_bytes());
    }
    let (name, tls) = match (&host.place, &means.tls) {
        (Place::Network(name), Some(tls)) if way != Way::Plain => (name, Some(tls)),
        (Place::Network(name), _) => (name, None),
        (Place::Socket(_), _) => (&String::new(), None),
    };
    config.ssl_mode(match (way, &tls) {
        (_, None) | (Way::Plain, _) => SslMode::Disable,
        (Way::TlsIfOffered, Some(_)) => SslMode::Prefer,
        (Way::Tls, Some(_)) => SslMode::Require,
    });
    let handshake = Handshake::new(name, tls);
    let begun = handshake.begun();
    let connected = config.connect_raw(wire, handshake).await;
    let (mut client, mut connection) = connected.map_err(|error| {
        let refused_tls = way == Way::Tls && !begun.load(Ordering::Relaxed);
        Reason::of_start(&error, refused_tls, means.password.is_some())
    })?;
    if !writes(address.session, &mut client, &mut connection).await? {
        return Err(Reason::ReadOnly);
    }
    Ok((client, connection))
}

async fn dial(host: &Host, target: Option<SocketAddr>) -> io::Result<Wire> {
    let Some(target) = target else {
        let Place::Socket(directory) = &host.place else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        let socket = UnixStream::connect(socket_file(directory, host.port)).await?;
        return Ok(Either::Right(socket));
    };
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    // A machine that is gone says nothing, and what waits for it would wait for hours.
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS)?;
    Ok(Either::Left(stream))
}

/// Whether the server is of the kind that the address asks for. PostgreSQL says so by itself; some poolers do not pass it on and have to be asked.
async fn writes(
    session: Session,
    client: &mut Client,
    connection: &mut Connection,
) -> Result<bool, Reason> {
    let (is_known, question) = {
        let said = |name| connection.parameter(name).map(|value| value == "on");
        let standby = said("in_hot_standby");
        let read_only = said("default_transaction_read_only");
        match session {
            // A standby is of no use to anybody here, and whoever took one would read from it for ever.
            Session::Any | Session::Primary => (standby, "SELECT pg_catalog.pg_is_in_recovery()"),
            Session::ReadWrite => (
                standby.zip(read_only).map(|(one, other)| one || other),
                "SHOW transaction_read_only",
            ),
        }
    };
    if let Some(is_wrong) = is_known {
        return Ok(!is_wrong);
    }
    let rows = tokio::select! {
        rows = client.simple_query(question) => rows.map_err(|error| Reason::of(&error))?,
        ended = connection => {
            let error = ended.err();
            return Err(error.map_or_else(Reason::closed, |error| Reason::of(&error)));
        }
    };
    let answer = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(matches!(answer, Some("off" | "f")))
}

/// Pauses between attempts: from 100 ms to 5 s, at random so that nodes do not come back all at once.
#[derive(Debug)]
pub struct Pauses(ExponentialBackoff);

impl Default for Pauses {
    fn default() -> Self {
        Self(
            ExponentialBuilder::new()
                .with_min_delay(FIRST_PAUSE)
                .with_max_delay(LONGEST_PAUSE / 2)
                .with_jitter()
                .without_max_times()
                .build(),
        )
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    /// Never ends.
    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next().unwrap_or(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_bounds() {
        let pauses: Vec<_> = Pauses::default().take(20).collect();
        assert!(
            pauses[0] >= FIRST_PAUSE && pauses[0] <= FIRST_PAUSE * 2,
            "{pauses:?}"
        );
        assert!(
            pauses.iter().all(|pause| *pause <= LONGEST_PAUSE),
            "{pauses:?}"
        );
        assert!(pauses[19] >= LONGEST_PAUSE / 2, "{pauses:?}");
    }
}
