//! The same jobs by REST: what a submission costs besides gRPC's, and what requests cost that wait.

use bytes::Bytes;
use futures_util::future::try_join_all;
use uuid::Uuid;

use super::{
    batch::store,
    submit::{CONNECTIONS, IN_FLIGHT, submissions},
    watch::list,
};
use crate::{
    bench::{
        Bench, BenchError, Goal, Row, Scenario, Unit,
        child::Server,
        load::{Sample, Until, closed_loop},
        now,
        rounds::figures,
        web::WebClient,
    },
    proto::{json, v1::CancelRequest},
};

/// Requests that wait.
const POLLS: usize = 1_000;
/// How long a server is left alone before its memory is read.
const REST: std::time::Duration = std::time::Duration::from_secs(2);

/// Submissions, each caller on a connection of its own as web clients have it, in turns with the same over gRPC.
pub(super) async fn submit(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let server = bench.server().await?;
    let clients = server.connect(CONNECTIONS).await?;
    let web = WebClient::several(server.endpoint(), IN_FLIGHT).await?;
    let sample = bench.sample.clone();
    let job = json::compact(sample.spec());
    let job = Bytes::from(job.map_err(|error| BenchError::Broken(error.to_string()))?);
    let time = bench.options.round_time;
    let by_web = async |time| {
        let (web, job) = (web.clone(), job.clone());
        closed_loop(IN_FLIGHT, Until::Elapsed(time), move |caller| {
            let (client, job) = (web[caller].clone(), job.clone());
            let key = Uuid::now_v7().to_string();
            async move {
                let headers = [("idempotency-key", key.as_str())];
                client.send("POST", "/v1/jobs", &headers, job).await?;
                Ok(1)
            }
        })
        .await
    };
    let by_grpc =
        async |time| submissions(&clients, &sample, IN_FLIGHT, Until::Elapsed(time)).await;
    by_web(time / 2).await?;
    by_grpc(time / 2).await?;
    let taken = bench
        .ticker
        .bracketed(async || by_grpc(time).await, async || by_web(time).await)
        .await?;
    let rate = |sample: &Sample| sample.per_second();
    let rounds = figures(&taken.rounds, rate);
    let floors = figures(&taken.floors, rate);
    let p99 = figures(&taken.rounds, |sample| sample.latency(0.99));
    let what = format!("durable POST /v1/jobs, {IN_FLIGHT} in flight");
    Ok(vec![
        Row::new(Scenario::Rest, what, Unit::PerSecond, &rounds)
            .compared("the same over gRPC", &floors)
            .goals(Goal::AtLeast(0.6), Goal::AtLeast(0.8)),
        Row::new(Scenario::Rest, "latency p99", Unit::Seconds, &p99),
    ])
}

/// Long polls, each on a connection of its own, until their jobs end.
pub(super) async fn polls(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let (options, sample) = (bench.options, bench.sample.clone());
    bench.own_server(Scenario::Polls).await?.stop().await?;
    let own = || BenchError::NeedsOwnServer(Scenario::Polls);
    let rounds = bench
        .ticker
        .alone(async || {
            let server = Server::start(options).await?;
            let clients = server.connect(1).await?;
            store(&clients, &sample, 1, 1).await?;
            let id = list(&clients[0], 1).await?.pop().ok_or_else(own)?;
            let gauge = server.gauge().ok_or_else(own)?;
            tokio::time::sleep(REST).await;
            let before = gauge.memory()?;
            let web = WebClient::several(server.endpoint(), POLLS).await?;
            let path = format!("/v1/jobs/{id}");
            let waiting = try_join_all(web.iter().map(|client| {
                let headers = [("prefer", "wait=120")];
                let path = &path;
                async move {
                    client.send("GET", path, &headers, Bytes::new()).await?;
                    Ok::<_, BenchError>(now())
                }
            }));
            let ending = async {
                tokio::time::sleep(REST).await;
                let (memory, cpu) = (gauge.memory()?, gauge.cpu()?);
                tokio::time::sleep(REST).await;
                let idle = gauge.cpu()?.saturating_sub(cpu);
                let request = CancelRequest {
                    job_id: id.clone(),
                    reason: String::new(),
                };
                let start = now();
                clients[0].jobs().cancel(request).await?;
                Ok((memory, idle, start))
            };
            let (answered, (memory, idle, start)) = tokio::try_join!(waiting, ending)?;
            let last = answered.into_iter().max().unwrap_or(start);
            let each = memory.saturating_sub(before) as f64 / POLLS as f64;
            Ok((
                each,
                idle.as_secs_f64() / REST.as_secs_f64(),
                (last - start).as_secs_f64(),
            ))
        })
        .await?;
    let row = |what: &str, unit, figure: fn(&(f64, f64, f64)) -> f64| {
        Row::new(Scenario::Polls, what, unit, &figures(&rounds, figure))
    };
    Ok(vec![
        row(
            "server memory for each of 1000 long polls",
            Unit::Bytes,
            |r| r.0,
        )
        .goals(Goal::AtMost(20_000.0), Goal::AtMost(10_000.0)),
        row("processors that they keep busy", Unit::Number, |r| r.1)
            .goals(Goal::AtMost(0.01), Goal::AtMost(0.01)),
        row("change → all of them answered", Unit::Seconds, |r| r.2)
            .goals(Goal::AtMost(0.1), Goal::AtMost(0.05)),
    ])
}
