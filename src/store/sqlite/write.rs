//! Writing what a batch decided: each kind of row with one prepared statement, one after another. Nothing is read back; of a job that changed only
//! what can change is written, and large documents are written once.

use std::collections::BTreeMap;

use rusqlite::{
    Connection, Result, ToSql, params,
    types::{ToSqlOutput, Value, ValueRef},
};

use crate::{
    domain::{
        Document, Job, JobKey,
        command::{Changes, JobWrite, WriteKind},
        counts::Counted,
        secrecy::Secrets,
    },
    store::rows::{
        Coded, EventRow, JobSpecRow, JobStateRow, TaskSpecRow, TaskStateRow, number, sealed,
    },
};

/// Documents of more bytes than this have a row of their own; smaller ones cost less in the task's.
const MAX_INLINE_BYTES: usize = 1_024;

const INSERT_JOB: &str = "INSERT INTO jobs
    (tenant, id, state, status, revision, timer, start_time, update_time, end_time, expire_time, rest,
     parent, priority, create_time, action, summary, creator, object_type, object_id, object_name, labels, spec)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)";
const UPDATE_JOB: &str = "UPDATE jobs
    SET state = ?3, status = ?4, revision = ?5, timer = ?6, start_time = ?7, update_time = ?8, end_time = ?9, expire_time = ?10, rest = ?11
    WHERE tenant = ?1 AND id = ?2";
const INSERT_TASK: &str = "INSERT INTO tasks
    (tenant, job, ordinal, ready_time, rest, driver, priority, spec, payload, result, secrets)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const UPDATE_TASK: &str = "UPDATE tasks SET ready_time = ?4, rest = ?5
    WHERE tenant = ?1 AND job = ?2 AND ordinal = ?3";
const UPDATE_TASK_AND_RESULT: &str = "UPDATE tasks SET ready_time = ?4, rest = ?5, result = ?6
    WHERE tenant = ?1 AND job = ?2 AND ordinal = ?3";
const ERASE_DOCUMENT: &str = "DELETE FROM documents WHERE id = (
        SELECT secrets FROM tasks WHERE tenant = ?1 AND job = ?2 AND ordinal = ?3 AND typeof(secrets) = 'integer')";
const ERASE_SECRETS: &str = "UPDATE tasks SET secrets = x''
    WHERE tenant = ?1 AND job = ?2 AND ordinal = ?3 AND secrets <> x''";
