//! Stores that break the promises that the server relies on, to show that the checker notices.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use longhaul::{
    domain::{
        Job, JobKey, Tenant, Timestamp,
        command::{Changes, ReadyTask, RequestKey, RequestRecord},
        counts::Counts,
        event::Event,
    },
    store::{
        Committed, FeedItem, ListQuery, Page, Store, StoreError, StoreInfo, Writer,
        memory::MemoryStore,
    },
};

/// How many commits are answered before they are written.
const UNWRITTEN: usize = 16;

/// How a store lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It answers commits before they are written, so that a crash forgets the last ones.
    AnswersEarly,
    /// It forgets fencing tokens, so that a lease can not be told from an older one of the same attempt.
    ForgetsFencing,
}

/// What survives a crash.
#[derive(Clone, Default)]
pub struct Disk {
    written: Arc<Mutex<Vec<Changes>>>,
    token_key: [u8; 32],
}

impl Disk {
    /// Opens a store with what was written.
    pub async fn open(&self, lie: Lie) -> FaultyStore {
        let model = MemoryStore::new();
        let mut writer = model.writer().unwrap();
        let written = self.written.lock().unwrap().clone();
        for changes in &written {
            writer.begin().await.unwrap();
            writer.commit(changes).await.unwrap();
        }
        let newest_time = written
            .iter()
            .flat_map(|changes| &changes.events)
            .map(|event| event.time)
            .max();
        FaultyStore {
            info: StoreInfo {
                name: format!("a store that lies: {lie:?}"),
                // So that the server asks each time, and can be lied to each time.
                exclusive: false,
                token_key: self.token_key,
                newest_time: newest_time.unwrap_or_default(),
            },
            writer: Mutex::new(Some(FaultyWriter {
                model: writer,
                lie,
                disk: self.clone(),
                unwritten: Vec::new(),
            })),
            model,
        }
    }
}

/// Reads are honest.
pub struct FaultyStore {
    model: MemoryStore,
    info: StoreInfo,
    writer: Mutex<Option<FaultyWriter>>,
}

struct FaultyWriter {
    model: Box<dyn Writer>,
    lie: Lie,
    disk: Disk,
    unwritten: Vec<Changes>,
}

#[async_trait]
impl Store for FaultyStore {
    fn info(&self) -> &StoreInfo {
        &self.info
    }

    fn writer(&self) -> Result<Box<dyn Writer>, StoreError> {
        let writer = self.writer.lock().unwrap().take();
        Ok(Box::new(writer.expect("one engine takes it, once")))
    }

    async fn job(&self, key: &JobKey) -> Result<Option<Arc<Job>>, StoreError> {
        self.model.job(key).await
    }

    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        self.model.list(query).await
    }

    async fn events(
        &self,
        key: &JobKey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        self.model.events(key, after, limit).await
    }

    async fn feed(
        &self,
        tenant: &Tenant,
        after: u64,
        until: u64,
    ) -> Result<(Vec<FeedItem>, u64), StoreError> {
        self.model.feed(tenant, after, until).await
    }

    async fn position(&self) -> Result<u64, StoreError> {
        self.model.position().await
    }

    async fn counts(&self, tenant: &Tenant) -> Result<Counts, StoreError> {
        self.model.counts(tenant).await
    }

    async fn queued_before(&self, driver: &str, task: &ReadyTask) -> Result<u64, StoreError> {
        self.model.queued_before(driver, task).await
    }

    async fn paused_drivers(&self) -> Result<Vec<(Arc<str>, Timestamp, String)>, StoreError> {
        self.model.paused_drivers().await
    }
}

#[async_trait]
impl Writer for FaultyWriter {
    async fn begin(&mut self) -> Result<(), StoreError> {
        self.model.begin().await
    }

    async fn requests(
        &mut self,
        keys: &[RequestKey],
    ) -> Result<Vec<(RequestKey, RequestRecord)>, StoreError> {
        self.model.requests(keys).await
    }

    async fn jobs(&mut self, keys: &[JobKey]) -> Result<Vec<Job>, StoreError> {
        let mut jobs = self.model.jobs(keys).await?;
        if self.lie == Lie::ForgetsFencing {
            for task in jobs.iter_mut().flat_map(|job| &mut job.tasks) {
                // The next lease will bear 1, as each one before did.
                task.fencing_token = u64::from(task.state.is_leased());
            }
        }
        Ok(jobs)
    }

    async fn ready(
        &mut self,
        driver: &str,
        served: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<ReadyTask>, StoreError> {
        self.model.ready(driver, served, limit).await
    }

    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        self.model.due(now, limit).await
    }

    async fn next_due(&mut self) -> Result<Option<Timestamp>, StoreError> {
        self.model.next_due().await
    }

    async fn expired(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        self.model.expired(now, limit).await
    }

    async fn open_children(
        &mut self,
        parent: &JobKey,
        limit: usize,
    ) -> Result<Vec<JobKey>, StoreError> {
        self.model.open_children(parent, limit).await
    }

    async fn commit(&mut self, changes: &Changes) -> Result<Committed, StoreError> {
        self.unwritten.push(changes.clone());
        let keep = match self.lie {
            Lie::AnswersEarly => UNWRITTEN,
            Lie::ForgetsFencing => 0,
        };
        if self.unwritten.len() > keep {
            self.disk
                .written
                .lock()
                .unwrap()
                .append(&mut self.unwritten);
        }
        self.model.commit(changes).await
    }

    async fn rollback(&mut self) {
        self.model.rollback().await;
    }

    async fn tidy(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.model.tidy(now).await
    }

    fn is_low_on_space(&self) -> bool {
        self.model.is_low_on_space()
    }
}
