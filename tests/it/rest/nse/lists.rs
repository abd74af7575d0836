//! Lists page by page, by offsets and by links, while jobs are added.

use std::collections::HashSet;

use longhaul::proto::Struct;
use serde_json::{Value, json};

use super::super::web::{call, get};
use crate::{
    harness::Server,
    jobs::{submission, submit_copies, submit_many},
};

/// A page, and the path of the next one by its link.
async fn page(server: &Server, path: &str) -> (Value, Option<String>) {
    let reply = get(server, path).send().await;
    let result = reply.expect(200)["result"].take();
    let link = reply.headers.get("link").map(|_| reply.header("link"));
    let next = link.map(|link| {
        let (path, relation) = link.split_once('>').unwrap();
        assert_eq!(relation, "; rel=\"next\"");
        path.trim_start_matches('<').to_owned()
    });
    (result, next)
}

fn ids(page: &Value) -> Vec<String> {
    let records = page["records"].as_array().unwrap().iter();
    let ids = records.map(|record| record["id"].as_str().unwrap().to_owned());
    ids.collect()
}

#[tokio::test]
async fn a_list_by_offsets_has_no_gap_and_no_repeat_while_jobs_are_added() {
    const JOBS: usize = 10_000;
    const LIMIT: usize = 500;
    const ADDED: usize = 50;
    let server = Server::start().await;
    let client = server.client().await;
    let mut all: Vec<String> = Vec::new();
    for _ in 0..JOBS / 1_000 {
        all.extend(submit_many(&client, "nobody", 1_000).await);
    }
    // The last submitted first, as the list has them.
    all.reverse();

    let mut told: Vec<String> = Vec::new();
    let mut added = 0;
    let mut offset = 0;
    loop {
        let path = format!("/v2.1/jobs?offset={offset}&limit={LIMIT}");
        let (page, _) = page(&server, &path).await;
        assert_eq!(page["total_records"], JOBS + added, "the total is of now");
        let records = ids(&page);
        assert_eq!(page["returned_records"], records.len());
        // As the document says: until there are no more.
        if records.is_empty() {
            break;
        }
        told.extend(records);
        offset += LIMIT;
        submit_many(&client, "nobody", ADDED).await;
        added += ADDED;
    }
    assert_eq!(told.len(), JOBS);
    assert!(
        told == all,
        "all that were there at the beginning, once each and in order"
    );
    assert_eq!(added, 1_000);
    // Whoever asks again is told the same.
    let path = format!("/v2.1/jobs?offset={offset}&limit={LIMIT}");
    for _ in 0..2 {
        assert_eq!(ids(&page(&server, &path).await.0), [""; 0]);
    }

    // What an offset alone would have told: a page that nobody came to from the one before is shifted by all that were added.
    let (alone, _) = page(&server, &format!("/v2.1/jobs?offset={}&limit=1", LIMIT + 1)).await;
    assert_ne!(ids(&alone)[0], all[LIMIT + 1]);

    // The same by links, over all that there are now, and from both faces.
    let mut told: Vec<String> = Vec::new();
    let mut path = format!("/api/v2.1/jobs?limit={LIMIT}&order_by=desc");
    let mut late = 0;
    let total = JOBS + added;
    loop {
        let (page, next) = page(&server, &path).await;
        assert_eq!(page["total_records"], total + late);
        assert_eq!(page["offset"], told.len());
        told.extend(ids(&page));
        match next {
            Some(next) => path = next,
            None => break,
        }
        if late < 50 {
            late += submit_many(&client, "nobody", 50).await.len();
        }
    }
    assert_eq!(told.len(), total);
    let once: HashSet<&String> = told.iter().collect();
    assert_eq!(once.len(), total, "none is repeated");
    assert!(told[added..] == all, "and none is left out");
    server.stop().await;
}

