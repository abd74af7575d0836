//! All jobs of all tenants, page by page, with everything that is kept of them; and what is noted beside them.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use deadpool_postgres::ClientWrapper;
use futures_util::{StreamExt, pin_mut};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    columns::{Cells, EVENT_COLUMNS, JOB_COLUMNS, WITH_TASKS},
    list::{AT_EVENT, MAX_EXAMINED, place},
    read::{self, as_limit, columns_of},
    session::{prepared, query},
};
use crate::{
    domain::{
        Job, JobKey, Tenant,
        command::{Fingerprint, RequestKey},
        event::Event,
    },
    store::{
        Kept, MAX_KEPT_EVENTS, Note, Scan, Scanned, StoreError,
        kept::MAX_SCANNED_BYTES,
        rows::{number, unsigned},
    },
};

pub(super) const NEXT_TENANT: &str =
    "SELECT tenant FROM jobs WHERE tenant > $1 ORDER BY tenant LIMIT 1";
pub(super) static BY_KEY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT NULL::bigint, j.tenant, j.id, {JOB_COLUMNS}
         FROM (SELECT * FROM jobs WHERE (tenant, id) > ($1, $2) ORDER BY tenant, id LIMIT $3) AS j
         {WITH_TASKS} ORDER BY j.tenant, j.id"
    )
});
/// A job's last change is the event with the job's own revision.
pub(super) static BY_CHANGE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT j.at_event, j.tenant, j.id, {JOB_COLUMNS}
         FROM (
            SELECT {AT_EVENT} AS at_event, j.* FROM (
                SELECT xid, n, tenant, job, revision FROM events WHERE (xid, n) > ($1::bigint, $2::bigint) ORDER BY xid, n LIMIT {MAX_EXAMINED}
            ) AS e CROSS JOIN LATERAL (
                SELECT * FROM jobs WHERE jobs.tenant = e.tenant AND jobs.id = e.job AND jobs.revision = e.revision OFFSET 0
            ) AS j ORDER BY e.xid, e.n LIMIT $3
         ) AS j {WITH_TASKS} ORDER BY j.at_event"
    )
});
pub(super) static LAST_EXAMINED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {AT_EVENT} FROM events AS e WHERE (e.xid, e.n) > ($1::bigint, $2::bigint) ORDER BY e.xid, e.n LIMIT 1 OFFSET {}",
        MAX_EXAMINED - 1
    )
});
pub(super) static FIRST_EVENTS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {EVENT_COLUMNS} FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS k(of, id, place)
         CROSS JOIN LATERAL (
            SELECT {EVENT_COLUMNS} FROM events WHERE events.tenant = k.of AND events.job = k.id ORDER BY revision LIMIT {MAX_KEPT_EVENTS}
         ) AS e ORDER BY k.place, e.revision"
    )
});
const NOTE: &str = "SELECT value FROM meta WHERE key = $1";
const SET_NOTE: &str = "INSERT INTO meta (key, value) VALUES ($1, $2)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";
const REMOVE_NOTE: &str = "DELETE FROM meta WHERE key = $1";

/// Tenants after one, by hopping from one to the next.
pub(super) async fn tenants(
    client: &ClientWrapper,
    mut after: Option<Tenant>,
    limit: usize,
) -> Result<Vec<Tenant>, StoreError> {
    let mut tenants = Vec::new();
    while tenants.len() < limit {
        let behind = after.as_ref().map_or("", |tenant| &tenant.0);
        let rows = query(client, NEXT_TENANT, &[&behind]).await?;
        let Some(row) = rows.first() else {
            break;
        };
        let tenant = Tenant::new(row.try_get(0)?);
        after = Some(tenant.clone());
        tenants.push(tenant);
    }
    Ok(tenants)
}

/// A page: see [`crate::store::Store::scan`].
pub(super) async fn page(
    client: &ClientWrapper,
    from: &Scan,
    limit: usize,
) -> Result<Scanned, StoreError> {
    let (mut jobs, mut is_cut) = match from {
        Scan::ByKey(after) => {
            let tenant = after.as_ref().map_or("", |key| &key.tenant.0);
            let id = after.as_ref().map_or(Uuid::nil(), |key| key.job.0);
            jobs(client, &BY_KEY, [&tenant, &id], limit).await?
        }
        Scan::ByChange(after) => {
            let (xid, n) = place(after.map_or(0, number));
            jobs(client, &BY_CHANGE, [&xid, &n], limit).await?
        }
    };
    let events = first_events(client, &mut jobs, &mut is_cut).await?;
    let last = jobs.last().filter(|_| is_cut);
    let next = match from {
        Scan::ByKey(_) => last.map(|(_, job)| Scan::ByKey(Some(job.key()))),
        Scan::ByChange(after) => {
            let last = match last {
                Some((at, _)) => *at,
                None => last_examined(client, after.map_or(0, number)).await?,
            };
            let last = last.map(|at| unsigned("position", at)).transpose()?;
            last.map(|at| Scan::ByChange(Some(at)))
        }
    };
    let mut requests = requests(client, &jobs).await?;
    let with_all = jobs.into_iter().zip(events);
    let kept = with_all.map(|((_, job), events)| Kept {
        request: requests.remove(&job.key()),
        job: Arc::new(job),
        events,
    });
    Ok(Scanned {
        jobs: kept.collect(),
        next,
    })
}

