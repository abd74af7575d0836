//! The commit loop: gathers whatever commands are waiting, loads the rows they name, decides, commits once, then answers all and wakes watchers.
//!
//! It is the only writer, and runs on a thread of its own: a store may block. One turn: take one message, then whatever waits; no timer, so that a lone
//! call pays one fsync and no wait. Nothing is told before it is committed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    EngineError, Shared,
    cache::HotJobs,
    clock::Randomness,
    dispatch::{Acquirer, Dispatch, Roster, Session, SessionId},
    publish::publish,
};
use crate::{
    domain::{
        Job, JobKey, LeaseKey, Timestamp,
        command::{
            Claim, Command, Context, Decision, Loaded, Refusal, Reply, RequestKey, WriteKind,
        },
        decide::decide,
        limits::MAX_DEPTH,
    },
    store::{MAX_TENANTS_PER_CLAIM, StoreError, Writer},
};

/// Commands in one commit: enough for any fsync to be shared widely, few enough that nobody waits long.
const MAX_COMMANDS: usize = 2_048;
/// Bytes of documents that count as one more command, so that a commit of large jobs stays below 32 MiB or so.
const BYTES_PER_COMMAND: usize = 16 * 1024;
/// Messages that may wait for the loop; callers beyond that wait for room.
pub(super) const MAX_WAITING: usize = 8_192;
/// Jobs that the sweeper looks at in one commit.
const MAX_DUE: usize = 500;
/// Finished jobs that are removed in one commit.
const MAX_EXPIRED: usize = 500;
/// Child jobs of a cancelled job that are cancelled in one commit; the parent's timer sees to the rest.
const MAX_CHILDREN: usize = 500;
/// How often finished jobs are looked at for removal.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the loop does nothing unasked after a failed commit.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long the loop has to be idle before it tidies up.
const IDLE: Duration = Duration::from_millis(250);

pub(super) type Answers = Result<Vec<Result<Reply, Refusal>>, EngineError>;

/// What can be asked of the loop.
pub(super) enum Message {
    /// Decide these together; they are answered in order.
    Commands {
        commands: Vec<Command>,
        reply: oneshot::Sender<Answers>,
        /// Room for their documents in the memory of the process, until they are answered.
        room: Option<OwnedSemaphorePermit>,
    },
    /// A worker's stream began.
    Open(SessionId, Session),
    /// It wants more or fewer leases.
    Slots(SessionId, u32),
    /// It has got these leases.
    Acknowledge(Vec<LeaseKey>),
    /// It ended.
    Close(SessionId),
    /// A worker waits in a unary call.
    Acquire(Acquirer),
    /// Who is connected?
    Roster(oneshot::Sender<Roster>),
    /// Give out no more leases and tell the workers.
    Drain,
    /// Finish what waits and end.
    Stop,
}

/// Those who wait for a part of a batch's replies.
struct Waiter {
    count: usize,
    reply: oneshot::Sender<Answers>,
    _room: Option<OwnedSemaphorePermit>,
}

pub(super) struct CommitLoop {
    shared: Arc<Shared>,
    writer: Box<dyn Writer>,
    messages: mpsc::Receiver<Message>,
    dispatch: Dispatch,
    hot: HotJobs,
    randomness: Randomness,
    exclusive: bool,
    leases_hold_until: Timestamp,
    /// Commands of our own for the next batch.
    follow_ups: Vec<Command>,
    /// Jobs whose children are to be cancelled.
    cancel_children: Vec<(JobKey, String)>,
    /// Drivers of this batch of which more tenants may have tasks than were looked at.
    crowded: HashSet<Arc<str>>,
    next_due: Option<Timestamp>,
    next_expire: Timestamp,
    tidy_at: Option<Timestamp>,
    /// Until then nothing is done unasked, because a commit failed.
    quiet_until: Timestamp,
    draining: bool,
    stopping: bool,
}

/// One turn's worth of work.
#[derive(Default)]
struct Batch {
    commands: Vec<Command>,
    waiters: Vec<Waiter>,
}

