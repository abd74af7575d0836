//! The embedded store: SQLite in a data directory of its own.
//!
//! One connection writes, a few read; commits are on stable storage when they are answered (write-ahead log, `synchronous=FULL`). The tables are in
//! `migrations/`, how their columns are filled is in `rows`.
//!
//! Invariants: a server holds the directory's lock for as long as any connection is open; transactions that write begin IMMEDIATE; indexes that
//! change with a job cover open work only, so that history costs the queue nothing; nothing at open or in an idle moment takes longer with more jobs.
//!
//! **What a submitted job writes**: a row in `jobs`, one in `jobs_open`, one in `jobs_timer` if it has a timer; for each task a row in `tasks` and
//! one in `tasks_ready` if it is ready; an event with its row in `events_of_job`; a row in `request_ids` if it has a request id; and once for the whole
//! commit the `counters` that changed. A payload of more than 1 KiB is a row in `documents`.

mod dialect;
mod fault;
mod list;
mod open;
#[cfg(test)]
mod plans;
mod read;
mod readers;
mod registry;
mod scan;
mod space;
mod write;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Semaphore;

use open::DirLock;
pub use open::OpenError;
use readers::{READERS, Readers};
use space::Space;
use writer::SqliteWriter;

use super::{
    FeedCursor, FeedItem, ListQuery, Note, Page, Registry, Scan, Scanned, Store, StoreError,
    StoreInfo, Tail, Tally, Writer, rows::number,
};
use crate::domain::{
    Job, JobKey, Tenant, Timestamp, command::ReadyTask, counts::Counts, event::Event,
};

/// See the module.
#[derive(Debug)]
pub struct SqliteStore {
    info: StoreInfo,
    /// `None` once it was taken.
    writer: Mutex<Option<Connection>>,
    readers: Arc<Readers>,
    // Last: the directory's lock must outlive every connection.
    shared: Arc<Shared>,
}

/// What the store and its writer both keep alive.
#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    /// One for each reader that may read at a time; the writer takes all of them when it needs a moment without any.
    turns: Arc<Semaphore>,
    _lock: DirLock,
}

impl SqliteStore {
    /// Whether there is a database in the directory, of whoever's making.
    pub fn exists(dir: &Path) -> bool {
        dir.join(open::DATABASE_FILE).exists()
    }

    /// Opens the data directory, and makes it and the database if they are not there.
    ///
    /// # Errors
    /// See [`OpenError`]; each says what to do.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let lock = open::lock(dir)?;
        let connection = open::database(dir)?;
        let explain = |error| open::explain(dir, &dir.join(open::DATABASE_FILE), error);
        let info = StoreInfo {
            name: format!("sqlite {}", rusqlite::version()),
            exclusive: true,
            token_key: made_once(&connection, Note::TokenKey.name()).map_err(explain)?,
            feed_id: made_once(&connection, "feed_id").map_err(explain)?,
            newest_time: read::newest_time(&connection).map_err(explain)?,
            shared_time: None,
        };
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            turns: Arc::new(Semaphore::new(READERS)),
            _lock: lock,
        });
        Ok(Self {
            info,
            writer: Mutex::new(Some(connection)),
            readers: Arc::new(Readers::new(Arc::clone(&shared))),
            shared,
        })
    }
}

/// Random bytes that are made when they are first asked for, and stay.
fn made_once<const N: usize>(connection: &Connection, key: &str) -> rusqlite::Result<[u8; N]> {
    let stored = connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
            row.get(0)
        })
        .optional()?;
    if let Some(value) = stored {
        return Ok(value);
    }
    let mut value = [0; N];
    aws_lc_rs::rand::fill(&mut value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?1, ?2)",
        params![key, value],
    )?;
    Ok(value)
}

#[async_trait]
impl Store for SqliteStore {
    fn info(&self) -> &StoreInfo {
        &self.info
    }

    fn writer(&self) -> Result<Box<dyn Writer>, StoreError> {
        let connection = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| StoreError::Failed("the writer was taken before".into()))?;
        let space = Space::new(&self.shared.dir);
        let writer = SqliteWriter::new(connection, Arc::clone(&self.shared), space)?;
        Ok(Box::new(writer))
    }

    async fn job(&self, key: &JobKey) -> Result<Option<Arc<Job>>, StoreError> {
        let key = key.clone();
        self.readers
            .read(move |moment| Ok(read::job(moment, &key)?.map(Arc::new)))
            .await
    }

    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        self.readers
            .read(move |moment| list::page(moment, &query))
            .await
    }

    async fn tally(&self, query: ListQuery) -> Result<Tally, StoreError> {
        self.readers
            .read(move |moment| list::tally(moment, &query))
            .await
    }

    async fn events(
        &self,
        key: &JobKey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let key = key.clone();
        self.readers
            .read(move |moment| read::events(moment, &key, number(after), limit))
            .await
    }

    async fn feed(
        &self,
        tenant: &Tenant,
        after: &FeedCursor,
        until: &FeedCursor,
    ) -> Result<(Vec<FeedItem>, FeedCursor), StoreError> {
        let (tenant, after, until) = (tenant.clone(), after.clone(), until.clone());
        self.readers
            .read(move |moment| list::feed(moment, &tenant, &after, &until))
            .await
    }

    async fn end_of_feed(&self) -> Result<FeedCursor, StoreError> {
        let position = self.readers.read(read::position).await?;
        Ok(FeedCursor::at(position))
    }

    fn tail(&self) -> Option<Arc<dyn Tail>> {
        None
    }

    async fn counts(&self, tenant: &Tenant) -> Result<Counts, StoreError> {
        let tenant = tenant.clone();
        self.readers
            .read(move |moment| read::counts(moment, &tenant))
            .await
    }

    async fn queued_before(&self, driver: &str, task: &ReadyTask) -> Result<u64, StoreError> {
        let (driver, task) = (driver.to_owned(), task.clone());
        self.readers
            .read(move |moment| read::queued_before(moment, &driver, &task))
            .await
    }

    async fn paused_drivers(&self) -> Result<Vec<(Arc<str>, Timestamp, String)>, StoreError> {
        self.readers.read(read::paused_drivers).await
    }

    async fn tenants(
        &self,
        after: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        let after = after.cloned();
        self.readers
            .read(move |moment| scan::tenants(moment, after, limit))
            .await
    }

    async fn scan(&self, from: &Scan, limit: usize) -> Result<Scanned, StoreError> {
        let from = from.clone();
        self.readers
            .read(move |moment| scan::page(moment, &from, limit))
            .await
    }

    async fn note(&self, note: Note) -> Result<Option<Vec<u8>>, StoreError> {
        self.readers
            .read(move |moment| scan::note(moment, note))
            .await
    }

    fn registry(&self) -> &dyn Registry {
        self
    }

    async fn others(&self) -> Result<usize, StoreError> {
        Ok(0)
    }
}
