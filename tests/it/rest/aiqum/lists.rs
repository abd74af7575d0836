//! Lists: paged while jobs are added, filtered, sorted.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{super::web::get, DOCUMENTED, WIRE};
use crate::{
    harness::Server,
    jobs::{submission, submit_copies},
};

/// The keys of a page.
fn keys(page: &Value) -> Vec<String> {
    let records = page["records"].as_array().unwrap().iter();
    let keys: Vec<_> = records
        .map(|r| r["key"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(page["num_records"], keys.len());
    keys
}

/// Adds jobs that match, as others do while a client reads.
async fn add(server: &Server, summary: &str, count: usize) -> Vec<String> {
    let client = server.client().await;
    let mut request = submission("nobody");
    if let Some(job) = &mut request.job {
        job.summary = summary.to_owned();
    }
    submit_copies(&client, request, count).await
}

/// How a client goes on from page to page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// By the links, as long as there are any.
    Links,
    /// By an offset of so many as it was told, until there are no more.
    Told,
    /// By an offset of so many as it asked for, until there are no more.
    Asked,
}

/// Reads lists in each of these orders, in each of the ways, while others add jobs behind each page.
async fn no_gap_and_no_repeat(
    thousands: usize,
    filter: &str,
    orders: &[&str],
    max_records: usize,
    at_a_time: usize,
) {
    let server = Server::start().await;
    let mut before = BTreeSet::new();
    for _ in 0..thousands {
        before.extend(add(&server, "a lot", 1_000).await);
    }
    for order in orders {
        for step in [Step::Links, Step::Told, Step::Asked] {
            let jobs = before.len();
            let mut told = Vec::new();
            let first = format!("{WIRE}?{filter}&max_records={max_records}{order}");
            let mut next = Some(first.clone());
            let mut late = Vec::new();
            let mut pages = 0;
            while let Some(path) = next {
                let reply = get(&server, &path).send().await;
                let page = reply.expect(200);
                assert_eq!(page["total_records"], jobs + late.len());
                assert_eq!(page["_links"]["self"]["href"], *path);
                let keys = keys(&page);
                pages += 1;
                let link = page["_links"]["next"]["href"].as_str().map(str::to_owned);
                let by_offset = |offset| format!("{first}&offset={offset}");
                let is_over = keys.is_empty();
                told.extend(keys);
                // Or it would go on for as long as jobs are added.
                assert!(told.len() <= jobs, "told twice: {order} {step:?}");
                next = match step {
                    Step::Links => link,
                    Step::Told => (!is_over).then(|| by_offset(told.len())),
                    Step::Asked => (!is_over).then(|| by_offset(pages * max_records)),
                };
                late.extend(add(&server, "a lot", at_a_time).await);
            }
            let once: BTreeSet<_> = told.iter().cloned().collect();
            let what = format!("{order} {step:?}");
            assert_eq!(once.len(), told.len(), "a job came twice: {what}");
            // Those that were there all the while, and none of the others, which are newer.
            assert!(once == before, "{what}: {} of {jobs}", once.len());
            assert!(late.len() >= jobs / max_records * at_a_time);
            before.extend(late);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_list_has_no_gap_and_no_repeat_while_jobs_are_added() {
    no_gap_and_no_repeat(10, "state=queued", &[""], 500, 50).await;
}

#[tokio::test]
async fn no_order_and_no_filter_has_a_gap_or_a_repeat_while_jobs_are_added() {
    let orders = [
        "",
        "&order_by=submit_time%20desc",
        "&order_by=status,key+desc",
    ];
    no_gap_and_no_repeat(3, "name=a%20lot&state=queued", &orders, 170, 7).await;
}

#[tokio::test]
async fn an_offset_out_of_nowhere_is_counted_off() {
    let server = Server::start().await;
    add(&server, "a", 20).await;
    let list = async |query: &str| {
        let path = format!("{WIRE}?max_records=10&order_by=submit_time{query}");
        keys(&get(&server, &path).send().await.expect(200))
    };
    let first = list("+desc").await;
    add(&server, "a", 3).await;
    // Nobody was told the page before in this spelling, so the new jobs shift it: what the test above would find.
    let shifted = list("+DESC&offset=10").await;
    assert_eq!(shifted[..3], first[7..]);
    let next = list("+desc&offset=10").await;
    assert_eq!(next[..7], shifted[3..]);
    server.stop().await;
}

#[tokio::test]
async fn a_list_is_filtered_sorted_and_capped() {
    let server = Server::start().await;
    let parent = add(&server, "parent", 1).await.remove(0);
    let client = server.client().await;
    let mut request = submission("nobody");
    if let Some(job) = &mut request.job {
        job.summary = "child <1>|x".to_owned();
        job.parent_job_id = parent.clone();
    }
    let children = submit_copies(&client, request, 3).await;
    server.cli(&["cancel", &children[0]]).await.ok();
    let list = async |query: &str| -> Value {
        get(&server, &format!("{DOCUMENTED}?{query}"))
            .send()
            .await
            .expect(200)
    };
    let newest_first: Vec<String> = children.iter().rev().cloned().collect();
    let of_parent = list(&format!("parent_job_key={parent}")).await;
    assert_eq!(keys(&of_parent).len(), 3);
    assert_eq!(keys(&list("parent_job_key=null").await), [parent.as_str()]);
    assert_eq!(keys(&list("state=error").await), [children[0].clone()]);
    assert_eq!(keys(&list("status=ERR*").await), [children[0].clone()]);
    // A child that did not succeed is a warning for its parent.
    assert_eq!(keys(&list("state=Warning").await), [parent.as_str()]);
    let record = &list("state=warning").await["records"][0];
    let summary = json!({
        "total_jobs": 3, "running_jobs": 2, "completed_jobs": 1,
        "successful_jobs": 0, "failed_jobs": 0, "aborted_jobs": 1,
    });
    assert_eq!(record["spawned_job_summary"], summary);
    assert_eq!(keys(&list("name=child*1*&state=queued").await).len(), 2);
    assert_eq!(
        keys(&list(&format!("key={parent}|{}", children[2])).await).len(),
        2
    );
    assert_eq!(list("complete_time=null").await["total_records"], 3);
    // A time that is sent back finds its job, also with an offset whose + was lost.
    let time = record["submit_time"].as_str().unwrap();
    for time in [
        time.to_owned(),
        time.replace('Z', "+00:00"),
        time.replace('Z', "%2B00:00"),
    ] {
        assert_eq!(
            keys(&list(&format!("submit_time={time}")).await),
            [parent.as_str()]
        );
        assert_eq!(
            list(&format!("submit_time=%3E{time}")).await["total_records"],
            3
        );
        assert_eq!(
            list(&format!("submit_time=%3C%3D{time}")).await["total_records"],
            1
        );
    }
    let sorted = list("order_by=name+desc,key+desc&max_records=5000").await;
    let expected = [vec![parent.clone()], sorted_desc(newest_first)].concat();
    assert_eq!(keys(&sorted), expected);
    assert_eq!(
        keys(&list("max_records=1&offset=3").await),
        [parent.as_str()]
    );
    assert_eq!(keys(&list("offset=4").await), Vec::<String>::new());
    server.stop().await;
}

fn sorted_desc(mut keys: Vec<String>) -> Vec<String> {
    keys.sort_by(|a, b| b.cmp(a));
    keys
}

#[tokio::test]
async fn a_thousand_jobs_are_a_page_at_the_most() {
    let server = Server::start().await;
    add(&server, "a", 1_000).await;
    add(&server, "a", 5).await;
    for (query, records) in [
        ("", 20),
        ("?max_records=1001", 1_000),
        ("?max_records=99999999999", 1_000),
    ] {
        let page = get(&server, &format!("{WIRE}{query}"))
            .send()
            .await
            .expect(200);
        assert_eq!(
            (keys(&page).len(), &page["total_records"]),
            (records, &json!(1_005))
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_link_is_followed_from_the_longest_query_that_is_accepted() {
    const LONGEST: usize = 8 * 1024;
    let server = Server::start().await;
    add(&server, "a", 3).await;
    let orders = "order_by=name,type,key&max_records=1&name=!";
    let query = format!("{orders}{}", "z".repeat(LONGEST - orders.len()));
    let first = get(&server, &format!("{WIRE}?{query}")).send().await;
    let mut told = keys(&first.expect(200));
    let mut page = first.json();
    while let Some(next) = page["_links"]["next"]["href"].as_str() {
        page = get(&server, next).send().await.expect(200);
        told.extend(keys(&page));
    }
    assert_eq!(told.len(), 3);
    let longer = get(&server, &format!("{WIRE}?{query}z")).send().await;
    assert_eq!(longer.status.as_u16(), 414);
    server.stop().await;
}
