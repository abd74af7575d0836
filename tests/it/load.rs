//! Everybody who is at work while servers are killed: each acts by a seed of its own, goes to another node when its own does not answer, and never gives
//! up. What they saw is the history, and the checker says what is wrong with it.

pub mod checker;
mod crowd;
pub mod history;
mod inspection;
pub mod jobs;
pub mod seen;
pub mod stream;
mod submitter;
mod watcher;
mod worker;

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use longhaul::client::{Client, ClientError};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{sleep, timeout};
use tonic::{Response, Status};

pub use crowd::Crowd;
pub use worker::hold;

use history::History;

/// How long a call may take before nobody waits for it any more: longer than any wait here, and shorter than a node is stopped for.
const CALL: Duration = Duration::from_secs(3);
/// The pause before a call is made again that found no server.
const PAUSE: Duration = Duration::from_millis(20);

/// What a client must not do. The checker has to notice each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slip {
    /// A submission is repeated under another request id.
    NewRequestId,
    /// A worker takes a refused report for an accepted one.
    IgnoresRefusals,
    /// A watch that goes on elsewhere begins anew.
    ForgetsRevision,
    /// A follower does not look at every message.
    SkipsMessages,
    /// A follower that goes on elsewhere begins anew.
    ForgetsCursor,
}

/// Where everybody finds the servers, and writes down what they see.
#[derive(Clone)]
pub struct Stage {
    nodes: Arc<[Client]>,
    /// Through which workers with a stream reach one node or another.
    front: Client,
    pub history: History,
    seed: u64,
    slips: &'static [Slip],
    watches: Arc<AtomicUsize>,
}

impl Stage {
    /// One server.
    pub fn new(endpoint: &str, history: History, seed: u64) -> Self {
        Self::with_nodes(&[endpoint.to_owned()], endpoint, history, seed)
    }

    /// Several nodes, and an address behind which one of them answers.
    pub fn with_nodes(nodes: &[String], front: &str, history: History, seed: u64) -> Self {
        let connect = |endpoint: &str| Client::connect_lazy(endpoint).unwrap();
        Self {
            nodes: nodes.iter().map(|node| connect(node)).collect(),
            front: connect(front),
            history,
            seed,
            slips: &[],
            watches: Arc::default(),
        }
    }

    /// The same with people who make mistakes.
    pub fn with_slips(self, slips: &'static [Slip]) -> Self {
        Self { slips, ..self }
    }

    fn slips(&self, slip: Slip) -> bool {
        self.slips.contains(&slip)
    }

    /// A client of the first node.
    pub fn client(&self) -> &Client {
        &self.nodes[0]
    }

    /// One who begins at the node of this number, or as many further round.
    pub fn roamer(&self, role: &str, number: usize) -> Roamer {
        Roamer {
            nodes: Arc::clone(&self.nodes),
            at: number % self.nodes.len(),
            rng: self.rng(role, number),
        }
    }

    /// The choices of one actor.
    fn rng(&self, role: &str, number: usize) -> StdRng {
        let mut seed = [0; 32];
        let name = format!("{role} {number}");
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..8 + name.len()].copy_from_slice(name.as_bytes());
        StdRng::from_seed(seed)
    }
}

/// Somebody who knows all nodes and is at one of them.
pub struct Roamer {
    nodes: Arc<[Client]>,
    at: usize,
    pub rng: StdRng,
}

impl Roamer {
    /// The node where he is.
    pub fn here(&self) -> &Client {
        &self.nodes[self.at]
    }

    fn has_one_node(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Goes to another node, if there is one.
    fn move_on(&mut self) {
        let others = self.nodes.len() - 1;
        if others > 0 {
            self.at = (self.at + self.rng.random_range(1..=others)) % self.nodes.len();
        }
    }

    /// Goes to another node now and then, for no reason.
    fn wander(&mut self) {
        if self.rng.random_ratio(1, 4) {
            self.move_on();
        }
    }

    /// After a call that was not answered as it should have been.
    async fn retreat(&mut self) {
        self.move_on();
        sleep(PAUSE).await;
    }
}

/// The answer to a call, if it comes in time.
async fn answer<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, ClientError> {
    match timeout(CALL, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(ClientError::Silent(CALL)),
    }
}
