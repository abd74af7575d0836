//! What a server costs that does nothing, alone and with watchers who have nothing to see.

use std::time::Duration;

use super::{batch::store, watch::list};
use crate::{
    bench::{
        Bench, BenchError, Goal, Row, Scenario, Unit, child::Server, now, rounds::figures, watchers,
    },
    proto::v1::GetServerInfoRequest,
};

/// Watchers that watch jobs at rest.
const WATCHERS: usize = 50_000;
/// Callers that store the jobs.
const STORING: usize = 4;
/// How long a server is left alone before its memory is read.
const REST: Duration = Duration::from_secs(2);

/// A server with nothing in it.
pub(super) async fn server(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let options = bench.options;
    bench.own_server(Scenario::Idle).await?.stop().await?;
    let rounds = bench
        .ticker
        .alone(async || {
            let start = now();
            let server = Server::start(options).await?;
            let mut admin = server.client().await?.admin();
            admin.get_server_info(GetServerInfoRequest {}).await?;
            let answered = start.elapsed();
            Ok((answered.as_secs_f64(), rested(&server).await? as f64))
        })
        .await?;
    let first_answer = figures(&rounds, |round| round.0);
    let memory = figures(&rounds, |round| round.1);
    Ok(vec![
        Row::new(Scenario::Idle, "idle server, memory", Unit::Bytes, &memory)
            .goals(Goal::AtMost(30e6), Goal::AtMost(30e6)),
        Row::new(
            Scenario::Idle,
            "start → first answer, empty store",
            Unit::Seconds,
            &first_answer,
        )
        .goals(Goal::AtMost(0.1), Goal::AtMost(0.1)),
    ])
}

/// Many watchers, of a job each and of one job.
pub(super) async fn watchers(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let (options, sample) = (bench.options, bench.sample.clone());
    bench.own_server(Scenario::Watchers).await?.stop().await?;
    let rounds = bench
        .ticker
        .alone(async || {
            let storing = Server::start(options).await?;
            let clients = storing.connect(STORING).await?;
            store(&clients, &sample, STORING, WATCHERS).await?;
            let mut memory = Vec::new();
            let mut data = storing.stop().await?;
            for jobs in [WATCHERS, 1] {
                let stored = data.take();
                let stored = stored.ok_or(BenchError::NeedsOwnServer(Scenario::Watchers))?;
                // A new process, so that nothing but watchers is in what it gains.
                let server = Server::start_on(options, stored).await?;
                let client = server.client().await?;
                let ids = list(&client, jobs).await?;
                let before = rested(&server).await?;
                let watched: Vec<String> = ids.into_iter().cycle().take(WATCHERS).collect();
                let streams = watchers::open(&server, watched.into_iter()).await?;
                let after = rested(&server).await?;
                drop(streams);
                memory.push(after.saturating_sub(before) as f64 / WATCHERS as f64);
                data = server.kill().await?;
            }
            Ok((memory[0], memory[1]))
        })
        .await?;
    let row = |what: &str, figure: &dyn Fn(&(f64, f64)) -> f64| {
        let what = format!("server memory for each of {WATCHERS} idle watchers, {what}");
        let row = Row::new(
            Scenario::Watchers,
            what,
            Unit::Bytes,
            &figures(&rounds, figure),
        );
        // A million in 4 GB.
        row.goals(Goal::AtMost(5_000.0), Goal::AtMost(4_000.0))
    };
    Ok(vec![
        row("a job each", &|round| round.0),
        row("all of one job", &|round| round.1),
    ])
}

/// Its memory after a rest.
async fn rested(server: &Server) -> Result<u64, BenchError> {
    tokio::time::sleep(REST).await;
    let gauge = server.gauge();
    gauge
        .ok_or(BenchError::NeedsOwnServer(Scenario::Idle))?
        .memory()
}
