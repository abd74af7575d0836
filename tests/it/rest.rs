//! The REST gateway as its clients see it: a real server, plain HTTP.

mod agreement;
mod aiqum;
mod deploy;
mod hostile;
mod http;
mod keys;
mod native;
mod nse;
mod openapi;
mod stories;
mod thousand;
pub mod web;
