//! A store to try, and jobs to put into it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use longhaul::{
    domain::{
        Document, Job, JobId, JobKey, JobSpec, JobState, Status, Task, TaskId, TaskSpec, TaskState,
        Tenant, Timestamp,
        command::{Changes, JobWrite, ReadyTask, WriteKind},
        event::{Event, EventKind},
        filter::Filter,
        job::{ChildCounts, FailurePolicy},
        secrecy::{Hidden, HiddenTasks},
        task::{RetryPolicy, Timeouts},
    },
    store::{
        Committed, FeedCursor, FeedItem, ListOrder, ListQuery, Ready, Store, Whose, Writer,
        memory::MemoryStore,
        postgres::{PostgresSettings, PostgresStore},
        sqlite::SqliteStore,
    },
    vault::{DataKeys, MasterKeys, Vault},
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::postgres::{Cluster, Database, Options};

/// A store that has just been opened, and where it is.
pub struct Opened {
    pub store: Arc<dyn Store>,
    // Last: it goes when the store has gone.
    pub place: Place,
}

/// Where a store is.
pub enum Place {
    Nowhere,
    Directory { _dir: TempDir },
    Database { _database: Arc<Database> },
}

impl Opened {
    pub fn in_memory() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            place: Place::Nowhere,
        }
    }

    pub fn in_sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            store: Arc::new(SqliteStore::open(dir.path()).unwrap()),
            place: Place::Directory { _dir: dir },
        }
    }

    /// One node of several on a database.
    pub async fn in_postgres_at(database: &Arc<Database>) -> Self {
        let store = PostgresStore::open(settings(database), RETENTION)
            .await
            .unwrap();
        let _database = Arc::clone(database);
        Self {
            store: Arc::new(store),
            place: Place::Database { _database },
        }
    }
}

/// A store with its writer.
pub struct Stored {
    pub store: Arc<dyn Store>,
    pub writer: Box<dyn Writer>,
    /// Nobody else writes to it, and positions follow without gap.
    pub exclusive: bool,
    // Last: it goes when the store has gone.
    _place: Place,
}

impl Stored {
    pub fn in_memory() -> Self {
        Self::new(Opened::in_memory())
    }

    pub fn in_sqlite() -> Self {
        Self::new(Opened::in_sqlite())
    }

    pub async fn in_postgres() -> Self {
        Self::in_postgres_at(&Arc::new(database())).await
    }

    /// One node of several on a database.
    pub async fn in_postgres_at(database: &Arc<Database>) -> Self {
        Self::new(Opened::in_postgres_at(database).await)
    }

    /// A database in a directory that stays when the store is closed.
    pub fn in_sqlite_at(dir: &Path) -> Self {
        Self::new(Opened {
            store: Arc::new(SqliteStore::open(dir).unwrap()),
            place: Place::Nowhere,
        })
    }

    fn new(Opened { store, place }: Opened) -> Self {
        let writer = store.writer().unwrap();
        Self {
            exclusive: store.info().exclusive,
            store,
            writer,
            _place: place,
        }
    }

    pub async fn commit(&mut self, changes: Changes) -> Committed {
        self.writer.begin().await.unwrap();
        self.writer.commit(&changes).await.unwrap()
    }

    /// The tasks of a driver that may be taken.
    pub async fn ready(&mut self, served: Option<&Tenant>, limit: usize) -> Vec<ReadyTask> {
        self.ready_of(Whose::All { served }, limit).await.tasks
    }

    /// Those of a driver that these may take.
    pub async fn ready_of(&mut self, whose: Whose<'_>, limit: usize) -> Ready {
        self.writer.begin().await.unwrap();
        let ready = self.writer.ready("ansible", whose, limit).await.unwrap();
        self.writer.rollback().await;
        ready
    }

    /// Where the feed ends now.
    pub async fn mark(&self) -> FeedCursor {
        self.store.end_of_feed().await.unwrap()
    }

    /// What a tenant's followers are told between two marks, all of which must have been looked at.
    pub async fn feed(
        &self,
        tenant: &str,
        after: &FeedCursor,
        until: &FeedCursor,
    ) -> Vec<FeedItem> {
        let tenant = Tenant::new(tenant);
        let (items, reached) = self.store.feed(&tenant, after, until).await.unwrap();
        assert_eq!(reached, *until);
        items
    }

    /// Stores a new job with the event that says so.
    pub async fn submit(&mut self, job: &Job) -> Committed {
        self.commit(submitted(job)).await
    }

    /// Stores a job that changed, all tasks included, with the event that made its revision.
    pub async fn change(&mut self, job: &Job, kind: EventKind) -> Committed {
        let tasks = (0..u32::try_from(job.tasks.len()).unwrap()).collect();
        let how = WriteKind::Update { job: true, tasks };
        self.commit(Changes {
            jobs: vec![write(job, how)],
            events: vec![event(job, kind)],
            ..Changes::default()
        })
        .await
    }

    /// Removes a job, with the event that says so at this time.
    pub async fn remove(&mut self, job: &Job, at: Timestamp) -> Committed {
        let mut tombstone = event(job, EventKind::JobDeleted);
        tombstone.revision += 1;
        tombstone.time = at;
        self.commit(Changes {
            jobs: vec![write(job, WriteKind::Delete)],
            events: vec![tombstone],
            ..Changes::default()
        })
        .await
    }

