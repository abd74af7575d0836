//! The database is away, or says nothing of changes: callers are told at once, watches wait, and everything is heard of later.

use std::{sync::Arc, time::Duration};

use longhaul::{
    client::Client,
    proto::v1::{
        CancelRequest, SubmitRequest, WatchJobRequest, WatchJobResponse, WatchJobsRequest,
        watch_job_response::Kind, watch_jobs_response::Kind as FollowKind,
    },
};
use tokio::{task::spawn_blocking, time::Instant};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use super::{coming, fleet::Fleet, relay::Relay, report};
use crate::{
    jobs::{reason, submission, submit},
    postgres::{Cluster, Database, Options, USER},
};

/// The shortest silence that may be asked for.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Jobs that a watcher hears of though nobody notifies its node.
const UNHEARD: usize = 5;
/// Transactions that are rolled back: more than those that come after the crash.
const BURNT: usize = 200;
/// How often it is tried to have a crash forget them: anything that is committed in the wrong moment keeps them.
const CRASHES: usize = 5;

async fn watch(client: &Client, job_id: &str) -> Streaming<WatchJobResponse> {
    let request = WatchJobRequest {
        job_id: job_id.to_owned(),
        heartbeat_interval: Some(HEARTBEAT.try_into().unwrap()),
        ..WatchJobRequest::default()
    };
    let answer = client.jobs().watch_job(request).await;
    answer.unwrap().into_inner()
}

async fn next(watch: &mut Streaming<WatchJobResponse>) -> WatchJobResponse {
    let message = coming("a message", watch.message()).await;
    message.unwrap().expect("it goes on")
}

/// The next message that says something.
async fn next_snapshot(watch: &mut Streaming<WatchJobResponse>) -> WatchJobResponse {
    loop {
        let message = next(watch).await;
        if message.kind() != Kind::Heartbeat {
            return message;
        }
    }
}

/// Cancels, again and again until a node that has just got its database back can.
async fn cancel(client: &Client, job_id: &str) {
    let request = CancelRequest {
        job_id: job_id.to_owned(),
        ..CancelRequest::default()
    };
    while let Err(status) = client.jobs().cancel(request.clone()).await {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        tokio::task::yield_now().await;
    }
}

/// Waits until a node says this of itself.
async fn says(health: &mut Streaming<HealthCheckResponse>, status: ServingStatus) {
    while coming("its health", health.message())
        .await
        .unwrap()
        .unwrap()
        .status()
        != status
    {}
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test measures how long news takes"
)]
fn now() -> Instant {
    Instant::now()
}

