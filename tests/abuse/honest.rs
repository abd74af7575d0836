//! A client that means well, and how it fares meanwhile: all its calls have to succeed.

use std::time::{Duration, Instant};

use longhaul::{
    client::Client,
    proto::v1::{GetRequest, JobSpec, JobTaskSpec, SubmitRequest},
};
use tokio::time::{MissedTickBehavior, interval};

use crate::server::Server;

/// Between two calls.
const PAUSE: Duration = Duration::from_millis(5);
/// One in so many submits a job, and one makes a connection of its own.
const SUBMIT_EACH: usize = 20;
const CONNECT_EACH: usize = 50;
/// How long it is watched without an attack.
const CALM: Duration = Duration::from_secs(2);
/// What its p99 may be of that without an attack, where that is asserted.
const MOST_RATIO: f64 = 2.0;
/// What the server may hold more: what its allocator keeps for connections that were, and the store's cache.
const GROWTH_KB: u64 = 64 * 1024;

/// Carries out an attack, while a client that means well goes on with its calls; the memory of the server is flat.
pub async fn meanwhile<T>(server: &Server, name: &str, attack: impl Future<Output = T>) -> T {
    let client = server.client().await;
    let id = submit(&client).await;
    let calm = calls(server, &client, &id, tokio::time::sleep(CALM))
        .await
        .1;
    let before = server.resident_kb();
    let (result, attacked) = calls(server, &client, &id, attack).await;
    let after = server.resident_kb();
    assert!(
        after < before + GROWTH_KB,
        "{name}: from {before} KB to {after} KB"
    );
    server.check();
    report(name, calm, attacked, before, after);
    result
}

#[expect(clippy::print_stderr, reason = "it is what the suite is run for")]
fn report(name: &str, calm: Fared, attacked: Fared, before: u64, after: u64) {
    let ratio = attacked.p99.as_secs_f64() / calm.p99.as_secs_f64();
    eprintln!(
        "{name}: p99 {:.2?} without, {:.2?} during {} calls under attack ({ratio:.2} times); {} MB before, {} MB after",
        calm.p99,
        attacked.p99,
        attacked.calls,
        before / 1024,
        after / 1024
    );
    if std::env::var_os("LONGHAUL_ABUSE_P99").is_some() {
        assert!(ratio < MOST_RATIO, "{name}: {ratio:.2}");
    }
}

#[derive(Clone, Copy)]
struct Fared {
    calls: usize,
    p99: Duration,
}

/// Calls until something is done.
async fn calls<T>(
    server: &Server,
    client: &Client,
    id: &str,
    until: impl Future<Output = T>,
) -> (T, Fared) {
    let mut waits = Vec::new();
    let calling = async {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for n in 1.. {
            ticks.tick().await;
            let start = now();
            if n % SUBMIT_EACH == 0 {
                submit(client).await;
            } else if n % CONNECT_EACH == 7 {
                get(&server.client().await, id).await;
                continue;
            } else {
                get(client, id).await;
            }
            waits.push(now() - start);
        }
    };
    let result = tokio::select! {
        result = until => result,
        () = calling => unreachable!("it goes on"),
    };
    waits.sort_unstable();
    let calls = waits.len();
    assert!(calls > 0, "none was answered");
    let p99 = waits[calls * 99 / 100];
    (result, Fared { calls, p99 })
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long it takes is what is measured"
)]
fn now() -> Instant {
    Instant::now()
}

pub async fn get(client: &Client, id: &str) {
    let request = GetRequest {
        job_id: id.to_owned(),
        ..GetRequest::default()
    };
    client.jobs().get(request).await.unwrap();
}

pub async fn submit(client: &Client) -> String {
    let task = JobTaskSpec {
        driver: "nobody".to_owned(),
        ..JobTaskSpec::default()
    };
    let job = JobSpec {
        tasks: vec![task],
        ..JobSpec::default()
    };
    let request = SubmitRequest {
        job: Some(job),
        ..SubmitRequest::default()
    };
    client.submit(request).await.unwrap().job.unwrap().id
}
