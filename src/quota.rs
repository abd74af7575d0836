//! How much a tenant may use at a time on this node: who takes too much is told so, and nobody else feels it.
//!
//! What is held is counted by what holds it: a [`Held`] gives back what it has when it is dropped.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};

use crate::domain::{Tenant, Timestamp, registry::Quotas};

/// How long a caller is held back who is over the rate: one that asks again at once does so no more often than this allows.
const LONGEST_DELAY: Duration = Duration::from_millis(250);
/// How long a count is good.
const COUNTED_FOR: Duration = Duration::from_secs(1);
/// Callers of one tenant who are held back at a time; those beyond are told at once.
const MAX_DELAYED: u32 = 1_024;

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Jobs submitted in a second.
    SubmitsPerSecond,
    /// Jobs that have not ended.
    OpenJobs,
    /// Watches and waits.
    Watches,
    /// Connections.
    Connections,
}

impl Resource {
    /// As the contract calls its quota.
    pub fn name(self) -> &'static str {
        match self {
            Self::SubmitsPerSecond => "submits_per_second",
            Self::OpenJobs => "open_jobs",
            Self::Watches => "watches",
            Self::Connections => "connections",
        }
    }
}

/// A quota that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Which.
    pub resource: Resource,
    /// How much there is of it.
    pub most: u64,
    /// When to try again.
    pub retry_after: Duration,
}

/// What a tenant has stored, as it was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Jobs that have not ended.
    pub open_jobs: u64,
}

/// The same, and what was added since.
#[derive(Clone, Copy, Debug)]
struct Usage {
    stored: Stored,
    counted: Timestamp,
}

/// What one tenant may use.
#[derive(Debug)]
pub struct Allowance {
    quotas: ArcSwap<Quotas>,
    submits: ArcSwap<Option<DefaultDirectRateLimiter>>,
    usage: Mutex<Option<Usage>>,
    delayed: Count,
    watches: Count,
    connections: Count,
}

/// What all tenants may use; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Allowances {
    defaults: Quotas,
    of: Arc<DashMap<Tenant, Arc<Allowance>>>,
}

/// How many are held.
#[derive(Clone, Debug, Default)]
struct Count(Arc<AtomicU32>);

/// One of those that are counted, until it is dropped.
#[derive(Debug)]
pub struct Held(Count);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Count {
    fn take(&self, most: u32) -> Option<Held> {
        let more = |held: u32| (held < most).then(|| held + 1);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Held(self.clone()))
    }
}

impl Allowances {
    /// With quotas for those who have none of their own.
    pub fn new(defaults: Quotas) -> Self {
        let of = Arc::default();
        Self { defaults, of }
    }

    /// That of a tenant.
    pub fn of(&self, tenant: &Tenant) -> Arc<Allowance> {
        if let Some(known) = self.of.get(tenant) {
            return Arc::clone(&known);
        }
        let new = || Arc::new(Allowance::new(self.defaults));
        Arc::clone(&self.of.entry(tenant.clone()).or_insert_with(new))
    }

    /// A tenant has these quotas from now on.
    pub fn set(&self, tenant: &Tenant, quotas: Quotas) {
        let Quotas {
            submits_per_second,
            open_jobs,
            stored_bytes,
            watches,
            connections,
        } = quotas;
        let defaults = self.defaults;
        self.of(tenant).set(Quotas {
            submits_per_second: limit(submits_per_second, defaults.submits_per_second),
            open_jobs: limit(open_jobs, defaults.open_jobs),
            stored_bytes: limit(stored_bytes, defaults.stored_bytes),
            watches: limit(watches, defaults.watches),
            connections: limit(connections, defaults.connections),
        });
    }
}

/// A tenant's own limit, or else the default; 0 is none.
fn limit<N: Default + PartialEq>(own: Option<N>, default: Option<N>) -> Option<N> {
    own.or(default).filter(|limit| *limit != N::default())
}

