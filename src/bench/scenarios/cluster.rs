//! Several nodes on one database: whether they are in each other's way, and how soon one tells what happened at another.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::JoinSet, time::timeout};

use super::{
    batch::{BATCH, store},
    life::lived,
    watch::job_of,
};
use crate::{
    bench::{
        Bench, BenchError, Goal, Row, Scenario, Unit, child::Server, load::Sample, now,
        rounds::figures, sample::DRIVER, watchers, work::WorkStream,
    },
    proto::v1::{Lease, watch_job_response::Kind},
};

/// Calls under way at once, at each node.
const IN_FLIGHT: usize = 4;
/// Jobs in a round.
const JOBS: usize = 50_000;
/// Jobs that change while watchers elsewhere look on.
const WATCHED: usize = 100;
/// Jobs of these that change at once,
const STEP: usize = 10;
/// and how often: a thousand changes in a second.
const PACE: Duration = Duration::from_millis(10);
/// How long the last changes may take to be heard of: what is later was lost.
const HEARD_WITHIN: Duration = Duration::from_secs(30);

/// One node, and all of them, in turn.
pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<Vec<Row>, BenchError> {
    let (options, sample) = (bench.options, bench.sample.clone());
    let (Some(_), nodes @ 2..) = (&options.store, options.nodes) else {
        return Err(BenchError::NeedsNodes(Scenario::Cluster));
    };
    let batches = async |nodes: usize| {
        let server = Server::start_nodes(options, nodes).await?;
        let callers = IN_FLIGHT * options.nodes;
        let taken = store(&server.connect(callers).await?, &sample, callers, JOBS).await?;
        server.kill().await?;
        Ok(taken)
    };
    let submitted = bench
        .ticker
        .bracketed(async || batches(1).await, async || batches(nodes).await)
        .await?;
    let lives = async |nodes: usize| {
        let server = Server::start_nodes(options, nodes).await?;
        lived(&server, &sample, options.round_time).await
    };
    let lived = bench
        .ticker
        .bracketed(async || lives(1).await, async || lives(nodes).await)
        .await?;
    let heard = bench
        .ticker
        .alone(async || {
            let server = Server::start_nodes(options, nodes).await?;
            hear(&server, &bench.sample, options.round_time).await
        })
        .await?;
    let rate = |sample: &Sample| sample.per_second();
    let (alone, together) = (
        figures(&submitted.floors, rate),
        figures(&submitted.rounds, rate),
    );
    let row = |what: String, unit, figures: &_| Row::new(Scenario::Cluster, what, unit, figures);
    let least = |figure| (Goal::AtLeast(figure), Goal::AtLeast(figure));
    let (some, no_slower) = (least(10e3), least(1.0));
    let batch = format!("SubmitBatch of {BATCH}, {IN_FLIGHT} in flight a node");
    let life = "whole life, steady state";
    let lives = |figures: &[f64]| figures.iter().copied().collect();
    let p = |quantile| figures(&heard, |sample: &Sample| sample.latency(quantile));
    Ok(vec![
        row(format!("{batch}, 1 node"), Unit::PerSecond, &alone).goals(some.0, some.1),
        row(
            format!("{batch}, {nodes} nodes"),
            Unit::PerSecond,
            &together,
        )
        .compared("1 node", &alone)
        .goals(no_slower.0, no_slower.1),
        row(
            format!("{life}, 1 node"),
            Unit::PerSecond,
            &lives(&lived.floors),
        ),
        row(
            format!("{life}, {nodes} nodes"),
            Unit::PerSecond,
            &lives(&lived.rounds),
        )
        .compared("1 node", &lives(&lived.floors))
        .goals(no_slower.0, no_slower.1),
        row(
            "report here → watcher elsewhere, p50".to_owned(),
            Unit::Seconds,
            &p(0.5),
        ),
        row(
            "the same under 1,000 changes/s, p99".to_owned(),
            Unit::Seconds,
            &p(0.99),
        )
        .goals(Goal::AtMost(0.05), Goal::AtMost(0.05)),
    ])
}

/// Steps of jobs that were reported and of which nobody has heard elsewhere.
#[derive(Default)]
struct Unheard(HashMap<String, VecDeque<(i64, Instant)>>);

impl Unheard {
    /// A step, later than those of the job before.
    fn reported(&mut self, job: String, step: i64, at: Instant) {
        self.0.entry(job).or_default().push_back((step, at));
    }

