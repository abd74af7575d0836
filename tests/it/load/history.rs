//! What everybody saw while servers were killed: facts, in no order that means anything but within one watch.

use std::{
    collections::HashSet,
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use longhaul::{
    client::ClientError,
    proto::v1::{job::State, job_event},
};
use tokio::time::Instant;
use tonic::Code;

/// Something that a client, a worker or the final inspection saw with its own eyes.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// Something was done to the servers, or is over.
    Struck { blow: String, is_over: bool },
    /// A submission was answered.
    Acknowledged { request: String, job: String },
    /// A submission was not answered, or with an error that leaves open what became of it.
    Unanswered { request: String, error: String },
    /// A lease reached a worker.
    Leased(Hold),
    /// A report that ends a lease was accepted; `succeeded` if it was a success.
    Completed { hold: Hold, succeeded: bool },
    /// A report that ends a lease was refused.
    Refused(Hold),
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
    /// A watch goes on at another node.
    Moved { watch: usize, node: usize },
    /// The stream of a watch ended, and the watch goes on.
    Disconnected { watch: usize, ending: Ending },
    /// A watch ended with an error.
    Broken { watch: usize, error: String },
    /// A follower of all jobs was told of a change, or of a job as it was when it began.
    Told {
        follower: usize,
        job: String,
        from: u64,
        to: u64,
    },
    /// A follower goes on at another node.
    Followed { follower: usize, node: usize },
    /// The stream of a follower ended, and he goes on.
    Unfollowed { follower: usize, ending: Ending },
    /// A follower who had a cursor was shown the jobs from the beginning.
    Relisted { follower: usize },
    /// At the end of it all: a node is asked, and what it says is all that it knows.
    Inspected { node: usize },
    /// At the end of it all: a job as a node says it is stored.
    Stored {
        node: usize,
        job: String,
        state: State,
        revision: u64,
    },
    /// At the end of it all: a task as it is stored.
    StoredTask {
        task: String,
        attempt: u32,
        lost_leases: u32,
    },
    /// At the end of it all: how many jobs a node counts in a state.
    Counted {
        node: usize,
        state: State,
        count: usize,
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

/// How a stream ended that was not at its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// The connection was refused, broke, or nothing came over it any more.
    Broken(String),
    /// The server said this.
    Said(Code, String),
    /// As if all were well, or in another way that no server should know.
    Wrong(String),
}

impl Ending {
    pub fn of(error: &ClientError) -> Self {
        match error.status() {
            _ if error.is_unreachable() => Self::Broken(error.to_string()),
            Some(status) => Self::Said(status.code(), status.message().to_owned()),
            None => Self::Wrong(error.to_string()),
        }
    }
}

/// The facts so far. Cheap to clone; the clones write into the same history.
#[derive(Clone, Debug)]
pub struct History {
    begin: Instant,
    facts: Arc<Mutex<Vec<(Duration, Fact)>>>,
}

impl Default for History {
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever reads a history wants to know what came before what"
    )]
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            facts: Arc::default(),
        }
    }
}

impl History {
    pub fn note(&self, fact: Fact) {
        let time = self.begin.elapsed();
        self.facts.lock().unwrap().push((time, fact));
    }

    pub fn facts(&self) -> Vec<Fact> {
        let facts = self.facts.lock().unwrap();
        facts.iter().map(|(_, fact)| fact.clone()).collect()
    }

    /// The jobs that somebody was told are stored.
    pub fn acknowledged(&self) -> HashSet<String> {
        let facts = self.facts.lock().unwrap();
        let jobs = facts.iter().filter_map(|(_, fact)| match fact {
            Fact::Acknowledged { job, .. } => Some(job.clone()),
            _ => None,
        });
        jobs.collect()
    }

    /// Everything with its time, a line each, for whoever looks for the cause of a fault.
    pub fn text(&self) -> String {
        let facts = self.facts.lock().unwrap();
        facts.iter().fold(String::new(), |mut text, (time, fact)| {
            // A text takes all that is written to it.
            let _ = writeln!(text, "{:10.4} {fact:?}", time.as_secs_f64());
            text
        })
    }
}

/// Whether a job in this state never changes again.
pub fn is_terminal(state: State) -> bool {
    match state {
        State::Succeeded | State::Failed | State::Cancelled => true,
        State::Unspecified | State::Queued | State::Running | State::Cancelling => false,
    }
}
