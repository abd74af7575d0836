//! Everybody at once: they begin, something is done to the servers meanwhile, and then all has to come to its end.

use std::time::Duration;

use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::Stage;

/// Jobs that a submitter may be ahead of its watcher: keeps the load in step with the server.
const AHEAD: usize = 4;
/// How long the open jobs may take after the last blow.
const SETTLE_WITHIN: Duration = Duration::from_secs(120);

/// How many of each.
pub struct Crowd {
    /// Each with somebody who watches its jobs.
    pub submitters: usize,
    /// Workers of the library, on a stream.
    pub workers: usize,
    /// Workers on a bare stream, who see which of their reports counted.
    pub streams: usize,
    /// Workers that let leases run out, and report all the same.
    pub rivals: usize,
    /// Followers of all jobs.
    pub followers: usize,
}

impl Crowd {
    /// Keeps them at work until the blows are over, lets everything come to its end, and writes down what is stored then.
    pub async fn withstand<T>(&self, stage: &Stage, blows: impl Future<Output = T>) -> T {
        let (stop, stop_workers) = (CancellationToken::new(), CancellationToken::new());
        let complete = CancellationToken::new();
        let (mut clients, mut workers) = (JoinSet::new(), JoinSet::new());
        let mut followers = JoinSet::new();
        for number in 0..self.submitters {
            let (jobs, watched) = mpsc::channel(AHEAD);
            clients.spawn(stage.clone().submitter(number, stop.clone(), jobs));
            clients.spawn(stage.clone().watcher(watched));
        }
        for number in 0..self.workers {
            workers.spawn(stage.clone().worker(number, stop_workers.clone()));
        }
        for number in 0..self.streams {
            workers.spawn(stage.clone().streamer(number, stop_workers.clone()));
        }
        for number in 0..self.rivals {
            workers.spawn(stage.clone().rival(number, stop_workers.clone()));
        }
        for number in 0..self.followers {
            followers.spawn(stage.clone().follower(number, complete.clone()));
        }
        let came_to = blows.await;
        stop.cancel();
        let settled = timeout(SETTLE_WITHIN, all(&mut clients)).await;
        assert!(
            settled.is_ok(),
            "not all jobs ended within {SETTLE_WITHIN:?}"
        );
        stop_workers.cancel();
        let stopped = timeout(SETTLE_WITHIN, all(&mut workers)).await;
        assert!(
            stopped.is_ok(),
            "not all workers stopped within {SETTLE_WITHIN:?}"
        );
        complete.cancel();
        if timeout(SETTLE_WITHIN, all(&mut followers)).await.is_err() {
            // The checker says what they do not know.
            followers.shutdown().await;
        }
        stage.inspect().await;
        came_to
    }
}

/// Waits for all to end, each of them well.
async fn all(actors: &mut JoinSet<()>) {
    while let Some(ended) = actors.join_next().await {
        ended.unwrap();
    }
}
