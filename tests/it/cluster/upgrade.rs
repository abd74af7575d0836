//! Versions side by side: a newer one changes the schema while older nodes serve.
//!
//! What a later version does is done here by hand: something is added that this one knows nothing of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use longhaul::{
    client::Client,
    proto::v1::{
        AcquireRequest, GetRequest, ReportRequest, Success, TaskReport, WatchJobRequest,
        task_report::Report,
    },
};
use tonic::Status;

use super::{
    coming,
    fleet::{Fleet, NODES},
};
use crate::{harness, jobs::submission};

/// How long a worker waits for a task that is there.
const WAIT: Duration = Duration::from_secs(30);
/// A version of tomorrow, which adds, and leaves everything else as it is.
const TOMORROW: &str = "
    ALTER TABLE jobs ADD COLUMN of_tomorrow text;
    ALTER TABLE tasks ADD COLUMN of_tomorrow bytea;
    CREATE TABLE of_tomorrow (job uuid PRIMARY KEY);
    INSERT INTO schema_version (version, name, applied_on, checksum) VALUES (1000, 'of_tomorrow', '2100-01-01T00:00:00Z', '0')";
/// A version that does what none may: it takes away what this one needs, and does not say so.
const RECKLESS: &str = "ALTER TABLE tasks RENAME COLUMN rest TO remainder";
/// A version after that, which takes away what this one needs.
const AFTER_TOMORROW: &str = "UPDATE meta SET value = '1000' WHERE key = 'oldest_program'";

/// A job from its submission to its end at one node: each call has to be answered at once, and well.
async fn live(client: &Client, driver: &str) -> Result<(), Status> {
    let (mut jobs, mut workers) = (client.jobs(), client.workers());
    let submitted = jobs.submit(submission(driver)).await?.into_inner();
    let job_id = submitted.job.as_ref().unwrap().id.clone();
    let get = GetRequest {
        job_id: job_id.clone(),
        ..GetRequest::default()
    };
    assert_eq!(jobs.get(get).await?.into_inner().job, submitted.job);
    let watch = WatchJobRequest {
        job_id,
        ..WatchJobRequest::default()
    };
    let mut watch = jobs.watch_job(watch).await?.into_inner();
    let acquire = AcquireRequest {
        worker: "w".to_owned(),
        drivers: vec![driver.to_owned()],
        max_leases: 1,
        wait: Some(WAIT.try_into().unwrap()),
    };
    let leases = workers.acquire(acquire).await?.into_inner().leases;
    let report = ReportRequest {
        wait: None,
        reports: vec![TaskReport {
            lease_token: leases[0].lease_token.clone(),
            report: Some(Report::Success(Success::default())),
        }],
    };
    let answer = workers.report(report).await?.into_inner();
    assert_eq!(answer.results[0].error, None);
    while let Some(message) = watch.message().await? {
        if message.r#final {
            return Ok(());
        }
    }
    Err(Status::data_loss("the watch ended before the job"))
}

/// Submits at one node after another until it is told to stop; answers with what was acknowledged.
async fn traffic(clients: [Client; NODES], stop: Arc<AtomicBool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let request = submission("d");
        // The same again at another node, if one is not there just now.
        let answer = loop {
            turn = (turn + 1) % NODES;
            if let Ok(answer) = clients[turn].jobs().submit(request.clone()).await {
                break answer.into_inner();
            }
        };
        acknowledged.extend(answer.job.map(|job| job.id));
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_go_on_while_a_newer_version_changes_the_schema() {
    let fleet = Fleet::start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let submitting = tokio::spawn(traffic(fleet.clients(), Arc::clone(&stop)));
    // Before and after, so that what was prepared before is used after.
    for era in ["before", "after"] {
        if era == "after" {
            fleet.with_database(|database| database.sql(TOMORROW)).await;
        }
        for (number, client) in fleet.clients().iter().enumerate() {
            let lived = coming("an end", live(client, &format!("{era}-{number}"))).await;
            assert!(lived.is_ok(), "{era}, node {number}: {lived:?}");
        }
    }
    // Each of them is stopped, as for an upgrade, and comes back on the new schema.
    for number in 0..NODES {
        let mut node = fleet.node(number).await;
        node.sigterm();
        node.exit(harness::EXIT_WITHIN).await;
        node.restart_until_it_serves().await;
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged = coming("the last answer", submitting).await.unwrap();
    assert!(acknowledged.len() > NODES);
    for client in fleet.clients() {
        for job_id in &acknowledged {
            let request = GetRequest {
                job_id: job_id.clone(),
                ..GetRequest::default()
            };
            client.jobs().get(request).await.unwrap();
        }
    }

    // Unless the newer version says that this one is too old.
    let (url, password) = fleet
        .with_database(|database| {
            database.sql(AFTER_TOMORROW);
            (
                database.url_without_password(),
                database.password().to_owned(),
            )
        })
        .await;
    let mut serve = harness::longhaul();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--store", &url]);
    serve.env("PGPASSWORD", password);
    let refused = harness::output(serve).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("was made by a newer version of longhaul"),
        "{refused:?}"
    );

    // And what no version may do is noticed by a life at any node.
    fleet.with_database(|database| database.sql(RECKLESS)).await;
    for client in fleet.clients() {
        let lived = coming("an error", live(&client, "reckless")).await;
        assert!(lived.is_err());
    }
}
