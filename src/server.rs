//! The glue: opens the store, starts the engine, serves every front end on one port, and takes all of it down in order.
//!
//! The drain, in its order: health says NOT_SERVING; no new leases and watches; open streams say that they are draining and end; connections finish
//! what they have begun; the commit loop ends. What is not done after `drain_timeout` is cut off: nothing that was acknowledged is lost by that.

mod connection;
mod descriptors;
mod frames;
mod gather;
mod incoming;
mod intake;
mod keys;
mod listener;
mod routes;
mod seldom;
mod standing;
mod strangers;
mod stream_end;
mod tls;
mod wire;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    api::{Api, Fault, ServerFacts},
    auth::{AuthSettings, Authenticator, KeysError},
    domain::{limits::Policy, registry::Quotas},
    engine::{Clock, Engine, EngineSettings, EngineThread, SteadyClock},
    locale::Language,
    rest::{
        Gateway, GatewayError, GatewaySettings, Hosts,
        routes::{Routes, RoutesError},
    },
    store::{
        Store, StoreError,
        copy::{HalfCopied, half_copied},
        postgres::{self, PostgresSettings},
        sqlite::{OpenError, SqliteStore},
    },
    vault::{DataKeys, MasterKeyFileError, MasterKeySource, MasterKeys, Unwrappable, Vault},
};
use connection::Limits;
use listener::Listener;
use routes::{Front, Health};
use tls::Tls;
pub use tls::{ClientCertificates, TlsError, TlsSettings};

/// Connections that may wait to be accepted, if the system allows as many: after a restart all clients come back at once.
const BACKLOG: u32 = 4_096;

/// Watches and waits of one tenant at a time, unless the server is told otherwise.
pub const DEFAULT_WATCHES: u32 = 100_000;

/// Where a server listens unless it is told otherwise.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);
/// Where the embedded store is, unless it is told otherwise.
pub const DEFAULT_DATA_DIR: &str = "./longhaul-data";

/// What keeps the jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A directory of this machine, with the embedded store in it.
    Embedded(PathBuf),
    /// A database that several nodes may share.
    Postgres(Box<PostgresSettings>),
}

/// What the operator sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeSettings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How to speak TLS; without it whoever stands between can read along.
    pub tls: Option<TlsSettings>,
    /// What keeps the jobs.
    pub storage: Storage,
    /// What protects secrets.
    pub master_key: MasterKeySource,
    /// How long open calls have to end when the server stops.
    pub drain_timeout: Duration,
    /// How long a lease lasts from each report, unless the task says otherwise.
    pub lease_duration: Duration,
    /// How often a worker reports, at least.
    pub heartbeat_interval: Duration,
    /// How long a worker has to stop after a request to cancel.
    pub cancel_grace: Duration,
    /// How many leases of a task may be lost before it fails.
    pub max_lost_leases: u32,
    /// How long a finished job is kept.
    pub retention: Duration,
    /// Connections at once; more are refused.
    pub max_connections: usize,
    /// Calls at once on one connection.
    pub max_streams_per_connection: u32,
    /// Names besides the local ones by which a server on the loopback interface may be called over REST, and whose pages may call it.
    pub allowed_hosts: Vec<String>,
    /// A file, or a folder of files, with routes that turn requests into jobs.
    pub routes: Option<PathBuf>,
    /// Whether calls need credentials, and which.
    pub auth: AuthSettings,
}

impl Default for ServeSettings {
    fn default() -> Self {
        let policy = Policy::default();
        Self {
            listen: DEFAULT_LISTEN,
            tls: None,
            storage: Storage::Embedded(PathBuf::from(DEFAULT_DATA_DIR)),
            master_key: MasterKeySource::default(),
            drain_timeout: Duration::from_secs(25),
            lease_duration: policy.lease_duration,
            heartbeat_interval: Duration::from_secs(10),
            cancel_grace: policy.cancel_grace,
            max_lost_leases: policy.max_lost_leases,
            retention: policy.retention,
            max_connections: 10_000,
            max_streams_per_connection: 200_000,
            allowed_hosts: Vec::new(),
            routes: None,
            auth: AuthSettings {
                quotas: Quotas {
                    watches: Some(DEFAULT_WATCHES),
                    ..Quotas::default()
                },
                ..AuthSettings::default()
            },
        }
    }
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can not be listened on.
    #[error(
        "can not listen on {address}: {source}; is another server running there? choose another address with --listen"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// TLS can not be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store can not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database can not be used.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    /// The store can not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is not whole.
    #[error("this store ({name}) is {mark}")]
    HalfCopied {
        /// What kind of store.
        name: String,
        /// Of what it is a copy.
        mark: Box<HalfCopied>,
    },
    /// The master key can not be read or made.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyFileError),
    /// The master key is another one.
    #[error(transparent)]
    DataKey(#[from] Unwrappable),
    /// The routes have mistakes.
    #[error(transparent)]
    Routes(#[from] RoutesError),
    /// The REST gateway has two things at one path.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The keys of the issuer of tokens can not be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// There is no key yet, and none can be made.
    #[error("the first key could not be made: {0}")]
    FirstKey(String),
    /// The interfaces can not be described; a fault of this build.
    #[error("the server can not describe its own interface: {0}")]
    Reflection(String),
}

impl StartError {
    fn first_key(fault: Fault) -> Self {
        Self::FirstKey(fault.text(Language::English))
    }
}

/// Why the server stopped by itself, or not cleanly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store can not be trusted any more.
    #[error("the server stopped because of its store: {0}")]
    Store(#[from] StoreError),
    /// Calls were cut off.
    #[error(
        "{connections} connections were cut off because they did not end within the drain timeout"
    )]
    CutOff {
        /// How many.
        connections: usize,
    },
}

