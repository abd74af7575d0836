//! One job, many views: whatever becomes of it, gRPC, `/v1` and each dialect under each of its prefixes tell the same of it.
//!
//! What they have to tell is worked out here from the job as gRPC has it, by the tables of the documents and by none of the code that serves them.

mod lives;
mod shown;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use longhaul::{
    client::Client,
    proto::v1::{GetRequest, Job},
};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::Value;

use super::web::{Reply, get};
use crate::{harness::Server, jobs::submit};

/// Families of jobs.
const LIVES: u32 = 40;
/// Smaller ones that are tried after a failure; each is a conversation with a server.
const SMALLER: u32 = 100;
const AIQUM: [&str; 3] = [
    "/api/management-server/jobs",
    "/api/v2/management-server/jobs",
    "/management-server/jobs",
];
const DEPLOY: [&str; 2] = ["/api/jobs", "/api/v3/jobs"];
const NSE: [&str; 2] = ["/v2.1/jobs", "/api/v2.1/jobs"];
const NATIVE: &str = "/v1/jobs";

/// `LONGHAUL_AGREEMENT_SEED` repeats what a failure has told; lives differ as far as pauses between attempts take their time.
#[test]
fn every_api_shows_the_same_job() {
    let seed = std::env::var("LONGHAUL_AGREEMENT_SEED");
    let seed = seed.map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Longer than the test, so that what is left open stays as it is.
    let leases = ["--lease-duration", "10m"];
    let server = runtime.block_on(Server::start_with(&leases));
    let client = runtime.block_on(server.client());
    let mut runner = TestRunner::new(Config {
        cases: LIVES,
        max_shrink_iters: SMALLER,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    });
    let lived = Cell::new(0);
    // By the server's clock, which is the only one here.
    let first = runtime.block_on(submit(&client, "nobody"));
    let now = first.create_time.unwrap();
    let jobs = RefCell::new(vec![first.id]);
    let outcome = runner.run(&lives::life(), |life| {
        lived.set(lived.get() + 1);
        let driver = format!("d{}", lived.get());
        runtime.block_on(async {
            let ids = life.live(&client, &driver, now).await;
            for id in &ids {
                jobs_agree(&server, &client, id).await;
            }
            jobs.borrow_mut().extend(ids);
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("with LONGHAUL_AGREEMENT_SEED={seed}: {error}");
    }
    runtime.block_on(async {
        let states = lists_agree(&server, &client, &jobs.into_inner()).await;
        assert!(
            states.contains("success") && states.contains("failure"),
            "{states:?}"
        );
        assert!(
            states.contains("queued") && states.contains("running"),
            "{states:?}"
        );
        server.stop().await;
    });
}

async fn job(client: &Client, id: &str) -> Job {
    let request = GetRequest {
        job_id: id.to_owned(),
        ..GetRequest::default()
    };
    let answer = client.jobs().get(request).await.unwrap();
    answer.into_inner().job.unwrap()
}

/// Reads a job wherever it can be read, and compares.
async fn jobs_agree(server: &Server, client: &Client, id: &str) {
    let prefixes = [&AIQUM[..], &DEPLOY, &NSE, &[NATIVE]].concat();
    loop {
        let before = job(client, id).await;
        let mut replies = BTreeMap::new();
        for prefix in &prefixes {
            let reply = get(server, &format!("{prefix}/{id}")).send().await;
            replies.insert(*prefix, reply);
        }
        // A pause between attempts may have ended meanwhile.
        if job(client, id).await == before {
            agree(&before, &replies);
            return;
        }
    }
}

fn agree(job: &Job, replies: &BTreeMap<&str, Reply>) {
    let revision = format!("\"{}\"", job.revision);
    for (prefix, reply) in replies {
        assert_eq!(reply.header("etag"), revision, "{prefix}: {reply:?}");
    }
    for prefix in AIQUM {
        aiqum_agrees(job, prefix, replies[prefix].expect(200));
    }
    let mut messages = BTreeSet::new();
    for prefix in DEPLOY {
        let mut answer = replies[prefix].expect(200);
        messages.insert(deploy_agrees(job, prefix, answer["record"].take()));
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
    for prefix in NSE {
        let mut answer = replies[prefix].expect(200);
        nse_agrees(job, prefix, answer["result"]["records"][0].take());
    }
    native_agrees(job, replies[NATIVE].expect(200));
}

#[track_caller]
fn aiqum_agrees(job: &Job, prefix: &str, record: Value) {
    let expected = shown::plain(shown::aiqum(job, prefix));
    let record = shown::with_read_results(shown::plain(record), &expected);
    same(job, prefix, &record, &expected);
}

#[track_caller]
fn deploy_agrees(job: &Job, prefix: &str, mut record: Value) -> String {
    let message = record.as_object_mut().unwrap().remove("message").unwrap();
    let message = message.as_str().unwrap().to_owned();
    same(job, prefix, &record, &shown::deploy(job, prefix));
    let says = shown::is_message(job, &message);
    assert!(says, "{message:?} of {} {:?}", job.id, job.state());
    message
}

#[track_caller]
fn nse_agrees(job: &Job, prefix: &str, record: Value) {
    let expected = shown::plain(shown::nse(job));
    same(job, prefix, &shown::plain(record), &expected);
}

#[track_caller]
fn native_agrees(job: &Job, record: Value) {
    let difference = shown::difference(&record, &shown::native(job));
    assert_eq!(difference, None, "{NATIVE}/{}", job.id);
}

/// Both alike, down to the names of their fields.
#[track_caller]
fn same(job: &Job, prefix: &str, record: &Value, expected: &Value) {
    let differs = shown::difference(record, expected);
    let differs = differs.or_else(|| shown::difference(expected, record));
    let more = || (record != expected).then(|| "fields that are null, or missing".to_owned());
    let (state, status) = (job.state(), job.status());
    assert_eq!(
        differs.or_else(more),
        None,
        "{prefix}/{} {state:?} {status:?}",
        job.id
    );
}

/// The same of lists. Answers the states that there are, in the words of the plainest dialect.
async fn lists_agree(server: &Server, client: &Client, ids: &[String]) -> BTreeSet<String> {
    let list = async |path: String, records: &str, id: &str| {
        let answer = get(server, &path).send().await.expect(200);
        let records = answer.pointer(records).and_then(Value::as_array);
        let records = records.unwrap_or_else(|| panic!("no list: {answer}"));
        let by_id = records.iter().map(|record| {
            let id = record[id].as_str().unwrap();
            (id.to_owned(), record.clone())
        });
        let by_id: BTreeMap<String, Value> = by_id.collect();
        assert_eq!(by_id.len(), ids.len(), "{path}");
        by_id
    };
    let mut states = BTreeSet::new();
    let mut jobs = Vec::new();
    for id in ids {
        jobs.push(job(client, id).await);
    }
    for prefix in AIQUM {
        let mut list = list(format!("{prefix}?max_records=1000"), "/records", "key").await;
        for job in &jobs {
            aiqum_agrees(job, prefix, list.remove(&job.id).unwrap());
        }
    }
    for prefix in DEPLOY {
        let mut list = list(prefix.to_owned(), "/records", "id").await;
        for job in &jobs {
            let record = list.remove(&job.id).unwrap();
            states.insert(record["state"].as_str().unwrap().to_owned());
            deploy_agrees(job, prefix, record);
        }
    }
    for prefix in NSE {
        let mut list = list(format!("{prefix}?limit=1000"), "/result/records", "id").await;
        for job in &jobs {
            nse_agrees(job, prefix, list.remove(&job.id).unwrap());
        }
    }
    let mut list = list(
        format!("{NATIVE}?pageSize=1000&view=VIEW_FULL"),
        "/jobs",
        "id",
    )
    .await;
    for job in &jobs {
        native_agrees(job, list.remove(&job.id).unwrap());
    }
    states
}
