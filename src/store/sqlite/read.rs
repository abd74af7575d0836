//! Reading single things: a job with its tasks and documents, events, counters, what is ready and what is due.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use rusqlite::{Connection, OptionalExtension, Row, params, types::ValueRef};
use uuid::Uuid;

use crate::{
    domain::{
        Document, Job, JobId, JobKey, JobState, Status, Task, TaskState, Tenant, Timestamp,
        command::{ReadyTask, RequestKey, RequestRecord},
        counts::Counts,
        event::Event,
    },
    store::{
        MAX_COUNTED_BEFORE, MAX_TENANTS_PER_CLAIM, Ready, StoreError, Whose,
        rows::{
            Coded, EventRow, JobSpecRow, JobStateRow, RowError, TaskSpecRow, TaskStateRow,
            assemble, secrets, task, unsigned,
        },
    },
};

/// The columns of a job that [`job_columns`] reads, of `jobs AS j`.
pub(super) const JOB_COLUMNS: &str = "j.state, j.status, j.revision, j.timer, j.start_time, j.update_time, j.end_time, j.expire_time, j.rest,
    j.parent, j.priority, j.create_time, j.action, j.summary, j.creator, j.object_type, j.object_id, j.object_name, j.labels, j.spec";
/// The columns of an event that [`event_columns`] reads.
pub(super) const EVENT_COLUMNS: &str = "tenant, job, revision, time, kind, rest";

pub(super) static SELECT_JOB: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {JOB_COLUMNS} FROM jobs AS j WHERE tenant = ?1 AND id = ?2"));
pub(super) static SELECT_EVENTS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {EVENT_COLUMNS} FROM events INDEXED BY events_of_job
         WHERE tenant = ?1 AND job = ?2 AND revision > ?3 ORDER BY revision LIMIT ?4"
    )
});
pub(super) const SELECT_TASKS: &str =
    "SELECT driver, spec, ready_time, rest, payload, result, secrets FROM tasks
    WHERE tenant = ?1 AND job = ?2 ORDER BY ordinal";

pub(super) const POSITION: &str = "SELECT max(position) FROM events";
pub(super) const COUNTS: &str = "SELECT driver, state, status, count FROM counters
    WHERE tenant = ?1 AND count <> 0 ORDER BY driver, state, status";
pub(super) const QUEUED_BEFORE: &str = "SELECT count(*) FROM (
    SELECT 1 FROM tasks INDEXED BY tasks_ready
    WHERE driver = ?1 AND tenant = ?2 AND ready_time IS NOT NULL AND priority >= ?3
    AND (priority > ?3 OR (ready_time, job, ordinal) < (?4, ?5, ?6))
    LIMIT ?7)";
pub(super) const REQUEST: &str =
    "SELECT job, fingerprint FROM request_ids WHERE tenant = ?1 AND id = ?2";
pub(super) const READY: &str =
    "SELECT job, ordinal, priority, ready_time FROM tasks INDEXED BY tasks_ready
    WHERE driver = ?1 AND tenant = ?2 AND ready_time IS NOT NULL
    ORDER BY priority DESC, ready_time, job, ordinal LIMIT ?3";
pub(super) const NEXT_TENANT: &str = "SELECT tenant FROM tasks INDEXED BY tasks_ready
    WHERE driver = ?1 AND tenant > ?2 AND ready_time IS NOT NULL
    ORDER BY tenant LIMIT 1";
pub(super) const DUE: &str = "SELECT tenant, id FROM jobs INDEXED BY jobs_timer
    WHERE timer IS NOT NULL AND timer <= ?1 ORDER BY timer, tenant, id LIMIT ?2";
pub(super) const NEXT_DUE: &str =
    "SELECT timer FROM jobs INDEXED BY jobs_timer WHERE timer IS NOT NULL ORDER BY timer LIMIT 1";
pub(super) const EXPIRED: &str = "SELECT tenant, id FROM jobs INDEXED BY jobs_expiring
    WHERE expire_time IS NOT NULL AND expire_time <= ?1 ORDER BY expire_time, tenant, id LIMIT ?2";
