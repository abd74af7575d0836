//! Three nodes under load, each of which is killed and stopped, on a database that crashes and forgets who listens: nothing acknowledged is lost, each job
//! ends once, stale reports are refused, and every watcher sees it all, at one node or another.
//!
//! What is done and when comes from a seed, which is printed. `tests/cluster.sh` does all of it; without, it is a tenth. The last test is the same
//! with clients that make mistakes, each of which the checker has to find.

use std::{env, fs, sync::Arc, time::Duration};

use tokio::task::spawn_blocking;

use super::{
    fleet::Fleet,
    plan::{Blow, Plan, plan},
    relay::Relay,
    report,
};
use crate::{
    load::{
        Crowd, Slip, Stage,
        checker::{Fault, check},
        history::History,
        seen::Seen,
    },
    postgres::{Cluster, Options},
};

const CROWD: Crowd = Crowd {
    submitters: 8,
    workers: 3,
    streams: 2,
    rivals: 3,
    // With the watcher of each submitter, a dozen.
    followers: 4,
};
/// Room for three nodes, with a few connections to spare.
const MAX_CONNECTIONS: u16 = 40;
/// Percent of what `tests/cluster.sh` does.
const PERCENT: usize = 10;

/// Where the newest history is, for whoever wants to know.
const HISTORY: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/cluster.txt");

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_its_promises_whatever_is_done_to_it() {
    let seed = setting("LONGHAUL_CLUSTER_SEED").unwrap_or_else(rand::random);
    let percent = setting("LONGHAUL_CLUSTER_PERCENT").map_or(PERCENT, |n| n.try_into().unwrap());
    report(&format!("{percent} % with seed {seed}"));
    let plan = plan(seed, percent);
    let planned = plan.iter().map(|(_, blow)| format!("{blow:?}"));
    let planned: Vec<_> = planned.collect();
    let facts = run(seed, plan, &[]).await.facts();
    let seen = Seen::of(&facts);
    report(&seen.to_string());
    let faults = check(&facts);
    assert!(
        faults.is_empty(),
        "seed {seed}: {faults:#?}\nall that happened is in {HISTORY}"
    );
    let lacks = seen.lacks(planned);
    assert!(
        lacks.is_empty(),
        "seed {seed}: a run with so few of these proves little: {lacks:#?}"
    );
}

/// A crowd and three nodes, through what is planned.
async fn run(seed: u64, plan: Plan, slips: &'static [Slip]) -> History {
    let options = Options::default().max_connections(MAX_CONNECTIONS);
    let cluster = spawn_blocking(|| Cluster::start(options)).await.unwrap();
    let fleet = Arc::new(Fleet::start_on(cluster).await);
    let servers = fleet.endpoints().iter();
    let servers = servers.map(|endpoint| endpoint.replace("http://", ""));
    let front = Relay::balance(servers.collect()).await;
    let front_endpoint = format!("http://127.0.0.1:{}", front.port());
    let history = History::default();
    let _kept = Kept(history.clone());
    let stage = Stage::with_nodes(fleet.endpoints(), &front_endpoint, history.clone(), seed);
    let stage = stage.with_slips(slips);
    let blows = fleet.suffer(plan, &history);
    CROWD.withstand(&stage, blows).await;
    fleet.stop().await;
    history
}

/// Writes a history to its file when the run is over, however it ends.
struct Kept(History);

impl Drop for Kept {
    fn drop(&mut self) {
        // A run that failed says why; this is only for whoever wants to know more.
        let _ = fs::write(HISTORY, self.0.text());
    }
}

/// Whether a fault is one of a kind.
type Kind = fn(&Fault) -> bool;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_of_clients_are_found_out() {
    let slips = &[
        Slip::NewRequestId,
        Slip::IgnoresRefusals,
        Slip::ForgetsRevision,
        Slip::SkipsMessages,
        Slip::ForgetsCursor,
    ];
    let pause = Duration::from_secs(3);
    let down = Duration::from_secs(1);
    // The second node, so that there is a follower who has to go on elsewhere.
    let plan = vec![(pause, Blow::Kill { node: 1, down }), (pause, Blow::Crash)];
    let faults = check(&run(7, plan, slips).await.facts());
    let kinds: [(Slip, Kind); 5] = [
        (Slip::NewRequestId, |fault| {
            matches!(fault, Fault::Doubled { .. })
        }),
        (Slip::IgnoresRefusals, |fault| {
            matches!(fault, Fault::StaleAccepted { .. })
        }),
        (Slip::ForgetsRevision, |fault| {
            matches!(fault, Fault::Gap { .. })
        }),
        (Slip::SkipsMessages, |fault| {
            matches!(fault, Fault::Skipped { .. } | Fault::Missed { .. })
        }),
        (Slip::ForgetsCursor, |fault| {
            matches!(fault, Fault::Relisted { .. })
        }),
    ];
    for (slip, found) in kinds {
        assert!(
            faults.iter().any(found),
            "{slip:?} is not found\n{faults:#?}"
        );
    }
    let other = |fault: &&Fault| !kinds.iter().any(|(_, found)| found(fault));
    let other: Vec<_> = faults.iter().filter(other).collect();
    // What follows from them. Nobody waits for the end of a job that nobody was told of.
    let follows = |fault: &&Fault| {
        matches!(
            fault,
            Fault::CompletedTwice { .. }
                | Fault::Unknown { .. }
                | Fault::Open { .. }
                | Fault::SuccessLost { .. }
        )
    };
    assert!(other.iter().all(follows), "{other:#?}");
}
