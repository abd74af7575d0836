//! `kill -9` of the server at random moments under load: what was acknowledged is there, each job ends once, and everybody who watched saw it.
//!
//! The moments, the jobs and the mistakes of the workers come from a seed, which is printed. `tests/crash.sh` runs it for longer. The second half shows
//! that the checker fails when it should: with a store that answers before it has written, and with fencing tokens that do not fence.

mod faulty;
#[path = "../stores/tampered.rs"]
mod tampered;
mod victim;

use std::{env, time::Duration};

use longhaul::proto::v1::GetServerInfoRequest;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep};

use crate::load::{
    Crowd, Stage,
    checker::{Fault, check},
    history::{Fact, History},
    hold,
    jobs::contested_job,
    seen::Seen,
    stream::Held,
};
use faulty::Lie;
use victim::{Liar, Victim};

const CROWD: Crowd = Crowd {
    submitters: 8,
    workers: 4,
    streams: 2,
    rivals: 3,
    followers: 1,
};
/// Kills in an ordinary run; `LONGHAUL_CRASH_ROUNDS` sets another number.
const ROUNDS: usize = 20;
/// From start to serving, on a busy machine and in a debug build. What is promised, and printed, is 2 s.
const SERVE_WITHIN: Duration = Duration::from_secs(10);

/// What is done to the server, in the words of the history.
const KILL: &str = "Kill";

/// The same without a follower, who would wait in vain for what a lying store has lost.
const UNFOLLOWED: Crowd = Crowd {
    followers: 0,
    ..CROWD
};

/// What a run came to.
struct Outcome {
    facts: Vec<Fact>,
    slowest_start: Duration,
}

/// Kills the server again and again under load, then lets everything come to its end.
async fn run(crowd: &Crowd, victim: &mut impl Victim, seed: u64, rounds: usize) -> Outcome {
    let history = History::default();
    let stage = Stage::new(&victim.endpoint(), history.clone(), seed);
    let blows = kill_often(victim, &stage, seed, rounds);
    let slowest_start = crowd.withstand(&stage, blows).await;
    Outcome {
        facts: history.facts(),
        slowest_start,
    }
}

async fn kill_often(victim: &mut impl Victim, stage: &Stage, seed: u64, rounds: usize) -> Duration {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        // Now and then long enough for leases to run out.
        let moment = match rng.random_ratio(1, 5) {
            true => rng.random_range(2_000..3_500),
            false => rng.random_range(1..1_500),
        };
        sleep(Duration::from_millis(moment)).await;
        victim.kill().await;
        let begin = now();
        victim.revive().await;
        while stage
            .client()
            .admin()
            .get_server_info(GetServerInfoRequest {})
            .await
            .is_err()
        {
            assert!(begin.elapsed() < SERVE_WITHIN, "it does not serve");
            tokio::task::yield_now().await;
        }
        slowest = slowest.max(begin.elapsed());
        stage.history.note(Fact::Struck {
            blow: KILL.to_owned(),
            is_over: true,
        });
    }
    slowest
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test measures how long a start takes"
)]
fn now() -> Instant {
    Instant::now()
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_however_often_the_server_is_killed() {
    let seed = setting("LONGHAUL_CRASH_SEED").unwrap_or_else(rand::random);
    let rounds = setting("LONGHAUL_CRASH_ROUNDS").map_or(ROUNDS, |n| n.try_into().unwrap());
    report(&format!("{rounds} rounds with seed {seed}"));
    let mut server = victim::real().await;
    let outcome = run(&CROWD, &mut server, seed, rounds).await;
    let seen = Seen::of(&outcome.facts);
    report(&format!(
        "{seen}; slowest start {:?}",
        outcome.slowest_start
    ));
    let faults = check(&outcome.facts);
    assert!(faults.is_empty(), "seed {seed}: {faults:#?}");
    let lacks = seen.lacks(vec![KILL.to_owned(); rounds]);
    assert!(
        lacks.is_empty(),
        "seed {seed}: a run with so few of these proves little: {lacks:#?}"
    );
    assert!(outcome.slowest_start < SERVE_WITHIN, "seed {seed}");
    server.stop().await;
}

#[expect(clippy::print_stderr, reason = "figures for whoever runs this by hand")]
fn report(line: &str) {
    eprintln!("crash: {line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_answers_before_it_has_written_is_found_out() {
    let mut liar = Liar::start(Lie::AnswersEarly).await;
    let outcome = run(&UNFOLLOWED, &mut liar, 7, 3).await;
    let faults = check(&outcome.facts);
    let lost = |fault: &Fault| matches!(fault, Fault::Lost { .. });
    assert!(faults.iter().any(lost), "{faults:#?}");
    liar.kill().await;
}

/// How somebody reports.
#[derive(Clone, Copy, Debug)]
enum By {
    Call,
    Stream,
}

/// One task, two holders: the first one is silent until its lease is lost and the task is leased again; then both say that it is done.
async fn contest(victim: &impl Victim, by: By) -> Vec<Fact> {
    let history = History::default();
    let stage = Stage::new(&victim.endpoint(), history.clone(), 0);
    stage.submit(1, contested_job()).await;
    let mut roamer = stage.roamer("contestant", 0);
    let mut leases = Vec::new();
    for name in ["first", "second"] {
        let lease = stage.lease(&mut roamer, name).await;
        if name == "first" {
            stage.let_go(&mut roamer, &lease).await;
        }
        leases.push((name, lease));
    }
    for (name, lease) in leases {
        let hold = hold(&lease, name);
        match by {
            By::Call => stage.complete(&mut roamer, &lease, hold, true).await,
            By::Stream => {
                let held = Held::new(&lease, hold, true);
                stage.complete_on_stream(vec![held]).await;
            }
        }
    }
    stage.inspect().await;
    history.facts()
}

#[tokio::test]
async fn of_two_holders_one_is_believed() {
    for by in [By::Call, By::Stream] {
        let server = victim::real().await;
        let facts = contest(&server, by).await;
        assert_eq!(check(&facts).into_iter().collect::<Vec<_>>(), []);
        let believed = facts.iter().filter_map(|fact| match fact {
            Fact::Completed { hold, .. } => Some(hold.holder.as_str()),
            _ => None,
        });
        assert_eq!(believed.collect::<Vec<_>>(), ["second"], "{by:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn fencing_tokens_that_do_not_fence_are_found_out() {
    for by in [By::Call, By::Stream] {
        let mut liar = Liar::start(Lie::ForgetsFencing).await;
        let faults = check(&contest(&liar, by).await);
        let stale = |fault: &Fault| matches!(fault, Fault::StaleAccepted { .. });
        assert!(faults.iter().any(stale), "{by:?}: {faults:#?}");
        liar.kill().await;
    }
}