impl Default for Allowance {
    /// Without a limit.
    fn default() -> Self {
        Self::new(Quotas::default())
    }
}

impl Allowance {
    fn new(quotas: Quotas) -> Self {
        Self {
            submits: ArcSwap::from_pointee(limiter(&quotas)),
            quotas: ArcSwap::from_pointee(quotas),
            usage: Mutex::default(),
            delayed: Count::default(),
            watches: Count::default(),
            connections: Count::default(),
        }
    }

    fn set(&self, quotas: Quotas) {
        let old = self.quotas.load();
        if **old == quotas {
            return;
        }
        if old.submits_per_second != quotas.submits_per_second {
            self.submits.store(Arc::new(limiter(&quotas)));
        }
        self.quotas.store(Arc::new(quotas));
    }

    /// So many jobs are about to be submitted. Who is over the rate is told so, after a pause.
    ///
    /// # Errors
    /// They are more than the rate allows.
    pub async fn submit(&self, jobs: u32) -> Result<(), Exceeded> {
        let Some(wait) = self.over_rate(jobs) else {
            return Ok(());
        };
        let most = self.quotas.load().submits_per_second.unwrap_or_default();
        // One that does not wait for an answer would not be slowed by a pause; but it does not get more of them either.
        if let Some(_one_of_those_held_back) = self.delayed.take(MAX_DELAYED) {
            tokio::time::sleep(wait.min(LONGEST_DELAY)).await;
        }
        Err(Exceeded {
            resource: Resource::SubmitsPerSecond,
            most: most.into(),
            retry_after: wait,
        })
    }

    /// For how long so many are too many, if they are.
    fn over_rate(&self, jobs: u32) -> Option<Duration> {
        let submits = self.submits.load();
        let limiter = submits.as_ref().as_ref()?;
        let most = self.quotas.load().submits_per_second.unwrap_or_default();
        // More than can ever be at once is let in when there is room for all that can be.
        let jobs = NonZeroU32::new(jobs.min(most.saturating_mul(2)))?;
        match limiter.check_n(jobs) {
            Ok(Ok(())) | Err(_) => None,
            Ok(Err(not_until)) => Some(not_until.wait_time_from(DefaultClock::default().now())),
        }
    }

    /// One watch more, or one that waits.
    ///
    /// # Errors
    /// There are as many as may be.
    pub fn watch(&self) -> Result<Held, Exceeded> {
        let most = self.quotas.load().watches;
        self.watches
            .take(most.unwrap_or(u32::MAX))
            .ok_or_else(|| exceeded(Resource::Watches, most))
    }

    /// One connection more.
    ///
    /// # Errors
    /// There are as many as may be.
    pub fn connect(&self) -> Result<Held, Exceeded> {
        let most = self.quotas.load().connections;
        self.connections
            .take(most.unwrap_or(u32::MAX))
            .ok_or_else(|| exceeded(Resource::Connections, most))
    }

    /// So much is about to be stored. What is there is counted once a second at the most; other nodes may add to it meanwhile.
    ///
    /// # Errors
    /// It is more than may be, or can not be counted.
    pub async fn store<E: From<Exceeded>>(
        &self,
        more: Stored,
        now: Timestamp,
        count: impl Future<Output = Result<Stored, E>>,
    ) -> Result<(), E> {
        let Some(most) = self.quotas.load().open_jobs else {
            return Ok(());
        };
        let is_fresh = |usage: &Usage| now.since(usage.counted) < COUNTED_FOR;
        if !self.usage().as_ref().is_some_and(is_fresh) {
            let stored = count.await?;
            *self.usage() = Some(Usage {
                stored,
                counted: now,
            });
        }
        let mut usage = self.usage();
        let Some(Usage { stored, .. }) = &mut *usage else {
            return Ok(());
        };
        let open_jobs = stored.open_jobs.saturating_add(more.open_jobs);
        if open_jobs > most {
            return Err(E::from(Exceeded {
                resource: Resource::OpenJobs,
                most,
                retry_after: COUNTED_FOR,
            }));
        }
        stored.open_jobs = open_jobs;
        Ok(())
    }

