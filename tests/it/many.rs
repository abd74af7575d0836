//! Many at once: calls, watches, watchers through restarts. None is killed, none is forgotten.

use std::{collections::HashSet, env, time::Duration};

use futures_util::future::join_all;
use longhaul::{
    client::{Client, Watch, WatchOptions, WatchUpdate},
    proto::v1::{
        AcquireRequest, CancelRequest, GetRequest, ReportRequest, Success, TaskReport,
        WatchJobRequest, job::State, task_report::Report, watch_job_response::Kind,
    },
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::{
    harness::Server,
    jobs::{submit, submit_many},
};

/// Calls at once on one connection. At 3,000 h2 would take them for an attack, but for the sizes of our windows.
const CALLS: usize = 8_000;
/// Watches on one connection.
const WATCHES: usize = 10_000;
/// Watchers through restarts, ten for each job; `tests/many.sh` sets 10,000, which on two cores leaves other tests no time.
const WATCHERS: usize = 2_000;
const WATCHERS_PER_JOB: usize = 10;
const RESTARTS: usize = 20;
/// Any wait in these tests, on a busy machine and in a debug build.
const WITHIN: Duration = Duration::from_secs(120);
/// Nothing but the first message and changes of state.
const QUIET: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_calls_on_one_connection() {
    let server = Server::start_with(&["--log-level", "warn"]).await;
    let client = server.client().await;
    let job = submit(&client, "nobody").await;
    let calls = (0..CALLS).map(|_| {
        let mut jobs = client.jobs();
        let request = GetRequest {
            job_id: job.id.clone(),
            ..GetRequest::default()
        };
        async move { jobs.get(request).await.unwrap().into_inner().job.unwrap() }
    });
    let answers = timeout(WITHIN, join_all(calls)).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == job));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watches_on_one_connection() {
    let server = Server::start_with(&["--log-level", "warn"]).await;
    let client = server.client().await;
    let job = submit(&client, "nobody").await;
    let open = (0..WATCHES).map(|_| {
        let mut jobs = client.jobs();
        let request = WatchJobRequest {
            job_id: job.id.clone(),
            heartbeat_interval: Some(QUIET.try_into().unwrap()),
            ..WatchJobRequest::default()
        };
        async move {
            let mut watch = jobs.watch_job(request).await.unwrap().into_inner();
            let first = watch.message().await.unwrap().unwrap();
            assert_eq!((first.kind(), first.revision), (Kind::Snapshot, 1));
            watch
        }
    });
    let watches = timeout(WITHIN, join_all(open)).await.unwrap();
    let request = CancelRequest {
        job_id: job.id,
        ..CancelRequest::default()
    };
    client.jobs().cancel(request).await.unwrap();
    let end = watches.into_iter().map(|mut watch| async move {
        let mut last = watch.message().await.unwrap().unwrap();
        while !last.r#final {
            last = watch.message().await.unwrap().unwrap();
        }
        assert_eq!(last.job.unwrap().state(), State::Cancelled);
        assert!(watch.message().await.unwrap().is_none());
    });
    timeout(WITHIN, join_all(end)).await.unwrap();
    server.stop().await;
}

/// What a watcher tells the test.
enum Word {
    /// The server answered it.
    Here(usize),
    /// It saw the end.
    Done(usize, State),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watchers_see_the_end_through_many_restarts() {
    let watchers = env::var("LONGHAUL_MANY_WATCHERS").map_or(WATCHERS, |n| n.parse().unwrap());
    let jobs = watchers / WATCHERS_PER_JOB;
    let mut server = Server::start_with(&["--log-level", "warn"]).await;
    let client = server.client().await;
    let ids = submit_many(&client, "mill", jobs).await;
    let (words, mut said) = mpsc::channel(1_024);
    let mut tasks = JoinSet::new();
    for first in 0..WATCHERS_PER_JOB {
        // Watchers of one job are on different connections.
        let client = Client::connect_lazy(&server.endpoint()).unwrap();
        for (n, id) in ids.iter().enumerate() {
            let watch = client.watch(id, quiet());
            tasks.spawn(report(first * jobs + n, watch, words.clone()));
        }
    }
    drop(words);

    let everybody = jobs * WATCHERS_PER_JOB;
    // Those who are back since the last restart, and those who need not come back.
    let (mut here, mut done) = (HashSet::new(), HashSet::new());
    for restart in 0..=RESTARTS {
        let all_answered = async {
            while here.len() + done.len() < everybody {
                match said.recv().await.expect("nobody leaves before the end") {
                    Word::Here(number) => _ = here.insert(number),
                    Word::Done(number, state) => {
                        assert_eq!(state, State::Succeeded);
                        assert!(done.insert(number), "it ends once");
                        here.remove(&number);
                    }
                }
                if restart == RESTARTS {
                    // After the last one it is the end that counts.
                    here.clear();
                }
            }
        };
        let waited = timeout(WITHIN, all_answered).await;
        let (back, ended) = (here.len(), done.len());
        assert!(
            waited.is_ok(),
            "restart {restart}: {back} are back, {ended} saw the end"
        );
        if restart < RESTARTS {
            end_some(&client, jobs.div_ceil(RESTARTS)).await;
            // Some have heard of it, and some have not.
            server.kill9().await;
            here.clear();
            server.restart().await;
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    server.stop().await;
}

fn quiet() -> WatchOptions {
    WatchOptions {
        heartbeat_interval: Some(QUIET),
        ..WatchOptions::default()
    }
}

async fn report(number: usize, mut watch: Watch, words: mpsc::Sender<Word>) {
    while let Some(update) = watch.next().await {
        let word = match update.unwrap() {
            WatchUpdate::Snapshot {
                job,
                is_final: true,
                ..
            } => Word::Done(number, job.state()),
            WatchUpdate::Snapshot { .. } | WatchUpdate::Synced { .. } => Word::Here(number),
            WatchUpdate::Heartbeat { .. } | WatchUpdate::Disconnected { .. } => continue,
        };
        words.send(word).await.unwrap();
    }
}

/// Carries some jobs out.
async fn end_some(client: &Client, count: usize) {
    let request = AcquireRequest {
        worker: "miller".to_owned(),
        drivers: vec!["mill".to_owned()],
        max_leases: count.try_into().unwrap(),
        ..AcquireRequest::default()
    };
    let leases = client
        .workers()
        .acquire(request)
        .await
        .unwrap()
        .into_inner()
        .leases;
    if leases.is_empty() {
        return;
    }
    let reports = leases.into_iter().map(|lease| TaskReport {
        lease_token: lease.lease_token,
        report: Some(Report::Success(Success::default())),
    });
    let request = ReportRequest {
        wait: None,
        reports: reports.collect(),
    };
    let answer = client.workers().report(request).await.unwrap().into_inner();
    assert!(answer.results.iter().all(|result| result.error.is_none()));
}
