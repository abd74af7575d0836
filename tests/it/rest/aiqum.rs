//! The job API of Active IQ Unified Manager, as its documents tell clients to use it.

mod lists;

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::web::{Reply, call, get, post};
use crate::harness::{EXIT_WITHIN, RunningWorker, Server};

const WIRE: &str = "/api/management-server/jobs";
const WIRE_V2: &str = "/api/v2/management-server/jobs";
const DOCUMENTED: &str = "/management-server/jobs";
/// Every form of the API, with the states that its clients wait for.
const FORMS: [(&str, &[&str]); 3] = [
    (WIRE, &["completed", "aborted"]),
    (WIRE_V2, &["completed", "aborted"]),
    (DOCUMENTED, &["NORMAL", "ERROR", "PARTIAL_FAILURES"]),
];
/// Nothing in these tests should take longer.
const PATIENCE: Duration = Duration::from_secs(60);

fn job(drivers: &[&str]) -> Value {
    let tasks = drivers
        .iter()
        .map(|driver| json!({"driver": driver, "maxAttempts": 1, "resourceType": "lun"}));
    json!({
        "action": "create",
        "summary": "Create LUN a",
        "object": {"type": "luns"},
        "failurePolicy": "FAILURE_POLICY_CONTINUE",
        "tasks": tasks.collect::<Vec<_>>(),
    })
}

/// Steps 1 to 3 of the documents: the call, its 202, and the key from its body.
async fn issue(server: &Server, jobs: &str, drivers: &[&str]) -> String {
    let reply = post(server, jobs, &job(drivers)).send().await;
    let accepted = reply.expect(202);
    let key = accepted["job"]["key"].as_str().unwrap().to_owned();
    let href = format!("{jobs}/{key}");
    let expected = json!({"job": {"key": key, "_links": {"self": {"href": href}}}});
    assert_eq!(accepted, expected);
    assert_eq!(reply.header("location"), href);
    assert_eq!(reply.header("etag"), "\"1\"");
    key
}

