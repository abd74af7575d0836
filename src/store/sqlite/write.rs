//! Writing what a batch decided: each kind of row with one prepared statement, one after another. Nothing is read back; of a job that changed only
//! what can change is written, and large documents are written once.

use std::sync::LazyLock;

use rusqlite::{Connection, Result, params, types::Value};

use crate::{
    domain::{
        Document, Job, JobKey, Task,
        command::{Changes, JobWrite, WriteKind},
        counts::Counted,
    },
    store::rows::{Coded, EventRow, JobSpecRow, JobStateRow, TaskSpecRow, TaskStateRow, number},
};

/// Documents of more bytes than this have a row of their own; smaller ones cost less in the task's.
const MAX_INLINE_BYTES: usize = 1_024;

static INSERT_JOB: LazyLock<String> = LazyLock::new(|| {
    let key: &[&str] = &["tenant", "id"];
    insert(
        "jobs",
        &[key, &JobSpecRow::COLUMNS, &JobStateRow::COLUMNS].concat(),
    )
});
static UPDATE_JOB: LazyLock<String> =
    LazyLock::new(|| update("jobs", &JobStateRow::COLUMNS, &["tenant", "id"]));
static INSERT_TASK: LazyLock<String> = LazyLock::new(|| {
    let key: &[&str] = &["tenant", "job", "ordinal", "priority"];
    insert(
        "tasks",
        &[
            key,
            &TaskSpecRow::COLUMNS,
            &TaskStateRow::COLUMNS,
            &["payload", "result"],
        ]
        .concat(),
    )
});
static UPDATE_TASK: LazyLock<String> =
    LazyLock::new(|| update("tasks", &TaskStateRow::COLUMNS, &TASK_KEY));
static UPDATE_TASK_AND_RESULT: LazyLock<String> = LazyLock::new(|| {
    let result: &[&str] = &["result"];
    update(
        "tasks",
        &[&TaskStateRow::COLUMNS, result].concat(),
        &TASK_KEY,
    )
});
static INSERT_EVENT: LazyLock<String> = LazyLock::new(|| {
    let key: &[&str] = &["position"];
    insert("events", &[key, &EventRow::COLUMNS].concat())
});

const TASK_KEY: [&str; 3] = ["tenant", "job", "ordinal"];

fn insert(table: &str, columns: &[&str]) -> String {
    let values: Vec<String> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
    format!(
        "INSERT INTO {table} ({}) VALUES ({})",
        columns.join(", "),
        values.join(", ")
    )
}

fn update(table: &str, columns: &[&str], key: &[&str]) -> String {
    let pair = |(at, column): (usize, &&str)| format!("{column} = ?{}", at + 1);
    let mut pairs = columns.iter().chain(key).enumerate().map(pair);
    let set: Vec<String> = pairs.by_ref().take(columns.len()).collect();
    let key: Vec<String> = pairs.collect();
    format!(
        "UPDATE {table} SET {} WHERE {}",
        set.join(", "),
        key.join(" AND ")
    )
}

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
    let mut insert_job = connection.prepare_cached(&INSERT_JOB)?;
    for write in inserted() {
        let job = &write.job;
        let (fixed, now) = (JobSpecRow::of(job), JobStateRow::of(job));
        insert_job.execute(params![
            job.tenant.0,
            job.id.0.as_bytes(),
            fixed.action,
            fixed.summary,
            fixed.object_type,
            fixed.object_id,
            fixed.object_name,
            fixed.labels,
            fixed.priority,
            fixed.creator,
            fixed.parent,
            fixed.failure_policy,
            fixed.schedule_time,
            fixed.traceparent,
            fixed.request_id,
            fixed.depth,
            fixed.retry_of,
            fixed.create_time,
            now.state,
            now.status,
            now.last_error,
            now.revision,
            now.children,
            now.cancel,
            now.timer,
            now.start_time,
            now.update_time,
            now.end_time,
            now.expire_time,
        ])?;
    }
    let mut insert_task = connection.prepare_cached(&INSERT_TASK)?;
    for write in inserted() {
        let job = &write.job;
        for (ordinal, task) in (0_i64..).zip(&job.tasks) {
            let (fixed, now) = (TaskSpecRow::of(task), TaskStateRow::of(task));
            insert_task.execute(params![
                job.tenant.0,
                job.id.0.as_bytes(),
                ordinal,
                job.spec.priority,
                fixed.id,
                fixed.name,
                fixed.action,
                fixed.driver,
                fixed.spec,
                now.state,
                now.status,
                now.status_detail,
                now.last_error,
                now.attempt,
                now.failures,
                now.fencing_token,
                now.lost_leases,
                now.worker,
                now.lease_expiry,
                now.last_end,
                now.last_end_token,
                now.notes,
                now.schedule_time,
                now.ready_time,
                now.first_ready_time,
                now.start_time,
                now.update_time,
                now.end_time,
                store_document(connection, task.spec.request_payload.as_ref())?,
                store_document(connection, task.result.as_ref())?,
            ])?;
        }
    }
    Ok(())
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
    let mut update_job = connection.prepare_cached(&UPDATE_JOB)?;
    for (job, _, _) in updated().filter(|(_, is_changed, _)| *is_changed) {
        let now = JobStateRow::of(job);
        let found = update_job.execute(params![
            now.state,
            now.status,
            now.last_error,
            now.revision,
            now.children,
            now.cancel,
            now.timer,
            now.start_time,
            now.update_time,
            now.end_time,
            now.expire_time,
            job.tenant.0,
            job.id.0.as_bytes(),
        ])?;
        expect_one(found)?;
    }
    for (job, _, tasks) in updated() {
        for ordinal in tasks {
            update_task(connection, job, *ordinal, &job.tasks[*ordinal as usize])?;
        }
    }
    Ok(())
}

