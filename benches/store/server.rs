//! A server without network: the commit loop's turn, on one thread.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use longhaul::{
    domain::{
        Document, Job, JobKey, JobSpec, LeaseKey, TaskSpec, Tenant, Timestamp,
        command::{
            Claim, Command, Context, Decision, Loaded, Report, RequestKey, Source, Submission,
            WriteKind,
        },
        decide::decide,
        job::FailurePolicy,
        limits::Policy,
        task::{Object, RetryPolicy, Timeouts},
    },
    store::{Locked, Store, Whose, Writer, sqlite::SqliteStore},
    vault::Vault,
};
use uuid::{ContextV7, Uuid};

pub const TENANT: &str = "default";
pub const DRIVER: &str = "bench";
/// There is one tenant, so turns begin anywhere.
pub const OF_ALL: Whose<'_> = Whose::All { served: None };

/// A store, and what the commit loop keeps beside it.
pub struct Server {
    // Before the store: the writer goes first.
    writer: Box<dyn Writer>,
    pub store: SqliteStore,
    hot: HashMap<JobKey, Arc<Job>>,
    ids: Ids,
    vault: Vault,
    served: HashMap<Arc<str>, Tenant>,
    pub now: Timestamp,
    submitted: u64,
    pub spent: Spent,
}

/// Where the time went.
#[derive(Clone, Copy, Default)]
pub struct Spent {
    pub load: Duration,
    pub decide: Duration,
    pub commit: Duration,
}

struct Ids(ContextV7);

impl Source for Ids {
    fn id(&mut self, now: Timestamp) -> Uuid {
        let micros = u64::try_from(now.as_micros()).unwrap_or(0);
        let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000;
        Uuid::new_v7(uuid::Timestamp::from_unix(
            &self.0,
            micros / 1_000_000,
            nanos,
        ))
    }

    fn chance(&mut self) -> f64 {
        0.5
    }
}

impl Server {
    pub fn open(dir: &Path) -> Self {
        let store = SqliteStore::open(dir).expect("the directory is ours");
        let writer = store.writer().expect("nobody else took it");
        Self {
            writer,
            store,
            hot: HashMap::new(),
            ids: Ids(ContextV7::new()),
            vault: Vault::without_key(),
            served: HashMap::new(),
            now: Timestamp::from_micros(1_800_000_000_000_000),
            submitted: 0,
            spent: Spent::default(),
        }
    }

    /// Jobs that nobody has submitted before, of one task with a payload of 200 bytes.
    pub fn submissions(&mut self, count: usize) -> Vec<Command> {
        (0..count)
            .map(|_| {
                self.submitted += 1;
                Command::Submit(submission(self.submitted))
            })
            .collect()
    }

    pub fn claim(slots: usize) -> Claim {
        Claim {
            worker: "worker-1".into(),
            tenant: None,
            drivers: Arc::new([DRIVER.into()]),
            slots: u32::try_from(slots).expect("a small number"),
        }
    }

    pub fn success(lease: LeaseKey) -> Command {
        let report = Report::Success {
            result: Some(Document(vec![b'r'; 50].into())),
            status_detail: String::new(),
        };
        Command::Report {
            lease,
            report,
            reach: None,
        }
    }

    /// One turn of the commit loop; answers with the leases that were given.
    #[expect(clippy::disallowed_methods, reason = "a bench measures time")]
    pub async fn turn(&mut self, commands: Vec<Command>, claims: &[Claim]) -> Vec<LeaseKey> {
        self.now = self.now.after(Duration::from_millis(1));
        let start = Instant::now();
        let loaded = self.load(&commands, claims).await;
        let loaded_at = Instant::now();
        let decision = self.decide(commands, claims, loaded);
        let decided_at = Instant::now();
        self.writer
            .commit(&decision.changes)
            .await
            .expect("the disk is sound");
        let committed_at = Instant::now();
        self.spent.load += loaded_at - start;
        self.spent.decide += decided_at - loaded_at;
        self.spent.commit += committed_at - decided_at;
        for reply in &decision.replies {
            assert!(reply.is_ok(), "{reply:?}");
        }
        for write in decision.changes.jobs {
            if write.how != WriteKind::Delete && !write.job.state.is_terminal() {
                self.hot.insert(write.job.key(), write.job);
            }
        }
        decision
            .grants
            .into_iter()
            .flatten()
            .map(|grant| grant.lease)
            .collect()
    }

