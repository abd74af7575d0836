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
    dispatch::{Acquirer, Roster, Session, SessionId, give_back},
    token::BadToken,
};
use crate::domain::{
    JobKey, LeaseKey,
    command::{CancelOrder, Command, Grant, Refusal, Reply, Report, Reported},
};

/// Messages that may wait for a worker's stream: each is a batch, and a stream that does not take them is broken.
const OUTBOX: usize = 1_024;

/// What a worker says of itself; checked by the front end.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Its name.
    pub worker: Arc<str>,
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
}

impl Engine {
    /// Begins a worker's session; what it is sent comes from the receiver.
    ///
    /// # Errors
    /// The server is draining or has stopped.
    pub async fn work(
        &self,
        hello: Hello,
    ) -> Result<(WorkSession, mpsc::Receiver<ToWorker>), EngineError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if self.shared.hub.is_draining() {
            return Err(EngineError::Draining);
        }
        let id = SessionId(NEXT.fetch_add(1, Ordering::Relaxed));
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let session = Session {
            worker: hello.worker,
            drivers: hello.drivers,
            slots: hello.slots,
            held: hello.held.into_iter().collect(),
            unacknowledged: HashSet::new(),
            outbox,
        };
        self.tell(Message::Open(id, session)).await?;
        let engine = self.clone();
        Ok((WorkSession { engine, id }, messages))
    }

    /// Leases for a worker without a stream; waits up to `wait` for the first.
    ///
    /// # Errors
    /// The server has stopped.
    pub async fn acquire(
        &self,
        worker: Arc<str>,
        drivers: Arc<[Arc<str>]>,
        most: u32,
        wait: Option<Duration>,
    ) -> Result<Vec<Grant>, EngineError> {
        let (reply, granted) = oneshot::channel();
        let acquirer = Acquirer {
            worker,
            drivers,
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

    /// Takes reports, in one commit; each has its own answer.
    ///
    /// # Errors
    /// The store failed; nothing was accepted.
    pub async fn report(
        &self,
        reports: Vec<(LeaseKey, Report)>,
    ) -> Result<Vec<Result<Reported, Refusal>>, EngineError> {
        let commands = reports
            .into_iter()
            .map(|(lease, report)| Command::Report { lease, report })
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
        let mut jobs: HashMap<JobKey, Vec<LeaseKey>> = HashMap::new();
        for lease in leases {
            jobs.entry(lease.job_key()).or_default().push(lease);
        }
        let mut watched: FuturesUnordered<_> = jobs
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
        self.shared.sealer.seal(b"lease", lease)
    }

    /// The lease that a token names; `None` if the token was not made here.
    pub fn open_lease_token(&self, token: &[u8]) -> Option<LeaseKey> {
        let opened: Result<LeaseKey, BadToken> = self.shared.sealer.open(b"lease", token);
        opened.ok()
    }

    /// How many workers of each driver are connected, and how many of their slots are free, here and wherever else the store is worked on.
    pub(super) async fn roster(&self) -> Result<Roster, EngineError> {
        let (reply, roster) = oneshot::channel();
        self.tell(Message::Roster(reply)).await?;
        let mut roster = roster.await.map_err(|_| EngineError::Stopped)?;
        let others = match &self.shared.tail {
            Some(tail) => tail.announced().await?,
            None => Vec::new(),
        };
        for connected in others {
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
    /// The worker has got these leases and will carry them out.
    ///
    /// # Errors
    /// The server has stopped.
    pub async fn acknowledge(&self, leases: Vec<LeaseKey>) -> Result<(), EngineError> {
        self.engine.tell(Message::Acknowledge(leases)).await
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
