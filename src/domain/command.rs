//! What can be asked of the domain, and what it answers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    Document, Job, JobKey, JobSpec, LeaseKey, Task, TaskSpec, Tenant, Timestamp,
    access::Actor,
    audit::AuditRecord,
    counts::CountDeltas,
    event::Event,
    limits::Policy,
    reach::{Queue, Reach},
    registry::{Administration, Record},
    secrecy::{Hidden, HiddenTasks, Secrecy},
    task::Progress,
};

/// A digest of what was submitted, to tell a repeated submission from another one under the same request id.
pub type Fingerprint = [u8; 32];

/// Anything that changes a job. The sweeper sends commands like everybody else.
#[derive(Clone, Debug)]
pub enum Command {
    /// Store a job.
    Submit(Submission),
    /// Stop a job.
    Cancel {
        /// Which.
        key: JobKey,
        /// Why, for people.
        reason: String,
    },
    /// Try again: see the proto's `Retry`.
    Retry {
        /// Which.
        key: JobKey,
        /// Makes repeating safe; empty if not wanted.
        request_id: String,
        /// What the request id stands for.
        fingerprint: Fingerprint,
    },
    /// Remove a finished job.
    Delete {
        /// Which.
        key: JobKey,
    },
    /// A worker speaks about its lease.
    Report {
        /// Which lease.
        lease: LeaseKey,
        /// What it says.
        report: Report,
        /// How far the word of who says it goes, shared by all of its reports; `None` for the server itself.
        reach: Option<Arc<Reach>>,
    },
    /// The request to cancel was handed to the holder of a lease.
    CancelDelivered {
        /// Which lease.
        lease: LeaseKey,
    },
    /// What concerns the holder of a lease may have changed without it being told: it is asked to stop, or the lease has ended.
    Recall {
        /// Which lease.
        lease: LeaseKey,
    },
    /// A job's timer may be due.
    Sweep {
        /// Which job.
        key: JobKey,
    },
    /// A finished job may have been kept long enough.
    Expire {
        /// Which job.
        key: JobKey,
    },
    /// Hand out no more tasks of a driver.
    PauseDriver {
        /// Which.
        driver: Arc<str>,
        /// Why, for people.
        reason: String,
    },
    /// Hand out tasks of a driver again.
    ResumeDriver {
        /// Which.
        driver: Arc<str>,
    },
    /// Change what is known of tenants and credentials.
    Administer(Administration),
    /// Somebody tried what they may not do.
    Denied {
        /// What.
        action: String,
        /// To what.
        target: String,
    },
    /// A command that goes into the audit log.
    Audited(Box<Audited>),
}

/// A command, and who gave it.
#[derive(Clone, Debug)]
pub struct Audited {
    /// Who.
    pub actor: Actor,
    /// What.
    pub command: Command,
}

/// A checked job on its way to the store.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The owner.
    pub tenant: Tenant,
    /// Makes repeating safe; empty if not wanted.
    pub request_id: String,
    /// What the request id stands for.
    pub fingerprint: Fingerprint,
    /// The job.
    pub spec: JobSpec,
    /// Its tasks.
    pub tasks: Vec<Arc<TaskSpec>>,
    /// What their workers alone may know.
    pub hidden: HiddenTasks,
}

/// What a worker says about its lease.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// It is alive.
    Heartbeat,
    /// It got on.
    Progress {
        /// How far; the former stays if `None`.
        progress: Option<Progress>,
        /// A line for people; the former stays if empty.
        status_detail: String,
    },
    /// Something is not right.
    Warning {
        /// What.
        message: String,
    },
    /// The task is done.
    Success {
        /// What it returns.
        result: Option<Document>,
        /// A line for people; the former stays if empty.
        status_detail: String,
    },
    /// The attempt failed.
    Failure {
        /// Why, for people.
        message: String,
        /// Why, for programs.
        reason: String,
        /// Do not try again.
        permanent: bool,
        /// The pause, instead of the policy's.
        retry_after: Option<Duration>,
        /// A line for people; the former stays if empty.
        status_detail: String,
    },
    /// It gives the lease back.
    Release {
        /// Why, for people.
        reason: String,
    },
    /// It has got the request to cancel.
    CancelAcknowledged,
    /// It has stopped because of that request.
    Cancelled {
        /// A line for people; the former stays if empty.
        status_detail: String,
    },
}

