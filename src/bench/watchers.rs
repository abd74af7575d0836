//! Many watchers of single jobs, spread over few connections, each a task that counts what it gets.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{sync::Notify, task::JoinSet};
use tonic::Streaming;

use super::{BenchError, child::Server};
use crate::{
    client::Client,
    proto::v1::{WatchJobRequest, WatchJobResponse, watch_job_response::Kind},
};

/// Watches that share a connection.
const PER_CONNECTION: usize = 1_000;
/// Watches that are opened at once.
const OPENING: usize = 64;
/// Seconds of silence that are agreed on: the most, so that heartbeats disturb little.
const HEARTBEAT_SECONDS: i64 = 60;

/// Opens a watch of each of these jobs. Each has been given its first snapshot when this returns.
pub(super) async fn open(
    server: &Server,
    jobs: impl ExactSizeIterator<Item = String>,
) -> Result<Vec<Streaming<WatchJobResponse>>, BenchError> {
    let clients = server.connect(jobs.len().div_ceil(PER_CONNECTION)).await?;
    stream::iter(jobs.enumerate())
        .map(|(at, job)| watch(&clients[at / PER_CONNECTION], job))
        .buffer_unordered(OPENING)
        .try_collect()
        .await
}

/// Opens a watch, and reads its first snapshot.
pub(super) async fn watch(
    client: &Client,
    job_id: String,
) -> Result<Streaming<WatchJobResponse>, BenchError> {
    let request = WatchJobRequest {
        job_id,
        min_interval: Some(prost_types::Duration::default()),
        heartbeat_interval: Some(prost_types::Duration {
            seconds: HEARTBEAT_SECONDS,
            nanos: 0,
        }),
        ..WatchJobRequest::default()
    };
    let mut stream = client.jobs().watch_job(request).await?.into_inner();
    snapshot(&mut stream).await?;
    Ok(stream)
}

/// The next snapshot of a watch.
pub(super) async fn snapshot(
    stream: &mut Streaming<WatchJobResponse>,
) -> Result<WatchJobResponse, BenchError> {
    loop {
        let message = stream.message().await?;
        let message = message
            .ok_or_else(|| BenchError::Broken("it ended a watch of an open job".to_owned()))?;
        if message.kind() == Kind::Snapshot {
            return Ok(message);
        }
    }
}

/// Watchers at work. They end when this is dropped.
pub(super) struct Audience {
    tasks: JoinSet<Result<(), BenchError>>,
    served: Arc<Served>,
}

#[derive(Default)]
struct Served {
    snapshots: AtomicU64,
    /// How many snapshots somebody waits for.
    target: AtomicU64,
    reached: Notify,
}

impl Audience {
    /// Has each of these watched.
    pub(super) fn of(streams: Vec<Streaming<WatchJobResponse>>) -> Self {
        let served = Arc::new(Served::default());
        let mut tasks = JoinSet::new();
        for mut stream in streams {
            let served = served.clone();
            tasks.spawn(async move {
                loop {
                    snapshot(&mut stream).await?;
                    let count = served.snapshots.fetch_add(1, Ordering::AcqRel) + 1;
                    if count == served.target.load(Ordering::Acquire) {
                        served.reached.notify_one();
                    }
                }
            });
        }
        Self { tasks, served }
    }

    /// Makes a change that so many watchers are told of, and waits until all of them are.
    pub(super) async fn served(
        &mut self,
        watchers: u64,
        change: impl Future<Output = Result<(), BenchError>>,
    ) -> Result<(), BenchError> {
        let target = self.served.snapshots.load(Ordering::Acquire) + watchers;
        self.served.target.store(target, Ordering::Release);
        let all = async {
            change.await?;
            self.served.reached.notified().await;
            Ok(())
        };
        tokio::select! {
            all = all => all,
            Some(ended) = self.tasks.join_next() => ended?,
        }
    }
}
