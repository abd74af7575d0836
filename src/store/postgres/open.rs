//! Opening the store: a server that keeps what it acknowledged, a schema that this program knows, and nobody else's tables.
//!
//! Several nodes may start at once, and any of them may be killed in between: whoever migrates holds a lock in an open transaction, which ends with it.

use std::{pin::pin, time::Duration};

use deadpool_postgres::ClientWrapper;
use refinery::Runner;
use tokio::time::timeout;
use tokio_postgres::{SimpleQueryMessage, error::SqlState};

use super::{
    connect::{ConnectError, Connector},
    partitions, read,
    session::{query, query_one},
};
use crate::{
    domain::{Timestamp, event::EventKind},
    store::{StoreError, rows::Coded as _},
};

/// The oldest PostgreSQL that has all that is used here.
const OLDEST_SERVER: i32 = 140_000;
/// Who migrates. "LngHmigr".
const LOCK: i64 = 0x4c6e_6748_6d69_6772;
/// Of the connections of opening, whatever the role, the database or the server would have them be: others' changes of the schema take what they take, and
/// so do ours, while the connection that holds the lock does nothing. The lock of a node whose machine is gone is not kept for long.
const SETTINGS: &str = "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;
    SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('idle_session_timeout', 'transaction_timeout');
    SET default_transaction_isolation = 'read committed';
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";
/// Who waits for a table has all others wait behind him: longer than any statement of a node takes, and no longer.
const OF_MIGRATING: &str = "SET lock_timeout = '30s'";
/// After what time of waiting for another node it is said why.
const LONG: Duration = Duration::from_secs(3);
/// Where the name of the feed is noted.
const FEED_ID: &str = "feed_id";
/// Where versions of the schema are noted.
const VERSIONS: &str = "schema_version";
/// Where it is noted which database this is.
const HOME: &str = "home";
/// Where it is noted which tables these are. Versions that know nothing of it leave it as it is.
const TABLES_NOTED: &str = "home_tables";
/// Which one it is: of which server, and which of its databases. A standby that takes over is the same server.
const SERVER_ID: &str = "SELECT system_identifier::text FROM pg_control_system()";
const MAY_KNOW_SERVER: &str = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')";
const DATABASE_ID: &str = "SELECT oid::text FROM pg_database WHERE datname = current_database()";
/// What restores a dump in place makes the tables anew. No migration may do that to this one, or it has to renew the note.
const TABLES_ID: &str = "SELECT 'events'::regclass::oid::text";
/// A job has the id of its newest event.
const IS_AHEAD: &str = "SELECT greatest(
        (SELECT xid FROM events ORDER BY xid DESC, n DESC LIMIT 1), (SELECT xid FROM removed ORDER BY xid DESC, n DESC LIMIT 1), 0
    ) >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint";

/// Whether this table is there, and whether these are that only an empty database may lack.
const TABLES: &str = "SELECT to_regclass('schema_version') IS NOT NULL,
    to_regclass('meta') IS NOT NULL, to_regclass('jobs') IS NOT NULL, to_regclass('tasks') IS NOT NULL";

mod embedded {
    refinery::embed_migrations!("src/store/postgres/migrations");
}

/// Why the store can not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server is too old.
    #[error("the server is PostgreSQL {0}; 14 or newer is needed")]
    OldServer(String),
    /// The server does not keep what it has acknowledged.
    #[error(
        "the server has {0} = off: it may lose what it has acknowledged when it crashes; set it to on, or accept that with --unsafe-durability"
    )]
    Unsafe(&'static str),
    /// The server only follows another one.
    #[error(
        "the server is a standby: name the primary, or all of them: postgres://user@host1,host2/database"
    )]
    Standby,
    /// Texts are in another encoding.
    #[error(
        "the database's encoding is {0}; make one with UTF8: createdb --encoding UTF8 --template template0"
    )]
    Encoding(String),
    /// The user may not make tables.
    #[error(
        "the user may not make tables in this database ({0}); make the user its owner (ALTER DATABASE … OWNER TO …), or GRANT CREATE ON SCHEMA public"
    )]
    NotAllowed(String),
    /// Tables are there that are not ours.
    #[error(
        "the database has tables of another program ({0}); make one for Longhaul alone: createdb"
    )]
    Foreign(String),
    /// Nothing is there, where something has to be.
    #[error("there is nothing of Longhaul in the database: is this its name?")]
    Nothing,
    /// An older version has been here, and nothing may be changed.
    #[error(
        "the database was made by an older version of longhaul (schema {found}; this one knows {known})"
    )]
    TooOld {
        /// Its schema.
        found: i32,
        /// The newest that this program knows.
        known: i32,
    },
    /// A newer version has been here.
    #[error(
        "the database was made by a newer version of longhaul (schema {found}; this one knows {known}, and {oldest} is the oldest that will do); use that version"
    )]
    TooNew {
        /// Its schema.
        found: i32,
        /// The newest that this program knows.
        known: i32,
        /// The oldest whose programs may use it.
        oldest: i32,
    },
    /// A change of the schema failed; what it had done is undone.
    #[error("the database's schema could not be changed, and is as it was: {0}")]
    Migration(String),
    /// Anything else.
    #[error("the database can not be opened: {0}")]
    Failed(#[from] StoreError),
}

