//! What a node on a database does when that makes trouble: it is held up, changed, or set otherwise under a node that runs.

use std::{sync::Arc, time::Duration};

use longhaul::{
    domain::{Tenant, command::Changes, event::EventKind},
    store::{
        Store, StoreError, Writer,
        postgres::{PostgresStore, connect::Connector},
    },
};
use tokio::time::timeout;

use crate::{fixture::*, postgres::Database};

/// How long what has to come is waited for.
const WITHIN: Duration = Duration::from_secs(60);

async fn coming<T>(what: &str, future: impl Future<Output = T>) -> T {
    let come = timeout(WITHIN, future).await;
    come.unwrap_or_else(|_| panic!("{what} did not come within {WITHIN:?}"))
}

/// Somebody with an open transaction in which this was done; it ends with the client.
async fn holding(database: &Database, statement: &str) -> deadpool_postgres::ClientWrapper {
    let connector = Connector::new(database.url().parse().unwrap());
    let client = connector.client().await.unwrap();
    let begin = format!("BEGIN; {statement}");
    client.batch_execute(&begin).await.unwrap();
    client
}

/// The processes that wait for a lock, when there are any.
async fn waiting(database: &Database) -> Vec<String> {
    let waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let wait = async {
        loop {
            let pids = database.sql(waiting);
            if !pids.is_empty() {
                return pids.lines().map(str::to_owned).collect();
            }
            tokio::task::yield_now().await;
        }
    };
    coming("somebody who waits", wait).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_are_held_up_leave_no_statements_behind_and_do_not_hold_up_the_node() {
    let database = Arc::new(database());
    // One connection writes, one is the node's own, one reads.
    let stored = Stored::in_postgres_at(&database).await;
    let tenant = Tenant::new("acme");
    let start = stored.mark().await;
    let holder = holding(&database, "LOCK TABLE counters IN ACCESS EXCLUSIVE MODE").await;

    let store = Arc::clone(&stored.store);
    let of = tenant.clone();
    let read = tokio::spawn(async move { store.counts(&of).await });
    let held_up = waiting(&database).await;
    assert_eq!(held_up.len(), 1);
    read.abort();
    assert!(read.await.is_err());
    // What is known of a database by one read that waits is not that it is away.
    let busy = coming("a refusal", stored.store.counts(&tenant)).await;
    assert!(matches!(busy, Err(StoreError::Busy(_))), "{busy:?}");
    assert_eq!(waiting(&database).await, held_up);
    let tail = stored.store.tail().unwrap();
    coming("the feed", tail.read(&start)).await.unwrap();
    tail.announce(&[]).await.unwrap();

    drop(holder);
    coming("counts", stored.store.counts(&tenant))
        .await
        .unwrap();
    let pid = &held_up[0];
    let is_there = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    assert_eq!(database.sql(&is_there), "1", "the connection is used again");
}
