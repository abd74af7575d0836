//! Three nodes on one PostgreSQL: whichever node somebody talks to, it is the same service, and it stays so whatever is done to nodes and database.

mod away;
mod fleet;
mod plan;
mod relay;
mod storm;
mod texts;
mod together;
mod upgrade;

use std::time::Duration;

use tokio::time::timeout;

/// Any wait in these tests, on a busy machine and in a debug build.
const WITHIN: Duration = Duration::from_secs(60);

/// What has to come, and says so if it does not.
async fn coming<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(WITHIN, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come within {WITHIN:?}"))
}

#[expect(clippy::print_stderr, reason = "figures for whoever runs this by hand")]
fn report(line: &str) {
    eprintln!("cluster: {line}");
}
