//! The cluster store: PostgreSQL, shared by equal nodes.
//!
//! One connection writes, a few read, one listens. Each node decides for itself; what keeps them apart is in the rows: a transaction locks the jobs that it
//! is about, changes them only as it has read them, and leaves to others what others are at. What one node has committed the others learn from the feed.
//!
//! The tables are in `migrations/`, how their columns are filled is in `rows`. Invariants: no rule is in SQL; no transaction waits for anything but rows;
//! nothing depends on what a session remembers, so that poolers can stand between; the server's words never bring a password into a log.

pub mod address;
#[cfg(test)]
#[path = "../../tests/postgres/cluster.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod cluster;
mod columns;
pub mod connect;
mod dialect;
mod fault;
mod feed;
mod leftovers;
mod line;
mod list;
#[cfg(test)]
mod loads;
mod lock;
mod news;
mod nodes;
mod open;
mod partitions;
mod password;
#[cfg(test)]
mod plans;
mod queue;
mod read;
mod readers;
mod registry;
mod scan;
mod session;
mod tail;
mod tls;
mod upkeep;
mod write;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use futures_util::future::BoxFuture;
use tokio_util::task::AbortOnDropHandle;

use address::Address;
use connect::Connector;
use news::News;
pub use open::OpenError;
use open::Tables;
pub use password::SecretFileError;
use readers::Readers;
use tail::FeedTail;
pub use tls::TlsError;
use writer::PostgresWriter;

use super::{
    FeedCursor, FeedItem, ListQuery, Note, Page, Registry, Scan, Scanned, Store, StoreError,
    StoreInfo, Tail, Tally, Writer,
};
use crate::domain::{
    Job, JobKey, Tenant, Timestamp, command::ReadyTask, counts::Counts, event::Event,
    limits::Policy,
};

/// What the operator sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresSettings {
    /// Where the database is, and how to get in.
    pub address: Address,
    /// Connections that this node uses at the most, beside the one that listens.
    pub connections: usize,
    /// Whether a server may be used that loses what it has acknowledged when it crashes.
    pub unsafe_durability: bool,
}

/// Ranges of jobs that there are about at a time. Each is dropped as a whole, so some jobs stay longer than they must; and each makes plans longer.
const RANGES: u32 = 8;
/// The narrowest range.
const LEAST_WIDTH: Duration = Duration::from_secs(600);

/// See the module.
pub struct PostgresStore {
    info: StoreInfo,
    shared: Arc<Shared>,
    is_written: AtomicBool,
    /// End with the store.
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// What the store, its writer and its tail all use.
struct Shared {
    connector: Connector,
    readers: Arc<Readers>,
    news: Arc<News>,
    /// Of the ranges that jobs are cut into.
    width: Duration,
    unsafe_durability: bool,
}

/// What a database is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be served, with all that has to be done meanwhile; finished jobs stay for so long.
    Serve {
        /// How long.
        retention: Duration,
    },
    /// To be filled with what was elsewhere. Tables are made, and ranges as jobs need them; nothing is taken away.
    Fill,
    /// To be read: a database without tables is refused, and an older version's are brought up to date.
    Read,
    /// To be looked at: nothing is changed.
    Look,
}

impl Purpose {
    fn tables(self) -> Tables {
        match self {
            Self::Serve { .. } | Self::Fill => Tables::Make,
            Self::Read => Tables::Upgrade,
            Self::Look => Tables::Leave,
        }
    }
}

/// Opens the store; `retention` is how long finished jobs stay.
///
/// # Errors
/// See [`OpenError`]; each says what to do.
pub async fn open(
    settings: PostgresSettings,
    retention: Duration,
) -> Result<Arc<dyn Store>, OpenError> {
    Ok(Arc::new(PostgresStore::open(settings, retention).await?))
}

/// Opens the store for something.
///
/// # Errors
/// See [`OpenError`]; each says what to do.
pub async fn open_to(
    purpose: Purpose,
    settings: PostgresSettings,
) -> Result<Arc<dyn Store>, OpenError> {
    Ok(Arc::new(PostgresStore::open_to(purpose, settings).await?))
}

impl PostgresStore {
    /// Opens the database, and makes the tables if they are not there; `retention` is how long finished jobs stay.
    ///
    /// # Errors
    /// See [`OpenError`]; each says what to do.
    pub async fn open(settings: PostgresSettings, retention: Duration) -> Result<Self, OpenError> {
        Self::open_to(Purpose::Serve { retention }, settings).await
    }

