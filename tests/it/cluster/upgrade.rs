//! Versions side by side: a newer one changes the schema while older nodes serve.
//!
//! What a later version does is done here by hand: something is added that this one knows nothing of.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use longhaul::{client::Client, proto::v1::GetRequest};

use super::{
    coming,
    fleet::{Fleet, NODES},
};
use crate::{harness, jobs::submission};

/// A version of tomorrow, which adds, and leaves everything else as it is.
const TOMORROW: &str = "
    ALTER TABLE jobs ADD COLUMN of_tomorrow text;
    ALTER TABLE tasks ADD COLUMN of_tomorrow bytea;
    CREATE TABLE of_tomorrow (job uuid PRIMARY KEY);
    INSERT INTO schema_version (version, name, applied_on, checksum) VALUES (1000, 'of_tomorrow', '2100-01-01T00:00:00Z', '0')";
/// A version after that, which takes away what this one needs.
const AFTER_TOMORROW: &str = "UPDATE meta SET value = '1000' WHERE key = 'oldest_program'";

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
    fleet.with_database(|database| database.sql(TOMORROW)).await;
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
}
