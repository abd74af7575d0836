//! Each documented system from the outside, with the routes that are shipped: from its asynchronous call to the result, and what those are told
//! who err.

mod mistakes;
mod systems;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use self::systems::{AIQUM, AIQUM_9_8, ALL, DEPLOY, End, NSE, System, Words};
use super::web::{get, post};
use crate::harness::{RunningWorker, Server};

const ROUTES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/routes");
/// Nothing in these tests should take longer; shorter than the waits that have to end before their time.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a documented client does between two requests.
const PAUSE: Duration = Duration::from_millis(50);
/// The worker of every system: what a thing is called says how it ends, in words that no id can hold.
const WORK: &str = r#"
input=$(cat)
case "$input" in *broken*) echo "no space left" >&2; exit 1;; esac
case "$LONGHAUL_TASK_NAME $input" in map*half*|take_stock*half*|deploy*half*) echo "no space left" >&2; exit 1;; esac
echo '{"progress": {"done": 1, "total": 2, "message": "half way"}}'
echo '{"result": {"uuid": "5-6", "size": 10}}'
"#;

async fn serving() -> Server {
    Server::start_with(&["--routes", ROUTES]).await
}

fn worker(server: &Server, system: &System) -> RunningWorker {
    server.worker(system.driver, &["--slots", "4"], &["sh", "-c", WORK])
}

/// The loop of the documents: asks, and pauses, until the job has ended.
async fn polled(server: &Server, words: Words, place: &str) -> Value {
    let polling = async {
        loop {
            let record = words.record(&get(server, place).send().await);
            if words.end(&record, place).is_some() {
                return record;
            }
            sleep(PAUSE).await;
        }
    };
    let record = timeout(PATIENCE, polling).await;
    record.unwrap_or_else(|_| panic!("{place} does not end"))
}

/// The loop of long polls, which needs no pause. Each answer but the last one has to be news.
async fn followed(server: &Server, words: Words, place: &str) -> Value {
    let mut known = Value::Null;
    let mut tag = "\"0\"".to_owned();
    let following = async {
        loop {
            let changed = known["last_modified"].as_str().unwrap_or("None");
            let call = match words {
                Words::Aiqum => get(server, &format!("{place}?wait=120")),
                Words::Deploy => get(
                    server,
                    &format!("{place}?fields=**&poll_timeout=120&last_modified=%3E={changed}"),
                ),
                Words::Nse | Words::Native => get(server, place)
                    .header("prefer", "wait=120")
                    .header("if-none-match", &tag),
            };
            let reply = call.send().await;
            let record = words.record(&reply);
            assert_ne!(record, known, "no news");
            if words.end(&record, place).is_some() {
                return record;
            }
            assert_ne!(words, Words::Aiqum, "a wait for the end: {record}");
            tag = reply.header("etag").to_owned();
            known = record;
        }
    };
    let record = timeout(PATIENCE, following).await;
    record.unwrap_or_else(|_| panic!("{place} does not end"))
}

/// What the documents promise at the end: the result, or what went wrong.
fn assert_told(system: &System, end: End, place: &str, record: &Value) {
    assert_eq!(
        system.words.end(record, place),
        Some(end),
        "{place}: {record}"
    );
    let text = record.to_string();
    assert!(!text.contains("hush-hush"), "a password is shown: {text}");
    assert_eq!(text.contains("no space left"), end != End::Good, "{text}");
    match system.words {
        Words::Aiqum => {
            let results = record["job_results"].as_array().unwrap().iter();
            let names: Vec<&str> = results.map(|r| r["name"].as_str().unwrap()).collect();
            let done = match end {
                End::Good => system.tasks,
                End::Half => &system.tasks[..1],
                End::Bad => &[],
            };
            assert_eq!(names, done);
            if let Some(first) = record["job_results"].get(0) {
                let value: Value = serde_json::from_str(first["value"].as_str().unwrap()).unwrap();
                assert_eq!(value, json!({"uuid": "5-6", "size": 10}));
            }
            assert!(record["complete_time"].is_string());
        }
        Words::Deploy => {}
        Words::Nse => {
            let tasks = record["job_tasks"].as_array().unwrap();
            assert_eq!(tasks.len(), system.tasks.len());
            assert_eq!(tasks[0]["status"], record["status"]);
        }
        Words::Native => panic!("not a documented system"),
    }
}

