//! All integration tests in one binary, which links once. Tests drive the real `longhaul` over real sockets, each with a server of its own.

mod access;
mod architecture;
mod canary;
mod cluster;
mod command_line;
mod crash;
mod docs;
mod drain;
mod examples;
mod harness;
mod jobs;
mod large_answers;
mod lifecycle;
mod listing;
mod load;
mod many;
#[path = "../postgres/cluster.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod postgres;
mod quickstart;
mod rest;
mod slow_watcher;
mod state_machine;
mod store_copy;
mod tls;
mod trace_context;
mod watch;
mod wire;
mod worker_death;
