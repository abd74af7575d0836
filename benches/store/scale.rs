//! What a large store costs: the same questions to a small one and to a large one, and how soon a large one answers after a start.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use longhaul::{
    domain::{JobKey, JobState, Tenant, Timestamp, filter::Filter},
    store::{ListOrder, ListPosition, ListQuery, Store},
};

use crate::server::{DRIVER, OF_ALL, Server, TENANT, fresh};

/// Jobs of the small store and of the large one.
const SIZES: [usize; 2] = [10_000, 1_000_000];
/// Jobs that have not ended: half of them run, half of them wait.
const OPEN: usize = 1_000;
/// Jobs in a commit while a store is filled.
const BATCH: usize = 1_000;
/// How often each question is put.
const TIMES: usize = 500;
/// Jobs in a page.
const PAGE: usize = 50;

/// How long an answer took: half of the answers took less than the first, 99 of 100 less than the second.
type Times = (Duration, Duration);

pub async fn run(parent: &Path) {
    let mut answers = Vec::new();
    for size in SIZES {
        let dir = fresh(parent);
        let (mut server, jobs) = fill(dir.path(), size).await;
        answers.push(ask(&mut server, &jobs).await);
    }
    let [small, large] = SIZES;
    println!(
        "| question | p50, {small} jobs | p50, {large} jobs | p99, {small} | p99, {large} | ratio of p99 |"
    );
    println!("|---|---|---|---|---|---|");
    for ((name, small), (_, large)) in answers[0].iter().zip(&answers[1]) {
        let ratio = large.1.as_secs_f64() / small.1.as_secs_f64();
        println!(
            "| {name} | {:.0?} | {:.0?} | {:.0?} | {:.0?} | {ratio:.2} |",
            small.0, large.0, small.1, large.1
        );
    }
    restart(parent).await;
}

/// A store of finished jobs, with a few that have not ended; answers with some of the keys besides.
async fn fill(dir: &Path, size: usize) -> (Server, Vec<JobKey>) {
    let mut server = Server::open(dir);
    let mut keys = Vec::new();
    let mut leases = Vec::new();
    for _ in 0..(size - OPEN / 2) / BATCH {
        let mut commands: Vec<_> = leases.into_iter().map(Server::success).collect();
        commands.extend(server.submissions(BATCH));
        leases = server.turn(commands, &[Server::claim(BATCH)]).await;
        keys.extend(
            leases
                .iter()
                .step_by((size / TIMES / 2).max(1))
                .map(|l| l.job_key()),
        );
    }
    leases.truncate(BATCH - OPEN / 2);
    let reports = leases.into_iter().map(Server::success).collect();
    server.turn(reports, &[]).await;
    let waiting = server.submissions(OPEN / 2);
    server.turn(waiting, &[]).await;
    server.tidy().await;
    (server, keys)
}

async fn ask(server: &mut Server, keys: &[JobKey]) -> Vec<(String, Times)> {
    let now = server.now;
    let tenant = Tenant::new(TENANT);
    let mut answers = Vec::new();
    let mut times = Watch::default();
    for at in 0..TIMES {
        let key = &keys[at * 7919 % keys.len()];
        let job = times.of(server.store.job(key)).await;
        assert!(job.expect("the disk is sound").is_some());
    }
    answers.push(("Get".to_owned(), times.take()));
    for at in 0..TIMES {
        let key = &keys[at * 7919 % keys.len()];
        let events = times.of(server.store.events(key, 0, PAGE)).await;
        assert!(events.expect("the disk is sound").len() >= 2);
    }
    answers.push(("ListEvents".to_owned(), times.take()));
    for text in [
        "",
        "state = QUEUED",
        "state = RUNNING OR state = CANCELLING",
        "state = SUCCEEDED",
        "labels.env = \"env-3\"",
        "driver = bench AND object.name = \"bucket-1*\"",
    ] {
        for is_first in [true, false] {
            for at in 0..TIMES {
                let key = &keys[at * 7919 % keys.len()];
                let query = ListQuery {
                    tenant: tenant.clone(),
                    filter: Filter::parse(text).expect("a filter of ours"),
                    order: ListOrder::CreateTimeDesc,
                    after: (!is_first).then_some(ListPosition::Job(key.job)),
                    limit: PAGE,
                };
                let page = times.of(server.store.list(query)).await;
                page.expect("the disk is sound");
            }
            let which = if is_first { "first page" } else { "any page" };
            answers.push((format!("List, {which}, {text:?}"), times.take()));
        }
    }
    for _ in 0..TIMES {
        let counts = times.of(server.store.counts(&tenant)).await;
        let counts = counts.expect("the disk is sound").jobs;
        assert!(counts.iter().any(|(state, ..)| *state == JobState::Queued));
    }
    answers.push(("GetCounts".to_owned(), times.take()));
    for name in ["ready", "due", "next_due", "expired"] {
        for _ in 0..TIMES {
            let writer = server.writer();
            writer.begin().await.expect("the disk is sound");
            let found = match name {
                "ready" => times.of(writer.ready(DRIVER, OF_ALL, 100)).await.map(drop),
                "due" => times.of(writer.due(now, 500)).await.map(drop),
                "next_due" => times.of(writer.next_due()).await.map(drop),
                _ => {
                    let distant = Timestamp::from_micros(i64::MAX);
                    times.of(writer.expired(distant, 500)).await.map(drop)
                }
            };
            found.expect("the disk is sound");
            writer.rollback().await;
        }
        answers.push((name.to_owned(), times.take()));
    }
    answers
}

/// How soon a store of waiting jobs answers, after an orderly end and after a kill.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
async fn restart(parent: &Path) {
    let size = SIZES[1];
    let (dir, killed) = (fresh(parent), fresh(parent));
    let mut server = Server::open(dir.path());
    for _ in 0..size / BATCH {
        let commands = server.submissions(BATCH);
        server.turn(commands, &[]).await;
        server.forget();
    }
    // What a killed process leaves: the files as they are.
    for name in ["longhaul.db", "longhaul.db-wal"] {
        fs::copy(dir.path().join(name), killed.path().join(name)).expect("there is room");
    }
    drop(server);
    for (end, dir) in [("an orderly end", &dir), ("a kill", &killed)] {
        let start = Instant::now();
        let mut server = Server::open(dir.path());
        let opened = start.elapsed();
        let ready = server.first_ready().await;
        let answered = start.elapsed();
        assert_eq!(ready, 100);
        println!(
            "with {size} waiting jobs, after {end}: open after {opened:.0?}, first tasks after {answered:.0?}"
        );
    }
}

/// Measures answers to the same question.
#[derive(Default)]
struct Watch(Vec<Duration>);

impl Watch {
    #[expect(clippy::disallowed_methods, reason = "a bench measures time")]
    async fn of<T>(&mut self, answer: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let answer = answer.await;
        self.0.push(start.elapsed());
        answer
    }

    fn take(&mut self) -> Times {
        self.0.sort();
        let at = |part: usize| self.0[self.0.len() * part / 100];
        let times = (at(50), at(99));
        self.0.clear();
        times
    }
}
