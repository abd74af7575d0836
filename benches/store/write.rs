//! How fast jobs go in and through, all of it durable.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    floor::Rows,
    server::{Server, Spent, fresh, processor_time},
};

/// Measurements of each row; the median counts.
const ROUNDS: usize = 5;
/// Jobs of one measurement.
const JOBS: usize = 20_000;

/// One measurement.
#[derive(Clone, Copy)]
struct Sample {
    elapsed: Duration,
    processor: Duration,
    spent: Spent,
}

pub async fn run(parent: &Path) {
    println!("{JOBS} jobs a round, {ROUNDS} rounds by turns, medians");
    println!("| work | jobs/s | processor µs a job | load | decide | commit | ÷ floor |");
    println!("|---|---|---|---|---|---|---|");
    for batch in [100, 500] {
        let rows = submitted_rows(parent, batch).await;
        let (mut floor, mut submit, mut steps, mut stream) = (vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            floor.push(measure_floor(parent, &rows, batch));
            submit.push(submits(parent, batch).await);
            steps.push(lives_in_steps(parent, batch).await);
            stream.push(lives_in_a_stream(parent, batch).await);
        }
        let floor = print(&format!("floor, {batch} a commit"), floor, None);
        let floor = Some(floor);
        print(&format!("submit, {batch} a commit"), submit, floor);
        print(&format!("life in 3 commits of {batch}"), steps, floor);
        print(
            &format!("life in a steady stream, {batch} a commit"),
            stream,
            floor,
        );
    }
}

async fn submitted_rows(parent: &Path, batch: usize) -> Rows {
    let dir = fresh(parent);
    let mut server = Server::open(dir.path());
    submit_all(&mut server, batch).await;
    drop(server);
    Rows::of(dir.path()).expect("the store was closed in order")
}

fn measure_floor(parent: &Path, rows: &Rows, batch: usize) -> Sample {
    let dir = fresh(parent);
    drop(Server::open(dir.path()));
    let stopwatch = Stopwatch::start();
    rows.insert(dir.path(), batch)
        .expect("the rows fit the tables that they are from");
    stopwatch.stop(Spent::default())
}

async fn submit_all(server: &mut Server, batch: usize) {
    for _ in 0..JOBS / batch {
        let commands = server.submissions(batch);
        server.turn(commands, &[]).await;
        // They are not leased, so they would only fill the memory.
        server.forget();
    }
}

async fn submits(parent: &Path, batch: usize) -> Sample {
    let dir = fresh(parent);
    let mut server = Server::open(dir.path());
    let stopwatch = Stopwatch::start();
    submit_all(&mut server, batch).await;
    stopwatch.stop(server.spent)
}

/// Submit, lease and complete, each in a commit of its own.
async fn lives_in_steps(parent: &Path, batch: usize) -> Sample {
    let dir = fresh(parent);
    let mut server = Server::open(dir.path());
    let stopwatch = Stopwatch::start();
    for _ in 0..JOBS / batch {
        let commands = server.submissions(batch);
        server.turn(commands, &[]).await;
        let leases = server.turn(Vec::new(), &[Server::claim(batch)]).await;
        assert_eq!(leases.len(), batch);
        let reports = leases.into_iter().map(Server::success).collect();
        server.turn(reports, &[]).await;
    }
    stopwatch.stop(server.spent)
}

/// Each commit completes what the last one leased, and submits and leases as much anew: what a busy server comes to.
async fn lives_in_a_stream(parent: &Path, batch: usize) -> Sample {
    let dir = fresh(parent);
    let mut server = Server::open(dir.path());
    let stopwatch = Stopwatch::start();
    let mut leases = Vec::new();
    for _ in 0..JOBS / batch {
        let mut commands: Vec<_> = leases.into_iter().map(Server::success).collect();
        commands.extend(server.submissions(batch));
        leases = server.turn(commands, &[Server::claim(batch)]).await;
        assert_eq!(leases.len(), batch);
    }
    let reports = leases.into_iter().map(Server::success).collect();
    server.turn(reports, &[]).await;
    stopwatch.stop(server.spent)
}

struct Stopwatch {
    started: Instant,
    processor: Duration,
}

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a bench measures time")]
    fn start() -> Self {
        Self {
            started: Instant::now(),
            processor: processor_time(),
        }
    }

    fn stop(&self, spent: Spent) -> Sample {
        Sample {
            elapsed: self.started.elapsed(),
            processor: processor_time().saturating_sub(self.processor),
            spent,
        }
    }
}

/// Prints a row of the table; answers with the median of jobs a second.
fn print(work: &str, mut samples: Vec<Sample>, floor: Option<f64>) -> f64 {
    samples.sort_by_key(|sample| sample.elapsed);
    let rate = JOBS as f64 / samples[samples.len() / 2].elapsed.as_secs_f64();
    let a_job = |part: fn(&Sample) -> Duration| {
        let mut parts: Vec<_> = samples.iter().map(part).collect();
        parts.sort();
        parts[parts.len() / 2].as_secs_f64() * 1e6 / JOBS as f64
    };
    println!(
        "| {work} | {rate:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {} |",
        a_job(|sample| sample.processor),
        a_job(|sample| sample.spent.load),
        a_job(|sample| sample.spent.decide),
        a_job(|sample| sample.spent.commit),
        floor.map_or("1".to_owned(), |floor| format!("{:.2}", rate / floor)),
    );
    rate
}
