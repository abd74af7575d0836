//! Where jobs are kept: a narrow set of primitives without rules, for the embedded store, the cluster store, and a model in memory.
//!
//! A store loads what a batch names and writes what [`crate::domain::decide`] returned. It must not know why. What it promises: a commit is all or
//! nothing and, once answered, on stable storage; readers see every commit that was answered before they began.

pub mod copy;
mod cursor;
mod filter;
mod kept;
pub mod memory;
pub mod postgres;
mod registry;
mod rows;
pub mod sqlite;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

pub use cursor::FeedCursor;
pub use kept::{Kept, MAX_KEPT_EVENTS, Note, Scan, Scanned};
pub use registry::{AuditPosition, AuditQuery, RecordQuery, Registry};

use crate::domain::{
    Job, JobKey, JobState, Status, Tenant, Timestamp,
    command::{Changes, ReadyTask, RequestKey, RequestRecord},
    counts::Counts,
    event::Event,
    filter::Filter,
    registry::{Record, RecordKey},
};

/// Why a store could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room. Nothing was stored.
    #[error("the disk that holds the store is full; nothing was stored")]
    Full,
    /// The commit failed, and it is not known whether it is stored.
    #[error("the store could not confirm the commit, so its outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// Somebody else changed the same at the same time. Nothing was stored; the whole transaction can be tried again.
    #[error("others changed the same at the same time: {0}")]
    Conflict(String),
    /// The store can not be reached. Nothing was stored.
    #[error("the store can not be reached: {0}")]
    Unavailable(String),
    /// The store can be reached, and others use all there is to reach it by. Nothing was stored.
    #[error("the store has more to do than it can at once: {0}")]
    Busy(String),
    /// Reading or writing failed. Nothing was stored.
    #[error("the store failed: {0}")]
    Failed(String),
    /// What is stored can not be understood.
    #[error("the store holds something that this version does not understand: {0}")]
    Corrupt(String),
    /// The store can not be trusted any more, and the process has to stop.
    #[error("the store is no longer reliable and the server has to stop: {0}")]
    Fatal(String),
}

impl StoreError {
    /// A record is not as it was read, or is there though it was not: where nobody else writes, that can not be.
    fn not_as_read(key: &RecordKey) -> Self {
        Self::Failed(format!("the {key} is not as it was read"))
    }
}

/// What a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreInfo {
    /// Its name and version, for people.
    pub name: String,
    /// Nobody else writes to it while this process does, so what was written need not be read again.
    pub exclusive: bool,
    /// Seals tokens that must outlive the process and be good on every node.
    pub token_key: [u8; 32],
    /// Names the feed: positions and cursors mean nothing in another one, such as that of a copy.
    pub feed_id: [u8; 16],
    /// The newest time that anything was stored under; the clock never goes behind it.
    pub newest_time: Timestamp,
    /// The store's own time when it was opened, if several processes go by that.
    pub shared_time: Option<Timestamp>,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOrder {
    /// Last submitted first.
    CreateTimeDesc,
    /// First submitted first.
    CreateTime,
    /// Last changed first.
    UpdateTimeDesc,
    /// First changed first: a job that changes moves to the end, so that it may be met again.
    UpdateTime,
}

/// A page to read.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Whose jobs.
    pub tenant: Tenant,
    /// Which.
    pub filter: Filter,
    /// In what order.
    pub order: ListOrder,
    /// After which position; `None` for the first page.
    pub after: Option<ListPosition>,
    /// How many at the most.
    pub limit: usize,
}

/// Where a page ended. Positions of one order compare as they stand in the ascending one.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum ListPosition {
    /// Behind this job, in an order by time of creation.
    Job(crate::domain::JobId),
    /// Behind this position of the feed, in an order by time of change.
    Feed(u64),
}

/// A page as read.
#[derive(Clone, Debug)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<Arc<Job>>,
    /// Where each of them stands: a page that begins there holds what follows it.
    pub at: Vec<ListPosition>,
    /// Where the next page begins; `None` if there is none.
    pub next: Option<ListPosition>,
    /// What of the feed the page has seen.
    pub seen: FeedCursor,
}

/// How many jobs match in one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// So many, at most the limit.
    pub count: usize,
    /// Where to go on from: behind the last that was counted if these are as many as were asked for, else behind the last job that was looked at; `None`
    /// if nothing is left.
    pub next: Option<ListPosition>,
}

/// What became of one job in a stretch of the feed.
#[derive(Clone, Debug)]
pub struct FeedItem {
    /// The position of the job's oldest change in this stretch. A position is that of a commit, or of an event in it.
    pub first_position: u64,
    /// The position of the newest one.
    pub position: u64,
    /// The job.
    pub key: JobKey,
    /// The job as it is now; `None` if it was removed.
    pub job: Option<Arc<Job>>,
    /// The revision before the first change in this stretch.
    pub from_revision: u64,
    /// The revision after the newest one in this stretch.
    pub revision: u64,
    /// State and status before the first change; `None` if the job was new.
    pub before: Option<(JobState, Status)>,
}

