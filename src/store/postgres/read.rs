//! Reading single things: jobs with their tasks, events, counters, what is due and what is over.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    columns::{Cells, EVENT_COLUMNS, JOB_COLUMNS, WITH_TASKS},
    session::{query, query_one},
};
use crate::{
    domain::{
        Job, JobKey, JobState, Status, TaskState, Tenant, Timestamp,
        command::{RequestKey, RequestRecord},
        counts::Counts,
        event::Event,
    },
    store::{
        StoreError,
        rows::{Coded, number},
    },
};

pub(super) static SELECT_JOBS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT j.tenant, j.id, {JOB_COLUMNS}
         FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS k(tenant, id, place)
         CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.tenant = k.tenant AND jobs.id = k.id OFFSET 0) AS j
         {WITH_TASKS}
         ORDER BY k.place"
    )
});
/// Of a removed job the tombstone alone counts, whether its other events have gone already or not.
pub(super) static SELECT_EVENTS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {EVENT_COLUMNS} FROM (
            SELECT {EVENT_COLUMNS} FROM events WHERE tenant = $1 AND job = $2 AND revision > $3
                AND EXISTS (SELECT 1 FROM jobs AS j WHERE j.tenant = $1 AND j.id = $2)
            UNION ALL
            SELECT {EVENT_COLUMNS} FROM removed WHERE tenant = $1 AND job = $2 AND revision > $3
         ) AS e ORDER BY revision LIMIT $4"
    )
});
pub(super) const COUNTS: &str = "SELECT driver, state, status, sum(count)::bigint FROM counters
    WHERE tenant = $1 GROUP BY driver, state, status HAVING sum(count) <> 0 ORDER BY driver, state, status";
pub(super) const REQUESTS: &str = "SELECT r.tenant, r.id, r.job, r.fingerprint
    FROM unnest($1::text[], $2::text[]) AS k(tenant, id)
    CROSS JOIN LATERAL (SELECT * FROM request_ids WHERE request_ids.tenant = k.tenant AND request_ids.id = k.id OFFSET 0) AS r";
pub(super) const DUE: &str = "SELECT tenant, id FROM jobs
    WHERE timer IS NOT NULL AND timer <= $1 ORDER BY timer, tenant, id LIMIT $2";
pub(super) const NEXT_DUE: &str =
    "SELECT timer FROM jobs WHERE timer IS NOT NULL ORDER BY timer, tenant, id LIMIT 1";
pub(super) const EXPIRED: &str = "SELECT tenant, id FROM jobs
    WHERE expire_time IS NOT NULL AND expire_time <= $1 ORDER BY expire_time, tenant, id LIMIT $2";
pub(super) const OPEN_CHILDREN: &str = "SELECT tenant, id FROM jobs
    WHERE tenant = $1 AND parent = $2 AND parent IS NOT NULL AND state <= 3 ORDER BY id LIMIT $3";
const PAUSED_DRIVERS: &str = "SELECT driver, since, reason FROM paused_drivers ORDER BY driver";
const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
/// The newest event's, or that of the newest tombstone or record of the audit log.
const NEWEST_TIME: &str = "SELECT greatest(
    (SELECT time FROM events ORDER BY xid DESC, n DESC LIMIT 1), (SELECT time FROM removed ORDER BY xid DESC, n DESC LIMIT 1),
    (SELECT time FROM audit ORDER BY time DESC, id DESC LIMIT 1), 0)";

/// Keys as the two arrays that statements take.
pub(super) fn columns_of<'a>(
    keys: impl IntoIterator<Item = &'a JobKey>,
) -> (Vec<&'a str>, Vec<Uuid>) {
    let keys = keys.into_iter();
    keys.map(|key| (key.tenant.0.as_ref(), key.job.0)).unzip()
}

/// The jobs that are stored, of those asked for, in their order.
pub(super) async fn jobs(client: &ClientWrapper, keys: &[JobKey]) -> Result<Vec<Job>, StoreError> {
    let (tenants, ids) = columns_of(keys);
    let rows = query(client, &SELECT_JOBS, &[&tenants, &ids]).await?;
    rows.iter().map(job).collect()
}

/// A job's key and columns.
pub(super) fn job(row: &Row) -> Result<Job, StoreError> {
    let mut cells = Cells::of(row, 0);
    let key = cells.key()?;
    cells.job(key)
}

/// Events of a job after a revision, oldest first.
pub(super) async fn events(
    client: &ClientWrapper,
    key: &JobKey,
    after: u64,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    let (tenant, after, limit) = (key.tenant.0.as_ref(), number(after), as_limit(limit));
    let parameters = [&tenant as _, &key.job.0 as _, &after as _, &limit as _];
    let rows = query(client, &SELECT_EVENTS, &parameters).await?;
    rows.iter().map(|row| Cells::of(row, 0).event()).collect()
}

