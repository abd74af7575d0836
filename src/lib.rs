//! Longhaul, a job service.
pub mod domain;
pub mod proto;
pub mod store;
