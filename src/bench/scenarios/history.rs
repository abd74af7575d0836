//! Whether what has ended makes the rest slower: the same calls to a server with many finished jobs and to one with few.

use std::time::Duration;

use super::{life::Parties, watch::list};
use crate::{
    bench::{
        Bench, BenchError, Goal, Row, Scenario, Unit,
        child::Server,
        load::{Sample, Until, closed_loop},
        now,
        rounds::figures,
        sample::JobSample,
    },
    client::Client,
    proto::v1::{
        AcquireRequest, GetRequest, ListRequest, ReportRequest, Success, TaskReport,
        task_report::Report,
    },
};

/// Jobs in the store that the large one is compared with.
const FEW: u64 = 10_000;
/// Jobs that are read, of each store, spread over its history.
const READ: usize = 1_000;
/// Who takes the jobs whose lease is timed.
const DRIVER: &str = "history";

/// One of the two servers.
struct Side {
    _server: Server,
    client: Client,
    ids: Vec<String>,
    sample: JobSample,
}

struct Latencies {
    get: Sample,
    list: Sample,
    acquire: Sample,
}

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let jobs = bench.options.jobs;
    let few = Side::start(bench, FEW).await?;
    let many = Side::start(bench, jobs).await?;
    let time = bench.options.round_time / 3;
    // Both have been read from before it counts.
    few.measure(time / 4).await?;
    many.measure(time / 4).await?;
    let taken = bench
        .ticker
        .bracketed(
            async || few.measure(time).await,
            async || many.measure(time).await,
        )
        .await?;
    let row = |call: &str, latency: &dyn Fn(&Latencies) -> f64| {
        let what = format!("{call} with {jobs} stored jobs, p99");
        Row::new(
            Scenario::History,
            what,
            Unit::Seconds,
            &figures(&taken.rounds, latency),
        )
        .compared(format!("with {FEW}"), &figures(&taken.floors, latency))
        .goals(Goal::AtMost(1.5), Goal::AtMost(1.1))
    };
    Ok(vec![
        row("Get", &|l| l.get.latency(0.99)),
        row("List page", &|l| l.list.latency(0.99)),
        row("Acquire", &|l| l.acquire.latency(0.99)),
    ])
}

impl Side {
    /// Has so many jobs done.
    async fn start(bench: &Bench<'_>, jobs: u64) -> Result<Self, BenchError> {
        let server = bench.own_server(Scenario::History).await?;
        let mut parties = Parties::start(&server).await?;
        parties.workers(&server).await?;
        parties.submitters(&server, &bench.sample).await?;
        parties.until_ended(jobs).await?;
        drop(parties);
        let client = server.client().await?;
        // Of all ages: what was just written is still in memory.
        let all = list(&client, usize::try_from(jobs).unwrap_or(usize::MAX)).await?;
        let stride = all.len().div_ceil(READ).max(1);
        let ids = all.into_iter().step_by(stride).collect();
        Ok(Self {
            _server: server,
            client,
            ids,
            sample: bench.sample.clone().with_driver(DRIVER),
        })
    }

    async fn measure(&self, time: Duration) -> Result<Latencies, BenchError> {
        let (client, ids) = (self.client.clone(), self.ids.clone());
        let get = closed_loop(1, Until::Elapsed(time), move |_| {
            let mut jobs = client.jobs();
            let job_id = ids[rand::random_range(0..ids.len())].clone();
            async move {
                let request = GetRequest {
                    job_id,
                    ..GetRequest::default()
                };
                jobs.get(request).await?;
                Ok(1)
            }
        });
        let get = get.await?;
        let client = self.client.clone();
        let list = closed_loop(1, Until::Elapsed(time), move |_| {
            let mut jobs = client.jobs();
            async move {
                jobs.list(ListRequest::default()).await?;
                Ok(1)
            }
        });
        Ok(Latencies {
            get,
            list: list.await?,
            acquire: self.acquire(time).await?,
        })
    }

    /// Leases of jobs that wait.
    async fn acquire(&self, time: Duration) -> Result<Sample, BenchError> {
        let (mut jobs, mut workers) = (self.client.jobs(), self.client.workers());
        let mut sample = Sample::new();
        let start = now();
        while start.elapsed() < time {
            jobs.submit(self.sample.request()).await?;
            let request = AcquireRequest {
                worker: "bench".to_owned(),
                drivers: vec![DRIVER.to_owned()],
                ..AcquireRequest::default()
            };
            let began = now();
            let answer = workers.acquire(request).await?.into_inner();
            sample.add(1, began.elapsed());
            let Some(lease) = answer.leases.into_iter().next() else {
                let said = "it gave no lease of a job that waits".to_owned();
                return Err(BenchError::Broken(said));
            };
            let done = TaskReport {
                lease_token: lease.lease_token,
                report: Some(Report::Success(Success::default())),
            };
            let reports = vec![done];
            workers
                .report(ReportRequest {
                    reports,
                    wait: None,
                })
                .await?;
        }
        sample.elapsed = start.elapsed();
        Ok(sample)
    }
}
