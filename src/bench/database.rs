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
        let server = Connector::new(address.with_environment(|name| std::env::var_os(name)));
        execute(&server, &format!("CREATE DATABASE {name}")).await?;
        Ok(Self {
            server,
            url: in_database(beside, &name),
            name,
        })
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

/// The address of another database of the same server.
fn in_database(url: &str, name: &str) -> String {
    let (base, parameters) = match url.split_once('?') {
        Some((base, parameters)) => (base, format!("?{parameters}")),
        None => (url, String::new()),
    };
    let server = base.rsplit_once('/').map_or(base, |(server, _)| server);
    format!("{server}/{name}{parameters}")
}

#[cfg(test)]
mod tests {
    use super::in_database;

    #[test]
    fn another_database_of_a_server_is_named_by_its_path_alone() {
        for (url, other) in [
            ("postgres://u:p@h:5432/d", "postgres://u:p@h:5432/x"),
            (
                "postgres://u@h/d?sslmode=require",
                "postgres://u@h/x?sslmode=require",
            ),
            (
                "postgres://u@/d?host=/run/pg",
                "postgres://u@/x?host=/run/pg",
            ),
        ] {
            assert_eq!(in_database(url, "x"), other);
        }
    }
}
