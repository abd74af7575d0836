//! Everything around the core that a test needs: a store, a clock that stands still unless moved, chance that repeats, and the audit of every batch.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use longhaul::{
    domain::{
        Job, JobId, JobKey, LeaseKey, Task, TaskState, Tenant, Timestamp,
        command::{
            CancelOrder, Claim, Command, Context, Decision, EndedLease, Fingerprint, Grant,
            Refusal, Reply, Report, Reported, Source, Submission,
        },
        decide::decide,
        event::EventKind,
        limits::Policy,
        reach::{Queue, Reach},
        submission::{self, NewJob, NewTask},
    },
    vault::{DataKeys, MasterKeys, Vault},
};
use uuid::Uuid;

use crate::{
    audit::{Audit, Seen},
    store::Store,
};

pub struct World {
    pub store: Store,
    pub now: Timestamp,
    pub policy: Policy,
    /// No lease runs out before this.
    pub hold: Timestamp,
    pub source: Numbers,
    pub vault: Vault,
    pub served: HashMap<Arc<str>, Tenant>,
    /// Whether every job is watched.
    pub watched: bool,
    /// Every lease that was ever granted.
    pub leases: Vec<LeaseKey>,
    /// Orders to cancel and ended leases, newest last, as the dispatcher would be told.
    pub orders: VecDeque<(LeaseKey, CancelOrder)>,
    pub ended: Vec<EndedLease>,
    /// Parents whose children are to be cancelled next.
    pub families: Vec<(JobKey, String)>,
    audit: Audit,
}

/// Ids that count, and chance from a small generator.
pub struct Numbers {
    next: u128,
    state: u64,
    /// Answers this instead of a number by chance.
    pub always: Option<f64>,
}

impl Numbers {
    fn new(seed: u64) -> Self {
        Self {
            next: 1,
            state: seed,
            always: None,
        }
    }
}

impl Source for Numbers {
    fn id(&mut self, _now: Timestamp) -> Uuid {
        self.next += 1;
        Uuid::from_u128(self.next)
    }

    fn chance(&mut self) -> f64 {
        // Knuth's MMIX constants; the high bits are the good ones.
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.always
            .unwrap_or((self.state >> 11) as f64 / (1u64 << 53) as f64)
    }
}

impl World {
    pub fn new() -> Self {
        Self {
            store: Store::default(),
            now: Timestamp::from_micros(1_767_225_600_000_000),
            policy: Policy::default(),
            hold: Timestamp::default(),
            source: Numbers::new(1),
            vault: vault(7),
            served: HashMap::new(),
            watched: true,
            leases: Vec::new(),
            orders: VecDeque::new(),
            ended: Vec::new(),
            families: Vec::new(),
            audit: Audit::default(),
        }
    }

    /// Decides a batch, writes it, and fails if anything about it is wrong.
    pub fn run(&mut self, commands: Vec<Command>, claims: &[Claim]) -> Decision {
        let (decision, wrong) = self.run_tampered(commands, claims, |_, _| {});
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        decision
    }

    /// As [`World::run`], but lies about the batch and its decision before anybody sees them; answers what the audit finds.
    pub fn run_tampered(
        &mut self,
        commands: Vec<Command>,
        claims: &[Claim],
        tamper: impl FnOnce(&mut Vec<Command>, &mut Decision),
    ) -> (Decision, Vec<String>) {
        let loaded = self.store.load(&commands, claims, &self.served);
        let paused = self.store.paused.clone();
        let watched = self.watched;
        let mut told = commands.clone();
        let mut decision = decide(
            commands,
            claims,
            loaded,
            &mut Context {
                now: self.now,
                policy: self.policy,
                leases_hold_until: self.hold,
                source: &mut self.source,
                secrecy: &self.vault,
                is_paused: &|driver| paused.contains(driver),
                served: &mut self.served,
                is_watched: &|_| watched,
            },
        );
        tamper(&mut told, &mut decision);
        let before = self.store.clone();
        let mut wrong = self.store.apply(&decision.changes);
        wrong.extend(self.audit.batch(&Seen {
            before: &before,
            after: &self.store,
            commands: &told,
            claims,
            decision: &decision,
            now: self.now,
            policy: self.policy,
            hold: self.hold,
        }));
        let grants = decision.grants.iter().flatten();
        self.leases.extend(grants.map(|grant| grant.lease.clone()));
        self.orders.extend(decision.cancels.iter().cloned());
        self.ended.extend(decision.ended.iter().cloned());
        self.families.append(&mut decision.cancel_children);
        (decision, wrong)
    }

