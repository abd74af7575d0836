//! How long a server that was killed is away, with many jobs in its queue.

use super::batch::store;
use crate::{
    bench::{
        Bench, BenchError, Goal, Row, Scenario, Unit, child::Server, now, rounds::figures,
        sample::DRIVER,
    },
    proto::v1::{AcquireRequest, GetServerInfoRequest},
};

/// Callers that store the jobs.
const STORING: usize = 4;
/// Jobs that are stored before each kill, so that there is a log to recover.
const MORE: usize = 10_000;

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let (options, sample) = (bench.options, bench.sample.clone());
    let server = bench.own_server(Scenario::Restart).await?;
    let clients = server.connect(STORING).await?;
    let jobs = usize::try_from(options.jobs).unwrap_or(usize::MAX);
    store(&clients, &sample, STORING, jobs).await?;
    let mut running = Some(server);
    let rounds = bench
        .ticker
        .alone(async || {
            let gone = || BenchError::NeedsOwnServer(Scenario::Restart);
            let server = running.take().ok_or_else(gone)?;
            store(&server.connect(STORING).await?, &sample, STORING, MORE).await?;
            let data = server.kill().await?.ok_or_else(gone)?;
            let start = now();
            let server = Server::start_on(options, data).await?;
            let client = server.client().await?;
            let info = GetServerInfoRequest {};
            client.admin().get_server_info(info).await?;
            let answered = start.elapsed();
            let request = AcquireRequest {
                worker: "bench".to_owned(),
                drivers: vec![DRIVER.to_owned()],
                ..AcquireRequest::default()
            };
            let answer = client.workers().acquire(request).await?.into_inner();
            if answer.leases.is_empty() {
                let said = "it gave no lease of the jobs that wait".to_owned();
                return Err(BenchError::Broken(said));
            }
            let leased = start.elapsed();
            running = Some(server);
            Ok((answered.as_secs_f64(), leased.as_secs_f64()))
        })
        .await?;
    let row = |what: &str, figure: &dyn Fn(&(f64, f64)) -> f64| {
        let what = format!("kill with {jobs} queued jobs, start → {what}");
        let row = Row::new(
            Scenario::Restart,
            what,
            Unit::Seconds,
            &figures(&rounds, figure),
        );
        row.goals(Goal::AtMost(2.0), Goal::AtMost(0.5))
    };
    Ok(vec![
        row("first answer", &|round| round.0),
        row("first lease", &|round| round.1),
    ])
}
