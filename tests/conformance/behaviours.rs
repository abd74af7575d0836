//! The behaviours, by what they are about.

mod changes;
mod feed;
mod jobs;
mod queue;
mod registry;
mod whole;

pub use changes::*;
pub use feed::*;
pub use jobs::*;
pub use queue::*;
pub use registry::*;
pub use whole::*;
