//! Answers that hold many jobs: each fits a client that takes 4 MiB, which is what gRPC clients do unless told otherwise, and nothing is left out.

use std::collections::BTreeSet;

use longhaul::{
    client::Client,
    proto::{
        Struct,
        v1::{
            JobSpec, JobTaskSpec, ListRequest, SubmitRequest, View, WatchJobsRequest,
            WatchJobsResponse, watch_jobs_response::Kind,
        },
    },
};
use prost::Message as _;
use tonic::Streaming;

use crate::{harness::Server, jobs::submit_copies};

/// Bytes of an answer, with what comes on top of its jobs.
const MOST: usize = 3_600 * 1024;

/// A job that is large because of its many tasks, each of which is shown with the object of the job: some 600 KB.
fn of_many_tasks() -> JobSpec {
    let task = JobTaskSpec {
        driver: "nobody".to_owned(),
        ..JobTaskSpec::default()
    };
    JobSpec {
        tasks: vec![task; 1_000],
        object: Some(longhaul::proto::v1::Object {
            name: "o".repeat(256),
            ..Default::default()
        }),
        ..JobSpec::default()
    }
}

/// A job that is large because of its payload: some 1 MB.
fn of_large_payload() -> JobSpec {
    let payload = serde_json::json!({ "text": "x".repeat(1_000_000) });
    JobSpec {
        tasks: vec![JobTaskSpec {
            driver: "nobody".to_owned(),
            request_payload: Some(Struct::from_json(&payload).unwrap()),
            ..JobTaskSpec::default()
        }],
        ..JobSpec::default()
    }
}

async fn submit(client: &Client, job: &JobSpec, count: usize) -> BTreeSet<String> {
    let request = SubmitRequest {
        job: Some(job.clone()),
        ..SubmitRequest::default()
    };
    let ids = submit_copies(client, request, count).await;
    ids.into_iter().collect()
}

#[tokio::test]
async fn pages_end_before_they_are_too_large_and_go_on_where_they_ended() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut ids = submit(&client, &of_many_tasks(), 10).await;
    ids.extend(submit(&client, &of_large_payload(), 10).await);
    for order_by in ["create_time desc", "create_time", "update_time desc"] {
        let mut request = ListRequest {
            page_size: 1_000,
            order_by: order_by.to_owned(),
            view: View::Full.into(),
            ..ListRequest::default()
        };
        let mut seen = Vec::new();
        let mut pages = 0;
        loop {
            let page = client.jobs().list(request).await.unwrap().into_inner();
            assert!(page.encoded_len() <= MOST, "{}", page.encoded_len());
            assert_eq!(page.total_size, Some(20));
            pages += 1;
            seen.extend(page.jobs.into_iter().map(|job| job.id));
            if page.next_page_token.is_empty() {
                break;
            }
            request = ListRequest {
                page_size: 1_000,
                page_token: page.next_page_token,
                order_by: order_by.to_owned(),
                view: View::Full.into(),
                ..ListRequest::default()
            };
        }
        assert_eq!(seen.len(), ids.len(), "{order_by}: each once");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), ids, "{order_by}");
        assert!((2..=8).contains(&pages), "{order_by}: {pages} pages");
    }
    server.stop().await;
}

async fn watch(client: &Client, cursor: &str) -> Streaming<WatchJobsResponse> {
    let request = WatchJobsRequest {
        cursor: cursor.to_owned(),
        view: View::Full.into(),
        ..WatchJobsRequest::default()
    };
    let answer = client.jobs().watch_jobs(request).await;
    answer.unwrap().into_inner()
}

async fn next(watch: &mut Streaming<WatchJobsResponse>) -> WatchJobsResponse {
    let message = watch.message().await.unwrap().expect("it goes on");
    assert!(message.encoded_len() <= MOST, "{}", message.encoded_len());
    message
}

fn ids(message: &WatchJobsResponse) -> impl Iterator<Item = String> + '_ {
    message.changes.iter().map(|change| change.job_id.clone())
}

#[tokio::test]
async fn a_watch_of_many_jobs_says_what_is_large_in_several_messages() {
    let server = Server::start().await;
    let client = server.client().await;
    let listed = submit(&client, &of_many_tasks(), 10).await;
    let mut following = watch(&client, "").await;
    let mut seen = BTreeSet::new();
    let mut messages = 0;
    loop {
        let message = next(&mut following).await;
        if message.kind() == Kind::Synced {
            break;
        }
        assert_eq!(
            (message.kind(), message.cursor.as_str()),
            (Kind::Listed, "")
        );
        messages += 1;
        seen.extend(ids(&message));
    }
    assert_eq!(seen, listed);
    assert!(messages > 1, "{messages}");

    // Ten changes of one commit.
    let changed = submit(&client, &of_many_tasks(), 10).await;
    let mut said = Vec::new();
    let mut seen = BTreeSet::new();
    while seen.len() < changed.len() {
        let message = next(&mut following).await;
        seen.extend(ids(&message));
        said.push(message);
    }
    assert_eq!(seen, changed);
    assert!(said.len() > 1, "{}", said.len());

    // Whoever was cut off after any of the messages is told the rest.
    for known in 1..said.len() {
        let mut resumed = watch(&client, &said[known - 1].cursor).await;
        let mut seen: BTreeSet<String> = said[..known].iter().flat_map(ids).collect();
        while seen.len() < changed.len() {
            let message = next(&mut resumed).await;
            assert_eq!(message.kind(), Kind::Changes);
            seen.extend(ids(&message));
        }
        assert_eq!(seen, changed);
    }
    server.stop().await;
}
