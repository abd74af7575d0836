//! The whole life of jobs: submitted in batches, leased and completed by workers over streams, and seen to end by a watcher of all jobs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::timeout,
};

use super::batch::{BATCH, store};
use crate::{
    bench::{
        Bench, BenchError, Goal, Row, Scenario, Unit,
        child::Server,
        now,
        sample::{DRIVER, JobSample},
        work::WorkStream,
    },
    client::Client,
    proto::v1::{WatchJobsRequest, job::State},
};

/// Jobs under way at once in the steady state: enough for batches everywhere, and no backlog.
const OPEN_JOBS: usize = 10_000;
/// Submitters, each with a call under way.
const SUBMITTERS: usize = 4;
/// Workers, each with a stream and connection of its own.
const WORKERS: usize = 2;
/// Leases that a worker holds at the most.
const SLOTS: u32 = 2_000;
/// What is not counted at the beginning.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long the last jobs may take to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Jobs that end within the patience above, on any machine that is worth a measurement.
const STRIDE: u64 = 10_000;
/// Jobs that are stored before workers come, in a drain.
const BACKLOG: usize = 50_000;

/// All parties at work at the same time.
pub(super) async fn steady(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let (options, sample) = (bench.options, bench.sample.clone());
    let rounds = bench
        .ticker
        .alone(async || {
            let server = Server::given_or_started(options).await?;
            lived(&server, &sample, options.round_time).await
        })
        .await?;
    let row = Row::new(
        Scenario::Life,
        "whole life, steady state",
        Unit::PerSecond,
        &rounds.into_iter().collect(),
    );
    Ok(vec![row.goals(Goal::AtLeast(20e3), Goal::AtLeast(75e3))])
}

/// Jobs that ended in a second, while all parties were at work.
pub(super) async fn lived(
    server: &Server,
    sample: &JobSample,
    time: Duration,
) -> Result<f64, BenchError> {
    let mut parties = Parties::start(server).await?;
    parties.workers(server).await?;
    parties.submitters(server, sample).await?;
    parties.meanwhile(tokio::time::sleep(WARM_UP)).await?;
    let (before, began) = (parties.ends.count(), now());
    parties.meanwhile(tokio::time::sleep(time)).await?;
    let (after, ended) = (parties.ends.count(), now());
    parties.finish().await?;
    Ok((after - before) as f64 / (ended - began).as_secs_f64())
}

/// A backlog, and then workers.
pub(super) async fn drain(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let (options, sample) = (bench.options, bench.sample.clone());
    let rounds = bench
        .ticker
        .alone(async || {
            let server = Server::given_or_started(options).await?;
            let mut parties = Parties::start(&server).await?;
            let clients = server.connect(SUBMITTERS).await?;
            let backlog = store(&clients, &sample, SUBMITTERS, BACKLOG).await?.done;
            let began = now();
            parties.workers(&server).await?;
            let ends = parties.ends.clone();
            parties
                .meanwhile(async { ends.reached(|| backlog).await })
                .await??;
            Ok(backlog as f64 / began.elapsed().as_secs_f64())
        })
        .await?;
    Ok(vec![Row::new(
        Scenario::Drain,
        format!("drain of {BACKLOG} stored jobs"),
        Unit::PerSecond,
        &rounds.into_iter().collect(),
    )])
}

/// Ends that the watcher has seen.
#[derive(Default)]
struct Ends {
    count: AtomicU64,
    more: Notify,
}

impl Ends {
    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn add(&self, count: u64) {
        self.count.fetch_add(count, Ordering::Relaxed);
        self.more.notify_one();
    }

    async fn reached(&self, target: impl Fn() -> u64) -> Result<(), BenchError> {
        let all = async {
            while self.count() < target() {
                self.more.notified().await;
            }
        };
        timeout(PATIENCE, all).await.map_err(|_elapsed| {
            BenchError::Broken(format!(
                "{} of {} jobs were seen to end",
                self.count(),
                target()
            ))
        })
    }
}

