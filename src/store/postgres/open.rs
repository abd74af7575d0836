//! Opening the store: a server that keeps what it acknowledged, a schema that this program knows, and nobody else's tables.
//!
//! Several nodes may start at once, and any of them may be killed in between: whoever migrates holds a lock in an open transaction, which ends with it.

use deadpool_postgres::ClientWrapper;
use refinery::Runner;
use tokio_postgres::error::SqlState;

use super::{
    connect::{ConnectError, Connector},
    partitions, read,
    session::{query, query_one},
};
use crate::{domain::Timestamp, store::StoreError};

/// The oldest PostgreSQL that has all that is used here.
const OLDEST_SERVER: i32 = 140_000;
/// Who migrates. "LngHmigr".
const LOCK: i64 = 0x4c6e_6748_6d69_6772;
/// Where the name of the feed is noted.
const FEED_ID: &str = "feed_id";
/// Where versions of the schema are noted.
const VERSIONS: &str = "schema_version";
/// Updates of one table when the feed is renumbered: a restored dump, once.
const OLD_FEED: &str = "SELECT greatest((SELECT max(xid) FROM events), (SELECT max(xid) FROM removed), (SELECT max(xid) FROM jobs), 0)
    >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint";

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
        "the server has {setting} = {value}: it may lose what it has acknowledged when it crashes; set it to on, or accept that with --unsafe-durability"
    )]
    Unsafe {
        /// Which setting.
        setting: &'static str,
        /// And what it is.
        value: String,
    },
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
    /// A newer version has been here.
    #[error(
        "the database was made by a newer version of longhaul (schema {found}; this one knows {known}, and {oldest} is the oldest that can still use it); use that version"
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

/// What is known of the database once it is open.
pub(super) struct Opened {
    pub(super) server: String,
    pub(super) token_key: [u8; 32],
    pub(super) feed_id: [u8; 16],
    pub(super) newest_time: Timestamp,
    pub(super) now: Timestamp,
}

/// Checks the server, and brings the schema up to date.
pub(super) async fn open(
    connector: &Connector,
    unsafe_durability: bool,
    width: std::time::Duration,
) -> Result<Opened, OpenError> {
    let client = connector.client().await?;
    let server = check_server(&client, unsafe_durability).await?;
    migrate(connector, client).await?;
    let client = connector.client().await?;
    partitions::make(&client, width).await?;
    Ok(Opened {
        server,
        token_key: made_once(&client, "token_key").await?,
        feed_id: made_once(&client, FEED_ID).await?,
        newest_time: read::newest_time(&client).await?,
        now: read::clock(&client).await?,
    })
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
    for setting in ["fsync", "synchronous_commit"] {
        let value = show(client, setting).await?;
        if value != "off" {
            continue;
        }
        if !unsafe_durability {
            return Err(OpenError::Unsafe { setting, value });
        }
        tracing::warn!(
            setting,
            "off: what was acknowledged may be lost when the server crashes"
        );
    }
    Ok(short)
}

/// Changes the schema, one node at a time.
async fn migrate(connector: &Connector, lock: ClientWrapper) -> Result<(), OpenError> {
    lock.batch_execute("BEGIN").await?;
    // Others may be at it for long: a change of the schema takes what it takes.
    let locked = lock.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]);
    locked.await?;
    let mut client = connector.client().await?;
    if is_to_migrate(&client).await? {
        let migrated = migrations().run_async(&mut *client).await;
        migrated.map_err(|error| of_migration(&error))?;
    }
    renumber(&client).await?;
    lock.batch_execute("COMMIT").await?;
    Ok(())
}

/// Whether this program's schema is the newer one; an older program may have to leave the database alone.
async fn is_to_migrate(client: &ClientWrapper) -> Result<bool, OpenError> {
    let tables = query(client, "SELECT to_regclass('schema_version') IS NOT NULL, to_regclass('meta') IS NOT NULL, to_regclass('jobs') IS NOT NULL, to_regclass('tasks') IS NOT NULL", &[]).await?;
    let is_there = |column| tables.first().map_or(Ok(false), |row| row.try_get(column));
    if !is_there(0)? {
        for (column, table) in [(1, "meta"), (2, "jobs"), (3, "tasks")] {
            if is_there(column)? {
                return Err(OpenError::Foreign(table.to_owned()));
            }
        }
        return Ok(true);
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
        return Ok(true);
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
        false => Ok(false),
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

/// A dump that was restored elsewhere brings ids of transactions that the server there has yet to give out, and would be taken for new for ever. Then all
/// get new ones, in the same order, from before the beginning; cursors of former times begin anew.
async fn renumber(client: &ClientWrapper) -> Result<(), OpenError> {
    if !query_one(client, OLD_FEED, &[])
        .await?
        .try_get::<_, bool>(0)?
    {
        return Ok(());
    }
    tracing::warn!("the database was restored from elsewhere: its feed is numbered anew");
    client
        .batch_execute(
            "BEGIN;
             LOCK TABLE jobs, events, removed IN EXCLUSIVE MODE;
             CREATE TEMPORARY TABLE renumbered ON COMMIT DROP AS
                SELECT xid AS former, row_number() OVER (ORDER BY xid) AS xid
                FROM (SELECT xid FROM events UNION SELECT xid FROM removed UNION SELECT xid FROM jobs) AS f;
             CREATE UNIQUE INDEX ON renumbered (former);
             UPDATE events AS e SET xid = r.xid FROM renumbered AS r WHERE r.former = e.xid;
             UPDATE removed AS e SET xid = r.xid FROM renumbered AS r WHERE r.former = e.xid;
             UPDATE jobs AS j SET xid = r.xid FROM renumbered AS r WHERE r.former = j.xid;
             DELETE FROM meta WHERE key = 'feed_id';
             COMMIT",
        )
        .await?;
    Ok(())
}

/// Random bytes that are made when they are first asked for, by whichever node comes first, and stay.
async fn made_once<const N: usize>(
    client: &ClientWrapper,
    key: &str,
) -> Result<[u8; N], OpenError> {
    let mut value = [0_u8; N];
    aws_lc_rs::rand::fill(&mut value)
        .map_err(|_| StoreError::Failed("there is no randomness".into()))?;
    let make = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    query(client, make, &[&key, &value.as_slice()]).await?;
    let row = query_one(client, "SELECT value FROM meta WHERE key = $1", &[&key]).await?;
    let stored: &[u8] = row.try_get(0)?;
    let wrong = |_| StoreError::Corrupt(format!("{key} has not {N} bytes"));
    Ok(stored.try_into().map_err(wrong)?)
}
