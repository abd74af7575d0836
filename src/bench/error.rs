//! What can go wrong in a measurement.

use std::{io, path::PathBuf};

use super::Scenario;
use crate::client::ClientError;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A call failed.
    #[error("a call failed: {}: {}", .0.code(), .0.message())]
    Call(Box<tonic::Status>),
    /// There is no way to the server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A child process could not be started.
    #[error("{} {arguments} can not be started: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What it was told.
        arguments: String,
        /// Why.
        source: io::Error,
    },
    /// A child process did not say where it listens.
    #[error("{} {arguments} ended before it listened; its last words are above", program.display())]
    NotListening {
        /// The program.
        program: PathBuf,
        /// What it was told.
        arguments: String,
    },
    /// Something on this machine failed.
    #[error("{tried}: {source}")]
    Io {
        /// What was tried.
        tried: String,
        /// Why it did not work.
        source: io::Error,
    },
    /// The floor's database failed.
    #[error("the raw inserts failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The server did something that it must not do.
    #[error("the server broke its contract: {0}")]
    Broken(String),
    /// The server given can not be looked into.
    #[error(
        "the scenario {0} needs one server of its own on the embedded store, to look into its process, its files or restart it; leave out --endpoint, --store and --nodes"
    )]
    NeedsOwnServer(Scenario),
    /// A scenario about several nodes.
    #[error(
        "the scenario {0} needs several nodes on one database; add --store postgres://… --nodes 3"
    )]
    NeedsNodes(Scenario),
    /// The database for a measurement can not be made or dropped.
    #[error("{0}")]
    Database(String),
    /// A part of the load generator panicked.
    #[error("a part of the load generator ended: {0}")]
    Load(#[from] tokio::task::JoinError),
}

impl BenchError {
    /// For `map_err`: something on this machine failed.
    pub(super) fn io(tried: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let tried = tried.into();
        move |source| Self::Io { tried, source }
    }
}

impl From<tonic::Status> for BenchError {
    fn from(status: tonic::Status) -> Self {
        Self::Call(Box::new(status))
    }
}
