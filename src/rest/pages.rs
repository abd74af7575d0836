//! Lists in pages, for dialects whose clients name an offset: no job is told twice or left out because others are added meanwhile.
//!
//! An offset alone can not do that, because each new job shifts what comes after it. So a page that has been told is remembered by where it ended, and a
//! client that asks for the offset behind it goes on from there, also behind the last page. Whoever goes on has used the end of its page; the next time that
//! the list is read, it makes room for the new one. Several readers of one list at one address are not told apart: of the ends that were told for an
//! offset about the same time the shallowest counts, so that one of the readers may be told jobs twice, and none misses any.
//!
//! Where the dialect has a link to the next page, the link says the same by a token, which is good on any node and after a restart. An offset that comes
//! out of nowhere is counted off.

use std::{
    cmp::Ordering,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lru::LruCache;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::call::Call;
use crate::{
    api::Fault,
    domain::{Job, Tenant, command::Fingerprint, filter::Filter, wording::Sentence},
    engine::{Anchor, Engine, Selection, SortKey, SortedSelection, fingerprint, monotonic_now},
    store::{ListOrder, ListPosition},
};

/// How long the end of a page is remembered: clients work through a page before they ask for the next.
const REMEMBERED: Duration = Duration::from_secs(120);
/// Offsets of which ends of pages are remembered, each end some hundred bytes.
const MAX_REMEMBERED: std::num::NonZeroUsize = std::num::NonZeroUsize::new(10_000).unwrap();
/// Ends that are remembered of one offset: of so many readers, or pages that were read again.
const MAX_ENDS: usize = 4;
/// Ends of one offset that were told within this time may be of several readers; an older one is of somebody who did not go on.
const AT_ONCE: Duration = Duration::from_secs(10);
/// What the tokens of links are for.
const PURPOSE: &[u8] = b"rest page";

/// See the module.
#[derive(Clone)]
pub(super) struct Pages {
    ends: Arc<Mutex<LruCache<Fingerprint, Ends>>>,
}

/// A condition on a job that is no [`Filter`].
pub(super) type Fits = Box<dyn Fn(&Job) -> bool + Send + Sync>;
/// What to sort by.
pub(super) type Keys = Box<dyn Fn(&Job) -> Vec<SortKey> + Send + Sync>;

/// The order of a list.
pub(super) enum Sorting {
    /// One that has an index.
    Indexed(ListOrder),
    /// Any other; for up to a hundred thousand matches.
    Keys(Keys),
}

/// A list as a client asks for it.
pub(super) struct Listing {
    /// What the list is of: the dialect, the filter and the order as they were asked for, without offset, limit and token.
    pub(super) of: String,
    pub(super) filter: Filter,
    /// And besides.
    pub(super) fits: Option<Fits>,
    pub(super) sorting: Sorting,
    pub(super) offset: usize,
    pub(super) limit: usize,
    /// From the link to this page.
    pub(super) token: Option<String>,
}

/// A page.
pub(super) struct Listed {
    pub(super) jobs: Vec<Arc<Job>>,
    /// All that match, this page or another.
    pub(super) total: i64,
    /// For a link to the next page, if there is one.
    pub(super) next: Option<String>,
}

/// Where a page begins: behind this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    Indexed(ListPosition),
    Sorted(Anchor),
}

/// Where pages ended that have told all up to one offset, the shallowest first.
#[derive(Default)]
struct Ends(Vec<End>);

struct End {
    place: Place,
    told: Instant,
    /// Somebody has gone on from here.
    is_used: bool,
}

impl Pages {
    pub(super) fn new() -> Self {
        Self {
            ends: Arc::new(Mutex::new(LruCache::new(MAX_REMEMBERED))),
        }
    }

    /// A page of a list.
    pub(super) async fn page(
        &self,
        engine: &Engine,
        call: &Call,
        listing: Listing,
    ) -> Result<Listed, Fault> {
        let tenant = &call.caller.tenant;
        let Listing {
            of,
            filter,
            fits,
            sorting,
            offset,
            limit,
            token,
        } = listing;
        let bound_to = [tenant.0.as_bytes(), of.as_bytes()];
        let is_linked = token.is_some();
        let place = match token {
            Some(token) => match engine.open_position(PURPOSE, &bound_to, &token) {
                Some(place) => Some(place),
                None => return Err(Fault::bad_field("page_token", not_from_here())),
            },
            None if offset == 0 => None,
            None => self.end_before(&key(tenant, call.address(), &of, offset)),
        };
        // What was not told yet must be counted off.
        let left = match place {
            Some(_) => 0,
            None => offset,
        };
        let residual = fits
            .as_deref()
            .map(|fits| fits as &(dyn Fn(&Job) -> bool + Sync));
        let total = engine.total(tenant, &filter, residual).await?;
        let descending = matches!(
            sorting,
            Sorting::Indexed(ListOrder::CreateTimeDesc | ListOrder::UpdateTimeDesc)
        );
        // Behind a page without jobs is where it began.
        let began = place.clone();
        let (jobs, end, next) = match sorting {
            Sorting::Indexed(order) => {
                let selection = Selection {
                    tenant: tenant.clone(),
                    filter,
                    order,
                    after: match place {
                        Some(Place::Indexed(position)) => Some(position),
                        Some(Place::Sorted(_)) | None => None,
                    },
                    limit,
                };
                match engine.seek(selection, left, residual).await? {
                    None => (Vec::new(), None, None),
                    Some(selection) => {
                        let selected = engine.select(selection, residual).await?;
                        let end = selected.at.last().copied().map(Place::Indexed);
                        (selected.jobs, end, selected.next.map(Place::Indexed))
                    }
                }
            }
            Sorting::Keys(keys) => {
                let selection = SortedSelection {
                    tenant: tenant.clone(),
                    filter,
                    residual,
                    keys: &*keys,
                    after: match place {
                        Some(Place::Sorted(anchor)) => Some(anchor),
                        Some(Place::Indexed(_)) | None => None,
                    },
                    limit,
                };
                match engine.seek_sorted(selection, left).await? {
                    None => (Vec::new(), None, None),
                    Some(selection) => {
                        let selected = engine.select_sorted(selection).await?;
                        let end = selected.at.last().cloned().map(Place::Sorted);
                        (selected.jobs, end, selected.next.map(Place::Sorted))
                    }
                }
            }
        };
        // Who follows links needs no memory, and must not lead astray who adds up offsets at the same address. Behind the last page there is something to
        // remember as well: an offset alone would tell there what newer jobs have pushed behind it.
        if !is_linked && let Some(end) = end.or(began) {
            // A page of large jobs, or the last one, ends early, which a client that adds up limits does not see.
            if jobs.len() < limit {
                let key = key(tenant, call.address(), &of, offset.saturating_add(limit));
                self.remember(key, end.clone(), descending);
            }
            let key = key(
                tenant,
                call.address(),
                &of,
                offset.saturating_add(jobs.len()),
            );
            self.remember(key, end, descending);
        }
        let next = next.map(|next| engine.seal_position(PURPOSE, &bound_to, &next));
        Ok(Listed { jobs, total, next })
    }