    /// Opens the database for something.
    ///
    /// # Errors
    /// See [`OpenError`]; each says what to do.
    pub async fn open_to(purpose: Purpose, settings: PostgresSettings) -> Result<Self, OpenError> {
        let (retention, is_served) = match purpose {
            Purpose::Serve { retention } => (retention, true),
            Purpose::Fill | Purpose::Read | Purpose::Look => (Policy::default().retention, false),
        };
        let width = (retention / RANGES).max(LEAST_WIDTH);
        let ranges = is_served.then_some(width);
        let PostgresSettings {
            address,
            connections,
            unsafe_durability,
        } = settings;
        let connector = Connector::new(address);
        let opened = open::open(&connector, unsafe_durability, purpose.tables(), ranges).await?;
        let info = StoreInfo {
            name: format!("postgres {}", opened.server),
            exclusive: false,
            token_key: opened.token_key,
            feed_id: opened.feed_id,
            newest_time: opened.newest_time,
            shared_time: Some(opened.now),
        };
        // One of them writes.
        let readers = connections.saturating_sub(1).max(1);
        let shared = Arc::new(Shared {
            readers: Arc::new(Readers::new(connector.clone(), readers)),
            news: Arc::new(News::new()),
            width,
            unsafe_durability,
            connector,
        });
        let (news, readers) = (|| Arc::clone(&shared.news), || Arc::clone(&shared.readers));
        let tasks = match is_served {
            true => vec![
                tokio::spawn(news::tell(news(), readers())),
                tokio::spawn(news::listen(news(), shared.connector.clone())),
                tokio::spawn(upkeep::run(readers(), retention, width)),
            ],
            false => Vec::new(),
        };
        Ok(Self {
            info,
            _tasks: tasks.into_iter().map(AbortOnDropHandle::new).collect(),
            shared,
            is_written: AtomicBool::new(false),
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl for<'a> FnOnce(&'a ClientWrapper) -> BoxFuture<'a, Result<T, StoreError>>
        + Send
        + 'static,
    ) -> Result<T, StoreError> {
        self.shared.readers.read(read).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn info(&self) -> &StoreInfo {
        &self.info
    }

    fn writer(&self) -> Result<Box<dyn Writer>, StoreError> {
        if self.is_written.swap(true, Ordering::Relaxed) {
            return Err(StoreError::Failed("the writer was taken before".into()));
        }
        Ok(Box::new(PostgresWriter::new(Arc::clone(&self.shared))))
    }

    async fn job(&self, key: &JobKey) -> Result<Option<Arc<Job>>, StoreError> {
        let keys = [key.clone()];
        let jobs = self
            .read(move |client| Box::pin(async move { read::jobs(client, &keys).await }))
            .await?;
        Ok(jobs.into_iter().next().map(Arc::new))
    }

    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        self.read(move |client| Box::pin(async move { list::page(client, &query).await }))
            .await
    }

    async fn tally(&self, query: ListQuery) -> Result<Tally, StoreError> {
        self.read(move |client| Box::pin(async move { list::tally(client, &query).await }))
            .await
    }

    async fn events(
        &self,
        key: &JobKey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let key = key.clone();
        self.read(move |client| {
            Box::pin(async move { read::events(client, &key, after, limit).await })
        })
        .await
    }

    async fn feed(
        &self,
        tenant: &Tenant,
        after: &FeedCursor,
        until: &FeedCursor,
    ) -> Result<(Vec<FeedItem>, FeedCursor), StoreError> {
        let (tenant, after, until) = (tenant.clone(), after.clone(), until.clone());
        self.read(move |client| {
            Box::pin(async move { feed::items(client, &tenant, &after, &until).await })
        })
        .await
    }

    async fn end_of_feed(&self) -> Result<FeedCursor, StoreError> {
        self.read(|client| Box::pin(feed::end(client))).await
    }

    fn tail(&self) -> Option<Arc<dyn Tail>> {
        Some(Arc::new(FeedTail {
            shared: Arc::clone(&self.shared),
        }))
    }

    async fn counts(&self, tenant: &Tenant) -> Result<Counts, StoreError> {
        let tenant = tenant.clone();
        self.read(move |client| Box::pin(async move { read::counts(client, &tenant).await }))
            .await
    }

    async fn queued_before(&self, driver: &str, task: &ReadyTask) -> Result<u64, StoreError> {
        let (driver, task) = (driver.to_owned(), task.clone());
        self.read(move |client| {
            Box::pin(async move { queue::queued_before(client, &driver, &task).await })
        })
        .await
    }

    async fn paused_drivers(&self) -> Result<Vec<(Arc<str>, Timestamp, String)>, StoreError> {
        self.read(|client| Box::pin(read::paused_drivers(client)))
            .await
    }

    async fn tenants(
        &self,
        after: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        let after = after.cloned();
        self.read(move |client| Box::pin(scan::tenants(client, after, limit)))
            .await
    }

    async fn scan(&self, from: &Scan, limit: usize) -> Result<Scanned, StoreError> {
        let from = from.clone();
        self.read(move |client| Box::pin(async move { scan::page(client, &from, limit).await }))
            .await
    }

    async fn note(&self, note: Note) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(move |client| Box::pin(scan::note(client, note)))
            .await
    }

    fn registry(&self) -> &dyn Registry {
        self
    }

    async fn others(&self) -> Result<usize, StoreError> {
        let node = self.shared.news.node();
        self.read(move |client| Box::pin(nodes::count(client, node)))
            .await
    }
}
