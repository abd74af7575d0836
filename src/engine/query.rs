//! Reads: they go to the store's readers and change nothing.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Engine, EngineError, fingerprint};
use crate::{
    domain::{
        Job, JobKey, Tenant, Timestamp,
        command::{Fingerprint, ReadyTask},
        counts::Counts,
        event::Event,
        explain::{Explanation, Facts, explain},
        filter::Filter,
        limits::{DEFAULT_PAGE, MAX_PAGE},
        submission::Violation,
        wording::{Sentence, sentence},
    },
    store::{ListOrder, ListPosition, ListQuery},
};

/// The orders of a list.
const LIST_ORDERS: &str = "\"create_time desc\", \"create_time\" or \"update_time desc\"";
/// Tasks of a job of which those before them are counted: each is a look at the queue.
const MAX_COUNTED_TASKS: usize = 10;

/// A list as it is asked for.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Jobs at the most; 0 for the default.
    pub page_size: i32,
    /// From the page before.
    pub page_token: String,
    /// Which jobs.
    pub filter: String,
    /// In which order.
    pub order_by: String,
}

/// A page of jobs.
#[derive(Clone, Debug)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Arc<Job>>,
    /// How many match in all, if that is known.
    pub total: Option<i64>,
    at: Vec<ListPosition>,
    next: Option<ListPosition>,
    bound_to: Fingerprint,
}

/// A page of a job's events.
#[derive(Clone, Debug)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// The job as it is now, for the names of its tasks.
    pub job: Arc<Job>,
    more: bool,
    bound_to: Fingerprint,
}

/// A list as it was understood.
struct ListAsked {
    limit: usize,
    filter: Filter,
    order: ListOrder,
    after: Option<ListPosition>,
    bound_to: Fingerprint,
}

#[derive(Serialize, Deserialize)]
struct PageToken {
    bound_to: Fingerprint,
    position: ListPosition,
}

#[derive(Serialize, Deserialize)]
struct EventToken {
    bound_to: Fingerprint,
    after: u64,
}

impl Engine {
    /// One job, not older than any answer that the caller has had.
    ///
    /// # Errors
    /// There is no such job.
    pub async fn get(&self, key: &JobKey) -> Result<Arc<Job>, EngineError> {
        self.shared
            .store
            .job(key)
            .await?
            .ok_or_else(|| EngineError::job_not_found(key.job))
    }

    /// A page of jobs.
    ///
    /// # Errors
    /// A field of the request is bad.
    pub async fn list(
        &self,
        tenant: Tenant,
        request: &ListRequest,
    ) -> Result<JobPage, EngineError> {
        let asked = self
            .read_list(&tenant, request)
            .map_err(EngineError::Invalid)?;
        let ListAsked {
            limit,
            filter,
            order,
            after,
            bound_to,
        } = asked;
        let total = self.counted(&tenant, &filter).await?;
        let query = ListQuery {
            tenant,
            filter,
            order,
            after,
            limit,
        };
        let page = self.shared.store.list(query).await?;
        Ok(JobPage {
            jobs: page.jobs,
            total,
            at: page.at,
            next: page.next,
            bound_to,
        })
    }

    /// For the page after the first so many jobs of one: fewer than all of them may fit an answer. Empty if nothing follows.
    pub fn page_token(&self, page: &JobPage, told: usize) -> String {
        let next = match told.checked_sub(1) {
            Some(last) if told < page.jobs.len() => page.at.get(last).copied(),
            Some(_) | None => page.next,
        };
        let bound_to = page.bound_to;
        let shared = &self.shared;
        next.map_or_else(String::new, |position| {
            shared.seal_text(b"page", &PageToken { bound_to, position })
        })
    }

    /// What is wrong with such a request.
    pub fn check_list(&self, tenant: &Tenant, request: &ListRequest) -> Vec<Violation> {
        self.read_list(tenant, request).err().unwrap_or_default()
    }

    fn read_list(
        &self,
        tenant: &Tenant,
        request: &ListRequest,
    ) -> Result<ListAsked, Vec<Violation>> {
        let order = list_order(&request.order_by);
        let bound_to = fingerprint(&[
            tenant.0.as_bytes(),
            request.filter.as_bytes(),
            request.order_by.trim().as_bytes(),
        ]);
        let sealer = &self.shared.sealer;
        let after = match request.page_token.as_str() {
            "" => Ok(None),
            token => match sealer.open_text::<PageToken>(b"page", token) {
                Ok(token) if token.bound_to == bound_to => Ok(Some(token.position)),
                Ok(_) | Err(_) => Err(bad_token("page_token")),
            },
        };
        let limit = page_size(request.page_size);
        let filter = parse_filter(&request.filter);
        match (limit, filter, order, after) {
            (Ok(limit), Ok(filter), Ok(order), Ok(after)) => Ok(ListAsked {
                limit,
                filter,
                order,
                after,
                bound_to,
            }),
            (limit, filter, order, after) => {
                let bad = [limit.err(), filter.err(), order.err(), after.err()];
                Err(bad.into_iter().flatten().collect())
            }
        }
    }

    /// From the counters, where they know.
    pub(super) async fn counted(
        &self,
        tenant: &Tenant,
        filter: &Filter,
    ) -> Result<Option<i64>, EngineError> {
        if !filter.is_about_outcome() {
            return Ok(None);
        }
        Ok(self.shared.store.counts(tenant).await?.matching(filter))
    }