impl From<tokio_postgres::Error> for OpenError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                Self::NotAllowed(StoreError::from(error).to_string())
            }
            _ => Self::Failed(error.into()),
        }
    }
}

/// What may become of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tables {
    /// They are made, or brought up to date.
    Make,
    /// They are brought up to date, and have to be there.
    Upgrade,
    /// They have to be there as this program knows them.
    Leave,
}

/// What is known of the database once it is open.
pub(super) struct Opened {
    pub(super) server: String,
    pub(super) token_key: [u8; 32],
    pub(super) feed_id: [u8; 16],
    pub(super) newest_time: Timestamp,
    pub(super) now: Timestamp,
}

/// Checks the server, brings the schema up to date as far as it may be, and makes ranges of this width if one is given.
pub(super) async fn open(
    connector: &Connector,
    unsafe_durability: bool,
    tables: Tables,
    ranges: Option<Duration>,
) -> Result<Opened, OpenError> {
    let client = connect(connector).await?;
    let server = check_server(&client, unsafe_durability).await?;
    match tables {
        Tables::Leave => drop(found(&client, tables).await?),
        Tables::Make | Tables::Upgrade => migrate(connector, client, tables).await?,
    }
    let client = connect(connector).await?;
    if let Some(width) = ranges {
        partitions::make(&client, width).await?;
    }
    Ok(Opened {
        server,
        token_key: made_once(&client, "token_key", tables).await?,
        feed_id: made_once(&client, FEED_ID, tables).await?,
        newest_time: read::newest_time(&client).await?,
        now: read::clock(&client).await?,
    })
}

async fn connect(connector: &Connector) -> Result<ClientWrapper, OpenError> {
    let client = connector.client().await?;
    client.batch_execute(SETTINGS).await?;
    Ok(client)
}

async fn show(client: &ClientWrapper, setting: &str) -> Result<String, OpenError> {
    let row = client.query_one(&format!("SHOW {setting}"), &[]).await?;
    Ok(row.try_get(0)?)
}

async fn check_server(
    client: &ClientWrapper,
    unsafe_durability: bool,
) -> Result<String, OpenError> {
    let version = show(client, "server_version").await?;
    // Behind it may stand what a distribution says of its package.
    let short = version.split(' ').next().unwrap_or_default().to_owned();
    let number = show(client, "server_version_num").await?;
    if number
        .parse::<i32>()
        .is_ok_and(|found| found < OLDEST_SERVER)
    {
        return Err(OpenError::OldServer(short));
    }
    if query_one(client, "SELECT pg_is_in_recovery()", &[])
        .await?
        .try_get(0)?
    {
        return Err(OpenError::Standby);
    }
    let encoding = show(client, "server_encoding").await?;
    if encoding != "UTF8" {
        return Err(OpenError::Encoding(encoding));
    }
    for setting in lacking(client).await? {
        if !unsafe_durability {
            return Err(OpenError::Unsafe(setting));
        }
        tracing::warn!(
            setting,
            "off: what was acknowledged may be lost when the server crashes"
        );
    }
    Ok(short)
}

/// Settings by which the server may lose what it has acknowledged. One message, because a connection that writes is waited for.
async fn lacking(client: &ClientWrapper) -> Result<Vec<&'static str>, tokio_postgres::Error> {
    let settings = ["fsync", "synchronous_commit"];
    let ask = settings.map(|setting| format!("current_setting('{setting}')"));
    let ask = format!("SELECT {}", ask.join(", "));
    let told = client.simple_query(&ask).await?;
    let row = told.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let is_off = |(column, _): &(usize, &str)| row.and_then(|row| row.get(*column)) == Some("off");
    let told = settings.into_iter().enumerate();
    Ok(told.filter(is_off).map(|(_, setting)| setting).collect())
}