    pub fn one(&mut self, command: Command) -> Result<Reply, Refusal> {
        let mut decision = self.run(vec![command], &[]);
        decision.replies.remove(0)
    }

    pub fn try_submit(&mut self, submission: Submission) -> Result<(Arc<Job>, bool), Refusal> {
        match self.one(Command::Submit(submission))? {
            Reply::Submitted { job, created } => Ok((job, created)),
            other => panic!("{other:?} answers no Submit"),
        }
    }

    pub fn submit(&mut self, job: NewJob) -> JobKey {
        let submission = self.submission(job);
        self.try_submit(submission).expect("accepted").0.key()
    }

    /// A submission of the tenant `acme`, checked like a client's.
    pub fn submission(&self, job: NewJob) -> Submission {
        let mut violations = Vec::new();
        let checked = submission::check(job, "job", self.now, &mut violations);
        let checked = checked.unwrap_or_else(|| panic!("{violations:?}"));
        Submission {
            tenant: Tenant::new("acme"),
            request_id: String::new(),
            fingerprint: [0; 32],
            spec: checked.spec,
            tasks: checked.tasks,
            hidden: checked.hidden,
        }
    }

    /// Takes up to `slots` tasks of a driver.
    pub fn claim(&mut self, driver: &str, slots: u32) -> Vec<Grant> {
        let mut decision = self.run(Vec::new(), &[claim("w", &[driver], slots)]);
        decision.grants.remove(0)
    }

    /// Takes the one task of a driver that has to be there.
    pub fn lease(&mut self, driver: &str) -> LeaseKey {
        let grants = self.claim(driver, 1);
        assert_eq!(grants.len(), 1, "a task of {driver} is ready");
        grants[0].lease.clone()
    }

    pub fn report(&mut self, lease: &LeaseKey, report: Report) -> Result<Reported, Refusal> {
        let lease = lease.clone();
        let reach = None;
        match self.one(Command::Report {
            lease,
            report,
            reach,
        })? {
            Reply::Reported(reported) => Ok(reported),
            other => panic!("{other:?} answers no Report"),
        }
    }

    pub fn cancel(&mut self, key: &JobKey, reason: &str) -> Arc<Job> {
        let (key, reason) = (key.clone(), reason.to_owned());
        match self.one(Command::Cancel { key, reason }) {
            Ok(Reply::Job(job)) => job,
            other => panic!("{other:?} answers no Cancel"),
        }
    }

    pub fn retry(
        &mut self,
        key: &JobKey,
        request_id: &str,
        fingerprint: Fingerprint,
    ) -> Result<(Arc<Job>, bool), Refusal> {
        let (key, request_id) = (key.clone(), request_id.to_owned());
        match self.one(Command::Retry {
            key,
            request_id,
            fingerprint,
        })? {
            Reply::Submitted { job, created } => Ok((job, created)),
            other => panic!("{other:?} answers no Retry"),
        }
    }

    /// Lets time pass and does what the sweeper would, no more: it looks at stored timers alone.
    pub fn pass(&mut self, span: Duration) {
        self.now = self.now.after(span);
        self.sweep();
    }

