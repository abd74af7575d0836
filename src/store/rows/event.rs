//! An event as a row.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Coded, RowError, number, pack, unpack, unsigned};
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
    /// The rest, packed.
    pub rest: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct RestPart<'a> {
    task: Option<TaskPart>,
    before: Option<(i64, i64)>,
    after: (i64, i64),
    detail: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct TaskPart {
    ordinal: u32,
    id: [u8; 16],
    attempt: u32,
}

impl<'a> EventRow<'a> {
    pub(crate) fn of(event: &'a Event) -> Self {
        let Event {
            tenant,
            job,
            revision,
            time,
            kind,
            task,
            before,
            after,
            detail,
        } = event;
        let codes = |(state, status): (JobState, Status)| (state.code(), status.code());
        Self {
            tenant: tenant.0.as_ref().into(),
            job: job.0.into_bytes(),
            revision: number(*revision),
            time: time.as_micros(),
            kind: kind.code(),
            rest: pack(&RestPart {
                task: task.map(|task| TaskPart {
                    ordinal: task.ordinal,
                    id: task.id.0.into_bytes(),
                    attempt: task.attempt,
                }),
                before: before.map(codes),
                after: codes(*after),
                detail: detail.into(),
            }),
        }
    }

    pub(crate) fn event(self) -> Result<Event, RowError> {
        let rest: RestPart<'_> = unpack("event", &self.rest)?;
        let outcome = |(state, status)| {
            Ok::<_, RowError>((JobState::from_code(state)?, Status::from_code(status)?))
        };
        Ok(Event {
            tenant: Tenant(self.tenant.into()),
            job: JobId(Uuid::from_bytes(self.job)),
            revision: unsigned("revision", self.revision)?,
            time: Timestamp::from_micros(self.time),
            kind: EventKind::from_code(self.kind)?,
            task: rest.task.map(|task| TaskRef {
                ordinal: task.ordinal,
                id: TaskId(Uuid::from_bytes(task.id)),
                attempt: task.attempt,
            }),
            before: rest.before.map(outcome).transpose()?,
            after: outcome(rest.after)?,
            detail: rest.detail.into_owned(),
        })
    }
}
