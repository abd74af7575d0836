//! Watchers of single jobs: how soon they are told among many others, and what telling them costs.

use std::time::Duration;

use super::batch::store;
use crate::{
    bench::{
        Bench, BenchError, Goal, Row, Scenario, Unit,
        child::Server,
        load::Sample,
        now,
        rounds::figures,
        sample::DRIVER,
        watchers::{self, Audience},
        work::WorkStream,
    },
    client::Client,
    proto::v1::{Lease, ListRequest},
};

/// Watchers in all.
const WATCHERS: usize = 10_000;
/// Jobs whose changes are delivered, each to an equal part of the watchers.
const DELIVERED_JOBS: usize = 10;
/// Jobs in a page of a list: the most.
const PAGE: i32 = 1_000;
/// Between two changes that are timed, so that each finds a server at rest.
const PAUSE: Duration = Duration::from_millis(2);

/// One job changes, and its watcher is told; all others watch jobs that are at rest.
pub(super) async fn notice(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let server = bench.server().await?;
    let client = server.client().await?;
    let jobs = Jobs::start(bench, &server, &client, WATCHERS + 1, 1).await?;
    let Jobs {
        mut worker,
        leases,
        ids,
    } = jobs;
    let watched = job_of(&leases[0])?;
    let others = ids.into_iter().filter(|id| *id != watched);
    let others: Vec<String> = others.take(WATCHERS).collect();
    let _others = Audience::of(watchers::open(&server, others.into_iter()).await?);
    let mut watch = watchers::watch(&client, watched).await?;
    let (time, mut step) = (bench.options.round_time, 0);
    let rounds = bench
        .ticker
        .alone(async || {
            let mut sample = Sample::new();
            let start = now();
            while start.elapsed() < time {
                step += 1;
                let reported = now();
                worker.progress(&leases, step).await?;
                watchers::snapshot(&mut watch).await?;
                sample.add(1, reported.elapsed());
                worker.next().await?;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(sample)
        })
        .await?;
    let row = |what: String, quantile: f64| {
        let figures = figures(&rounds, |sample: &Sample| sample.latency(quantile));
        Row::new(Scenario::Notice, what, Unit::Seconds, &figures)
    };
    let what = format!("report → commit → watcher, {WATCHERS} others, p99");
    Ok(vec![
        row("report → commit → watcher, p50".to_owned(), 0.5),
        row(what, 0.99).goals(Goal::AtMost(0.010), Goal::AtMost(0.003)),
    ])
}

/// Processor time of the server for each message to a watcher.
pub(super) async fn deliver(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let told = tell(bench, Scenario::Deliver, DELIVERED_JOBS).await?;
    let cpu = figures(&told, |told| told.cpu.as_secs_f64() / told.messages as f64);
    let rate = figures(&told, |told| {
        told.messages as f64 / told.all_served.elapsed.as_secs_f64()
    });
    let each = WATCHERS / DELIVERED_JOBS;
    Ok(vec![
        Row::new(
            Scenario::Deliver,
            format!("server CPU for a delivery, {DELIVERED_JOBS} jobs with {each} watchers"),
            Unit::Seconds,
            &cpu,
        )
        .goals(Goal::AtMost(1.5e-6), Goal::AtMost(1e-6)),
        Row::new(
            Scenario::Deliver,
            "deliveries, all parties here",
            Unit::PerSecond,
            &rate,
        ),
    ])
}

/// The time until the last of all watchers of a job knows.
pub(super) async fn fan_out(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let told = tell(bench, Scenario::FanOut, 1).await?;
    let last = figures(&told, |told| told.all_served.latency(0.99));
    let what = format!("report → last of {WATCHERS} watchers of the job, p99");
    let row = Row::new(Scenario::FanOut, what, Unit::Seconds, &last);
    Ok(vec![row.goals(Goal::AtMost(0.5), Goal::AtMost(0.05))])
}

struct Told {
    cpu: Duration,
    messages: u64,
    /// The time until each change was with all of its watchers.
    all_served: Sample,
}

/// Changes jobs again and again, each time waiting until all watchers know.
async fn tell(
    bench: &mut Bench<'_>,
    scenario: Scenario,
    changing: usize,
) -> Result<Vec<Told>, BenchError> {
    let server = bench.own_server(scenario).await?;
    let client = server.client().await?;
    let Jobs {
        mut worker, leases, ..
    } = Jobs::start(bench, &server, &client, changing, changing).await?;
    let watched: Vec<String> = leases.iter().map(job_of).collect::<Result<_, _>>()?;
    let watched = watched.into_iter().cycle();
    let targets: Vec<String> = watched.take(WATCHERS).collect();
    let mut audience = Audience::of(watchers::open(&server, targets.into_iter()).await?);
    let gauge = server.gauge().ok_or(BenchError::NeedsOwnServer(scenario))?;
    let (time, mut step) = (bench.options.round_time, 0);
    bench
        .ticker
        .alone(async || {
            let mut all_served = Sample::new();
            let (start, cpu) = (now(), gauge.cpu()?);
            while start.elapsed() < time {
                step += 1;
                let reported = now();
                let change = worker.progress(&leases, step);
                audience.served(WATCHERS as u64, change).await?;
                all_served.add(WATCHERS as u64, reported.elapsed());
                worker.next().await?;
            }
            all_served.elapsed = start.elapsed();
            Ok(Told {
                cpu: gauge.cpu()?.saturating_sub(cpu),
                messages: all_served.done,
                all_served,
            })
        })
        .await
}

/// Stored jobs, some of them leased.
struct Jobs {
    worker: WorkStream,
    leases: Vec<Lease>,
    ids: Vec<String>,
}

impl Jobs {
    async fn start(
        bench: &Bench<'_>,
        server: &Server,
        client: &Client,
        stored: usize,
        leased: usize,
    ) -> Result<Self, BenchError> {
        let clients = server.connect(1).await?;
        store(&clients, &bench.sample, 1, stored).await?;
        let slots = u32::try_from(leased).unwrap_or(u32::MAX);
        let mut worker = WorkStream::open(client, DRIVER, slots).await?;
        let mut leases = Vec::new();
        while leases.len() < leased {
            leases.extend(worker.leases().await?);
        }
        Ok(Self {
            worker,
            leases,
            ids: list(client, stored).await?,
        })
    }
}

/// The ids of so many jobs, the newest ones.
pub(super) async fn list(client: &Client, jobs: usize) -> Result<Vec<String>, BenchError> {
    let mut ids = Vec::with_capacity(jobs);
    let mut page_token = String::new();
    loop {
        let request = ListRequest {
            page_size: PAGE,
            page_token,
            ..ListRequest::default()
        };
        let page = client.jobs().list(request).await?.into_inner();
        ids.extend(page.jobs.into_iter().map(|job| job.id));
        page_token = page.next_page_token;
        if ids.len() >= jobs || page_token.is_empty() {
            ids.truncate(jobs);
            return Ok(ids);
        }
    }
}

pub(super) fn job_of(lease: &Lease) -> Result<String, BenchError> {
    let task = lease.task.as_ref();
    let id = task.map(|task| task.job_id.clone());
    id.ok_or_else(|| BenchError::Broken("a lease has no task".to_owned()))
}
