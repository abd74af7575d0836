//! A connection that is ready for statements, and how statements are sent.
//!
//! Nothing here depends on what a session remembers: behind a pooler each transaction may be on another one. What is set at the beginning only keeps
//! plans as good as they can be.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio::time::timeout;
use tokio_postgres::{Row, Statement, types::ToSql};

use super::{connect::Connector, open};
use crate::store::StoreError;

/// Every statement finds its rows by an index, and loops over few rows. A plan is kept for as long as the connection, so it must not be made for a table
/// that happens to be empty just now; and what a plan costs, which is then estimated far too high, must not have it compiled. A bitmap knows no order:
/// where the first few rows are wanted, it would find and sort all of them. So would several processes, which take longer to begin than all of it.
pub(super) const PLANS: &str = "enable_seqscan = off; enable_bitmapscan = off; enable_hashjoin = off; enable_mergejoin = off; \
    max_parallel_workers_per_gather = 0; plan_cache_mode = force_generic_plan; jit = off";

/// When the server ends a statement by itself: before whoever waits so long for it gives it up, so that none goes on behind a connection that was left.
pub(super) const fn longest_statement(patience: Duration) -> Duration {
    Duration::from_secs(patience.as_secs() * 4 / 5)
}

/// How long an answer may take where nothing else is said: far longer than any does on a server that is alive.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long the first answer of a new connection may take.
const LONGEST_START: Duration = Duration::from_secs(3);

/// The parameters of a statement.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// One attempt at a connection.
pub(super) async fn begin(connector: &Connector) -> Result<ClientWrapper, StoreError> {
    begin_with(connector, longest_statement(PATIENCE)).await
}

/// The same, where statements may take so long.
pub(super) async fn begin_with(
    connector: &Connector,
    longest: Duration,
) -> Result<ClientWrapper, StoreError> {
    let client = connector.client().await?;
    // Whatever the role, the database or the server would have it be.
    let set = format!(
        "{} SET statement_timeout = {}; SET default_transaction_isolation = 'read committed'",
        settings("SET"),
        longest.as_millis()
    );
    let answer = timeout(LONGEST_START, client.batch_execute(&set)).await;
    answer.map_err(|_| silent())??;
    Ok(client)
}

/// One attempt at a connection that may write: to a server that keeps what it acknowledges, unless that is not asked for.
pub(super) async fn begin_to_write(
    connector: &Connector,
    unsafe_durability: bool,
) -> Result<ClientWrapper, StoreError> {
    let client = begin(connector).await?;
    if !unsafe_durability {
        let checked = timeout(LONGEST_START, open::check_durability(&client));
        checked.await.unwrap_or_else(|_| Err(silent()))?;
    }
    Ok(client)
}

fn silent() -> StoreError {
    StoreError::Unavailable(format!(
        "PostgreSQL did not answer within {} s",
        LONGEST_START.as_secs()
    ))
}

/// [`PLANS`] as statements.
pub(super) fn settings(set: &str) -> String {
    let each = PLANS.split("; ").map(|setting| format!("{set} {setting};"));
    each.collect::<Vec<_>>().join(" ")
}

/// Prepared once for each connection. For statements of which there are few.
pub(super) async fn prepared(client: &ClientWrapper, sql: &str) -> Result<Statement, StoreError> {
    Ok(client.prepare_cached(sql).await?)
}

pub(super) async fn query(
    client: &ClientWrapper,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<Vec<Row>, StoreError> {
    let statement = prepared(client, sql).await?;
    Ok(client.query(&statement, parameters).await?)
}

/// The only row.
pub(super) async fn query_one(
    client: &ClientWrapper,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<Row, StoreError> {
    let rows = query(client, sql, parameters).await?;
    let mut rows = rows.into_iter();
    rows.next()
        .ok_or_else(|| StoreError::Failed(format!("no row came of: {sql}")))
}

#[cfg(test)]
mod tests {
    use super::{super::cluster::Database, *};

    #[tokio::test]
    async fn what_takes_too_long_the_server_ends_and_the_connection_is_good_for_more() {
        let database = Database::fresh();
        let connector = Connector::new(database.url().parse().expect("an address"));
        let limit = Duration::from_millis(100);
        let client = begin_with(&connector, limit).await.expect("a connection");
        let ended = client.batch_execute("SELECT pg_sleep(600)").await;
        let ended = StoreError::from(ended.expect_err("it took too long"));
        assert!(matches!(ended, StoreError::Busy(_)), "{ended}");
        let row = query_one(&client, "SELECT 1", &[])
            .await
            .expect("an answer");
        let wrong = row.try_get::<_, String>(0).expect_err("it is a number");
        let wrong = StoreError::from(wrong).to_string();
        assert!(!wrong.contains("connection"), "{wrong}");

        let client = begin(&connector).await.expect("a connection");
        let row = query_one(&client, "SHOW statement_timeout", &[]).await;
        let limit: String = row.expect("a row").get(0);
        assert_eq!(limit, "24s");
    }
}
