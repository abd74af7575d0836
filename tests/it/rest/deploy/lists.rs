//! Lists: all that match, however many jobs come meanwhile.

use std::collections::BTreeSet;

use http_body_util::BodyExt as _;
use longhaul::client::Client;
use serde_json::Value;

use super::{super::web::get, assert_record, submit};
use crate::{harness::Server, jobs::submit_many};

const COLLECTION: &str = "/api/v3/jobs";
/// Jobs of one submission.
const BATCH: usize = 1_000;

/// Some thousands of jobs, first submitted first.
async fn stocked(client: &Client, thousands: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..thousands {
        ids.extend(submit_many(client, "nobody", BATCH).await);
    }
    ids
}

/// The ids of a list, which has to be whole.
#[track_caller]
fn ids(list: &Value) -> Vec<String> {
    let records = list["records"].as_array().unwrap();
    assert_eq!(list["num_records"], records.len());
    let ids = records.iter().map(|record| {
        assert_record(record);
        record["id"].as_str().unwrap().to_owned()
    });
    ids.collect()
}

async fn list(server: &Server, query: &str) -> Vec<String> {
    let reply = get(server, &format!("{COLLECTION}?{query}")).send().await;
    ids(&reply.expect(200))
}

/// Each id once, and all of these among them.
#[track_caller]
fn assert_whole(found: &[String], expected: &[String]) {
    let once: BTreeSet<_> = found.iter().collect();
    assert_eq!(once.len(), found.len(), "some are told twice");
    let missing = expected.iter().filter(|id| !once.contains(id)).count();
    assert_eq!(missing, 0, "some are missing");
}

#[tokio::test]
async fn a_list_is_whole_while_jobs_are_added() {
    let server = Server::start().await;
    let client = server.client().await;
    let before = stocked(&client, 10).await;
    for query in [
        "",
        "state=queued",
        "message=*worker",
        "order_by=state,last_modified%20desc",
        "order_by=last_modified",
        "order_by=id",
    ] {
        let answer = get(&server, &format!("{COLLECTION}?{query}")).open().await;
        assert_eq!(answer.status().as_u16(), 200);
        let mut body = answer.into_body();
        let mut text = Vec::new();
        // With each piece of the answer some more.
        while let Some(frame) = body.frame().await {
            text.extend(frame.unwrap().into_data().unwrap());
            submit_many(&client, "nobody", 3).await;
        }
        let found = ids(&serde_json::from_slice(&text).unwrap());
        assert_whole(&found, &before);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_in_parts_finds_each_job_once() {
    let server = Server::start().await;
    let client = server.client().await;
    let before = stocked(&client, 10).await;
    for (operator, order) in [("%3C", "id%20desc"), ("%3E", "id")] {
        let mut found: Vec<String> = Vec::new();
        loop {
            let behind = found.last().map(|id| format!("&id={operator}{id}"));
            let behind = behind.unwrap_or_default();
            let query = format!("max_records=500&order_by={order}{behind}");
            let part = list(&server, &query).await;
            let is_last = part.len() < 500;
            found.extend(part);
            if is_last {
                break;
            }
            submit_many(&client, "nobody", 50).await;
        }
        assert_whole(&found, &before);
    }
    server.stop().await;
}

#[tokio::test]
async fn lists_are_in_the_order_and_of_the_length_that_was_asked_for() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut newest_first = stocked(&client, 3).await;
    newest_first.sort();
    newest_first.reverse();
    let oldest_first: Vec<_> = newest_first.iter().rev().cloned().collect();
    assert_eq!(list(&server, "").await, newest_first);
    assert_eq!(list(&server, "order_by=id%20desc").await, newest_first);
    assert_eq!(list(&server, "order_by=id&fields=id").await, oldest_first);
    assert_eq!(list(&server, "order_by=state,id").await, oldest_first);
    for most in [1, 499, 500, 501, 1_234] {
        let query = format!("max_records={most}");
        assert_eq!(list(&server, &query).await, newest_first[..most]);
        let query = format!("max_records={most}&order_by=state%20desc,id");
        assert_eq!(list(&server, &query).await, oldest_first[..most]);
    }
    assert_eq!(list(&server, "max_records=9999").await, newest_first);
    // A thousand of them changed in one moment each: then the second field counts, and without one the newer job is first.
    for most in [1, 20, 500] {
        let latest = format!("order_by=last_modified%20desc&max_records={most}");
        assert_eq!(list(&server, &latest).await, newest_first[..most], "{most}");
        let by_id = format!("order_by=last_modified%20desc,id&max_records={most}");
        let oldest_of_last = &oldest_first[2 * BATCH..][..most];
        assert_eq!(list(&server, &by_id).await, oldest_of_last, "{most}");
    }
    assert_eq!(list(&server, "state=success").await, [""; 0]);

    // The last one changes last.
    let last = submit(&server, COLLECTION, &["other"]).await;
    let _worker = server.worker("other", &[], &["true"]);
    super::poll(&server, &format!("{COLLECTION}/{last}")).await;
    let changed = list(&server, "order_by=last_modified%20desc&max_records=3").await;
    assert_eq!(changed[0], last);
    for query in [
        "state=success",
        "state=!queued",
        "message=succ*",
        "message=!*worker",
    ] {
        assert_eq!(
            list(&server, query).await,
            std::slice::from_ref(&last),
            "{query}"
        );
    }
    let first = &oldest_first[0];
    let query = format!("id={last}|{first}&state=queued|success&order_by=id");
    assert_eq!(list(&server, &query).await, [first.clone(), last.clone()]);
    let changed = get(&server, &format!("{COLLECTION}/{last}")).send().await;
    let changed = changed.json()["record"]["last_modified"].clone();
    let changed = changed.as_str().unwrap();
    for (query, expected) in [
        (format!("last_modified={changed}"), 1),
        (format!("last_modified=%3E={changed}"), 1),
        (format!("last_modified=%3E%20{changed}"), 0),
        (format!("last_modified=%3C{changed}"), 3 * BATCH),
    ] {
        assert_eq!(list(&server, &query).await.len(), expected, "{query}");
    }
    server.stop().await;
}
