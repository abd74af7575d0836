//! The memory store with somebody between it and the server: what a test wants to see, hold up, or spoil. Part of more than one test binary, by its path.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use longhaul::{
    domain::{
        Job, JobKey, Tenant, Timestamp,
        command::{Changes, ReadyTask, RequestKey, RequestRecord},
        counts::Counts,
        event::Event,
        filter::Filter,
        registry::{Record, RecordKey},
    },
    store::{
        Committed, FeedCursor, FeedItem, ListQuery, Locked, Note, Page, Ready, Registry, Scan,
        Scanned, Store, StoreError, StoreInfo, Tail, Tally, Whose, Writer, memory::MemoryStore,
    },
};

/// What is done to what goes through the writer.
#[async_trait]
pub trait Tampering: Send + 'static {
    /// The jobs that were read.
    fn jobs(&mut self, _jobs: &mut [Job]) {}
    /// The queue is asked for.
    fn looks(&mut self, _driver: &str, _whose: Whose<'_>) {}
    /// In the place of the commit; after an error the transaction must be gone.
    async fn commit(
        &mut self,
        changes: &Changes,
        writer: &mut dyn Writer,
    ) -> Result<Committed, StoreError>;
}

/// See the module. Reads past the writer are honest, but may be short.
pub struct TamperedStore {
    info: StoreInfo,
    store: MemoryStore,
    writer: Mutex<Option<Box<dyn Writer>>>,
    /// How many jobs a look examines, whether they match or not.
    pub sight: usize,
    /// Behind the end a list begins anew.
    pub endless: bool,
    /// How long each read of the feed takes.
    pub feed_takes: Duration,
}

struct TamperedWriter<T> {
    writer: Box<dyn Writer>,
    tampering: T,
}

impl TamperedStore {
    /// `writer` is that of `store`.
    pub fn new(
        info: StoreInfo,
        store: MemoryStore,
        writer: Box<dyn Writer>,
        tampering: impl Tampering,
    ) -> Self {
        let writer: Box<dyn Writer> = Box::new(TamperedWriter { writer, tampering });
        Self {
            info,
            store,
            writer: Mutex::new(Some(writer)),
            sight: usize::MAX,
            endless: false,
            feed_takes: Duration::ZERO,
        }
    }

    /// As a store that has many more rows than it looks at for an answer.
    async fn short(&self, query: ListQuery) -> Result<Page, StoreError> {
        let candidates = ListQuery {
            filter: Filter::All,
            limit: self.sight,
            after: query.after.filter(|_| !self.endless),
            ..query.clone()
        };
        let mut page = self.store.list(candidates).await?;
        let matching = page.jobs.into_iter().zip(page.at);
        let mut matching = matching.filter(|(job, _)| query.filter.matches(job));
        (page.jobs, page.at) = matching.by_ref().take(query.limit).unzip();
        if matching.next().is_some() || self.endless {
            page.next = page.at.last().copied();
        }
        Ok(page)
    }
}

#[async_trait]
impl Store for TamperedStore {
    fn info(&self) -> &StoreInfo {
        &self.info
    }
    fn writer(&self) -> Result<Box<dyn Writer>, StoreError> {
        let writer = self.writer.lock().unwrap().take();
        Ok(writer.expect("one engine takes it, once"))
    }
    async fn job(&self, key: &JobKey) -> Result<Option<Arc<Job>>, StoreError> {
        self.store.job(key).await
    }
    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        self.short(query).await
    }
    async fn tally(&self, query: ListQuery) -> Result<Tally, StoreError> {
        let limit = query.limit;
        let page = self.short(query).await?;
        let last = page.at.last().filter(|_| page.at.len() == limit);
        Ok(Tally {
            count: page.jobs.len(),
            next: last.copied().or(page.next),
        })
    }
    async fn events(
        &self,
        key: &JobKey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        self.store.events(key, after, limit).await
    }
    async fn feed(
        &self,
        tenant: &Tenant,
        after: &FeedCursor,
        until: &FeedCursor,
    ) -> Result<(Vec<FeedItem>, FeedCursor), StoreError> {
        if self.feed_takes > Duration::ZERO {
            tokio::time::sleep(self.feed_takes).await;
        }
        self.store.feed(tenant, after, until).await
    }
    async fn end_of_feed(&self) -> Result<FeedCursor, StoreError> {
        self.store.end_of_feed().await
    }
    fn tail(&self) -> Option<Arc<dyn Tail>> {
        None
    }
    async fn counts(&self, tenant: &Tenant) -> Result<Counts, StoreError> {
        self.store.counts(tenant).await
    }
    async fn queued_before(&self, driver: &str, task: &ReadyTask) -> Result<u64, StoreError> {
        self.store.queued_before(driver, task).await
    }
    async fn paused_drivers(&self) -> Result<Vec<(Arc<str>, Timestamp, String)>, StoreError> {
        self.store.paused_drivers().await
    }
    async fn tenants(
        &self,
        after: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        self.store.tenants(after, limit).await
    }
    async fn scan(&self, from: &Scan, limit: usize) -> Result<Scanned, StoreError> {
        self.store.scan(from, limit).await
    }
    async fn note(&self, note: Note) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.note(note).await
    }
    fn registry(&self) -> &dyn Registry {
        self.store.registry()
    }
    async fn others(&self) -> Result<usize, StoreError> {
        self.store.others().await
    }
}

#[async_trait]
impl<T: Tampering> Writer for TamperedWriter<T> {
    async fn begin(&mut self) -> Result<(), StoreError> {
        self.writer.begin().await
    }
    async fn requests(
        &mut self,
        keys: &[RequestKey],
    ) -> Result<Vec<(RequestKey, RequestRecord)>, StoreError> {
        self.writer.requests(keys).await
    }
    async fn records(&mut self, keys: &[RecordKey]) -> Result<Vec<Record>, StoreError> {
        self.writer.records(keys).await
    }
    async fn jobs(&mut self, keys: &[JobKey], locked: Locked) -> Result<Vec<Job>, StoreError> {
        let mut jobs = self.writer.jobs(keys, locked).await?;
        self.tampering.jobs(&mut jobs);
        Ok(jobs)
    }
    async fn ready(
        &mut self,
        driver: &str,
        whose: Whose<'_>,
        limit: usize,
    ) -> Result<Ready, StoreError> {
        self.tampering.looks(driver, whose);
        self.writer.ready(driver, whose, limit).await
    }
    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        self.writer.due(now, limit).await
    }
    async fn next_due(&mut self) -> Result<Option<Timestamp>, StoreError> {
        self.writer.next_due().await
    }
    async fn expired(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        self.writer.expired(now, limit).await
    }
    async fn open_children(
        &mut self,
        parent: &JobKey,
        limit: usize,
    ) -> Result<Vec<JobKey>, StoreError> {
        self.writer.open_children(parent, limit).await
    }
    async fn commit(&mut self, changes: &Changes) -> Result<Committed, StoreError> {
        self.tampering.commit(changes, &mut *self.writer).await
    }
    async fn rollback(&mut self) {
        self.writer.rollback().await;
    }
    async fn tidy(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.writer.tidy(now).await
    }
    async fn set_note(&mut self, note: Note, value: Option<&[u8]>) -> Result<(), StoreError> {
        self.writer.set_note(note, value).await
    }
    fn is_low_on_space(&self) -> bool {
        self.writer.is_low_on_space()
    }
}