    /// Where the page ended that has told all up to this offset, if it was told a short while ago.
    fn end_before(&self, key: &Fingerprint) -> Option<Place> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.get_mut(key)?.use_one(monotonic_now())
    }

    fn remember(&self, key: Fingerprint, end: Place, descending: bool) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let of_offset = ends.get_or_insert_mut(key, Ends::default);
        of_offset.add(end, monotonic_now(), descending);
    }
}

impl Ends {
    fn add(&mut self, place: Place, now: Instant, descending: bool) {
        self.0.retain(|end| !end.is_used && end.place != place);
        let deeper = |end: &End| end.place.compare(&place, descending).is_gt();
        let at = self.0.iter().position(deeper).unwrap_or(self.0.len());
        let end = End {
            place,
            told: now,
            is_used: false,
        };
        self.0.insert(at, end);
        self.0.truncate(MAX_ENDS);
    }

    fn use_one(&mut self, now: Instant) -> Option<Place> {
        let newest = self.0.iter().map(|end| end.told).max()?;
        let is_fresh = |end: &&mut End| now < end.told + REMEMBERED && newest <= end.told + AT_ONCE;
        let end = self.0.iter_mut().find(is_fresh)?;
        end.is_used = true;
        Some(end.place.clone())
    }
}

impl Place {
    /// Which of two places of one list comes first; what an index has may be descending.
    fn compare(&self, other: &Self, descending: bool) -> Ordering {
        match (self, other) {
            (Self::Indexed(one), Self::Indexed(other)) if descending => other.cmp(one),
            (Self::Indexed(one), Self::Indexed(other)) => one.cmp(other),
            (Self::Sorted(one), Self::Sorted(other)) => one.cmp(other),
            // Of two lists, which have no offset in common.
            (Self::Indexed(_), Self::Sorted(_)) | (Self::Sorted(_), Self::Indexed(_)) => {
                Ordering::Equal
            }
        }
    }
}

/// Names the place at an offset of a list that somebody reads.
fn key(tenant: &Tenant, peer: Option<IpAddr>, of: &str, offset: usize) -> Fingerprint {
    let peer = peer.map_or_else(String::new, |peer| peer.to_string());
    let offset = offset.to_string();
    fingerprint(&[
        tenant.0.as_bytes(),
        peer.as_bytes(),
        of.as_bytes(),
        offset.as_bytes(),
    ])
}

fn not_from_here() -> Sentence {
    Sentence::plain(
        "foreign-token",
        "is not from an answer to the same request; begin again without it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> Place {
        Place::Indexed(ListPosition::Feed(position))
    }

    #[test]
    fn of_readers_at_once_the_one_that_is_least_far_counts() {
        let now = monotonic_now();
        for (descending, shallow, deep) in [(true, 9, 3), (false, 3, 9)] {
            let mut ends = Ends::default();
            assert_eq!(ends.use_one(now), None);
            ends.add(at(shallow), now, descending);
            for end in [deep, 5, deep] {
                ends.add(at(end), now + AT_ONCE, descending);
            }
            for _reader in 0..2 {
                assert_eq!(ends.use_one(now + AT_ONCE), Some(at(shallow)));
            }
            assert_eq!(ends.use_one(now + REMEMBERED), Some(at(5)));
            assert_eq!(ends.use_one(now + AT_ONCE + REMEMBERED), None);
        }
    }

    #[test]
    fn a_list_that_is_read_again_goes_on_from_its_own_pages() {
        let now = monotonic_now();
        // Jobs have left the list, so that the page that is read again ends deeper in it.
        let mut ends = Ends::default();
        ends.add(at(9), now, true);
        assert_eq!(ends.use_one(now), Some(at(9)));
        ends.add(at(7), now, true);
        assert_eq!(ends.use_one(now), Some(at(7)));
        // Nobody went on from the page before.
        let later = now + AT_ONCE + Duration::from_nanos(1);
        let mut ends = Ends::default();
        ends.add(at(9), now, true);
        ends.add(at(7), later, true);
        assert_eq!(ends.use_one(later), Some(at(7)));
    }

    #[test]
    fn ends_are_few() {
        let mut ends = Ends::default();
        for end in 0..100 {
            ends.add(at(end), monotonic_now(), true);
        }
        assert_eq!(ends.0.len(), MAX_ENDS);
    }
}
