//! A store whose process dies at one of its writes, before or after it is done: all that follow fail. Or with somebody in the way, or beside it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use longhaul::{
    domain::{
        Job, JobKey, Tenant, Timestamp,
        command::{Changes, ReadyTask, RequestKey, RequestRecord},
        counts::Counts,
        event::Event,
        registry::{Record, RecordKey},
    },
    store::{
        Committed, FeedCursor, FeedItem, ListQuery, Locked, Note, Page, Ready, Registry, Scan,
        Scanned, Store, StoreError, StoreInfo, Tail, Tally, Whose, Writer,
    },
};

/// See the module.
pub struct Dying {
    store: Arc<dyn Store>,
    life: Life,
}

#[derive(Clone)]
struct Life {
    left: Arc<AtomicUsize>,
    end: End,
    others: Others,
}

/// What others do, and when.
#[derive(Clone, Default)]
pub struct Others {
    /// When the mark of a half copy has been set.
    pub after_marking: Option<Deed>,
    /// When it is asked for.
    pub before_looking: Option<Deed>,
}

pub type Deed = Arc<dyn Fn() + Send + Sync>;

/// How it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After so many writes.
    After(usize),
    /// After one more than so many, and nobody hears of that one.
    AfterUnheard(usize),
    /// Before the mark of a half copy is taken away.
    BeforeUnmarking,
    /// Never, but so many commits meet others.
    Conflicts(usize),
}

struct DyingWriter {
    writer: Box<dyn Writer>,
    life: Life,
}

impl Dying {
    pub fn new(store: Arc<dyn Store>, end: End) -> Self {
        let left = match end {
            End::After(left) | End::AfterUnheard(left) | End::Conflicts(left) => left,
            End::BeforeUnmarking => usize::MAX,
        };
        let left = Arc::new(AtomicUsize::new(left));
        let others = Others::default();
        let life = Life { left, end, others };
        Self { store, life }
    }

    /// One that lives, while others do something.
    pub fn among(store: Arc<dyn Store>, others: Others) -> Self {
        let mut dying = Self::new(store, End::Conflicts(0));
        dying.life.others = others;
        dying
    }
}

fn dead() -> StoreError {
    StoreError::Fatal("the test wants it so".into())
}

/// It may have been done.
fn unheard() -> StoreError {
    StoreError::OutcomeUnknown("the test wants it so".into())
}

impl Life {
    /// Whether a write is to be done, and whether it is heard of.
    fn go_on(&self) -> (bool, bool) {
        match self.end {
            End::Conflicts(_) => (true, true),
            _ if self.one_less() => (true, true),
            end => (matches!(end, End::AfterUnheard(_)), false),
        }
    }

    fn one_less(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        let left = &self.left;
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .is_ok()
    }
}

