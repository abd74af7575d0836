//! The gRPC front end: the API's methods on the wire. No rules and no conversions.

pub(crate) mod codec;
pub(crate) mod error;
pub(crate) mod frame;

mod admin;
mod jobs;
mod watch;
mod workers;

pub use admin::Admin;
pub use jobs::Jobs;
pub use workers::Workers;

/// The server traits, generated.
#[allow(missing_docs, clippy::allow_attributes, clippy::all, rust_2018_idioms)]
pub(crate) mod service {
    include!(concat!(env!("OUT_DIR"), "/server/longhaul.v1.rs"));
}
