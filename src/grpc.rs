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

use crate::{
    api::{Caller, traceparent},
    locale::Language,
};

/// The server traits, generated.
#[allow(missing_docs, clippy::allow_attributes, clippy::all, rust_2018_idioms)]
pub(crate) mod service {
    include!(concat!(env!("OUT_DIR"), "/server/longhaul.v1.rs"));
}

/// Who calls, and the message.
fn accept<T>(request: tonic::Request<T>) -> (Caller, T) {
    let text = |key| request.metadata().get(key)?.to_str().ok();
    let language = Language::accepted(text("accept-language"));
    let caller = Caller::anonymous(traceparent(text("traceparent")), language);
    (caller, request.into_inner())
}