    pub async fn job(&self, key: &JobKey) -> Option<Job> {
        let job = self.store.job(key).await.unwrap();
        job.map(|job| Job::clone(&job))
    }
}

/// A database for a test, on a server that does not wait for the disk: what the disk is for is tested elsewhere.
pub fn database() -> Database {
    static CLUSTER: OnceLock<Arc<Cluster>> = OnceLock::new();
    let options = || {
        let options = Options::default().max_connections(500);
        options.set("fsync", "off").set("autovacuum", "off")
    };
    CLUSTER.get_or_init(|| Cluster::start(options())).database()
}

/// How long finished jobs stay.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// How to open a database for a test.
pub fn settings(database: &Database) -> PostgresSettings {
    PostgresSettings {
        address: database.url().parse().unwrap(),
        connections: 3,
        unsafe_durability: true,
    }
}

pub fn write(job: &Job, how: WriteKind) -> JobWrite {
    JobWrite {
        job: Arc::new(job.clone()),
        how,
    }
}

pub fn submitted(job: &Job) -> Changes {
    Changes {
        jobs: vec![write(job, WriteKind::Insert)],
        events: vec![event(job, EventKind::JobSubmitted)],
        ..Changes::default()
    }
}

/// An event that says that the job came to be as it is.
pub fn event(job: &Job, kind: EventKind) -> Event {
    Event {
        tenant: job.tenant.clone(),
        job: job.id,
        revision: job.revision,
        time: job.update_time,
        kind,
        task: None,
        before: (kind != EventKind::JobSubmitted).then_some((JobState::Queued, Status::Normal)),
        after: (job.state, job.status),
        detail: String::new(),
    }
}

/// A time, in seconds since the tests began.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + second * 1_000_000)
}

/// The `n`th id, as a job or task of that age would have.
pub fn id(n: u64) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(1_700_000_000_000 + n, &[7; 10]).into_uuid()
}

/// A plain job of one task.
pub fn job(tenant: &str, n: u64) -> Job {
    Job {
        id: JobId(id(n)),
        tenant: Tenant::new(tenant),
        spec: Arc::new(JobSpec {
            action: "create".into(),
            summary: "Create a bucket".into(),
            object: None,
            labels: BTreeMap::new(),
            priority: 0,
            creator: "ada".into(),
            parent: None,
            failure_policy: FailurePolicy::FailFast,
            schedule_time: None,
            traceparent: String::new(),
        }),
        request_id: String::new(),
        depth: 0,
        retry_of: None,
        state: JobState::Queued,
        status: Status::Normal,
        last_error: String::new(),
        revision: 1,
        tasks: vec![task(n, "ansible")],
        children: ChildCounts::default(),
        cancel: None,
        timer: None,
        create_time: at(0),
        start_time: None,
        update_time: at(0),
        end_time: None,
        expire_time: None,
    }
}

/// Keeps secrets.
pub fn vault() -> Vault {
    Vault::new(&MasterKeys::of([7; 32]), &DataKeys::default()).unwrap()
}

/// A secret, as large as the payload.
pub fn hidden(payload: usize) -> Hidden {
    let secret = ("key".to_owned(), "k".repeat(payload.max(8)));
    Hidden::new([secret].into(), Vec::new())
}

/// What is hidden of tasks of which the first one may have a secret.
pub fn hidden_of_first(has_secret: bool, payload: usize) -> HiddenTasks {
    match has_secret {
        true => [(0, Arc::new(hidden(payload)))].into(),
        false => HiddenTasks::default(),
    }
}

/// A plain task that is ready.
pub fn task(n: u64, driver: &str) -> Task {
    let spec = TaskSpec {
        name: format!("task-{n}"),
        action: "create".into(),
        driver: driver.into(),
        object: None,
        resource_type: String::new(),
        depends_on: Vec::new(),
        max_attempts: 1,
        retry_policy: RetryPolicy::default(),
        timeouts: Timeouts::default(),
        request_payload: None,
    };
    let mut task = Task::new(TaskId(id(n)), Arc::new(spec), at(0));
    task.state = TaskState::Queued;
    task.ready_time = Some(at(0));
    task.first_ready_time = Some(at(0));
    task
}

/// A job with a payload of 1 MiB.
pub fn large_job(tenant: &str, n: u64) -> Job {
    let mut job = job(tenant, n);
    let mut spec = TaskSpec::clone(&job.tasks[0].spec);
    spec.request_payload = Some(Document(vec![b' '; 1024 * 1024].into()));
    job.tasks[0].spec = Arc::new(spec);
    job
}

/// Changes what never changes, before the job is stored.
pub fn respec(job: &mut Job, change: impl FnOnce(&mut JobSpec)) {
    change(Arc::make_mut(&mut job.spec));
}

/// The newest jobs of a tenant.
pub fn list(tenant: &str, limit: usize) -> ListQuery {
    ListQuery {
        tenant: Tenant::new(tenant),
        filter: Filter::All,
        order: ListOrder::CreateTimeDesc,
        after: None,
        limit,
    }
}

/// Runs one case of a property to its end.
pub fn block_on(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(case);
}
