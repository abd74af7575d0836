//! What opening a database for a copy does to it, and what not.

use longhaul::store::postgres::OpenError;

use super::*;

const RELATIONS: &str = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
const RANGES: &str = "SELECT count(*) FROM partitions";

async fn open(purpose: Purpose, database: &Database) -> Result<PostgresStore, OpenError> {
    PostgresStore::open_to(purpose, settings(database)).await
}

#[tokio::test]
async fn where_nothing_is_nothing_is_made_to_be_read() {
    let database = database();
    for purpose in [Purpose::Read, Purpose::Look] {
        let told = open(purpose, &database).await.err();
        assert!(matches!(told, Some(OpenError::Nothing)), "{told:?}");
        assert_eq!(database.sql(RELATIONS), "0");
    }
    open(Purpose::Fill, &database).await.unwrap();
    assert_ne!(database.sql(RELATIONS), "0");
}

#[tokio::test]
async fn only_who_serves_makes_ranges_ahead() {
    let database = database();
    for purpose in [Purpose::Fill, Purpose::Read, Purpose::Look] {
        open(purpose, &database).await.unwrap();
        assert_eq!(database.sql(RANGES), "0", "{purpose:?}");
    }
    let retention = RETENTION;
    let _served = open(Purpose::Serve { retention }, &database).await.unwrap();
    assert_ne!(database.sql(RANGES), "0");
}

#[tokio::test]
async fn who_only_reads_or_looks_makes_no_keys() {
    let database = database();
    open(Purpose::Fill, &database).await.unwrap();
    let keys = || database.sql("SELECT count(*) FROM meta WHERE key IN ('token_key', 'feed_id')");
    assert_eq!(keys(), "2");
    database.sql("DELETE FROM meta WHERE key IN ('token_key', 'feed_id')");
    for purpose in [Purpose::Read, Purpose::Look] {
        open(purpose, &database).await.unwrap();
        assert_eq!(keys(), "0", "{purpose:?}");
    }
    open(Purpose::Fill, &database).await.unwrap();
    assert_eq!(keys(), "2");
}

#[tokio::test]
async fn an_older_schema_is_left_as_it_is_by_who_only_looks() {
    let database = database();
    open(Purpose::Fill, &database).await.unwrap();
    let newest = "SELECT max(version) FROM schema_version";
    let known = database.sql(newest);
    database.sql("DROP TABLE nodes, records, audit");
    database.sql("DROP FUNCTION longhaul_never");
    database.sql("ALTER TABLE tasks DROP COLUMN secrets");
    database.sql("DELETE FROM schema_version WHERE version > 1");
    let told = open(Purpose::Look, &database).await.err();
    assert!(matches!(told, Some(OpenError::TooOld { found: 1, .. })));
    assert_eq!(database.sql(newest), "1");
    open(Purpose::Read, &database).await.unwrap();
    assert_eq!(database.sql(newest), known);
    open(Purpose::Look, &database).await.unwrap();
}
