//! The gRPC front end: authorise, convert, call the engine, convert. No rules.
//!
//! Conversions are free functions per type that take messages apart field by field, so that a new field breaks the build and not the API. Errors are
//! mapped in `error` and nowhere else.

pub(crate) mod codec;
pub(crate) mod error;
pub(crate) mod frame;

mod admin;
mod admit;
mod jobs;
mod lease;
mod render;
mod room;
mod submission;
mod watch;
mod workers;

pub use admin::{Admin, ServerFacts};
pub use jobs::Jobs;
pub use workers::Workers;

/// The server traits, generated.
#[allow(missing_docs, clippy::allow_attributes, clippy::all, rust_2018_idioms)]
pub(crate) mod service {
    include!(concat!(env!("OUT_DIR"), "/server/longhaul.v1.rs"));
}

/// The largest message that is accepted, in bytes: a full batch of small jobs, or the largest job with room to spare.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