/// The counters of a tenant.
pub(super) async fn counts(client: &ClientWrapper, tenant: &Tenant) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    for row in query(client, COUNTS, &[&tenant.0.as_ref()]).await? {
        let driver: Arc<str> = row.try_get::<_, &str>(0)?.into();
        let state = row.try_get::<_, i16>(1)?.into();
        let count = row.try_get(3)?;
        if driver.is_empty() {
            let status = Status::from_code(row.try_get::<_, i16>(2)?.into())?;
            counts
                .jobs
                .push((JobState::from_code(state)?, status, count));
        } else {
            let state = TaskState::from_code(state)?;
            counts.tasks.push((driver, state, count));
        }
    }
    Ok(counts)
}

/// Drivers that are paused.
pub(super) async fn paused_drivers(
    client: &ClientWrapper,
) -> Result<Vec<(Arc<str>, Timestamp, String)>, StoreError> {
    let rows = query(client, PAUSED_DRIVERS, &[]).await?;
    let paused = rows.iter().map(|row| {
        let driver = row.try_get::<_, &str>(0)?;
        let since = Timestamp::from_micros(row.try_get(1)?);
        Ok((driver.into(), since, row.try_get(2)?))
    });
    paused.collect()
}

/// The request ids that are stored, of those asked for.
pub(super) async fn requests(
    client: &ClientWrapper,
    keys: &[RequestKey],
) -> Result<Vec<(RequestKey, RequestRecord)>, StoreError> {
    let (tenants, ids): (Vec<&str>, Vec<&str>) = keys
        .iter()
        .map(|key| (key.tenant.0.as_ref(), key.id.as_str()))
        .unzip();
    let mut found = HashMap::new();
    for row in query(client, REQUESTS, &[&tenants, &ids]).await? {
        let mut cells = Cells::of(&row, 0);
        let (tenant, id) = (Tenant::new(cells.next()?), cells.next()?);
        let job = crate::domain::JobId(cells.next()?);
        let fingerprint = cells.next::<&[u8]>()?.try_into().map_err(|_| {
            StoreError::Corrupt(format!("the fingerprint of request {id} is no digest"))
        })?;
        let record = RequestRecord {
            key: JobKey {
                tenant: tenant.clone(),
                job,
            },
            fingerprint,
        };
        found.insert(RequestKey { tenant, id }, record);
    }
    let records = keys.iter();
    Ok(records.filter_map(|key| found.remove_entry(key)).collect())
}

/// Jobs whose timer is due, the longest overdue first.
pub(super) async fn due(
    client: &ClientWrapper,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<JobKey>, StoreError> {
    job_keys(client, DUE, now, limit).await
}

/// The earliest timer.
pub(super) async fn next_due(client: &ClientWrapper) -> Result<Option<Timestamp>, StoreError> {
    let rows = query(client, NEXT_DUE, &[]).await?;
    let timer = rows.first().map(|row| row.try_get(0)).transpose()?;
    Ok(timer.map(Timestamp::from_micros))
}

/// Jobs whose time is over, the longest over first.
pub(super) async fn expired(
    client: &ClientWrapper,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<JobKey>, StoreError> {
    job_keys(client, EXPIRED, now, limit).await
}

async fn job_keys(
    client: &ClientWrapper,
    sql: &str,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<JobKey>, StoreError> {
    let rows = query(client, sql, &[&now.as_micros(), &as_limit(limit)]).await?;
    rows.iter().map(|row| Cells::of(row, 0).key()).collect()
}

/// Child jobs that have not ended.
pub(super) async fn open_children(
    client: &ClientWrapper,
    parent: &JobKey,
    limit: usize,
) -> Result<Vec<JobKey>, StoreError> {
    let (tenant, limit) = (parent.tenant.0.as_ref(), as_limit(limit));
    let rows = query(client, OPEN_CHILDREN, &[&tenant, &parent.job.0, &limit]).await?;
    rows.iter().map(|row| Cells::of(row, 0).key()).collect()
}

/// What time it is for all who share the database.
pub(super) async fn clock(client: &ClientWrapper) -> Result<Timestamp, StoreError> {
    let row = query_one(client, CLOCK, &[]).await?;
    Ok(Timestamp::from_micros(row.try_get(0)?))
}

/// The newest time that anything was decided under, or a little later: see [`Event::time`].
pub(super) async fn newest_time(client: &ClientWrapper) -> Result<Timestamp, StoreError> {
    let row = query_one(client, NEWEST_TIME, &[]).await?;
    Ok(Timestamp::from_micros(row.try_get(0)?))
}

/// For LIMIT.
pub(super) fn as_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
