//! Longhaul, a job service.
pub mod client;
pub mod proto;
pub mod worker;
