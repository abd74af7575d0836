//! Whether the store can be reached: what health tells, and what leases are spared for.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::sync::watch;

/// Who reaches for the store: it is there if all can.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    /// The commit loop.
    Writing = 1,
    /// Whoever hears of others.
    Hearing = 2,
    /// The same, where what is there can not be read: that keeps no worker from reporting.
    Understanding = 4,
}

/// See the module.
pub(super) struct Reach {
    reached: watch::Sender<bool>,
    /// Who can not reach it, a bit for each [`Side`].
    missed: AtomicU8,
    /// It could not be reached for a moment at least, and nobody has taken that into account.
    was_away: AtomicBool,
}

impl Reach {
    pub(super) fn new() -> Self {
        Self {
            reached: watch::Sender::new(true),
            missed: AtomicU8::new(0),
            was_away: AtomicBool::new(false),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.reached.subscribe()
    }

    /// Whether it was away since this was asked last.
    pub(super) fn take_was_away(&self) -> bool {
        self.was_away.swap(false, Ordering::AcqRel)
    }

    /// Notes whether it could be reached just now.
    pub(super) fn note(&self, side: Side, reached: bool) {
        let bit = side as u8;
        let before = match reached {
            true => self.missed.fetch_and(!bit, Ordering::AcqRel),
            false => self.missed.fetch_or(bit, Ordering::AcqRel),
        };
        if (before & bit == 0) == reached {
            return;
        }
        if !matches!(side, Side::Understanding) {
            self.was_away.store(true, Ordering::Release);
        }
        self.reached.send_if_modified(|known| {
            let now = self.missed.load(Ordering::Acquire) == 0;
            let changed = *known != now;
            *known = now;
            match (changed, now) {
                (true, true) => tracing::info!("the store is back"),
                (true, false) => tracing::error!(
                    "the store can not be reached: calls are refused, open watches wait"
                ),
                (false, _) => {}
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_there_if_all_can_reach_it() {
        let reach = Reach::new();
        let told = reach.subscribe();
        assert!(!reach.take_was_away());
        reach.note(Side::Writing, false);
        reach.note(Side::Hearing, true);
        assert!(
            !*told.borrow(),
            "one that can does not make up for the other"
        );
        reach.note(Side::Hearing, false);
        reach.note(Side::Writing, true);
        assert!(!*told.borrow());
        reach.note(Side::Hearing, true);
        assert!(*told.borrow());
        assert!(reach.take_was_away() && !reach.take_was_away());
        // For as long as it lasts, that is no reason to spare leases again and again.
        reach.note(Side::Hearing, false);
        assert!(reach.take_was_away());
        reach.note(Side::Hearing, false);
        reach.note(Side::Understanding, false);
        assert!(!reach.take_was_away());
    }
}
