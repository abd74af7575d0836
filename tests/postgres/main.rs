//! What tests on PostgreSQL stand on: that the servers they start do what they are told, and that nothing is left of them.

#[path = "cluster.rs"]
mod postgres;

mod fake;
mod leftovers;
mod reaching;
mod refusing;
mod servers;
