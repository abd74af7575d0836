//! Makes decisions happen: the commit loop, the dispatcher and sweeper in it, and the watch hub. The only place with tasks and timers of its own.
//!
//! Front ends call [`Engine`] with domain types and get domain types. The engine must not know any protocol, nor a store by name.

mod cache;
mod clock;
mod commit;
mod dispatch;
mod follow;
mod hub;
mod publish;
mod query;
mod queues;
mod reach;
mod registry;
mod select;
mod tail;
mod token;
mod topic;
mod watch;
mod work;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch as latest};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub use clock::{Clock, SteadyClock};
pub use follow::{Change, FollowItem, JobFollow};
pub(crate) use query::bad_token;
pub use query::{EventPage, JobPage, ListRequest, page_size};
pub use select::{
    Anchor, MAX_SORT_TEXT_BYTES, MAX_SORTED, Residual, Selected, SelectedSorted, Selection,
    SortKey, SortValue, SortedSelection,
};
pub use token::{fingerprint, fingerprint_of};
pub use topic::{FORMS, Version};
pub use watch::{JobWatch, WaitEnd, WatchItem, WatchOptions};
pub use work::{Hello, ToWorker, WorkSession};

use crate::{
    domain::{
        Job, JobId, JobKey, Tenant, Timestamp,
        access::Actor,
        command::{Command, Refusal, Reply, Submission},
        limits::Policy,
        secrecy::Secrecy,
        submission::Violation,
        wording::Sentence,
    },
    store::{Store, StoreError, StoreInfo, Tail},
};
use cache::OwnJobs;
use commit::{Answers, CommitLoop, Message};
use hub::Hub;
use reach::Reach;
use token::Sealer;

/// Documents smaller than this are not counted: there are no more than [`commit::MAX_WAITING`] of them.
const ROOM_UNIT_BYTES: usize = 4 * 1024;
/// How many of these units may wait for a commit: 256 MiB. Callers beyond that wait for room.
const ROOM_UNITS: u32 = 64 * 1024;
/// Lists in an order without an index that are looked through at a time; the others wait for their turn.
const MAX_SORTING: usize = 2;

/// What the operator sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// Leases, cancellation and retention.
    pub policy: Policy,
    /// How often a worker reports, at least.
    pub heartbeat_interval: Duration,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            heartbeat_interval: Duration::from_secs(10),
        }
    }
}

/// Why the engine did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The state of things forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The request is malformed; every bad field is named.
    #[error("the request has {} bad fields", .0.len())]
    Invalid(Vec<Violation>),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was told may be lost: whoever listens has to begin again, and is told where.
    #[error(
        "the database has failed over; call again with the newest revision or cursor that was seen"
    )]
    FailedOver,
    /// The server is about to go.
    #[error("the server is shutting down; call again")]
    Draining,
    /// The commit loop has ended.
    #[error("the server has stopped working; call another one, or again when it is back")]
    Stopped,
}

impl EngineError {
    /// One bad field.
    pub fn invalid(field: impl Into<String>, description: impl Into<Sentence>) -> Self {
        Self::Invalid(vec![Violation::new(field, description)])
    }

    /// There is no such job.
    pub fn job_not_found(job: JobId) -> Self {
        Self::Refused(Refusal::JobNotFound(job))
    }
}

/// What the parts of the engine share.
struct Shared {
    store: Arc<dyn Store>,
    /// On their way to the followers.
    own_jobs: OwnJobs,
    /// What others write to the store, if any do.
    tail: Option<Arc<dyn Tail>>,
    clock: Arc<dyn Clock>,
    hub: Arc<Hub>,
    sealer: Sealer,
    secrecy: Arc<dyn Secrecy>,
    settings: EngineSettings,
    /// For the documents of commands that wait for a commit, in [`ROOM_UNIT_BYTES`].
    room: Arc<Semaphore>,
    /// Turns for looks at lists in an order without an index.
    sorting: Semaphore,
    /// What drops have begun to tell the commit loop.
    in_passing: TaskTracker,
    started: Timestamp,
    /// Whether the store can be reached.
    reach: Reach,
    tally: CommitTally,
}

/// What the commit loop has committed since it started.
#[derive(Debug, Default)]
struct CommitTally {
    commits: AtomicU64,
    changes: AtomicU64,
}

impl CommitTally {
    fn add(&self, changes: usize) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.changes.fetch_add(changes as u64, Ordering::Relaxed);
    }
}