impl CommitLoop {
    pub(super) async fn start(
        shared: Arc<Shared>,
        mut writer: Box<dyn Writer>,
        messages: mpsc::Receiver<Message>,
    ) -> Result<Self, StoreError> {
        let now = shared.clock.now();
        writer.begin().await?;
        let next_due = writer.next_due().await?;
        writer.rollback().await;
        let mut dispatch = Dispatch::default();
        for (driver, since, reason) in shared.store.paused_drivers().await? {
            dispatch.paused.insert(driver, (since, reason));
        }
        Ok(Self {
            exclusive: shared.store.info().exclusive,
            leases_hold_until: now.after(shared.settings.policy.lease_duration),
            shared,
            writer,
            messages,
            dispatch,
            hot: HotJobs::new(),
            randomness: Randomness::new(),
            follow_ups: Vec::new(),
            cancel_children: Vec::new(),
            crowded: HashSet::new(),
            next_due,
            next_expire: now,
            tidy_at: Some(now.after(IDLE)),
            quiet_until: now,
            draining: false,
            stopping: false,
        })
    }

    /// Runs until it is told to stop or the store can not be trusted any more.
    pub(super) async fn run(mut self) -> Result<(), StoreError> {
        let mut inbox = Vec::with_capacity(256);
        loop {
            self.wait(&mut inbox).await?;
            let mut batch = Batch::default();
            for message in inbox.drain(..) {
                self.take_in(message, &mut batch);
            }
            let done = batch.commands.is_empty() && self.follow_ups.is_empty();
            if self.stopping && self.messages.is_empty() && done {
                return Ok(());
            }
            self.turn(batch).await?;
        }
    }

