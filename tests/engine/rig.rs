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
        Job, LeaseKey, Tenant, Timestamp,
        command::{Changes, Grant, Report, Submission},
        reach::Reach,
        submission::{NewJob, NewTask, check},
        task::Progress,
    },
    engine::{Clock, Engine, EngineSettings, EngineThread, Hello},
    store::{Committed, Store as _, StoreError, Whose, Writer, memory::MemoryStore},
    vault::{DataKeys, MasterKeys, Vault},
};
use tokio::sync::Semaphore;

use crate::tampered::{TamperedStore, Tampering};

/// What a test does to commits.
#[derive(Default)]
pub struct Faults {
    /// Commits that were made.
    pub commits: AtomicUsize,
    /// The next commit fails with this.
    pub next: Mutex<Option<StoreError>>,
    /// How often it was looked for tasks that may be taken.
    pub looks: AtomicUsize,
    /// If set, each commit takes a permit first.
    pub gate: Mutex<Option<Arc<Semaphore>>>,
}

#[async_trait]
impl Tampering for Arc<Faults> {
    fn looks(&mut self, _driver: &str, _whose: Whose<'_>) {
        self.looks.fetch_add(1, Ordering::SeqCst);
    }

    async fn commit(
        &mut self,
        changes: &Changes,
        writer: &mut dyn Writer,
    ) -> Result<Committed, StoreError> {
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        let fault = self.next.lock().unwrap().take();
        if let Some(error) = fault {
            writer.rollback().await;
            return Err(error);
        }
        self.commits.fetch_add(1, Ordering::SeqCst);
        writer.commit(changes).await
    }
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
    rig_with(|_| {}, &Changes::default()).await
}

/// Each read of the feed from the store takes so long.
pub async fn rig_whose_feed_takes(time: Duration) -> Rig {
    rig_with(|store| store.feed_takes = time, &Changes::default()).await
}

/// With a store that is as `adjust` makes it, and holds `stored` before the engine starts.
pub async fn rig_with(adjust: impl FnOnce(&mut TamperedStore), stored: &Changes) -> Rig {
    let faults = Arc::new(Faults::default());
    let store = MemoryStore::new();
    let (info, mut writer) = (store.info().clone(), store.writer().unwrap());
    writer.begin().await.unwrap();
    writer.commit(stored).await.unwrap();
    let mut store = TamperedStore::new(info, store, writer, faults.clone());
    adjust(&mut store);
    let start = Timestamp::from_micros(1_800_000_000_000_000);
    let clock = Arc::new(ManualClock(Mutex::new(start)));
    let settings = EngineSettings::default();
    let (engine, thread) = Engine::start(Arc::new(store), clock.clone(), vault(), settings)
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

pub fn reach(tenant: Option<&str>, drivers: Option<&[&str]>) -> Arc<Reach> {
    let drivers = drivers.map(|drivers| drivers.iter().map(|driver| Arc::from(*driver)).collect());
    Arc::new(Reach {
        tenant: tenant.map(Tenant::new),
        drivers,
    })
}

/// The reach of who may do everything.
pub fn everything() -> Arc<Reach> {
    Arc::new(Reach::everything())
}

/// Keeps secrets with the same key in every engine.
pub fn vault() -> Arc<Vault> {
    Arc::new(Vault::new(&MasterKeys::of([7; 32]), &DataKeys::default()).unwrap())
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
        hidden: checked.hidden,
    }
}

/// A tenant's job with a task for each driver.
pub fn submission_of(tenant: &str, drivers: &[&str]) -> Submission {
    Submission {
        tenant: Tenant::new(tenant),
        ..submission(drivers)
    }
}

impl Rig {
    pub async fn submit(&self, drivers: &[&str]) -> Arc<Job> {
        self.submit_of(&tenant().0, drivers).await
    }

    /// As [`Self::submit`], for a tenant.
    pub async fn submit_of(&self, tenant: &str, drivers: &[&str]) -> Arc<Job> {
        let submission = submission_of(tenant, drivers);
        let mut answers = self.engine.submit(vec![submission]).await.unwrap();
        answers.pop().unwrap().unwrap().0
    }

    /// A lease of the one task that is ready.
    pub async fn lease(&self, driver: &str) -> Grant {
        let drivers = [Arc::from(driver)].into();
        let mut grants = self
            .engine
            .acquire(&Reach::everything(), "worker".into(), drivers, 1, None)
            .await
            .unwrap();
        grants.pop().unwrap()
    }

    pub async fn report(&self, lease: &LeaseKey, report: Report) {
        let mut answers = self
            .engine
            .report(&everything(), vec![(lease.clone(), report)])
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
        self.engine.connected_drivers(&tenant()).await.unwrap();
        self.engine.connected_drivers(&tenant()).await.unwrap();
    }
}

pub fn hello(driver: &str, slots: u32) -> Hello {
    Hello {
        worker: "worker".into(),
        reach: everything(),
        drivers: [Arc::from(driver)].into(),
        slots,
        held: Vec::new(),
    }
}