/// A commit as it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The feed's position of the first event of the commit; the others follow without gap. `None` where others write too: what comes behind what is told
    /// by [`Store::tail`].
    pub first_position: Option<u64>,
}

/// Tasks that may be taken, as the store lists them.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// The tasks.
    pub tasks: Vec<ReadyTask>,
    /// There may be others: not all tenants were looked at, or not all of their tasks.
    pub more: bool,
    /// The driver is paused: there are none, and what becomes ready in the same transaction may not be taken either.
    pub is_paused: bool,
}

impl Ready {
    /// Of a driver that is paused.
    pub fn paused() -> Self {
        Self {
            is_paused: true,
            ..Self::default()
        }
    }
}

/// Whose tasks are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// One tenant's.
    One(&'a Tenant),
    /// Those of all tenants, in turns that begin after the one that was served last and go round.
    All {
        /// Which that was, if any.
        served: Option<&'a Tenant>,
    },
}

/// What to do about a job that somebody else is changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    /// Wait until they are done: somebody waits for the answer.
    Wait,
    /// Leave it out: whoever is at it sees to it, and there is another time.
    Skip,
}

/// A part of the feed, of all tenants.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The events with their positions, in the order of the feed: those of one job in that of their revisions.
    pub events: Vec<(u64, Event)>,
    /// Up to where it goes.
    pub until: FeedCursor,
    /// It ends there because it is long, not because there is no more.
    pub more: bool,
    /// The store's own time when it was read.
    pub now: Timestamp,
    /// Drivers that are paused.
    pub paused: Vec<(Arc<str>, Timestamp, String)>,
}

/// Workers of a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Which.
    pub driver: Arc<str>,
    /// Whose tasks they take; `None` for those of all tenants.
    pub tenant: Option<Tenant>,
    /// How many are connected.
    pub workers: usize,
    /// How many more leases they want together.
    pub free_slots: usize,
}

/// The feed of a store to which several processes write, each of which has to hear of the others. There is one reader for each process.
#[async_trait]
pub trait Tail: Send + Sync + 'static {
    /// Resolves when there may be something new: soon after any commit, and every [`TAIL_INTERVAL`] at the latest, because nothing that wakes is certain.
    async fn woken(&self);
    /// What is new after a cursor; nothing if another era has begun since, of which the answer's cursor then is.
    async fn read(&self, after: &FeedCursor) -> Result<Stretch, StoreError>;
    /// The jobs that are stored, of those asked for: not older than what [`Self::read`] told of them.
    async fn jobs(&self, keys: &[JobKey]) -> Result<Vec<Arc<Job>>, StoreError>;
    /// Tells the others which workers are connected here. It is believed for [`ANNOUNCEMENT_LIFE`].
    async fn announce(&self, connected: &[Connected]) -> Result<(), StoreError>;
    /// Tells the others that nobody is here any more.
    async fn leave(&self) -> Result<(), StoreError>;
    /// What the others have told; a driver may come several times.
    async fn announced(&self) -> Result<Vec<Connected>, StoreError>;
}