const INSERT_EVENT: &str = "INSERT INTO events
    (position, tenant, job, revision, time, kind, rest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

/// Writes all of it, giving the events positions from `first_position` on.
pub(super) fn changes(
    connection: &Connection,
    changes: &Changes,
    first_position: u64,
) -> Result<()> {
    // Before the events: a removed job takes its events with it, all but the one that says so.
    delete_jobs(connection, &changes.jobs)?;
    insert_jobs(connection, &changes.jobs)?;
    update_jobs(connection, &changes.jobs)?;
    insert_events(connection, changes, first_position)?;
    insert_requests(connection, changes)?;
    add_counts(connection, changes)?;
    set_drivers(connection, changes)
}

fn insert_jobs(connection: &Connection, jobs: &[JobWrite]) -> Result<()> {
    let inserted = || jobs.iter().filter(|write| write.how == WriteKind::Insert);
    if inserted().next().is_none() {
        return Ok(());
    }
    let mut insert_job = connection.prepare_cached(INSERT_JOB)?;
    for JobWrite { job, .. } in inserted() {
        let (fixed, now) = (JobSpecRow::of(job), JobStateRow::of(job));
        insert_job.execute(params![
            job.tenant.0,
            job.id.0.as_bytes(),
            now.state,
            now.status,
            now.revision,
            now.timer,
            now.start_time,
            now.update_time,
            now.end_time,
            now.expire_time,
            now.rest,
            fixed.parent,
            fixed.priority,
            fixed.create_time,
            fixed.action,
            fixed.summary,
            fixed.creator,
            fixed.object_type,
            fixed.object_id,
            fixed.object_name,
            labels(&fixed.labels)?,
            fixed.spec,
        ])?;
    }
    let mut insert_task = connection.prepare_cached(INSERT_TASK)?;
    for JobWrite { job, .. } in inserted() {
        for (ordinal, task) in (0_i64..).zip(&job.tasks) {
            let (fixed, now) = (TaskSpecRow::of(task), TaskStateRow::of(task));
            insert_task.execute(params![
                job.tenant.0,
                job.id.0.as_bytes(),
                ordinal,
                now.ready_time,
                now.rest,
                fixed.driver,
                job.spec.priority,
                fixed.spec,
                StoredColumn::of(connection, body(task.spec.request_payload.as_ref()))?,
                StoredColumn::of(connection, body(task.result.as_ref()))?,
                StoredColumn::of(connection, sealed(&task.secrets))?,
            ])?;
        }
    }
    Ok(())
}

/// Labels as the filter searches them; NULL if there are none.
fn labels(labels: &BTreeMap<String, String>) -> Result<Option<String>> {
    if labels.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(labels)
        .map(Some)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn update_jobs(connection: &Connection, jobs: &[JobWrite]) -> Result<()> {
    let updated = || {
        jobs.iter().filter_map(|write| match &write.how {
            WriteKind::Update { job, tasks } => Some((&write.job, *job, tasks)),
            WriteKind::Insert | WriteKind::Delete => None,
        })
    };
    if updated().next().is_none() {
        return Ok(());
    }
    let mut update_job = connection.prepare_cached(UPDATE_JOB)?;
    for (job, _, _) in updated().filter(|(_, is_changed, _)| *is_changed) {
        let now = JobStateRow::of(job);
        let found = update_job.execute(params![
            job.tenant.0,
            job.id.0.as_bytes(),
            now.state,
            now.status,
            now.revision,
            now.timer,
            now.start_time,
            now.update_time,
            now.end_time,
            now.expire_time,
            now.rest,
        ])?;
        expect_one(found)?;
    }
    let mut update_task = connection.prepare_cached(UPDATE_TASK)?;
    let mut update_with_result = connection.prepare_cached(UPDATE_TASK_AND_RESULT)?;
    for (job, _, ordinals) in updated() {
        for &ordinal in ordinals {
            let task = &job.tasks[ordinal as usize];
            let now = TaskStateRow::of(task);
            let (tenant, id) = (&job.tenant.0, job.id.0.as_bytes());
            // A result, once written, stays as it is, and a task without one has none to clear: see `WriteKind::Update`.
            let found = match &task.result {
                None => {
                    update_task.execute(params![tenant, id, ordinal, now.ready_time, now.rest])?
                }
                Some(result) => {
                    let result = stored_result(connection, job, ordinal, result)?;
                    let row = params![tenant, id, ordinal, now.ready_time, now.rest, result];
                    update_with_result.execute(row)?
                }
            };
            expect_one(found)?;
            if task.secrets == Secrets::Erased {
                for sql in [ERASE_DOCUMENT, ERASE_SECRETS] {
                    let erase = &mut connection.prepare_cached(sql)?;
                    erase.execute(params![tenant, id, ordinal])?;
                }
            }
        }
    }
    Ok(())
}

/// An update of what is not there must not pass in silence.
fn expect_one(found: usize) -> Result<()> {
    match found {
        1 => Ok(()),
        _ => Err(rusqlite::Error::StatementChangedRows(found)),
    }
}

/// What goes into the column of a document.
enum StoredColumn<'a> {
    Null,
    Inline(&'a [u8]),
    /// The id of a row of its own.
    Elsewhere(i64),
}

impl<'a> StoredColumn<'a> {
    /// Gives a large document a row of its own.
    fn of(connection: &Connection, document: Option<&'a [u8]>) -> Result<Self> {
        match document {
            None => Ok(Self::Null),
            Some(body) if body.len() <= MAX_INLINE_BYTES => Ok(Self::Inline(body)),
            Some(body) => {
                connection
                    .prepare_cached("INSERT INTO documents (body) VALUES (?1)")?
                    .execute([body])?;
                Ok(Self::Elsewhere(connection.last_insert_rowid()))
            }
        }
    }
}

fn body(document: Option<&Document>) -> Option<&[u8]> {
    document.map(|document| document.0.as_ref())
}

impl ToSql for StoredColumn<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Inline(body) => ToSqlOutput::Borrowed(ValueRef::Blob(body)),
            Self::Elsewhere(id) => ToSqlOutput::Owned(Value::Integer(*id)),
        })
    }
}

