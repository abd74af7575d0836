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

use tonic::{Request, Status};

use crate::{api::Caller, domain::access::Permission, locale::Language};

/// The server traits, generated.
#[allow(missing_docs, clippy::allow_attributes, clippy::all, rust_2018_idioms)]
pub(crate) mod service {
    include!(concat!(env!("OUT_DIR"), "/server/longhaul.v1.rs"));
}

/// Who calls, and the message. Whether it may was found out below the routes.
fn accept<T>(request: Request<T>) -> Result<(Caller, T), Status> {
    let text = |key| request.metadata().get(key)?.to_str().ok();
    let caller = Caller::admitted(request.extensions(), text, Permission::Identified, ("", ""));
    let caller = caller.map_err(|fault| error::status(&fault, Language::English))?;
    Ok((caller, request.into_inner()))
}