/// That the server keeps what it acknowledges. Asked for each connection that writes: it may be another server than the one that was opened, or one that
/// has been set otherwise since.
pub(super) async fn check_durability(client: &ClientWrapper) -> Result<(), StoreError> {
    match lacking(client).await?.first() {
        None => Ok(()),
        Some(setting) => Err(StoreError::Unavailable(
            OpenError::Unsafe(setting).to_string(),
        )),
    }
}

/// Changes the schema, one node at a time.
async fn migrate(
    connector: &Connector,
    lock: ClientWrapper,
    tables: Tables,
) -> Result<(), OpenError> {
    lock.batch_execute("BEGIN").await?;
    // Others may be at it for long: a change of the schema takes what it takes.
    let mut locked = pin!(lock.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]));
    if let Ok(locked) = timeout(LONG, &mut locked).await {
        locked?;
    } else {
        tracing::info!("another server opens the database, and may change its schema: waiting");
        locked.await?;
    }
    let mut client = connect(connector).await?;
    client.batch_execute(OF_MIGRATING).await?;
    if found(&client, tables).await? == Found::ToMigrate {
        let migrated = migrations().run_async(&mut *client).await;
        migrated.map_err(|error| of_migration(&error))?;
    }
    settle(&client).await?;
    lock.batch_execute("COMMIT").await?;
    Ok(())
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// A schema that this program may bring up to date, if it is not.
    ToMigrate,
    /// A schema to work with.
    Usable,
}

/// Whether this program's schema is the newer one; an older program may have to leave the database alone.
async fn found(client: &ClientWrapper, wanted: Tables) -> Result<Found, OpenError> {
    let tables = query(client, TABLES, &[]).await?;
    let is_there = |column| tables.first().map_or(Ok(false), |row| row.try_get(column));
    if !is_there(0)? {
        for (column, table) in [(1, "meta"), (2, "jobs"), (3, "tasks")] {
            if is_there(column)? {
                return Err(OpenError::Foreign(table.to_owned()));
            }
        }
        return match wanted {
            Tables::Make => Ok(Found::ToMigrate),
            Tables::Upgrade | Tables::Leave => Err(OpenError::Nothing),
        };
    }
    let versions = query(client, "SELECT max(version) FROM schema_version", &[]).await?;
    let found: Option<i32> = versions.first().map_or(Ok(None), |row| row.try_get(0))?;
    let known = migrations()
        .get_migrations()
        .iter()
        .map(|m| m.version())
        .max();
    let (found, known) = (found.unwrap_or(0), known.unwrap_or(0));
    if found <= known {
        return match wanted {
            Tables::Make => Ok(Found::ToMigrate),
            Tables::Upgrade if found < known => Ok(Found::ToMigrate),
            Tables::Leave if found < known => Err(OpenError::TooOld { found, known }),
            // Whoever only reads may not be allowed what migrating takes.
            Tables::Upgrade | Tables::Leave => Ok(Found::Usable),
        };
    }
    let oldest =
        "SELECT convert_from(value, 'UTF8')::integer FROM meta WHERE key = 'oldest_program'";
    let oldest: i32 = query_one(client, oldest, &[]).await?.try_get(0)?;
    match known < oldest {
        true => Err(OpenError::TooNew {
            found,
            known,
            oldest,
        }),
        false => Ok(Found::Usable),
    }
}

fn migrations() -> Runner {
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name(VERSIONS);
    runner
}

fn of_migration(error: &refinery::Error) -> OpenError {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<tokio_postgres::Error>() {
            let text = super::fault::of(error).to_string();
            return match error.code() {
                Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                    OpenError::NotAllowed(text)
                }
                _ => OpenError::Migration(text),
            };
        }
        source = inner.source();
    }
    OpenError::Migration(error.to_string())
}

