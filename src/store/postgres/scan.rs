//! All jobs of all tenants, page by page, with everything that is kept of them; and what is noted beside them.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use deadpool_postgres::ClientWrapper;
use futures_util::future::try_join3;
use uuid::Uuid;

use super::{
    columns::{Cells, EVENT_COLUMNS},
    fault,
    list::{AT_EVENT, MAX_EXAMINED, place},
    read::{self, as_limit, columns_of},
    session::{Parameters, prepared, query},
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

/// Jobs that are read at first, to learn how large they are,
const FIRST_JOBS: usize = 8;
/// and at the most: the largest there are, each of some MiB, have to come within the time of a read.
const MOST_JOBS: usize = 32;

pub(super) const NEXT_TENANT: &str =
    "SELECT tenant FROM jobs WHERE tenant > $1 ORDER BY tenant LIMIT 1";
/// Where jobs are, and no more of them: what is told in one answer is read to its end, however early it is cut.
pub(super) const BY_KEY: &str = "SELECT NULL::bigint, tenant, id FROM jobs WHERE (tenant, id) > ($1, $2) ORDER BY tenant, id LIMIT $3";
/// A job's last change is the event with the job's own revision.
pub(super) static BY_CHANGE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {AT_EVENT}, j.tenant, j.id FROM (
            SELECT xid, n, tenant, job, revision FROM events WHERE (xid, n) > ($1::bigint, $2::bigint) ORDER BY xid, n LIMIT {MAX_EXAMINED}
         ) AS e CROSS JOIN LATERAL (
            SELECT tenant, id FROM jobs WHERE jobs.tenant = e.tenant AND jobs.id = e.job AND jobs.revision = e.revision OFFSET 0
         ) AS j ORDER BY e.xid, e.n LIMIT $3"
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
pub(super) const QUEUED: &str = "SELECT k.place, r.ordinal, r.ready_time, r.priority, r.driver
    FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS k(of, id, place)
    CROSS JOIN LATERAL (
        SELECT ordinal, ready_time, priority, driver FROM ready_tasks WHERE ready_tasks.tenant = k.of AND ready_tasks.job = k.id ORDER BY ordinal OFFSET 0
    ) AS r ORDER BY k.place, r.ordinal";
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
    // One more than asked tells whether there is another page.
    let mut places = places(client, from, limit.saturating_add(1)).await?;
    let mut is_cut = places.len() > limit;
    places.truncate(limit);
    let mut jobs = Vec::with_capacity(places.len());
    let (mut read, mut bytes, mut most) = (0, 0, FIRST_JOBS);
    while read < places.len() && bytes <= MAX_SCANNED_BYTES {
        let some = &places[read..places.len().min(read + most)];
        let told = together(client, some).await?;
        let weight: usize = told.iter().map(Kept::memory_bytes).sum();
        jobs.extend(told);
        read += some.len();
        bytes += weight;
        most = next_jobs(some.len(), weight, MAX_SCANNED_BYTES.saturating_sub(bytes));
    }
    is_cut |= read < places.len();
    let last = places[..read].last().filter(|_| is_cut);
    let next = match from {
        Scan::ByKey(_) => last.map(|(_, key)| Scan::ByKey(Some(key.clone()))),
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
    for kept in &mut jobs {
        kept.request = requests.remove(&kept.job.key());
    }
    Ok(Scanned { jobs, next })
}

/// A job, and its position in the feed if the scan goes by these.
type Place = (Option<i64>, JobKey);

/// Where the next jobs are.
async fn places(
    client: &ClientWrapper,
    from: &Scan,
    limit: usize,
) -> Result<Vec<Place>, StoreError> {
    let most = as_limit(limit);
    let rows = match from {
        Scan::ByKey(after) => {
            let tenant = after.as_ref().map_or("", |key| &key.tenant.0);
            let id = after.as_ref().map_or(Uuid::nil(), |key| key.job.0);
            query(client, BY_KEY, &[&tenant, &id, &most]).await?
        }
        Scan::ByChange(after) => {
            let (xid, n) = place(after.map_or(0, number));
            query(client, &BY_CHANGE, &[&xid, &n, &most]).await?
        }
    };
    let place = |row| {
        let mut cells = Cells::of(row, 0);
        Ok((cells.next()?, cells.key()?))
    };
    rows.iter().map(place).collect()
}

/// How many jobs to read next, after so many of this weight, where there is room for so many bytes more.
fn next_jobs(jobs: usize, weight: usize, room: usize) -> usize {
    let each = (weight / jobs.max(1)).max(1);
    (room / each).clamp(1, MOST_JOBS.min(4 * jobs.max(1)))
}

/// Those of these jobs that are there, with all that is kept of them but what they were asked for under.
async fn together(client: &ClientWrapper, places: &[Place]) -> Result<Vec<Kept>, StoreError> {
    let keys: Vec<JobKey> = places.iter().map(|(_, key)| key.clone()).collect();
    let (tenants, ids) = columns_of(&keys);
    let parameters: Parameters<'_> = &[&tenants, &ids];
    let jobs = query(client, &read::SELECT_JOBS, parameters);
    let events = query(client, &FIRST_EVENTS, parameters);
    let queued = query(client, QUEUED, parameters);
    let (jobs, events, queued) = try_join3(jobs, events, queued).await?;
    let mut events_of: HashMap<JobKey, Vec<Event>> = HashMap::with_capacity(keys.len());
    for row in &events {
        let event = Cells::of(row, 0).event()?;
        events_of.entry(event.job_key()).or_default().push(event);
    }
    let mut queue_of: HashMap<&JobKey, Vec<Queued>> = HashMap::new();
    for row in &queued {
        let mut cells = Cells::of(row, 0);
        let place: i64 = cells.next()?;
        let at = usize::try_from(place - 1).ok();
        let key = at.and_then(|at| keys.get(at));
        let key = key.ok_or_else(|| StoreError::Failed("another job's queue came".into()))?;
        let queued = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
        queue_of.entry(key).or_default().push(queued);
    }
    let mut kept = Vec::with_capacity(jobs.len());
    for row in &jobs {
        let job = read::job(row)?;
        let key = job.key();
        kept.push(Kept {
            is_queued: queue_of.remove(&key).unwrap_or_default() == to_be_queued(&job),
            events: events_of.remove(&key).unwrap_or_default(),
            request: None,
            job: Arc::new(job),
        });
    }
    Ok(kept)
}

/// A task in the queue: which of its job's, since when, and whose turn it is for.
type Queued = (i32, i64, i32, String);

/// What the queue must have of a job.
fn to_be_queued(job: &Job) -> Vec<Queued> {
    let tasks = (0..).zip(&job.tasks);
    let ready = tasks.filter_map(|(ordinal, task)| {
        let since = task.ready_time?.as_micros();
        let driver = task.spec.driver.to_string();
        Some((ordinal, since, job.spec.priority, driver))
    });
    ready.collect()
}

async fn last_examined(client: &ClientWrapper, after: i64) -> Result<Option<i64>, StoreError> {
    let (xid, n) = place(after);
    let rows = query(client, &LAST_EXAMINED, &[&xid, &n]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
}

/// What their request ids stand for. An id that was given to another job since is that one's.
async fn requests(
    client: &ClientWrapper,
    jobs: &[Kept],
) -> Result<HashMap<JobKey, Fingerprint>, StoreError> {
    let jobs = jobs.iter().map(|kept| &kept.job);
    let keys: Vec<RequestKey> = jobs
        .filter(|job| !job.request_id.is_empty())
        .map(|job| RequestKey {
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
    let name = note.name();
    let (sql, parameters): (_, Parameters<'_>) = match &value {
        Some(value) => (SET_NOTE, &[&name, value]),
        None => (REMOVE_NOTE, &[&name]),
    };
    let statement = prepared(client, sql).await?;
    let done = client.execute(&statement, parameters).await;
    done.map(drop).map_err(|error| fault::of_commit(&error))
}
