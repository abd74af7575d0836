//! The columns of a job.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Coded, RowError, from_json, micros, number, time, to_json, unsigned};
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
    /// NULL exactly if there is no object.
    pub object_type: Option<Cow<'a, str>>,
    pub object_id: Option<Cow<'a, str>>,
    pub object_name: Option<Cow<'a, str>>,
    /// A JSON object of texts; NULL if there are none.
    pub labels: Option<String>,
    pub priority: i64,
    pub creator: Cow<'a, str>,
    pub parent: Option<[u8; 16]>,
    pub failure_policy: i64,
    pub schedule_time: Option<i64>,
    pub traceparent: Cow<'a, str>,
    pub request_id: Cow<'a, str>,
    pub depth: i64,
    pub retry_of: Option<[u8; 16]>,
    pub create_time: i64,
}

/// What changes.
#[derive(Debug)]
pub(crate) struct JobStateRow<'a> {
    pub state: i64,
    pub status: i64,
    pub last_error: Cow<'a, str>,
    pub revision: i64,
    /// JSON; NULL if there are none.
    pub children: Option<String>,
    /// JSON; NULL if none was requested.
    pub cancel: Option<String>,
    pub timer: Option<i64>,
    pub start_time: Option<i64>,
    pub update_time: i64,
    pub end_time: Option<i64>,
    pub expire_time: Option<i64>,
}

impl<'a> JobSpecRow<'a> {
    /// In the order of the fields.
    pub(crate) const COLUMNS: [&'static str; 16] = [
        "action",
        "summary",
        "object_type",
        "object_id",
        "object_name",
        "labels",
        "priority",
        "creator",
        "parent",
        "failure_policy",
        "schedule_time",
        "traceparent",
        "request_id",
        "depth",
        "retry_of",
        "create_time",
    ];

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
            labels: to_json(labels),
            priority: i64::from(*priority),
            creator: creator.into(),
            parent: parent.map(|id| id.0.into_bytes()),
            failure_policy: failure_policy.code(),
            schedule_time: micros(*schedule_time),
            traceparent: traceparent.into(),
            request_id: job.request_id.as_str().into(),
            depth: i64::from(job.depth),
            retry_of: job.retry_of.map(|id| id.0.into_bytes()),
            create_time: job.create_time.as_micros(),
        }
    }

    fn spec(&self) -> Result<JobSpec, RowError> {
        let object = self.object_type.as_ref().map(|kind| Object {
            kind: kind.to_string(),
            id: self.object_id.as_deref().unwrap_or_default().to_owned(),
            name: self.object_name.as_deref().unwrap_or_default().to_owned(),
        });
        Ok(JobSpec {
            action: self.action.to_string(),
            summary: self.summary.to_string(),
            object,
            labels: from_json::<BTreeMap<_, _>>("labels", self.labels.as_deref())?,
            priority: unsigned("priority", self.priority)?,
            creator: self.creator.to_string(),
            parent: self.parent.map(|id| JobId(Uuid::from_bytes(id))),
            failure_policy: FailurePolicy::from_code(self.failure_policy)?,
            schedule_time: time(self.schedule_time),
            traceparent: self.traceparent.to_string(),
        })
    }
}

impl<'a> JobStateRow<'a> {
    /// In the order of the fields.
    pub(crate) const COLUMNS: [&'static str; 11] = [
        "state",
        "status",
        "last_error",
        "revision",
        "children",
        "cancel",
        "timer",
        "start_time",
        "update_time",
        "end_time",
        "expire_time",
    ];

    pub(crate) fn of(job: &'a Job) -> Self {
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
            last_error: last_error.into(),
            revision: number(*revision),
            children: to_json(&ChildrenPart::from(*children)),
            cancel: to_json(&cancel.as_ref().map(CancelPart::from)),
            timer: micros(*timer),
            start_time: micros(*start_time),
            update_time: update_time.as_micros(),
            end_time: micros(*end_time),
            expire_time: micros(*expire_time),
        }
    }
}

/// The job that was taken apart into these.
pub(crate) fn assemble(
    key: JobKey,
    fixed: JobSpecRow<'_>,
    now: JobStateRow<'_>,
    tasks: Vec<Task>,
) -> Result<Job, RowError> {
    let JobKey { tenant, job } = key;
    Ok(Job {
        id: job,
        tenant,
        spec: Arc::new(fixed.spec()?),
        request_id: fixed.request_id.into_owned(),
        depth: unsigned("depth", fixed.depth)?,
        retry_of: fixed.retry_of.map(|id| JobId(Uuid::from_bytes(id))),
        state: JobState::from_code(now.state)?,
        status: Status::from_code(now.status)?,
        last_error: now.last_error.into_owned(),
        revision: unsigned("revision", now.revision)?,
        tasks,
        children: from_json::<ChildrenPart>("children", now.children.as_deref())?.into(),
        cancel: from_json::<Option<CancelPart>>("cancel", now.cancel.as_deref())?.map(Into::into),
        timer: time(now.timer),
        create_time: Timestamp::from_micros(fixed.create_time),
        start_time: time(now.start_time),
        update_time: Timestamp::from_micros(now.update_time),
        end_time: time(now.end_time),
        expire_time: time(now.expire_time),
    })
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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

#[derive(PartialEq, Serialize, Deserialize)]
struct CancelPart {
    requested: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivered: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acknowledged: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forced: Option<i64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl From<&CancelReceipt> for CancelPart {
    fn from(receipt: &CancelReceipt) -> Self {
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
            reason: reason.clone(),
        }
    }
}

impl From<CancelPart> for CancelReceipt {
    fn from(part: CancelPart) -> Self {
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
            reason,
        }
    }
}
