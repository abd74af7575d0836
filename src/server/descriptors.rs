//! How many connections the system lets this process have.
//!
//! Where descriptors run out, new connections wait in the kernel: to their clients they look accepted. So there are never more than there are descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not connections: the store's files, the runtime's own, and a connection that is just being refused.
const RESERVED: u64 = 64;

/// Asks for as many descriptors as so many connections need; answers how many connections there may be.
pub(super) fn connections(wanted: usize) -> usize {
    let limit = raise(RESERVED.saturating_add(wanted as u64));
    let possible = possible(limit);
    if possible < wanted {
        tracing::warn!(
            max_connections = wanted,
            possible,
            "this process may not open as many files as max_connections asks for; raise LimitNOFILE of its service, or ulimit -n"
        );
    }
    wanted.min(possible)
}

/// Raises the limit as far as may be, but to no more than is needed: what is started from here inherits it. Answers what it is then; `None` is no limit.
fn raise(needed: u64) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current.filter(|current| *current < needed)?;
    let raised = maximum.map_or(needed, |maximum| maximum.min(needed));
    let limit = Rlimit {
        current: Some(raised),
        maximum,
    };
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => Some(raised),
        Err(error) => {
            tracing::warn!(%error, "the limit on open files can not be raised");
            Some(current)
        }
    }
}

/// Where there are very few, half of them are for the rest.
fn possible(limit: Option<u64>) -> usize {
    let connections = limit.map(|limit| limit - RESERVED.min(limit / 2));
    connections.map_or(usize::MAX, |most| {
        usize::try_from(most).unwrap_or(usize::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_its_descriptors() {
        for (limit, most) in [
            (Some(1_024), 960),
            (Some(64), 32),
            (Some(1), 1),
            (None, usize::MAX),
        ] {
            assert_eq!(possible(limit), most, "{limit:?}");
        }
    }
}
