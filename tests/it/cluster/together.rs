//! Nodes are one service: what is done at one counts, and is seen, at the others.

use std::{collections::HashMap, sync::Arc, time::Duration};

use longhaul::{
    client::{Client, Watch, WatchOptions, WatchUpdate},
    proto::v1::{
        AcquireRequest, CancelRequest, GetRequest, Job, Lease, ListRequest, PauseDriverRequest,
        ReportRequest, ResumeDriverRequest, Success, TaskReport, WatchJobsRequest, job::State,
        task_report::Report, watch_jobs_response::Kind,
    },
    worker::{Outcome, TaskContext, Worker},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    coming,
    fleet::{Fleet, NODES},
};
use crate::jobs::{job_when, submission, submit};

/// How often a read elsewhere follows a write.
const READS: usize = 200;
/// How often two nodes are asked for the same.
const RACES: usize = 50;
/// How long a worker waits for what it must not get.
const IN_VAIN: Duration = Duration::from_millis(500);
/// And for what it must get.
const FOR_SURE: Duration = Duration::from_secs(60);
/// How often a driver is paused while another node gives out its tasks.
const PAUSES: usize = 10;

/// The next snapshot of a watch.
async fn next(watch: &mut Watch) -> Job {
    loop {
        match coming("a snapshot", watch.next()).await {
            Some(Ok(WatchUpdate::Snapshot { job, .. })) => return *job,
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn acquire(wait: Duration) -> AcquireRequest {
    AcquireRequest {
        worker: "w".to_owned(),
        drivers: vec!["d".to_owned()],
        max_leases: 1,
        wait: Some(wait.try_into().unwrap()),
    }
}

async fn leases(client: &Client, wait: Duration) -> Vec<Lease> {
    let answer = coming("an answer", client.workers().acquire(acquire(wait))).await;
    answer.unwrap().into_inner().leases
}

/// Reports at this node that a task is done.
async fn complete(client: &Client, lease: Lease) {
    let request = ReportRequest {
        wait: None,
        reports: vec![TaskReport {
            lease_token: lease.lease_token,
            report: Some(Report::Success(Success::default())),
        }],
    };
    let answer = client.workers().report(request).await.unwrap().into_inner();
    assert_eq!(answer.results[0].error, None);
}

async fn cancel(client: &Client, job_id: &str, reason: &str) {
    let request = CancelRequest {
        job_id: job_id.to_owned(),
        reason: reason.to_owned(),
    };
    client.jobs().cancel(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_submitted_worked_on_and_watched_at_different_nodes() {
    let fleet = Arc::new(Fleet::start().await);
    let [here, there, elsewhere] = fleet.clients();
    let job = submit(&here, "d").await;
    let options = WatchOptions {
        min_interval: Some(Duration::ZERO),
        ..WatchOptions::default()
    };
    let mut watch = elsewhere.watch(&job.id, options);
    assert_eq!(next(&mut watch).await, job);

    let lease = leases(&there, FOR_SURE).await.remove(0);
    assert_eq!(lease.task.as_ref().unwrap().job_id, job.id);
    assert_eq!(next(&mut watch).await.state(), State::Running);

    // A lease is good at any node.
    complete(&here, lease).await;
    let end = next(&mut watch).await;
    assert_eq!(end.state(), State::Succeeded);
    assert!(watch.next().await.is_none());
    for client in [&here, &there, &elsewhere] {
        let same = job_when(client, &job.id, |_| true).await;
        assert_eq!(same, end);
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_id_at_two_nodes_at_once_gives_one_job() {
    let fleet = Arc::new(Fleet::start().await);
    let [here, there, _] = fleet.clients();
    for race in 0..RACES {
        let mut request = submission("nobody");
        request.request_id = format!("race-{race}");
        let (one, other) = tokio::join!(here.submit(request.clone()), there.submit(request));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.job, other.job);
        assert_ne!(one.created, other.created);
    }
    let page = here.jobs().list(ListRequest::default()).await.unwrap();
    assert_eq!(page.into_inner().total_size, Some(RACES as i64));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_at_one_node_reaches_the_worker_at_another() {
    let fleet = Arc::new(Fleet::start().await);
    let [here, there, _] = fleet.clients();
    let stop = CancellationToken::new();
    let begun = Arc::new(Notify::new());
    let say = Arc::clone(&begun);
    let handler = move |task: TaskContext| {
        say.notify_one();
        async move {
            let request = task.cancelled().await;
            Outcome::Cancelled {
                status_detail: request.reason,
            }
        }
    };
    let worker = Worker::builder(there).driver("d", handler).build().unwrap();
    let working = tokio::spawn(worker.run(stop.clone()));
    let job = submit(&here, "d").await;
    coming("the worker", begun.notified()).await;
    cancel(&here, &job.id, "changed my mind").await;
    let ended = job_when(&here, &job.id, |job| job.end_time.is_some());
    let job = coming("the end", ended).await;
    assert_eq!(job.state(), State::Cancelled);
    assert_eq!(job.tasks[0].status_detail, "changed my mind");
    assert_eq!(job.cancel.unwrap().forced_time, None);
    stop.cancel();
    working.await.unwrap().unwrap();
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_is_paused_at_one_node_is_paused_at_all() {
    let fleet = Arc::new(Fleet::start().await);
    let [here, there, elsewhere] = fleet.clients();
    for round in 0..PAUSES {
        // The other nodes give its tasks out, and have no reason not to.
        for client in [&there, &elsewhere] {
            submit(client, "d").await;
            let lease = leases(client, FOR_SURE).await.remove(0);
            complete(client, lease).await;
        }
        let job = submit(&there, "d").await;
        let request = PauseDriverRequest {
            driver: "d".to_owned(),
            reason: "broken".to_owned(),
        };
        here.admin().pause_driver(request).await.unwrap();
        // From the answer on, whether they have heard of it or not, and whichever is asked first.
        let given = tokio::join!(
            leases(&there, IN_VAIN),
            leases(&elsewhere, IN_VAIN),
            leases(&here, IN_VAIN)
        );
        assert_eq!(given, (vec![], vec![], vec![]), "round {round}");
        let request = ResumeDriverRequest {
            driver: "d".to_owned(),
        };
        let mut admin = elsewhere.admin();
        let (mut given, resumed) =
            tokio::join!(leases(&there, FOR_SURE), admin.resume_driver(request));
        resumed.unwrap();
        let lease = given.remove(0);
        assert_eq!(lease.task.as_ref().unwrap().job_id, job.id);
        complete(&there, lease).await;
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_at_one_node_is_read_at_the_others() {
    let fleet = Arc::new(Fleet::start().await);
    let clients = fleet.clients();
    for round in 0..READS {
        let [here, there, elsewhere] = [0, 1, 2].map(|n| &clients[(round + n) % NODES]);
        let job = submit(here, "nobody").await;
        let request = GetRequest {
            job_id: job.id.clone(),
            ..GetRequest::default()
        };
        let read = there.jobs().get(request.clone()).await.unwrap();
        assert_eq!(read.into_inner().job.as_ref(), Some(&job), "round {round}");
        let newest = ListRequest {
            page_size: 1,
            ..ListRequest::default()
        };
        let page = elsewhere.jobs().list(newest).await.unwrap().into_inner();
        assert_eq!(page.jobs[0].id, job.id, "round {round}");
        assert_eq!(page.total_size, Some(1 + round as i64));

        cancel(there, &job.id, "").await;
        let read = here.jobs().get(request).await.unwrap().into_inner();
        assert_eq!(read.job.unwrap().state(), State::Cancelled, "round {round}");
        // A watch begins with what its caller knows to be so.
        let mut watch = elsewhere.watch(&job.id, WatchOptions::default());
        assert_eq!(next(&mut watch).await.state(), State::Cancelled);
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_goes_on_at_another_node_without_a_gap() {
    let fleet = Arc::new(Fleet::start().await);
    let clients = fleet.clients();
    let mut known: HashMap<String, u64> = HashMap::new();
    let mut cursor = String::new();
    for round in 0..4 * NODES {
        let request = WatchJobsRequest {
            cursor: cursor.clone(),
            ..WatchJobsRequest::default()
        };
        let follow = clients[round % NODES].jobs().watch_jobs(request).await;
        let mut follow = follow.unwrap().into_inner();
        // Before and while somebody follows, at each node.
        let mut wanted = Vec::new();
        for client in &clients {
            wanted.push((submit(client, "nobody").await.id, 1));
            let job = submit(client, "nobody").await;
            cancel(client, &job.id, "").await;
            wanted.push((job.id, 2));
        }
        let complete = |known: &HashMap<String, u64>| {
            let told = |(job, revision): &(String, u64)| known.get(job) >= Some(revision);
            wanted.iter().all(told)
        };
        while cursor.is_empty() || !complete(&known) {
            let message = coming("a change", follow.message()).await;
            let message = message.unwrap().unwrap();
            assert_ne!(message.kind(), Kind::Draining);
            for change in message.changes {
                let known = known.entry(change.job_id.clone()).or_default();
                // What comes after the cursor may be told again, and nothing is left out.
                assert!(change.from_revision <= *known, "round {round}: {change:?}");
                *known = (*known).max(change.revision);
            }
            if !message.cursor.is_empty() {
                cursor = message.cursor;
            }
        }
    }
    fleet.stop().await;
}
