//! All jobs of all tenants, page by page, with everything that is kept of them; and what is noted beside them.

use std::sync::{Arc, LazyLock};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{fault, list::MAX_EXAMINED, read};
use crate::{
    domain::{
        Job, JobKey, Tenant,
        command::{Fingerprint, RequestKey},
    },
    store::{
        Kept, MAX_KEPT_EVENTS, Note, Scan, Scanned, StoreError,
        kept::MAX_SCANNED_BYTES,
        rows::{assemble, number, unsigned},
    },
};

pub(super) const NEXT_TENANT: &str =
    "SELECT tenant FROM jobs WHERE tenant > ?1 ORDER BY tenant LIMIT 1";
pub(super) static BY_KEY: LazyLock<String> = LazyLock::new(|| {
    let columns = read::JOB_COLUMNS;
    format!(
        "SELECT 0, j.tenant, j.id, {columns} FROM jobs AS j WHERE (j.tenant, j.id) > (?1, ?2) ORDER BY j.tenant, j.id LIMIT ?3"
    )
});
/// A job's last change is the event with the job's own revision.
pub(super) static BY_CHANGE: LazyLock<String> = LazyLock::new(|| {
    let columns = read::JOB_COLUMNS;
    format!(
        "SELECT c.at, j.tenant, j.id, {columns}
         FROM (SELECT position AS at, tenant, job, revision FROM events WHERE position > ?1 ORDER BY position LIMIT {MAX_EXAMINED}) AS c
         CROSS JOIN jobs AS j ON j.tenant = c.tenant AND j.id = c.job AND j.revision = c.revision
         LIMIT ?2"
    )
});
static LAST_EXAMINED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT position FROM events WHERE position > ?1 ORDER BY position LIMIT 1 OFFSET {}",
        MAX_EXAMINED - 1
    )
});

/// Tenants after one, by hopping from one to the next.
pub(super) fn tenants(
    connection: &Connection,
    mut after: Option<Tenant>,
    limit: usize,
) -> Result<Vec<Tenant>, StoreError> {
    let mut statement = connection.prepare_cached(NEXT_TENANT)?;
    let mut tenants = Vec::new();
    while tenants.len() < limit {
        let behind = after.as_ref().map_or("", |tenant| &tenant.0);
        let next: Option<Arc<str>> = statement.query_row([behind], |row| row.get(0)).optional()?;
        let Some(tenant) = next.map(Tenant) else {
            break;
        };
        after = Some(tenant.clone());
        tenants.push(tenant);
    }
    Ok(tenants)
}

/// A page: see [`crate::store::Store::scan`].
pub(super) fn page(
    connection: &Connection,
    from: &Scan,
    limit: usize,
) -> Result<Scanned, StoreError> {
    // One more than asked tells whether there is another page.
    let most = read::as_limit(limit.saturating_add(1));
    match from {
        Scan::ByKey(after) => {
            let tenant = after.as_ref().map_or("", |key| &key.tenant.0);
            let id = after
                .as_ref()
                .map_or(&[][..], |key| key.job.0.as_bytes().as_slice());
            let (jobs, is_cut) = jobs(connection, &BY_KEY, params![tenant, id, most], limit)?;
            let last = jobs.last().filter(|_| is_cut);
            Ok(Scanned {
                next: last.map(|(_, kept)| Scan::ByKey(Some(kept.job.key()))),
                jobs: jobs.into_iter().map(|(_, kept)| kept).collect(),
            })
        }
        Scan::ByChange(after) => {
            let begin = after.map_or(0, number);
            let (jobs, is_cut) = jobs(connection, &BY_CHANGE, params![begin, most], limit)?;
            let last = match jobs.last() {
                Some((at, _)) if is_cut => Some(*at),
                _ => connection
                    .prepare_cached(&LAST_EXAMINED)?
                    .query_row([begin], |row| row.get(0))
                    .optional()?,
            };
            let last = last.map(|at| unsigned("position", at)).transpose()?;
            Ok(Scanned {
                next: last.map(|at| Scan::ByChange(Some(at))),
                jobs: jobs.into_iter().map(|(_, kept)| kept).collect(),
            })
        }
    }
}

/// Jobs with their places, and whether there were more than may be told.
fn jobs(
    connection: &Connection,
    sql: &str,
    parameters: &[&dyn rusqlite::ToSql],
    limit: usize,
) -> Result<(Vec<(i64, Kept)>, bool), StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut jobs = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if jobs.len() == limit || bytes > MAX_SCANNED_BYTES {
            return Ok((jobs, true));
        }
        let kept = kept(connection, row)?;
        bytes += kept.memory_bytes();
        jobs.push((row.get(0)?, kept));
    }
    Ok((jobs, false))
}

fn kept(connection: &Connection, row: &Row<'_>) -> Result<Kept, StoreError> {
    let key = read::job_key(Tenant(row.get(1)?), row, 2)?;
    let (fixed, now) = read::job_columns(row, 3)?;
    let tasks = read::tasks(connection, &key)?;
    let events = read::events(connection, &key, 0, MAX_KEPT_EVENTS)?;
    let job = assemble(key.clone(), fixed, now, tasks)?;
    Ok(Kept {
        request: request(connection, &key, &job)?,
        events,
        job: Arc::new(job),
        is_queued: true,
    })
}

/// What its request id stands for. An id that was given to another job since is that one's.
fn request(
    connection: &Connection,
    key: &JobKey,
    job: &Job,
) -> Result<Option<Fingerprint>, StoreError> {
    if job.request_id.is_empty() {
        return Ok(None);
    }
    let request = RequestKey {
        tenant: key.tenant.clone(),
        id: job.request_id.clone(),
    };
    let found = read::requests(connection, &[request])?;
    let own = found.into_iter().find(|(_, record)| record.key == *key);
    Ok(own.map(|(_, record)| record.fingerprint))
}

/// What was noted.
pub(super) fn note(connection: &Connection, note: Note) -> Result<Option<Vec<u8>>, StoreError> {
    let value = connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([note.name()], |row| row.get(0))
        .optional()?;
    Ok(value)
}

/// Notes something; each statement is a transaction of its own.
pub(super) fn set_note(
    connection: &Connection,
    note: Note,
    value: Option<&[u8]>,
) -> Result<(), StoreError> {
    let done = match value {
        Some(value) => connection.execute(
            "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
            params![note.name(), value],
        ),
        None => connection.execute("DELETE FROM meta WHERE key = ?1", [note.name()]),
    };
    done.map_err(fault::in_commit)?;
    Ok(())
}
