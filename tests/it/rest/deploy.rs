//! The job API of ONTAP Select Deploy, by the procedures that its documents tell.

mod lists;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::web::{Reply, call, get, post};
use crate::harness::Server;

/// Nothing in these tests should take longer; shorter than the waits that have to end before their time.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause of a client that polls without waiting.
const PAUSE: Duration = Duration::from_millis(100);
const COLLECTIONS: [&str; 2] = ["/api/jobs", "/api/v3/jobs"];
const NOBODY: &str = "019aa5a0-0000-7000-8000-000000000001";

fn spec(drivers: &[&str]) -> Value {
    let tasks = drivers.iter().enumerate();
    let tasks = tasks.map(|(n, driver)| json!({"name": format!("task-{n}"), "driver": driver}));
    json!({
        "action": "create",
        "summary": "Create cluster one",
        "failurePolicy": "FAILURE_POLICY_CONTINUE",
        "tasks": tasks.collect::<Vec<_>>(),
    })
}

/// Submits a job of one task for each of the drivers, and reads its id where the documents say that it is.
async fn submit(server: &Server, collection: &str, drivers: &[&str]) -> String {
    let reply = post(server, collection, &spec(drivers)).send().await;
    let body = reply.expect(202);
    let job = &body["job"];
    let id = job["id"].as_str().unwrap().to_owned();
    let path = format!("{collection}/{id}");
    assert_eq!(
        reply.header("location"),
        format!("{}{path}", server.endpoint())
    );
    assert_eq!(reply.header("etag"), "\"1\"");
    assert_eq!(job["_links"]["self"]["href"], path);
    assert_record(job);
    id
}

#[track_caller]
fn assert_record(record: &Value) {
    let fields: Vec<_> = record.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        fields,
        ["_links", "id", "last_modified", "message", "state"]
    );
    let text = |field: &str| record[field].as_str().unwrap();
    assert!(["queued", "running", "success", "failure"].contains(&text("state")));
    assert_ne!(text("message"), "");
    let time = text("last_modified");
    assert_eq!((time.len(), &time[19..20], &time[26..]), (27, ".", "Z"));
}

fn is_over(record: &Value) -> bool {
    ["success", "failure"].contains(&record["state"].as_str().unwrap())
}

/// The record of an answer.
#[track_caller]
fn record(reply: &Reply) -> Value {
    let record = reply.expect(200)["record"].clone();
    assert_record(&record);
    record
}

