//! Clients that err: each is told in the words of its system, in its own language, and nothing is submitted.

use longhaul::proto::v1::{GetCountsRequest, GetCountsResponse};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    super::web::{Call, Reply, call, get, post},
    serving,
    systems::{ALL, System, Words},
};
use crate::harness::Server;

async fn nothing_is_submitted(server: &Server) {
    let client = server.client().await;
    let counts = client.jobs().get_counts(GetCountsRequest::default()).await;
    assert_eq!(counts.unwrap().into_inner(), GetCountsResponse::default());
}

/// A request in English and in French: the error is the same one, told otherwise.
async fn in_both<'a>(
    words: Words,
    status: u16,
    about: Option<&str>,
    call: impl Fn() -> Call<'a>,
) -> Reply {
    let english = call().send().await;
    let message = words.error(&english, status, about);
    assert_eq!(english.header("content-language"), "en");
    let french = call()
        .header("accept-language", "fr-FR, en;q=0.2")
        .send()
        .await;
    assert_ne!(words.error(&french, status, about), message);
    assert_eq!(french.header("content-language"), "fr");
    english
}

fn without(mut body: Value, field: &str) -> Value {
    body.as_object_mut().unwrap().remove(field).unwrap();
    body
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

/// Bodies that break the schema of a call, and what about each is wrong.
fn broken(system: &System) -> Vec<(Value, &'static str)> {
    let good = (system.body)("good-1");
    let mut broken = vec![
        (Value::Null, "body"),
        (json!([]), "body"),
        (json!("good-1"), "body"),
        (json!({}), "body"),
        (with(good.clone(), "colour", json!("red")), "body"),
    ];
    let fields: &[(&str, &str, Value)] = match system.path {
        "/api/admin/datasources/clusters" => &[
            ("address", "body.address", json!("")),
            ("password", "body.password", json!(7)),
        ],
        "/api/storage-provider/luns" => &[
            ("svm", "body.svm", json!({"name": "svm-1"})),
            ("size", "body.size", json!("-1")),
        ],
        "/api/v3/clusters" => &[
            ("gateway", "body.gateway", json!("10.0.0.256")),
            (
                "nodes",
                "body.nodes[0]",
                json!([{"name": "n1", "ip": "10.0.0.2"}]),
            ),
        ],
        _ => &[
            ("name", "body.name", json!("Bucket_1")),
            ("subtenant_id", "body.subtenant_id", json!([])),
        ],
    };
    for (field, about, value) in fields {
        broken.push((without(good.clone(), field), "body"));
        broken.push((with(good.clone(), field, value.clone()), about));
    }
    broken
}

#[tokio::test]
async fn a_body_that_breaks_the_schema_is_refused_in_the_words_of_the_system() {
    let server = serving().await;
    for system in &ALL {
        for (body, about) in broken(system) {
            in_both(system.words, 400, Some(about), || {
                post(&server, system.path, &body)
            })
            .await;
        }
        let secret = with(
            (system.body)("good-1"),
            "admin_password",
            json!({"is": "hush"}),
        );
        let refused = post(&server, system.path, &secret).send().await;
        system.words.error(&refused, 400, Some("body"));
        assert!(!refused.text.contains("hush"), "{refused:?}");
        // None at all, and none that is JSON.
        in_both(system.words, 400, Some("body"), || {
            call(&server, "POST", system.path)
        })
        .await;
        for text in ["{", "{} {}", r#"{"name":"a","name":"b"}"#, "\u{feff}"] {
            let call =
                call(&server, "POST", system.path).header("content-type", "application/json");
            system
                .words
                .error(&call.body(text.to_owned()).send().await, 400, None);
        }
    }
    nothing_is_submitted(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_told_in_the_words_of_the_system() {
    let server = serving().await;
    for system in &ALL {
        for jobs in system.jobs {
            let (above, _) = jobs.rsplit_once('/').unwrap();
            let mut unknown = vec![
                format!("{jobs}/019aa5a0-0000-7000-8000-000000000001/tasks"),
                format!("{jobs}/019aa5a0-0000-7000-8000-000000000001"),
                format!("{jobs}/17"),
            ];
            // Beside `/api/jobs` there is what belongs to nobody.
            if *jobs != "/api/jobs" {
                unknown.push(format!("{above}/nothing"));
            }
            for path in unknown {
                in_both(system.words, 404, None, || get(&server, &path)).await;
            }
        }
    }
    nothing_is_submitted(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_method_is_told_which_ones_there_are() {
    let server = serving().await;
    for system in &ALL {
        for method in ["GET", "PUT", "PATCH", "DELETE"] {
            let wrong = || call(&server, method, system.path);
            let reply = in_both(system.words, 405, None, wrong).await;
            assert_eq!(
                reply.header("allow"),
                "POST, OPTIONS",
                "{method} {}",
                system.path
            );
        }
        let place = format!("{}/019aa5a0-0000-7000-8000-000000000001", system.jobs[0]);
        let reply = in_both(system.words, 405, None, || call(&server, "DELETE", &place)).await;
        assert_eq!(reply.header("allow"), "GET, HEAD, OPTIONS");
        let reply = in_both(system.words, 405, None, || {
            call(&server, "PUT", system.jobs[0])
        })
        .await;
        assert_eq!(reply.header("allow"), "GET, POST, HEAD, OPTIONS");
    }
    nothing_is_submitted(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_is_not_said_to_be_json_is_refused() {
    let server = serving().await;
    for system in &ALL {
        let body = (system.body)("good-1").to_string();
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jsonp",
            "",
        ] {
            let wrong = || {
                let call = call(&server, "POST", system.path).body(body.clone());
                call.header("content-type", kind)
            };
            in_both(system.words, 415, None, wrong).await;
        }
        let silent = || call(&server, "POST", system.path).body(body.clone());
        in_both(system.words, 415, None, silent).await;
    }
    nothing_is_submitted(&server).await;
    // The control: said to be JSON in other ways, these would have been taken.
    for system in &ALL {
        let body = (system.body)("good-1").to_string();
        for kind in [
            "Application/JSON; charset=utf-8",
            "application/vnd.api+json",
        ] {
            let call = call(&server, "POST", system.path).body(body.clone());
            let reply = call.header("content-type", kind).send().await;
            system.words.accepted(&server, &reply);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_template_that_needs_what_is_not_there_says_so() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("routes.toml");
    let places = [
        (Words::Aiqum, "aiqum", "/api/storage-provider/things"),
        (Words::Deploy, "deploy", "/api/v3/things"),
        (Words::Nse, "nse", "/v2.1/things"),
        (Words::Native, "native", "/things"),
    ];
    let routes = places.map(|(_, dialect, path)| {
        format!(
            "[[route]]\ndialect = \"{dialect}\"\nmatch = \"POST {path}\"\naction = \"create\"\n\
             summary = \"Create {{{{ body.name }}}} in {{{{ body.svm.key }}}}\"\n[[route.task]]\ndriver = \"nobody\"\n"
        )
    });
    std::fs::write(&file, routes.concat()).unwrap();
    let server = Server::start_with(&["--routes", file.to_str().unwrap()]).await;
    for (words, _, path) in places {
        for (body, missing) in [
            (json!({"name": "a"}), "`body.svm`"),
            (json!({"name": "a", "svm": {}}), "`body.svm.key`"),
            (Value::Null, "`body.name`"),
        ] {
            let reply = in_both(words, 400, None, || post(&server, path, &body)).await;
            assert!(reply.text.contains(missing), "{reply:?}");
        }
        let reply = in_both(words, 405, None, || get(&server, path)).await;
        assert_eq!(reply.header("allow"), "POST, OPTIONS");
        let wrong = || call(&server, "POST", path).body("{}");
        in_both(words, 415, None, wrong).await;
    }
    nothing_is_submitted(&server).await;
    for (words, _, path) in places {
        let body = json!({"name": "a", "svm": {"key": "b"}});
        let reply = post(&server, path, &body).send().await;
        words.accepted(&server, &reply);
    }
    server.stop().await;
}
