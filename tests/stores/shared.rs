//! The memory store as several processes would share it: each has a handle, a writer and a tail of its own. Transactions take turns, so no two meet at the
//! same rows; that they did is pretended where a test asks for it. Part of a test binary by its path.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use longhaul::{
    domain::{
        Job, JobKey, Tenant, Timestamp,
        audit::AuditRecord,
        command::{Changes, ReadyTask, RequestKey, RequestRecord},
        counts::Counts,
        event::{Event, EventKind},
        registry::{Record, RecordKey},
    },
    engine::{Clock as _, SteadyClock},
    store::{
        AuditQuery, Committed, Connected, FeedCursor, FeedItem, ListQuery, Locked, MAX_FEED_EVENTS,
        Note, Page, Ready, RecordQuery, Registry, Scan, Scanned, Store, StoreError, StoreInfo,
        Stretch, Tail, Tally, Whose, Writer, memory::MemoryStore,
    },
};
use tokio::sync::{Mutex as Turns, OwnedMutexGuard, watch};

/// How often a tail is read though nobody told of anything: long before a test loses its patience.
const INTERVAL: Duration = Duration::from_millis(100);

/// A handle on the store, as one process has it.
#[derive(Clone)]
pub struct SharedStore {
    info: StoreInfo,
    core: Arc<Core>,
}

/// What all of them share.
struct Core {
    model: MemoryStore,
    writer: Arc<Turns<Box<dyn Writer>>>,
    /// All events by position, from 1.
    events: Mutex<Vec<Event>>,
    newest: watch::Sender<usize>,
    away: AtomicBool,
    /// What others do can not be read.
    deaf: AtomicBool,
    /// For how many reads more what there is to hear of others by is taken.
    crowded: AtomicUsize,
    conflicts: AtomicUsize,
    /// Commits that lease tasks, and of which nobody will know that they are stored.
    doubts: AtomicUsize,
    /// Jobs that somebody else is at.
    busy: Mutex<HashSet<JobKey>>,
    /// How often one of them was left out.
    left_out: AtomicUsize,
    era: AtomicU32,
    clock: Mutex<SteadyClock>,
    /// What each process, by the number of its tail, has told of its workers.
    announced: Mutex<BTreeMap<usize, Vec<Connected>>>,
    tails: AtomicUsize,
}

struct SharedWriter {
    core: Arc<Core>,
    transaction: Option<OwnedMutexGuard<Box<dyn Writer>>>,
}

struct SharedTail {
    number: usize,
    core: Arc<Core>,
    newest: tokio::sync::Mutex<watch::Receiver<usize>>,
}

impl SharedStore {
    /// An empty one.
    pub fn new(now: Timestamp) -> Self {
        let model = MemoryStore::new();
        let writer = model.writer().expect("nobody has taken it");
        let info = StoreInfo {
            exclusive: false,
            shared_time: Some(now),
            ..model.info().clone()
        };
        let core = Core {
            model,
            writer: Arc::new(Turns::new(writer)),
            events: Mutex::default(),
            newest: watch::Sender::new(0),
            away: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            crowded: AtomicUsize::new(0),
            conflicts: AtomicUsize::new(0),
            doubts: AtomicUsize::new(0),
            busy: Mutex::default(),
            left_out: AtomicUsize::new(0),
            era: AtomicU32::new(0),
            clock: Mutex::new(SteadyClock::at(now, Timestamp::default())),
            announced: Mutex::default(),
            tails: AtomicUsize::new(0),
        };
        Self {
            info,
            core: Arc::new(core),
        }
    }

    /// From now on it can not be reached, or can again.
    pub fn set_away(&self, away: bool) {
        self.core.away.store(away, Ordering::SeqCst);
    }

    /// From now on nobody hears of others, or does again.
    pub fn set_deaf(&self, deaf: bool) {
        self.core.deaf.store(deaf, Ordering::SeqCst);
    }

