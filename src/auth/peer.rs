//! Who is at the other end of a connection.

use std::{net::SocketAddr, sync::Arc};

/// What is known of it before it has said anything.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the connection comes from, as far as this machine can see.
    pub address: SocketAddr,
    /// The names in the certificate that it has shown, which one of the authorities for clients has signed: URIs as they are, names of hosts as
    /// `dns:NAME`.
    pub identities: Arc<[Arc<str>]>,
    /// Whether nobody in between can read along.
    pub is_tls: bool,
}

impl Peer {
    /// One that is known by its address alone.
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            identities: Arc::default(),
            is_tls: false,
        }
    }
}
