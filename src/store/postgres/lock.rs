//! Jobs for a batch: locked first, with all of their ancestors and in one order, and only then read.
//!
//! Two statements, because each has a snapshot of its own: what the first one has seen of a job that it waited for may be old. Both are sent at once.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use deadpool_postgres::ClientWrapper;
use futures_util::future::try_join;

use super::{
    columns::{Cells, JOB_COLUMNS, WITH_TASKS},
    read::columns_of,
    session::prepared,
};
use crate::{
    domain::{Job, JobKey},
    store::{Locked, StoreError},
};

/// The jobs asked for and all of their ancestors, which never change. What is said of parents stands outside, where it tempts nobody to look for the job
/// in the index of child jobs.
const WANTED: &str = "WITH RECURSIVE wanted(tenant, id) AS (
        SELECT k.tenant COLLATE \"C\", k.id FROM unnest($1::text[], $2::uuid[]) AS k(tenant, id)
        UNION
        SELECT p.tenant, p.parent FROM wanted AS w CROSS JOIN LATERAL (
            SELECT j.tenant, j.parent FROM jobs AS j WHERE j.tenant = w.tenant AND j.id = w.id OFFSET 0
        ) AS p WHERE p.parent IS NOT NULL
    )";
/// In the order in which everybody locks, so that nobody waits in a circle.
pub(super) static LOCK: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{WANTED} SELECT j.tenant, j.id FROM wanted AS w JOIN jobs AS j ON j.tenant = w.tenant AND j.id = w.id
         ORDER BY j.tenant, j.id FOR UPDATE OF j"
    )
});
static LOCK_FREE: LazyLock<String> = LazyLock::new(|| format!("{} SKIP LOCKED", *LOCK));
/// The first column: whether this transaction, by the order of the feed, may change the job. See [`super::write`].
pub(super) static READ: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{WANTED} SELECT coalesce(j.xid < (SELECT pg_current_xact_id_if_assigned()::text::bigint), true), j.tenant, j.id, {JOB_COLUMNS}
         FROM wanted AS w
         CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.tenant = w.tenant AND jobs.id = w.id OFFSET 0) AS j
         {WITH_TASKS}"
    )
});

/// The jobs that are stored, of those asked for and in their order, and behind them their ancestors.
pub(super) async fn jobs(
    client: &ClientWrapper,
    keys: &[JobKey],
    locked: Locked,
) -> Result<Vec<Job>, StoreError> {
    let (tenants, ids) = columns_of(keys);
    let lock = match locked {
        Locked::Wait => &LOCK,
        Locked::Skip => &LOCK_FREE,
    };
    let (lock, read) = (
        prepared(client, lock).await?,
        prepared(client, &READ).await?,
    );
    let parameters = [&tenants as _, &ids as _];
    let (ours, rows) = try_join(
        client.query(&lock, &parameters),
        client.query(&read, &parameters),
    )
    .await?;
    let ours = ours.iter().map(|row| Cells::of(row, 0).key());
    let ours: HashSet<JobKey> = ours.collect::<Result<_, _>>()?;
    let mut found = HashMap::with_capacity(rows.len());
    let mut left = HashSet::new();
    for row in &rows {
        let mut cells = Cells::of(row, 0);
        let (in_order, key) = (cells.next::<bool>()?, cells.key()?);
        // One that came to be after the others were locked is not ours either.
        if ours.contains(&key) && (in_order || locked == Locked::Wait) {
            found.insert(key.clone(), cells.job(key)?);
        } else {
            left.insert(key);
        }
    }
    let is_cut: Vec<JobKey> = keys
        .iter()
        .filter(|key| lacks_ancestors(key, &found, &left))
        .cloned()
        .collect();
    for key in is_cut {
        found.remove(&key);
    }
    let mut jobs: Vec<Job> = keys.iter().filter_map(|key| found.remove(key)).collect();
    jobs.extend(found.into_values());
    Ok(jobs)
}

/// Whether one of its ancestors was left to others. One that is not stored is not lacking.
fn lacks_ancestors(key: &JobKey, found: &HashMap<JobKey, Job>, left: &HashSet<JobKey>) -> bool {
    let parent_of = |key: &JobKey| found.get(key).and_then(Job::parent_key);
    std::iter::successors(parent_of(key), parent_of).any(|ancestor| left.contains(&ancestor))
}