    /// Whoever hears of a step has heard of all before it, which may have been merged into this one; answers when each of them was reported.
    fn heard(&mut self, job: &str, step: i64) -> Vec<Instant> {
        let mut reported = Vec::new();
        if let Some(steps) = self.0.get_mut(job) {
            while let Some((_, at)) = steps.pop_front_if(|(unheard, _)| *unheard <= step) {
                reported.push(at);
            }
        }
        reported
    }

    fn len(&self) -> usize {
        self.0.values().map(VecDeque::len).sum()
    }
}

/// What a measurement knows so far.
struct Hearing {
    unheard: Mutex<Unheard>,
    heard: Mutex<Sample>,
    /// Rings when something was heard.
    news: Notify,
}

/// Has jobs change at one node, and takes the time until watchers at another know.
async fn hear(
    server: &Server,
    sample: &crate::bench::sample::JobSample,
    time: Duration,
) -> Result<Sample, BenchError> {
    // One connection to each node, in their order.
    let clients = server.connect(2).await?;
    let (here, there) = (&clients[0], &clients[1]);
    store(std::slice::from_ref(here), sample, 1, WATCHED).await?;
    let slots = u32::try_from(WATCHED).unwrap_or(u32::MAX);
    let mut worker = WorkStream::open(here, DRIVER, slots).await?;
    let mut leases: Vec<Lease> = Vec::new();
    while leases.len() < WATCHED {
        leases.extend(worker.leases().await?);
    }
    let hearing = Arc::new(Hearing {
        unheard: Mutex::default(),
        heard: Mutex::new(Sample::new()),
        news: Notify::new(),
    });
    let mut watching = JoinSet::new();
    for lease in &leases {
        let id = job_of(lease)?;
        let mut stream = watchers::watch(there, id.clone()).await?;
        let hearing = hearing.clone();
        watching.spawn(async move {
            while let Some(message) = stream.message().await? {
                let seen = now();
                let job = message
                    .job
                    .as_ref()
                    .filter(|_| message.kind() == Kind::Snapshot);
                let progress = job.and_then(|job| job.tasks.first()?.progress.as_ref());
                if let Some(progress) = progress {
                    for since in locked(&hearing.unheard).heard(&id, progress.done) {
                        locked(&hearing.heard).add(1, seen - since);
                    }
                    hearing.news.notify_one();
                }
            }
            Err::<(), _>(BenchError::Broken(
                "it ended a watch of an open job".to_owned(),
            ))
        });
    }
    let mut pace = tokio::time::interval(PACE);
    let (start, mut step) = (now(), 0);
    while start.elapsed() < time {
        for some in leases.chunks(STEP) {
            pace.tick().await;
            step += 1;
            for lease in some {
                locked(&hearing.unheard).reported(job_of(lease)?, step, now());
            }
            worker.progress(some, step).await?;
            worker.next().await?;
        }
    }
    let elapsed = start.elapsed();
    let all_heard = async {
        while locked(&hearing.unheard).len() > 0 {
            tokio::select! {
                () = hearing.news.notified() => {}
                Some(ended) = watching.join_next() => ended??,
            }
        }
        Ok::<_, BenchError>(())
    };
    let in_time = timeout(HEARD_WITHIN, all_heard).await;
    in_time.unwrap_or_else(|_elapsed| {
        let left = locked(&hearing.unheard).len();
        Err(BenchError::Broken(format!(
            "watchers at another node did not hear of {left} changes within {HEARD_WITHIN:?}"
        )))
    })?;
    let mut taken = locked(&hearing.heard).clone();
    taken.elapsed = elapsed;
    Ok(taken)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_of_a_step_has_heard_of_those_before() {
        let mut unheard = Unheard::default();
        let start = now();
        let at = |step: u64| start + Duration::from_secs(step);
        for step in 1..=4 {
            unheard.reported("a".to_owned(), step, at(step.unsigned_abs()));
            unheard.reported("b".to_owned(), step, at(step.unsigned_abs()));
        }
        assert_eq!(unheard.heard("a", 3), [at(1), at(2), at(3)]);
        assert!(unheard.heard("a", 3).is_empty());
        assert!(unheard.heard("c", 3).is_empty());
        assert_eq!(unheard.heard("a", 9), [at(4)]);
        assert_eq!(unheard.len(), 4);
        assert_eq!(unheard.heard("b", 9).len(), 4);
        assert_eq!(unheard.len(), 0);
    }
}
