//! The API without a transport: each method takes a message of the contract and answers with one. gRPC and REST put them on the wire.
//!
//! Conversions are free functions per type that take messages apart field by field, so that a new field breaks the build and not the API. Errors are
//! faults, made in `fault` and nowhere else.

mod access;
mod admin;
mod audit;
mod body;
mod caller;
mod fault;
mod fields;
mod jobs;
mod keys;
mod lease;
pub(crate) mod render;
mod room;
mod secrets;
mod submission;
mod tenants;
mod watch;
mod workers;

pub(crate) use access::{lasts, required};
pub(crate) use body::BodyError;
pub(crate) use caller::{Caller, Tried, admit};
pub(crate) use fault::{Fault, Reason};
pub(crate) use render::View;
pub(crate) use secrets::data_keys;
pub(crate) use watch::JobWatchStream;
pub(crate) use workers::OpenWork;

use std::sync::Arc;

use crate::{auth::Authenticator, engine::Engine, vault::Vault};

/// The largest message that is accepted, in bytes: a full batch of small jobs, or the largest job with room to spare.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// What the server knows of itself besides the engine.
#[derive(Clone, Copy, Debug)]
pub struct ServerFacts {
    /// How long open calls have to end when it stops.
    pub drain_timeout: std::time::Duration,
}

/// All methods; cheap to clone.
#[derive(Clone)]
pub struct Api {
    engine: Engine,
    authenticator: Authenticator,
    vault: Arc<Vault>,
    facts: ServerFacts,
}

impl Api {
    /// On an engine.
    pub fn new(
        engine: Engine,
        authenticator: Authenticator,
        vault: Arc<Vault>,
        facts: ServerFacts,
    ) -> Self {
        Self {
            engine,
            authenticator,
            vault,
            facts,
        }
    }

    /// What it calls.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}