/// Asks again and again, with a pause, until the job is over.
async fn poll(server: &Server, path: &str) -> Value {
    let polling = async {
        loop {
            let reply = get(server, &format!("{path}?fields=state,message"));
            let record = record(&reply.send().await);
            if is_over(&record) {
                return record;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, polling).await.expect("the job ends")
}

/// Waits for each change, without a pause, until the job is over; answers with all that was told.
async fn long_poll(server: &Server, path: &str, seconds: u32) -> Vec<Value> {
    let mut told: Vec<Value> = Vec::new();
    let mut bound = "None".to_owned();
    let polling = async {
        loop {
            let path = format!("{path}?fields=**&poll_timeout={seconds}&last_modified={bound}");
            let record = record(&get(server, &path).send().await);
            let changed = record["last_modified"].as_str().unwrap();
            bound = format!("%3E={changed}");
            told.push(record);
            if told.last().is_some_and(is_over) {
                return;
            }
        }
    };
    timeout(PATIENCE, polling).await.expect("the job ends");
    told
}

/// The revision of a job, as the native API has it.
async fn revision(server: &Server, id: &str) -> usize {
    let job = get(server, &format!("/v1/jobs/{id}")).send().await;
    job.expect(200)["revision"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn the_documented_procedures_end_with_the_outcome() {
    let server = Server::start().await;
    let _good = server.worker("good", &["--slots", "8"], &["echo", "four nodes are up"]);
    let warns = r#"echo '{"warning": "slow disk"}'"#;
    let _warns = server.worker("warns", &["--slots", "8"], &["sh", "-c", warns]);
    let _bad = server.worker(
        "bad",
        &["--slots", "8"],
        &["sh", "-c", "echo no space >&2; exit 3"],
    );
    for (drivers, state, words) in [
        (&["good"][..], "success", &["four nodes are up"][..]),
        (&["good", "good"], "success", &["succeeded"]),
        (&["warns"], "success", &["a warning", "slow disk"]),
        (&["bad"], "failure", &["task-0", "no space"]),
        (
            &["good", "bad"],
            "failure",
            &["1 of 2 tasks succeeded", "task-1", "no space"],
        ),
    ] {
        for collection in COLLECTIONS {
            let path = format!(
                "{collection}/{}",
                submit(&server, collection, drivers).await
            );
            let polled = poll(&server, &path).await;
            let path = format!(
                "{collection}/{}",
                submit(&server, collection, drivers).await
            );
            let told = long_poll(&server, &path, 120).await;
            for over in [&polled, told.last().unwrap()] {
                assert_eq!(over["state"], state, "{drivers:?}");
                let message = over["message"].as_str().unwrap();
                let said = words.iter().all(|words| message.contains(words));
                assert!(said, "{drivers:?}: {message}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_cancelled_job_ends_both_procedures_as_a_failure() {
    let server = Server::start().await;
    let _worker = server.worker("slow", &["--slots", "2"], &["sleep", "600"]);
    let ids = [
        submit(&server, COLLECTIONS[1], &["slow"]).await,
        submit(&server, COLLECTIONS[1], &["nobody"]).await,
    ];
    for id in ids {
        let path = format!("{}/{id}", COLLECTIONS[1]);
        let cancel = async {
            let path = format!("/v1/jobs/{id}:cancel");
            let reply = post(&server, &path, &json!({"reason": "wrong network"}));
            assert!(reply.send().await.status.is_success());
        };
        let (polled, told, ()) =
            tokio::join!(poll(&server, &path), long_poll(&server, &path, 120), cancel);
        assert_eq!(polled, *told.last().unwrap());
        assert_eq!(polled["state"], "failure");
        assert_eq!(polled["message"], "the job was cancelled: wrong network");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_loops_without_a_pause_asks_once_for_each_change() {
    let server = Server::start().await;
    // Warnings are never merged, so that there are as many changes as these.
    let script = r#"for n in 1 2 3 4 5 6 7 8 9 10 11 12; do
        echo "{\"status_detail\": \"node $n\"}"
        echo "{\"warning\": \"disk $n\"}"
        sleep 0.25
    done"#;
    let id = submit(&server, COLLECTIONS[1], &["busy"]).await;
    let path = format!("{}/{id}", COLLECTIONS[1]);
    let following = long_poll(&server, &path, 120);
    let _worker = server.worker("busy", &[], &["sh", "-c", script]);
    let told = following.await;
    let changes = revision(&server, &id).await - 1;
    assert!(changes >= 12, "{changes}");
    assert!(told.len() <= changes + 1, "{} for {changes}", told.len());
    let times: Vec<_> = told
        .iter()
        .map(|record| record["last_modified"].as_str())
        .collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    let messages: Vec<_> = told.iter().map(|record| &record["message"]).collect();
    assert!(messages.contains(&&json!("node 12")), "{messages:?}");
    server.stop().await;
}

/// The control of the test before: without the bound a client is told the same again, and would spin.
#[tokio::test]
async fn without_a_bound_the_answer_comes_at_once() {
    let server = Server::start().await;
    let id = submit(&server, COLLECTIONS[0], &["nobody"]).await;
    let path = format!("{}/{id}", COLLECTIONS[0]);
    let first = get(&server, &path).send().await;
    let changed = record(&first)["last_modified"].as_str().unwrap().to_owned();
    for query in [
        "".to_owned(),
        "fields=*".to_owned(),
        "poll_timeout=120".to_owned(),
        "poll_timeout=120&last_modified=".to_owned(),
        "poll_timeout=120&last_modified=None".to_owned(),
        "poll_timeout=120&last_modified=%3E=None".to_owned(),
        "poll_timeout=120&last_modified=%3E=soon".to_owned(),
        format!("last_modified=%3E={changed}"),
        // Older than the job.
        "poll_timeout=120&last_modified=%3E=2019-04-04T15:41:29.140265Z".to_owned(),
    ] {
        let reply = get(&server, &format!("{path}?{query}")).send();
        let reply = timeout(PATIENCE, reply).await.expect("an answer at once");
        assert_eq!(record(&reply), record(&first), "{query}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_long_poll_answers_with_the_next_message_or_the_end_or_when_the_time_is_up() {
    let server = Server::start().await;
    let id = submit(&server, COLLECTIONS[1], &["d"]).await;
    let path = format!("{}/{id}", COLLECTIONS[1]);
    let now = record(&get(&server, &path).send().await);
    let newer = |than: &Value, operator: &str, seconds: u32| {
        let changed = than["last_modified"].as_str().unwrap();
        format!("{path}?poll_timeout={seconds}&last_modified={operator}{changed}")
    };
    for operator in ["%3E=", "%3E", "%3E=%20", ""] {
        let reply = get(&server, &newer(&now, operator, 1)).send().await;
        assert_eq!(record(&reply), now, "{operator}");
        assert_eq!(reply.header("etag"), "\"1\"");
    }

    let acquire = json!({"worker": "w", "drivers": ["d"], "wait": "30s"});
    let leases = post(&server, "/v1/workers:acquire", &acquire).send().await;
    let lease = leases.expect(200)["leases"][0]["leaseToken"].clone();
    let mut seen = record(&get(&server, &path).send().await);
    for (name, report, message) in [
        ("progress", json!({"statusDetail": "node 1"}), "node 1"),
        (
            "progress",
            json!({"progress": {"message": "node 2"}}),
            "node 2",
        ),
        ("success", json!({"statusDetail": "all up"}), "all up"),
    ] {
        let newer = newer(&seen, "%3E=", 120);
        let poll = timeout(PATIENCE, get(&server, &newer).send());
        let report = json!({"reports": [{"leaseToken": lease, name: report}]});
        let report = post(&server, "/v1/workers:report", &report).send();
        let (polled, reported) = tokio::join!(poll, report);
        reported.expect(200);
        seen = record(&polled.expect("before the time is up"));
        assert_eq!(seen["message"], message);
        // Whatever it is that was said last, the other dialects say the same.
        let nse = get(&server, &format!("/v2.1/jobs/{id}")).send().await;
        let nse = nse.expect(200)["result"]["records"][0].take();
        assert_eq!(nse["status_detail"], message);
        assert_eq!(nse["job_tasks"][0]["status_detail"], message);
        let aiqum = format!("/api/management-server/jobs/{id}");
        let aiqum = get(&server, &aiqum).send().await.expect(200);
        assert_eq!(aiqum["task_reports"][0]["description"], message);
    }
    let over = get(&server, &newer(&seen, "%3E=", 120)).send();
    let over = timeout(PATIENCE, over).await.expect("an answer at once");
    assert_eq!(record(&over), seen);
    assert_eq!(seen["state"], "success");
    server.stop().await;
}

#[tokio::test]
async fn who_waits_is_answered_before_the_server_goes() {
    let mut server = Server::start_with(&["--quota-watches", "1"]).await;
    let id = submit(&server, COLLECTIONS[1], &["nobody"]).await;
    let path = format!("{}/{id}", COLLECTIONS[1]);
    let now = record(&get(&server, &path).send().await);
    let changed = now["last_modified"].as_str().unwrap();
    let bound = format!("{path}?poll_timeout=120&last_modified=%3E={changed}");
    let native = format!("/v1/jobs/{id}");
    // A wait of no time: it is refused if somebody waits.
    let probe = || get(&server, &native).header("prefer", "wait=0").send();
    let waiting = async {
        loop {
            let reply = get(&server, &bound).send().await;
            // The probe was there first.
            if reply.status.as_u16() != 429 {
                return reply;
            }
            assert_eq!(reply.json()["error"]["code"], "QUOTA_EXCEEDED");
        }
    };
    let waiting = timeout(PATIENCE, waiting);
    let stopping = async {
        while probe().await.status.as_u16() != 429 {}
        let refused = get(&server, &bound).send().await;
        assert_eq!(refused.expect(429)["error"]["code"], "QUOTA_EXCEEDED");
        assert_eq!(refused.header("retry-after"), "1");
        server.sigterm();
    };
    let (waited, ()) = tokio::join!(waiting, stopping);
    assert_eq!(record(&waited.expect("an answer at once")), now);
    assert!(server.exit(PATIENCE).await.success());
}

#[tokio::test]
async fn who_submits_may_wait_for_the_end() {
    let server = Server::start().await;
    let _worker = server.worker("good", &["--slots", "8"], &["true"]);
    let by_parameter = format!("{}?return_timeout=60", COLLECTIONS[1]);
    let prefer = |path: &str| post(&server, path, &spec(&["good"])).header("prefer", "wait=60");
    for call in [
        post(&server, &by_parameter, &spec(&["good"])),
        prefer(COLLECTIONS[1]),
    ] {
        let reply = call.send().await;
        assert_eq!(reply.expect(200)["job"]["state"], "success");
        assert_record(&reply.json()["job"]);
    }
    // Who says not to wait is not made to by a header, which some clients send with everything.
    let at_once = format!("{}?return_timeout=0", COLLECTIONS[1]);
    let reply = prefer(&at_once).send().await;
    assert!(reply.expect(202)["job"]["id"].is_string());
    assert_eq!(reply.headers.get("preference-applied"), None);
    let not_in_time = format!("{}?return_timeout=1", COLLECTIONS[0]);
    let reply = post(&server, &not_in_time, &spec(&["nobody"])).send().await;
    assert_eq!(reply.expect(202)["job"]["state"], "queued");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let call = post(&server, COLLECTIONS[1], &spec(&["nobody"]));
        let reply = call.header("idempotency-key", "k-1").send().await;
        ids.push(reply.expect(202)["job"]["id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    server.stop().await;
}

#[tokio::test]
async fn a_cluster_is_created_as_the_documents_tell_it() {
    let routes = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/routes/deploy.toml");
    let server = Server::start_with(&["--routes", routes]).await;
    let _worker = server.worker("select_deploy", &[], &["echo", "four nodes are up"]);
    let cluster = json!({
        "name": "one", "ip": "10.0.0.1", "netmask": "255.255.255.0", "gateway": "10.0.0.254", "admin_password": "hush-hush",
        "nodes": [{"name": "n1", "ip": "10.0.0.2", "host": "h1"}],
    });
    let reply = post(&server, "/api/v3/clusters", &cluster).send().await;
    let body = reply.expect(202);
    let path = body["job"]["_links"]["self"]["href"].as_str().unwrap();
    assert_eq!(
        reply.header("location"),
        format!("{}{path}", server.endpoint())
    );
    assert!(!reply.header("request-id").is_empty());
    let told = long_poll(&server, path, 120).await;
    assert_eq!(told.last().unwrap()["state"], "success");
    assert!(!format!("{body} {told:?}").contains("hush-hush"));
    let bad = post(&server, "/api/v3/clusters", &json!({"name": 7}))
        .send()
        .await;
    let error = bad.expect(400)["error"].clone();
    assert!(
        error["target"].as_str().unwrap().starts_with("body"),
        "{error}"
    );
    assert!(!bad.header("request-id").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn links_and_revisions_are_good_everywhere() {
    let server = Server::start().await;
    let accepted = post(&server, COLLECTIONS[1], &spec(&["nobody"]))
        .send()
        .await;
    let location = accepted.header("location").to_owned();
    let path = location.strip_prefix(&server.endpoint()).unwrap();
    let found = get(&server, path).send().await;
    assert_eq!(record(&found), accepted.expect(202)["job"]);
    let id = found.json()["record"]["id"].as_str().unwrap().to_owned();
    let native = get(&server, &format!("/v1/jobs/{id}")).send().await;
    assert_eq!(native.header("etag"), found.header("etag"));
    assert_eq!(native.json()["id"], id);
    let capitals = get(&server, &format!("/api/jobs/{}/", id.to_uppercase()));
    assert_eq!(capitals.send().await.expect(200)["record"]["id"], id);
    let escaped = id.replace('-', "%2D");
    let escaped = get(&server, &format!("/api/jobs/{escaped}")).send().await;
    assert_eq!(escaped.expect(200)["record"]["id"], id);
    let head = call(&server, "HEAD", path).send().await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    server.stop().await;
}

#[tokio::test]
async fn mistakes_are_told_in_this_dialect() {
    let server = Server::start().await;
    let id = submit(&server, COLLECTIONS[1], &["nobody"]).await;
    let mut request_ids = Vec::new();
    for (method, path, status, target, words) in [
        (
            "GET",
            "/api/v3/jobs/ID?poll_timeout=0",
            400,
            "poll_timeout",
            "from 1 to 120",
        ),
        (
            "GET",
            "/api/v3/jobs/ID?poll_timeout=121",
            400,
            "poll_timeout",
            "from 1 to 120",
        ),
        (
            "GET",
            "/api/v3/jobs/ID?poll_timeout=soon",
            400,
            "poll_timeout",
            "from 1 to 120",
        ),
        ("GET", "/api/v3/jobs/ID?wait=1&x=1", 400, "wait", "x: "),
        (
            "GET",
            "/api/jobs/ID?fields=*&fields=*",
            400,
            "fields",
            "twice",
        ),
        (
            "GET",
            "/api/jobs?state=done",
            400,
            "state",
            "queued, running, success, failure",
        ),
        (
            "GET",
            "/api/jobs?order_by=name",
            400,
            "order_by",
            "last_modified",
        ),
        (
            "GET",
            "/api/jobs?max_records=0&last_modified=x",
            400,
            "max_records",
            "last_modified: ",
        ),
        (
            "POST",
            "/api/jobs?return_timeout=121",
            400,
            "return_timeout",
            "120",
        ),
        ("GET", "/api/v3/jobs/NOBODY", 404, "", "no job"),
        ("GET", "/api/jobs/7", 404, "", "no job"),
        ("GET", "/api/jobs/None?poll_timeout=1", 404, "", "no job"),
        ("GET", "/api/v3/jobs/ID/tasks", 404, "", "nothing at"),
        ("GET", "/api/v3/clusters", 404, "", "nothing at"),
        ("DELETE", "/api/v3/jobs/ID", 405, "", "GET"),
        ("PUT", "/api/jobs", 405, "", "POST"),
    ] {
        let path = path.replace("ID", &id).replace("NOBODY", NOBODY);
        let reply = call(&server, method, &path).send().await;
        let error = reply.expect(status)["error"].clone();
        assert_eq!(error["target"], target, "{path}");
        assert!(error["code"].is_string(), "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{path}: {message}");
        if status == 405 {
            assert!(reply.header("allow").contains(words));
        }
        request_ids.push(reply.header("request-id").to_owned());

        let french = call(&server, method, &path).header("accept-language", "fr");
        let french = french.send().await;
        assert_eq!(french.header("content-language"), "fr");
        assert_ne!(french.expect(status)["error"]["message"], message, "{path}");
    }
    let refused = post(
        &server,
        COLLECTIONS[0],
        &json!({"tasks": [{"driver": "a b"}]}),
    );
    let refused = refused.send().await;
    assert_eq!(refused.expect(400)["error"]["code"], "INVALID_REQUEST");
    let plain = call(&server, "POST", COLLECTIONS[0])
        .body("{}")
        .send()
        .await;
    assert_eq!(plain.expect(415)["error"]["code"], "UNSUPPORTED_MEDIA_TYPE");
    let options = call(&server, "OPTIONS", COLLECTIONS[0]).send().await;
    assert_eq!(options.status.as_u16(), 204);
    let list = get(&server, COLLECTIONS[0]).send().await;
    for reply in [&refused, &plain, &options, &list] {
        request_ids.push(reply.header("request-id").to_owned());
    }
    let all = request_ids.len();
    request_ids.sort();
    request_ids.dedup();
    assert_eq!(request_ids.len(), all, "a request-id is used twice");

    let french = get(&server, &format!("/api/jobs/{id}")).header("accept-language", "fr");
    assert_eq!(
        record(&french.send().await)["message"],
        "attend un exécutant"
    );
    server.stop().await;
}