pub(super) const OPEN_CHILDREN: &str = "SELECT id FROM jobs INDEXED BY jobs_open_children
    WHERE tenant = ?1 AND parent = ?2 AND parent IS NOT NULL AND state <= 3 ORDER BY id LIMIT ?3";

/// One job.
pub(super) fn job(connection: &Connection, key: &JobKey) -> Result<Option<Job>, StoreError> {
    let mut statement = connection.prepare_cached(&SELECT_JOB)?;
    let mut rows = statement.query(params![key.tenant.0, key.job.0.as_bytes()])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let (fixed, now) = job_columns(row, 0)?;
    let tasks = tasks(connection, key)?;
    Ok(Some(assemble(key.clone(), fixed, now, tasks)?))
}

/// The tasks of a job, in order.
pub(super) fn tasks(connection: &Connection, key: &JobKey) -> Result<Vec<Task>, StoreError> {
    let mut statement = connection.prepare_cached(SELECT_TASKS)?;
    let mut rows = statement.query(params![key.tenant.0, key.job.0.as_bytes()])?;
    let mut tasks = Vec::new();
    while let Some(row) = rows.next()? {
        let (driver, spec) = (row.get(0)?, row.get(1)?);
        let (ready_time, rest) = (row.get(2)?, row.get(3)?);
        let payload = document(connection, row, 4)?;
        let result = document(connection, row, 5)?;
        let sealed = document(connection, row, 6)?;
        tasks.push(task(
            TaskSpecRow { driver, spec },
            &TaskStateRow { ready_time, rest },
            payload.map(stored),
            result.map(stored),
            secrets(sealed),
        )?);
    }
    Ok(tasks)
}

fn stored(body: Vec<u8>) -> Document {
    Document(body.into())
}

/// A document from its own row, or from the task's if it is small.
fn document(
    connection: &Connection,
    row: &Row<'_>,
    column: usize,
) -> Result<Option<Vec<u8>>, StoreError> {
    let id = match row.get_ref(column)? {
        ValueRef::Null => return Ok(None),
        ValueRef::Blob(body) => return Ok(Some(body.to_vec())),
        ValueRef::Integer(id) => id,
        other => {
            return Err(RowError::new(format!("a document of type {}", other.data_type())).into());
        }
    };
    let body: Option<Vec<u8>> = connection
        .prepare_cached("SELECT body FROM documents WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    match body {
        Some(body) => Ok(Some(body)),
        None => Err(RowError::new(format!("document {id} is missing")).into()),
    }
}

/// Events of a job after a revision, oldest first.
pub(super) fn events(
    connection: &Connection,
    key: &JobKey,
    after: i64,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    let mut statement = connection.prepare_cached(&SELECT_EVENTS)?;
    let rows = statement.query_map(
        params![key.tenant.0, key.job.0.as_bytes(), after, as_limit(limit)],
        |row| event_columns(row, 0),
    )?;
    rows.map(|row| Ok(row?.event()?)).collect()
}

/// The newest position of the feed.
pub(super) fn position(connection: &Connection) -> Result<u64, StoreError> {
    let position: Option<i64> = connection
        .prepare_cached(POSITION)?
        .query_row((), |row| row.get(0))?;
    Ok(unsigned("position", position.unwrap_or(0))?)
}

/// The newest time that anything was decided under, or a little later: see [`Event::time`].
pub(super) fn newest_time(connection: &Connection) -> rusqlite::Result<Timestamp> {
    let micros = connection.query_row(
        "SELECT max(
            coalesce((SELECT time FROM events ORDER BY position DESC LIMIT 1), 0),
            coalesce((SELECT time FROM audit ORDER BY time DESC LIMIT 1), 0))",
        (),
        |row| row.get(0),
    )?;
    Ok(Timestamp::from_micros(micros))
}

/// The counters of a tenant.
pub(super) fn counts(connection: &Connection, tenant: &Tenant) -> Result<Counts, StoreError> {
    let mut statement = connection.prepare_cached(COUNTS)?;
    let mut rows = statement.query([&tenant.0])?;
    let mut counts = Counts::default();
    while let Some(row) = rows.next()? {
        let driver: Arc<str> = row.get(0)?;
        let (state, status, count) = (row.get(1)?, row.get(2)?, row.get(3)?);
        if driver.is_empty() {
            let (state, status) = (JobState::from_code(state)?, Status::from_code(status)?);
            counts.jobs.push((state, status, count));
        } else {
            let state = TaskState::from_code(state)?;
            counts.tasks.push((driver, state, count));
        }
    }
    Ok(counts)
}

