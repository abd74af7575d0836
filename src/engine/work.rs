//! Workers' calls: streams with a session in the dispatcher, and unary calls without.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};

use super::{
    Engine, EngineError, WatchItem, WatchOptions,
    commit::Message,
    dispatch::{Acquirer, Session, SessionId, give_back},
    token::BadToken,
};
use crate::domain::{
    Job, JobKey, LeaseKey, Tenant, Timestamp,
    command::{CancelOrder, Command, Grant, Refusal, Reply, Report, Reported},
    reach::Reach,
};

/// Messages that may wait for a worker's stream: each is a batch, and a stream that does not take them is broken.
const OUTBOX: usize = 1_024;
/// Jobs that are read at once to learn the drivers of leases.
const JOBS_AT_ONCE: usize = 64;

/// What a worker says of itself; checked by the front end.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Its name.
    pub worker: Arc<str>,
    /// What it may be given, and may speak of.
    pub reach: Arc<Reach>,
    /// The drivers whose tasks it takes.
    pub drivers: Arc<[Arc<str>]>,
    /// Leases that it wants to hold at once.
    pub slots: u32,
    /// Leases that it holds already.
    pub held: Vec<LeaseKey>,
}

/// What is sent to a worker unasked.
#[derive(Clone, Debug)]
pub enum ToWorker {
    /// New leases.
    Leases(Vec<Grant>),
    /// Stop working on this.
    Cancel(LeaseKey, CancelOrder),
    /// This is no longer yours.
    Lost(LeaseKey),
    /// The server goes.
    Drain,
}

/// A worker's stream, as the engine knows it. Dropping it ends the session.
pub struct WorkSession {
    engine: Engine,
    id: SessionId,
    reach: Arc<Reach>,
}

/// How many workers of each driver may take a tenant's tasks, and how many of their slots are free.
pub(super) type Roster = HashMap<Arc<str>, (usize, usize)>;

