//! What a node on a database does when that makes trouble: it is held up, changed, or set otherwise under a node that runs.

use std::{sync::Arc, time::Duration};

use longhaul::{
    domain::{
        Tenant,
        command::{Changes, WriteKind},
        event::EventKind,
    },
    store::{
        Store, StoreError,
        postgres::{PostgresStore, connect::Connector},
    },
};
use tokio::time::timeout;

use crate::{
    fixture::*,
    postgres::{Cluster, Database, Options},
};

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

#[tokio::test]
async fn a_commit_that_could_not_be_prepared_is_over() {
    let database = Arc::new(database());
    let mut stored = Stored::in_postgres_at(&database).await;
    let job = job("acme", 1);
    stored.writer.begin().await.unwrap();
    stored.writer.next_due().await.unwrap();
    let holder = holding(&database, "LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await;
    let refused = coming("a refusal", stored.writer.commit(&submitted(&job))).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict(_))),
        "{refused:?}"
    );
    let in_transaction = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'longhaul' AND state LIKE 'idle in transaction (aborted)'";
    assert_eq!(database.sql(in_transaction), "0");
    drop(holder);
    stored.writer.begin().await.unwrap();
    assert_eq!(stored.writer.next_due().await.unwrap(), None);
    stored.submit(&job).await;
}

#[tokio::test]
async fn of_a_commit_of_which_a_part_can_not_be_sent_nothing_is_stored() {
    let database = Arc::new(database());
    let mut stored = Stored::in_postgres_at(&database).await;
    let mut job = job("acme", 1);
    stored.submit(&job).await;
    // What takes a text now can not be told a number.
    database.sql("DROP FUNCTION longhaul_expect");
    database.sql("CREATE FUNCTION longhaul_expect(bigint, text) RETURNS void LANGUAGE sql AS ''");
    job.revision += 1;
    let how = WriteKind::Update {
        job: true,
        tasks: vec![],
    };
    let changes = Changes {
        jobs: vec![write(&job, how)],
        events: vec![event(&job, EventKind::TaskProgress)],
        ..Changes::default()
    };
    stored.writer.begin().await.unwrap();
    let refused = stored.writer.commit(&changes).await;
    assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    assert_eq!(database.sql("SELECT max(revision) FROM events"), "1");
}

#[tokio::test]
async fn limits_that_a_role_has_do_not_count_while_a_database_is_opened() {
    let database = database();
    for limit in ["idle_in_transaction_session_timeout", "lock_timeout"] {
        let name = database.name();
        database.sql(&format!("ALTER DATABASE {name} SET {limit} = '1ms'"));
    }
    // As a node that migrates.
    let lock = "SET idle_in_transaction_session_timeout = 0; SET lock_timeout = 0; SELECT pg_advisory_xact_lock(x'4c6e67486d696772'::bigint)";
    let holder = holding(&database, lock).await;
    let url = settings(&database);
    let opening = tokio::spawn(PostgresStore::open(url, RETENTION));
    waiting(&database).await;
    drop(holder);
    coming("the database", opening).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_keep_what_it_acknowledges_any_more_is_not_written_to() {
    let database = Database::fresh();
    let mut settings = settings(&database);
    settings.unsafe_durability = false;
    let store = PostgresStore::open(settings, RETENTION).await.unwrap();
    let mut writer = store.writer().unwrap();
    writer.begin().await.unwrap();
    writer.rollback().await;
    // As after a failover to a server that is set otherwise.
    let name = database.name().to_owned();
    database.sql(&format!(
        "ALTER DATABASE {name} SET synchronous_commit = off"
    ));
    database.kill_backends("longhaul");
    let refused = async {
        loop {
            match writer.begin().await {
                Ok(()) => drop(writer.next_due().await),
                Err(error) if error.to_string().contains("synchronous_commit = off") => break,
                Err(_) => {}
            }
            tokio::task::yield_now().await;
        }
    };
    coming("the refusal", refused).await;
    database.sql(&format!("ALTER DATABASE {name} RESET synchronous_commit"));
    let written = async {
        while writer.begin().await.is_err() || writer.next_due().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    coming("the connection", written).await;
}

#[tokio::test]
async fn a_connection_whose_plans_do_not_fit_any_more_is_not_kept() {
    let database = Arc::new(database());
    let stored = Stored::in_postgres_at(&database).await;
    stored.store.paused_drivers().await.unwrap();
    database.sql("ALTER TABLE paused_drivers ALTER COLUMN reason TYPE varchar");
    let refused = stored.store.paused_drivers().await;
    assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    stored.store.paused_drivers().await.unwrap();
}

#[tokio::test]
async fn a_database_that_falls_silent_is_noticed_by_the_node_before_its_callers() {
    let database = Arc::new(
        tokio::task::spawn_blocking(|| Cluster::start(Options::default()).database())
            .await
            .unwrap(),
    );
    let stored = Stored::in_postgres_at(&database).await;
    let key = job("acme", 1).key();
    let tail = stored.store.tail().unwrap();
    let start = stored.mark().await;
    tail.read(&start).await.unwrap();
    assert!(stored.store.job(&key).await.unwrap().is_none());

    database.cluster().freeze();
    let store = Arc::clone(&stored.store);
    let of = key.clone();
    let call = tokio::spawn(async move { store.job(&of).await });
    let silent = coming("a refusal", tail.read(&start)).await;
    assert!(
        matches!(silent, Err(StoreError::Unavailable(_))),
        "{silent:?}"
    );
    assert!(!call.is_finished(), "a call may take longer");
    database.cluster().thaw();
    assert!(coming("an answer", call).await.unwrap().unwrap().is_none());
    let again = async {
        while tail.read(&start).await.is_err() || stored.store.job(&key).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    coming("the database", again).await;
}