/// How many tasks of a driver come before this one, within its tenant.
pub(super) fn queued_before(
    connection: &Connection,
    driver: &str,
    task: &ReadyTask,
) -> Result<u64, StoreError> {
    let count: i64 = connection.prepare_cached(QUEUED_BEFORE)?.query_row(
        params![
            driver,
            task.key.tenant.0,
            task.priority,
            task.ready_time.as_micros(),
            task.key.job.0.as_bytes(),
            task.ordinal,
            as_limit(MAX_COUNTED_BEFORE)
        ],
        |row| row.get(0),
    )?;
    Ok(unsigned("count", count)?)
}

/// Drivers that are paused.
pub(super) fn paused_drivers(
    connection: &Connection,
) -> Result<Vec<(Arc<str>, Timestamp, String)>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT driver, since, reason FROM paused_drivers ORDER BY driver")?;
    let rows = statement.query_map((), |row| {
        let since = Timestamp::from_micros(row.get(1)?);
        Ok((row.get(0)?, since, row.get(2)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The request ids that are stored, of those asked for.
pub(super) fn requests(
    connection: &Connection,
    keys: &[RequestKey],
) -> Result<Vec<(RequestKey, RequestRecord)>, StoreError> {
    let mut statement = connection.prepare_cached(REQUEST)?;
    let mut found = Vec::new();
    for key in keys {
        let record = statement
            .query_row(params![key.tenant.0, key.id], |row| {
                Ok(RequestRecord {
                    key: job_key(key.tenant.clone(), row, 0)?,
                    fingerprint: row.get(1)?,
                })
            })
            .optional()?;
        found.extend(record.map(|record| (key.clone(), record)));
    }
    Ok(found)
}

/// Tasks that may be taken: see [`crate::store::Writer::ready`].
pub(super) fn ready(
    connection: &Connection,
    driver: &str,
    whose: Whose<'_>,
    limit: usize,
) -> Result<Ready, StoreError> {
    let paused = connection
        .prepare_cached("SELECT 1 FROM paused_drivers WHERE driver = ?1")?
        .exists([driver])?;
    if paused {
        return Ok(Ready::paused());
    }
    let mut tenants = Vec::new();
    match whose {
        Whose::One(tenant) => tenants.push(tenant.clone()),
        Whose::All { served } => {
            let start = served.map_or("", |tenant| tenant.0.as_ref());
            tenants_with_ready(connection, driver, start, None, &mut tenants)?;
            tenants_with_ready(connection, driver, "", Some(start), &mut tenants)?;
        }
    }
    let mut statement = connection.prepare_cached(READY)?;
    let mut tasks = Vec::new();
    // Perhaps not, but that costs one more look.
    let more = tenants.len() >= MAX_TENANTS_PER_CLAIM;
    for tenant in tenants {
        let rows = statement.query_map(params![driver, tenant.0, as_limit(limit)], |row| {
            Ok(ReadyTask {
                key: job_key(tenant.clone(), row, 0)?,
                ordinal: row.get(1)?,
                priority: row.get(2)?,
                ready_time: Timestamp::from_micros(row.get(3)?),
            })
        })?;
        for row in rows {
            tasks.push(row?);
        }
    }
    Ok(Ready {
        tasks,
        more,
        is_paused: false,
    })
}

/// Adds tenants after `after`, up to `last`, by hopping from one to the next: as many steps as there are tenants, however long their queues.
fn tenants_with_ready(
    connection: &Connection,
    driver: &str,
    after: &str,
    last: Option<&str>,
    tenants: &mut Vec<Tenant>,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(NEXT_TENANT)?;
    let mut after: Arc<str> = after.into();
    while tenants.len() < MAX_TENANTS_PER_CLAIM {
        let next: Option<Arc<str>> = statement
            .query_row(params![driver, after], |row| row.get(0))
            .optional()?;
        match next {
            Some(tenant) if last.is_none_or(|last| tenant.as_ref() <= last) => {
                after = tenant.clone();
                tenants.push(Tenant(tenant));
            }
            _ => break,
        }
    }
    Ok(())
}

/// Jobs whose timer is due, the longest overdue first.
pub(super) fn due(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<JobKey>, StoreError> {
    job_keys(connection, DUE, now, limit)
}

/// The earliest timer.
pub(super) fn next_due(connection: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let timer = connection
        .prepare_cached(NEXT_DUE)?
        .query_row((), |row| row.get(0))
        .optional()?;
    Ok(timer.map(Timestamp::from_micros))
}

/// Jobs whose time is over, the longest over first.
pub(super) fn expired(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<JobKey>, StoreError> {
    job_keys(connection, EXPIRED, now, limit)
}

fn job_keys(
    connection: &Connection,
    sql: &str,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<JobKey>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![now.as_micros(), as_limit(limit)], |row| {
        job_key(Tenant(row.get(0)?), row, 1)
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Child jobs that have not ended.
pub(super) fn open_children(
    connection: &Connection,
    parent: &JobKey,
    limit: usize,
) -> Result<Vec<JobKey>, StoreError> {
    let mut statement = connection.prepare_cached(OPEN_CHILDREN)?;
    let rows = statement.query_map(
        params![parent.tenant.0, parent.job.0.as_bytes(), as_limit(limit)],
        |row| job_key(parent.tenant.clone(), row, 0),
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// For LIMIT.
pub(super) fn as_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A job's key, with its id in this column.
pub(super) fn job_key(tenant: Tenant, row: &Row<'_>, column: usize) -> rusqlite::Result<JobKey> {
    let id: [u8; 16] = row.get(column)?;
    Ok(JobKey {
        tenant,
        job: JobId(Uuid::from_bytes(id)),
    })
}

/// A job's own columns, as [`JOB_COLUMNS`] has them, beginning with column `from`.
pub(super) fn job_columns(
    row: &Row<'_>,
    from: usize,
) -> Result<(JobSpecRow<'static>, JobStateRow), StoreError> {
    let mut at = Cells { row, next: from };
    let now = JobStateRow {
        state: at.next()?,
        status: at.next()?,
        revision: at.next()?,
        timer: at.next()?,
        start_time: at.next()?,
        update_time: at.next()?,
        end_time: at.next()?,
        expire_time: at.next()?,
        rest: at.next()?,
    };
    let fixed = JobSpecRow {
        parent: at.next()?,
        priority: at.next()?,
        create_time: at.next()?,
        action: at.text()?,
        summary: at.text()?,
        creator: at.text()?,
        object_type: at.optional_text()?,
        object_id: at.optional_text()?,
        object_name: at.optional_text()?,
        labels: Cow::Owned(labels(at.next()?)?),
        spec: at.next()?,
    };
    Ok((fixed, now))
}

fn labels(stored: Option<String>) -> Result<BTreeMap<String, String>, RowError> {
    stored.map_or(Ok(BTreeMap::new()), |json| {
        serde_json::from_str(&json).map_err(|error| RowError::new(format!("labels: {error}")))
    })
}

/// An event's columns, as [`EVENT_COLUMNS`] has them, beginning with column `from`.
pub(super) fn event_columns(row: &Row<'_>, from: usize) -> rusqlite::Result<EventRow<'static>> {
    let mut at = Cells { row, next: from };
    Ok(EventRow {
        tenant: at.text()?,
        job: at.next()?,
        revision: at.next()?,
        time: at.next()?,
        kind: at.next()?,
        rest: at.next()?,
    })
}

/// Reads a row from left to right.
struct Cells<'a> {
    row: &'a Row<'a>,
    next: usize,
}

impl Cells<'_> {
    fn next<T: rusqlite::types::FromSql>(&mut self) -> rusqlite::Result<T> {
        let value = self.row.get(self.next);
        self.next += 1;
        value
    }

    fn text(&mut self) -> rusqlite::Result<Cow<'static, str>> {
        self.next::<String>().map(Into::into)
    }

    fn optional_text(&mut self) -> rusqlite::Result<Option<Cow<'static, str>>> {
        self.next::<Option<String>>()
            .map(|text| text.map(Into::into))
    }
}
