//! Time and chance, the only place that asks for either.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use uuid::{ContextV7, Uuid};

use crate::domain::{Timestamp, command::Source};

/// Tells the time. It never goes back.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The time of day when the process started, carried on by the monotonic clock, so that no later jump of the system's clock is seen.
#[derive(Debug)]
pub struct SteadyClock {
    base: Timestamp,
    started: Instant,
}

impl SteadyClock {
    /// Starts from the system's clock, or after `newest` if that is behind what was stored already.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn start(newest: Timestamp) -> Self {
        let system = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let system = Timestamp::from_micros(0).after(system);
        Self {
            base: system.max(Timestamp::from_micros(newest.as_micros().saturating_add(1))),
            started: Instant::now(),
        }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        self.base.after(self.started.elapsed())
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