    fn usage(&self) -> MutexGuard<'_, Option<Usage>> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn exceeded(resource: Resource, most: Option<u32>) -> Exceeded {
    Exceeded {
        resource,
        most: most.unwrap_or_default().into(),
        retry_after: Duration::from_secs(1),
    }
}

/// Twice as many at once as in a second; `None` if there is no limit.
fn limiter(quotas: &Quotas) -> Option<DefaultDirectRateLimiter> {
    let rate = NonZeroU32::new(quotas.submits_per_second?)?;
    let burst = rate.saturating_mul(NonZeroU32::MIN.saturating_add(1));
    Some(RateLimiter::direct(
        Quota::per_second(rate).allow_burst(burst),
    ))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn with(quotas: Quotas) -> Arc<Allowance> {
        Allowances::new(quotas).of(&Tenant::new("a"))
    }

    #[test]
    fn what_is_held_is_given_back() {
        let allowance = with(Quotas {
            watches: Some(2),
            ..Quotas::default()
        });
        let (one, _other) = (allowance.watch().unwrap(), allowance.watch().unwrap());
        let exceeded = allowance.watch().unwrap_err();
        assert_eq!((exceeded.resource, exceeded.most), (Resource::Watches, 2));
        drop(one);
        assert!(allowance.watch().is_ok());
        // Nobody said how many connections there may be.
        let many: Vec<Held> = (0..1_000).map(|_| allowance.connect().unwrap()).collect();
        assert_eq!(many.len(), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_and_who_is_over_it_is_held_back() {
        let allowance = with(Quotas {
            submits_per_second: Some(10),
            ..Quotas::default()
        });
        // The clock of the test only moves when somebody waits.
        let held_back = tokio::time::sleep(LONGEST_DELAY);
        let mut held_back = std::pin::pin!(held_back);
        allowance.submit(20).await.unwrap();
        assert!((&mut held_back).now_or_never().is_none());
        let exceeded = allowance.submit(10).await.unwrap_err();
        assert_eq!(
            (exceeded.resource, exceeded.most),
            (Resource::SubmitsPerSecond, 10)
        );
        assert!(
            exceeded.retry_after > Duration::from_millis(500),
            "{exceeded:?}"
        );
        assert!(held_back.now_or_never().is_some());
    }

    #[tokio::test]
    async fn more_than_can_ever_be_at_once_is_not_refused_for_ever() {
        let allowance = with(Quotas {
            submits_per_second: Some(1),
            ..Quotas::default()
        });
        allowance.submit(1_000).await.unwrap();
        assert!(allowance.submit(1).await.is_err());
    }

    #[tokio::test]
    async fn tenants_do_not_share_and_quotas_change() {
        let allowances = Allowances::new(Quotas {
            submits_per_second: Some(1),
            ..Quotas::default()
        });
        let (a, b) = (Tenant::new("a"), Tenant::new("b"));
        allowances.of(&a).submit(2).await.unwrap();
        assert!(allowances.of(&a).submit(1).await.is_err());
        allowances.of(&b).submit(2).await.unwrap();
        allowances.set(
            &a,
            Quotas {
                submits_per_second: Some(1_000),
                ..Quotas::default()
            },
        );
        allowances.of(&a).submit(1_000).await.unwrap();
        // 0 is no limit, and not that nothing is allowed.
        allowances.set(
            &b,
            Quotas {
                submits_per_second: Some(0),
                watches: Some(0),
                ..Quotas::default()
            },
        );
        allowances.of(&b).submit(1_000).await.unwrap();
        assert!(allowances.of(&b).watch().is_ok());
        // What was not said is as by default again.
        allowances.set(&a, Quotas::default());
        allowances.of(&a).submit(2).await.unwrap();
        assert!(allowances.of(&a).submit(1).await.is_err());
    }
}