/// Jobs with their positions in the feed, if the scan goes by these; and whether there were more than may be told.
async fn jobs(
    client: &ClientWrapper,
    sql: &str,
    behind: [&(dyn ToSql + Sync); 2],
    limit: usize,
) -> Result<(Vec<(Option<i64>, Job)>, bool), StoreError> {
    // One more than asked tells whether there is another page.
    let most = as_limit(limit.saturating_add(1));
    let statement = prepared(client, sql).await?;
    let parameters: [&(dyn ToSql + Sync); 3] = [behind[0], behind[1], &most];
    let rows = client.query_raw(&statement, parameters).await?;
    pin_mut!(rows);
    let mut jobs = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next().await {
        if jobs.len() == limit || bytes > MAX_SCANNED_BYTES {
            return Ok((jobs, true));
        }
        let row = row?;
        let mut cells = Cells::of(&row, 0);
        let at = cells.next()?;
        let key = cells.key()?;
        let job = cells.job(key)?;
        bytes += job.memory_bytes();
        jobs.push((at, job));
    }
    Ok((jobs, false))
}

/// The first events of each job. Jobs whose events are too much for one page are left to the next.
async fn first_events(
    client: &ClientWrapper,
    jobs: &mut Vec<(Option<i64>, Job)>,
    is_cut: &mut bool,
) -> Result<Vec<Vec<Event>>, StoreError> {
    let mut events: Vec<Vec<Event>> = jobs.iter().map(|_| Vec::new()).collect();
    let keys: Vec<JobKey> = jobs.iter().map(|(_, job)| job.key()).collect();
    let (tenants, ids) = columns_of(&keys);
    let statement = prepared(client, &FIRST_EVENTS).await?;
    let parameters: [&(dyn ToSql + Sync); 2] = [&tenants, &ids];
    let rows = client.query_raw(&statement, parameters).await?;
    pin_mut!(rows);
    let (mut at, mut bytes) = (0, 0);
    while let Some(row) = rows.next().await {
        let event = Cells::of(&row?, 0).event()?;
        while keys.get(at).is_some_and(|key| key.job != event.job) {
            at += 1;
            if bytes > MAX_SCANNED_BYTES && at < keys.len() {
                jobs.truncate(at);
                events.truncate(at);
                *is_cut = true;
                return Ok(events);
            }
        }
        bytes += size_of::<Event>() + event.detail.len();
        match events.get_mut(at) {
            Some(of_job) => of_job.push(event),
            None => return Err(StoreError::Failed("an event of another job came".into())),
        }
    }
    Ok(events)
}

async fn last_examined(client: &ClientWrapper, after: i64) -> Result<Option<i64>, StoreError> {
    let (xid, n) = place(after);
    let rows = query(client, &LAST_EXAMINED, &[&xid, &n]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
}

/// What their request ids stand for. An id that was given to another job since is that one's.
async fn requests(
    client: &ClientWrapper,
    jobs: &[(Option<i64>, Job)],
) -> Result<HashMap<JobKey, Fingerprint>, StoreError> {
    let made_under = jobs.iter().filter(|(_, job)| !job.request_id.is_empty());
    let keys: Vec<RequestKey> = made_under
        .map(|(_, job)| RequestKey {
            tenant: job.tenant.clone(),
            id: job.request_id.clone(),
        })
        .collect();
    let found = read::requests(client, &keys).await?.into_iter();
    Ok(found
        .map(|(_, record)| (record.key, record.fingerprint))
        .collect())
}

/// What was noted.
pub(super) async fn note(
    client: &ClientWrapper,
    note: Note,
) -> Result<Option<Vec<u8>>, StoreError> {
    let rows = query(client, NOTE, &[&note.name()]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
}

/// Notes something; each statement is a transaction of its own.
pub(super) async fn set_note(
    client: &ClientWrapper,
    note: Note,
    value: Option<&[u8]>,
) -> Result<(), StoreError> {
    match value {
        Some(value) => query(client, SET_NOTE, &[&note.name(), &value]).await?,
        None => query(client, REMOVE_NOTE, &[&note.name()]).await?,
    };
    Ok(())
}
