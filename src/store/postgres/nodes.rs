//! The nodes of the cluster, as each last said of itself.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;
use uuid::Uuid;

use super::session::query;
use crate::{
    domain::time::micros,
    store::{ANNOUNCEMENT_LIFE, Connected, StoreError},
};

/// When what is left of a node that is gone is taken away.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Times are the server's, so that no node's clock makes it seem gone.
const ANNOUNCE: &str = "INSERT INTO nodes (node, seen_time, roster)
    VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, $2)
    ON CONFLICT (node) DO UPDATE SET seen_time = excluded.seen_time, roster = excluded.roster";
const FORGET: &str = "DELETE FROM nodes WHERE seen_time < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1::bigint";
const ANNOUNCED: &str = "SELECT roster FROM nodes
    WHERE node <> $1 AND seen_time >= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $2::bigint";

/// What a node says of its workers, as it is stored.
pub(super) fn pack(connected: &[Connected]) -> Result<Vec<u8>, StoreError> {
    postcard::to_stdvec(connected).map_err(|error| StoreError::Failed(error.to_string()))
}

/// Says that this node is here, with these workers.
pub(super) async fn announce(
    client: &ClientWrapper,
    node: Uuid,
    roster: &[u8],
) -> Result<(), StoreError> {
    query(client, ANNOUNCE, &[&node, &roster]).await?;
    query(client, FORGET, &[&micros(FORGOTTEN)]).await.map(drop)
}

/// How many other nodes have been heard of lately.
pub(super) async fn count(client: &ClientWrapper, node: Uuid) -> Result<usize, StoreError> {
    let rows = query(client, ANNOUNCED, &[&node, &micros(ANNOUNCEMENT_LIFE)]).await?;
    Ok(rows.len())
}

/// Says that this node is gone.
pub(super) async fn leave(client: &ClientWrapper, node: Uuid) -> Result<(), StoreError> {
    let leave = "DELETE FROM nodes WHERE node = $1";
    query(client, leave, &[&node]).await.map(drop)
}

/// The workers of all other nodes that have been heard of lately.
pub(super) async fn announced(
    client: &ClientWrapper,
    node: Uuid,
) -> Result<Vec<Connected>, StoreError> {
    let rows = query(client, ANNOUNCED, &[&node, &micros(ANNOUNCEMENT_LIFE)]).await?;
    // Of a node of another version what can not be understood is left out: it is for people.
    let rosters = rows.iter().filter_map(|row: &Row| {
        let packed: &[u8] = row.try_get(0).ok()?;
        postcard::from_bytes::<Vec<Connected>>(packed).ok()
    });
    Ok(rosters.flatten().collect())
}