async fn refused(client: &Client, request: &SubmitRequest) -> Status {
    client.jobs().submit(request.clone()).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_calls_are_refused_and_watches_wait() {
    let cluster = spawn_blocking(|| Cluster::start(Options::default()));
    let fleet = Arc::new(Fleet::start_on(cluster.await.unwrap()).await);
    let [here, there, _] = fleet.clients();
    let job = submit(&here, "nobody").await;
    let mut open = watch(&there, &job.id).await;
    assert_eq!(next(&mut open).await.revision, 1);
    let mut healths = Vec::new();
    for number in 0..2 {
        let channel = fleet.node(number).await.channel().await;
        let service = "longhaul.v1.JobService".to_owned();
        let mut health = HealthClient::new(channel);
        let health = health.watch(HealthCheckRequest { service }).await;
        let mut health = health.unwrap().into_inner();
        says(&mut health, ServingStatus::Serving).await;
        healths.push(health);
    }

    fleet
        .with_database(|database| database.cluster().stop())
        .await;
    let mut request = submission("nobody");
    request.request_id = "while it is away".to_owned();
    for (health, client) in healths.iter_mut().zip([&here, &there]) {
        says(health, ServingStatus::NotServing).await;
        let status = coming("an answer", refused(client, &request)).await;
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(reason(&status), "STORE_UNAVAILABLE");
    }
    let quiet = next(&mut open).await;
    assert_eq!((quiet.kind(), quiet.revision), (Kind::Heartbeat, 1));

    let restarted = |database: &Database| database.cluster().start_again();
    fleet.with_database(restarted).await;
    for health in &mut healths {
        says(health, ServingStatus::Serving).await;
    }
    // Only now, and once.
    let late = here.submit(request.clone()).await.unwrap();
    assert!(late.created);
    assert!(!there.submit(request).await.unwrap().created);
    coming("the cancel", cancel(&here, &job.id)).await;
    let end = next_snapshot(&mut open).await;
    assert_eq!((end.from_revision, end.r#final), (1, true));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_notifications_changes_at_other_nodes_are_heard_of_all_the_same() {
    let database = spawn_blocking(Database::fresh).await.unwrap();
    let port = database.cluster().port();
    let pooler = Relay::without("LISTEN ", format!("127.0.0.1:{port}")).await;
    let url = database.url_without_password();
    let url = url.replace(&format!(":{port}/"), &format!(":{}/", pooler.port()));
    let fleet = Arc::new(Fleet::on(database, &format!("{url}?sslmode=disable")).await);
    let [here, there, elsewhere] = fleet.clients();
    let mut slowest = Duration::ZERO;
    for _ in 0..UNHEARD {
        let job = submit(&here, "nobody").await;
        let mut open = [
            watch(&there, &job.id).await,
            watch(&elsewhere, &job.id).await,
        ];
        for watch in &mut open {
            assert_eq!(next(watch).await.revision, 1);
        }
        cancel(&here, &job.id).await;
        let begin = now();
        for watch in &mut open {
            assert!(next_snapshot(watch).await.r#final);
        }
        slowest = slowest.max(begin.elapsed());
    }
    // How often a node looks is tested beside what makes it look, where time is a test's own; here that the look finds it.
    report(&format!("heard of after {slowest:?} at the most"));
    assert!(pooler.cut() > 0, "nobody tried to listen");
    fleet.stop().await;
}

/// A transaction that leaves no trace but that its id is used, until the server crashes.
const ROLLED_BACK: &str = "BEGIN; SELECT pg_current_xact_id(); ROLLBACK;";
/// The first id that no transaction has been given.
const NEXT_ID: &str = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
/// The newest transaction in the feed.
const NEWEST_ID: &str = "SELECT max(xid) FROM events";

/// A number that the database says.
async fn number(fleet: &Fleet, sql: &'static str) -> u64 {
    let said = fleet.with_database(|database| database.sql(sql)).await;
    said.parse().unwrap()
}

/// Uses up ids, and answers with the first that is left.
async fn burn(fleet: &Fleet) -> u64 {
    let burn = |database: &Database| database.sql(&ROLLED_BACK.repeat(BURNT));
    fleet.with_database(burn).await;
    number(fleet, NEXT_ID).await
}

/// A crash, and the first id that is left after it.
async fn crash(fleet: &Fleet) -> u64 {
    fleet
        .with_database(|database| database.cluster().restart_immediately())
        .await;
    number(fleet, NEXT_ID).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_after_a_crash_is_not_taken_for_what_was_rolled_back_before() {
    // What was not committed reaches the disk late, and nobody but the nodes commits anything.
    let options = Options::default().set("wal_writer_delay", "10s");
    let options = options.set("autovacuum", "off");
    let cluster = spawn_blocking(|| Cluster::start(options)).await.unwrap();
    let fleet = Arc::new(Fleet::start_on(cluster).await);
    let [here, there, _] = fleet.clients();
    let request = WatchJobsRequest {
        heartbeat_interval: Some(HEARTBEAT.try_into().unwrap()),
        ..WatchJobsRequest::default()
    };
    let follow = there.jobs().watch_jobs(request).await;
    let mut follow = follow.unwrap().into_inner();
    submit(&here, "nobody").await;
    // Nor do they: every few seconds each would say that it is there.
    let silence = |database: &Database| database.sql(&format!("REVOKE ALL ON nodes FROM {USER}"));
    fleet.with_database(silence).await;
    let mut crashes = 0;
    let burnt = loop {
        let burnt = burn(&fleet).await;
        // Silence for as long means that the node has looked at the feed since.
        while coming("a heartbeat", follow.message())
            .await
            .unwrap()
            .unwrap()
            .kind()
            != FollowKind::Heartbeat
        {}
        crashes += 1;
        if crash(&fleet).await < burnt {
            break burnt;
        }
        assert!(crashes < CRASHES, "no crash forgets what was rolled back");
    };
    report(&format!(
        "crash {crashes} has forgotten what was rolled back"
    ));
    for _ in 0..UNHEARD {
        let job = coming("an answer", here.submit(submission("nobody"))).await;
        let job = job.unwrap().job.unwrap().id;
        let told = async {
            loop {
                let message = follow.message().await.unwrap().unwrap();
                if message.changes.iter().any(|change| change.job_id == job) {
                    break;
                }
            }
        };
        coming("the job", told).await;
    }
    // So all of them had ids that had been given out before.
    assert!(number(&fleet, NEWEST_ID).await < burnt);
    // And a crash does not forget what is followed by something that was committed: the comparison can fail.
    let kept = burn(&fleet).await;
    submit(&here, "nobody").await;
    assert!(crash(&fleet).await > kept);
    fleet.stop().await;
}
