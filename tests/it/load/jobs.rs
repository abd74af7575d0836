//! The jobs of the load.

use std::time::Duration;

use longhaul::proto::v1::{JobSpec, JobTaskSpec, RetryPolicy, Timeouts};
use rand::{RngExt as _, rngs::StdRng};

/// The driver of the workers that keep their leases.
pub const STEADY: &str = "steady";
/// The driver of the workers that sometimes do not.
pub const CONTESTED: &str = "contested";
/// How often each task may be tried.
pub const MAX_ATTEMPTS: u32 = 4;

/// A job of one contested task.
pub fn contested_job() -> JobSpec {
    JobSpec {
        tasks: vec![JobTaskSpec {
            driver: CONTESTED.to_owned(),
            timeouts: Some(Timeouts {
                // The shortest lease that there is.
                heartbeat: Some(Duration::from_secs(1).try_into().unwrap()),
                ..Timeouts::default()
            }),
            ..retried_task()
        }],
        ..JobSpec::default()
    }
}

/// A job of up to three steady tasks, each after the one before.
pub fn steady_job(rng: &mut StdRng) -> JobSpec {
    let tasks = (0..rng.random_range(1..=3)).map(|n| JobTaskSpec {
        name: format!("t{n}"),
        driver: STEADY.to_owned(),
        depends_on: (n > 0).then(|| format!("t{}", n - 1)).into_iter().collect(),
        ..retried_task()
    });
    JobSpec {
        tasks: tasks.collect(),
        ..JobSpec::default()
    }
}

fn retried_task() -> JobTaskSpec {
    let soon = || Duration::from_millis(10).try_into().ok();
    JobTaskSpec {
        max_attempts: MAX_ATTEMPTS,
        retry_policy: Some(RetryPolicy {
            initial_backoff: soon(),
            max_backoff: soon(),
            ..RetryPolicy::default()
        }),
        ..JobTaskSpec::default()
    }
}
