//! What nodes on one database tell each other of their workers, and those of older versions with them.

use std::sync::Arc;

use longhaul::{domain::Tenant, store::Connected};

use crate::fixture::{Opened, database};

fn connected(driver: &str, tenant: Option<&str>, workers: usize) -> Connected {
    Connected {
        driver: driver.into(),
        tenant: tenant.map(Tenant::new),
        workers,
        free_slots: 300,
    }
}

/// A version that knows of no workers of one tenant: what it has the database do is written down here, as it will not change any more.
const OLDER: &str = "00000000-0000-7000-8000-000000000001";

#[tokio::test]
async fn workers_of_one_tenant_are_told_of_where_older_nodes_do_not_look() {
    let database = Arc::new(database());
    let one = Opened::in_postgres_at(&database)
        .await
        .store
        .tail()
        .unwrap();
    let other = Opened::in_postgres_at(&database)
        .await
        .store
        .tail()
        .unwrap();
    let (of_all, of_acme) = (connected("d", None, 1), connected("d", Some("acme"), 2));
    // The second time what was told before is told no more.
    for told in [
        vec![of_all.clone(), of_acme.clone()],
        vec![of_acme.clone()],
        vec![of_all.clone()],
    ] {
        one.announce(&told).await.unwrap();
        assert_eq!(other.announced().await.unwrap(), told);
        assert!(one.announced().await.unwrap().is_empty(), "it is no other");
    }

    one.announce(&[of_all.clone(), of_acme.clone()])
        .await
        .unwrap();
    let roster = database.sql("SELECT encode(roster, 'hex') FROM nodes");
    // One driver, of one letter, with a worker and 300 slots.
    assert_eq!(roster, "01016401ac02");
    let older = format!(
        "INSERT INTO nodes (node, seen_time, roster)
        VALUES ('{OLDER}', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, decode('01016503ac02', 'hex'))
        ON CONFLICT (node) DO UPDATE SET seen_time = excluded.seen_time, roster = excluded.roster"
    );
    for _ in 0..2 {
        database.sql(&older);
        let mut told = other.announced().await.unwrap();
        told.sort_by_key(|of| (of.driver.clone(), of.tenant.clone()));
        let of_older = connected("e", None, 3);
        assert_eq!(told, [of_all.clone(), of_acme.clone(), of_older]);
    }
    // What a version of tomorrow tells in another way is left out, and the rest of it is heard.
    database.sql(&format!(
        "UPDATE nodes SET roster_of_tenants = decode('ff', 'hex') WHERE node <> '{OLDER}'"
    ));
    let told = other.announced().await.unwrap();
    assert!(told.contains(&of_all) && told.len() == 2, "{told:?}");
}
