//! Time and chance, the only place that asks for either.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use uuid::{ContextV7, Uuid};

use crate::domain::{Timestamp, command::Source, time::micros};

/// Tells the time. It never goes back.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
    /// What time it is for all who share a store; a clock that nobody shares need not care.
    fn hear(&self, _shared: Timestamp) {}
}

/// How far a clock may be from the one that all go by: more than it takes to ask, and far less than any lease.
const TOLERANCE: Duration = Duration::from_millis(20);

/// The time of day when the process started, carried on by the monotonic clock, so that no later jump of the system's clock is seen; kept close to the
/// time of a store that several processes share.
#[derive(Debug)]
pub struct SteadyClock {
    started: Instant,
    /// The time when it was started, in microseconds, as is believed now.
    base: AtomicI64,
    /// The newest time that was told, in microseconds.
    told: AtomicI64,
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
        let base = now.as_micros().max(newest.as_micros().saturating_add(1));
        Self {
            started: Instant::now(),
            base: AtomicI64::new(base),
            told: AtomicI64::new(base),
        }
    }

    fn elapsed(&self) -> i64 {
        micros(self.started.elapsed())
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let base = self.base.load(Ordering::Relaxed);
        let now = base.saturating_add(self.elapsed());
        let told = self.told.fetch_max(now, Ordering::Relaxed);
        Timestamp::from_micros(now.max(told))
    }

    /// If this clock is ahead, it stands until the others have come up.
    fn hear(&self, shared: Timestamp) {
        let base = shared.as_micros().saturating_sub(self.elapsed());
        let off = base.abs_diff(self.base.load(Ordering::Relaxed));
        if off > micros(TOLERANCE).unsigned_abs() {
            tracing::info!(microseconds = off, "the clock is set to that of the store");
            self.base.store(base, Ordering::Relaxed);
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