    /// Waits for messages, or for the time to do something unasked.
    async fn wait(&mut self, inbox: &mut Vec<Message>) -> Result<(), StoreError> {
        let mut room = MAX_COMMANDS;
        let now = self.shared.clock.now();
        let pending = !self.follow_ups.is_empty()
            || !self.cancel_children.is_empty()
            || (!self.draining && self.dispatch.has_demand());
        let quiet = now < self.quiet_until;
        let busy = pending && !quiet;
        let resume = (pending && quiet).then_some(self.quiet_until);
        let alarm = [self.next_due, Some(self.next_expire), self.tidy_at, resume]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now);
        if self.stopping || busy || alarm <= now {
            while room > 0
                && let Ok(message) = self.messages.try_recv()
            {
                room = room.saturating_sub(message.weight());
                inbox.push(message);
            }
            if inbox.is_empty() && self.tidy_at.is_some_and(|t| t <= now) {
                self.tidy_at = None;
                self.tidy(now).await?;
            }
            return Ok(());
        }
        let first = match tokio::time::timeout(alarm.since(now), self.messages.recv()).await {
            Ok(Some(first)) => first,
            Ok(None) => {
                self.stopping = true;
                return Ok(());
            }
            Err(_elapsed) => return Ok(()),
        };
        room = room.saturating_sub(first.weight());
        inbox.push(first);
        while room > 0
            && let Ok(message) = self.messages.try_recv()
        {
            room = room.saturating_sub(message.weight());
            inbox.push(message);
        }
        Ok(())
    }

    /// What can not be tidied now is tidied later; only a store that can not be trusted ends the loop.
    async fn tidy(&mut self, now: Timestamp) -> Result<(), StoreError> {
        match self.writer.tidy(now).await {
            Err(error @ StoreError::Fatal(_)) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "the store could not be tidied");
                self.tidy_at = Some(now.after(PAUSE_AFTER_FAILURE));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn take_in(&mut self, message: Message, batch: &mut Batch) {
        match message {
            Message::Commands {
                commands,
                reply,
                room,
            } => {
                if self.writer.is_low_on_space() && commands.iter().any(makes_a_job) {
                    // Tidying looks at the disk again, which an idle store would not.
                    let soon = self.shared.clock.now().after(IDLE);
                    self.tidy_at.get_or_insert(soon);
                    // What finishes jobs goes on; what makes new ones has to wait. A caller that has gone does not want to know.
                    let _ = reply.send(Err(EngineError::Store(StoreError::Full)));
                    return;
                }
                batch.waiters.push(Waiter {
                    count: commands.len(),
                    reply,
                    _room: room,
                });
                batch.commands.extend(commands);
            }
            Message::Open(id, session) => {
                self.dispatch.open(id, session);
                if self.draining {
                    self.dispatch.drain();
                }
            }
            Message::Slots(id, slots) if !self.draining => self.dispatch.set_slots(id, slots),
            Message::Slots(..) => {}
            Message::Acknowledge(leases) => {
                for lease in &leases {
                    self.dispatch.acknowledge(lease);
                }
            }
            Message::Close(id) => self.follow_ups.extend(self.dispatch.close(id)),
            Message::Acquire(acquirer) if !self.draining => self.dispatch.wait(acquirer),
            // Dropping the reply answers that there is nothing.
            Message::Acquire(_) => {}
            // A caller that has gone does not want to know.
            Message::Roster(reply) => drop(reply.send(self.dispatch.roster())),
            Message::Drain => {
                self.draining = true;
                self.dispatch.drain();
            }
            Message::Stop => self.stopping = true,
        }
    }

    /// One transaction.
    async fn turn(&mut self, mut batch: Batch) -> Result<(), StoreError> {
        let own = std::mem::take(&mut self.follow_ups);
        batch.commands.extend(own.iter().cloned());
        for command in &batch.commands {
            if let Command::Report { lease, report } = command {
                self.dispatch.hear(lease, report);
            }
        }
        let now = self.shared.clock.now();
        let prepared = self.prepare(&mut batch.commands, now).await;
        let (loaded, claims) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.fail(batch.waiters, own, error).await,
        };
        if batch.commands.is_empty() && claims.is_empty() {
            self.writer.rollback().await;
            return Ok(());
        }
        let mut decision = self.decide(batch.commands, &claims, loaded, now);
        let first_position = if decision.changes.is_empty() {
            self.writer.rollback().await;
            None
        } else {
            match self.writer.commit(&decision.changes).await {
                Ok(committed) => {
                    self.shared.tally.add(decision.changes.events.len());
                    Some(committed.first_position)
                }
                Err(error) => return self.fail(batch.waiters, own, error).await,
            }
        };
        self.settle(&mut decision, first_position, now);
        let mut replies = std::mem::take(&mut decision.replies).into_iter();
        for waiter in batch.waiters {
            let answers = replies.by_ref().take(waiter.count).collect();
            // A caller that has gone does not want to know.
            let _ = waiter.reply.send(Ok(answers));
        }
        Ok(())
    }

    /// Adds commands of our own and loads every row that the batch needs.
    async fn prepare(
        &mut self,
        commands: &mut Vec<Command>,
        now: Timestamp,
    ) -> Result<(Loaded, Vec<Claim>), StoreError> {
        self.writer.begin().await?;
        self.sweep(commands, now).await?;
        let mut wanted: Vec<JobKey> = Vec::new();
        let mut loaded = Loaded::default();
        let requests: Vec<RequestKey> = commands.iter().filter_map(request_of).collect();
        if !requests.is_empty() {
            for (key, record) in self.writer.requests(&requests).await? {
                wanted.push(record.key.clone());
                loaded.requests.insert(key, record);
            }
        }
        wanted.extend(commands.iter().filter_map(key_of));
        let claims = self.claim(commands, &mut loaded, &mut wanted, now).await?;
        self.load(wanted, &mut loaded).await?;
        Ok((loaded, claims))
    }

    /// What time asks for: timers, retention, and children of cancelled jobs.
    async fn sweep(
        &mut self,
        commands: &mut Vec<Command>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for (parent, reason) in std::mem::take(&mut self.cancel_children) {
            let reason = match reason.as_str() {
                "" => format!("its parent job {} was cancelled", parent.job),
                reason => format!("its parent job {} was cancelled: {reason}", parent.job),
            };
            for key in self.writer.open_children(&parent, MAX_CHILDREN).await? {
                let reason = reason.clone();
                commands.push(Command::Cancel { key, reason });
            }
        }
        if self.next_due.is_some_and(|t| t <= now) {
            let due = self.writer.due(now, MAX_DUE).await?;
            if due.is_empty() {
                self.next_due = self.writer.next_due().await?;
            }
            commands.extend(due.into_iter().map(|key| Command::Sweep { key }));
        }
        if self.next_expire <= now {
            let expired = self.writer.expired(now, MAX_EXPIRED).await?;
            self.next_expire = match expired.len() {
                MAX_EXPIRED => now,
                _ => now.after(EXPIRE_INTERVAL),
            };
            commands.extend(expired.into_iter().map(|key| Command::Expire { key }));
        }
        Ok(())
    }

    /// The claims of the workers that want tasks, with the candidates for them.
    async fn claim(
        &mut self,
        commands: &[Command],
        loaded: &mut Loaded,
        wanted: &mut Vec<JobKey>,
        now: Timestamp,
    ) -> Result<Vec<Claim>, StoreError> {
        if self.draining || now < self.quiet_until {
            return Ok(Vec::new());
        }
        let claims = self.dispatch.claims(&fresh_drivers(commands));
        let mut slots: HashMap<Arc<str>, usize> = HashMap::new();
        for claim in claims.iter().filter(|claim| claim.slots > 0) {
            for driver in claim.drivers.iter() {
                *slots.entry(driver.clone()).or_default() += claim.slots as usize;
            }
        }
        for (driver, slots) in slots {
            if self.dispatch.paused.contains_key(&driver) {
                continue;
            }
            let served = self.dispatch.served.get(&driver);
            let ready = self.writer.ready(&driver, served, slots).await?;
            let tenants: HashSet<_> = ready.iter().map(|task| &task.key.tenant).collect();
            if tenants.len() >= MAX_TENANTS_PER_CLAIM {
                self.crowded.insert(driver.clone());
            }
            wanted.extend(ready.iter().map(|task| task.key.clone()));
            loaded.ready.insert(driver, ready);
        }
        Ok(claims)
    }

    /// Loads jobs and all of their ancestors, from memory where that is known to be true.
    async fn load(&mut self, wanted: Vec<JobKey>, loaded: &mut Loaded) -> Result<(), StoreError> {
        let mut seen: HashSet<JobKey> = HashSet::with_capacity(wanted.len());
        let mut wanted: Vec<JobKey> = wanted
            .into_iter()
            .filter(|key| seen.insert(key.clone()))
            .collect();
        for _level in 0..=MAX_DEPTH + 1 {
            let mut found: Vec<Arc<Job>> = Vec::with_capacity(wanted.len());
            let mut missing = Vec::new();
            for key in wanted {
                match self.hot.take(&key) {
                    Some(job) => found.push(job),
                    None => missing.push(key),
                }
            }
            if !missing.is_empty() {
                let jobs = self.writer.jobs(&missing).await?;
                found.extend(jobs.into_iter().map(Arc::new));
            }
            wanted = found
                .iter()
                .filter_map(|job| job.parent_key())
                .filter(|key| seen.insert(key.clone()))
                .collect();
            loaded.jobs.append(&mut found);
            if wanted.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn decide(
        &mut self,
        commands: Vec<Command>,
        claims: &[Claim],
        loaded: Loaded,
        now: Timestamp,
    ) -> Decision {
        let paused = &self.dispatch.paused;
        let hub = &self.shared.hub;
        let watched = hub.has_watchers();
        let mut context = Context {
            now,
            policy: self.shared.settings.policy,
            leases_hold_until: self.leases_hold_until,
            source: &mut self.randomness,
            is_paused: &|driver| paused.contains_key(driver),
            served: &mut self.dispatch.served,
            is_watched: &|key| watched && hub.is_watched(key),
        };
        decide(commands, claims, loaded, &mut context)
    }

    /// After the commit: memory, watchers, workers, timers.
    fn settle(&mut self, decision: &mut Decision, first_position: Option<u64>, now: Timestamp) {
        if let Some(first) = first_position {
            publish(&self.shared.hub, decision, first);
            self.tidy_at = Some(now.after(IDLE));
        }
        for write in decision.changes.jobs.drain(..) {
            if let Some(timer) = write.job.timer {
                self.next_due = Some(self.next_due.map_or(timer, |due| due.min(timer)));
            }
            if self.exclusive && write.how != WriteKind::Delete {
                self.hot.put(write.job);
            }
        }
        // Where more tenants wait than take part in a round, there is more than the round has seen.
        let crowded = std::mem::take(&mut self.crowded);
        decision
            .exhausted_drivers
            .retain(|driver| !crowded.contains(driver));
        self.follow_ups.extend(self.dispatch.take(decision));
        self.cancel_children.append(&mut decision.cancel_children);
    }

    /// The batch came to nothing; every caller is told why.
    async fn fail(
        &mut self,
        waiters: Vec<Waiter>,
        own: Vec<Command>,
        error: StoreError,
    ) -> Result<(), StoreError> {
        self.follow_ups.splice(0..0, own);
        tracing::error!(%error, calls = waiters.len(), "a commit failed");
        self.writer.rollback().await;
        self.dispatch.forget_claims();
        let later = self.shared.clock.now().after(PAUSE_AFTER_FAILURE);
        self.quiet_until = later;
        self.next_expire = self.next_expire.max(later);
        self.next_due = self.next_due.map(|due| due.max(later));
        for waiter in waiters {
            let _ = waiter.reply.send(Err(EngineError::Store(error.clone())));
        }
        match error {
            StoreError::Fatal(_) => Err(error),
            StoreError::Full
            | StoreError::OutcomeUnknown(_)
            | StoreError::Failed(_)
            | StoreError::Corrupt(_) => Ok(()),
        }
    }
}

impl Message {
    /// How much of a batch it takes up.
    fn weight(&self) -> usize {
        match self {
            Self::Commands { commands, .. } => {
                let bytes: usize = commands.iter().map(Command::document_bytes).sum();
                commands.len().max(1) + bytes / BYTES_PER_COMMAND
            }
            Self::Open(..)
            | Self::Slots(..)
            | Self::Acknowledge(_)
            | Self::Close(_)
            | Self::Acquire(_)
            | Self::Roster(_)
            | Self::Drain
            | Self::Stop => 1,
        }
    }
}

fn makes_a_job(command: &Command) -> bool {
    matches!(command, Command::Submit(_) | Command::Retry { .. })
}

/// Drivers of which tasks may become ready by these commands.
fn fresh_drivers(commands: &[Command]) -> HashSet<Arc<str>> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::Submit(submission) => Some(submission),
            _ => None,
        })
        .flat_map(|submission| submission.tasks.iter())
        .map(|task| task.driver.clone())
        .collect()
}

