//! What is killed: the real server, or one that lies.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use longhaul::{
    server::{self, RunningServer, ServeSettings},
    vault::{MasterKeySource, MasterKeys},
};

use super::faulty::{Disk, Lie};
use crate::harness::Server;

/// The shortest lease that a task may ask for is also the longest that a worker gets here.
const LEASE: &str = "1s";
/// Leases are lost on purpose here; nobody is to be punished for it.
const MAX_LOST_LEASES: u32 = 1_000_000;

/// A server that can be killed and comes back on the same port with the same data.
pub trait Victim {
    fn endpoint(&self) -> String;
    /// Kills it.
    async fn kill(&mut self);
    /// Starts it again; when this returns, it serves.
    async fn revive(&mut self);
}

impl Victim for Server {
    fn endpoint(&self) -> String {
        Self::endpoint(self)
    }

    async fn kill(&mut self) {
        self.kill9().await;
    }

    async fn revive(&mut self) {
        self.restart().await;
    }
}

/// The real server, with short leases.
pub async fn real() -> Server {
    let lost = MAX_LOST_LEASES.to_string();
    Server::start_with(&[
        "--lease-duration",
        LEASE,
        "--heartbeat-interval",
        "300ms",
        "--max-lost-leases",
        &lost,
        "--log-level",
        "warn",
    ])
    .await
}

/// A server in this process, on a store that lies.
pub struct Liar {
    disk: Disk,
    lie: Lie,
    address: SocketAddr,
    server: Option<RunningServer>,
}

impl Liar {
    pub async fn start(lie: Lie) -> Self {
        let mut liar = Self {
            disk: Disk::default(),
            lie,
            address: SocketAddr::from(([127, 0, 0, 1], crate::harness::free_port())),
            server: None,
        };
        liar.revive().await;
        liar
    }
}

impl Victim for Liar {
    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts everybody off; what the store has not written by now it never will.
    async fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            // That calls were cut off is the purpose.
            let _ = server.drain().await;
        }
    }

    async fn revive(&mut self) {
        let lease = Duration::from_secs(1);
        let settings = ServeSettings {
            listen: self.address,
            drain_timeout: Duration::from_millis(1),
            lease_duration: lease,
            heartbeat_interval: lease / 3,
            max_lost_leases: MAX_LOST_LEASES,
            master_key: MasterKeySource::Given(MasterKeys::of([7; 32])),
            ..ServeSettings::default()
        };
        let store = Arc::new(self.disk.open(self.lie).await);
        self.server = Some(server::start_on(settings, store).await.unwrap());
    }
}
