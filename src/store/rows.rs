//! How jobs, tasks and events are laid out in columns: the same for every SQL store, so that their contents can be compared and copied.
//!
//! Times are integer microseconds since 1970, ids are 16 bytes, enums are the numbers of the proto enums. What is searched or sorted has a column; the
//! rest is packed into one, because the time of a write goes by the number of columns. This module must not know any database. Whoever adds a field to a
//! domain type is stopped here by the compiler, because rows are made by taking the types apart.

mod audit;
mod event;
mod job;
mod record;
mod task;

pub(crate) use audit::AuditRow;
pub(crate) use event::EventRow;
pub(crate) use job::{JobSpecRow, JobStateRow, assemble};
pub(crate) use record::RecordRow;
pub(crate) use task::{TaskSpecRow, TaskStateRow, sealed, secrets, task};

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::domain::{
    JobState, Status, TaskState, Timestamp, event::EventKind, job::FailurePolicy, task::LeaseEnd,
};

/// The form of what is packed, its first byte. Packed parts have no names of fields: whoever changes one of them raises this, and goes on reading
/// the forms before.
const FORM: u8 = 1;
/// Bytes that most of what is packed fits in, so that it is allocated once.
const PACKED_BYTES: usize = 128;

/// Something stored that can not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RowError(String);

impl RowError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// An enum that is stored as a number.
pub(crate) trait Coded: Copy + PartialEq + 'static {
    /// What it is called in errors.
    const NAME: &'static str;
    /// The values whose numbers are 1, 2, 3 and so on.
    const VALUES: &'static [Self];

    /// Its number.
    fn code(self) -> i64 {
        let position = Self::VALUES.iter().position(|value| *value == self);
        position.map_or(0, |at| number(at as u64 + 1))
    }

    /// The value with this number.
    fn from_code(code: i64) -> Result<Self, RowError> {
        usize::try_from(code)
            .ok()
            .and_then(|code| code.checked_sub(1))
            .and_then(|at| Self::VALUES.get(at).copied())
            .ok_or_else(|| RowError(format!("{code} is no {}", Self::NAME)))
    }
}

impl Coded for JobState {
    const NAME: &'static str = "job state";
    const VALUES: &'static [Self] = &Self::ALL;
}

impl Coded for Status {
    const NAME: &'static str = "status";
    const VALUES: &'static [Self] = &Self::ALL;
}

impl Coded for TaskState {
    const NAME: &'static str = "task state";
    const VALUES: &'static [Self] = &Self::ALL;
}

impl Coded for EventKind {
    const NAME: &'static str = "kind of event";
    const VALUES: &'static [Self] = &Self::ALL;
}

impl Coded for FailurePolicy {
    const NAME: &'static str = "failure policy";
    const VALUES: &'static [Self] = &[Self::FailFast, Self::Continue];
}

impl Coded for LeaseEnd {
    const NAME: &'static str = "end of a lease";
    const VALUES: &'static [Self] = &[
        Self::Succeeded,
        Self::Failed,
        Self::Released,
        Self::Cancelled,
    ];
}

/// As SQL holds it: its integers are signed. No counter of ours gets near the end.
pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The unsigned number that was stored under a name.
pub(crate) fn unsigned<T: TryFrom<i64>>(name: &str, value: i64) -> Result<T, RowError> {
    T::try_from(value).map_err(|_| RowError(format!("{name} is {value}")))
}

fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_micros)
}

fn time(micros: Option<i64>) -> Option<Timestamp> {
    micros.map(Timestamp::from_micros)
}

fn pack<T: Serialize>(part: &T) -> Vec<u8> {
    let mut packed = Vec::with_capacity(PACKED_BYTES);
    packed.push(FORM);
    postcard::to_extend(part, packed).expect("texts, numbers and lists of them can be packed")
}

fn unpack<'a, T: Deserialize<'a>>(name: &str, packed: &'a [u8]) -> Result<T, RowError> {
    match packed.split_first() {
        Some((&FORM, part)) => {
            postcard::from_bytes(part).map_err(|error| RowError(format!("{name}: {error}")))
        }
        Some((form, _)) => Err(RowError(format!("{name} has form {form}"))),
        None => Err(RowError(format!("{name} is empty"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes_round_trip<T: Coded + std::fmt::Debug>() {
        for value in T::VALUES {
            assert_eq!(T::from_code(value.code()).as_ref(), Ok(value));
            assert_ne!(value.code(), 0, "{value:?} is not among the values");
        }
        assert!(T::from_code(0).is_err());
        assert!(T::from_code(-1).is_err());
        assert!(T::from_code(number(T::VALUES.len() as u64) + 1).is_err());
    }

    #[test]
    fn every_code_reads_back_as_what_was_written_and_no_other_is_read() {
        codes_round_trip::<JobState>();
        codes_round_trip::<Status>();
        codes_round_trip::<TaskState>();
        codes_round_trip::<EventKind>();
        codes_round_trip::<FailurePolicy>();
        codes_round_trip::<LeaseEnd>();
    }

    #[test]
    fn codes_are_the_numbers_of_the_proto_enums() {
        use crate::proto::v1;
        for state in JobState::ALL {
            let number = i32::try_from(state.code()).unwrap();
            let proto = v1::job::State::try_from(number).unwrap();
            assert_eq!(proto.as_str_name(), format!("STATE_{}", state.name()));
        }
        for state in TaskState::ALL {
            let number = i32::try_from(state.code()).unwrap();
            let proto = v1::job_task::State::try_from(number).unwrap();
            assert_eq!(proto.as_str_name(), format!("STATE_{}", state.name()));
        }
        for status in Status::ALL {
            let number = i32::try_from(status.code()).unwrap();
            let proto = v1::job::Status::try_from(number).unwrap();
            assert_eq!(proto.as_str_name(), format!("STATUS_{}", status.name()));
        }
    }
}