    async fn load(&mut self, commands: &[Command], claims: &[Claim]) -> Loaded {
        let mut loaded = Loaded::default();
        let mut wanted = Vec::new();
        let mut requests = Vec::new();
        for command in commands {
            match command {
                Command::Submit(submission) => requests.push(RequestKey {
                    tenant: submission.tenant.clone(),
                    id: submission.request_id.clone(),
                }),
                Command::Report { lease, .. } => wanted.push(lease.job_key()),
                other => panic!("the bench has no {other:?}"),
            }
        }
        requests.retain(|request| !request.id.is_empty());
        self.writer.begin().await.expect("the disk is sound");
        let found = self.writer.requests(&requests).await;
        loaded.requests.extend(found.expect("the disk is sound"));
        for claim in claims {
            let slots = claim.slots as usize;
            let ready = self.writer.ready(DRIVER, OF_ALL, slots).await;
            let ready = ready.expect("the disk is sound");
            wanted.extend(ready.tasks.iter().map(|task| task.key.clone()));
            loaded.ready.insert(DRIVER.into(), ready.tasks);
        }
        let mut missing = Vec::new();
        for key in wanted {
            match self.hot.remove(&key) {
                Some(job) => loaded.jobs.push(job),
                None => missing.push(key),
            }
        }
        let jobs = self.writer.jobs(&missing, Locked::Wait).await;
        let jobs = jobs.expect("the disk is sound");
        loaded.jobs.extend(jobs.into_iter().map(Arc::new));
        loaded
    }

    fn decide(&mut self, commands: Vec<Command>, claims: &[Claim], loaded: Loaded) -> Decision {
        let mut context = Context {
            now: self.now,
            policy: Policy::default(),
            leases_hold_until: self.now,
            source: &mut self.ids,
            secrecy: &self.vault,
            is_paused: &|_| false,
            served: &mut self.served,
            is_watched: &|_| false,
        };
        decide(commands, claims, loaded, &mut context)
    }

    /// What the commit loop does in idle moments.
    pub async fn tidy(&mut self) {
        self.writer.tidy(self.now).await.expect("the disk is sound");
    }

    /// Waits for a first answer of the queue, as a start does.
    pub async fn first_ready(&mut self) -> usize {
        self.writer.begin().await.expect("the disk is sound");
        let due = self.writer.next_due().await;
        due.expect("the disk is sound");
        let ready = self.writer.ready(DRIVER, OF_ALL, 100).await;
        self.writer.rollback().await;
        ready.expect("the disk is sound").tasks.len()
    }

    pub fn writer(&mut self) -> &mut dyn Writer {
        self.writer.as_mut()
    }

    pub fn forget(&mut self) {
        self.hot.clear();
    }
}

fn submission(number: u64) -> Submission {
    let task = TaskSpec {
        name: "main".into(),
        action: "create".into(),
        driver: DRIVER.into(),
        object: None,
        resource_type: "s3_bucket".into(),
        depends_on: Vec::new(),
        max_attempts: 1,
        retry_policy: RetryPolicy::default(),
        timeouts: Timeouts::default(),
        request_payload: Some(Document(vec![b'p'; 200].into())),
    };
    Submission {
        tenant: Tenant::new(TENANT),
        request_id: String::new(),
        fingerprint: [7; 32],
        hidden: Default::default(),
        spec: JobSpec {
            action: "create".into(),
            summary: "Create a bucket".into(),
            object: Some(Object {
                kind: "s3_bucket".into(),
                id: format!("bucket-{number}"),
                name: format!("bucket-{number}"),
            }),
            labels: [("env".to_owned(), format!("env-{}", number % 10))].into(),
            priority: 0,
            creator: "bench".into(),
            parent: None,
            failure_policy: FailurePolicy::FailFast,
            schedule_time: None,
            traceparent: String::new(),
        },
        tasks: vec![Arc::new(task)],
    }
}

/// A new directory on the disk to measure; it goes when this does.
pub fn fresh(parent: &Path) -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("longhaul-bench-")
        .tempdir_in(parent)
        .expect("the directory can be written to")
}

/// How long this thread has been on a processor; zero where the kernel does not say.
pub fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
