//! Who may do what: every method and every route, with every kind of credential, on every thing that belongs to somebody. What there is to be tried is read from the
//! contract and from the server's own description, so that what is new is tried as well, or fails the tests until somebody says how.

mod admin;
mod audit;
mod bypass;
mod cast;
mod contract;
mod ends;
mod fields;
#[path = "../conformance/fixture.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;
mod isolation;
mod matrix;
#[path = "../postgres/cluster.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod postgres;
mod reading;
mod requests;
mod rest;
mod served;
mod wire;
mod work;