    /// The history of a job, oldest first.
    ///
    /// # Errors
    /// There is no such job, or a field of the request is bad.
    pub async fn events(
        &self,
        key: &JobKey,
        after_revision: u64,
        size: i32,
        token: &str,
    ) -> Result<EventPage, EngineError> {
        let (limit, token, bound_to) = self
            .read_events(key, size, token)
            .map_err(EngineError::Invalid)?;
        let after = token.unwrap_or(after_revision);
        let job = self.get(key).await?;
        let mut events = self.shared.store.events(key, after, limit + 1).await?;
        let more = events.len() > limit;
        events.truncate(limit);
        Ok(EventPage {
            events,
            job,
            more,
            bound_to,
        })
    }

    /// What is wrong with such a request.
    pub fn check_events(&self, key: &JobKey, size: i32, token: &str) -> Vec<Violation> {
        self.read_events(key, size, token).err().unwrap_or_default()
    }

    /// How many, after which revision if the token says, and what the next token is bound to.
    fn read_events(
        &self,
        key: &JobKey,
        size: i32,
        token: &str,
    ) -> Result<(usize, Option<u64>, Fingerprint), Vec<Violation>> {
        let bound_to = fingerprint(&[key.tenant.0.as_bytes(), key.job.0.as_bytes()]);
        let after = match token {
            "" => Ok(None),
            token => match self.shared.sealer.open_text::<EventToken>(b"events", token) {
                Ok(token) if token.bound_to == bound_to => Ok(Some(token.after)),
                Ok(_) | Err(_) => Err(bad_token("page_token")),
            },
        };
        match (page_size(size), after) {
            (Ok(limit), Ok(after)) => Ok((limit, after, bound_to)),
            (limit, after) => {
                let bad = [limit.err(), after.err()];
                Err(bad.into_iter().flatten().collect())
            }
        }
    }

    /// For the page after the first so many events of one; empty if nothing follows.
    pub fn event_page_token(&self, page: &EventPage, told: usize) -> String {
        let last = told.checked_sub(1).and_then(|last| page.events.get(last));
        match last {
            Some(last) if page.more || told < page.events.len() => {
                let bound_to = page.bound_to;
                let after = last.revision;
                let token = EventToken { bound_to, after };
                self.shared.seal_text(b"events", &token)
            }
            Some(_) | None => String::new(),
        }
    }

    /// The tenant's counters.
    ///
    /// # Errors
    /// The store failed.
    pub async fn counts(&self, tenant: &Tenant) -> Result<Counts, EngineError> {
        Ok(self.shared.store.counts(tenant).await?)
    }

    /// Drivers that are paused, since when, and why.
    ///
    /// # Errors
    /// The store failed.
    pub async fn paused_drivers(&self) -> Result<Vec<(Arc<str>, Timestamp, String)>, EngineError> {
        Ok(self.shared.store.paused_drivers().await?)
    }

    /// Drivers of which workers are connected that may take the tenant's tasks.
    ///
    /// # Errors
    /// The server has stopped.
    pub async fn connected_drivers(&self, tenant: &Tenant) -> Result<Vec<Arc<str>>, EngineError> {
        let mut drivers: Vec<_> = self.roster(tenant).await?.into_keys().collect();
        drivers.sort_unstable();
        Ok(drivers)
    }

    /// Why a job is where it is.
    ///
    /// # Errors
    /// There is no such job.
    pub async fn explain(&self, key: &JobKey) -> Result<(String, Vec<Explanation>), EngineError> {
        let job = self.get(key).await?;
        let paused: HashMap<Arc<str>, String> = self
            .paused_drivers()
            .await?
            .into_iter()
            .map(|(driver, _, reason)| (driver, reason))
            .collect();
        let mut before = HashMap::new();
        let ready = (0u32..).zip(&job.tasks);
        let ready = ready.filter(|(_, task)| task.ready_time.is_some());
        for (ordinal, task) in ready.take(MAX_COUNTED_TASKS) {
            if let Some(ready_time) = task.ready_time {
                let ready = ReadyTask {
                    key: key.clone(),
                    ordinal,
                    priority: job.spec.priority,
                    ready_time,
                };
                let driver = &task.spec.driver;
                before.insert(
                    ordinal,
                    self.shared.store.queued_before(driver, &ready).await?,
                );
            }
        }
        let roster = self.roster(&key.tenant).await?;
        let facts = Facts {
            now: self.now(),
            paused: &|driver| paused.get(driver).cloned(),
            workers: &|driver| roster.get(driver).copied().unwrap_or_default(),
            queued_before: &|ordinal| before.get(&ordinal).copied(),
        };
        Ok(explain(&job, &facts))
    }
}

/// Reads a filter of a request.
pub(super) fn parse_filter(text: &str) -> Result<Filter, Violation> {
    Filter::parse(text).map_err(|error| Violation::new("filter", error))
}

fn list_order(text: &str) -> Result<ListOrder, Violation> {
    match text.trim() {
        "" | "create_time desc" => Ok(ListOrder::CreateTimeDesc),
        "create_time" | "create_time asc" => Ok(ListOrder::CreateTime),
        "update_time desc" => Ok(ListOrder::UpdateTimeDesc),
        _ => Err(Violation::new(
            "order_by",
            sentence!("list-order", "must be {orders}", orders = LIST_ORDERS),
        )),
    }
}

/// How many are asked for on a page.
///
/// # Errors
/// It is negative.
pub fn page_size(size: i32) -> Result<usize, Violation> {
    match usize::try_from(size) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(size) => Ok(size.min(MAX_PAGE)),
        Err(_) => Err(Violation::new(
            "page_size",
            Sentence::plain("not-negative", "must not be negative"),
        )),
    }
}

pub(crate) fn bad_token(field: &str) -> Violation {
    Violation::new(
        field,
        Sentence::plain(
            "foreign-token",
            "is not from an answer to the same request; begin again without it",
        ),
    )
}
