//! Reading a whole store ahead of whoever works on what is read.

use std::{collections::VecDeque, sync::Arc};

use tokio::{sync::mpsc, task::spawn};
use tokio_util::task::AbortOnDropHandle;

use super::{
    contents::Weighed,
    digest::{Digests, EventsDigest},
};
use crate::{
    domain::{
        JobKey,
        audit::AuditRecord,
        registry::{Record, RecordKind},
    },
    store::{
        AuditPosition, AuditQuery, Kept, MAX_KEPT_EVENTS, RecordQuery, Scan, Store, StoreError,
    },
};

/// Jobs, or other things, that are read, and written, at once: one fsync is shared by many, and a page of large jobs ends before that.
const PAGE: usize = 500;
/// Pages that are read ahead: one that waits while another is worked on.
const AHEAD: usize = 1;

/// What a store holds, page by page. The task that reads ends with it.
pub(super) struct Reading<T> {
    pages: mpsc::Receiver<Result<Vec<T>, StoreError>>,
    page: VecDeque<T>,
    /// `None` once it has ended.
    task: Option<AbortOnDropHandle<()>>,
}

/// Where a page goes to.
type Pages<T> = mpsc::Sender<Result<Vec<T>, StoreError>>;

/// A job as it counts.
pub(super) struct Seen {
    pub(super) key: JobKey,
    pub(super) weighed: Weighed,
}

/// Every job with what is kept of it.
pub(super) fn kept(store: Arc<dyn Store>, scan: Scan) -> Reading<Kept> {
    Reading::start(move |pages| read(store, scan, pages))
}

/// Every job as it counts, by tenant and id.
pub(super) fn seen(store: Arc<dyn Store>) -> Reading<Seen> {
    let kept = kept(Arc::clone(&store), Scan::ByKey(None));
    Reading::start(move |pages| weigh_all(store, kept, pages))
}

/// Every record of a tenant, a credential or a data key, by kind and id.
pub(super) fn records(store: Arc<dyn Store>) -> Reading<Record> {
    Reading::start(move |pages| read_records(store, pages))
}

/// The audit log, oldest first.
pub(super) fn audit(store: Arc<dyn Store>) -> Reading<AuditRecord> {
    Reading::start(move |pages| read_audit(store, pages))
}

impl<T: Send + 'static> Reading<T> {
    fn start<F>(read: impl FnOnce(Pages<T>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, pages) = mpsc::channel(AHEAD);
        Self {
            pages,
            page: VecDeque::new(),
            task: Some(AbortOnDropHandle::new(spawn(read(sender)))),
        }
    }

    /// The next page; `None` at the end.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<T>>, StoreError> {
        match self.pages.recv().await {
            Some(page) => page.map(Some),
            None => self.end().await.map(|()| None),
        }
    }

    /// The next one; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<T>, StoreError> {
        while self.page.is_empty() {
            match self.page().await? {
                Some(page) => self.page = page.into(),
                None => return Ok(None),
            }
        }
        Ok(self.page.pop_front())
    }

    /// A reading that broke off must not pass for one that came to its end.
    async fn end(&mut self) -> Result<(), StoreError> {
        let ended = match self.task.take() {
            Some(task) => task.await,
            None => Ok(()),
        };
        ended.map_err(|error| StoreError::Failed(format!("reading was given up: {error}")))
    }
}

async fn read(store: Arc<dyn Store>, scan: Scan, pages: Pages<Kept>) {
    let mut scan = Some(scan);
    while let Some(from) = scan.take() {
        let page = store.scan(&from, PAGE).await.map(|page| {
            scan = page.next;
            page.jobs
        });
        // Nobody waits for the rest.
        if pages.send(page).await.is_err() {
            return;
        }
    }
}

async fn read_records(store: Arc<dyn Store>, pages: Pages<Record>) {
    for kind in RecordKind::ALL {
        let mut after = None;
        loop {
            let query = RecordQuery {
                kind,
                tenant: None,
                after,
                limit: PAGE,
            };
            let page = store.registry().records(query).await;
            let last = page.as_ref().map(|page| page.last().map(Record::key));
            after = match last {
                Ok(None) => break,
                Ok(Some(last)) => Some(last.id.to_string()),
                Err(_) => None,
            };
            let is_broken = page.is_err();
            if pages.send(page).await.is_err() || is_broken {
                return;
            }
        }
    }
}

async fn read_audit(store: Arc<dyn Store>, pages: Pages<AuditRecord>) {
    let mut after = None;
    loop {
        let query = AuditQuery {
            tenant: None,
            descending: false,
            after,
            limit: PAGE,
        };
        let page = store.registry().audit(query).await;
        let last = page.as_ref().map(|page| page.last().map(AuditPosition::of));
        after = match last {
            Ok(None) => return,
            Ok(last) => last,
            Err(_) => None,
        };
        let is_broken = page.is_err();
        if pages.send(page).await.is_err() || is_broken {
            return;
        }
    }
}

async fn weigh_all(store: Arc<dyn Store>, mut kept: Reading<Kept>, pages: Pages<Seen>) {
    loop {
        let weighed = async {
            let Some(page) = kept.page().await? else {
                return Ok(None);
            };
            let mut seen = Vec::with_capacity(page.len());
            for kept in page {
                seen.push(weigh(&*store, kept).await?);
            }
            Ok(Some(seen))
        };
        let Some(page) = weighed.await.transpose() else {
            return;
        };
        let is_last = page.is_err();
        if pages.send(page).await.is_err() || is_last {
            return;
        }
    }
}

async fn weigh(store: &dyn Store, kept: Kept) -> Result<Seen, StoreError> {
    let key = kept.job.key();
    let mut is_whole = kept.has_all_events();
    let Kept {
        job,
        mut events,
        request,
        is_queued,
    } = kept;
    let (mut count, mut digest) = (0, EventsDigest::new());
    loop {
        events.iter().for_each(|event| digest.add(event));
        count += events.len() as u64;
        let Some(last) = events.last().filter(|_| !is_whole) else {
            break;
        };
        events = store.events(&key, last.revision, MAX_KEPT_EVENTS).await?;
        is_whole = events.len() < MAX_KEPT_EVENTS;
    }
    let tasks = job.tasks.iter();
    Ok(Seen {
        key,
        weighed: Weighed {
            outcome: (job.state, job.status),
            tasks: tasks
                .map(|task| (task.spec.driver.clone(), task.state))
                .collect(),
            events: count,
            has_request: request.is_some(),
            is_queued,
            digests: Digests::of(&job, digest, request.as_ref()),
        },
    })
}
