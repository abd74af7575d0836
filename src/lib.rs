//! Longhaul, a job service.
pub mod domain;
pub mod engine;
pub mod grpc;
pub mod proto;
pub mod server;
pub mod store;
