//! Lines in the log that a peer could cause at will: one every few seconds, which says how often it came to that.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long the next line waits, at least.
const PAUSE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    /// Since then.
    untold: u64,
}

impl Seldom {
    /// It has come to that; if it is to be told, how often since it last was.
    pub(super) fn note(&self, now: Instant) -> Option<u64> {
        // Nothing in there is left half done.
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.untold += 1;
        let is_due = told.last.is_none_or(|last| now >= last + PAUSE);
        is_due.then(|| {
            told.last = Some(now);
            std::mem::take(&mut told.untold)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::monotonic_now;

    #[test]
    fn all_are_counted_and_few_are_told() {
        let seldom = Seldom::default();
        let start = monotonic_now();
        let told = (0..1_200).map(|n| seldom.note(start + Duration::from_millis(10) * n));
        let told: Vec<u64> = told.flatten().collect();
        assert_eq!(told, [1, 500, 500]);
    }
}
