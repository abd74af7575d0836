//! The model of a store: everything in maps, nothing on disk. It says in the plainest way what a store has to do; the tests hold every other store
//! against it. Not for work: it forgets everything, and a list looks at every job.

mod registry;
mod writer;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use uuid::Uuid;

use self::{registry::MemoryRegistry, writer::MemoryWriter};
use super::{
    FeedCursor, FeedItem, Kept, ListOrder, ListPosition, ListQuery, MAX_COUNTED_BEFORE,
    MAX_FEED_EVENTS, MAX_KEPT_EVENTS, Note, Page, Registry, Scan, Scanned, Store, StoreError,
    StoreInfo, Tail, Tally, Writer, kept::MAX_SCANNED_BYTES,
};
use crate::domain::{
    Job, JobId, JobKey, Tenant, Timestamp,
    command::{Changes, ReadyTask, RequestKey, RequestRecord, WriteKind},
    counts::{Counted, Counts},
    event::Event,
};

/// See the module.
#[derive(Debug)]
pub struct MemoryStore {
    info: StoreInfo,
    contents: Arc<Mutex<Contents>>,
    registry: Arc<MemoryRegistry>,
    writer_taken: AtomicBool,
}

#[derive(Debug, Default)]
struct Contents {
    jobs: BTreeMap<JobKey, Arc<Job>>,
    events: BTreeMap<u64, Event>,
    position: u64,
    requests: HashMap<RequestKey, RequestRecord>,
    counts: BTreeMap<Counted, i64>,
    paused: BTreeMap<Arc<str>, (Timestamp, String)>,
    notes: BTreeMap<Note, Vec<u8>>,
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> Self {
        // Nothing here outlives the process, so no token has to either.
        let token_key = token_key();
        let contents = Contents {
            notes: [(Note::TokenKey, token_key.to_vec())].into(),
            ..Contents::default()
        };
        Self {
            info: StoreInfo {
                name: "memory".into(),
                exclusive: true,
                token_key,
                feed_id: Uuid::new_v4().into_bytes(),
                newest_time: Timestamp::default(),
                shared_time: None,
            },
            contents: Arc::new(Mutex::new(contents)),
            registry: Arc::default(),
            writer_taken: AtomicBool::new(false),
        }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        lock(&self.contents)
    }
}

fn token_key() -> [u8; 32] {
    let halves = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes);
    std::array::from_fn(|at| halves[at / 16][at % 16])
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

fn lock<T>(contents: &Mutex<T>) -> MutexGuard<'_, T> {
    contents.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Store for MemoryStore {
    fn info(&self) -> &StoreInfo {
        &self.info
    }

    fn writer(&self) -> Result<Box<dyn Writer>, StoreError> {
        if self.writer_taken.swap(true, Ordering::SeqCst) {
            return Err(StoreError::Failed("the writer was taken before".into()));
        }
        Ok(Box::new(MemoryWriter {
            contents: Arc::clone(&self.contents),
            registry: Arc::clone(&self.registry),
        }))
    }

    async fn job(&self, key: &JobKey) -> Result<Option<Arc<Job>>, StoreError> {
        Ok(self.contents().jobs.get(key).cloned())
    }

    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        Ok(self.contents().list(&query))
    }

    async fn tally(&self, query: ListQuery) -> Result<Tally, StoreError> {
        Ok(self.contents().tally(&query))
    }

    async fn events(
        &self,
        key: &JobKey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let contents = self.contents();
        let of_job = contents.events.values().filter(|event| is_of(event, key));
        let newer = of_job.filter(|event| event.revision > after);
        Ok(newer.take(limit).cloned().collect())
    }

    async fn feed(
        &self,
        tenant: &Tenant,
        after: &FeedCursor,
        until: &FeedCursor,
    ) -> Result<(Vec<FeedItem>, FeedCursor), StoreError> {
        Ok(self.contents().feed(tenant, after, until))
    }

    async fn end_of_feed(&self) -> Result<FeedCursor, StoreError> {
        Ok(FeedCursor::at(self.contents().position))
    }

    fn tail(&self) -> Option<Arc<dyn Tail>> {
        None
    }

    async fn counts(&self, tenant: &Tenant) -> Result<Counts, StoreError> {
        Ok(self.contents().counts(tenant))
    }

    async fn queued_before(&self, driver: &str, task: &ReadyTask) -> Result<u64, StoreError> {
        let contents = self.contents();
        let ready = contents.ready_tasks(driver);
        let earlier = ready.filter(|other| {
            other.key.tenant == task.key.tenant && claim_order(other) < claim_order(task)
        });
        Ok(earlier.take(MAX_COUNTED_BEFORE).count() as u64)
    }

    async fn paused_drivers(&self) -> Result<Vec<(Arc<str>, Timestamp, String)>, StoreError> {
        let contents = self.contents();
        let paused = contents.paused.iter();
        Ok(paused
            .map(|(driver, (since, reason))| (driver.clone(), *since, reason.clone()))
            .collect())
    }

    async fn tenants(
        &self,
        after: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        let contents = self.contents();
        let mut tenants: Vec<_> = contents.jobs.keys().map(|key| &key.tenant).collect();
        tenants.dedup();
        tenants.retain(|tenant| after.is_none_or(|after| *tenant > after));
        Ok(tenants.into_iter().take(limit).cloned().collect())
    }

    async fn scan(&self, from: &Scan, limit: usize) -> Result<Scanned, StoreError> {
        Ok(self.contents().scan(from, limit))
    }

    async fn note(&self, note: Note) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.contents().notes.get(&note).cloned())
    }

    fn registry(&self) -> &dyn Registry {
        &*self.registry
    }

    async fn others(&self) -> Result<usize, StoreError> {
        Ok(0)
    }
}

