//! Pages in an order that no index has: every match is looked at, and the best behind the last page are kept.
//!
//! A page begins behind an [`Anchor`]: what the job before had to sort by when it was told, and its id. So it does not matter what became of that job since,
//! and jobs that stay as they are come once each, however many are added, changed or removed between two pages. The job's id alone would not do: it may be
//! removed, or have moved in the order; nor would an offset, which every new job shifts.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{MAX_BYTES, PAGE, Residual};
use crate::{
    domain::{Job, JobId, Tenant, Timestamp, filter::Filter, wording::sentence},
    engine::{Engine, EngineError},
    store::{ListOrder, ListQuery},
};

/// Jobs that are looked at for one page: some seconds' work.
pub const MAX_SORTED: usize = 100_000;
/// Bytes of a text that count for its place, so that a few of them fit a token: those that begin alike come in the order of their jobs' ids.
pub const MAX_SORT_TEXT_BYTES: usize = 128;

/// What to sort by. What is not there comes first, texts go by their bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SortValue {
    /// The job has none.
    Nothing,
    /// A number or a time.
    Number(i64),
    /// The beginning of a text: see [`Self::text`].
    Text(String),
}

/// What to sort by, and in which direction. In one place of all keys the direction is the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SortKey {
    /// The smallest first.
    Ascending(SortValue),
    /// The largest first.
    Descending(Reverse<SortValue>),
}

/// A place in a sorted list: its keys, and the newer job first where these are the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Anchor {
    keys: Vec<SortKey>,
    id: Reverse<JobId>,
}

/// Which jobs are asked for, in an order without an index.
#[derive(Clone)]
pub struct SortedSelection<'a> {
    /// Whose.
    pub tenant: Tenant,
    /// Which.
    pub filter: Filter,
    /// And of these, which.
    pub residual: Residual<'a>,
    /// What to sort by, the most important first; at most eight fit a token. Where all are the same, the newer job is first.
    pub keys: &'a (dyn Fn(&Job) -> Vec<SortKey> + Sync),
    /// Behind which place; `None` for the beginning.
    pub after: Option<Anchor>,
    /// How many at the most.
    pub limit: usize,
}

/// A page of jobs: as many as were asked for, unless there are no more or they have more than 16 MiB.
#[derive(Clone, Debug, Default)]
pub struct SelectedSorted {
    /// The jobs.
    pub jobs: Vec<Arc<Job>>,
    /// The place of each of them.
    pub at: Vec<Anchor>,
    /// Behind which place the next page begins; `None` if there is none, or if none was asked for.
    pub next: Option<Anchor>,
}

impl SortValue {
    /// Of a text.
    pub fn text(text: &str) -> Self {
        Self::Text(text[..text.floor_char_boundary(MAX_SORT_TEXT_BYTES)].to_owned())
    }

    /// Of a time.
    pub fn time(time: Option<Timestamp>) -> Self {
        time.map_or(Self::Nothing, |time| Self::Number(time.as_micros()))
    }
}

impl SortKey {
    /// By a value, in one direction or the other.
    pub fn new(value: SortValue, descending: bool) -> Self {
        match descending {
            true => Self::Descending(Reverse(value)),
            false => Self::Ascending(value),
        }
    }
}

impl Engine {
    /// A page of jobs in an order without an index. Takes as long as reading all that match.
    ///
    /// # Errors
    /// More than [`MAX_SORTED`] jobs match the filter, or the store failed.
    pub async fn select_sorted(
        &self,
        selection: SortedSelection<'_>,
    ) -> Result<SelectedSorted, EngineError> {
        let mut best = Best::new(selection.limit);
        self.look_behind(&selection, |at, job| best.take(at, job))
            .await?;
        Ok(best.page())
    }

    /// The same selection behind its first `offset` matches; `None` if there are not so many.
    ///
    /// # Errors
    /// As of [`Self::select_sorted`].
    pub async fn seek_sorted<'a>(
        &self,
        mut selection: SortedSelection<'a>,
        offset: usize,
    ) -> Result<Option<SortedSelection<'a>>, EngineError> {
        if offset == 0 {
            return Ok(Some(selection));
        }
        // The first ones, the last of them on top.
        let mut first: BinaryHeap<Anchor> = BinaryHeap::new();
        self.look_behind(&selection, |at, _| {
            first.push(at);
            if first.len() > offset {
                first.pop();
            }
        })
        .await?;
        if first.len() < offset {
            return Ok(None);
        }
        selection.after = first.pop();
        Ok(Some(selection))
    }

    /// Shows all that match and come behind the place where the page begins, in no particular order.
    async fn look_behind(
        &self,
        selection: &SortedSelection<'_>,
        mut show: impl FnMut(Anchor, Arc<Job>),
    ) -> Result<(), EngineError> {
        // Each holds many places while it looks, and keeps one of the store's readers busy.
        let turn = self.shared.sorting.acquire().await;
        let _turn = turn.map_err(|_closed| EngineError::Stopped)?;
        let counted = self.counted(&selection.tenant, &selection.filter).await?;
        if counted.is_some_and(|n| usize::try_from(n).is_ok_and(|n| n > MAX_SORTED)) {
            return Err(too_many());
        }
        let mut query = ListQuery {
            tenant: selection.tenant.clone(),
            filter: selection.filter.clone(),
            // Each job once: those that are added meanwhile are behind the beginning, and none moves.
            order: ListOrder::CreateTimeDesc,
            after: None,
            limit: PAGE,
        };
        let mut looked_at = 0;
        loop {
            let page = self.shared.store.list(query.clone()).await?;
            looked_at += page.jobs.len();
            if looked_at > MAX_SORTED {
                return Err(too_many());
            }
            for job in page.jobs {
                if selection.residual.is_some_and(|fits| !fits(&job)) {
                    continue;
                }
                let at = Anchor {
                    keys: (selection.keys)(&job),
                    id: Reverse(job.id),
                };
                if selection.after.as_ref().is_none_or(|after| at > *after) {
                    show(at, job);
                }
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

fn too_many() -> EngineError {
    EngineError::invalid(
        "order_by",
        sentence!(
            "too-many-to-sort",
            "more than {most} jobs match, too many to sort them so; narrow the filter, or sort by time of submission",
            most = MAX_SORTED
        ),
    )
}

/// The first jobs of those that were shown: all of them up to the last that is kept.
struct Best {
    limit: usize,
    kept: BTreeMap<Anchor, Arc<Job>>,
    bytes: usize,
    /// The first place that was given up. Nothing from there on is taken any more, or the page would have a gap.
    end: Option<Anchor>,
}

impl Best {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: BTreeMap::new(),
            bytes: 0,
            end: None,
        }
    }

    fn take(&mut self, at: Anchor, job: Arc<Job>) {
        if self.end.as_ref().is_some_and(|end| at >= *end) {
            return;
        }
        self.bytes += job.memory_bytes();
        self.kept.insert(at, job);
        while self.kept.len() > self.limit || self.kept.len() > 1 && self.bytes > MAX_BYTES {
            let Some((at, job)) = self.kept.pop_last() else {
                return;
            };
            self.bytes -= job.memory_bytes();
            self.end = Some(at);
        }
    }

    fn page(self) -> SelectedSorted {
        let (at, jobs): (Vec<Anchor>, Vec<_>) = self.kept.into_iter().unzip();
        let next = self.end.and_then(|_| at.last().cloned());
        SelectedSorted { jobs, at, next }
    }
}
