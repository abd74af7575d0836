//! The commit loop: gathers whatever commands are waiting, loads the rows they name, decides, commits once, then answers all and wakes watchers.
//!
//! It is the only writer, and runs on a thread of its own: a store may block. One turn: take one message, then whatever waits; no timer, so that a lone
//! call pays one fsync and no wait. Nothing is told before it is committed.

mod follow_ups;
mod load;

use std::{collections::HashSet, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    EngineError, Shared,
    cache::HotJobs,
    clock::Randomness,
    dispatch::{Acquirer, Dispatch, Session, SessionId, give_back},
    publish::publish,
    queues::Queues,
    reach::Side,
    tail::Heard,
};
use follow_ups::{FollowUp, FollowUps};

use crate::{
    domain::{
        JobKey, LeaseKey, Timestamp,
        command::{Claim, Command, Context, Decision, Loaded, Refusal, Reply, WriteKind},
        decide::decide,
        reach::Queue,
    },
    store::{Connected, StoreError, Writer},
};

/// Commands in one commit: enough for any fsync to be shared widely, few enough that nobody waits long.
const MAX_COMMANDS: usize = 2_048;
/// Bytes of documents that count as one more command, so that a commit of large jobs stays below 32 MiB or so.
const BYTES_PER_COMMAND: usize = 16 * 1024;
/// Messages that may wait for the loop; callers beyond that wait for room.
pub(super) const MAX_WAITING: usize = 8_192;
/// How long the loop does nothing unasked after a failed commit.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long tasks are left to others who were at all of those that were looked at: about a commit's time.
const LEFT_TO_OTHERS: Duration = Duration::from_millis(5);
/// How long the loop has to be idle before it tidies up.
const IDLE: Duration = Duration::from_millis(250);
/// How long a loop that is never idle goes on without.
const TIDY_INTERVAL: Duration = Duration::from_secs(10);
/// Commits of our own that the feed has not told yet: beyond that they are forgotten, which costs a look at each lease that they are about.
const MAX_OWN_CHANGES: usize = 65_536;
/// Pauses before a batch is tried again because others changed the same: they are done in a moment, and two that meet again and again must not keep step.
const CONFLICT_PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(1))
    .with_max_delay(Duration::from_millis(50))
    .with_max_times(12)
    .with_jitter();

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
    Acknowledge(SessionId, Vec<LeaseKey>),
    /// It ended.
    Close(SessionId),
    /// A worker waits in a unary call.
    Acquire(Acquirer),
    /// Others have changed what is stored.
    Heard(Heard),
    /// Who is connected?
    Roster(oneshot::Sender<Vec<Connected>>),
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
    /// What was written need not be read again.
    exclusive: bool,
    /// Others sweep and hand out as well.
    is_shared: bool,
    leases_hold_until: Timestamp,
    /// How often the clock had been set forward when it was last looked at.
    clock_steps: u64,
    /// Commands of our own for the next batch.
    follow_ups: FollowUps,
    /// Leases of a commit of which nobody knows whether it is stored: their workers will not hear of them.
    in_doubt: Vec<LeaseKey>,
    /// What this loop did to leases and has not heard of from the feed: the holders know.
    own_changes: HashSet<(JobKey, u64)>,
    /// Jobs whose children are to be cancelled.
    cancel_children: Vec<(JobKey, String)>,
    /// Queues of this batch of which others than those that were looked at may be taken.
    crowded: Queues,
    /// There was something to take in this batch, or there would have been but for others.
    is_contended: bool,
    next_due: Option<Timestamp>,
    next_expire: Timestamp,
    tidy_at: Option<Timestamp>,
    tidied: Timestamp,
    /// Until then nothing is done unasked, because a commit failed.
    quiet_until: Timestamp,
    /// Until then nobody looks for tasks that others are at.
    left_until: Timestamp,
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
        let (now, clock_steps) = shared.clock.reading();
        let is_shared = shared.tail.is_some();
        writer.begin().await?;
        let next_due = load::next_look(writer.next_due().await?, is_shared, now);
        writer.rollback().await;
        let mut dispatch = Dispatch::default();
        for (driver, since, reason) in shared.store.paused_drivers().await? {
            dispatch.paused.insert(driver, (since, reason));
        }
        Ok(Self {
            exclusive: shared.store.info().exclusive,
            is_shared,
            clock_steps,
            leases_hold_until: now.after(shared.settings.policy.lease_duration),
            shared,
            writer,
            messages,
            dispatch,
            hot: HotJobs::new(),
            randomness: Randomness::new(),
            follow_ups: FollowUps::new(now),
            in_doubt: Vec::new(),
            own_changes: HashSet::new(),
            cancel_children: Vec::new(),
            crowded: Queues::default(),
            is_contended: false,
            next_due,
            next_expire: now,
            tidy_at: Some(now.after(IDLE)),
            tidied: now,
            quiet_until: now,
            left_until: now,
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
        let own = (!self.follow_ups.is_empty()).then(|| self.follow_ups.next_time());
        let children = (!self.cancel_children.is_empty()).then_some(now);
        let demand = !self.draining && self.dispatch.has_demand();
        let demand = demand.then_some(self.left_until);
        let resume = [own, children, demand].into_iter().flatten().min();
        let resume = resume.map(|time| time.max(self.quiet_until));
        let alarm = [self.next_due, Some(self.next_expire), self.tidy_at, resume]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now);
        if self.stopping || alarm <= now {
            while room > 0
                && let Ok(message) = self.messages.try_recv()
            {
                room = room.saturating_sub(message.weight());
                inbox.push(message);
            }
            let idle = inbox.is_empty() && self.tidy_at.is_some_and(|t| t <= now);
            if idle || now.since(self.tidied) >= TIDY_INTERVAL {
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
        self.tidy_at = None;
        self.tidied = now;
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
            Message::Acknowledge(id, leases) => {
                for lease in &leases {
                    self.dispatch.acknowledge(id, lease);
                }
            }
            Message::Close(id) => {
                let back = self.dispatch.close(id);
                self.follow_ups.add(back);
            }
            Message::Acquire(acquirer) if !self.draining => self.dispatch.wait(acquirer),
            // Dropping the reply answers that there is nothing.
            Message::Acquire(_) => {}
            Message::Heard(heard) => self.hear(heard),
            // A caller that has gone does not want to know.
            Message::Roster(reply) => drop(reply.send(self.dispatch.roster())),
            Message::Drain => {
                self.draining = true;
                self.dispatch.drain();
            }
            Message::Stop => self.stopping = true,
        }
    }

    /// What others did that concerns us: tasks to hand out, and leases of workers that are connected here.
    fn hear(&mut self, heard: Heard) {
        let Heard {
            ready_of,
            changed,
            is_gapless,
            paused,
        } = heard;
        match ready_of {
            None => self.dispatch.look_again(),
            Some(tenants) if tenants.is_empty() => {}
            Some(tenants) => self.dispatch.look_again_for(&tenants),
        }
        self.dispatch.set_paused(paused);
        let mut leases: Vec<LeaseKey> = Vec::new();
        if !is_gapless {
            self.own_changes.clear();
            leases.extend(self.dispatch.all_held());
        }
        for change in changed {
            if !self.own_changes.remove(&change) {
                leases.extend(self.dispatch.held_of(&change.0));
            }
        }
        let recalls = leases.into_iter().map(|lease| Command::Recall { lease });
        self.follow_ups.add(recalls);
    }

    /// One batch: tried again, within bounds, while others change the same.
    async fn turn(&mut self, mut batch: Batch) -> Result<(), StoreError> {
        let is_early = self.shared.clock.now() < self.follow_ups.next_time();
        let own = match is_early && !self.stopping {
            true => Vec::new(),
            false => self.follow_ups.take(),
        };
        let cancelled = std::mem::take(&mut self.cancel_children);
        let followed = own.iter().map(|own| &own.command);
        for command in batch.commands.iter().chain(followed) {
            if let Command::Report {
                lease,
                report,
                reach,
            } = command
            {
                self.dispatch.hear(lease, report, reach.as_deref());
            }
        }
        let mut pauses = CONFLICT_PAUSES.build();
        let done = loop {
            let commands = match self.is_shared {
                true => batch.commands.clone(),
                false => std::mem::take(&mut batch.commands),
            };
            let tried = self.transact(commands, &own, &cancelled).await;
            match (tried, pauses.next()) {
                (Err(StoreError::Conflict(why)), Some(pause)) => {
                    tracing::debug!(why, "others changed the same; trying again");
                    self.writer.rollback().await;
                    tokio::time::sleep(pause).await;
                }
                (tried, _) => break tried,
            }
        };
        let done = match done {
            Ok(done) => done,
            Err(error) => return self.fail(batch.waiters, own, error).await,
        };
        if !self.stopping {
            self.follow_ups.settle(self.shared.clock.now());
        }
        let Some((mut decision, first_position, now)) = done else {
            return Ok(());
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

    /// One transaction: what was decided, its place in the feed, and when. `None` if there was nothing to decide.
    async fn transact(
        &mut self,
        mut commands: Vec<Command>,
        own: &[FollowUp],
        cancelled: &[(JobKey, String)],
    ) -> Result<Option<(Decision, Option<u64>, Timestamp)>, StoreError> {
        self.writer.begin().await?;
        self.shared.reach.note(Side::Writing, true);
        let (now, clock_steps) = self.shared.clock.reading();
        let stepped = std::mem::replace(&mut self.clock_steps, clock_steps) != clock_steps;
        if self.shared.reach.take_was_away() || stepped {
            // Nobody could report while the store was away, or in time that there never was.
            self.leases_hold_until = now.after(self.shared.settings.policy.lease_duration);
        }
        let (loaded, claims) = self.load(&mut commands, own, cancelled, now).await?;
        if commands.is_empty() && claims.is_empty() {
            self.writer.rollback().await;
            return Ok(None);
        }
        let decision = self.decide(commands, &claims, loaded, now);
        if decision.changes.is_empty() {
            self.writer.rollback().await;
            return Ok(Some((decision, None, now)));
        }
        let committed = self.writer.commit(&decision.changes).await;
        if let Err(StoreError::OutcomeUnknown(_)) = committed {
            let grants = decision.grants.iter().flatten();
            self.in_doubt = grants.map(|grant| grant.lease.clone()).collect();
        }
        let committed = committed?;
        self.shared.tally.add(decision.changes.events.len());
        Ok(Some((decision, committed.first_position, now)))
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
            secrecy: self.shared.secrecy.as_ref(),
            is_paused: &|driver| paused.contains_key(driver),
            served: &mut self.dispatch.served,
            is_watched: &|key| watched && hub.is_watched(key),
        };
        decide(commands, claims, loaded, &mut context)
    }

    /// After the commit: memory, watchers, workers, timers.
    fn settle(&mut self, decision: &mut Decision, first_position: Option<u64>, now: Timestamp) {
        if self.is_shared {
            self.note_own(decision);
        }
        if !decision.changes.is_empty() {
            publish(&self.shared.hub, decision, first_position);
            self.tidy_at = Some(now.after(IDLE));
        }
        let is_followed = self.is_shared && self.shared.hub.has_followers();
        for write in decision.changes.jobs.drain(..) {
            if let Some(timer) = write.job.timer {
                self.next_due = Some(self.next_due.map_or(timer, |due| due.min(timer)));
            }
            if write.how == WriteKind::Delete {
                continue;
            }
            if is_followed {
                self.shared.own_jobs.put(write.job);
            } else if self.exclusive {
                self.hot.put(write.job);
            }
        }
        if self.is_shared && self.is_contended && decision.grants.iter().all(Vec::is_empty) {
            self.left_until = now.after(LEFT_TO_OTHERS);
        }
        // There is more than the round has seen.
        let crowded = std::mem::take(&mut self.crowded);
        let is_crowded = |queue: &Queue| crowded.contains(&queue.driver, queue.tenant.as_ref());
        decision.exhausted.retain(|queue| !is_crowded(queue));
        decision.ready.extend(crowded.into_iter());
        let commands = self.dispatch.take(decision);
        self.follow_ups.add(commands);
        self.cancel_children.append(&mut decision.cancel_children);
    }

    /// Takes note of what the feed will tell and the holders of leases know.
    fn note_own(&mut self, decision: &Decision) {
        if self.own_changes.len() > MAX_OWN_CHANGES {
            self.own_changes.clear();
        }
        let events = decision.changes.events.iter();
        let own = events.filter(|event| event.kind.may_concern_holders());
        self.own_changes
            .extend(own.map(|event| (event.job_key(), event.revision)));
    }

    /// The batch came to nothing; every caller is told why.
    async fn fail(
        &mut self,
        waiters: Vec<Waiter>,
        own: Vec<FollowUp>,
        error: StoreError,
    ) -> Result<(), StoreError> {
        let is_away = matches!(error, StoreError::Unavailable(_));
        // Nobody is kept from leaving by what nobody waits for.
        if !self.stopping {
            self.follow_ups.put_back(own, is_away);
            let in_doubt = std::mem::take(&mut self.in_doubt);
            self.follow_ups.add(in_doubt.into_iter().map(give_back));
        }
        if is_away {
            self.shared.reach.note(Side::Writing, false);
        } else {
            tracing::error!(%error, calls = waiters.len(), "a commit failed");
        }
        self.writer.rollback().await;
        self.dispatch.forget_claims();
        let later = self.shared.clock.now().after(PAUSE_AFTER_FAILURE);
        self.quiet_until = later;
        self.next_expire = match is_away {
            // So that somebody looks whether it is back.
            true => later,
            false => self.next_expire.max(later),
        };
        self.next_due = self.next_due.map(|due| due.max(later));
        for waiter in waiters {
            let _ = waiter.reply.send(Err(EngineError::Store(error.clone())));
        }
        match error {
            StoreError::Fatal(_) => Err(error),
            StoreError::Full
            | StoreError::OutcomeUnknown(_)
            | StoreError::Conflict(_)
            | StoreError::Unavailable(_)
            | StoreError::Busy(_)
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
            | Self::Acknowledge(..)
            | Self::Close(_)
            | Self::Acquire(_)
            | Self::Heard(_)
            | Self::Roster(_)
            | Self::Drain
            | Self::Stop => 1,
        }
    }
}

fn makes_a_job(command: &Command) -> bool {
    matches!(command.bare(), Command::Submit(_) | Command::Retry { .. })
}
