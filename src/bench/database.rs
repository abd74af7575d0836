//! A database for what nobody wants to keep, on a PostgreSQL server that was given.

use std::sync::atomic::{AtomicU64, Ordering};

use super::BenchError;
use crate::store::postgres::{address::Address, connect::Connector};

/// A new database, which goes with all that is in it when this is dropped.
#[derive(Debug)]
pub(super) struct Database {
    /// A connector to the database that was given.
    server: Connector,
    name: String,
    /// The address of this one, with its password if the given one has it.
    url: String,
}

impl Database {
    /// Beside the database of this address, whose user must be allowed to create one.
    pub(super) async fn new(beside: &str) -> Result<Self, BenchError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("longhaul_bench_{}_{number}", std::process::id());
        let address: Address = beside
            .parse()
            .map_err(|error| BenchError::Database(format!("--store: {error}")))?;
        let url = address.clone().with_database(&name).to_secret_url();
        let server = Connector::new(address.with_environment(|name| std::env::var_os(name)));
        execute(&server, &format!("CREATE DATABASE {name}")).await?;
        Ok(Self { server, name, url })
    }

    /// For the server's environment, as nobody else should read it.
    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

/// The name is ours, of letters and digits.
async fn execute(server: &Connector, sql: &str) -> Result<(), BenchError> {
    let failed =
        |error: &dyn std::fmt::Display| BenchError::Database(format!("{sql} failed: {error}"));
    let client = server.client().await.map_err(|error| failed(&error))?;
    let done = client.batch_execute(sql).await;
    done.map_err(|error| failed(&error))
}

impl Drop for Database {
    fn drop(&mut self) {
        let server = self.server.clone();
        // Whoever is connected: the nodes were killed a moment ago.
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.map(|runtime| runtime.block_on(execute(&server, &sql)))
        });
        // What can not be dropped stays where the person looks for it.
        let _ = dropping.join();
    }
}
