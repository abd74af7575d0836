//! Longhaul, a job service: submit long-running work, lease it to workers, watch every change live.
//!
//! `ARCHITECTURE.md` has the map of the house and the rules that hold in it.

pub mod api;
pub mod auth;
pub mod bench;
pub mod client;
pub mod domain;
pub mod engine;
pub mod grpc;
pub mod locale;
pub mod proto;
pub mod quota;
pub mod rest;
pub mod server;
pub mod store;
pub mod trust;
pub mod vault;
pub mod worker;