impl Command {
    /// Bytes of the documents that it carries: what makes some commands much larger than others.
    pub fn document_bytes(&self) -> usize {
        match self {
            Self::Submit(submission) => {
                let payloads = submission.tasks.iter();
                let payloads = payloads.filter_map(|task| task.request_payload.as_ref());
                let payloads: usize = payloads.map(|payload| payload.0.len()).sum();
                let hidden = submission.hidden.iter();
                payloads + hidden.map(|(_, hidden)| hidden.len()).sum::<usize>()
            }
            Self::Report {
                report: Report::Success { result, .. },
                ..
            } => result.as_ref().map_or(0, |result| result.0.len()),
            Self::Cancel { .. }
            | Self::Retry { .. }
            | Self::Delete { .. }
            | Self::Report { .. }
            | Self::CancelDelivered { .. }
            | Self::Recall { .. }
            | Self::Sweep { .. }
            | Self::Expire { .. }
            | Self::PauseDriver { .. }
            | Self::ResumeDriver { .. }
            | Self::Administer(_)
            | Self::Denied { .. } => 0,
            Self::Audited(audited) => audited.command.document_bytes(),
        }
    }

    /// The command that is carried out, whoever gave it.
    pub fn bare(&self) -> &Self {
        match self {
            Self::Audited(audited) => audited.command.bare(),
            bare => bare,
        }
    }

    /// The same, and who gave it, if anybody did.
    pub fn by(self, actor: Option<Actor>) -> Self {
        let command = self;
        match actor {
            Some(actor) => Self::Audited(Audited { actor, command }.into()),
            None => command,
        }
    }
}

impl Report {
    /// Whether the worker is done with the lease, one way or another.
    pub fn ends_lease(&self) -> bool {
        match self {
            Self::Success { .. }
            | Self::Failure { .. }
            | Self::Release { .. }
            | Self::Cancelled { .. } => true,
            Self::Heartbeat
            | Self::Progress { .. }
            | Self::Warning { .. }
            | Self::CancelAcknowledged => false,
        }
    }
}

/// A worker that wants tasks.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its name.
    pub worker: Arc<str>,
    /// Whose tasks it takes; `None` for those of all tenants.
    pub tenant: Option<Tenant>,
    /// The drivers whose tasks it takes.
    pub drivers: Arc<[Arc<str>]>,
    /// How many it wants.
    pub slots: u32,
}

/// A task that may be taken, as the store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyTask {
    /// The job.
    pub key: JobKey,
    /// The task's position in it.
    pub ordinal: u32,
    /// The job's priority.
    pub priority: i32,
    /// Since when it may be taken.
    pub ready_time: Timestamp,
}

/// What is stored of a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// The job that was submitted under it.
    pub key: JobKey,
    /// What it stands for.
    pub fingerprint: Fingerprint,
}

/// Names a request id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// The owner.
    pub tenant: Tenant,
    /// The id.
    pub id: String,
}

/// The rows that a batch needs, as loaded.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Jobs that the commands name, those found by request id and by claim, and the ancestors of all of these.
    pub jobs: Vec<Arc<Job>>,
    /// Request ids that the commands name and that are stored.
    pub requests: HashMap<RequestKey, RequestRecord>,
    /// Records that the commands name and that are stored.
    pub records: Vec<Record>,
    /// Tasks that may be taken, by driver: for the claims of all tenants together at least as many of each tenant as they want, and so for those of one tenant,
    /// or all there are. One that was loaded for both may come twice.
    pub ready: HashMap<Arc<str>, Vec<ReadyTask>>,
}