    /// So often nobody hears of others, because there is too much to do.
    pub fn set_crowded(&self, reads: usize) {
        self.core.crowded.store(reads, Ordering::SeqCst);
    }

    pub fn is_crowded(&self) -> bool {
        self.core.crowded.load(Ordering::SeqCst) > 0
    }

    /// The next commits that lease tasks are stored, and it is not known.
    pub fn set_doubts(&self, commits: usize) {
        self.core.doubts.store(commits, Ordering::SeqCst);
    }

    /// Somebody else is at a job, or no longer.
    pub fn set_busy(&self, job: &JobKey, busy: bool) {
        let mut jobs = self.core.busy.lock().unwrap();
        match busy {
            true => jobs.insert(job.clone()),
            false => jobs.remove(job),
        };
    }

    /// How often a job was left out because somebody else is at it.
    pub fn left_out(&self) -> usize {
        self.core.left_out.load(Ordering::SeqCst)
    }

    /// The next commits meet others at the same rows.
    pub fn set_conflicts(&self, commits: usize) {
        self.core.conflicts.store(commits, Ordering::SeqCst);
    }

    /// Another server has taken over; what it has lost is not known.
    pub fn fail_over(&self) {
        self.core.era.fetch_add(1, Ordering::SeqCst);
        self.core.newest.send_modify(|_| {});
    }

    pub fn set_time(&self, now: Timestamp) {
        *self.core.clock.lock().unwrap() = SteadyClock::at(now, Timestamp::default());
    }
}

impl Core {
    fn now(&self) -> Timestamp {
        self.clock.lock().unwrap().now()
    }

    fn reach(&self) -> Result<(), StoreError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("the test took it away".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Store for SharedStore {
    fn info(&self) -> &StoreInfo {
        &self.info
    }
    fn writer(&self) -> Result<Box<dyn Writer>, StoreError> {
        Ok(Box::new(SharedWriter {
            core: Arc::clone(&self.core),
            transaction: None,
        }))
    }
    async fn job(&self, key: &JobKey) -> Result<Option<Arc<Job>>, StoreError> {
        self.core.reach()?;
        self.core.model.job(key).await
    }
    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        self.core.reach()?;
        self.core.model.list(query).await
    }
    async fn tally(&self, query: ListQuery) -> Result<Tally, StoreError> {
        self.core.reach()?;
        self.core.model.tally(query).await
    }
    async fn events(
        &self,
        key: &JobKey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        self.core.reach()?;
        self.core.model.events(key, after, limit).await
    }
    async fn feed(
        &self,
        tenant: &Tenant,
        after: &FeedCursor,
        until: &FeedCursor,
    ) -> Result<(Vec<FeedItem>, FeedCursor), StoreError> {
        self.core.reach()?;
        let (items, reached) = self.core.model.feed(tenant, after, until).await?;
        Ok((items, reached))
    }
    async fn end_of_feed(&self) -> Result<FeedCursor, StoreError> {
        self.core.reach()?;
        let era = self.core.era.load(Ordering::SeqCst);
        Ok(self.core.model.end_of_feed().await?.in_era(era))
    }
    fn tail(&self) -> Option<Arc<dyn Tail>> {
        Some(Arc::new(SharedTail {
            number: self.core.tails.fetch_add(1, Ordering::SeqCst),
            core: Arc::clone(&self.core),
            newest: tokio::sync::Mutex::new(self.core.newest.subscribe()),
        }))
    }
    async fn counts(&self, tenant: &Tenant) -> Result<Counts, StoreError> {
        self.core.reach()?;
        self.core.model.counts(tenant).await
    }
    async fn queued_before(&self, driver: &str, task: &ReadyTask) -> Result<u64, StoreError> {
        self.core.reach()?;
        self.core.model.queued_before(driver, task).await
    }
    async fn paused_drivers(&self) -> Result<Vec<(Arc<str>, Timestamp, String)>, StoreError> {
        self.core.reach()?;
        self.core.model.paused_drivers().await
    }
    async fn tenants(
        &self,
        after: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        self.core.reach()?;
        self.core.model.tenants(after, limit).await
    }
    async fn scan(&self, from: &Scan, limit: usize) -> Result<Scanned, StoreError> {
        self.core.reach()?;
        self.core.model.scan(from, limit).await
    }
    async fn note(&self, note: Note) -> Result<Option<Vec<u8>>, StoreError> {
        self.core.reach()?;
        self.core.model.note(note).await
    }
    fn registry(&self) -> &dyn Registry {
        self
    }
    async fn others(&self) -> Result<usize, StoreError> {
        self.core.reach()?;
        let announced = self.core.announced.lock().unwrap();
        Ok(announced.len())
    }
}

#[async_trait]
impl Registry for SharedStore {
    async fn record(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.core.reach()?;
        self.core.model.registry().record(key).await
    }
    async fn records(&self, query: RecordQuery) -> Result<Vec<Record>, StoreError> {
        self.core.reach()?;
        self.core.model.registry().records(query).await
    }
    async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        self.core.reach()?;
        self.core.model.registry().audit(query).await
    }
}

