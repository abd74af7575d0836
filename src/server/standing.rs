//! What a connection has shown of itself: nothing yet, that it probes, or who it is. With the first request that is let in it becomes one of its tenant's
//! connections, to its end.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::strangers::Place;
use crate::quota::{Allowance, Exceeded, Held};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Standing {
    is_known: AtomicBool,
    is_cut: AtomicBool,
    held: Mutex<Holdings>,
}

#[derive(Debug, Default)]
struct Holdings {
    /// As a stranger.
    place: Option<Place>,
    /// As one of a tenant's connections.
    connection: Option<Held>,
    has_probed: bool,
}

impl Standing {
    /// Of one that is new.
    pub(super) fn new(place: Option<Place>) -> Self {
        let held = Holdings {
            place,
            ..Holdings::default()
        };
        Self {
            held: held.into(),
            ..Self::default()
        }
    }

    /// Whether a request was let in.
    pub(super) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    /// A request comes with a good credential.
    pub(super) fn let_in(&self, allowance: &Allowance) -> Result<(), Exceeded> {
        if self.is_known() {
            return Ok(());
        }
        // Locked: of several first requests one counts.
        let mut held = self.held();
        if held.connection.is_none() {
            held.connection = Some(allowance.connect()?);
            held.place = None;
        }
        self.is_known.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Somebody without a credential asks for health.
    pub(super) fn probe(&self) {
        self.held().has_probed = true;
    }

    /// Whether it may stay, now that it has had its time to show who it is.
    pub(super) fn may_stay(&self) -> bool {
        if self.is_known() {
            return true;
        }
        let mut held = self.held();
        if !held.has_probed {
            return false;
        }
        held.place = held.place.take().and_then(Place::probing);
        held.place.is_some()
    }

    /// It has asked for more than it may without asking for anything.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }

    /// Whether it has.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, Holdings> {
        // Nothing in there is left half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
