//! Lists in pages, for dialects whose clients name an offset: no job is told twice or left out because others are added meanwhile.
//!
//! An offset alone can not do that, because each new job shifts what comes after it. So a page that has been told is remembered by where it ended, and a
//! client that asks for the offset behind it goes on from there. Where the dialect has a link to the next page, the link says the same by a token, which
//! is good on any node and after a restart. An offset that comes out of nowhere is counted off.

use std::{
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
/// Ends of pages that are remembered, each some hundred bytes.
const MAX_REMEMBERED: std::num::NonZeroUsize = std::num::NonZeroUsize::new(10_000).unwrap();
/// What the tokens of links are for.
const PURPOSE: &[u8] = b"rest page";

/// See the module.
#[derive(Clone)]
pub(super) struct Pages {
    ends: Arc<Mutex<LruCache<Fingerprint, (Place, Instant)>>>,
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
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Place {
    Indexed(ListPosition),
    Sorted(Anchor),
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
            None => self.end_before(&key(tenant, call.peer, &of, offset)),
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
        let (jobs, end) = match sorting {
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
                    None => (Vec::new(), None),
                    Some(selection) => {
                        let selected = engine.select(selection, residual).await?;
                        (selected.jobs, selected.next.map(Place::Indexed))
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
                    None => (Vec::new(), None),
                    Some(selection) => {
                        let selected = engine.select_sorted(selection).await?;
                        (selected.jobs, selected.next.map(Place::Sorted))
                    }
                }
            }
        };
        let next = end.map(|end| {
            let token = engine.seal_position(PURPOSE, &bound_to, &end);
            // Who follows links needs no memory, and must not lead astray who adds up offsets at the same address.
            if !is_linked {
                // A page of large jobs ends early, which a client that adds up limits does not see.
                if jobs.len() < limit {
                    self.remember(key(tenant, call.peer, &of, offset + limit), end.clone());
                }
                self.remember(key(tenant, call.peer, &of, offset + jobs.len()), end);
            }
            token
        });
        Ok(Listed { jobs, total, next })
    }

    /// Where the page ended that has told all up to this offset, if it was told a short while ago.
    fn end_before(&self, key: &Fingerprint) -> Option<Place> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let (place, told) = ends.get(key)?;
        (monotonic_now() < *told + REMEMBERED).then(|| place.clone())
    }

    fn remember(&self, key: Fingerprint, end: Place) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.put(key, (end, monotonic_now()));
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
