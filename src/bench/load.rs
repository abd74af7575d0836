//! Closed-loop load: so many callers at once, each with the next call as soon as the last is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::{BenchError, now};

/// The longest latency that is told apart, in nanoseconds: ten minutes.
const MAX_LATENCY_NANOS: u64 = 600_000_000_000;
/// Digits of a latency that count.
const DIGITS: u8 = 3;

/// What a load did.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Units done; a batch counts for what it holds.
    pub(super) done: u64,
    /// How long that took, from the first call to the last answer.
    pub(super) elapsed: Duration,
    latencies: Histogram<u64>,
}

impl Sample {
    pub(super) fn new() -> Self {
        Self {
            done: 0,
            elapsed: Duration::ZERO,
            latencies: Histogram::new_with_bounds(1, MAX_LATENCY_NANOS, DIGITS)
                .expect("the bounds are in order"),
        }
    }

    pub(super) fn add(&mut self, done: u64, latency: Duration) {
        self.done += done;
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(nanos);
    }

    pub(super) fn per_second(&self) -> f64 {
        self.done as f64 / self.elapsed.as_secs_f64()
    }

    /// A latency in seconds, such as that of quantile 0.99.
    pub(super) fn latency(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e9
    }
}

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After this many calls.
    Calls(u64),
}

/// Has `callers` call at once. A call answers how many units it has done.
pub(super) async fn closed_loop<C, F>(
    callers: usize,
    until: Until,
    call: C,
) -> Result<Sample, BenchError>
where
    C: Fn(usize) -> F + Clone + Send + 'static,
    F: Future<Output = Result<u64, BenchError>> + Send,
{
    let start = now();
    let left = Arc::new(AtomicU64::new(match until {
        Until::Calls(calls) => calls,
        Until::Elapsed(_) => u64::MAX,
    }));
    let time = match until {
        Until::Calls(_) => Duration::MAX,
        Until::Elapsed(time) => time,
    };
    let mut loops = JoinSet::new();
    for caller in 0..callers {
        let (call, left) = (call.clone(), left.clone());
        loops.spawn(async move {
            // Sorted into the histogram at the end: one for each caller would not fit the processor's cache.
            let mut calls: Vec<(u64, Duration)> = Vec::new();
            let mut began = start;
            while began - start < time && take_one(&left) {
                let done = call(caller).await?;
                let ended = now();
                calls.push((done, ended - began));
                began = ended;
            }
            Ok::<_, BenchError>(calls)
        });
    }
    let mut sample = Sample::new();
    while let Some(ended) = loops.join_next().await {
        for (done, latency) in ended?? {
            sample.add(done, latency);
        }
    }
    sample.elapsed = start.elapsed();
    Ok(sample)
}

fn take_one(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_load_by_calls_makes_just_those() {
        let load = closed_loop(7, Until::Calls(100), async |_| Ok(3));
        let sample = load.await.expect("no call fails");
        assert_eq!(sample.done, 300);
    }

    #[tokio::test]
    async fn a_failed_call_fails_the_load() {
        let broken = || BenchError::Broken("on purpose".to_owned());
        let load = closed_loop(2, Until::Calls(10), move |_| async move { Err(broken()) });
        assert!(load.await.is_err());
    }
}
