//! What no well-behaved client sends, over real sockets: each gets a code, a reason and every bad field; the server goes on and nothing panics.

mod bytes;
mod fields;
pub mod half_a_call;
mod sockets;