    /// Sweeps until nothing is due.
    ///
    /// # Panics
    /// Something is due again and again.
    pub fn sweep(&mut self) {
        for _round in 0..8 {
            let mut commands: Vec<Command> = Vec::new();
            for (parent, reason) in std::mem::take(&mut self.families) {
                let cancel = |key| Command::Cancel {
                    key,
                    reason: reason.clone(),
                };
                commands.extend(self.store.open_children(&parent).into_iter().map(cancel));
            }
            let due = self.store.due(self.now);
            commands.extend(due.into_iter().map(|key| Command::Sweep { key }));
            if commands.is_empty() {
                return;
            }
            self.run(commands, &[]);
        }
        panic!("the sweeper has no end");
    }

    pub fn job(&self, key: &JobKey) -> &Job {
        &self.store.jobs[key]
    }

    pub fn task(&self, lease: &LeaseKey) -> &Task {
        &self.job(&lease.job_key()).tasks[lease.ordinal as usize]
    }

    pub fn states(&self, key: &JobKey) -> Vec<TaskState> {
        self.job(key).tasks.iter().map(|task| task.state).collect()
    }

    /// What happened to a job, oldest first.
    pub fn events(&self, job: JobId) -> Vec<EventKind> {
        let events = self.store.events.iter();
        events.filter(|e| e.job == job).map(|e| e.kind).collect()
    }
}

/// What keeps secrets with a key of this byte.
pub fn vault(key: u8) -> Vault {
    Vault::new(&MasterKeys::of([key; 32]), &DataKeys::default()).expect("nothing to unwrap")
}

pub fn claim(worker: &str, drivers: &[&str], slots: u32) -> Claim {
    Claim {
        worker: worker.into(),
        tenant: None,
        drivers: drivers.iter().map(|driver| Arc::from(*driver)).collect(),
        slots,
    }
}

/// As [`claim`], for the tasks of one tenant.
pub fn claim_of(tenant: &str, worker: &str, drivers: &[&str], slots: u32) -> Claim {
    Claim {
        tenant: Some(Tenant::new(tenant)),
        ..claim(worker, drivers, slots)
    }
}

pub fn queue(driver: &str, tenant: Option<&str>) -> Queue {
    Queue {
        driver: driver.into(),
        tenant: tenant.map(Tenant::new),
    }
}

pub fn reach(tenant: Option<&str>, drivers: Option<&[&str]>) -> Arc<Reach> {
    let drivers = drivers.map(|drivers| drivers.iter().map(|driver| Arc::from(*driver)).collect());
    Arc::new(Reach {
        tenant: tenant.map(Tenant::new),
        drivers,
    })
}

pub fn new_job(tasks: impl IntoIterator<Item = NewTask>) -> NewJob {
    NewJob {
        action: "create".into(),
        tasks: tasks.into_iter().collect(),
        ..NewJob::default()
    }
}

/// A task of the driver `d`.
pub fn new_task(name: &str, depends_on: &[&str]) -> NewTask {
    NewTask {
        name: name.into(),
        driver: "d".into(),
        depends_on: depends_on.iter().map(|name| (*name).into()).collect(),
        ..NewTask::default()
    }
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn success() -> Report {
    Report::Success {
        result: None,
        status_detail: String::new(),
    }
}

pub fn failure(message: &str) -> Report {
    Report::Failure {
        message: message.into(),
        reason: String::new(),
        permanent: false,
        retry_after: None,
        status_detail: String::new(),
    }
}

pub fn fatal(message: &str) -> Report {
    Report::Failure {
        message: message.into(),
        reason: "DISK_GONE".into(),
        permanent: true,
        retry_after: None,
        status_detail: String::new(),
    }
}

pub fn warning(message: &str) -> Report {
    Report::Warning {
        message: message.into(),
    }
}

pub fn release() -> Report {
    Report::Release {
        reason: "going home".into(),
    }
}

pub fn stopped() -> Report {
    Report::Cancelled {
        status_detail: String::new(),
    }
}

pub fn progress(done: i64) -> Report {
    Report::Progress {
        progress: Some(longhaul::domain::task::Progress {
            done,
            total: 10,
            unit: "bytes".into(),
            message: String::new(),
        }),
        status_detail: String::new(),
    }
}