impl Engine {
    /// Begins a worker's session; what it is sent comes from the receiver. Drivers and leases beyond its reach are left out.
    ///
    /// # Errors
    /// The server is draining or has stopped; or it could not be read what the leases are that the worker holds.
    pub async fn work(
        &self,
        hello: Hello,
    ) -> Result<(WorkSession, mpsc::Receiver<ToWorker>), EngineError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if self.shared.hub.is_draining() {
            return Err(EngineError::Draining);
        }
        let Hello {
            worker,
            reach,
            drivers,
            slots,
            held,
        } = hello;
        let id = SessionId(NEXT.fetch_add(1, Ordering::Relaxed));
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let session = Session {
            worker,
            tenant: reach.tenant.clone(),
            drivers: reach.of(drivers),
            slots,
            held: self.held_within(&reach, held).await?,
            unacknowledged: HashSet::new(),
            outbox,
        };
        self.tell(Message::Open(id, session)).await?;
        let engine = self.clone();
        Ok((WorkSession { engine, id, reach }, messages))
    }

    /// Of the leases that a worker says it holds, those within its reach, with the driver of each where it took a look to know that.
    async fn held_within(
        &self,
        reach: &Reach,
        held: Vec<LeaseKey>,
    ) -> Result<HashMap<LeaseKey, Option<Arc<str>>>, EngineError> {
        let held = held.into_iter();
        let held: HashSet<LeaseKey> = held.filter(|l| reach.includes(&l.tenant)).collect();
        if reach.drivers.is_none() {
            return Ok(held.into_iter().map(|lease| (lease, None)).collect());
        }
        let mut within = HashMap::with_capacity(held.len());
        let held = by_job(held);
        let keys: Vec<JobKey> = held.keys().cloned().collect();
        // A few at a time: of a job nothing is kept but the names of drivers.
        for keys in keys.chunks(JOBS_AT_ONCE) {
            for job in self.jobs(keys).await? {
                let leases = held.get(&job.key()).into_iter().flatten();
                for lease in leases.filter(|lease| reach.covers(lease, &job)) {
                    let driver = &job.tasks[lease.ordinal as usize].spec.driver;
                    within.insert(lease.clone(), Some(Arc::clone(driver)));
                }
            }
        }
        Ok(within)
    }

    /// Those of these jobs that are stored.
    async fn jobs(&self, keys: &[JobKey]) -> Result<Vec<Arc<Job>>, EngineError> {
        if let Some(tail) = &self.shared.tail {
            return Ok(tail.jobs(keys).await?);
        }
        let mut jobs = Vec::with_capacity(keys.len());
        for key in keys {
            jobs.extend(self.shared.store.job(key).await?);
        }
        Ok(jobs)
    }

    /// Leases for a worker without a stream; waits up to `wait` for the first. Drivers beyond its reach have none for it.
    ///
    /// # Errors
    /// The server has stopped.
    pub async fn acquire(
        &self,
        reach: &Reach,
        worker: Arc<str>,
        drivers: Arc<[Arc<str>]>,
        most: u32,
        wait: Option<Duration>,
    ) -> Result<Vec<Grant>, EngineError> {
        let (reply, granted) = oneshot::channel();
        let acquirer = Acquirer {
            worker,
            tenant: reach.tenant.clone(),
            drivers: reach.of(drivers),
            most,
            reply,
            at_once: wait.is_none(),
        };
        self.tell(Message::Acquire(acquirer)).await?;
        let engine = self;
        let mut granted = Granted { engine, granted };
        let granted = match wait {
            None => (&mut granted.granted).await,
            Some(wait) => match tokio::time::timeout(wait, &mut granted.granted).await {
                Ok(granted) => granted,
                // What was granted at the last moment is here.
                Err(_elapsed) => return Ok(granted.take().unwrap_or_default()),
            },
        };
        // Without an answer the server is draining: nothing to give, and the worker will call again.
        Ok(granted.unwrap_or_default())
    }

    /// Takes reports, in one commit; each has its own answer. What is beyond the reporter's reach is no lease of its.
    ///
    /// # Errors
    /// The store failed; nothing was accepted.
    pub async fn report(
        &self,
        reach: &Arc<Reach>,
        reports: Vec<(LeaseKey, Report)>,
    ) -> Result<Vec<Result<Reported, Refusal>>, EngineError> {
        let commands = reports
            .into_iter()
            .map(|(lease, report)| Command::Report {
                lease,
                report,
                reach: Some(Arc::clone(reach)),
            })
            .collect();
        let answers = self.ask(commands).await?;
        Ok(answers
            .into_iter()
            .map(|answer| {
                answer.map(|reply| match reply {
                    Reply::Reported(reported) => reported,
                    Reply::Submitted { .. } | Reply::Job(_) | Reply::Record(_) | Reply::Done => {
                        Reported::default()
                    }
                })
            })
            .collect())
    }

    /// Waits until one of these leases is lost or its holder has been asked to stop, and answers with those of its job; with none if the time is up, or
    /// the server goes.
    ///
    /// # Errors
    /// The store failed.
    pub async fn await_orders(
        &self,
        leases: Vec<LeaseKey>,
        timeout: Duration,
    ) -> Result<Vec<LeaseKey>, EngineError> {
        let mut watched: FuturesUnordered<_> = by_job(leases)
            .into_iter()
            .map(|(key, leases)| self.ordered(key, leases, timeout))
            .collect();
        let first = async {
            while let Some(found) = watched.next().await {
                match found {
                    Ok(found) if found.is_empty() => {}
                    found => return found,
                }
            }
            Ok(Vec::new())
        };
        let found = tokio::time::timeout(timeout, first).await;
        found.unwrap_or_else(|_elapsed| Ok(Vec::new()))
    }

    /// The leases of one job that are lost or whose holder has been asked to stop, as soon as there is one; none if the server goes.
    async fn ordered(
        &self,
        key: JobKey,
        leases: Vec<LeaseKey>,
        timeout: Duration,
    ) -> Result<Vec<LeaseKey>, EngineError> {
        let options = WatchOptions {
            after_revision: 0,
            // Progress is the worker's own.
            min_interval: timeout,
            heartbeat: timeout + Duration::from_secs(60),
        };
        let mut watch = match self.watch(&key, options).await {
            Ok(watch) => watch,
            Err(EngineError::Draining) => return Ok(Vec::new()),
            Err(EngineError::Refused(Refusal::JobNotFound(_))) => return Ok(leases),
            Err(error) => return Err(error),
        };
        while let Some(item) = watch.next().await {
            let Ok(WatchItem::Snapshot { version, .. }) = item else {
                continue;
            };
            let job = &version.job;
            let ordered = leases.iter().filter(|lease| job.has_order_for(lease));
            let ordered: Vec<LeaseKey> = ordered.cloned().collect();
            if !ordered.is_empty() {
                return Ok(ordered);
            }
        }
        Ok(Vec::new())
    }

    /// The name of a lease, as its worker carries it.
    pub fn lease_token(&self, lease: &LeaseKey) -> Bytes {
        // The time of its grant, so that it bears the same name whenever it is named.
        let granted = i64::try_from(lease.fencing_token).unwrap_or(i64::MAX);
        let granted = Timestamp::from_micros(granted);
        self.shared.sealer.seal(b"lease", lease, granted)
    }

    /// The lease that a token names; `None` if the token was not made here.
    pub fn open_lease_token(&self, token: &[u8]) -> Option<LeaseKey> {
        let opened: Result<LeaseKey, BadToken> = self.shared.sealer.open(b"lease", token);
        opened.ok()
    }

    /// Who may take a tenant's tasks, here and wherever else the store is worked on. Of other tenants' own workers it says nothing.
    pub(super) async fn roster(&self, tenant: &Tenant) -> Result<Roster, EngineError> {
        let (reply, here) = oneshot::channel();
        self.tell(Message::Roster(reply)).await?;
        let here = here.await.map_err(|_| EngineError::Stopped)?;
        let others = match &self.shared.tail {
            Some(tail) => tail.announced().await?,
            None => Vec::new(),
        };
        let mut roster = Roster::new();
        let all = here.into_iter().chain(others);
        for connected in all.filter(|of| of.tenant.as_ref().is_none_or(|own| own == tenant)) {
            let entry = roster.entry(connected.driver).or_default();
            entry.0 += connected.workers;
            entry.1 += connected.free_slots;
        }
        Ok(roster)
    }

    async fn tell(&self, message: Message) -> Result<(), EngineError> {
        let sent = self.messages.send(message).await;
        sent.map_err(|_| EngineError::Stopped)
    }

    /// As [`Self::tell`], for a drop, which can not wait.
    fn tell_in_passing(&self, message: Message) {
        if let Err(mpsc::error::TrySendError::Full(message)) = self.messages.try_send(message) {
            // The loop is behind; it must learn of this all the same.
            // Without a runtime the process is on its way out, and the lease's own end tells the same.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                let messages = self.messages.clone();
                let told = async move { messages.send(message).await };
                self.shared.in_passing.spawn_on(told, &runtime);
            }
        }
    }
}

