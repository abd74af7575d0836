//! The columns of an event.

use std::borrow::Cow;

use uuid::Uuid;

use super::{Coded, RowError, number, unsigned};
use crate::domain::{
    JobId, JobState, Status, TaskId, Tenant, Timestamp,
    event::{Event, EventKind, TaskRef},
};

/// All of an event, but for its position.
#[derive(Debug)]
pub(crate) struct EventRow<'a> {
    pub tenant: Cow<'a, str>,
    pub job: [u8; 16],
    pub revision: i64,
    pub time: i64,
    pub kind: i64,
    /// NULL, as are the next two, if the event is not about a task.
    pub ordinal: Option<i64>,
    pub task: Option<[u8; 16]>,
    pub attempt: Option<i64>,
    /// NULL, as is the next one, if the job is new.
    pub state_before: Option<i64>,
    pub status_before: Option<i64>,
    pub state: i64,
    pub status: i64,
    pub detail: Cow<'a, str>,
}

impl<'a> EventRow<'a> {
    /// In the order of the fields.
    pub(crate) const COLUMNS: [&'static str; 13] = [
        "tenant",
        "job",
        "revision",
        "time",
        "kind",
        "ordinal",
        "task",
        "attempt",
        "state_before",
        "status_before",
        "state",
        "status",
        "detail",
    ];

    pub(crate) fn of(event: &'a Event) -> Self {
        let Event {
            tenant,
            job,
            revision,
            time,
            kind,
            task,
            before,
            after: (state, status),
            detail,
        } = event;
        Self {
            tenant: tenant.0.as_ref().into(),
            job: job.0.into_bytes(),
            revision: number(*revision),
            time: time.as_micros(),
            kind: kind.code(),
            ordinal: task.map(|task| i64::from(task.ordinal)),
            task: task.map(|task| task.id.0.into_bytes()),
            attempt: task.map(|task| i64::from(task.attempt)),
            state_before: before.map(|(state, _)| state.code()),
            status_before: before.map(|(_, status)| status.code()),
            state: state.code(),
            status: status.code(),
            detail: detail.into(),
        }
    }

    pub(crate) fn event(self) -> Result<Event, RowError> {
        let task = match (self.ordinal, self.task, self.attempt) {
            (Some(ordinal), Some(id), Some(attempt)) => Some(TaskRef {
                ordinal: unsigned("ordinal", ordinal)?,
                id: TaskId(Uuid::from_bytes(id)),
                attempt: unsigned("attempt", attempt)?,
            }),
            _ => None,
        };
        let before = match (self.state_before, self.status_before) {
            (Some(state), Some(status)) => {
                Some((JobState::from_code(state)?, Status::from_code(status)?))
            }
            _ => None,
        };
        Ok(Event {
            tenant: Tenant(self.tenant.into()),
            job: JobId(Uuid::from_bytes(self.job)),
            revision: unsigned("revision", self.revision)?,
            time: Timestamp::from_micros(self.time),
            kind: EventKind::from_code(self.kind)?,
            task,
            before,
            after: (
                JobState::from_code(self.state)?,
                Status::from_code(self.status)?,
            ),
            detail: self.detail.into_owned(),
        })
    }
}