/// A copy of a database, or one that was restored from a dump, has another feed from then on: its transactions are numbered by another server, and what
/// is a cursor there means nothing here. Ids that the server here has yet to give out would be taken for new for ever; then all events get ids from before
/// the beginning, in the same order, and as few of them the same one as these ids allow.
async fn settle(client: &ClientWrapper) -> Result<(), OpenError> {
    let text = async |sql: &str| -> Result<String, OpenError> {
        Ok(query_one(client, sql, &[]).await?.try_get(0)?)
    };
    let may_know = query_one(client, MAY_KNOW_SERVER, &[]).await?;
    let server = match may_know.try_get(0)? {
        true => text(SERVER_ID).await?,
        false => String::new(),
    };
    let home = format!("{server}/{}", text(DATABASE_ID).await?);
    let tables = text(TABLES_ID).await?;
    let noted = async |key: &str| -> Result<Option<Vec<u8>>, OpenError> {
        let rows = query(client, "SELECT value FROM meta WHERE key = $1", &[&key]).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
    };
    let (at_home, in_tables) = (noted(HOME).await?, noted(TABLES_NOTED).await?);
    let is_at_home = at_home.as_deref() == Some(home.as_bytes());
    match in_tables.as_deref() {
        Some(noted) if is_at_home && noted == tables.as_bytes() => return Ok(()),
        None if is_at_home => {
            // Served so far by a version that did not look at that.
            let insert = "INSERT INTO meta (key, value) VALUES ($1, $2)";
            query(client, insert, &[&TABLES_NOTED, &tables.as_bytes()]).await?;
            return Ok(());
        }
        Some(_) | None => {}
    }
    let is_ahead = query_one(client, IS_AHEAD, &[]).await?.try_get(0)?;
    let renumber = if is_ahead { renumber() } else { String::new() };
    if at_home.is_some() {
        tracing::warn!(
            "the database was copied or restored from elsewhere: its feed is another one from now on"
        );
    }
    // No text of anybody else's: digits and a stroke.
    let sql = format!(
        "BEGIN;
         {renumber}
         DELETE FROM meta WHERE key IN ('{FEED_ID}', '{HOME}', '{TABLES_NOTED}');
         INSERT INTO meta (key, value) VALUES
            ('{HOME}', convert_to('{home}', 'UTF8')), ('{TABLES_NOTED}', convert_to('{tables}', 'UTF8'));
         COMMIT"
    );
    Ok(client.batch_execute(&sql).await?)
}

/// `each`: how many events have to share an id, so that all have room below those that were given out when the server was made.
fn renumber() -> String {
    let removed = EventKind::JobDeleted.code();
    format!(
        "LOCK TABLE jobs, events, removed IN EXCLUSIVE MODE;
    WITH size AS MATERIALIZED (
        SELECT greatest(1, (SELECT count(*) FROM feed) / (pg_snapshot_xmin(pg_current_snapshot())::text::bigint / 2) + 1) AS each
    ), placed AS MATERIALIZED (
        SELECT tenant, job, revision, kind = {removed} AS is_removed, row_number() OVER (ORDER BY xid, n) - 1 AS place FROM feed
    ), numbered AS MATERIALIZED (
        SELECT tenant, job, revision, is_removed, 1 + place / each AS xid, (place % each)::integer AS n FROM placed CROSS JOIN size
    ), of_events AS (
        UPDATE events AS e SET xid = k.xid, n = k.n FROM numbered AS k
        WHERE NOT k.is_removed AND e.tenant = k.tenant AND e.job = k.job AND e.revision = k.revision
    ), of_removed AS (
        UPDATE removed AS e SET xid = k.xid, n = k.n FROM numbered AS k
        WHERE k.is_removed AND e.tenant = k.tenant AND e.job = k.job AND e.revision = k.revision
    )
    UPDATE jobs AS j SET xid = k.xid FROM numbered AS k WHERE j.tenant = k.tenant AND j.id = k.job AND j.revision = k.revision;"
    )
}

/// Random bytes that are made when they are first asked for, by whichever node comes first, and stay. Where nothing may be made, those that a node would
/// make are only lent.
async fn made_once<const N: usize>(
    client: &ClientWrapper,
    key: &str,
    tables: Tables,
) -> Result<[u8; N], OpenError> {
    let ask = "SELECT value FROM meta WHERE key = $1";
    let mut rows = query(client, ask, &[&key]).await?;
    let mut value = [0_u8; N];
    aws_lc_rs::rand::fill(&mut value)
        .map_err(|_| StoreError::Failed("there is no randomness".into()))?;
    if rows.is_empty() && tables == Tables::Make {
        let make = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        query(client, make, &[&key, &value.as_slice()]).await?;
        rows = query(client, ask, &[&key]).await?;
    }
    let Some(row) = rows.first() else {
        return Ok(value);
    };
    let stored: &[u8] = row.try_get(0)?;
    let wrong = |_| StoreError::Corrupt(format!("{key} has not {N} bytes"));
    Ok(stored.try_into().map_err(wrong)?)
}
