//! Messages as lines for people. Pure: no I/O and no clock, so that tests compare the lines.

pub mod audit;
pub mod bench;
pub mod events;
pub mod job;
pub mod jobs;
pub mod keys;
pub mod server;
pub mod table;
pub mod tenants;

/// Lines as a terminal without colours shows them.
#[cfg(test)]
fn plain(lines: Vec<String>) -> Vec<String> {
    lines
        .iter()
        .map(|line| anstream::adapter::strip_str(line).to_string())
        .collect()
}