/// The circumstances of a decision.
pub struct Context<'a> {
    /// The time of the decision.
    pub now: Timestamp,
    /// What the operator set.
    pub policy: Policy,
    /// No lease runs out before this: workers get time to come back after a restart.
    pub leases_hold_until: Timestamp,
    /// Chance and ids.
    pub source: &'a mut dyn Source,
    /// Keeps secrets.
    pub secrecy: &'a dyn Secrecy,
    /// Drivers whose tasks are not handed out.
    pub is_paused: &'a dyn Fn(&str) -> bool,
    /// The tenant that was served last by a claim of all tenants, by driver: turns begin after it.
    pub served: &'a mut HashMap<Arc<str>, Tenant>,
    /// Whether every revision of a job is wanted, not just the last one of the batch.
    pub is_watched: &'a dyn Fn(&JobKey) -> bool,
}

/// Where ids and chance come from.
pub trait Source {
    /// A new UUIDv7, greater than all before.
    fn id(&mut self, now: Timestamp) -> uuid::Uuid;
    /// A number from 0 up to 1.
    fn chance(&mut self) -> f64;
}

/// An answer to a command.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To Submit and Retry.
    Submitted {
        /// The job as it is now.
        job: Arc<Job>,
        /// Whether this command made it.
        created: bool,
    },
    /// To Cancel.
    Job(Arc<Job>),
    /// To Report.
    Reported(Reported),
    /// To what changes a record.
    Record(Box<Record>),
    /// To the rest.
    Done,
}

/// An answer to a report that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// When the lease runs out now; `None` if it has ended.
    pub expiry: Option<Timestamp>,
    /// The worker is to stop.
    pub cancel: Option<CancelOrder>,
}

/// A request to stop, as told to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelOrder {
    /// Why, for people.
    pub reason: String,
    /// After this the server no longer waits.
    pub deadline: Timestamp,
}

/// Why a command was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such job, or it is another tenant's.
    #[error("no job {0}")]
    JobNotFound(super::JobId),
    /// The request id stands for something else.
    #[error("request_id {request_id:?} was used for another request, which made job {job}")]
    RequestIdReused {
        /// The id.
        request_id: String,
        /// The job that was made.
        job: super::JobId,
    },
    /// The parent does not exist, or is another tenant's.
    #[error("no job {0} that could be the parent")]
    ParentNotFound(super::JobId),
    /// The parent has ended.
    #[error("job {0} has ended or is being cancelled and takes no more child jobs")]
    ParentEnded(super::JobId),
    /// The parent is nested too deep itself.
    #[error("job {0} is nested too deep to be a parent: at most {max} levels", max = super::limits::MAX_DEPTH)]
    TooDeep(super::JobId),
    /// Only finished jobs can be deleted.
    #[error("job {0} has not ended; cancel it first, or wait")]
    JobNotEnded(super::JobId),
    /// A job that succeeded has nothing to retry.
    #[error("job {0} succeeded; submit a new job to run it again")]
    JobSucceeded(super::JobId),
    /// The secrets of a job that has ended are gone.
    #[error(
        "the secrets of job {0} were erased when its tasks ended; submit it again with its secrets"
    )]
    SecretsErased(super::JobId),
    /// There is no key to seal secrets with.
    #[error(
        "the server has no master key, so it takes no secrets and no fields that are sensitive, by sensitive_fields or by their names; start it with --master-key-file"
    )]
    MasterKeyRequired,
    /// The results of a job would be too large together.
    #[error("the results of the job's tasks may have {max} bytes together; store large ones elsewhere and return where", max = super::limits::MAX_RESULT_BYTES)]
    ResultTooLarge,
    /// There is such a tenant.
    #[error("there is a tenant {0} already")]
    TenantExists(Tenant),
    /// There is no such tenant.
    #[error("no tenant {0}; make it with `longhaul tenant create {0}`")]
    TenantNotFound(Tenant),
    /// There is such a credential.
    #[error("there is a key {0} already")]
    KeyExists(Arc<str>),
    /// There is no such credential, or it is another tenant's.
    #[error("no key {0}")]
    KeyNotFound(Arc<str>),
    /// The lease is not, or no longer, the worker's.
    #[error("the lease has ended or was given to another worker; stop working on this task")]
    LeaseLost,
}

