//! Peers that mean harm, against the real server as a process of its own: each is cut off, answered or bounded, while a client that means well is served and the
//! server's memory stays what it was.
//!
//! How long the honest client waits is measured and printed; it is asserted only where LONGHAUL_ABUSE_P99 is set, as `tests/abuse.sh` does: elsewhere other
//! tests share the machine.

mod floods;
mod honest;
mod lengths;
mod quotas;
mod server;
mod silence;
mod strangers;
mod wire;
