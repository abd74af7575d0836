//! What a job is and how it changes. Pure: no IO, no async, no clock, no randomness of its own, no proto.
//!
//! Everything that happens to a job is a [`command::Command`]; [`decide::decide`] turns a batch of them into changes, replies and events. The
//! state machine is in [`transition`] and nowhere else.

pub mod access;
pub mod audit;
pub mod claim;
pub mod command;
pub mod counts;
pub mod decide;
pub mod event;
pub mod explain;
pub mod filter;
pub mod id;
pub mod job;
pub mod lifecycle;
pub mod limits;
pub mod reach;
pub mod registry;
pub mod report;
pub mod secrecy;
pub mod submission;
pub mod task;
pub mod time;
pub mod transition;
pub mod wording;
mod working;

pub use id::{JobId, JobKey, LeaseKey, TaskId, Tenant};
pub use job::{Job, JobSpec, JobState, Status};
pub use task::{Document, Task, TaskSpec, TaskState};
pub use time::Timestamp;