/// A lease that was given.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Its name.
    pub lease: LeaseKey,
    /// The task as it is now.
    pub task: Task,
    /// The job's part of what the worker should know.
    pub job: Arc<JobSpec>,
    /// When the job was submitted.
    pub create_time: Timestamp,
    /// The name of each task that this one depends on.
    pub depends_on: Vec<String>,
    /// What the worker alone may know.
    pub hidden: Option<Arc<Hidden>>,
    /// How long it lasts from each report.
    pub duration: Duration,
}

/// What becomes of a job in the store.
#[derive(Clone, Debug)]
pub struct JobWrite {
    /// The job as it is now.
    pub job: Arc<Job>,
    /// How to write it.
    pub how: WriteKind,
}

/// How a job is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// All of it is new.
    Insert,
    /// These parts changed. What was submitted never does, and neither does a task's result once there is one.
    Update {
        /// The job's own row.
        job: bool,
        /// Tasks by position, in order.
        tasks: Vec<u32>,
    },
    /// It is removed with everything about it.
    Delete,
}

/// What becomes of a record in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordWrite {
    /// The record as it is now.
    pub record: Record,
    /// Its revision as it is stored; 0 if it is new.
    pub before: u64,
}

/// Since when a driver is paused, and why.
pub type Pause = (Timestamp, String);

/// What a batch writes, in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Jobs, each once.
    pub jobs: Vec<JobWrite>,
    /// Events, in order.
    pub events: Vec<Event>,
    /// New request ids.
    pub requests: Vec<(RequestKey, RequestRecord)>,
    /// Counters.
    pub counts: CountDeltas,
    /// Drivers paused with time and reason, or resumed.
    pub drivers: Vec<(Arc<str>, Option<Pause>)>,
    /// Records of tenants and credentials, each once.
    pub records: Vec<RecordWrite>,
    /// What the audit log is told, in order.
    pub audit: Vec<AuditRecord>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
            && self.events.is_empty()
            && self.drivers.is_empty()
            && self.records.is_empty()
            && self.audit.is_empty()
    }
}

/// What a batch comes to. Nothing of it may be told before the changes are committed.
#[derive(Debug, Default)]
pub struct Decision {
    /// To be written.
    pub changes: Changes,
    /// An answer to each command, in order.
    pub replies: Vec<Result<Reply, Refusal>>,
    /// An answer to each claim, in order.
    pub grants: Vec<Vec<Grant>>,
    /// For each event the job as it was after it, where that is watched and not too large; the last event of a job in the batch always has it, unless the job
    /// is removed.
    pub history: Vec<Option<Arc<Job>>>,
    /// Leases that ended.
    pub ended: Vec<EndedLease>,
    /// Leases that somebody reported on and that had ended before.
    pub dead: Vec<LeaseKey>,
    /// Leases that the server had ended before, and whose holders may not have been told.
    pub lost: Vec<LeaseKey>,
    /// Leases whose holders are to stop.
    pub cancels: Vec<(LeaseKey, CancelOrder)>,
    /// Queues that may have more tasks than the claims took, and those of one tenant to which the batch added some.
    pub ready: Vec<Queue>,
    /// Queues of which every task that could be taken was.
    pub exhausted: Vec<Queue>,
    /// Jobs whose open child jobs are to be cancelled, with the reason.
    pub cancel_children: Vec<(JobKey, String)>,
}

/// A lease that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedLease {
    /// Which.
    pub lease: LeaseKey,
    /// Whether the server ended it, so that its holder has to be told.
    pub by_server: bool,
}