fn update_task(connection: &Connection, job: &Job, ordinal: u32, task: &Task) -> Result<()> {
    let now = TaskStateRow::of(task);
    // A result, once written, stays as it is, and a task without one has none to clear: see `WriteKind::Update`.
    let found = match &task.result {
        None => connection.prepare_cached(&UPDATE_TASK)?.execute(params![
            now.state,
            now.status,
            now.status_detail,
            now.last_error,
            now.attempt,
            now.failures,
            now.fencing_token,
            now.lost_leases,
            now.worker,
            now.lease_expiry,
            now.last_end,
            now.last_end_token,
            now.notes,
            now.schedule_time,
            now.ready_time,
            now.first_ready_time,
            now.start_time,
            now.update_time,
            now.end_time,
            job.tenant.0,
            job.id.0.as_bytes(),
            ordinal,
        ])?,
        Some(result) => {
            let result = stored_result(connection, job, ordinal, result)?;
            connection
                .prepare_cached(&UPDATE_TASK_AND_RESULT)?
                .execute(params![
                    now.state,
                    now.status,
                    now.status_detail,
                    now.last_error,
                    now.attempt,
                    now.failures,
                    now.fencing_token,
                    now.lost_leases,
                    now.worker,
                    now.lease_expiry,
                    now.last_end,
                    now.last_end_token,
                    now.notes,
                    now.schedule_time,
                    now.ready_time,
                    now.first_ready_time,
                    now.start_time,
                    now.update_time,
                    now.end_time,
                    result,
                    job.tenant.0,
                    job.id.0.as_bytes(),
                    ordinal,
                ])?
        }
    };
    expect_one(found)
}

/// An update of what is not there must not pass in silence.
fn expect_one(found: usize) -> Result<()> {
    match found {
        1 => Ok(()),
        _ => Err(rusqlite::Error::StatementChangedRows(found)),
    }
}

/// What goes into the column of a document; a large one gets a row of its own.
fn store_document(connection: &Connection, document: Option<&Document>) -> Result<Value> {
    match document {
        None => Ok(Value::Null),
        Some(Document(body)) if body.len() <= MAX_INLINE_BYTES => Ok(body.to_vec().into()),
        Some(Document(body)) => {
            connection
                .prepare_cached("INSERT INTO documents (body) VALUES (?1)")?
                .execute([body.as_ref()])?;
            Ok(connection.last_insert_rowid().into())
        }
    }
}

/// As [`store_document`], but a large result that is stored already is not stored again.
fn stored_result(
    connection: &Connection,
    job: &Job,
    ordinal: u32,
    result: &Document,
) -> Result<Value> {
    if result.0.len() > MAX_INLINE_BYTES {
        let stored: Value = connection
            .prepare_cached(
                "SELECT result FROM tasks WHERE tenant = ?1 AND job = ?2 AND ordinal = ?3",
            )?
            .query_row(params![job.tenant.0, job.id.0.as_bytes(), ordinal], |row| {
                row.get(0)
            })?;
        if let Value::Integer(_) = stored {
            return Ok(stored);
        }
    }
    store_document(connection, Some(result))
}

fn delete_jobs(connection: &Connection, jobs: &[JobWrite]) -> Result<()> {
    for write in jobs.iter().filter(|write| write.how == WriteKind::Delete) {
        let JobKey { tenant, job } = write.job.key();
        let key = params![tenant.0, job.0.as_bytes()];
        for sql in [
            "DELETE FROM documents WHERE id IN (
                SELECT payload FROM tasks WHERE tenant = ?1 AND job = ?2 AND typeof(payload) = 'integer'
                UNION ALL
                SELECT result FROM tasks WHERE tenant = ?1 AND job = ?2 AND typeof(result) = 'integer')",
            "DELETE FROM tasks WHERE tenant = ?1 AND job = ?2",
            "DELETE FROM events WHERE tenant = ?1 AND job = ?2",
            "DELETE FROM jobs WHERE tenant = ?1 AND id = ?2",
        ] {
            connection.prepare_cached(sql)?.execute(key)?;
        }
        connection
            .prepare_cached("DELETE FROM request_ids WHERE tenant = ?1 AND id = ?2 AND job = ?3")?
            .execute(params![tenant.0, write.job.request_id, job.0.as_bytes()])?;
    }
    Ok(())
}

fn insert_events(connection: &Connection, changes: &Changes, first_position: u64) -> Result<()> {
    let mut insert_event = connection.prepare_cached(&INSERT_EVENT)?;
    for (position, event) in (number(first_position)..).zip(&changes.events) {
        let event = EventRow::of(event);
        insert_event.execute(params![
            position,
            event.tenant,
            event.job,
            event.revision,
            event.time,
            event.kind,
            event.ordinal,
            event.task,
            event.attempt,
            event.state_before,
            event.status_before,
            event.state,
            event.status,
            event.detail,
        ])?;
    }
    Ok(())
}

fn insert_requests(connection: &Connection, changes: &Changes) -> Result<()> {
    if changes.requests.is_empty() {
        return Ok(());
    }
    let mut insert_request = connection.prepare_cached(
        "INSERT INTO request_ids (tenant, id, job, fingerprint) VALUES (?1, ?2, ?3, ?4)",
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
        "INSERT INTO counters (tenant, driver, state, count) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET count = count + excluded.count",
    )?;
    for (counted, by) in changes.counts.iter() {
        let (tenant, driver, state) = match counted {
            Counted::Jobs(tenant, state) => (tenant, "", state.code()),
            Counted::Tasks(tenant, driver, state) => (tenant, driver.as_ref(), state.code()),
        };
        add.execute(params![tenant.0, driver, state, by])?;
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
