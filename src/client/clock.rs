//! The clocks of clients and workers, in one place.

use std::time::SystemTime;

use tokio::time::Instant;

/// For how long things take, and for leases: no clock change can stretch or cut them.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place on the clients' side that asks"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// For times that a server names.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place on the clients' side that asks"
)]
pub(crate) fn wall_now() -> SystemTime {
    SystemTime::now()
}