/// A server that serves.
pub struct RunningServer {
    engine: Engine,
    thread: EngineThread,
    listener: Listener,
    health: Health,
    health_follows: AbortOnDropHandle<()>,
    /// Ends with the server.
    _tls_follows: Option<AbortOnDropHandle<()>>,
    keeper: Keeping,
    /// Ends with the server.
    _keys_follow: AbortOnDropHandle<()>,
    first_key: Option<String>,
    draining: CancellationToken,
    streams: TaskTracker,
    drain_timeout: Duration,
}

/// The task that looks after credentials.
struct Keeping {
    /// Ends it, also when this is dropped.
    stop: DropGuard,
    kept: JoinHandle<()>,
}

/// Starts a server on the store that the settings name: when this returns it serves.
///
/// # Errors
/// The address is taken, or the store can not be opened.
pub async fn start(settings: ServeSettings) -> Result<RunningServer, StartError> {
    let socket = bind(settings.listen)?;
    let tls = speak_tls(&settings).await?;
    let source = settings.master_key.clone();
    let (store, vault): (Arc<dyn Store>, _) = match settings.storage.clone() {
        Storage::Embedded(data_dir) => {
            let open = move || -> Result<_, StartError> {
                let store = SqliteStore::open(&data_dir)?;
                // Behind the lock of the directory: two servers would make two keys.
                Ok((store, vault(&source, Some(&data_dir))?))
            };
            let (store, vault) = tokio::task::spawn_blocking(open)
                .await
                .map_err(|error| StoreError::Failed(format!("opening it panicked: {error}")))??;
            (Arc::new(store), vault)
        }
        Storage::Postgres(database) => {
            let vault = vault(&source, None)?;
            let store = postgres::open(*database, settings.retention).await?;
            (store, vault)
        }
    };
    let limits = limits(&settings);
    serve(socket, tls, settings, limits, store, vault).await
}

/// As [`start`], on a store that is open already; `storage` does not count.
///
/// # Errors
/// The address is taken, or the store can not be read.
pub async fn start_on(
    settings: ServeSettings,
    store: Arc<dyn Store>,
) -> Result<RunningServer, StartError> {
    let socket = bind(settings.listen)?;
    let tls = speak_tls(&settings).await?;
    let vault = vault(&settings.master_key, None)?;
    let limits = limits(&settings);
    serve(socket, tls, settings, limits, store, vault).await
}

/// What connections may do.
fn limits(settings: &ServeSettings) -> Limits {
    Limits {
        max_connections: descriptors::connections(settings.max_connections),
        max_streams: settings.max_streams_per_connection,
        requires_credentials: settings.auth.is_required,
        opening: connection::OPENING,
        balance: frames::BALANCE,
    }
}

/// Before the store is opened: files that can not be used are told of at once.
async fn speak_tls(settings: &ServeSettings) -> Result<Option<(Tls, tls::Watcher)>, TlsError> {
    match settings.tls.clone() {
        Some(settings) => Ok(Some(tls::load(settings).await?)),
        None => Ok(None),
    }
}

/// What keeps secrets, with the key that is in this data directory unless another is given.
fn vault(source: &MasterKeySource, data_dir: Option<&Path>) -> Result<Vault, StartError> {
    let masters = match (source, data_dir) {
        (MasterKeySource::Given(masters), _) => masters.clone(),
        (MasterKeySource::File(file), _) => MasterKeys::read(file)?,
        (MasterKeySource::Own, Some(dir)) => MasterKeys::of_directory(dir)?,
        (MasterKeySource::Own, None) => {
            tracing::info!(
                "there is no master key: jobs with secrets or sensitive fields are refused; --master-key-file names one"
            );
            return Ok(Vault::without_key());
        }
    };
    Ok(Vault::new(&masters, &DataKeys::default())?)
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // As every server: the port of one that has just ended is free.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| StartError::Bind { address, source })
}

