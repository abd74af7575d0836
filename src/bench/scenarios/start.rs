//! From a submission to the worker that starts on it, on a server that has nothing else to do.

use std::time::Duration;

use crate::bench::{
    Bench, BenchError, Goal, Row, Scenario, Unit, load::Sample, now, rounds::figures,
    sample::DRIVER, work::WorkStream,
};

/// Leases that the idle worker would take.
const SLOTS: u32 = 100;
/// Between two jobs, so that the server is idle when the next one comes.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let server = bench.server().await?;
    let (clients, workers) = (server.client().await?, server.client().await?);
    let mut worker = WorkStream::open(&workers, DRIVER, SLOTS).await?;
    let (job, time) = (bench.sample.clone(), bench.options.round_time);
    let rounds = bench
        .ticker
        .alone(async || {
            let mut sample = Sample::new();
            let start = now();
            while start.elapsed() < time {
                let mut jobs = clients.jobs();
                let request = job.request();
                let submitted = now();
                let (answer, leases) =
                    tokio::try_join!(async { Ok(jobs.submit(request).await?) }, async {
                        let leases = worker.leases().await?;
                        Ok::<_, BenchError>((leases, submitted.elapsed()))
                    })?;
                drop(answer);
                let (leases, latency) = leases;
                sample.add(1, latency);
                worker.complete(leases).await?;
                // Idle again once the report is answered.
                worker.next().await?;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(sample)
        })
        .await?;
    let row = |what: &str, quantile: f64| {
        let figures = figures(&rounds, |sample: &Sample| sample.latency(quantile));
        Row::new(Scenario::Start, what, Unit::Seconds, &figures)
    };
    Ok(vec![
        row("submit → worker starts, p50", 0.5).goals(Goal::AtMost(0.001), Goal::AtMost(0.0005)),
        row("submit → worker starts, p99", 0.99).goals(Goal::AtMost(0.005), Goal::AtMost(0.0015)),
    ])
}
