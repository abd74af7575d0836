//! An engine with a store that counts its commits and fails when it is told to.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use longhaul::{
    domain::{
        Job, JobKey, LeaseKey, Tenant, Timestamp,
        command::{Changes, Grant, ReadyTask, Report, RequestKey, RequestRecord, Submission},
        counts::Counts,
        event::Event,
        submission::{NewJob, NewTask, check},
        task::Progress,
    },
    engine::{Clock, Engine, EngineSettings, EngineThread, Hello},
    store::{
        Committed, FeedItem, ListQuery, Page, Store, StoreError, StoreInfo, Writer,
        memory::MemoryStore,
    },
};
use tokio::sync::Semaphore;

/// What a test does to commits.
#[derive(Default)]
pub struct Faults {
    /// Commits that were made.
    pub commits: AtomicUsize,
    /// The next commit fails with this.
    pub next: Mutex<Option<StoreError>>,
    /// If set, each commit takes a permit first.
    pub gate: Mutex<Option<Arc<Semaphore>>>,
}

struct FaultyStore {
    store: MemoryStore,
    faults: Arc<Faults>,
}

struct FaultyWriter {
    writer: Box<dyn Writer>,
    faults: Arc<Faults>,
}

/// A time that a test moves on.
pub struct ManualClock(Mutex<Timestamp>);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

impl ManualClock {
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.after(by);
    }
}

/// An engine with everything that a test wants to hold.
pub struct Rig {
    pub engine: Engine,
    pub thread: EngineThread,
    pub faults: Arc<Faults>,
    pub clock: Arc<ManualClock>,
}

pub async fn rig() -> Rig {
    let faults = Arc::new(Faults::default());
    let store = FaultyStore {
        store: MemoryStore::new(),
        faults: faults.clone(),
    };
    let start = Timestamp::from_micros(1_800_000_000_000_000);
    let clock = Arc::new(ManualClock(Mutex::new(start)));
    let settings = EngineSettings::default();
    let (engine, thread) = Engine::start(Arc::new(store), clock.clone(), settings)
        .await
        .unwrap();
    Rig {
        engine,
        thread,
        faults,
        clock,
    }
}

/// How long a test waits for what should be there at once: it only makes a failure of what would otherwise hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what has to come, and says what it was if it does not.
pub async fn coming<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let came = tokio::time::timeout(PATIENCE, wait).await;
    came.unwrap_or_else(|_| panic!("{what}: nothing came in {PATIENCE:?}"))
}

pub fn tenant() -> Tenant {
    Tenant::new("acme")
}

/// A job with a task for each driver.
pub fn submission(drivers: &[&str]) -> Submission {
    let new = NewJob {
        tasks: drivers
            .iter()
            .map(|driver| NewTask {
                driver: (*driver).to_owned(),
                ..NewTask::default()
            })
            .collect(),
        ..NewJob::default()
    };
    let mut violations = Vec::new();
    let checked = check(new, "job", Timestamp::default(), &mut violations).unwrap();
    Submission {
        tenant: tenant(),
        request_id: String::new(),
        fingerprint: Default::default(),
        spec: checked.spec,
        tasks: checked.tasks,
    }
}

impl Rig {
    pub async fn submit(&self, drivers: &[&str]) -> Arc<Job> {
        let mut answers = self.engine.submit(vec![submission(drivers)]).await.unwrap();
        answers.pop().unwrap().unwrap().0
    }

    /// A lease of the one task that is ready.
    pub async fn lease(&self, driver: &str) -> Grant {
        let drivers = [Arc::from(driver)].into();
        let mut grants = self
            .engine
            .acquire("worker".into(), drivers, 1, None)
            .await
            .unwrap();
        grants.pop().unwrap()
    }

    pub async fn report(&self, lease: &LeaseKey, report: Report) {
        let mut answers = self
            .engine
            .report(vec![(lease.clone(), report)])
            .await
            .unwrap();
        answers.pop().unwrap().unwrap();
    }

    pub async fn progress(&self, lease: &LeaseKey, done: i64) {
        let progress = Some(Progress {
            done,
            ..Progress::default()
        });
        let status_detail = String::new();
        self.report(
            lease,
            Report::Progress {
                progress,
                status_detail,
            },
        )
        .await;
    }

    pub async fn succeed(&self, lease: &LeaseKey) {
        let (result, status_detail) = (None, String::new());
        self.report(
            lease,
            Report::Success {
                result,
                status_detail,
            },
        )
        .await;
    }

    /// Makes the commit loop look at the clock: it does with every message.
    pub async fn tick(&self) {
        self.engine.connected_drivers().await.unwrap();
        self.engine.connected_drivers().await.unwrap();
    }
}

pub fn hello(driver: &str, slots: u32) -> Hello {
    Hello {
        worker: "worker".into(),
        drivers: [Arc::from(driver)].into(),
        slots,
        held: Vec::new(),
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn info(&self) -> &StoreInfo {
        self.store.info()
    }
    fn writer(&self) -> Result<Box<dyn Writer>, StoreError> {
        Ok(Box::new(FaultyWriter {
            writer: self.store.writer()?,
            faults: self.faults.clone(),
        }))
    }
    async fn job(&self, key: &JobKey) -> Result<Option<Arc<Job>>, StoreError> {
        self.store.job(key).await
    }
    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        self.store.list(query).await
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
        after: u64,
        until: u64,
    ) -> Result<(Vec<FeedItem>, u64), StoreError> {
        self.store.feed(tenant, after, until).await
    }
    async fn position(&self) -> Result<u64, StoreError> {
        self.store.position().await
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
}

#[async_trait]
impl Writer for FaultyWriter {
    async fn begin(&mut self) -> Result<(), StoreError> {
        self.writer.begin().await
    }
    async fn requests(
        &mut self,
        keys: &[RequestKey],
    ) -> Result<Vec<(RequestKey, RequestRecord)>, StoreError> {
        self.writer.requests(keys).await
    }
    async fn jobs(&mut self, keys: &[JobKey]) -> Result<Vec<Job>, StoreError> {
        self.writer.jobs(keys).await
    }
    async fn ready(
        &mut self,
        driver: &str,
        served: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<ReadyTask>, StoreError> {
        self.writer.ready(driver, served, limit).await
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
        let gate = self.faults.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        let fault = self.faults.next.lock().unwrap().take();
        if let Some(error) = fault {
            self.writer.rollback().await;
            return Err(error);
        }
        self.faults.commits.fetch_add(1, Ordering::SeqCst);
        self.writer.commit(changes).await
    }
    async fn rollback(&mut self) {
        self.writer.rollback().await;
    }
    async fn tidy(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.writer.tidy(now).await
    }
    fn is_low_on_space(&self) -> bool {
        self.writer.is_low_on_space()
    }
}