/// Step 4: asks until the job is in one of these states; each time with these parameters.
async fn poll(server: &Server, job: &str, parameters: &str, states: &[&str]) -> Value {
    let asking = async {
        loop {
            let reply = get(server, &format!("{job}{parameters}")).send().await;
            let record = reply.expect(200);
            if states.contains(&record["state"].as_str().unwrap()) {
                return record;
            }
            // A client's pause; a long poll needs none.
            if parameters.is_empty() {
                sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let end = timeout(PATIENCE, asking).await;
    end.unwrap_or_else(|_| panic!("{job}{parameters} does not end"))
}

fn workers(server: &Server) -> Vec<RunningWorker> {
    let warns = r#"echo '{"warning":"slow"}'; echo '{"result":{"uuid":"5-6","size":10}}'"#;
    vec![
        server.worker("good", &[], &["echo", r#"{"result":{"uuid":"5-6"}}"#]),
        server.worker("warns", &[], &["sh", "-c", warns]),
        server.worker("bad", &[], &["sh", "-c", "echo 'no space' >&2; exit 1"]),
        server.worker("slow", &[], &["sleep", "600"]),
    ]
}

#[tokio::test]
async fn the_documented_procedure_ends_with_each_outcome() {
    let server = Server::start().await;
    let _workers = workers(&server);
    let outcomes: [(&[&str], &str, &str); 4] = [
        (&["good"], "NORMAL", "NORMAL"),
        (&["warns"], "NORMAL", "WARNING"),
        (&["good", "bad"], "PARTIAL_FAILURES", "PARTIAL_FAILURES"),
        (&["bad"], "ERROR", "ERROR"),
    ];
    for (jobs, states) in FORMS {
        for (drivers, state, status) in outcomes {
            let mut records = Vec::new();
            for parameters in ["", "?wait=120", "?return_timeout=1"] {
                let key = issue(&server, jobs, drivers).await;
                let path = format!("{jobs}/{key}");
                let record = poll(&server, &path, parameters, states).await;
                assert_eq!(record["key"], *key);
                assert_eq!(record["_links"]["self"]["href"], *path);
                assert!(record["complete_time"].is_string(), "{record}");
                records.push(record);
            }
            for record in records {
                let (state, status) = match jobs {
                    DOCUMENTED => (state.to_owned(), status.to_owned()),
                    _ => ("completed".to_owned(), status.to_ascii_lowercase()),
                };
                assert_eq!(
                    (&record["state"], &record["status"]),
                    (&json!(state), &json!(status))
                );
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_job_tells_its_tasks_and_results() {
    let server = Server::start().await;
    let _workers = workers(&server);
    let key = issue(&server, WIRE, &["warns"]).await;
    let path = format!("{WIRE}/{key}?wait=60");
    let record = poll(&server, &path, "", &["completed"]).await;
    let results = json!([{"name": "size", "value": "10"}, {"name": "uuid", "value": "5-6"}]);
    assert_eq!(record["job_results"], results);
    assert_eq!(record["name"], "Create LUN a");
    assert_eq!(record["type"], "create_luns");

    let key = issue(&server, DOCUMENTED, &["good", "bad"]).await;
    let path = format!("{DOCUMENTED}/{key}");
    let record = poll(&server, &path, "?wait=60", FORMS[2].1).await;
    let tasks = record["task_reports"].as_array().unwrap();
    let shown: Vec<_> = tasks
        .iter()
        .map(|task| (&task["type"], &task["state"], &task["status"]))
        .collect();
    let [kind, done] = ["create_lun", "COMPLETED"].map(Value::from);
    let [normal, error] = ["NORMAL", "ERROR"].map(Value::from);
    assert_eq!(shown, [(&kind, &done, &normal), (&kind, &done, &error)]);
    let reason = tasks[1]["failure_reason"].as_str().unwrap();
    assert!(reason.contains("no space"), "{reason}");
    server.stop().await;
}

#[tokio::test]
async fn the_documented_procedure_ends_with_a_cancellation() {
    let server = Server::start().await;
    let _workers = workers(&server);
    for (jobs, states) in FORMS {
        for driver in ["nobody", "slow"] {
            let key = issue(&server, jobs, &[driver]).await;
            let path = format!("{jobs}/{key}");
            if driver == "slow" {
                poll(&server, &path, "", &["running", "RUNNING"]).await;
            }
            // It is cancelled while a client waits for its end.
            let waiting = poll(&server, &path, "?wait=120", states);
            let cancel = ["cancel", key.as_str()];
            let cancelled = server.cli(&cancel);
            let (record, cancelled) = tokio::join!(waiting, cancelled);
            cancelled.ok();
            let (state, status) = match jobs {
                DOCUMENTED => ("ERROR", "ERROR"),
                _ => ("aborted", "error"),
            };
            assert_eq!(
                (&record["state"], &record["status"]),
                (&json!(state), &json!(status))
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_wait_ends_with_the_job_as_it_is_when_the_time_is_up() {
    let server = Server::start().await;
    let key = issue(&server, DOCUMENTED, &["nobody"]).await;
    for wait in ["wait=1", "return_timeout=1"] {
        let reply = get(&server, &format!("{DOCUMENTED}/{key}?{wait}"))
            .send()
            .await;
        assert_eq!(reply.expect(200)["state"], "QUEUED");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_wait_ends_when_the_server_drains() {
    // Both names, each of which has to wait for this to come to an end.
    for name in ["wait", "return_timeout"] {
        let mut server = Server::start_with(&["--quota-watches", "1"]).await;
        let key = issue(&server, WIRE, &["nobody"]).await;
        let ask = async |wait: u32| {
            let path = format!("{WIRE}/{key}?{name}={wait}");
            get(&server, &path).send().await
        };
        let waiting = async {
            loop {
                let reply = ask(120).await;
                // The other one had the only place.
                if reply.status.as_u16() != 429 {
                    return reply;
                }
            }
        };
        let drain = async {
            // Refused as soon as the first one waits.
            while ask(1).await.status.as_u16() != 429 {}
            server.sigterm();
        };
        let both = timeout(PATIENCE, async { tokio::join!(waiting, drain) });
        let (reply, ()) = both.await.expect("the wait ends with the server");
        assert_eq!(reply.expect(200)["state"], "queued");
        assert!(server.exit(EXIT_WITHIN).await.success(), "{}", server.log());
    }
}

#[tokio::test]
async fn who_waits_with_the_call_gets_the_job() {
    let server = Server::start().await;
    let _workers = workers(&server);
    let path = format!("{DOCUMENTED}?return_timeout=60");
    let reply = post(&server, &path, &job(&["good"])).send().await;
    assert_eq!(reply.expect(200)["state"], "NORMAL");
    assert_eq!(reply.expect(200)["job_results"][0]["value"], "5-6");
    let path = format!("{DOCUMENTED}?return_timeout=1");
    let reply = post(&server, &path, &job(&["nobody"])).send().await;
    assert!(reply.expect(202)["job"]["key"].is_string());
    server.stop().await;
}

#[tokio::test]
async fn a_job_is_the_same_under_every_prefix() {
    let server = Server::start().await;
    let key = issue(&server, WIRE, &["nobody"]).await;
    let native = get(&server, &format!("/v1/jobs/{key}")).send().await;
    for (jobs, _) in FORMS {
        // Also where a client escapes what needs no escape.
        for key in [key.clone(), key.replace('-', "%2D")] {
            let reply = get(&server, &format!("{jobs}/{key}")).send().await;
            let href = format!("{jobs}/{}", key.replace("%2D", "-"));
            assert_eq!(reply.expect(200)["_links"]["self"]["href"], href);
            assert_eq!(reply.header("etag"), native.header("etag"));
        }
    }
    server.stop().await;
}

/// The error of an answer, which has to have this form alone.
#[track_caller]
fn error(reply: &Reply, status: u16) -> Value {
    let body = reply.expect(status);
    let members = body.as_object().unwrap();
    assert_eq!(members.keys().collect::<Vec<_>>(), ["error"], "{body}");
    let error = members["error"].as_object().unwrap();
    let names: BTreeSet<&str> = error.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        BTreeSet::from(["code", "message", "target"]),
        "{body}"
    );
    assert!(error["code"].is_string() && error["message"].is_string());
    members["error"].clone()
}

#[tokio::test]
async fn errors_are_in_the_words_of_the_api() {
    let server = Server::start().await;
    for (jobs, _) in FORMS {
        for id in ["019aa5a0-0000-7000-8000-000000000001", "12", "%ff"] {
            let reply = get(&server, &format!("{jobs}/{id}")).send().await;
            if id == "%ff" {
                error(&reply, 400);
            } else {
                assert_eq!(error(&reply, 404)["code"], "JOB_NOT_FOUND");
            }
        }
        let bad = format!("{jobs}?max_records=x&state=lost&page=2&order_by=size&offset=1&offset=2");
        let told = error(&get(&server, &bad).send().await, 400);
        assert_eq!(told["code"], "INVALID_REQUEST");
        for name in ["max_records", "state", "page", "order_by", "offset"] {
            let message = told["message"].as_str().unwrap();
            assert!(message.contains(&format!("{name}: ")), "{name}: {message}");
        }
        let told = error(
            &get(&server, &format!("{jobs}?status=lost")).send().await,
            400,
        );
        let words = match jobs {
            DOCUMENTED => "NORMAL, WARNING, PARTIAL_FAILURES, ERROR",
            _ => "normal, warning, partial_failures, error",
        };
        assert_eq!(told["message"], format!("status: must be one of {words}"));
        let foreign = format!("{jobs}?page_token=abc");
        let told = error(&get(&server, &foreign).send().await, 400);
        assert_eq!(told["target"], "page_token");
        let id = issue(&server, jobs, &["nobody"]).await;
        for query in [
            "wait=0",
            "wait=121",
            "return_timeout=x",
            "wait=1&return_timeout=1",
            "x=1",
        ] {
            let path = format!("{jobs}/{id}?{query}");
            error(&get(&server, &path).send().await, 400);
        }
        error(
            &post(&server, jobs, &json!({"tasks": []})).send().await,
            400,
        );
        error(
            &post(&server, jobs, &json!({"nonsense": 1})).send().await,
            400,
        );
        error(&call(&server, "POST", jobs).body("a=b").send().await, 415);

        let reply = call(&server, "DELETE", jobs).send().await;
        assert_eq!(error(&reply, 405)["code"], "METHOD_NOT_ALLOWED");
        assert_eq!(reply.header("allow"), "GET, POST, HEAD, OPTIONS");
        let reply = call(&server, "PUT", &format!("{jobs}/{id}")).send().await;
        error(&reply, 405);
        assert_eq!(reply.header("allow"), "GET, HEAD, OPTIONS");
        let nothing = jobs.replace("/jobs", "/events");
        assert_eq!(
            error(&get(&server, &nothing).send().await, 404)["code"],
            "PATH_NOT_FOUND"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn errors_are_told_in_french() {
    let server = Server::start().await;
    let asked = |path: String| {
        get(&server, &path)
            .header("accept-language", "fr-FR, en;q=0.5")
            .send()
    };
    let reply = asked(format!("{WIRE}?submit_time=hier")).await;
    let message = error(&reply, 400)["message"].clone();
    assert!(
        message.as_str().unwrap().contains("doit être une date"),
        "{message}"
    );
    assert_eq!(reply.header("content-language"), "fr");
    let reply = asked(format!("{DOCUMENTED}/12")).await;
    let message = error(&reply, 404)["message"].clone();
    assert!(
        message.as_str().unwrap().starts_with("aucun job"),
        "{message}"
    );
    server.stop().await;
}

#[tokio::test]
async fn routes_answer_in_the_form_that_their_path_resembles() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("routes.toml");
    let prefixes = [
        ("/api/v2", WIRE_V2),
        ("/api", WIRE),
        // Like that of the second version but for a digit, and so like neither.
        ("/api/v1", WIRE),
        ("", DOCUMENTED),
    ];
    let routes = prefixes.map(|(prefix, _)| {
        format!(
            "[[route]]\ndialect = \"aiqum\"\nmatch = \"DELETE {prefix}/storage-provider/luns/{{key}}\"\naction = \"delete\"\n\
             summary = \"Delete LUN {{{{ path.key }}}}\"\nobject = {{ type = \"luns\" }}\n[[route.task]]\ndriver = \"good\"\n"
        )
    });
    std::fs::write(&file, routes.concat()).unwrap();
    let server = Server::start_with(&["--routes", file.to_str().unwrap()]).await;
    let _workers = workers(&server);
    for (prefix, jobs) in prefixes {
        let path = format!("{prefix}/storage-provider/luns/7");
        let reply = call(&server, "DELETE", &path).send().await;
        let href = reply.expect(202)["job"]["_links"]["self"]["href"].clone();
        assert!(
            href.as_str().unwrap().starts_with(&format!("{jobs}/")),
            "{href}"
        );
        let record = poll(
            &server,
            href.as_str().unwrap(),
            "?wait=60",
            &["completed", "NORMAL"],
        )
        .await;
        assert_eq!(record["name"], "Delete LUN 7");
        assert_eq!(record["type"], "delete_luns");
        let reply = call(&server, "DELETE", &format!("{path}?return_timeout=60"))
            .send()
            .await;
        assert_eq!(
            reply.expect(200)["status"]
                .as_str()
                .unwrap()
                .to_ascii_lowercase(),
            "normal"
        );
        let reply = call(&server, "DELETE", &format!("{path}?return_timeout=0"))
            .send()
            .await;
        assert_eq!(error(&reply, 400)["target"], "return_timeout");
        error(&call(&server, "POST", &path).send().await, 405);
    }
    server.stop().await;
}
