//! The columns of rows, as statements name them and as they are read: in one order, from left to right.

use std::{borrow::Cow, collections::BTreeMap};

use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;

use crate::{
    domain::{Document, Job, JobId, JobKey, Task, Tenant, event::Event},
    store::{
        StoreError,
        rows::{
            EventRow, JobSpecRow, JobStateRow, RowError, TaskSpecRow, TaskStateRow, assemble,
            secrets, task,
        },
    },
};

/// The columns of a job that [`Cells::job`] reads, of `j` and of [`WITH_TASKS`].
pub(super) const JOB_COLUMNS: &str = "j.state, j.status, j.revision, j.timer, j.start_time, j.update_time, j.end_time, j.expire_time, j.rest,
    j.parent, j.priority, j.create_time, j.action, j.summary, j.creator, j.object_type, j.object_id, j.object_name, j.labels::text, j.spec,
    t.drivers, t.specs, t.ready_times, t.rests, t.payloads, t.results, t.secrets";
/// Goes behind a `j` with the columns of `jobs`: a job and its tasks in one row, and of one moment.
pub(super) const WITH_TASKS: &str = "LEFT JOIN LATERAL (
        SELECT array_agg(o.driver) AS drivers, array_agg(o.spec) AS specs, array_agg(o.ready_time) AS ready_times, array_agg(o.rest) AS rests,
            array_agg(o.payload) AS payloads, array_agg(o.result) AS results, array_agg(o.secrets) AS secrets
        FROM (
            SELECT k.driver, k.spec, k.ready_time, k.rest, k.payload, k.result, k.secrets FROM tasks AS k
            WHERE k.tenant = j.tenant AND k.job = j.id ORDER BY k.ordinal
        ) AS o
    ) AS t ON true";

/// Bytes of the tasks of a job with their documents, which are not read for that.
pub(super) fn bytes_of(tenant: &str, job: &str) -> String {
    format!(
        "(SELECT coalesce(sum(octet_length(k.spec) + octet_length(k.rest) + coalesce(octet_length(k.payload), 0) + coalesce(octet_length(k.result), 0)
            + coalesce(octet_length(k.secrets), 0)), 0)
          FROM tasks AS k WHERE k.tenant = {tenant} AND k.job = {job})"
    )
}

/// The first of the jobs `j` in this order, each once: as many as have room by their bytes, and one at least. Behind the last of them, if there are more,
/// it `is_cut`.
pub(super) fn that_fit(jobs: &str, order: &str, room: &str) -> String {
    let bytes = bytes_of("j.tenant", "j.id");
    // OFFSET: or PostgreSQL adds up again wherever the sum is used.
    format!(
        "SELECT j.*, j.is_followed AND j.before + j.bytes >= {room} AS is_cut FROM (
            SELECT j.*, coalesce(sum(j.bytes) OVER (jobs ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before,
                lead(true, 1, false) OVER jobs AS is_followed
            FROM (SELECT j.*, {bytes} AS bytes FROM ({jobs}) AS j OFFSET 0) AS j WINDOW jobs AS (ORDER BY {order})
         ) AS j WHERE j.before < {room}"
    )
}

/// The columns of an event that [`Cells::event`] reads.
pub(super) const EVENT_COLUMNS: &str = "tenant, job, revision, time, kind, rest";

/// Reads a row from left to right.
pub(super) struct Cells<'a> {
    row: &'a Row,
    next: usize,
}

impl<'a> Cells<'a> {
    /// Begins with this column.
    pub(super) fn of(row: &'a Row, from: usize) -> Self {
        Self { row, next: from }
    }

    pub(super) fn next<T: FromSql<'a>>(&mut self) -> Result<T, StoreError> {
        let value = self.row.try_get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    pub(super) fn number(&mut self) -> Result<i64, StoreError> {
        self.next::<i16>().map(i64::from)
    }

    pub(super) fn text(&mut self) -> Result<Cow<'static, str>, StoreError> {
        self.next::<String>().map(Into::into)
    }

    fn optional_text(&mut self) -> Result<Option<Cow<'static, str>>, StoreError> {
        Ok(self.next::<Option<String>>()?.map(Into::into))
    }

    /// A tenant and a job's id.
    pub(super) fn key(&mut self) -> Result<JobKey, StoreError> {
        Ok(JobKey {
            tenant: Tenant::new(self.next()?),
            job: JobId(self.next()?),
        })
    }

    /// [`JOB_COLUMNS`].
    pub(super) fn job(&mut self, key: JobKey) -> Result<Job, StoreError> {
        let now = JobStateRow {
            state: self.number()?,
            status: self.number()?,
            revision: self.next()?,
            timer: self.next()?,
            start_time: self.next()?,
            update_time: self.next()?,
            end_time: self.next()?,
            expire_time: self.next()?,
            rest: self.next()?,
        };
        let fixed = JobSpecRow {
            parent: self.next::<Option<Uuid>>()?.map(Uuid::into_bytes),
            priority: self.next::<i32>()?.into(),
            create_time: self.next()?,
            action: self.text()?,
            summary: self.text()?,
            creator: self.text()?,
            object_type: self.optional_text()?,
            object_id: self.optional_text()?,
            object_name: self.optional_text()?,
            labels: Cow::Owned(labels(self.next()?)?),
            spec: self.next()?,
        };
        let tasks = self.tasks()?;
        Ok(assemble(key, fixed, now, tasks)?)
    }

    fn tasks(&mut self) -> Result<Vec<Task>, StoreError> {
        // NULL if there are none.
        let drivers: Vec<&str> = self.next::<Option<_>>()?.unwrap_or_default();
        let specs: Vec<Vec<u8>> = self.next::<Option<_>>()?.unwrap_or_default();
        let ready_times: Vec<Option<i64>> = self.next::<Option<_>>()?.unwrap_or_default();
        let rests: Vec<Vec<u8>> = self.next::<Option<_>>()?.unwrap_or_default();
        let payloads: Vec<Option<Vec<u8>>> = self.next::<Option<_>>()?.unwrap_or_default();
        let results: Vec<Option<Vec<u8>>> = self.next::<Option<_>>()?.unwrap_or_default();
        let sealed: Vec<Option<Vec<u8>>> = self.next::<Option<_>>()?.unwrap_or_default();
        let fixed = drivers.into_iter().zip(specs);
        let now = ready_times.into_iter().zip(rests);
        let documents = payloads.into_iter().zip(results).zip(sealed);
        let document = |body: Option<Vec<u8>>| body.map(|body| Document(body.into()));
        fixed
            .zip(now)
            .zip(documents)
            .map(
                |(((driver, spec), (ready_time, rest)), ((payload, result), sealed))| {
                    let fixed = TaskSpecRow {
                        driver: driver.into(),
                        spec,
                    };
                    let now = TaskStateRow { ready_time, rest };
                    let (payload, result) = (document(payload), document(result));
                    Ok(task(fixed, &now, payload, result, secrets(sealed))?)
                },
            )
            .collect()
    }

    /// [`EVENT_COLUMNS`].
    pub(super) fn event(&mut self) -> Result<Event, StoreError> {
        let row = EventRow {
            tenant: self.text()?,
            job: self.next::<Uuid>()?.into_bytes(),
            revision: self.next()?,
            time: self.next()?,
            kind: self.number()?,
            rest: self.next()?,
        };
        Ok(row.event()?)
    }
}

fn labels(stored: Option<&str>) -> Result<BTreeMap<String, String>, RowError> {
    stored.map_or(Ok(BTreeMap::new()), |json| {
        serde_json::from_str(json).map_err(|error| RowError::new(format!("labels: {error}")))
    })
}
