//! Lists for front ends with a language of their own: typed filters, whole pages, exact totals and offsets.
//!
//! Every answer is put together from short looks at the store, each at a moment of its own: a job that is there, matches and stays in its place all the
//! while is told, or counted, once. In the orders of change a job that changes moves: it is told once all the same, or, if the last changed come first,
//! perhaps not at all, because it has moved to where the answer has been. Dropping the future ends it with the look that is under way. Orders that no index has are in `sorted`.

mod sorted;

use std::{collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use sorted::{
    Anchor, MAX_SORT_TEXT_BYTES, MAX_SORTED, SelectedSorted, SortKey, SortValue, SortedSelection,
};

use super::{Engine, EngineError, fingerprint};
use crate::{
    domain::{Job, Tenant, command::Fingerprint, filter::Filter},
    store::{ListOrder, ListPosition, ListQuery, Tally},
};

/// Jobs that one look reads at the most: some tens of milliseconds' work.
const PAGE: usize = 500;
/// Bytes of jobs after which a page ends: what can be held in memory for a caller.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// A condition that is no [`Filter`], such as on a text that is made from a job: judged on each job that the filter lets through, as it is read.
pub type Residual<'a> = Option<&'a (dyn Fn(&Job) -> bool + Sync)>;

/// Which jobs are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Whose.
    pub tenant: Tenant,
    /// Which.
    pub filter: Filter,
    /// In what order.
    pub order: ListOrder,
    /// After which position; `None` for the beginning.
    pub after: Option<ListPosition>,
    /// How many at the most.
    pub limit: usize,
}

/// A page of jobs: as many as were asked for, unless there are no more or they have more than 16 MiB.
#[derive(Clone, Debug, Default)]
pub struct Selected {
    /// The jobs.
    pub jobs: Vec<Arc<Job>>,
    /// Where each of them stands: a page that begins there holds what follows it.
    pub at: Vec<ListPosition>,
    /// Where the next page begins. It has a job, unless that is gone by then; `None` if there is none, or if none was asked for.
    pub next: Option<ListPosition>,
}

/// What a token holds.
#[derive(Serialize, Deserialize)]
struct Sealed<P> {
    bound_to: Fingerprint,
    position: P,
}

impl Selection {
    fn query(&self, limit: usize) -> ListQuery {
        ListQuery {
            tenant: self.tenant.clone(),
            filter: self.filter.clone(),
            order: self.order,
            after: self.after,
            limit,
        }
    }
}

impl Engine {
    /// A page of jobs.
    ///
    /// # Errors
    /// The store failed.
    pub async fn select(
        &self,
        selection: Selection,
        residual: Residual<'_>,
    ) -> Result<Selected, EngineError> {
        let mut selected = Selected::default();
        let limit = selection.limit;
        let mut query = selection.query(PAGE);
        let mut bytes = 0;
        let moves = matches!(
            query.order,
            ListOrder::UpdateTime | ListOrder::UpdateTimeDesc
        );
        let mut told = HashSet::new();
        if limit == 0 {
            return Ok(selected);
        }
        loop {
            if residual.is_none() {
                // One more than asked tells whether there is another page.
                query.limit = (limit - selected.jobs.len()).saturating_add(1).min(PAGE);
            }
            let page = self.shared.store.list(query.clone()).await?;
            for (job, at) in page.jobs.into_iter().zip(page.at) {
                if residual.is_some_and(|fits| !fits(&job)) {
                    continue;
                }
                if selected.jobs.len() == limit || bytes > MAX_BYTES {
                    selected.next = selected.at.last().copied();
                    return Ok(selected);
                }
                if moves && !told.insert(job.id) {
                    continue;
                }
                bytes += job.memory_bytes();
                selected.jobs.push(job);
                selected.at.push(at);
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(selected),
            }
        }
    }

    /// How many jobs match: from the counters where these know, else by counting.
    ///
    /// # Errors
    /// The store failed.
    pub async fn total(
        &self,
        tenant: &Tenant,
        filter: &Filter,
        residual: Residual<'_>,
    ) -> Result<i64, EngineError> {
        if residual.is_none()
            && let Some(total) = self.counted(tenant, filter).await?
        {
            return Ok(total);
        }
        let mut query = ListQuery {
            tenant: tenant.clone(),
            filter: filter.clone(),
            // Jobs that are added meanwhile are behind the beginning.
            order: ListOrder::CreateTimeDesc,
            after: None,
            limit: usize::MAX,
        };
        let mut total = 0;
        loop {
            let tally = self.tally(&query, residual).await?;
            total += tally.count;
            match tally.next {
                Some(next) => query.after = Some(next),
                None => return Ok(i64::try_from(total).unwrap_or(i64::MAX)),
            }
        }
    }

    /// The same selection behind its first `offset` matches; `None` if there are not so many.
    ///
    /// # Errors
    /// The store failed.
    pub async fn seek(
        &self,
        mut selection: Selection,
        offset: usize,
        residual: Residual<'_>,
    ) -> Result<Option<Selection>, EngineError> {
        let mut left = offset;
        while left > 0 {
            let tally = self.tally(&selection.query(left), residual).await?;
            left -= tally.count.min(left);
            let Some(next) = tally.next else {
                return Ok(None);
            };
            selection.after = Some(next);
        }
        Ok(Some(selection))
    }

    /// As [`crate::store::Store::tally`], with a condition of ours.
    async fn tally(&self, query: &ListQuery, residual: Residual<'_>) -> Result<Tally, EngineError> {
        let store = &self.shared.store;
        let Some(fits) = residual else {
            return Ok(store.tally(query.clone()).await?);
        };
        let page = ListQuery {
            limit: PAGE,
            ..query.clone()
        };
        let page = store.list(page).await?;
        let mut count = 0;
        for (job, at) in page.jobs.iter().zip(page.at) {
            count += usize::from(fits(job));
            if count == query.limit {
                let next = Some(at);
                return Ok(Tally { count, next });
            }
        }
        let next = page.next;
        Ok(Tally { count, next })
    }

    /// A token for URLs that stands for a position, such as a [`ListPosition`] or an [`Anchor`]. It opens for the same purpose, which says what it holds,
    /// and for what it is bound to alone: name the tenant, the filter and the order.
    pub fn seal_position<P: Serialize>(
        &self,
        purpose: &'static [u8],
        bound_to: &[&[u8]],
        position: &P,
    ) -> String {
        let sealed = Sealed {
            bound_to: bind(purpose, bound_to),
            position,
        };
        self.shared.seal_text(b"position", &sealed)
    }

    /// What such a token stands for; `None` if it was not made here, for this.
    pub fn open_position<P: DeserializeOwned>(
        &self,
        purpose: &'static [u8],
        bound_to: &[&[u8]],
        token: &str,
    ) -> Option<P> {
        let sealed: Sealed<P> = self.shared.sealer.open_text(b"position", token).ok()?;
        (sealed.bound_to == bind(purpose, bound_to)).then_some(sealed.position)
    }
}

fn bind(purpose: &[u8], bound_to: &[&[u8]]) -> Fingerprint {
    let parts: Vec<&[u8]> = std::iter::once(purpose)
        .chain(bound_to.iter().copied())
        .collect();
    fingerprint(&parts)
}