/// A handle on the engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    messages: mpsc::Sender<Message>,
}

/// The thread of the commit loop. Who holds this owns the engine's end.
pub struct EngineThread {
    in_passing: TaskTracker,
    messages: mpsc::Sender<Message>,
    ended: oneshot::Receiver<Result<(), StoreError>>,
    /// Ends what hears of others, also when this is dropped.
    deaf: DropGuard,
    hearing: TaskTracker,
}

impl EngineThread {
    /// Resolves when the loop ends: by [`Self::stop`], or because the store can not be trusted any more.
    pub async fn ended(&mut self) -> Result<(), StoreError> {
        match (&mut self.ended).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Fatal("the commit loop panicked".into())),
        }
    }

    /// Commits what waits, and ends the loop.
    ///
    /// # Errors
    /// The loop ended before, with this error.
    pub async fn stop(mut self) -> Result<(), StoreError> {
        // If nobody takes the message, the loop has ended already.
        let _ = self.messages.send(Message::Stop).await;
        let ended = self.ended().await;
        // They find nobody any more.
        self.in_passing.close();
        self.in_passing.wait().await;
        drop(self.deaf);
        self.hearing.close();
        self.hearing.wait().await;
        ended
    }
}

impl Engine {
    /// Starts the commit loop on a thread of its own.
    ///
    /// # Errors
    /// The store can not be read, or has been taken by another engine.
    pub async fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        secrecy: Arc<dyn Secrecy>,
        settings: EngineSettings,
    ) -> Result<(Self, EngineThread), StoreError> {
        let position = store.end_of_feed().await?;
        let shared = Arc::new(Shared {
            sealer: Sealer::new(&store.info().token_key, Arc::clone(&secrecy)),
            hub: Hub::new(position.clone()),
            started: clock.now(),
            room: Arc::new(Semaphore::new(ROOM_UNITS as usize)),
            sorting: Semaphore::new(MAX_SORTING),
            in_passing: TaskTracker::new(),
            reach: Reach::new(),
            tally: CommitTally::default(),
            own_jobs: OwnJobs::new(),
            tail: store.tail(),
            store,
            clock,
            secrecy,
            settings,
        });
        let (messages, inbox) = mpsc::channel(commit::MAX_WAITING);
        let writer = shared.store.writer()?;
        let commit_loop = CommitLoop::start(shared.clone(), writer, inbox);
        let failed =
            |what, error| StoreError::Failed(format!("no {what} for the commit loop: {error}"));
        // With timers and sockets of its own: in another runtime each of its waits would wake a thread there first.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed("runtime", error))?;
        let (begin, begun) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let run = async move {
            // Nobody listens if the process is on its way out already.
            let commit_loop = match commit_loop.await {
                Ok(commit_loop) => commit_loop,
                Err(error) => return drop(begin.send(Err(error))),
            };
            let _ = begin.send(Ok(()));
            let _ = end.send(commit_loop.run().await);
        };
        std::thread::Builder::new()
            .name("commit".into())
            .spawn(move || runtime.block_on(run))
            .map_err(|error| failed("thread", error))?;
        let died = |_| failed("beginning", io::Error::other("it panicked"));
        begun.await.map_err(died)??;
        let stop = CancellationToken::new();
        let hearing = TaskTracker::new();
        if let Some(tail) = &shared.tail {
            let follower = tail::Follower {
                shared: shared.clone(),
                tail: tail.clone(),
                messages: messages.clone(),
                position,
            };
            hearing.spawn(follower.run(stop.clone()));
            hearing.spawn(tail::announce(tail.clone(), messages.clone(), stop.clone()));
        }
        let engine = Self {
            shared,
            messages: messages.clone(),
        };
        let thread = EngineThread {
            in_passing: engine.shared.in_passing.clone(),
            messages,
            ended,
            deaf: stop.drop_guard(),
            hearing,
        };
        Ok((engine, thread))
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// When this engine started.
    pub fn start_time(&self) -> Timestamp {
        self.shared.started
    }

    /// How many transactions were committed since the start, and how many changes of jobs were in them.
    pub fn committed(&self) -> (u64, u64) {
        let CommitTally { commits, changes } = &self.shared.tally;
        (
            commits.load(Ordering::Relaxed),
            changes.load(Ordering::Relaxed),
        )
    }

    /// Whether the store can be reached, as it changes. What can not be stored meanwhile is refused; watches stay open and go on when it is back.
    pub fn reached(&self) -> latest::Receiver<bool> {
        self.shared.reach.subscribe()
    }

    /// What keeps secrets.
    pub fn secrecy(&self) -> &dyn Secrecy {
        self.shared.secrecy.as_ref()
    }

    /// What the operator set.
    pub fn settings(&self) -> &EngineSettings {
        &self.shared.settings
    }

    /// What keeps the jobs.
    pub fn store_info(&self) -> &StoreInfo {
        self.shared.store.info()
    }

    /// Whether the server is about to go.
    pub fn is_draining(&self) -> bool {
        self.shared.hub.is_draining()
    }

    /// Stops giving out leases, tells workers and watchers, and refuses new watches. Calls go on.
    pub async fn drain(&self) {
        self.shared.hub.drain();
        // If nobody takes the message, there is nothing left to drain.
        let _ = self.messages.send(Message::Drain).await;
    }

    /// Stores jobs, in one commit; each has its own answer.
    ///
    /// # Errors
    /// Nothing, or everything if it is [`StoreError::OutcomeUnknown`], may have been stored.
    pub async fn submit(
        &self,
        submissions: Vec<Submission>,
    ) -> Result<Vec<Result<(Arc<Job>, bool), Refusal>>, EngineError> {
        let commands = submissions.into_iter().map(Command::Submit).collect();
        Ok(self
            .ask(commands)
            .await?
            .into_iter()
            .map(|answer| answer.map(submitted))
            .collect())
    }

    /// Stops a job. Answers with the job as it is then. The audit log is told who did it, here and below, unless nobody did.
    ///
    /// # Errors
    /// There is no such job.
    pub async fn cancel(
        &self,
        key: JobKey,
        reason: String,
        actor: Option<Actor>,
    ) -> Result<Arc<Job>, EngineError> {
        let command = Command::Cancel { key, reason }.by(actor);
        Ok(submitted(self.ask_one(command).await?).0)
    }

    /// Tries again; answers with the job that is open now, and whether it is new.
    ///
    /// # Errors
    /// There is no such job, or it succeeded.
    pub async fn retry(
        &self,
        key: JobKey,
        request_id: String,
        actor: Option<Actor>,
    ) -> Result<(Arc<Job>, bool), EngineError> {
        let command = Command::Retry {
            fingerprint: fingerprint(&[b"retry", key.job.0.as_bytes()]),
            key,
            request_id,
        };
        Ok(submitted(self.ask_one(command.by(actor)).await?))
    }

    /// Removes a finished job.
    ///
    /// # Errors
    /// There is no such job, or it has not ended.
    pub async fn delete(&self, key: JobKey, actor: Option<Actor>) -> Result<(), EngineError> {
        let command = Command::Delete { key };
        self.ask_one(command.by(actor)).await.map(drop)
    }

    /// Hands out no more tasks of a driver.
    ///
    /// # Errors
    /// The store failed.
    pub async fn pause_driver(
        &self,
        driver: &str,
        reason: String,
        actor: Option<Actor>,
    ) -> Result<(), EngineError> {
        let driver = driver.into();
        let command = Command::PauseDriver { driver, reason };
        self.ask_one(command.by(actor)).await.map(drop)
    }

    /// Hands out tasks of a driver again.
    ///
    /// # Errors
    /// The store failed.
    pub async fn resume_driver(
        &self,
        driver: &str,
        actor: Option<Actor>,
    ) -> Result<(), EngineError> {
        let driver = driver.into();
        let command = Command::ResumeDriver { driver };
        self.ask_one(command.by(actor)).await.map(drop)
    }

    /// One job as it is, to be encoded for whoever asks.
    ///
    /// # Errors
    /// There is no such job.
    pub async fn version(&self, key: &JobKey) -> Result<Arc<Version>, EngineError> {
        Ok(Version::new(self.get(key).await?, false))
    }

    /// Follows one job.
    ///
    /// # Errors
    /// There is no such job, or the server is draining.
    pub async fn watch(
        &self,
        key: &JobKey,
        options: WatchOptions,
    ) -> Result<JobWatch, EngineError> {
        let hub = &self.shared.hub;
        if hub.is_draining() {
            return Err(EngineError::Draining);
        }
        // Register first, then read: what is committed in between reaches the topic.
        let subscription = hub.subscribe(key);
        // Between a commit and its telling the store is ahead of the topic, and so may the caller be.
        // Where others write too, it may be behind what the caller did elsewhere.
        let known = subscription
            .newest()
            .filter(|_| self.shared.tail.is_none())
            .filter(|version| version.job.revision >= options.after_revision);
        let first = match known {
            Some(version) => version,
            None => {
                let job = self.get(key).await?;
                let version = Version::new(job, false);
                // A version that is kept counts as told; of what others did, those who wait are yet to be told.
                if self.shared.tail.is_none() {
                    hub.seed(&version);
                }
                version
            }
        };
        Ok(JobWatch::new(subscription, first, options))
    }

    /// Waits until the job is newer than `after`, or terminal; `None` waits for the end alone. Answers with the newest that was seen, and why it waits no more.
    ///
    /// # Errors
    /// There is no such job, or the server was draining already.
    pub async fn wait(
        &self,
        key: &JobKey,
        after: Option<u64>,
        timeout: Duration,
    ) -> Result<(Arc<Version>, WaitEnd), EngineError> {
        let options = WatchOptions {
            after_revision: 0,
            min_interval: Duration::ZERO,
            // Silence is bounded by the timeout here.
            heartbeat: timeout + Duration::from_secs(60),
        };
        let mut watch = self.watch(key, options).await?;
        let mut newest: Option<Arc<Version>> = None;
        let deadline = monotonic_now() + timeout;
        loop {
            let item = match &newest {
                // The first item comes at once, so that even a wait of no time has an answer.
                None => watch.next().await,
                Some(version) => match tokio::time::timeout_at(deadline, watch.next()).await {
                    Ok(item) => item,
                    Err(_elapsed) => return Ok((Arc::clone(version), WaitEnd::TimedOut)),
                },
            };
            match item {
                Some(Ok(WatchItem::Snapshot { version, .. })) => {
                    let done = version.job.state.is_terminal()
                        || after.is_some_and(|after| version.job.revision > after);
                    if done {
                        return Ok((version, WaitEnd::Done));
                    }
                    newest = Some(version);
                }
                Some(Ok(WatchItem::Synced { .. } | WatchItem::Heartbeat { .. })) => {}
                Some(Ok(WatchItem::Draining { .. })) | None => {
                    return match newest {
                        Some(version) => Ok((version, WaitEnd::Draining)),
                        None => Err(EngineError::Draining),
                    };
                }
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// Follows all jobs that match; see [`JobFollow`].
    ///
    /// # Errors
    /// The filter or the cursor is bad, or the server is draining.
    pub async fn follow(
        &self,
        tenant: Tenant,
        filter: &str,
        cursor: &str,
        heartbeat: Duration,
    ) -> Result<JobFollow, EngineError> {
        JobFollow::start(self, tenant, filter, cursor, heartbeat).await
    }

    async fn ask(&self, commands: Vec<Command>) -> Answers {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let bytes: usize = commands.iter().map(Command::document_bytes).sum();
        let room = match u32::try_from(bytes / ROOM_UNIT_BYTES).unwrap_or(ROOM_UNITS) {
            0 => None,
            units => Some(self.room(units.min(ROOM_UNITS)).await?),
        };
        let (reply, answer) = oneshot::channel();
        self.messages
            .send(Message::Commands {
                commands,
                reply,
                room,
            })
            .await
            .map_err(|_| EngineError::Stopped)?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }

    /// Waits until there is room for documents of this size.
    async fn room(&self, units: u32) -> Result<OwnedSemaphorePermit, EngineError> {
        let room = Arc::clone(&self.shared.room);
        let permit = room.acquire_many_owned(units).await;
        permit.map_err(|_closed| EngineError::Stopped)
    }

    async fn ask_one(&self, command: Command) -> Result<Reply, EngineError> {
        let mut answers = self.ask(vec![command]).await?;
        match answers.pop() {
            Some(answer) => answer.map_err(EngineError::Refused),
            None => Err(EngineError::Stopped),
        }
    }
}

/// The job of a reply that has one. The loop answers each command with its own kind of reply, so others do not come here.
fn submitted(reply: Reply) -> (Arc<Job>, bool) {
    match reply {
        Reply::Submitted { job, created } => (job, created),
        Reply::Job(job) => (job, false),
        Reply::Reported(_) | Reply::Record(_) | Reply::Done => {
            unreachable!("commands about jobs are answered with jobs")
        }
    }
}

/// For deadlines of waits, which have nothing to do with what is stored.
#[expect(
    clippy::disallowed_methods,
    reason = "waits are measured by the runtime's timer"
)]
pub(crate) fn monotonic_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