fn is_of(event: &Event, key: &JobKey) -> bool {
    event.tenant == key.tenant && event.job == key.job
}

/// Priority, then age, then id.
fn claim_order(task: &ReadyTask) -> (std::cmp::Reverse<i32>, Timestamp, JobId, u32) {
    (
        std::cmp::Reverse(task.priority),
        task.ready_time,
        task.key.job,
        task.ordinal,
    )
}

impl Contents {
    /// What matches behind the position, in order.
    fn matching<'a>(
        &'a self,
        query: &'a ListQuery,
    ) -> impl Iterator<Item = (ListPosition, &'a Arc<Job>)> {
        let mut candidates: Vec<(ListPosition, &Arc<Job>)> = match query.order {
            ListOrder::CreateTime | ListOrder::CreateTimeDesc => self
                .jobs_of(&query.tenant)
                .map(|job| (ListPosition::Job(job.id), job))
                .collect(),
            ListOrder::UpdateTime | ListOrder::UpdateTimeDesc => self
                .events
                .iter()
                .filter(|(_, event)| event.tenant == query.tenant)
                .filter_map(|(position, event)| {
                    let job = self.jobs.get(&event.job_key())?;
                    (job.revision == event.revision).then_some((ListPosition::Feed(*position), job))
                })
                .collect(),
        };
        let descending = match query.order {
            ListOrder::CreateTime | ListOrder::UpdateTime => false,
            ListOrder::CreateTimeDesc | ListOrder::UpdateTimeDesc => true,
        };
        if descending {
            candidates.reverse();
        }
        let is_behind = |at: &ListPosition| match &query.after {
            None => true,
            Some(after) if descending => rank(at) < rank(after),
            Some(after) => rank(at) > rank(after),
        };
        candidates.retain(|(at, job)| is_behind(at) && query.filter.matches(job));
        candidates.into_iter()
    }

    fn list(&self, query: &ListQuery) -> Page {
        let mut matching = self.matching(query);
        let page: Vec<_> = matching.by_ref().take(query.limit).collect();
        let more = matching.next().is_some();
        Page {
            next: page.last().filter(|_| more).map(|(at, _)| *at),
            at: page.iter().map(|(at, _)| *at).collect(),
            jobs: page.into_iter().map(|(_, job)| Arc::clone(job)).collect(),
            seen: FeedCursor::at(self.position),
        }
    }

    fn tally(&self, query: &ListQuery) -> Tally {
        let counted: Vec<_> = self.matching(query).take(query.limit).collect();
        let last = counted.last().filter(|_| counted.len() == query.limit);
        Tally {
            count: counted.len(),
            next: last.map(|(at, _)| *at),
        }
    }

    fn feed(
        &self,
        tenant: &Tenant,
        after: &FeedCursor,
        until: &FeedCursor,
    ) -> (Vec<FeedItem>, FeedCursor) {
        let mut items: BTreeMap<JobId, FeedItem> = BTreeMap::new();
        let is_new = |at: &u64| !after.has_seen(*at) && until.has_seen(*at);
        let mut new = self.events.iter().filter(|(at, _)| is_new(at));
        let mut reached = until.clone();
        for (looked, (position, event)) in new.by_ref().take(MAX_FEED_EVENTS).enumerate() {
            if looked + 1 == MAX_FEED_EVENTS {
                reached = after.on_the_way(until, *position);
            }
            if event.tenant != *tenant {
                continue;
            }
            let key = event.job_key();
            let item = items.entry(event.job).or_insert_with(|| FeedItem {
                first_position: *position,
                position: 0,
                job: self.jobs.get(&key).cloned(),
                key,
                from_revision: event.revision.saturating_sub(1),
                revision: 0,
                before: event.before,
            });
            item.position = *position;
            item.revision = event.revision;
        }
        let mut items: Vec<_> = items.into_values().collect();
        items.sort_by_key(|item| item.position);
        (items, reached)
    }

    fn scan(&self, from: &Scan, limit: usize) -> Scanned {
        let all: Vec<(Scan, &Arc<Job>)> = match from {
            Scan::ByKey(after) => {
                let jobs = self.jobs.iter();
                let behind = jobs.filter(|(key, _)| Some(*key) > after.as_ref());
                behind
                    .map(|(key, job)| (Scan::ByKey(Some(key.clone())), job))
                    .collect()
            }
            Scan::ByChange(after) => {
                let first = after.map_or(0, |after| after + 1);
                let newest = self.events.range(first..).filter_map(|(position, event)| {
                    let job = self.jobs.get(&event.job_key())?;
                    let is_newest = job.revision == event.revision;
                    is_newest.then_some((Scan::ByChange(Some(*position)), job))
                });
                newest.collect()
            }
        };
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        for (_, job) in all.iter().take(limit) {
            if bytes > MAX_SCANNED_BYTES {
                break;
            }
            let kept = self.kept(job);
            bytes += kept.memory_bytes();
            jobs.push(kept);
        }
        let more = all.len() > jobs.len();
        let last = all[..jobs.len()].last().filter(|_| more);
        Scanned {
            next: last.map(|(at, _)| at.clone()),
            jobs,
        }
    }

    fn kept(&self, job: &Arc<Job>) -> Kept {
        let key = job.key();
        let events = self.events.values().filter(|event| is_of(event, &key));
        let request = RequestKey {
            tenant: job.tenant.clone(),
            id: job.request_id.clone(),
        };
        let record = self.requests.get(&request);
        Kept {
            job: Arc::clone(job),
            events: events.take(MAX_KEPT_EVENTS).cloned().collect(),
            request: record
                .filter(|record| record.key == key)
                .map(|record| record.fingerprint),
            is_queued: true,
        }
    }

    fn counts(&self, tenant: &Tenant) -> Counts {
        let mut counts = Counts::default();
        for (counted, count) in self.counts.iter().filter(|(_, count)| **count != 0) {
            match counted {
                Counted::Jobs(of, state, status) if of == tenant => {
                    counts.jobs.push((*state, *status, *count));
                }
                Counted::Tasks(of, driver, state) if of == tenant => {
                    counts.tasks.push((driver.clone(), *state, *count));
                }
                Counted::Jobs(..) | Counted::Tasks(..) => {}
            }
        }
        counts
    }

    fn jobs_of(&self, tenant: &Tenant) -> impl Iterator<Item = &Arc<Job>> {
        let tenant = tenant.clone();
        self.jobs.values().filter(move |job| job.tenant == tenant)
    }

    /// Tasks that may be taken, in no order.
    fn ready_tasks(&self, driver: &str) -> impl Iterator<Item = ReadyTask> {
        self.jobs.values().flat_map(move |job| {
            let tasks = (0..).zip(&job.tasks);
            let of_driver = tasks.filter(move |(_, task)| task.spec.driver.as_ref() == driver);
            of_driver.filter_map(|(ordinal, task)| {
                Some(ReadyTask {
                    key: job.key(),
                    ordinal,
                    priority: job.spec.priority,
                    ready_time: task.ready_time?,
                })
            })
        })
    }

    /// Keys of jobs with this time not after `now`, earliest first.
    fn jobs_by_time(
        &self,
        time: fn(&Job) -> Option<Timestamp>,
        now: Timestamp,
        limit: usize,
    ) -> Vec<JobKey> {
        let timed = |job: &Arc<Job>| Some((time(job)?, job.key()));
        let mut found: Vec<_> = self.jobs.values().filter_map(timed).collect();
        found.retain(|(time, _)| *time <= now);
        found.sort();
        found.truncate(limit);
        found.into_iter().map(|(_, key)| key).collect()
    }

    fn apply(&mut self, changes: &Changes) {
        for write in &changes.jobs {
            let key = write.job.key();
            match &write.how {
                WriteKind::Insert | WriteKind::Update { .. } => {
                    self.jobs.insert(key, Arc::clone(&write.job));
                }
                WriteKind::Delete => {
                    self.events.retain(|_, event| !is_of(event, &key));
                    self.requests.retain(|_, record| record.key != key);
                    self.jobs.remove(&key);
                }
            }
        }
        for event in &changes.events {
            self.position += 1;
            self.events.insert(self.position, event.clone());
        }
        self.requests.extend(changes.requests.iter().cloned());
        for (counted, by) in changes.counts.iter() {
            *self.counts.entry(counted.clone()).or_default() += by;
        }
        for (driver, paused) in &changes.drivers {
            match paused {
                Some(paused) => self.paused.insert(driver.clone(), paused.clone()),
                None => self.paused.remove(driver),
            };
        }
    }
}

/// Positions of one order compare as these.
fn rank(position: &ListPosition) -> u128 {
    match position {
        ListPosition::Job(id) => id.0.as_u128(),
        ListPosition::Feed(position) => u128::from(*position),
    }
}