async fn serve(
    socket: TcpListener,
    tls: Option<(Tls, tls::Watcher)>,
    settings: ServeSettings,
    limits: Limits,
    store: Arc<dyn Store>,
    vault: Vault,
) -> Result<RunningServer, StartError> {
    let info = store.info();
    // In this order, because whoever copies looks for others when the mark is set: one of both sees the other.
    let tail = store.tail();
    if let Some(tail) = &tail {
        tail.announce(&[]).await?;
    }
    let may_serve = match half_copied(&*store).await {
        Ok(None) => Ok(()),
        Ok(Some(mark)) => Err(StartError::HalfCopied {
            name: info.name.clone(),
            mark: mark.into(),
        }),
        Err(error) => Err(error.into()),
    };
    if let (Err(_), Some(tail)) = (&may_serve, tail)
        && let Err(error) = tail.leave().await
    {
        tracing::debug!(%error, "the others could not be told: they forget this server soon");
    }
    may_serve?;
    let clock: Arc<dyn Clock> = Arc::new(match info.shared_time {
        Some(now) => SteadyClock::at(now, info.newest_time),
        None => SteadyClock::start(info.newest_time),
    });
    let engine_settings = EngineSettings {
        policy: Policy {
            lease_duration: settings.lease_duration,
            cancel_grace: settings.cancel_grace,
            max_lost_leases: settings.max_lost_leases,
            retention: settings.retention,
        },
        heartbeat_interval: settings.heartbeat_interval,
    };
    let vault = Arc::new(vault);
    let secrecy = Arc::clone(&vault);
    let (engine, thread) = Engine::start(store, clock, secrecy, engine_settings).await?;
    if let Err(keys::KeysError::Unwrappable(missing)) = keys::read(&engine, &vault).await {
        return Err(missing.into());
    }
    let follow = keys::follow(engine.clone(), Arc::clone(&vault));
    let keys_follow = AbortOnDropHandle::new(tokio::spawn(follow));
    let draining = CancellationToken::new();
    let streams = TaskTracker::new();
    let facts = ServerFacts {
        drain_timeout: settings.drain_timeout,
    };
    let (authenticator, keeper) =
        Authenticator::start(engine.clone(), settings.auth.clone()).await?;
    let keeper_stopped = CancellationToken::new();
    let kept = tokio::spawn(keeper.run(keeper_stopped.clone()));
    let api = Api::new(engine.clone(), authenticator.clone(), vault, facts);
    let first_key = match settings.auth.is_required {
        true => api.first_key().await.map_err(StartError::first_key)?,
        false => None,
    };
    let (router, health) = routes::build(&api, &draining, &streams)
        .await
        .map_err(|error| StartError::Reflection(error.to_string()))?;
    let reached = engine.reached();
    let health_follows = AbortOnDropHandle::new(tokio::spawn(health.clone().follow(reached)));
    let gateway_settings = GatewaySettings {
        hosts: Hosts::new(settings.listen.ip(), settings.allowed_hosts),
    };
    let routes = match &settings.routes {
        Some(path) => Routes::load(path)?,
        None => Routes::default(),
    };
    let rest = Gateway::new(api, gateway_settings, routes)?;
    let front = Front::new(router, rest);
    let address = settings.listen;
    let (tls, watcher) = tls.unzip();
    let tls_follows = watcher.map(|w| AbortOnDropHandle::new(tokio::spawn(w.follow())));
    let listener = Listener::start(socket, tls, front, authenticator, limits)
        .map_err(|source| StartError::Bind { address, source })?;
    tracing::info!(address = %listener.address(), tls = tls_follows.is_some(), store = engine.store_info().name, "serving");
    Ok(RunningServer {
        engine,
        thread,
        listener,
        health,
        health_follows,
        _tls_follows: tls_follows,
        keeper: Keeping {
            stop: keeper_stopped.drop_guard(),
            kept,
        },
        _keys_follow: keys_follow,
        first_key,
        draining,
        streams,
        drain_timeout: settings.drain_timeout,
    })
}

impl RunningServer {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.address()
    }

    /// The key that was made because there was none, to be shown to whoever started the server; once.
    pub fn take_first_key(&mut self) -> Option<String> {
        self.first_key.take()
    }

    /// Resolves if the server stops by itself, because its store can not be trusted any more.
    pub async fn failed(&mut self) -> ServeError {
        match self.thread.ended().await {
            Err(error) => error.into(),
            Ok(()) => StoreError::Fatal("the commit loop ended unasked".into()).into(),
        }
    }

    /// Takes the server down, in at most the drain timeout.
    ///
    /// # Errors
    /// Connections had to be cut off, or the store failed at the end.
    pub async fn drain(self) -> Result<(), ServeError> {
        tracing::info!(timeout = ?self.drain_timeout, "draining");
        // Lest it says something else at last.
        self.health_follows.abort();
        let _ = self.health_follows.await;
        self.health.not_serving().await;
        self.engine.drain().await;
        self.draining.cancel();
        self.streams.close();
        let cut_off = self.listener.drain(self.drain_timeout).await;
        // Their connections are gone, so they end as soon as they look.
        self.streams.wait().await;
        drop(self.keeper.stop);
        if let Err(error) = self.keeper.kept.await {
            tracing::error!(%error, "the task that looks after credentials panicked");
        }
        self.thread.stop().await?;
        tracing::info!(cut_off, "stopped");
        match cut_off {
            0 => Ok(()),
            connections => Err(ServeError::CutOff { connections }),
        }
    }
}

#[cfg(test)]
mod tests;