#[async_trait]
impl Store for Dying {
    fn info(&self) -> &StoreInfo {
        self.store.info()
    }
    fn writer(&self) -> Result<Box<dyn Writer>, StoreError> {
        Ok(Box::new(DyingWriter {
            writer: self.store.writer()?,
            life: self.life.clone(),
        }))
    }
    async fn job(&self, key: &JobKey) -> Result<Option<Arc<Job>>, StoreError> {
        self.store.job(key).await
    }
    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        self.store.list(query).await
    }
    async fn tally(&self, query: ListQuery) -> Result<Tally, StoreError> {
        self.store.tally(query).await
    }
    async fn events(
        &self,
        key: &JobKey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        self.store.events(key, after, limit).await
    }
    async fn feed(
        &self,
        tenant: &Tenant,
        after: &FeedCursor,
        until: &FeedCursor,
    ) -> Result<(Vec<FeedItem>, FeedCursor), StoreError> {
        self.store.feed(tenant, after, until).await
    }
    async fn end_of_feed(&self) -> Result<FeedCursor, StoreError> {
        self.store.end_of_feed().await
    }
    fn tail(&self) -> Option<Arc<dyn Tail>> {
        self.store.tail()
    }
    async fn counts(&self, tenant: &Tenant) -> Result<Counts, StoreError> {
        self.store.counts(tenant).await
    }
    async fn queued_before(&self, driver: &str, task: &ReadyTask) -> Result<u64, StoreError> {
        self.store.queued_before(driver, task).await
    }
    async fn paused_drivers(&self) -> Result<Vec<(Arc<str>, Timestamp, String)>, StoreError> {
        self.store.paused_drivers().await
    }
    async fn tenants(
        &self,
        after: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        self.store.tenants(after, limit).await
    }
    async fn scan(&self, from: &Scan, limit: usize) -> Result<Scanned, StoreError> {
        self.store.scan(from, limit).await
    }
    async fn note(&self, note: Note) -> Result<Option<Vec<u8>>, StoreError> {
        if note == Note::HalfCopied
            && let Some(others) = &self.life.others.before_looking
        {
            others();
        }
        self.store.note(note).await
    }
    fn registry(&self) -> &dyn Registry {
        self.store.registry()
    }
    async fn others(&self) -> Result<usize, StoreError> {
        self.store.others().await
    }
}

#[async_trait]
impl Writer for DyingWriter {
    async fn begin(&mut self) -> Result<(), StoreError> {
        self.writer.begin().await
    }
    async fn requests(
        &mut self,
        keys: &[RequestKey],
    ) -> Result<Vec<(RequestKey, RequestRecord)>, StoreError> {
        self.writer.requests(keys).await
    }
    async fn records(&mut self, keys: &[RecordKey]) -> Result<Vec<Record>, StoreError> {
        self.writer.records(keys).await
    }
    async fn jobs(&mut self, keys: &[JobKey], locked: Locked) -> Result<Vec<Job>, StoreError> {
        self.writer.jobs(keys, locked).await
    }
    async fn ready(
        &mut self,
        driver: &str,
        whose: Whose<'_>,
        limit: usize,
    ) -> Result<Ready, StoreError> {
        self.writer.ready(driver, whose, limit).await
    }
    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        self.writer.due(now, limit).await
    }
    async fn next_due(&mut self) -> Result<Option<Timestamp>, StoreError> {
        self.writer.next_due().await
    }
    async fn expired(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        self.writer.expired(now, limit).await
    }
    async fn open_children(
        &mut self,
        parent: &JobKey,
        limit: usize,
    ) -> Result<Vec<JobKey>, StoreError> {
        self.writer.open_children(parent, limit).await
    }
    async fn commit(&mut self, changes: &Changes) -> Result<Committed, StoreError> {
        if matches!(self.life.end, End::Conflicts(_)) && self.life.one_less() {
            self.writer.rollback().await;
            return Err(StoreError::Conflict("the test wants it so".into()));
        }
        let (done, heard) = self.life.go_on();
        if !done {
            self.writer.rollback().await;
            return Err(dead());
        }
        let committed = self.writer.commit(changes).await?;
        if heard { Ok(committed) } else { Err(unheard()) }
    }
    async fn rollback(&mut self) {
        self.writer.rollback().await;
    }
    async fn tidy(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.writer.tidy(now).await
    }
    async fn set_note(&mut self, note: Note, value: Option<&[u8]>) -> Result<(), StoreError> {
        let is_last = note == Note::HalfCopied && value.is_none();
        if is_last && self.life.end == End::BeforeUnmarking {
            return Err(dead());
        }
        let (done, heard) = self.life.go_on();
        if !done {
            return Err(dead());
        }
        self.writer.set_note(note, value).await?;
        if note == Note::HalfCopied
            && value.is_some()
            && let Some(others) = &self.life.others.after_marking
        {
            others();
        }
        if heard { Ok(()) } else { Err(unheard()) }
    }
    fn is_low_on_space(&self) -> bool {
        self.writer.is_low_on_space()
    }
}
