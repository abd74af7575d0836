//! SIGTERM with 1,000 open watches and 50 running tasks: everybody is told, the server goes at once, and the tasks finish against the next one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use longhaul::{
    client::Client,
    proto::v1::{
        AcquireRequest, ListEventsRequest, Progress, WaitRequest, WatchJobRequest,
        WatchJobResponse, WatchJobsRequest, job::State, job_event::Type, watch_job_response::Kind,
        watch_jobs_response::Kind as FollowKind,
    },
    worker::{Outcome, TaskContext, Worker},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::{
    harness::{EXIT_WITHIN, Server},
    jobs::{job_when, reason, submit, submit_many},
    wire::half_a_call::HalfACall,
};

const WATCHES: usize = 1_000;
const TASKS: usize = 50;
const WORKERS: usize = 2;
/// Well below the `drain_timeout` of 25 s: nobody here has a reason to stay.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// Any other wait, on a busy machine and in a debug build.
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_are_told_and_tasks_finish_against_the_next_server() {
    let mut server = Server::start_with(&["--log-level", "warn"]).await;
    let client = server.client().await;
    let ids = submit_many(&client, "build", TASKS).await;
    let crew = Crew::start(&server).await;
    for id in &ids {
        // Its progress has been accepted, so the lease is the worker's own.
        job_when(&client, id, |job| job.tasks[0].progress.is_some()).await;
    }
    let open = (0..WATCHES).map(|n| watch(&client, &ids[n % TASKS]));
    let watches = timeout(WITHIN, join_all(open)).await.unwrap();

    server.sigterm();
    let begin = now();
    let told = timeout(WITHIN, join_all(watches.into_iter().map(told))).await;
    told.expect("each watch is told");
    let status = server.exit(EXIT_WITHIN).await;
    let took = begin.elapsed();
    assert!(status.success(), "{status}\n{}", server.log());
    assert!(took < GONE_WITHIN, "the drain took {took:?}");
    report(&format!(
        "{WATCHES} watches and {TASKS} running tasks: gone after {took:?}"
    ));

    server.restart().await;
    crew.may_end.cancel();
    for id in &ids {
        let job = timeout(WITHIN, client.wait(id)).await.unwrap().unwrap();
        assert_eq!(job.state(), State::Succeeded, "{job:#?}");
        let request = ListEventsRequest {
            job_id: id.clone(),
            ..ListEventsRequest::default()
        };
        let events = client
            .jobs()
            .list_events(request)
            .await
            .unwrap()
            .into_inner()
            .events;
        let kinds: Vec<Type> = events.iter().map(|event| event.r#type()).collect();
        let once = [
            Type::JobSubmitted,
            Type::TaskLeased,
            Type::TaskProgress,
            Type::TaskSucceeded,
        ];
        assert_eq!(kinds, once);
    }
    let runs = crew.stop().await;
    assert_eq!(runs.len(), TASKS);
    assert!(runs.values().all(|runs| *runs == 1), "{runs:?}");
    server.stop().await;
}

async fn watch(client: &Client, job_id: &str) -> Streaming<WatchJobResponse> {
    let request = WatchJobRequest {
        job_id: job_id.to_owned(),
        ..WatchJobRequest::default()
    };
    let mut watch = client.jobs().watch_job(request).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!(first.kind(), Kind::Snapshot);
    watch
}

/// A watch is told that the server goes, at the revision that it has, and then ends in a way that says when to call again.
async fn told(mut watch: Streaming<WatchJobResponse>) {
    let message = watch.message().await.unwrap().unwrap();
    assert_eq!(message.kind(), Kind::Draining);
    assert_eq!(message.from_revision, message.revision);
    assert_ended(&watch.message().await.unwrap_err());
}

#[track_caller]
fn assert_ended(status: &Status) {
    assert_eq!(
        (status.code(), reason(status).as_str()),
        (Code::Unavailable, "DRAINING")
    );
    let retry = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    assert!(
        retry.is_some_and(|delay| delay > Duration::ZERO),
        "{status:?}"
    );
}

/// Workers whose tasks end when they may.
struct Crew {
    may_end: CancellationToken,
    shutdown: CancellationToken,
    workers: JoinSet<()>,
    /// How often each task was begun.
    runs: Arc<Mutex<HashMap<String, usize>>>,
}

impl Crew {
    async fn start(server: &Server) -> Self {
        let mut crew = Self {
            may_end: CancellationToken::new(),
            shutdown: CancellationToken::new(),
            workers: JoinSet::new(),
            runs: Arc::default(),
        };
        for _ in 0..WORKERS {
            let (may_end, runs) = (crew.may_end.clone(), crew.runs.clone());
            let handler = move |task: TaskContext| {
                *runs
                    .lock()
                    .unwrap()
                    .entry(task.task().id.clone())
                    .or_default() += 1;
                task.progress(Progress {
                    done: 1,
                    total: 2,
                    ..Progress::default()
                });
                let may_end = may_end.clone();
                async move {
                    may_end.cancelled().await;
                    Outcome::success()
                }
            };
            let worker = Worker::builder(server.client().await)
                .driver("build", handler)
                .slots((TASKS / WORKERS).try_into().unwrap())
                .build()
                .unwrap();
            let shutdown = crew.shutdown.clone();
            crew.workers
                .spawn(async move { worker.run(shutdown).await.unwrap() });
        }
        crew
    }

    async fn stop(mut self) -> HashMap<String, usize> {
        self.shutdown.cancel();
        while let Some(ended) = self.workers.join_next().await {
            ended.unwrap();
        }
        let runs = self.runs.lock().unwrap();
        runs.clone()
    }
}

#[tokio::test]
async fn open_calls_of_every_kind_end_cleanly() {
    let mut server = Server::start().await;
    let client = server.client().await;
    let job = submit(&client, "nobody").await;
    let channel = Endpoint::from_shared(server.endpoint())
        .unwrap()
        .connect()
        .await
        .unwrap();

    let mut health = HealthClient::new(channel.clone());
    let service = "longhaul.v1.JobService".to_owned();
    let mut health = health
        .watch(HealthCheckRequest { service })
        .await
        .unwrap()
        .into_inner();
    let first = health.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let mut reflection = reflect(channel).await;
    let mut follow = client
        .jobs()
        .watch_jobs(WatchJobsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let cursor = loop {
        let message = follow.message().await.unwrap().unwrap();
        if message.kind() == FollowKind::Synced {
            break message.cursor;
        }
    };
    let minute = || Some(Duration::from_secs(60).try_into().unwrap());
    let (mut jobs, mut workers) = (client.jobs(), client.workers());
    let wait = jobs.wait(WaitRequest {
        job_id: job.id.clone(),
        timeout: minute(),
        ..WaitRequest::default()
    });
    let acquire = workers.acquire(AcquireRequest {
        worker: "idle".to_owned(),
        drivers: vec!["none".to_owned()],
        wait: minute(),
        ..AcquireRequest::default()
    });
    // A call that is begun later on the same connection has been answered, so these two have arrived.
    let arrived = async {
        let request = WaitRequest {
            job_id: job.id.clone(),
            timeout: Some(Duration::ZERO.try_into().unwrap()),
            ..WaitRequest::default()
        };
        client.jobs().wait(request).await.unwrap();
        server.sigterm();
    };
    let begin = now();
    let (wait, acquire, ()) = tokio::join!(wait, acquire, arrived);
    assert_ended(&wait.unwrap_err());
    assert_eq!(acquire.unwrap().into_inner().leases, []);

    let message = follow.message().await.unwrap().unwrap();
    assert_eq!(
        (message.kind(), message.cursor),
        (FollowKind::Draining, cursor)
    );
    assert_ended(&follow.message().await.unwrap_err());
    let last = health.message().await.unwrap().unwrap();
    assert_eq!(last.status(), ServingStatus::NotServing);
    assert_eq!(
        health.message().await.unwrap_err().code(),
        Code::Unavailable
    );
    assert_eq!(
        reflection.message().await.unwrap_err().code(),
        Code::Unavailable
    );
    let status = server.exit(EXIT_WITHIN).await;
    assert!(status.success(), "{status}\n{}", server.log());
    assert!(begin.elapsed() < GONE_WITHIN, "{:?}", begin.elapsed());
}

/// Requests of which half has come, in HTTP/1.1 and HTTP/2.
#[tokio::test]
async fn half_a_request_does_not_hold_up_the_drain() {
    let mut server = Server::start().await;
    let submit = "/longhaul.v1.JobService/Submit";
    let mut halves = Vec::new();
    for path in [submit, "/v1/jobs"] {
        let mut half = TcpStream::connect(server.address()).await.unwrap();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{{}}");
        half.write_all(head.as_bytes()).await.unwrap();
        halves.push(half);
    }
    let channel = server.channel().await;
    let call = HalfACall::begin(&channel, submit, b"\0\0\0\x01\0\x0a");
    // On the same connection and answered, so the call has arrived.
    let mut health = HealthClient::new(channel);
    health.check(HealthCheckRequest::default()).await.unwrap();
    server.sigterm();
    let begin = now();
    assert_ended(&call.ended(WITHIN).await);
    let status = server.exit(EXIT_WITHIN).await;
    assert!(status.success(), "{status}\n{}", server.log());
    assert!(begin.elapsed() < GONE_WITHIN, "{:?}", begin.elapsed());
}

/// A reflection stream that has been answered once and stays open.
async fn reflect(
    channel: tonic::transport::Channel,
) -> Streaming<tonic_reflection::pb::v1::ServerReflectionResponse> {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut client = ServerReflectionClient::new(channel);
    let mut stream = client
        .server_reflection_info(requests)
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    stream
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test measures how long the drain takes"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::print_stderr,
    reason = "a figure for whoever runs this by hand"
)]
fn report(line: &str) {
    eprintln!("drain: {line}");
}
