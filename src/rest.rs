//! The REST front end: the native API, and dialects that existing clients speak. Projections and query grammars of what the engine says; no rules.
//!
//! `gateway` finds what answers a request. `native` is driven by the HTTP forms in the contract's descriptors, so that gRPC and REST can not drift apart.
//! `routes` turns requests on configured paths into jobs. Each dialect is a file: its projection of a job, and its query grammar.

mod aiqum;
mod answer;
mod body;
mod call;
mod deploy;
mod dialect;
mod documented;
mod gateway;
mod health;
mod hosts;
mod masking;
mod native;
mod nse;
mod openapi;
mod pages;
mod polls;
mod query;
mod reference;
pub mod routes;
mod standing;
mod submit;
mod terms;

pub use gateway::{Gateway, GatewayError, GatewaySettings};
pub use hosts::Hosts;
