//! The ways that are not gRPC: REST, dialects, routes, and the command line.

use std::{fmt::Debug, fs};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use longhaul::proto::v1::{Success, task_report::Report};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{Flight, structure};
use crate::{
    canary::{Kept, birds::Birds},
    harness::Server,
    jobs::job_when,
    rest::web::{call, get, post},
};

impl Flight<'_> {
    /// The same over REST, and what is wrong there.
    pub(super) async fn rest(&mut self, server: &Server) {
        let Birds { secret, field, .. } = self.birds;
        let (payload, secrets) = match self.kept {
            Kept::Secret => (json!({"password": field.text}), json!({"db": secret.text})),
            Kept::Open => (json!({"word": field.text}), json!({})),
        };
        let body =
            json!({"tasks": [{"driver": "rest", "requestPayload": payload, "secrets": secrets}]});
        let reply = post(server, "/v1/jobs", &body).send().await;
        self.sight
            .look("over REST", "POST", format!("{reply:?}").as_bytes());
        let id = reply.json()["id"].as_str().unwrap().to_owned();
        let place = format!("/v1/jobs/{id}");
        for path in [
            format!("{place}?view=VIEW_FULL"),
            "/v1/jobs?view=VIEW_FULL".to_owned(),
            format!("{place}/events"),
            format!("{place}:explain"),
            format!("/v2.1/jobs/{id}"),
            "/v2.1/jobs".to_owned(),
        ] {
            let place = if path.starts_with("/v1") {
                "over REST"
            } else {
                "in a dialect"
            };
            let reply = get(server, &path).send().await;
            self.sight
                .look(place, &path, format!("{reply:?}").as_bytes());
        }
        let lease = self.lease_with("rest", &[field]).await;
        let result = structure(&json!({"printed": field.text}));
        let success = Success {
            result: Some(result),
            ..Success::default()
        };
        self.send(&lease, Report::Success(success)).await;
        // It has ended, and so does the stream.
        let watch = get(server, &format!("{place}:watch?view=VIEW_FULL"));
        let reply = watch.header("accept", "text/event-stream").send().await;
        self.sight
            .look("over server-sent events", "watch", reply.text.as_bytes());
        let text = &secret.text;
        for wrong in [
            json!({"tasks": [{"driver": "rest", "secrets": text}]}),
            json!({"tasks": [{"driver": "rest", "secrets": {"a": {"b": text}}}]}),
            json!({"tasks": [{"driver": "rest", "secrets": [text]}]}),
            json!({"tasks": [{"driver": "rest", "requestPayload": text}]}),
            json!({"tasks": [{"driver": "", "secrets": {"db": text}, "requestPayload": {"token": text}}]}),
            json!({"tasks": [{"driver": "rest", "maxAttempts": text}]}),
            json!({"tasks": text}),
            json!(text),
        ] {
            let reply = post(server, "/v1/jobs", &wrong).send().await;
            assert_eq!(reply.status.as_u16(), 400, "{reply:?}");
            self.sight
                .look("refused", "POST", format!("{reply:?}").as_bytes());
        }
        let half = format!(
            r#"{{"tasks": [{{"driver": "rest", "secrets": {{"db": "{}"#,
            json!(text)
        );
        let reply = call(server, "POST", "/v1/jobs").header("content-type", "application/json");
        let reply = reply.body(half).send().await;
        self.sight
            .look("refused", "POST", format!("{reply:?}").as_bytes());
    }

    /// A password in a request of a route.
    pub(super) async fn routed(&mut self, server: &Server) {
        let word = &self.birds.routed.text;
        let path = match self.kept {
            Kept::Secret => "/v2.1/secret-things",
            Kept::Open => "/v2.1/open-things",
        };
        let reply = post(server, path, &json!({"name": "n", "word": word}))
            .send()
            .await;
        assert_eq!(reply.status.as_u16(), 202, "{reply:?}");
        self.sight
            .look("in a dialect", path, format!("{reply:?}").as_bytes());
        let lease = self.lease_with("routed", &[&self.birds.routed]).await;
        let result = json!({"printed": self.said_by_routed()});
        let success = Success {
            result: Some(structure(&result)),
            status_detail: self.said_by_routed(),
        };
        self.send(&lease, Report::Success(success)).await;
        let id = lease.task.unwrap().job_id;
        for path in [
            format!("/v2.1/jobs/{id}"),
            "/v2.1/jobs".to_owned(),
            "/api/management-server/jobs".to_owned(),
            "/api/v3/jobs".to_owned(),
            "/api/jobs".to_owned(),
        ] {
            let reply = get(server, &path).send().await;
            self.sight
                .look("in a dialect", &path, format!("{reply:?}").as_bytes());
        }
        for wrong in [
            json!({"name": 5, "word": word}),
            json!({"name": "n", "word": [word]}),
            json!({"name": "n", "word": word, "more": word}),
            json!([word]),
        ] {
            let reply = post(server, path, &wrong).send().await;
            assert_eq!(reply.status.as_u16(), 400, "{reply:?}");
            self.sight
                .look("refused", path, format!("{reply:?}").as_bytes());
        }
    }

    fn said_by_routed(&self) -> String {
        let text = &self.birds.routed.text;
        let url = utf8_percent_encode(text, NON_ALPHANUMERIC);
        format!("{text} {url} {}", STANDARD.encode(format!("x{text}")))
    }

    /// The command line, with a worker that prints all that it is given.
    pub(super) async fn command_line(&mut self, server: &Server) {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let Birds { secret, field, .. } = self.birds;
        let payload = json!({"pin": field.text}).to_string();
        let payload = format!("@{}", file("payload", &payload));
        let secret = format!("db=@{}", file("secret", &format!("{}\n", secret.text)));
        let mut line = vec![
            "submit",
            "--driver",
            "shell",
            "--payload",
            &payload,
            "--output",
            "json",
        ];
        if self.kept == Kept::Secret {
            line.extend(["--secret", &secret, "--sensitive-field", "pin"]);
        }
        let job = server.cli(&line).await;
        self.sight.look(
            "by the command line",
            "submit",
            format!("{job:?}").as_bytes(),
        );
        let job: Value = serde_json::from_str(&job.ok()).unwrap();
        let id = job["id"].as_str().unwrap();
        let prints = r#"read -r task; printf '%s\n' "$task"; printf '{"result": %s}\n' "$task"; printf '%s\n' "$task" >&2; exit 3"#;
        let worker = server.worker("shell", &[], &["sh", "-c", prints]);
        job_when(&self.client, id, |job| job.end_time.is_some()).await;
        for line in [
            &["get", id, "--output", "json"][..],
            &["get", id],
            &["events", id],
            &["explain", id],
            &["watch", id, "--output", "json"],
            &["list", "--output", "json"],
        ] {
            let output = server.cli(line).await;
            self.see("by the command line", line, &output);
        }
        self.sight.look("logged", "worker", worker.log().as_bytes());
        let mistake = server
            .cli(&["submit", "--driver", "shell", "--secret", "db=@/no/such"])
            .await;
        self.see("refused", &["submit"], &mistake);
    }

    fn see(&mut self, place: &'static str, what: &[&str], output: &impl Debug) {
        self.sight
            .look(place, &what.join(" "), format!("{output:?}").as_bytes());
    }
}
