//! Connections that have not shown a credential where one is required: only a part of all may be such, and of those only a part from one place. So nobody keeps
//! others out who has nothing to show.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The part of all connections that may be of strangers.
const PART: usize = 4;
/// The part of these that may come from one address: all clients behind a proxy come back at once when a server has started.
const PART_OF_ONE: usize = 4;
/// Connections that are kept though they ask for nothing but health: there are few who probe.
const MOST_PROBES: usize = 64;

/// The places that there are; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Strangers(Arc<Places>);

#[derive(Debug)]
struct Places {
    most: usize,
    most_of_one: usize,
    taken: Mutex<Taken>,
    probes: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) enum Place {
    /// Of one that is new.
    New(New),
    /// Of one that only asks for health.
    Probe {
        /// Given back with it.
        _permit: OwnedSemaphorePermit,
    },
}

/// See [`Place`].
#[derive(Debug)]
pub(super) struct New {
    strangers: Strangers,
    origin: IpAddr,
}

impl Strangers {
    /// For a server with so many connections.
    pub(super) fn of(max_connections: usize) -> Self {
        let most = max_connections.div_ceil(PART);
        Self(Arc::new(Places {
            most,
            most_of_one: most.div_ceil(PART_OF_ONE),
            taken: Mutex::default(),
            probes: Arc::new(Semaphore::new(MOST_PROBES)),
        }))
    }

    /// A place for a connection from there, if there is one.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let origin = origin(address);
        let mut taken = self.taken();
        if taken.all >= self.0.most {
            return None;
        }
        let of_one = taken.of.entry(origin).or_default();
        if *of_one >= self.0.most_of_one {
            return None;
        }
        *of_one += 1;
        taken.all += 1;
        let strangers = self.clone();
        Some(Place::New(New { strangers, origin }))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing in there is left half done.
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The place of one that only asks for health, instead; none if there is none.
    pub(super) fn probing(self) -> Option<Self> {
        let Self::New(new) = &self else {
            return Some(self);
        };
        let probes = Arc::clone(&new.strangers.0.probes);
        let permit = probes.try_acquire_owned().ok()?;
        Some(Self::Probe { _permit: permit })
    }
}

impl Drop for New {
    fn drop(&mut self) {
        let mut taken = self.strangers.taken();
        taken.all -= 1;
        if let Some(of_one) = taken.of.get_mut(&self.origin) {
            *of_one -= 1;
            if *of_one == 0 {
                taken.of.remove(&self.origin);
            }
        }
    }
}

/// Whoever has an address of IPv6 has the other 2^64 of its network as well.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(strangers: &Strangers, address: &str) -> Vec<Place> {
        let address = address.parse().unwrap();
        std::iter::from_fn(|| strangers.enter(address)).collect()
    }

    #[test]
    fn one_place_does_not_take_all_and_all_do_not_take_more() {
        let strangers = Strangers::of(1_000);
        let first = many(&strangers, "192.0.2.1");
        assert_eq!(first.len(), 63);
        let others: Vec<_> = (2..10)
            .flat_map(|n| many(&strangers, &format!("192.0.2.{n}")))
            .collect();
        assert_eq!(others.len(), 250 - 63);
        drop(first);
        assert_eq!(many(&strangers, "192.0.2.200").len(), 63);
        drop(others);
        let taken = strangers.taken();
        assert_eq!((taken.all, taken.of.len()), (0, 0));
    }

    #[test]
    fn a_network_is_one_place() {
        let strangers = Strangers::of(1_000);
        let _first = many(&strangers, "2001:db8::1");
        assert_eq!(many(&strangers, "2001:db8::ffff:1").len(), 0);
        assert_eq!(many(&strangers, "2001:db8:0:1::1").len(), 63);
        let _mapped = many(&strangers, "::ffff:192.0.2.1");
        assert_eq!(many(&strangers, "192.0.2.1").len(), 0);
        assert_eq!(many(&strangers, "192.0.2.2").len(), 63);
    }

    #[test]
    fn few_are_kept_for_their_probes() {
        let strangers = Strangers::of(10_000);
        let new = many(&strangers, "192.0.2.1");
        let kept: Vec<_> = new.into_iter().filter_map(Place::probing).collect();
        assert_eq!(kept.len(), MOST_PROBES);
        assert_eq!(strangers.taken().all, 0);
    }

    #[test]
    fn there_is_always_a_place() {
        assert_eq!(many(&Strangers::of(1), "192.0.2.1").len(), 1);
    }
}