/// Everybody but the server. They end when this is dropped.
pub(super) struct Parties {
    tasks: JoinSet<Result<(), BenchError>>,
    ends: Arc<Ends>,
    submitted: Arc<AtomicU64>,
    permits: Arc<Semaphore>,
}

impl Parties {
    /// With the watcher.
    pub(super) async fn start(server: &Server) -> Result<Self, BenchError> {
        let mut parties = Self {
            tasks: JoinSet::new(),
            ends: Arc::default(),
            submitted: Arc::default(),
            permits: Arc::new(Semaphore::new(OPEN_JOBS)),
        };
        let client = server.client().await?;
        let (ends, permits) = (parties.ends.clone(), parties.permits.clone());
        parties.tasks.spawn(watch(client, ends, permits));
        Ok(parties)
    }

    pub(super) async fn workers(&mut self, server: &Server) -> Result<(), BenchError> {
        for client in server.connect(WORKERS.max(server.nodes())).await? {
            let stream = WorkStream::open(&client, DRIVER, SLOTS).await?;
            self.tasks.spawn(stream.complete_all());
        }
        Ok(())
    }

    pub(super) async fn submitters(
        &mut self,
        server: &Server,
        sample: &JobSample,
    ) -> Result<(), BenchError> {
        for client in server.connect(SUBMITTERS.max(server.nodes())).await? {
            let (submitted, permits) = (self.submitted.clone(), self.permits.clone());
            self.tasks
                .spawn(submit(client, sample.clone(), submitted, permits));
        }
        Ok(())
    }

    /// Lets them work until so many jobs have ended.
    pub(super) async fn until_ended(&mut self, jobs: u64) -> Result<(), BenchError> {
        let (ends, mut last) = (self.ends.clone(), 0);
        while last < jobs {
            let next = jobs.min(last + STRIDE);
            let some_more = ends.clone();
            let wait = async move { some_more.reached(|| next).await };
            self.meanwhile(wait).await??;
            last = ends.count();
        }
        self.finish().await
    }

    /// Submits no more, and waits until every job has ended.
    async fn finish(&mut self) -> Result<(), BenchError> {
        self.permits.close();
        let (submitted, ends) = (self.submitted.clone(), self.ends.clone());
        let all = async { ends.reached(|| submitted.load(Ordering::Relaxed)).await };
        self.meanwhile(all).await?
    }

    /// Does something while they work. If one of them fails, so does this.
    async fn meanwhile<T>(&mut self, something: impl Future<Output = T>) -> Result<T, BenchError> {
        tokio::pin!(something);
        loop {
            tokio::select! {
                done = &mut something => return Ok(done),
                Some(ended) = self.tasks.join_next() => ended??,
            }
        }
    }
}

/// Stores batches while there are permits for more open jobs; ends when there will be none.
async fn submit(
    client: Client,
    sample: JobSample,
    submitted: Arc<AtomicU64>,
    permits: Arc<Semaphore>,
) -> Result<(), BenchError> {
    let mut jobs = client.jobs();
    // At most a thousand; it fits.
    let wanted = u32::try_from(BATCH).unwrap_or(u32::MAX);
    while let Ok(permit) = permits.acquire_many(wanted).await {
        permit.forget();
        // Counted first: what is under way when the round is over must be waited for.
        submitted.fetch_add(BATCH as u64, Ordering::Relaxed);
        jobs.submit_batch(sample.batch(BATCH)).await?;
    }
    Ok(())
}

/// Watches all jobs, and counts those that end.
async fn watch(client: Client, ends: Arc<Ends>, permits: Arc<Semaphore>) -> Result<(), BenchError> {
    let answer = client
        .jobs()
        .watch_jobs(WatchJobsRequest::default())
        .await?;
    let mut stream = answer.into_inner();
    while let Some(message) = stream.message().await? {
        let ended = message
            .changes
            .iter()
            .filter_map(|change| change.job.as_ref())
            .filter(|job| job.state() == State::Succeeded)
            .count();
        if ended > 0 {
            ends.add(ended as u64);
            permits.add_permits(ended);
        }
    }
    Err(BenchError::Broken(
        "it ended a watch of all jobs".to_owned(),
    ))
}
