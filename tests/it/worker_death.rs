//! `kill -9` of a worker: its task runs again elsewhere, and what the dead one has to say no longer counts.

use std::time::Duration;

use longhaul::proto::v1::{
    AcquireRequest, ListEventsRequest, ReportRequest, Success, TaskReport, job::State,
    job_event::Type, task_report::Report,
};
use tonic_types::RpcStatusExt as _;

use crate::{
    harness::Server,
    jobs::{job_when, submit},
};

/// What the server grants; 30 s by default.
const LEASE: Duration = Duration::from_secs(2);
/// How long after the lease a dead worker may go unnoticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);
const SHORT_LEASES: [&str; 4] = ["--lease-duration", "2s", "--heartbeat-interval", "500ms"];

#[tokio::test]
async fn the_task_of_a_killed_worker_runs_again_elsewhere() {
    let server = Server::start_with(&SHORT_LEASES).await;
    let client = server.client().await;
    let job = submit(&client, "build").await;

    // It says that it has begun, and ends only when its worker has gone.
    let begins =
        r#"echo '{"progress": {"done": 1, "total": 2}}'; while kill -0 $PPID; do sleep 0.1; done"#;
    let mut first = server.worker("build", &["--name", "first"], &["sh", "-c", begins]);
    let running = job_when(&client, &job.id, |job| job.tasks[0].progress.is_some()).await;
    assert_eq!(running.tasks[0].worker, "first");
    first.kill9().await;
    let second = server.worker("build", &["--name", "second"], &["true"]);

    let done = job_when(&client, &job.id, |job| job.end_time.is_some()).await;
    assert_eq!(done.state(), State::Succeeded, "{done:#?}");
    let task = &done.tasks[0];
    assert_eq!(
        (task.worker.as_str(), task.lost_leases, task.attempt),
        ("second", 1, 1),
        "a lost lease uses up no attempt"
    );
    let events = ListEventsRequest {
        job_id: job.id,
        page_size: 1_000,
        ..ListEventsRequest::default()
    };
    let events = client
        .jobs()
        .list_events(events)
        .await
        .unwrap()
        .into_inner()
        .events;
    let time_of = |kind| {
        let event = events.iter().find(|event| event.r#type() == kind);
        let time = event.and_then(|event| event.time).unwrap();
        Duration::new(
            time.seconds.try_into().unwrap(),
            time.nanos.try_into().unwrap(),
        )
    };
    // The worker may have extended its lease until the moment of its death.
    let silent_for = time_of(Type::TaskLeaseLost) - time_of(Type::TaskProgress);
    assert!(silent_for >= LEASE, "{silent_for:?}");
    assert!(silent_for <= LEASE + NOTICED_WITHIN, "{silent_for:?}");
    drop(second);
    server.stop().await;
}

#[tokio::test]
async fn a_late_report_is_refused_and_changes_nothing() {
    let server = Server::start_with(&SHORT_LEASES).await;
    let client = server.client().await;
    let job = submit(&client, "build").await;
    let acquire = |worker: &str| AcquireRequest {
        worker: worker.to_owned(),
        drivers: vec!["build".to_owned()],
        max_leases: 1,
        wait: Some(Duration::from_secs(30).try_into().unwrap()),
    };
    let mut workers = client.workers();
    let old = workers
        .acquire(acquire("silent"))
        .await
        .unwrap()
        .into_inner()
        .leases
        .remove(0);
    // Nobody speaks for the lease, so this waits until it is lost.
    let new = workers
        .acquire(acquire("other"))
        .await
        .unwrap()
        .into_inner()
        .leases
        .remove(0);
    assert!(new.fencing_token > old.fencing_token);
    assert_ne!(new.lease_token, old.lease_token);

    let before = job_when(&client, &job.id, |_| true).await;
    let success = |lease: &longhaul::proto::v1::Lease| ReportRequest {
        wait: None,
        reports: vec![TaskReport {
            lease_token: lease.lease_token.clone(),
            report: Some(Report::Success(Success::default())),
        }],
    };
    let late = workers.report(success(&old)).await.unwrap().into_inner();
    let error = late.results[0].error.clone().expect("it is refused");
    assert_eq!(error.code, tonic::Code::FailedPrecondition as i32);
    let info = error.get_details_error_info().unwrap();
    assert_eq!(info.reason, "LEASE_LOST");
    let after = job_when(&client, &job.id, |_| true).await;
    assert_eq!(before, after);

    let good = workers.report(success(&new)).await.unwrap().into_inner();
    assert_eq!(good.results[0].error, None);
    let again = workers.report(success(&new)).await.unwrap().into_inner();
    assert_eq!(
        again.results[0].error, None,
        "repeating an accepted report is fine"
    );
    let still_late = workers.report(success(&old)).await.unwrap().into_inner();
    assert!(still_late.results[0].error.is_some());
    assert_eq!(
        job_when(&client, &job.id, |_| true).await.state(),
        State::Succeeded
    );
    server.stop().await;
}
