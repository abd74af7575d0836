//! The cluster store: PostgreSQL, shared by equal nodes.
//!
//! So far, how to reach it: what its address says, how TLS is spoken, where passwords come from, and what a refusal means.

pub mod address;
pub mod connect;
mod password;
mod tls;

use std::sync::Arc;

use address::Address;
use connect::{ConnectError, Connector};

pub use password::SecretFileError;
pub use tls::TlsError;

use super::Store;

/// What the operator sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresSettings {
    /// Where the database is, and how to get in.
    pub address: Address,
    /// Connections that this node uses at the most, beside the one that listens.
    pub connections: usize,
    /// Whether a server may be used that loses what it has acknowledged when it crashes.
    pub unsafe_durability: bool,
}

/// Why the store can not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is more to come.
    #[error("{0} can be reached, but this version keeps no jobs there yet; leave out --store")]
    Unfinished(String),
}

/// Opens the store.
///
/// # Errors
/// See [`OpenError`]; each says what to do.
pub async fn open(settings: PostgresSettings) -> Result<Arc<dyn Store>, OpenError> {
    let connector = Connector::new(settings.address);
    drop(connector.client().await?);
    Err(OpenError::Unfinished(connector.address().to_string()))
}