/// A place where jobs are kept; reads.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What it is.
    fn info(&self) -> &StoreInfo;
    /// The one writer. It can be taken once.
    ///
    /// # Errors
    /// It was taken before.
    fn writer(&self) -> Result<Box<dyn Writer>, StoreError>;
    /// One job.
    async fn job(&self, key: &JobKey) -> Result<Option<Arc<Job>>, StoreError>;
    /// A page of jobs. It may be shorter than asked, even empty, and still not be the last: a store looks at a bounded number of rows for one page.
    async fn list(&self, query: ListQuery) -> Result<Page, StoreError>;
    /// How many jobs match, without reading them. Looks at as many rows as [`Self::list`] does for one page, and counts no more than the limit, which is
    /// not 0.
    async fn tally(&self, query: ListQuery) -> Result<Tally, StoreError>;
    /// Events of a job after a revision, oldest first.
    async fn events(
        &self,
        key: &JobKey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError>;
    /// What changed in the tenant's jobs after one cursor and up to a later one, each job once, in the order of their newest changes. With it the cursor up
    /// to which was looked: short of `until` if that came to more than a store reads at once, which is [`MAX_FEED_EVENTS`] and what belongs to the last
    /// one's position.
    async fn feed(
        &self,
        tenant: &Tenant,
        after: &FeedCursor,
        until: &FeedCursor,
    ) -> Result<(Vec<FeedItem>, FeedCursor), StoreError>;
    /// The end of the feed as it is now.
    async fn end_of_feed(&self) -> Result<FeedCursor, StoreError>;
    /// The feed as others make it too; `None` if nobody else writes to the store while this process does.
    fn tail(&self) -> Option<Arc<dyn Tail>>;
    /// The tenant's counters.
    async fn counts(&self, tenant: &Tenant) -> Result<Counts, StoreError>;
    /// How many tasks of a driver may be taken before this one, within its tenant; counted up to [`MAX_COUNTED_BEFORE`].
    async fn queued_before(&self, driver: &str, task: &ReadyTask) -> Result<u64, StoreError>;
    /// Drivers that are paused, since when, and why.
    async fn paused_drivers(&self) -> Result<Vec<(Arc<str>, Timestamp, String)>, StoreError>;
    /// The tenants that have jobs, by name, after one.
    async fn tenants(
        &self,
        after: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError>;
    /// A page of all jobs, with everything that is kept of them. It may be shorter than asked, even empty, and still not be the last. While others write, what
    /// it tells of a job may be of different moments.
    async fn scan(&self, from: &Scan, limit: usize) -> Result<Scanned, StoreError>;
    /// What was noted; `None` if nothing was.
    async fn note(&self, note: Note) -> Result<Option<Vec<u8>>, StoreError>;
    /// What is kept beside the jobs.
    fn registry(&self) -> &dyn Registry;
    /// How many others serve the store, of those who have said so within [`ANNOUNCEMENT_LIFE`]; 0 where nobody else can.
    async fn others(&self) -> Result<usize, StoreError>;
}

/// The way to change what is kept. Between `begin` and `commit` or `rollback` the jobs that were read do not change under its feet. Dropping it in between
/// is a rollback. Its calls may block: it lives on a thread of its own.
///
/// Where others write too, any call may end with [`StoreError::Conflict`], and a job is waited for in one call of a transaction at the most, the first one
/// that reads jobs: so nobody waits in a circle.
#[async_trait]
pub trait Writer: Send {
    /// Starts a transaction.
    async fn begin(&mut self) -> Result<(), StoreError>;
    /// The request ids that are stored, of those asked for.
    async fn requests(
        &mut self,
        keys: &[RequestKey],
    ) -> Result<Vec<(RequestKey, RequestRecord)>, StoreError>;
    /// The records that are stored, of those asked for. Where others write too, they do not change until the end of the transaction.
    async fn records(&mut self, keys: &[RecordKey]) -> Result<Vec<Record>, StoreError>;
    /// The jobs that are stored, of those asked for; where others write too, with all of their ancestors. Of a job that is left out because others are at
    /// it or at one of its ancestors, the ancestors may come all the same.
    async fn jobs(&mut self, keys: &[JobKey], locked: Locked) -> Result<Vec<Job>, StoreError>;
    /// Tasks of a driver that may be taken, but for those of jobs that others are at, and none if it is paused: for each tenant the first by priority, then age; at most `limit` of
    /// each, and `limit` together if there are as many. At most [`MAX_TENANTS_PER_CLAIM`] tenants. What is told may have been taken a moment ago; reading the
    /// job tells.
    async fn ready(
        &mut self,
        driver: &str,
        whose: Whose<'_>,
        limit: usize,
    ) -> Result<Ready, StoreError>;
    /// Jobs whose timer is due, the longest overdue first.
    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError>;
    /// The earliest timer.
    async fn next_due(&mut self) -> Result<Option<Timestamp>, StoreError>;
    /// Finished jobs whose time is over, the longest ended first.
    async fn expired(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError>;
    /// Child jobs of a job that have not ended.
    async fn open_children(
        &mut self,
        parent: &JobKey,
        limit: usize,
    ) -> Result<Vec<JobKey>, StoreError>;
    /// Writes, and returns once it is on stable storage. After an error the transaction is gone.
    async fn commit(&mut self, changes: &Changes) -> Result<Committed, StoreError>;
    /// Ends the transaction without a change.
    async fn rollback(&mut self);
    /// Does what is better done now than in the middle of work, in bounded time; `now` decides which leftovers may go, where the writer removes them. Not in a
    /// transaction.
    async fn tidy(&mut self, now: Timestamp) -> Result<(), StoreError>;
    /// Notes something, or that there is nothing to note, and returns once it is on stable storage. Not in a transaction.
    async fn set_note(&mut self, note: Note, value: Option<&[u8]>) -> Result<(), StoreError>;
    /// Whether room is running out: new jobs should be refused, so that those which were accepted can end. Cheap.
    fn is_low_on_space(&self) -> bool;
}

/// How many tenants take part in one round of turns; the next round goes on after them.
pub const MAX_TENANTS_PER_CLAIM: usize = 64;
/// How many tasks [`Store::queued_before`] counts at the most: beyond that a person does not care, and counting takes milliseconds.
pub const MAX_COUNTED_BEFORE: usize = 100_000;
/// Events that one read of the feed looks at, besides those that share a position with the last.
pub const MAX_FEED_EVENTS: usize = 1_000;
/// How often a feed that others write to is read though nobody has told of anything new.
pub const TAIL_INTERVAL: Duration = Duration::from_secs(1);
/// How long it is believed what a process told of its workers: it may have gone without a word.
pub const ANNOUNCEMENT_LIFE: Duration = Duration::from_secs(15);
/// How long the last event of a removed job is kept, so that those who follow a feed can still learn of it.
pub const TOMBSTONE_LIFE: Duration = Duration::from_secs(24 * 3600);
