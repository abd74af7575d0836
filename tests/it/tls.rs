//! TLS and credentials, as clients of any kind meet them.

pub mod certificates;
mod command_line;
mod credentials;
mod protocols;
mod reload;
