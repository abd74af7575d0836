//! A list as a client asks for it: what matches, and how many in all.

use longhaul::{
    client::Client,
    proto::v1::{CancelRequest, ListRequest},
};

use crate::{harness::Server, jobs::submit};

/// How many jobs a page has, and how many it says there are.
async fn list(client: &Client, filter: &str) -> (usize, Option<i64>) {
    let request = ListRequest {
        filter: filter.to_owned(),
        ..ListRequest::default()
    };
    let page = client.jobs().list(request).await.unwrap().into_inner();
    (page.jobs.len(), page.total_size)
}

#[tokio::test]
async fn a_list_by_state_and_status_has_a_total() {
    let server = Server::start().await;
    let client = server.client().await;
    for _ in 0..3 {
        submit(&client, "nobody").await;
    }
    let request = CancelRequest {
        job_id: submit(&client, "nobody").await.id,
        ..CancelRequest::default()
    };
    client.jobs().cancel(request).await.unwrap();
    for (filter, found, total) in [
        ("", 4, Some(4)),
        ("state = QUEUED", 3, Some(3)),
        ("state = QUEUED AND status = NORMAL", 3, Some(3)),
        ("status = ERROR OR state = RUNNING", 1, Some(1)),
        ("NOT status = ERROR", 3, Some(3)),
        ("status = ERROR AND priority = 0", 1, None),
    ] {
        assert_eq!(list(&client, filter).await, (found, total), "{filter}");
    }
    server.stop().await;
}
