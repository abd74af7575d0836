//! Submissions a hundred to a call, against the same rows inserted by hand.

use std::time::Duration;

use crate::{
    bench::{
        Bench, BenchError, Goal, Row, Scenario, Unit,
        child::{Data, Server},
        load::{Sample, Until, closed_loop},
        raw::JobRows,
        rounds::figures,
        sample::JobSample,
        scratch::Scratch,
    },
    client::Client,
};

/// Jobs in a call, and in a transaction of the floor.
pub(super) const BATCH: usize = 100;
/// Calls under way at once.
const IN_FLIGHT: usize = 4;
/// Jobs in a round: both sides begin with an empty database, and a commit costs more in a larger one.
const JOBS: usize = 50_000;

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let rows = stored_rows(bench, Scenario::Batch).await?;
    let (options, sample) = (bench.options, bench.sample.clone());
    let mut lone = Vec::with_capacity(options.rounds);
    let taken = bench
        .ticker
        .bracketed(
            async || rows.insert(Scratch::new(&options.dir)?.path(), BATCH, Duration::MAX),
            async || {
                let server = Server::start(options).await?;
                lone.push(submit(&server, &sample, 1).await?);
                server.kill().await?;
                let server = Server::start(options).await?;
                submit(&server, &sample, IN_FLIGHT).await
            },
        )
        .await?;
    let rate = |sample: &Sample| sample.per_second();
    let floors = figures(&taken.floors, rate);
    let floor = format!("raw inserts, {} rows a job", rows.rows_per_job());
    let row = |what: String, samples: &[Sample]| {
        Row::new(
            Scenario::Batch,
            what,
            Unit::PerSecond,
            &figures(samples, rate),
        )
        .compared(&floor, &floors)
    };
    Ok(vec![
        row(
            format!("SubmitBatch of {BATCH}, {IN_FLIGHT} in flight"),
            &taken.rounds,
        )
        .goals(Goal::AtLeast(0.5), Goal::AtLeast(0.9)),
        row(format!("SubmitBatch of {BATCH}, one at a time"), &lone),
    ])
}

/// The rows that a server of its own stores for [`JOBS`] jobs.
pub(super) async fn stored_rows(
    bench: &Bench<'_>,
    scenario: Scenario,
) -> Result<JobRows, BenchError> {
    let template = bench.own_server(scenario).await?;
    submit(&template, &bench.sample, IN_FLIGHT).await?;
    match template.stop().await? {
        Some(Data::Embedded(scratch)) => JobRows::read(scratch.path(), JOBS),
        Some(Data::Database(_)) | None => Err(BenchError::NeedsOwnServer(scenario)),
    }
}

/// Stores [`JOBS`] jobs, in calls of a hundred.
async fn submit(
    server: &Server,
    sample: &JobSample,
    in_flight: usize,
) -> Result<Sample, BenchError> {
    let clients = server.connect(in_flight).await?;
    store(&clients, sample, in_flight, JOBS).await
}

/// Stores so many jobs, in calls of a hundred.
pub(super) async fn store(
    clients: &[Client],
    sample: &JobSample,
    in_flight: usize,
    jobs: usize,
) -> Result<Sample, BenchError> {
    let stubs: Vec<_> = clients.iter().map(Client::jobs).collect();
    let sample = sample.clone();
    let calls = Until::Calls(jobs.div_ceil(BATCH) as u64);
    closed_loop(in_flight, calls, move |caller| {
        let mut stub = stubs[caller % stubs.len()].clone();
        let request = sample.batch(BATCH);
        async move {
            let answer = stub.submit_batch(request).await?.into_inner();
            match answer
                .results
                .iter()
                .find_map(|result| result.error.as_ref())
            {
                None => Ok(answer.results.len() as u64),
                Some(error) => Err(BenchError::Broken(format!(
                    "a submission of a batch was refused: {}",
                    error.message
                ))),
            }
        }
    })
    .await
}
