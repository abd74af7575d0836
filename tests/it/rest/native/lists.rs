//! Lists page by page, by their tokens, while jobs are added.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::web::get;
use crate::{harness::Server, jobs::submit_many};

const JOBS: usize = 10_000;
const PAGE: usize = 500;
/// Added behind each page.
const ADDED: usize = 50;

fn ids(page: &Value) -> Vec<String> {
    let jobs = page["jobs"].as_array().unwrap().iter();
    jobs.map(|job| job["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_list_by_tokens_has_no_gap_and_no_repeat_while_jobs_are_added() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut there: Vec<String> = Vec::new();
    for _ in 0..JOBS / 1_000 {
        there.extend(submit_many(&client, "nobody", 1_000).await);
    }
    for order in ["create_time+desc", "create_time", "update_time+desc"] {
        let known = there.clone();
        let mut told: Vec<String> = Vec::new();
        let mut token = String::new();
        let (mut pages, mut late) = (0, 0);
        loop {
            let path = format!(
                "/v1/jobs?filter=state%3DQUEUED&orderBy={order}&pageSize={PAGE}&pageToken={token}"
            );
            let page = get(&server, &path).send().await.expect(200);
            assert_eq!(
                page["totalSize"],
                there.len().to_string(),
                "the total is of now"
            );
            told.extend(ids(&page));
            pages += 1;
            match page["nextPageToken"].as_str() {
                Some(next) => token = next.to_owned(),
                None => break,
            }
            // A list that begins with the oldest meets these at its end.
            if late < 1_000 {
                let added = submit_many(&client, "nobody", ADDED).await;
                late += added.len();
                there.extend(added);
            }
        }
        assert!(pages >= JOBS / PAGE && late >= 950, "{pages} {late}");
        let once: BTreeSet<&String> = told.iter().collect();
        assert_eq!(once.len(), told.len(), "{order}: none is repeated");
        if order.ends_with("desc") {
            assert!(
                told.iter().eq(known.iter().rev()),
                "{order}: what was there at the beginning, in order"
            );
        } else {
            assert!(
                told[..known.len()] == known && told == there,
                "{order}: what was there and came, in order"
            );
        }
    }
    server.stop().await;
}
