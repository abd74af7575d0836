//! Measures a server from outside, over real connections, and what the same machine could do at best: the floor.
//!
//! Owns the load, the floors and the figures; must not know the engine, the store's code or the command line. Machines are noisy, so a figure is a
//! ratio wherever there is something to compare with: floor and server take turns, in the same layout of processes (the load here, the other side in a
//! child process), and a round is judged by the floors right before and after it. What is reported is the median of the rounds.

mod child;
mod database;
mod disk;
mod echo;
mod error;
mod load;
mod process;
mod raw;
mod report;
mod rounds;
mod sample;
mod scenarios;
mod scratch;
mod watchers;
mod web;
mod work;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

pub use echo::serve as serve_echo;
pub use error::BenchError;
pub use report::{Comparison, Goal, Report, Row, Unit};
pub use scenarios::Scenario;

use child::Server;
use rounds::Ticker;
use sample::JobSample;

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// What to measure, in this order.
    pub scenarios: Vec<Scenario>,
    /// Rounds of each scenario.
    pub rounds: usize,
    /// How long the server, and each floor, works in a round that goes by time.
    pub round_time: Duration,
    /// Jobs in the store where the size of the history matters.
    pub jobs: u64,
    /// Bytes of a task's encoded request payload.
    pub payload_bytes: usize,
    /// Where servers and floors keep their data, in folders of their own that are removed afterwards.
    pub dir: PathBuf,
    /// A server that runs already, at each of its addresses if it has several nodes; if there is none, one is started for each scenario.
    pub endpoints: Vec<String>,
    /// A PostgreSQL database beside which servers get databases of their own; `None` has them use the embedded store.
    pub store: Option<String>,
    /// Nodes of a server that is started; more than one need a database.
    pub nodes: usize,
    /// The program to start servers with: `PROGRAM serve …`, `PROGRAM bench echo-server`.
    pub program: PathBuf,
}

/// How far a run is, for a progress bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being measured.
    pub scenario: Scenario,
    /// Steps done, in all scenarios.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
}

/// A run: what its scenarios share.
struct Bench<'a> {
    options: &'a BenchOptions,
    sample: JobSample,
    ticker: Ticker<'a>,
}

/// Measures everything that was asked for.
///
/// # Errors
/// A server could not be started, or a call failed that must not fail.
pub async fn run(
    options: &BenchOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, BenchError> {
    let mut bench = Bench {
        sample: JobSample::new(options.payload_bytes)?,
        ticker: Ticker::new(options, progress),
        options,
    };
    let mut report = Report::new(options);
    for scenario in &options.scenarios {
        bench.ticker.begin(*scenario);
        report.rows.extend(scenario.measure(&mut bench).await?);
        bench.ticker.end(*scenario);
    }
    Ok(report)
}

impl Bench<'_> {
    /// A server with an empty store, or the one that was given.
    async fn server(&self) -> Result<Server, BenchError> {
        Server::given_or_started(self.options).await
    }

    /// A server whose process can be looked into and restarted.
    async fn own_server(&self, scenario: Scenario) -> Result<Server, BenchError> {
        match self.options.endpoints.is_empty() {
            false => Err(BenchError::NeedsOwnServer(scenario)),
            true => Server::start(self.options).await,
        }
    }
}

/// A stopwatch's time.
#[expect(clippy::disallowed_methods, reason = "to measure time is the point")]
fn now() -> Instant {
    Instant::now()
}