fn request_of(command: &Command) -> Option<RequestKey> {
    let (tenant, id) = match command {
        Command::Submit(submission) => (&submission.tenant, &submission.request_id),
        Command::Retry {
            key, request_id, ..
        } => (&key.tenant, request_id),
        Command::Cancel { .. }
        | Command::Delete { .. }
        | Command::Report { .. }
        | Command::CancelDelivered { .. }
        | Command::Sweep { .. }
        | Command::Expire { .. }
        | Command::PauseDriver { .. }
        | Command::ResumeDriver { .. } => return None,
    };
    (!id.is_empty()).then(|| RequestKey {
        tenant: tenant.clone(),
        id: id.clone(),
    })
}

fn key_of(command: &Command) -> Option<JobKey> {
    match command {
        Command::Submit(submission) => submission.spec.parent.map(|job| JobKey {
            tenant: submission.tenant.clone(),
            job,
        }),
        Command::Cancel { key, .. }
        | Command::Retry { key, .. }
        | Command::Delete { key }
        | Command::Sweep { key }
        | Command::Expire { key } => Some(key.clone()),
        Command::Report { lease, .. } | Command::CancelDelivered { lease } => Some(lease.job_key()),
        Command::PauseDriver { .. } | Command::ResumeDriver { .. } => None,
    }
}