/// As [`StoredColumn::of`], but a large result that is stored already is not stored again.
fn stored_result<'a>(
    connection: &Connection,
    job: &Job,
    ordinal: u32,
    result: &'a Document,
) -> Result<StoredColumn<'a>> {
    if result.0.len() > MAX_INLINE_BYTES {
        let stored: Value = connection
            .prepare_cached(
                "SELECT result FROM tasks WHERE tenant = ?1 AND job = ?2 AND ordinal = ?3",
            )?
            .query_row(params![job.tenant.0, job.id.0.as_bytes(), ordinal], |row| {
                row.get(0)
            })?;
        if let Value::Integer(id) = stored {
            return Ok(StoredColumn::Elsewhere(id));
        }
    }
    StoredColumn::of(connection, body(Some(result)))
}

fn delete_jobs(connection: &Connection, jobs: &[JobWrite]) -> Result<()> {
    for write in jobs.iter().filter(|write| write.how == WriteKind::Delete) {
        let JobKey { tenant, job } = write.job.key();
        let key = params![tenant.0, job.0.as_bytes()];
        for sql in [
            "DELETE FROM documents WHERE id IN (
                SELECT payload FROM tasks WHERE tenant = ?1 AND job = ?2 AND typeof(payload) = 'integer'
                UNION ALL
                SELECT result FROM tasks WHERE tenant = ?1 AND job = ?2 AND typeof(result) = 'integer'
                UNION ALL
                SELECT secrets FROM tasks WHERE tenant = ?1 AND job = ?2 AND typeof(secrets) = 'integer')",
            "DELETE FROM tasks WHERE tenant = ?1 AND job = ?2",
            "DELETE FROM events INDEXED BY events_of_job WHERE tenant = ?1 AND job = ?2",
            "DELETE FROM jobs WHERE tenant = ?1 AND id = ?2",
        ] {
            connection.prepare_cached(sql)?.execute(key)?;
        }
        // A request id is stored with the job that it made and no other, so there is no more than this one.
        connection
            .prepare_cached("DELETE FROM request_ids WHERE tenant = ?1 AND id = ?2 AND job = ?3")?
            .execute(params![tenant.0, write.job.request_id, job.0.as_bytes()])?;
    }
    Ok(())
}

fn insert_events(connection: &Connection, changes: &Changes, first_position: u64) -> Result<()> {
    let mut insert_event = connection.prepare_cached(INSERT_EVENT)?;
    for (position, event) in (number(first_position)..).zip(&changes.events) {
        let event = EventRow::of(event);
        insert_event.execute(params![
            position,
            event.tenant,
            event.job,
            event.revision,
            event.time,
            event.kind,
            event.rest,
        ])?;
    }
    Ok(())
}

fn insert_requests(connection: &Connection, changes: &Changes) -> Result<()> {
    if changes.requests.is_empty() {
        return Ok(());
    }
    let mut insert_request = connection.prepare_cached(
        "INSERT INTO request_ids (tenant, id, job, fingerprint) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET job = excluded.job, fingerprint = excluded.fingerprint",
    )?;
    for (key, record) in &changes.requests {
        insert_request.execute(params![
            key.tenant.0,
            key.id,
            record.key.job.0.as_bytes(),
            record.fingerprint
        ])?;
    }
    Ok(())
}

fn add_counts(connection: &Connection, changes: &Changes) -> Result<()> {
    let mut add = connection.prepare_cached(
        "INSERT INTO counters (tenant, driver, state, status, count) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET count = count + excluded.count",
    )?;
    for (counted, by) in changes.counts.iter() {
        let (tenant, driver, state, status) = match counted {
            Counted::Jobs(tenant, state, status) => (tenant, "", state.code(), status.code()),
            Counted::Tasks(tenant, driver, state) => (tenant, driver.as_ref(), state.code(), 0),
        };
        add.execute(params![tenant.0, driver, state, status, by])?;
    }
    Ok(())
}

fn set_drivers(connection: &Connection, changes: &Changes) -> Result<()> {
    for (driver, paused) in &changes.drivers {
        match paused {
            Some((since, reason)) => connection
                .prepare_cached(
                    "INSERT INTO paused_drivers (driver, since, reason) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET since = excluded.since, reason = excluded.reason",
                )?
                .execute(params![driver, since.as_micros(), reason])?,
            None => connection
                .prepare_cached("DELETE FROM paused_drivers WHERE driver = ?1")?
                .execute([driver])?,
        };
    }
    Ok(())
}