/// The whole documented procedure, for each way in which a job may end, in each place where jobs are, by both loops.
async fn whole_story(system: &System) {
    let server = serving().await;
    let _worker = worker(&server, system);
    let words = system.words;
    for end in [End::Good, End::Half, End::Bad] {
        if !system.can_end(end) {
            continue;
        }
        let name = match end {
            End::Good => "good-1",
            End::Half => "half-1",
            End::Bad => "broken-1",
        };
        let body = (system.body)(name);
        for by_long_polls in [false, true] {
            let reply = post(&server, system.path, &body).send().await;
            let (id, linked) = words.accepted(&server, &reply);
            let documented = system.jobs.iter().map(|jobs| format!("{jobs}/{id}"));
            let places = documented.chain([linked]);
            for place in places {
                let record = match by_long_polls {
                    false => polled(&server, words, &place).await,
                    true => followed(&server, words, &place).await,
                };
                assert_told(system, end, &place, &record);
            }
            // The same result as the native API has.
            let job = get(&server, &format!("/v1/jobs/{id}"))
                .send()
                .await
                .expect(200);
            assert_eq!(job["result"].is_object(), end != End::Bad, "{job}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn the_whole_story_of_active_iq() {
    whole_story(&AIQUM).await;
}

#[tokio::test]
async fn the_whole_story_of_active_iq_9_8() {
    whole_story(&AIQUM_9_8).await;
}

#[tokio::test]
async fn the_whole_story_of_deploy() {
    whole_story(&DEPLOY).await;
}

#[tokio::test]
async fn the_whole_story_of_service_engine() {
    whole_story(&NSE).await;
}

#[tokio::test]
async fn who_would_rather_wait_gets_the_result_with_the_call() {
    let server = serving().await;
    for system in &ALL {
        let _worker = worker(&server, system);
        let (words, good) = (system.words, (system.body)("good-1"));
        let reply = post(&server, system.path, &good).header("prefer", "wait=100");
        let reply = timeout(PATIENCE, reply.send()).await.unwrap();
        assert_eq!(reply.header("preference-applied"), "wait=100");
        let place = system.jobs[1];
        assert_told(system, End::Good, place, &words.record(&reply));
        // A job that failed is no failed call.
        let bad =
            post(&server, system.path, &(system.body)("broken-1")).header("prefer", "wait=100");
        let bad = timeout(PATIENCE, bad.send()).await.unwrap();
        assert_told(system, End::Bad, place, &words.record(&bad));
        if words != Words::Nse {
            let path = format!("{}?return_timeout=100", system.path);
            let reply = timeout(PATIENCE, post(&server, &path, &good).send()).await;
            assert_told(system, End::Good, place, &words.record(&reply.unwrap()));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn who_would_rather_wait_is_not_kept_for_longer_than_that() {
    let server = serving().await;
    for system in &ALL {
        let path = match system.words {
            Words::Nse => system.path.to_owned(),
            _ => format!("{}?return_timeout=1", system.path),
        };
        let reply = post(&server, &path, &(system.body)("good-1")).header("prefer", "wait=1");
        system.words.accepted(&server, &reply.send().await);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_is_repeated_with_its_key_is_one_job() {
    let server = serving().await;
    for system in &ALL {
        let words = system.words;
        let key = format!("key of {}", system.path);
        let send = async |name: &str| {
            let call = post(&server, system.path, &(system.body)(name));
            call.header("idempotency-key", &key).send().await
        };
        let (first, _) = words.accepted(&server, &send("good-1").await);
        assert_eq!(words.accepted(&server, &send("good-1").await).0, first);
        words.error(&send("good-2").await, 409, None);
        let without = post(&server, system.path, &(system.body)("good-1")).send();
        assert_ne!(words.accepted(&server, &without.await).0, first);
    }
    let counts = get(&server, "/v1/jobs:counts").send().await.expect(200);
    assert_eq!(
        counts["jobs"],
        json!([{"state": "STATE_QUEUED", "count": "8"}])
    );
    server.stop().await;
}