fn by_job(leases: impl IntoIterator<Item = LeaseKey>) -> HashMap<JobKey, Vec<LeaseKey>> {
    let mut by_job: HashMap<JobKey, Vec<LeaseKey>> = HashMap::new();
    for lease in leases {
        by_job.entry(lease.job_key()).or_default().push(lease);
    }
    by_job
}

/// Where the leases of a unary call come in. The call may be dropped when they have come and nobody has seen them: then they go back.
struct Granted<'a> {
    engine: &'a Engine,
    granted: oneshot::Receiver<Vec<Grant>>,
}

impl Granted<'_> {
    /// What is here; what comes later finds nobody and is taken back.
    fn take(&mut self) -> Option<Vec<Grant>> {
        self.granted.close();
        self.granted.try_recv().ok()
    }
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        let untaken = self.take().unwrap_or_default();
        if untaken.is_empty() {
            return;
        }
        let back = untaken.into_iter().map(|grant| give_back(grant.lease));
        let (reply, _nobody) = oneshot::channel();
        self.engine.tell_in_passing(Message::Commands {
            commands: back.collect(),
            reply,
            room: None,
        });
    }
}

impl WorkSession {
    /// What its worker may be given, and may speak of.
    pub fn reach(&self) -> &Arc<Reach> {
        &self.reach
    }

    /// The worker has got these leases and will carry them out. It counts for those that it was sent.
    ///
    /// # Errors
    /// The server has stopped.
    pub async fn acknowledge(&self, leases: Vec<LeaseKey>) -> Result<(), EngineError> {
        self.engine
            .tell(Message::Acknowledge(self.id, leases))
            .await
    }

    /// The worker wants to hold this many leases from now on.
    ///
    /// # Errors
    /// The server has stopped.
    pub async fn set_slots(&self, slots: u32) -> Result<(), EngineError> {
        self.engine.tell(Message::Slots(self.id, slots)).await
    }
}

impl Drop for WorkSession {
    fn drop(&mut self) {
        self.engine.tell_in_passing(Message::Close(self.id));
    }
}
