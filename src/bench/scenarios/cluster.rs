//! Several nodes on one database: whether they are in each other's way, and how soon one tells what happened at another.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{
    batch::{BATCH, store},
    life::lived,
    watch::job_of,
};
use crate::{
    bench::{
        Bench, BenchError, Goal, Row, Scenario, Unit, child::Server, load::Sample, now,
        rounds::figures, sample::DRIVER, watchers, work::WorkStream,
    },
    proto::v1::{Lease, watch_job_response::Kind},
};

/// Calls under way at once, at each node.
const IN_FLIGHT: usize = 4;
/// Jobs in a round.
const JOBS: usize = 50_000;
/// Jobs that change while watchers elsewhere look on.
const WATCHED: usize = 100;
/// Jobs of these that change at once,
const STEP: usize = 10;
/// and how often: a thousand changes in a second.
const PACE: Duration = Duration::from_millis(10);

/// One node, and all of them, in turn.
pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let (options, sample) = (bench.options, bench.sample.clone());
    let (Some(_), nodes @ 2..) = (&options.store, options.nodes) else {
        return Err(BenchError::NeedsNodes(Scenario::Cluster));
    };
    let batches = async |nodes: usize| {
        let server = Server::start_nodes(options, nodes).await?;
        let callers = IN_FLIGHT * options.nodes;
        let taken = store(&server.connect(callers).await?, &sample, callers, JOBS).await?;
        server.kill().await?;
        Ok(taken)
    };
    let submitted = bench
        .ticker
        .bracketed(async || batches(1).await, async || batches(nodes).await)
        .await?;
    let lives = async |nodes: usize| {
        let server = Server::start_nodes(options, nodes).await?;
        lived(&server, &sample, options.round_time).await
    };
    let lived = bench
        .ticker
        .bracketed(async || lives(1).await, async || lives(nodes).await)
        .await?;
    let heard = bench
        .ticker
        .alone(async || {
            let server = Server::start_nodes(options, nodes).await?;
            hear(&server, &bench.sample, options.round_time).await
        })
        .await?;
    let rate = |sample: &Sample| sample.per_second();
    let (alone, together) = (
        figures(&submitted.floors, rate),
        figures(&submitted.rounds, rate),
    );
    let row = |what: String, unit, figures: &_| Row::new(Scenario::Cluster, what, unit, figures);
    let least = |figure| (Goal::AtLeast(figure), Goal::AtLeast(figure));
    let (some, no_slower) = (least(10e3), least(1.0));
    let batch = format!("SubmitBatch of {BATCH}, {IN_FLIGHT} in flight a node");
    let life = "whole life, steady state";
    let lives = |figures: &[f64]| figures.iter().copied().collect();
    let p = |quantile| figures(&heard, |sample: &Sample| sample.latency(quantile));
    Ok(vec![
        row(format!("{batch}, 1 node"), Unit::PerSecond, &alone).goals(some.0, some.1),
        row(
            format!("{batch}, {nodes} nodes"),
            Unit::PerSecond,
            &together,
        )
        .compared("1 node", &alone)
        .goals(no_slower.0, no_slower.1),
        row(
            format!("{life}, 1 node"),
            Unit::PerSecond,
            &lives(&lived.floors),
        ),
        row(
            format!("{life}, {nodes} nodes"),
            Unit::PerSecond,
            &lives(&lived.rounds),
        )
        .compared("1 node", &lives(&lived.floors))
        .goals(no_slower.0, no_slower.1),
        row(
            "report here → watcher elsewhere, p50".to_owned(),
            Unit::Seconds,
            &p(0.5),
        ),
        row(
            "the same under 1,000 changes/s, p99".to_owned(),
            Unit::Seconds,
            &p(0.99),
        )
        .goals(Goal::AtMost(0.05), Goal::AtMost(0.05)),
    ])
}

/// When each step of each job was reported.
type Reported = Arc<Mutex<HashMap<(String, i64), Instant>>>;

/// Has jobs change at one node, and takes the time until watchers at another know.
async fn hear(
    server: &Server,
    sample: &crate::bench::sample::JobSample,
    time: Duration,
) -> Result<Sample, BenchError> {
    // One connection to each node, in their order.
    let clients = server.connect(2).await?;
    let (here, there) = (&clients[0], &clients[1]);
    store(std::slice::from_ref(here), sample, 1, WATCHED).await?;
    let slots = u32::try_from(WATCHED).unwrap_or(u32::MAX);
    let mut worker = WorkStream::open(here, DRIVER, slots).await?;
    let mut leases: Vec<Lease> = Vec::new();
    while leases.len() < WATCHED {
        leases.extend(worker.leases().await?);
    }
    let reported: Reported = Arc::default();
    let heard = Arc::new(Mutex::new(Sample::new()));
    let mut watching = JoinSet::new();
    for lease in &leases {
        let id = job_of(lease)?;
        let mut stream = watchers::watch(there, id.clone()).await?;
        let (reported, heard) = (reported.clone(), heard.clone());
        watching.spawn(async move {
            while let Some(message) = stream.message().await? {
                let seen = now();
                let job = message
                    .job
                    .as_ref()
                    .filter(|_| message.kind() == Kind::Snapshot);
                let progress = job.and_then(|job| job.tasks.first()?.progress.as_ref());
                let step = progress.map(|progress| (id.clone(), progress.done));
                let since = step.and_then(|step| locked(&reported).remove(&step));
                if let Some(since) = since {
                    locked(&heard).add(1, seen - since);
                }
            }
            Err::<(), _>(BenchError::Broken(
                "it ended a watch of an open job".to_owned(),
            ))
        });
    }
    let mut pace = tokio::time::interval(PACE);
    let (start, mut step) = (now(), 0);
    while start.elapsed() < time {
        for some in leases.chunks(STEP) {
            pace.tick().await;
            step += 1;
            for lease in some {
                locked(&reported).insert((job_of(lease)?, step), now());
            }
            worker.progress(some, step).await?;
            worker.next().await?;
        }
    }
    let mut taken = locked(&heard).clone();
    taken.elapsed = start.elapsed();
    Ok(taken)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
