//! The clock of the server: no jump of the system's clock leads it astray.

use std::time::Duration;

use longhaul::{
    domain::Timestamp,
    engine::{Clock as _, SteadyClock},
};

#[test]
fn time_never_goes_behind_what_is_stored() {
    let day = Duration::from_secs(24 * 3600);
    let system = SteadyClock::start(Timestamp::default()).now();
    // As if the system's clock had been set back by a day while the server was down.
    let newest = system.after(day);
    let clock = SteadyClock::start(newest);
    let first = clock.now();
    assert!(first > newest);
    assert!(first < newest.after(day), "and no further than that");
    assert!(clock.now() >= first);
}
