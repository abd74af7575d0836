//! Tenants, credentials and the audit log where a store is shared, opened again, or read with nothing but SQL.

use std::{sync::Arc, time::Duration};

use longhaul::{
    domain::{
        command::{Changes, RecordWrite},
        registry::{Entry, Record, RecordKey},
    },
    store::{StoreError, postgres::PostgresStore, sqlite::SqliteStore},
};
use rusqlite::Connection;

use crate::{
    behaviours::{audit_record, audited, key_entry, log, records, tenant_entry},
    fixture::*,
    postgres::Database,
};

async fn two() -> (Arc<Database>, Stored, Stored) {
    let database = Arc::new(database());
    let one = Stored::in_postgres_at(&database).await;
    let other = Stored::in_postgres_at(&database).await;
    (database, one, other)
}

/// Returns when somebody waits for what another has locked.
async fn is_waited_for(database: &Database) {
    let wait = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while database.sql(waiting) == "0" {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    waited.expect("somebody waits");
}

fn key() -> RecordKey {
    RecordKey::credential(&"k".into())
}

/// Another owner for what was read.
fn moved(record: &Record, tenant: &str) -> (Record, Changes) {
    let (before, entry) = (record.revision, key_entry("k", tenant));
    let revision = before + 1;
    let record = Record { revision, entry };
    let write = RecordWrite {
        record: record.clone(),
        before,
    };
    let changes = Changes {
        records: vec![write],
        ..Changes::default()
    };
    (record, changes)
}

#[tokio::test]
async fn who_waits_for_a_record_reads_it_as_it_is_then() {
    let (database, mut one, mut other) = two().await;
    one.commit(records([key_entry("k", "acme")])).await;
    one.writer.begin().await.unwrap();
    let read = one.writer.records(&[key()]).await.unwrap();
    let (after, changes) = moved(&read[0], "umbrella");
    other.writer.begin().await.unwrap();
    let write = async {
        is_waited_for(&database).await;
        one.writer.commit(&changes).await
    };
    let keys = [key()];
    let (read, written) = tokio::join!(other.writer.records(&keys), write);
    written.unwrap();
    let read = read.unwrap();
    assert_eq!(read, [after]);
    // And can change it.
    let (last, changes) = moved(&read[0], "acme");
    other.writer.commit(&changes).await.unwrap();
    let stored = one.store.registry().record(&key()).await.unwrap();
    assert_eq!(stored, Some(last));
}

#[tokio::test]
async fn two_nodes_that_make_the_same_record_make_it_once() {
    let (_database, mut one, mut other) = two().await;
    for stored in [&mut one, &mut other] {
        stored.writer.begin().await.unwrap();
        let found = stored.writer.records(&[key()]).await.unwrap();
        assert_eq!(found, []);
    }
    let mut changes = records([key_entry("k", "acme")]);
    changes.audit = vec![audit_record("acme", 1)];
    one.writer.commit(&changes).await.unwrap();
    let mut changes = records([key_entry("k", "umbrella")]);
    changes.audit = vec![audit_record("umbrella", 2)];
    let refused = other.writer.commit(&changes).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict(_))),
        "{refused:?}"
    );
    let stored = other.store.registry().record(&key()).await.unwrap();
    assert_eq!(stored.unwrap().entry, key_entry("k", "acme"));
    let log = log(&*other.store, None, false, 9).await;
    assert_eq!(log, [audit_record("acme", 1)]);
}

#[tokio::test]
async fn the_clock_does_not_go_behind_the_audit_log() {
    let newest = audit_record("acme", 300);
    let dir = tempfile::tempdir().unwrap();
    let mut stored = Stored::in_sqlite_at(dir.path());
    stored.submit(&job("acme", 1)).await;
    stored.commit(audited([newest.clone()])).await;
    drop(stored);
    let store = SqliteStore::open(dir.path()).unwrap();
    assert_eq!(
        longhaul::store::Store::info(&store).newest_time,
        newest.time
    );

    let database = Arc::new(database());
    let mut stored = Stored::in_postgres_at(&database).await;
    stored.commit(audited([newest.clone()])).await;
    let store = PostgresStore::open(settings(&database), RETENTION).await;
    let store = store.unwrap();
    assert_eq!(
        longhaul::store::Store::info(&store).newest_time,
        newest.time
    );
}

#[tokio::test]
async fn an_operator_reads_the_audit_log_in_sql_and_nobody_changes_it() {
    let expected = "key:1|operator|2001:db8::1|request-1|RevokeKey|2";
    let read = "SELECT actor || '|' || actor_tenant || '|' || address || '|' || request_id || '|' || action || '|' || outcome FROM audit";
    let change = "UPDATE audit SET actor = 'nobody'";
    let dir = tempfile::tempdir().unwrap();
    let mut stored = Stored::in_sqlite_at(dir.path());
    stored.commit(audited([audit_record("acme", 1)])).await;
    let shell = Connection::open(dir.path().join("longhaul.db")).unwrap();
    let told = || -> String { shell.query_row(read, (), |row| row.get(0)).unwrap() };
    assert_eq!(told(), expected);
    let refused = shell.execute(change, ()).unwrap_err().to_string();
    assert!(refused.contains("never changed"), "{refused}");
    assert_eq!(told(), expected);

    let database = Arc::new(crate::fixture::database());
    let mut stored = Stored::in_postgres_at(&database).await;
    stored.commit(audited([audit_record("acme", 1)])).await;
    assert_eq!(database.sql(read), expected);
    // Even as the superuser.
    let change = format!(
        "DO $$ BEGIN {change}; EXCEPTION WHEN restrict_violation THEN RAISE NOTICE 'refused'; END $$"
    );
    database.sql(&change);
    assert_eq!(database.sql(read), expected);
}

/// A tenant, for those who look for one.
#[tokio::test]
async fn a_record_is_of_its_kind() {
    let mut stored = Stored::in_postgres().await;
    stored
        .commit(records([tenant_entry("k"), key_entry("k", "k")]))
        .await;
    let found = stored.store.registry().record(&key()).await.unwrap();
    assert!(matches!(found.unwrap().entry, Entry::Key(_)));
}
