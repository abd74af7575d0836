//! The nodes of the cluster, as each last said of itself.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;
use uuid::Uuid;

use super::session::query;
use crate::{
    domain::{Tenant, time::micros},
    store::{ANNOUNCEMENT_LIFE, Connected, StoreError},
};

/// When what is left of a node that is gone is taken away.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Times are the server's, so that no node's clock makes it seem gone.
const ANNOUNCE: &str = "INSERT INTO nodes (node, seen_time, roster, roster_of_tenants)
    VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, $2, $3)
    ON CONFLICT (node) DO UPDATE SET seen_time = excluded.seen_time, roster = excluded.roster, roster_of_tenants = excluded.roster_of_tenants";
const FORGET: &str = "DELETE FROM nodes WHERE seen_time < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1::bigint";
const ANNOUNCED: &str = "SELECT roster, roster_of_tenants FROM nodes
    WHERE node <> $1 AND seen_time >= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $2::bigint";

/// What a node says of its workers, as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    /// Of those who take the tasks of all tenants; all that versions without tenants' own workers look at.
    of_all: Vec<u8>,
    /// Of those of one tenant.
    of_tenants: Vec<u8>,
}

/// Driver, workers, free slots.
type OfAll = (Arc<str>, usize, usize);
/// The same, with the tenant first.
type OfTenant = (Tenant, OfAll);

pub(super) fn pack(connected: &[Connected]) -> Result<Packed, StoreError> {
    let (mut of_all, mut of_tenants): (Vec<OfAll>, Vec<OfTenant>) = Default::default();
    for Connected {
        driver,
        tenant,
        workers,
        free_slots,
    } in connected
    {
        let here = (Arc::clone(driver), *workers, *free_slots);
        match tenant {
            None => of_all.push(here),
            Some(tenant) => of_tenants.push((tenant.clone(), here)),
        }
    }
    let failed = |error: postcard::Error| StoreError::Failed(error.to_string());
    Ok(Packed {
        of_all: postcard::to_stdvec(&of_all).map_err(failed)?,
        of_tenants: postcard::to_stdvec(&of_tenants).map_err(failed)?,
    })
}

/// What a node has said. Of a node of another version what can not be understood is left out: it is for people.
fn unpack(of_all: &[u8], of_tenants: &[u8]) -> Vec<Connected> {
    let of_all: Vec<OfAll> = postcard::from_bytes(of_all).unwrap_or_default();
    let of_tenants: Vec<OfTenant> = postcard::from_bytes(of_tenants).unwrap_or_default();
    let of_all = of_all.into_iter().map(|here| (None, here));
    let of_tenants = of_tenants.into_iter();
    let all = of_all.chain(of_tenants.map(|(tenant, here)| (Some(tenant), here)));
    let connected = |(tenant, (driver, workers, free_slots))| Connected {
        driver,
        tenant,
        workers,
        free_slots,
    };
    all.map(connected).collect()
}

/// Says that this node is here, with these workers.
pub(super) async fn announce(
    client: &ClientWrapper,
    node: Uuid,
    roster: &Packed,
) -> Result<(), StoreError> {
    let Packed { of_all, of_tenants } = roster;
    query(client, ANNOUNCE, &[&node, of_all, of_tenants]).await?;
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
    let rosters = rows.iter().filter_map(|row: &Row| {
        let (of_all, of_tenants) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
        Some(unpack(of_all, of_tenants))
    });
    Ok(rosters.flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(driver: &str, tenant: Option<&str>, workers: usize) -> Connected {
        Connected {
            driver: driver.into(),
            tenant: tenant.map(Tenant::new),
            workers,
            free_slots: 300,
        }
    }

    #[test]
    fn versions_without_tenants_own_workers_understand_what_is_said_of_the_others() {
        /// As they have it.
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        struct Before {
            driver: Arc<str>,
            workers: usize,
            free_slots: usize,
        }
        let said = [
            connected("d", None, 1),
            connected("d", Some("acme"), 2),
            connected("e", None, 3),
        ];
        let packed = pack(&said).unwrap();
        let heard: Vec<Before> = postcard::from_bytes(&packed.of_all).unwrap();
        let before = |driver: &str, workers| Before {
            driver: driver.into(),
            workers,
            free_slots: 300,
        };
        assert_eq!(heard, [before("d", 1), before("e", 3)]);
        let [d, of_acme, e] = said;
        let all = unpack(&packed.of_all, &packed.of_tenants);
        assert_eq!(all, [d.clone(), e.clone(), of_acme.clone()]);
        // They leave the other column as it is made, and are understood as well.
        let theirs = postcard::to_stdvec(&vec![before("d", 1), before("e", 3)]).unwrap();
        assert_eq!(unpack(&theirs, &[0]), [d, e]);
        assert_eq!(unpack(b"of tomorrow", &packed.of_tenants), [of_acme]);
    }
}