#[async_trait]
impl Tail for SharedTail {
    async fn woken(&self) {
        let mut newest = self.newest.lock().await;
        // By a change, or because time has passed.
        let _ = tokio::time::timeout(INTERVAL, newest.changed()).await;
    }
    async fn read(&self, after: &FeedCursor) -> Result<Stretch, StoreError> {
        self.core.reach()?;
        if self.core.deaf.load(Ordering::SeqCst) {
            return Err(StoreError::Failed("the test wants it so".into()));
        }
        let one_less = |left: usize| left.checked_sub(1);
        let crowded = &self.core.crowded;
        let met = crowded.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if met.is_ok() {
            return Err(StoreError::Busy("the test wants it so".into()));
        }
        let paused = self.core.model.paused_drivers().await?;
        let end = self.core.model.end_of_feed().await?;
        let end = end.in_era(self.core.era.load(Ordering::SeqCst));
        if !after.is_of_the_era_of(&end) {
            return Ok(Stretch {
                events: Vec::new(),
                until: end,
                more: false,
                now: self.core.now(),
                paused,
            });
        }
        let events = self.core.events.lock().unwrap();
        let positions = (1_u64..).zip(events.iter());
        let new = positions.filter(|(at, _)| !after.has_seen(*at));
        let new: Vec<_> = new.map(|(at, event)| (at, event.clone())).collect();
        let more = new.len() > MAX_FEED_EVENTS;
        let new: Vec<_> = new.into_iter().take(MAX_FEED_EVENTS).collect();
        Ok(Stretch {
            until: new
                .last()
                .map_or(after.clone(), |(at, _)| after.on_the_way(&end, *at)),
            events: new,
            more,
            now: self.core.now(),
            paused,
        })
    }
    async fn jobs(&self, keys: &[JobKey]) -> Result<Vec<Arc<Job>>, StoreError> {
        self.core.reach()?;
        let mut jobs = Vec::new();
        for key in keys {
            jobs.extend(self.core.model.job(key).await?);
        }
        Ok(jobs)
    }
    async fn announce(&self, connected: &[Connected]) -> Result<(), StoreError> {
        self.core.reach()?;
        let mut announced = self.core.announced.lock().unwrap();
        announced.insert(self.number, connected.to_vec());
        Ok(())
    }
    async fn leave(&self) -> Result<(), StoreError> {
        self.core.reach()?;
        self.core.announced.lock().unwrap().remove(&self.number);
        Ok(())
    }
    async fn announced(&self) -> Result<Vec<Connected>, StoreError> {
        self.core.reach()?;
        let announced = self.core.announced.lock().unwrap();
        let others = announced
            .iter()
            .filter(|(number, _)| **number != self.number);
        Ok(others
            .flat_map(|(_, connected)| connected.clone())
            .collect())
    }
}

