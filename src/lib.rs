//! Longhaul, a job service.
pub mod proto;
