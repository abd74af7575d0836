//! How long to wait before trying again.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use super::ClientError;

/// The first pause, at least; up to twice as long with its jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause without its jitter; 10 s with it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause that a server may ask for.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(60);

/// Pauses that double, from 50 ms to 10 s, each up to twice as long at random so that clients do not come back all at once.
#[derive(Debug)]
pub(crate) struct Backoff(ExponentialBackoff);

impl Default for Backoff {
    fn default() -> Self {
        Self(
            ExponentialBuilder::new()
                .with_min_delay(FIRST_PAUSE)
                .with_max_delay(LONGEST_PAUSE)
                .with_jitter()
                .without_max_times()
                .build(),
        )
    }
}

impl Backoff {
    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        self.0.next().unwrap_or(LONGEST_PAUSE)
    }

    /// The next pause; longer if the server asked for it.
    pub(crate) fn pause_after(&mut self, error: &ClientError) -> Duration {
        let asked = error.retry_after().unwrap_or_default();
        self.pause().max(asked.min(LONGEST_ASKED_PAUSE))
    }

    /// Starts again from the shortest pause, after a success.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_bounds() {
        let error = ClientError::from(Status::unavailable("gone"));
        let mut backoff = Backoff::default();
        for round in 0..2 {
            let pauses: Vec<_> = (0..20).map(|_| backoff.pause_after(&error)).collect();
            assert!(
                pauses[0] >= FIRST_PAUSE && pauses[0] <= FIRST_PAUSE * 2,
                "round {round}"
            );
            assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE * 2));
            assert!(pauses[19] >= LONGEST_PAUSE);
            backoff.reset();
        }
    }

    #[test]
    fn the_server_may_ask_for_more_within_reason() {
        let asking = |seconds| {
            ClientError::from(Status::with_error_details(
                Code::Unavailable,
                "busy",
                ErrorDetails::with_retry_info(Some(Duration::from_secs(seconds))),
            ))
        };
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause_after(&asking(3)), Duration::from_secs(3));
        assert_eq!(backoff.pause_after(&asking(86_400)), LONGEST_ASKED_PAUSE);
    }
}