impl SharedWriter {
    fn writer(&mut self) -> &mut dyn Writer {
        self.transaction.as_mut().expect("it has begun").as_mut()
    }
}

#[async_trait]
impl Writer for SharedWriter {
    async fn begin(&mut self) -> Result<(), StoreError> {
        self.core.reach()?;
        self.transaction = Some(Arc::clone(&self.core.writer).lock_owned().await);
        self.writer().begin().await
    }
    async fn requests(
        &mut self,
        keys: &[RequestKey],
    ) -> Result<Vec<(RequestKey, RequestRecord)>, StoreError> {
        self.writer().requests(keys).await
    }
    async fn records(&mut self, keys: &[RecordKey]) -> Result<Vec<Record>, StoreError> {
        self.writer().records(keys).await
    }
    async fn jobs(&mut self, keys: &[JobKey], locked: Locked) -> Result<Vec<Job>, StoreError> {
        // With their ancestors, each once.
        let mut wanted = keys.to_vec();
        if locked == Locked::Skip {
            let busy = self.core.busy.lock().unwrap();
            wanted.retain(|key| !busy.contains(key));
            let left_out = keys.len() - wanted.len();
            self.core.left_out.fetch_add(left_out, Ordering::SeqCst);
        }
        let mut jobs: Vec<Job> = Vec::new();
        while !wanted.is_empty() {
            let found = self.writer().jobs(&wanted, locked).await?;
            wanted = found.iter().filter_map(Job::parent_key).collect();
            wanted.sort();
            wanted.dedup();
            jobs.extend(found);
            wanted.retain(|key| jobs.iter().all(|job| job.key() != *key));
        }
        Ok(jobs)
    }
    async fn ready(
        &mut self,
        driver: &str,
        whose: Whose<'_>,
        limit: usize,
    ) -> Result<Ready, StoreError> {
        self.writer().ready(driver, whose, limit).await
    }
    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        self.writer().due(now, limit).await
    }
    async fn next_due(&mut self) -> Result<Option<Timestamp>, StoreError> {
        self.writer().next_due().await
    }
    async fn expired(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        self.writer().expired(now, limit).await
    }
    async fn open_children(
        &mut self,
        parent: &JobKey,
        limit: usize,
    ) -> Result<Vec<JobKey>, StoreError> {
        self.writer().open_children(parent, limit).await
    }
    async fn commit(&mut self, changes: &Changes) -> Result<Committed, StoreError> {
        let mut transaction = self.transaction.take().expect("it has begun");
        let meets = |left: usize| left.checked_sub(1);
        let conflicts = &self.core.conflicts;
        let met = conflicts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, meets);
        if met.is_ok() {
            transaction.rollback().await;
            return Err(StoreError::Conflict("the test wants it so".into()));
        }
        transaction.commit(changes).await?;
        let newest = {
            let mut events = self.core.events.lock().unwrap();
            events.extend(changes.events.iter().cloned());
            events.len()
        };
        self.core.newest.send_replace(newest);
        let leases = |event: &Event| event.kind == EventKind::TaskLeased;
        let doubts = &self.core.doubts;
        if changes.events.iter().any(leases)
            && doubts
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, meets)
                .is_ok()
        {
            return Err(StoreError::OutcomeUnknown("the test wants it so".into()));
        }
        Ok(Committed {
            first_position: None,
        })
    }
    async fn rollback(&mut self) {
        if let Some(mut transaction) = self.transaction.take() {
            transaction.rollback().await;
        }
    }
    async fn tidy(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let mut writer = self.core.writer.lock().await;
        writer.tidy(now).await
    }
    async fn set_note(&mut self, note: Note, value: Option<&[u8]>) -> Result<(), StoreError> {
        self.core.reach()?;
        let mut writer = self.core.writer.lock().await;
        writer.set_note(note, value).await
    }
    fn is_low_on_space(&self) -> bool {
        false
    }
}
