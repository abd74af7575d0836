//! The worker runtime: takes leases, runs a handler for each, reports, and survives whatever happens to the connection or the server.
//!
//! Must not know the engine, the store or the command line. The parts: `ledger` (pure: what is held and has to be said), `session` (the stream with the
//! server), `crew` (the handlers at work), `desk` (where these three meet), and [`command`], a handler that runs a command for each task.
//!
//! ```no_run
//! # async fn example(client: longhaul::client::Client) -> Result<(), longhaul::worker::WorkerError> {
//! use longhaul::worker::{Outcome, TaskContext, Worker};
//!
//! let worker = Worker::builder(client)
//!     .driver("greet", |task: TaskContext| async move {
//!         task.status_detail(format!("hello, {}", task.task().name));
//!         Outcome::success()
//!     })
//!     .slots(8)
//!     .build()?;
//! worker.run(tokio_util::sync::CancellationToken::new()).await
//! # }
//! ```

pub mod command;
mod context;
mod crew;
mod desk;
mod handler;
mod ledger;
mod limits;
mod session;
mod signals;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use self::{
    context::TaskContext,
    handler::{Handler, Outcome},
    signals::{CancelRequest, Stop},
};
use self::{crew::Crew, desk::Desk, session::Session};
use crate::client::{Client, ClientError};

/// Bytes of the longest name, as the server takes it.
const MAX_NAME_BYTES: usize = 256;
/// The most drivers of a worker, as the server takes them.
const MAX_DRIVERS: usize = 100;
/// The most leases that a worker holds at once, as the server grants them.
const MAX_SLOTS: u32 = 10_000;
/// How long handlers may go on after the shutdown began, unless set otherwise.
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long handlers may take to stop after that, unless set otherwise; longer than a command's grace.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the last reports may take to be answered, at the very end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a worker can not be built, or can not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The worker is not as the server wants it.
    #[error("{0}")]
    Invalid(String),
    /// The server refused the worker, and would refuse it again.
    #[error("the server refused this worker: {0}")]
    Refused(#[source] ClientError),
}

/// A worker, ready to run.
pub struct Worker {
    client: Client,
    name: String,
    handlers: HashMap<String, Arc<dyn Handler>>,
    slots: u32,
    drain_timeout: Duration,
    stop_timeout: Duration,
}

/// Makes a [`Worker`].
#[must_use = "a builder does nothing until `build`"]
pub struct WorkerBuilder(Worker);

impl WorkerBuilder {
    /// Its name, shown in the tasks that it holds. A random one if not set; at most 256 bytes.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = name.into();
        self
    }

    /// Carries out the tasks of a driver with a handler. From 1 to 100 drivers; a second handler for a driver replaces the first.
    pub fn driver(mut self, driver: impl Into<String>, handler: impl Handler) -> Self {
        self.0.handlers.insert(driver.into(), Arc::new(handler));
        self
    }

    /// How many tasks it carries out at once. 1 if not set; at most 10,000.
    pub fn slots(mut self, slots: u32) -> Self {
        self.0.slots = slots;
        self
    }

    /// How long tasks may go on when the worker shuts down. 30 s if not set.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.0.drain_timeout = timeout;
        self
    }

    /// How long the handlers of those that went on longer may take to stop before they are cut off. 15 s if not set.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.0.stop_timeout = timeout;
        self
    }

    /// The worker.
    ///
    /// # Errors
    /// The name, the drivers or the slots are not as the server takes them.
    pub fn build(self) -> Result<Worker, WorkerError> {
        let worker = self.0;
        let invalid = |problem: String| Err(WorkerError::Invalid(problem));
        if worker.name.is_empty() || worker.name.len() > MAX_NAME_BYTES {
            return invalid(format!(
                "a worker's name has from 1 to {MAX_NAME_BYTES} bytes"
            ));
        }
        if worker.handlers.is_empty() || worker.handlers.len() > MAX_DRIVERS {
            return invalid(format!("a worker has from 1 to {MAX_DRIVERS} drivers"));
        }
        if worker.handlers.contains_key("") {
            return invalid("a driver has a name".to_owned());
        }
        if worker.slots == 0 || worker.slots > MAX_SLOTS {
            return invalid(format!("a worker has from 1 to {MAX_SLOTS} slots"));
        }
        Ok(worker)
    }
}

impl Worker {
    /// Begins a worker.
    pub fn builder(client: Client) -> WorkerBuilder {
        WorkerBuilder(Self {
            client,
            name: format!("worker-{}", uuid::Uuid::new_v4().simple()),
            handlers: HashMap::new(),
            slots: 1,
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            stop_timeout: DEFAULT_STOP_TIMEOUT,
        })
    }

    /// Works until `shutdown` fires, through disconnects and restarts of the server.
    ///
    /// Then it takes no more leases, waits for the tasks that it holds for the drain timeout, tells the others to stop, and gives back what has not
    /// ended. Dropping the future cuts everything off; the server notices when the leases run out.
    ///
    /// # Errors
    /// The server refused the worker's first hello, for a reason that time does not mend.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), WorkerError> {
        let desk = Arc::new(Desk::new(self.slots));
        let cut_off = CancellationToken::new();
        let mut drivers: Vec<String> = self.handlers.keys().cloned().collect();
        drivers.sort_unstable();
        let session = Session {
            service: self.client.workers(),
            name: &self.name,
            drivers: &drivers,
            desk: desk.clone(),
            crew: Crew::new(self.handlers, desk.clone(), cut_off.clone()),
        };
        let wind_down = async {
            shutdown.cancelled().await;
            desk.close();
            if timeout(self.drain_timeout, desk.settled()).await.is_ok() {
                return;
            }
            tracing::info!("the drain time is over; stopping what still runs");
            desk.stop_handlers();
            if timeout(self.stop_timeout, desk.settled()).await.is_ok() {
                return;
            }
            tracing::warn!("cutting off what does not stop");
            cut_off.cancel();
            if timeout(FLUSH_TIMEOUT, desk.settled()).await.is_err() {
                tracing::warn!(
                    "leaving without the server's answer; leases that it still counts as ours run out"
                );
            }
        };
        tokio::select! {
            refused = session.keep() => refused.map(|never| match never {}),
            never = desk.guard_leases() => match never {},
            () = wind_down => Ok(()),
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.name)
            .field("drivers", &self.handlers.keys())
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
