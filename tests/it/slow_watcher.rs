//! Watchers that do not read cost the server no memory and nobody else any time, and when they read again they find the newest state: one whose job
//! changes 10,000 times meanwhile, and followers of thousands of jobs.

use std::time::Duration;

use longhaul::proto::{
    Struct,
    v1::{
        GetRequest, Heartbeat, Lease, Progress, ProgressReport, SubmitBatchRequest, Success,
        TaskReport, View, WatchJobRequest, WatchJobResponse, WatchJobsRequest, WorkRequest,
        WorkResponse, WorkerHello, job_service_client::JobServiceClient, task_report::Report,
        watch_job_response::Kind, watch_jobs_response::Kind as FollowKind,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use crate::{
    harness::Server,
    jobs::{job_when, submission},
};

const CHANGES: usize = 10_000;
/// Reports in a message: the most that there may be.
const BATCH: usize = 1_000;
/// Larger than what may be under way to a reader that does not read, so that the first message is stuck.
const PAYLOAD_BYTES: usize = 600_000;
/// Messages that it takes to catch up: those that were under way when the reader's window closed, and the newest.
const UNDER_WAY: usize = 4;
/// What the server may grow by. A queue of snapshots would come to 6 GB, one of progress alone to more than this.
const GROWTH_KB: u64 = 48 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_does_not_read_costs_nobody_anything() {
    let server = Server::start_with(&["--log-level", "warn"]).await;
    let client = server.client().await;
    let mut request = submission("press");
    let payload = serde_json::json!({ "text": "x".repeat(PAYLOAD_BYTES) });
    request.job.as_mut().unwrap().tasks[0].request_payload =
        Some(Struct::from_json(&payload).unwrap());
    let job = client.submit(request).await.unwrap().job.unwrap();
    let mut worker = Press::start(&server).await;
    let leased = job_when(&client, &job.id, |job| job.tasks[0].attempt == 1).await;

    // Both on one connection, so that one could starve the other.
    let channel = Endpoint::from_shared(server.endpoint())
        .unwrap()
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .connect()
        .await
        .unwrap();
    let mut jobs = JobServiceClient::new(channel).max_decoding_message_size(8 * PAYLOAD_BYTES);
    let mut slow = watch(&mut jobs, &job.id, View::Full).await;
    let mut brisk = watch(&mut jobs, &job.id, View::Result).await;

    worker.press(0).await;
    let before = server.resident_kb();
    let mut seen = 0;
    for batch in 0..CHANGES / BATCH {
        worker.press(1 + batch * BATCH).await;
        let newest = leased.revision + ((batch + 1) * BATCH) as u64;
        let request = GetRequest {
            job_id: job.id.clone(),
            view: View::Basic.into(),
        };
        let now = jobs.get(request).await.unwrap().into_inner().job.unwrap();
        assert!(now.revision > newest, "{} {newest}", now.revision);
        while seen < now.revision {
            let message = brisk.message().await.unwrap().unwrap();
            assert_eq!(message.from_revision, seen);
            seen = message.revision;
        }
    }
    let after = server.resident_kb();
    assert!(
        after < before + GROWTH_KB,
        "the server grew from {before} KB to {after} KB"
    );

    let mut known = 0;
    let mut most_coalesced = 0;
    for _ in 0..UNDER_WAY {
        let message = slow.message().await.unwrap().unwrap();
        assert_eq!(message.kind(), Kind::Snapshot);
        assert_eq!(message.from_revision, known, "it tiles");
        assert_eq!(message.coalesced, message.revision - known - 1);
        most_coalesced = most_coalesced.max(message.coalesced);
        known = message.revision;
        if known == seen {
            break;
        }
    }
    assert_eq!(known, seen, "it finds the newest state at once");
    assert!(most_coalesced > (CHANGES / 2) as u64, "{most_coalesced}");
    worker.finish().await;
    let last = slow.message().await.unwrap().unwrap();
    assert_eq!((last.from_revision, last.r#final), (known, true));
    assert!(
        slow.message().await.unwrap().is_none(),
        "then it ends with OK"
    );
    drop(worker);
    server.stop().await;
}

async fn watch(
    jobs: &mut JobServiceClient<tonic::transport::Channel>,
    job_id: &str,
    view: View,
) -> Streaming<WatchJobResponse> {
    let request = WatchJobRequest {
        job_id: job_id.to_owned(),
        min_interval: Some(Duration::ZERO.try_into().unwrap()),
        view: view.into(),
        ..WatchJobRequest::default()
    };
    jobs.watch_job(request).await.unwrap().into_inner()
}

/// A worker with one task, about which it has much to say.
struct Press {
    lease: Lease,
    requests: mpsc::Sender<WorkRequest>,
    responses: Streaming<WorkResponse>,
}

impl Press {
    async fn start(server: &Server) -> Self {
        let (requests, outgoing) = mpsc::channel(1);
        let hello = WorkerHello {
            name: "press".to_owned(),
            drivers: vec!["press".to_owned()],
            slots: 1,
            ..WorkerHello::default()
        };
        let request = WorkRequest {
            hello: Some(hello),
            ..WorkRequest::default()
        };
        requests.send(request).await.unwrap();
        let client = server.client().await;
        let outgoing = ReceiverStream::new(outgoing);
        let mut responses = client.workers().work(outgoing).await.unwrap().into_inner();
        let lease = loop {
            let mut response = responses.message().await.unwrap().unwrap();
            if let Some(lease) = response.leases.pop() {
                break lease;
            }
        };
        Self {
            lease,
            requests,
            responses,
        }
    }

    /// A thousand reports from `done` on.
    async fn press(&mut self, done: usize) {
        let progress = (done..done + BATCH).map(|done| {
            Report::Progress(ProgressReport {
                progress: Some(Progress {
                    done: done as i64,
                    total: 2 * CHANGES as i64,
                    ..Progress::default()
                }),
                ..ProgressReport::default()
            })
        });
        self.report(progress.collect()).await;
    }

    async fn finish(&mut self) {
        let success = Report::Success(Success::default());
        self.report(vec![Report::Heartbeat(Heartbeat {}), success])
            .await;
    }

    /// Reports, and waits until all of it is accepted.
    async fn report(&mut self, reports: Vec<Report>) {
        let mut unanswered = reports.len();
        let reports = reports.into_iter().map(|report| TaskReport {
            lease_token: self.lease.lease_token.clone(),
            report: Some(report),
        });
        let request = WorkRequest {
            reports: reports.collect(),
            ..WorkRequest::default()
        };
        self.requests.send(request).await.unwrap();
        while unanswered > 0 {
            let response = self.responses.message().await.unwrap().unwrap();
            assert!(response.results.iter().all(|result| result.error.is_none()));
            unanswered -= response.results.len();
        }
    }
}

/// What the followers below may make the server grow by: a message or two for each, and the feed that they share.
const FOLLOWERS_GROWTH_KB: u64 = 384 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_that_do_not_read_cost_a_message_each() {
    const FOLLOWERS: usize = 24;
    const JOBS_AT_ONCE: usize = 500;
    let server = Server::start_with(&["--log-level", "warn"]).await;
    let client = server.client().await;
    let mut followers = Vec::new();
    for _ in 0..FOLLOWERS {
        let channel = server.channel().await;
        let request = WatchJobsRequest {
            view: View::Full.into(),
            ..WatchJobsRequest::default()
        };
        let mut jobs = JobServiceClient::new(channel);
        let mut follower = jobs.watch_jobs(request).await.unwrap().into_inner();
        while follower.message().await.unwrap().unwrap().kind() != FollowKind::Synced {}
        followers.push(follower);
    }
    let payload = serde_json::json!({ "text": "x".repeat(8_192) });
    let payload = Struct::from_json(&payload).unwrap();
    let batch = || {
        let requests = (0..JOBS_AT_ONCE).map(|_| {
            let mut request = submission("nobody");
            request.job.as_mut().unwrap().tasks[0].request_payload = Some(payload.clone());
            request
        });
        SubmitBatchRequest {
            requests: requests.collect(),
        }
    };
    // More than one message's, so that each follower is stuck in the middle of the first commit.
    client.jobs().submit_batch(batch()).await.unwrap();
    let before = server.resident_kb();
    for _ in 0..13 {
        client.jobs().submit_batch(batch()).await.unwrap();
    }
    // Now each takes the rest of that commit, and has the server look at what came since.
    for follower in &mut followers {
        let mut told = 0;
        while told <= JOBS_AT_ONCE {
            told += follower.message().await.unwrap().unwrap().changes.len();
        }
    }
    let after = server.resident_kb();
    assert!(
        after < before + FOLLOWERS_GROWTH_KB,
        "the server grew from {before} KB to {after} KB"
    );
    drop(followers);
    server.stop().await;
}
