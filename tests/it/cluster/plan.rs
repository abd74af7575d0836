//! What is done to a cluster, and when: all of it from a seed.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use super::fleet::NODES;

/// The pause before a blow. Shorter than most of them take, so that some overlap.
const PAUSE_MS: std::ops::Range<u64> = 100..1_800;
/// How long a node that was killed stays away.
const DOWN_MS: std::ops::Range<u64> = 0..1_500;
/// How often each is done by the whole plan.
const KILLS: usize = 50;
const CRASHES: usize = 20;
const CUTS: usize = 50;
const FREEZES: usize = 10;

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blow {
    /// `kill -9` of a node, and its start some time later.
    Kill { node: usize, down: Duration },
    /// A node is stopped for twice as long as a lease lasts, and goes on.
    Freeze { node: usize },
    /// The database crashes and recovers.
    Crash,
    /// The connections that listen for notifications are cut.
    Cut,
}

/// Each blow with the pause before it.
pub type Plan = Vec<(Duration, Blow)>;

/// So many percent of the whole plan, but each kind at least once.
pub fn plan(seed: u64, percent: usize) -> Plan {
    let mut rng = StdRng::seed_from_u64(seed);
    let share = |whole: usize| (whole * percent).div_ceil(100).max(1);
    let mut blows = Vec::new();
    for _ in 0..share(KILLS) {
        blows.push(Blow::Kill {
            node: rng.random_range(0..NODES),
            down: Duration::from_millis(rng.random_range(DOWN_MS)),
        });
    }
    for _ in 0..share(FREEZES) {
        let node = rng.random_range(0..NODES);
        blows.push(Blow::Freeze { node });
    }
    blows.extend(vec![Blow::Crash; share(CRASHES)]);
    blows.extend(vec![Blow::Cut; share(CUTS)]);
    blows.shuffle(&mut rng);
    let pause = |blow| {
        let pause = Duration::from_millis(rng.random_range(PAUSE_MS));
        (pause, blow)
    };
    blows.into_iter().map(pause).collect()
}

#[test]
fn a_plan_is_that_of_its_seed_and_has_its_share_of_each_blow() {
    assert_eq!(plan(7, 10), plan(7, 10));
    assert_ne!(plan(7, 10), plan(8, 10));
    for (percent, shares) in [(100, [50, 10, 20, 50]), (10, [5, 1, 2, 5]), (1, [1; 4])] {
        let plan = plan(7, percent);
        let kinds: [fn(&Blow) -> bool; 4] = [
            |blow| matches!(blow, Blow::Kill { .. }),
            |blow| matches!(blow, Blow::Freeze { .. }),
            |blow| *blow == Blow::Crash,
            |blow| *blow == Blow::Cut,
        ];
        let counts = kinds.map(|kind| plan.iter().filter(|(_, blow)| kind(blow)).count());
        assert_eq!(counts, shares, "{percent} %");
    }
}
