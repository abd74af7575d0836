//! Time and chance, the only place that asks for either.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use uuid::{ContextV7, Uuid};

use crate::domain::{Timestamp, command::Source, time::micros};

/// Tells the time. It never goes back.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
    /// The same, and how often the clock was set forward so far that leases end in that moment whose holders could not speak in between.
    fn reading(&self) -> (Timestamp, u64) {
        (self.now(), 0)
    }
    /// What time it was for all who share a store, at some moment of the last so much time. A clock that nobody shares need not care.
    fn hear(&self, _shared: Timestamp, _within: Duration) {}
}

/// How far a clock may be from the one that all go by: far less than any lease.
const TOLERANCE: Duration = Duration::from_millis(20);
/// A step forward that is worth a pause: less than the shortest lease.
const STEP: Duration = Duration::from_millis(500);

/// The time of day when the process started, carried on by the monotonic clock, so that no later jump of the system's clock is seen; kept close to the
/// time of a store that several processes share.
#[derive(Debug)]
pub struct SteadyClock {
    started: Instant,
    hands: Mutex<Hands>,
}

/// Times in microseconds.
#[derive(Debug)]
struct Hands {
    /// The time when it was started, as is believed now.
    base: i64,
    /// The newest time that was told,
    told: i64,
    /// and how long after the start.
    told_at: i64,
    steps: u64,
}

impl Hands {
    /// The time so long after the start. What was told before may have been ahead: then it goes on half as fast until it is right, because time that
    /// stands would end no lease.
    fn read(&mut self, elapsed: i64) -> i64 {
        let now = self.base.saturating_add(elapsed);
        let half = elapsed.saturating_sub(self.told_at).max(0) / 2;
        let slow = self.told.saturating_add(half);
        (self.told, self.told_at) = match now >= slow {
            true => (now, elapsed),
            // What was asked for too soon to be told is not lost.
            false => (slow, self.told_at.saturating_add(half * 2)),
        };
        self.told
    }

    /// Goes by a time that was right at some moment of the last `within`; answers how far off it was.
    fn set(&mut self, elapsed: i64, shared: i64, within: i64) -> i64 {
        let latest = self.base.saturating_add(elapsed);
        let earliest = latest.saturating_sub(within);
        let off = shared.saturating_sub(shared.clamp(earliest, latest));
        if off.unsigned_abs() <= micros(TOLERANCE).unsigned_abs() {
            return 0;
        }
        self.base = self.base.saturating_add(off);
        self.steps += u64::from(off > micros(STEP));
        off
    }
}

impl SteadyClock {
    /// Starts from the system's clock, or after `newest` if that is behind what was stored already.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn start(newest: Timestamp) -> Self {
        let system = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let system = Timestamp::from_micros(0).after(system);
        Self::at(system, newest)
    }

    /// Starts from the time that all go by who share a store, or after `newest`.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn at(now: Timestamp, newest: Timestamp) -> Self {
        let told = newest.as_micros().saturating_add(1).max(now.as_micros());
        Self {
            started: Instant::now(),
            hands: Mutex::new(Hands {
                base: told,
                told,
                told_at: 0,
                steps: 0,
            }),
        }
    }

    fn hands(&self) -> (MutexGuard<'_, Hands>, i64) {
        // Whoever panicked with it was about to look.
        let hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        (hands, micros(self.started.elapsed()))
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        self.reading().0
    }

    fn reading(&self) -> (Timestamp, u64) {
        let (mut hands, elapsed) = self.hands();
        let now = hands.read(elapsed);
        (Timestamp::from_micros(now), hands.steps)
    }

    fn hear(&self, shared: Timestamp, within: Duration) {
        let (mut hands, elapsed) = self.hands();
        let off = hands.set(elapsed, shared.as_micros(), micros(within));
        drop(hands);
        if off != 0 {
            tracing::info!(microseconds = off, "the clock is set to that of the store");
        }
    }
}

/// UUIDv7 ids that only grow, and numbers from the thread's generator.
pub(super) struct Randomness {
    ids: ContextV7,
}

impl Randomness {
    pub(super) fn new() -> Self {
        Self {
            ids: ContextV7::new(),
        }
    }
}

impl Source for Randomness {
    fn id(&mut self, now: Timestamp) -> Uuid {
        let micros = u64::try_from(now.as_micros()).unwrap_or(0);
        let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000;
        let time = uuid::Timestamp::from_unix(&self.ids, micros / 1_000_000, nanos);
        Uuid::new_v7(time)
    }

    fn chance(&mut self) -> f64 {
        rand::random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn hands() -> Hands {
        Hands {
            base: 1_000 * SECOND,
            told: 1_000 * SECOND,
            told_at: 0,
            steps: 0,
        }
    }

    #[test]
    fn a_clock_that_was_ahead_goes_on_half_as_fast_until_it_is_right() {
        let mut hands = hands();
        assert_eq!(hands.read(10 * SECOND), 1_010 * SECOND);
        assert_eq!(hands.set(10 * SECOND, 1_000 * SECOND, 0), -10 * SECOND);
        let mut before = 1_010 * SECOND;
        for elapsed in 1..=19 {
            let now = hands.read((10 + elapsed) * SECOND);
            assert_eq!(now - before, SECOND / 2, "{elapsed}");
            before = now;
        }
        // However often it is asked.
        for elapsed in 29 * SECOND..29 * SECOND + 999 {
            hands.read(elapsed);
        }
        assert_eq!(hands.read(31 * SECOND), 1_021 * SECOND);
        assert_eq!(hands.read(32 * SECOND), 1_022 * SECOND);
        assert_eq!(hands.steps, 0);
    }

    #[test]
    fn an_answer_that_was_long_on_its_way_sets_no_clock() {
        let mut hands = hands();
        let (elapsed, within) = (10 * SECOND, 2 * SECOND);
        for shared in [1_008, 1_009, 1_010] {
            assert_eq!(hands.set(elapsed, shared * SECOND, within), 0);
        }
        assert_eq!(hands.set(elapsed, 1_007 * SECOND, within), -SECOND);
        assert_eq!(hands.set(elapsed, 1_010 * SECOND, within), SECOND);
        assert_eq!(hands.steps, 1);
        assert_eq!(hands.read(elapsed), 1_010 * SECOND);
    }
}