#[tokio::test]
async fn every_order_pages_to_its_end_while_jobs_are_added() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut there: HashSet<String> = HashSet::new();
    for driver in ["a", "b", "c"] {
        there.extend(submit_many(&client, driver, 20).await);
    }
    let listed = get(&server, "/v2.1/jobs?limit=1").send().await.expect(200);
    let fields = listed["result"]["records"][0].as_object().unwrap().keys();
    let fields: Vec<&String> = fields.filter(|field| *field != "job_tasks").collect();
    assert_eq!(fields.len(), 13);
    for field in fields {
        for order in ["asc", "desc"] {
            let mut told = Vec::new();
            let mut values: Vec<String> = Vec::new();
            let mut late: Vec<String> = Vec::new();
            for offset in (0..).step_by(7) {
                let path =
                    format!("/v2.1/jobs/?offset={offset}&limit=7&sort_by={field}&order_by={order}");
                let (page, _) = page(&server, &path).await;
                let as_asked = (&json!(field), &json!(order));
                assert_eq!((&page["sort_by"], &page["order_by"]), as_asked);
                assert_eq!(page["total_records"], there.len() + late.len());
                let records = page["records"].as_array().unwrap();
                if records.is_empty() {
                    break;
                }
                told.extend(ids(&page));
                let shown = records.iter().map(|record| record[field].as_str().unwrap());
                values.extend(shown.map(str::to_owned));
                // Behind the first page, and behind the last ones.
                let at_an_end = offset == 0 || told.len() + 7 >= there.len();
                if at_an_end && late.len() < 8 {
                    late.extend(submit_many(&client, "late", 2).await);
                }
            }
            if order == "desc" {
                values.reverse();
            }
            assert!(values.is_sorted(), "{field} {order}: {values:?}");
            let once: HashSet<String> = told.iter().cloned().collect();
            assert_eq!(once.len(), told.len(), "{field} {order}: none is repeated");
            assert!(there.is_subset(&once), "{field} {order}: none is left out");
            there.extend(late);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn pages_that_large_jobs_end_early_leave_nothing_out() {
    const JOBS: usize = 30;
    const LIMIT: usize = 20;
    let server = Server::start().await;
    let client = server.client().await;
    let mut request = submission("nobody");
    let payload = json!({"text": "x".repeat(1_000_000)});
    let task = &mut request.job.as_mut().unwrap().tasks[0];
    task.request_payload = Some(Struct::from_json(&payload).unwrap());
    let mut all: Vec<String> = Vec::new();
    for _ in 0..JOBS {
        all.extend(submit_copies(&client, request.clone(), 1).await);
    }
    all.reverse();
    let mut told: Vec<String> = Vec::new();
    let mut sizes: Vec<usize> = Vec::new();
    for offset in (0..).step_by(LIMIT) {
        let path = format!("/v2.1/jobs?offset={offset}&limit={LIMIT}");
        let (page, _) = page(&server, &path).await;
        let ids = ids(&page);
        assert_eq!(page["returned_records"], ids.len());
        if ids.is_empty() {
            break;
        }
        sizes.push(ids.len());
        told.extend(ids);
    }
    assert!(sizes[0] < LIMIT, "the first page ends early: {sizes:?}");
    assert_eq!(told, all);
    server.stop().await;
}

#[tokio::test]
async fn who_follows_links_leads_nobody_astray_who_adds_up_offsets() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut all = submit_many(&client, "nobody", 40).await;
    let (_, link) = page(&server, "/v2.1/jobs?limit=10").await;
    all.extend(submit_many(&client, "nobody", 5).await);
    all.reverse();
    let mut told: Vec<String> = Vec::new();
    for offset in [0, 10, 20, 30, 40] {
        if offset == 20 {
            // Its second page ends deeper than that of the other, at the same address and offset.
            page(&server, link.as_deref().unwrap()).await;
        }
        let path = format!("/v2.1/jobs?offset={offset}&limit=10");
        let (page, _) = page(&server, &path).await;
        told.extend(ids(&page));
    }
    assert_eq!(told, all);
    server.stop().await;
}

#[tokio::test]
async fn of_two_who_read_a_list_at_one_address_none_misses_a_job() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut there = submit_many(&client, "nobody", 60).await;
    let read = async |offset: usize, limit: usize| {
        let path = format!("/v2.1/jobs?offset={offset}&limit={limit}");
        ids(&page(&server, &path).await.0)
    };
    let mut first = read(0, 10).await;
    there.extend(submit_many(&client, "nobody", 5).await);
    let mut second = read(0, 20).await;
    // It goes on from where its page ended, and so ends deeper than the other one's, whose next offset is the same.
    first.extend(read(10, 10).await);
    for offset in (20..80).step_by(20) {
        second.extend(read(offset, 20).await);
        first.extend(read(offset, 20).await);
    }
    there.reverse();
    assert_eq!(
        second, there,
        "nothing is left out, and nothing comes twice"
    );
    let told: HashSet<&String> = first.iter().collect();
    let missing = there[5..].iter().filter(|id| !told.contains(id)).count();
    assert_eq!(missing, 0, "some may come twice, but none is left out");
    server.stop().await;
}

/// The ends of the pages that were told before are still known, and lead nowhere: jobs have left the list.
#[tokio::test]
async fn a_list_that_is_read_again_is_told_as_it_is_by_then() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut there = submit_many(&client, "nobody", 8).await;
    there.reverse();
    for _ in 0..3 {
        let mut told = Vec::new();
        for offset in (0..).step_by(2) {
            let path = format!("/v2.1/jobs?offset={offset}&limit=2");
            let records = ids(&page(&server, &path).await.0);
            if records.is_empty() {
                break;
            }
            told.extend(records);
        }
        assert_eq!(told, there);
        for id in there.drain(..2) {
            let path = format!("/v1/jobs/{id}");
            let cancel = call(&server, "POST", &format!("{path}:cancel"));
            cancel.send().await.expect(200);
            call(&server, "DELETE", &path).send().await.expect(200);
        }
    }
    server.stop().await;
}
