//! A job as a row: what is searched or sorted has a column, the rest is packed.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Coded, RowError, micros, number, pack, time, unpack, unsigned};
use crate::domain::{
    Job, JobId, JobKey, JobSpec, JobState, Status, Task, Timestamp,
    job::{CancelReceipt, ChildCounts, FailurePolicy},
    task::Object,
};

/// What never changes.
#[derive(Debug)]
pub(crate) struct JobSpecRow<'a> {
    pub action: Cow<'a, str>,
    pub summary: Cow<'a, str>,
    /// NULL, as are the next two, exactly if there is no object.
    pub object_type: Option<Cow<'a, str>>,
    pub object_id: Option<Cow<'a, str>>,
    pub object_name: Option<Cow<'a, str>>,
    /// In whatever form the database can search; NULL if there are none.
    pub labels: Cow<'a, BTreeMap<String, String>>,
    pub priority: i64,
    pub creator: Cow<'a, str>,
    pub parent: Option<[u8; 16]>,
    pub create_time: i64,
    /// The rest, packed.
    pub spec: Vec<u8>,
}

/// What changes.
#[derive(Debug)]
pub(crate) struct JobStateRow {
    pub state: i64,
    pub status: i64,
    pub revision: i64,
    pub timer: Option<i64>,
    pub start_time: Option<i64>,
    pub update_time: i64,
    pub end_time: Option<i64>,
    pub expire_time: Option<i64>,
    /// The rest, packed.
    pub rest: Vec<u8>,
}

impl<'a> JobSpecRow<'a> {
    pub(crate) fn of(job: &'a Job) -> Self {
        let JobSpec {
            action,
            summary,
            object,
            labels,
            priority,
            creator,
            parent,
            failure_policy,
            schedule_time,
            traceparent,
        } = job.spec.as_ref();
        let object = object.as_ref();
        Self {
            action: action.into(),
            summary: summary.into(),
            object_type: object.map(|o| o.kind.as_str().into()),
            object_id: object.map(|o| o.id.as_str().into()),
            object_name: object.map(|o| o.name.as_str().into()),
            labels: Cow::Borrowed(labels),
            priority: i64::from(*priority),
            creator: creator.into(),
            parent: parent.map(|id| id.0.into_bytes()),
            create_time: job.create_time.as_micros(),
            spec: pack(&SpecPart {
                former_summary: "".into(),
                failure_policy: failure_policy.code(),
                schedule_time: micros(*schedule_time),
                traceparent: traceparent.into(),
                request_id: job.request_id.as_str().into(),
                depth: job.depth,
                retry_of: job.retry_of.map(|id| id.0.into_bytes()),
            }),
        }
    }
}

impl JobStateRow {
    pub(crate) fn of(job: &Job) -> Self {
        let Job {
            id: _,
            tenant: _,
            spec: _,
            request_id: _,
            depth: _,
            retry_of: _,
            create_time: _,
            state,
            status,
            last_error,
            revision,
            tasks: _,
            children,
            cancel,
            timer,
            start_time,
            update_time,
            end_time,
            expire_time,
        } = job;
        Self {
            state: state.code(),
            status: status.code(),
            revision: number(*revision),
            timer: micros(*timer),
            start_time: micros(*start_time),
            update_time: update_time.as_micros(),
            end_time: micros(*end_time),
            expire_time: micros(*expire_time),
            rest: pack(&StatePart {
                last_error: last_error.into(),
                children: ChildrenPart::from(*children),
                cancel: cancel.as_ref().map(CancelPart::from),
                former_start_time: None,
                former_end_time: None,
            }),
        }
    }
}

