//! Longhaul, a job service.
pub mod client;
pub mod domain;
pub mod engine;
pub mod grpc;
pub mod proto;
pub mod store;
pub mod worker;
