//! All integration tests in one binary, which links once. Tests drive the real `longhaul` over real sockets, each with a server of its own.

mod architecture;
mod command_line;
mod docs;
mod harness;
mod lifecycle;
mod quickstart;
mod state_machine;