/// The job that was taken apart into these.
pub(crate) fn assemble(
    key: JobKey,
    fixed: JobSpecRow<'_>,
    now: JobStateRow,
    tasks: Vec<Task>,
) -> Result<Job, RowError> {
    let JobKey { tenant, job } = key;
    let part: SpecPart<'_> = unpack("spec", &fixed.spec)?;
    let rest: StatePart<'_> = unpack("rest", &now.rest)?;
    let spec = JobSpec {
        action: fixed.action.into_owned(),
        summary: fixed.summary.into_owned(),
        object: fixed.object_type.map(|kind| Object {
            kind: kind.into_owned(),
            id: fixed.object_id.unwrap_or_default().into_owned(),
            name: fixed.object_name.unwrap_or_default().into_owned(),
        }),
        labels: fixed.labels.into_owned(),
        priority: unsigned("priority", fixed.priority)?,
        creator: fixed.creator.into_owned(),
        parent: fixed.parent.map(|id| JobId(Uuid::from_bytes(id))),
        failure_policy: FailurePolicy::from_code(part.failure_policy)?,
        schedule_time: time(part.schedule_time),
        traceparent: part.traceparent.into_owned(),
    };
    Ok(Job {
        id: job,
        tenant,
        spec: Arc::new(spec),
        request_id: part.request_id.into_owned(),
        depth: part.depth,
        retry_of: part.retry_of.map(|id| JobId(Uuid::from_bytes(id))),
        state: JobState::from_code(now.state)?,
        status: Status::from_code(now.status)?,
        last_error: rest.last_error.into_owned(),
        revision: unsigned("revision", now.revision)?,
        tasks,
        children: rest.children.into(),
        cancel: rest.cancel.map(Into::into),
        timer: time(now.timer),
        create_time: Timestamp::from_micros(fixed.create_time),
        start_time: time(now.start_time),
        update_time: Timestamp::from_micros(now.update_time),
        end_time: time(now.end_time),
        expire_time: time(now.expire_time),
    })
}

/// What of a job's specification has no column of its own.
#[derive(Serialize, Deserialize)]
struct SpecPart<'a> {
    /// Has a column by now: empty, or as it was before that.
    former_summary: Cow<'a, str>,
    failure_policy: i64,
    schedule_time: Option<i64>,
    traceparent: Cow<'a, str>,
    request_id: Cow<'a, str>,
    depth: u32,
    retry_of: Option<[u8; 16]>,
}

/// What of a job's state has no column of its own.
#[derive(Serialize, Deserialize)]
struct StatePart<'a> {
    last_error: Cow<'a, str>,
    children: ChildrenPart,
    cancel: Option<CancelPart<'a>>,
    /// These two have columns by now: nothing, or as it was before that.
    former_start_time: Option<i64>,
    former_end_time: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct ChildrenPart {
    total: u32,
    succeeded: u32,
    failed: u32,
    cancelled: u32,
}

impl From<ChildCounts> for ChildrenPart {
    fn from(counts: ChildCounts) -> Self {
        let ChildCounts {
            total,
            succeeded,
            failed,
            cancelled,
        } = counts;
        Self {
            total,
            succeeded,
            failed,
            cancelled,
        }
    }
}

impl From<ChildrenPart> for ChildCounts {
    fn from(part: ChildrenPart) -> Self {
        let ChildrenPart {
            total,
            succeeded,
            failed,
            cancelled,
        } = part;
        Self {
            total,
            succeeded,
            failed,
            cancelled,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct CancelPart<'a> {
    requested: i64,
    delivered: Option<i64>,
    acknowledged: Option<i64>,
    forced: Option<i64>,
    reason: Cow<'a, str>,
}

impl<'a> From<&'a CancelReceipt> for CancelPart<'a> {
    fn from(receipt: &'a CancelReceipt) -> Self {
        let CancelReceipt {
            requested,
            delivered,
            acknowledged,
            forced,
            reason,
        } = receipt;
        Self {
            requested: requested.as_micros(),
            delivered: micros(*delivered),
            acknowledged: micros(*acknowledged),
            forced: micros(*forced),
            reason: reason.into(),
        }
    }
}

impl From<CancelPart<'_>> for CancelReceipt {
    fn from(part: CancelPart<'_>) -> Self {
        let CancelPart {
            requested,
            delivered,
            acknowledged,
            forced,
            reason,
        } = part;
        Self {
            requested: Timestamp::from_micros(requested),
            delivered: time(delivered),
            acknowledged: time(acknowledged),
            forced: time(forced),
            reason: reason.into_owned(),
        }
    }
}
