//! A call for each job: many at once against the bare echo, one at a time against echo and disk, and how many share a commit.

use crate::{
    bench::{
        Bench, BenchError, Goal, Row, Scenario, Unit,
        child::{Echo, Server},
        disk, echo,
        load::{Sample, Until, closed_loop},
        rounds::{Bracketed, figures},
        sample::JobSample,
        scratch::Scratch,
    },
    client::Client,
    proto::v1::GetServerInfoRequest,
};

/// Calls under way at once.
pub(super) const IN_FLIGHT: usize = 256;
/// Connections that they share.
pub(super) const CONNECTIONS: usize = 4;
/// Calls under way when commits are counted.
const GROUP_IN_FLIGHT: usize = 128;
/// A floor takes this part of a round's time, as there are two around each round.
const FLOOR_SHARE: u32 = 2;

/// Many at once ÷ echo.
pub(super) async fn many(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let taken = beside_echo(bench, IN_FLIGHT, CONNECTIONS).await?;
    let rate = |sample: &Sample| sample.per_second();
    let rounds = figures(&taken.rounds, rate);
    let floors = figures(&taken.floors, |floor| rate(&floor.echo));
    let p99 = figures(&taken.rounds, |sample| sample.latency(0.99));
    Ok(vec![
        Row::new(
            Scenario::Submit,
            format!("durable Submit, {IN_FLIGHT} in flight"),
            Unit::PerSecond,
            &rounds,
        )
        .compared("bare echo", &floors)
        .goals(Goal::AtLeast(0.5), Goal::AtLeast(0.75)),
        Row::new(Scenario::Submit, "latency p99", Unit::Seconds, &p99),
    ])
}

/// One at a time ÷ (echo + one fsync).
pub(super) async fn lone(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let taken = beside_echo(bench, 1, 1).await?;
    let p50 = figures(&taken.rounds, |sample| sample.latency(0.5));
    let p99 = figures(&taken.rounds, |sample| sample.latency(0.99));
    let floors = figures(&taken.floors, |floor| {
        floor.echo.latency(0.5) + floor.fsync.latency(0.5)
    });
    Ok(vec![
        Row::new(Scenario::Lone, "lone Submit, p50", Unit::Seconds, &p50)
            .compared("echo + fsync", &floors)
            .goals(Goal::AtMost(1.4), Goal::AtMost(1.1)),
        Row::new(Scenario::Lone, "lone Submit, p99", Unit::Seconds, &p99),
    ])
}

/// Jobs in a commit.
pub(super) async fn group(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let server = bench.server().await?;
    let clients = server.connect(CONNECTIONS).await?;
    let (sample, time) = (bench.sample.clone(), bench.options.round_time);
    let rounds = bench
        .ticker
        .alone(async || {
            let before = commits(&clients[0]).await?;
            let done =
                submissions(&clients, &sample, GROUP_IN_FLIGHT, Until::Elapsed(time)).await?;
            let commits = commits(&clients[0]).await?.saturating_sub(before);
            Ok(done.done as f64 / commits.max(1) as f64)
        })
        .await?;
    let row = Row::new(
        Scenario::Group,
        format!("jobs per fsync, {GROUP_IN_FLIGHT} in flight"),
        Unit::Number,
        &rounds.into_iter().collect(),
    );
    Ok(vec![row.goals(Goal::AtLeast(8.0), Goal::AtLeast(16.0))])
}

async fn commits(client: &Client) -> Result<u64, BenchError> {
    let mut admin = client.admin();
    let info = admin.get_server_info(GetServerInfoRequest {}).await?;
    Ok(info.into_inner().commits)
}

struct Floor {
    echo: Sample,
    fsync: Sample,
}

/// Submissions to a server, in turns with the same calls to an echo and with the disk alone.
async fn beside_echo(
    bench: &mut Bench<'_>,
    in_flight: usize,
    connections: usize,
) -> Result<Bracketed<Floor, Sample>, BenchError> {
    let server = bench.server().await?;
    let clients = server.connect(connections).await?;
    let sample = bench.sample.clone();
    let echo = echo_like(bench, &server).await?;
    let echo_clients = echo.connect(connections).await?;
    let scratch = Scratch::new(&bench.options.dir)?;
    let time = bench.options.round_time;
    let floor_time = time / FLOOR_SHARE;
    // Connections, caches and the store's file warm up once.
    let warm_up = Until::Elapsed(floor_time);
    submissions(&clients, &sample, in_flight, warm_up).await?;
    submissions(&echo_clients, &sample, in_flight, warm_up).await?;
    bench
        .ticker
        .bracketed(
            async || {
                Ok(Floor {
                    fsync: disk::fdatasync(scratch.path(), floor_time / 4)?,
                    echo: submissions(
                        &echo_clients,
                        &sample,
                        in_flight,
                        Until::Elapsed(floor_time),
                    )
                    .await?,
                })
            },
            async || submissions(&clients, &sample, in_flight, Until::Elapsed(time)).await,
        )
        .await
}

/// An echo that answers as this server does.
pub(super) async fn echo_like(bench: &Bench<'_>, server: &Server) -> Result<Echo, BenchError> {
    let client = server.client().await?;
    let answer = client.jobs().submit(bench.sample.request()).await?;
    Echo::start(bench.options, &echo::input(answer.get_ref())).await
}

/// Submits jobs, spread over the connections.
pub(super) async fn submissions(
    clients: &[Client],
    sample: &JobSample,
    in_flight: usize,
    until: Until,
) -> Result<Sample, BenchError> {
    let stubs: Vec<_> = clients.iter().map(Client::jobs).collect();
    let sample = sample.clone();
    closed_loop(in_flight, until, move |caller| {
        let mut stub = stubs[caller % stubs.len()].clone();
        let request = sample.request();
        async move {
            stub.submit(request).await?;
            Ok(1)
        }
    })
    .await
}
