//! What everybody saw while the server was killed: facts, in no order that means anything but within one watch.

use std::sync::{Arc, Mutex};

use longhaul::proto::v1::{job::State, job_event};

/// Something that a client, a worker or the final inspection saw with its own eyes.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A submission was answered.
    Acknowledged { request: String, job: String },
    /// A lease reached a worker.
    Leased(Hold),
    /// A report that ends a lease was accepted; `succeeded` if it was a success.
    Completed { hold: Hold, succeeded: bool },
    /// A watcher was shown a job.
    Shown {
        watch: usize,
        job: String,
        from: u64,
        to: u64,
        coalesced: u64,
        state: State,
        last: bool,
    },
    /// A watcher was told that it is up to date.
    Synced { watch: usize, revision: u64 },
    /// A watch ended with an error.
    Broken { watch: usize, error: String },
    /// At the end of it all: a job as it is stored.
    Stored {
        job: String,
        state: State,
        revision: u64,
    },
    /// At the end of it all: a change in the history of a job.
    Changed {
        job: String,
        revision: u64,
        kind: job_event::Type,
        task: String,
        attempt: u32,
        state: State,
    },
}

/// One worker's right to one attempt, as the worker knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hold {
    pub task: String,
    pub attempt: u32,
    pub fencing_token: u64,
    /// Differs for each lease that arrived, whatever the server says of it.
    pub holder: String,
}

/// The facts so far. Cheap to clone; the clones write into the same history.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Vec<Fact>>>);

impl History {
    pub fn note(&self, fact: Fact) {
        self.0.lock().unwrap().push(fact);
    }

    pub fn facts(&self) -> Vec<Fact> {
        self.0.lock().unwrap().clone()
    }
}

/// Whether a job in this state never changes again.
pub fn is_terminal(state: State) -> bool {
    match state {
        State::Succeeded | State::Failed | State::Cancelled => true,
        State::Unspecified | State::Queued | State::Running | State::Cancelling => false,
    }
}
