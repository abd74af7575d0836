//! The audit log while it is written.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
    time::timeout,
};

use super::{by, make_key, secret};
use crate::harness::{Server, longhaul};

/// How long a record may take, on a busy machine and after a disconnect.
const PATIENCE: Duration = Duration::from_secs(60);

/// `longhaul audit tail`
struct Tail {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    fn start(server: &Server, key: &str, flags: &[&str]) -> Self {
        let mut command = longhaul();
        command
            .args(["audit", "tail", "--output", "json"])
            .args(flags)
            .env("LONGHAUL_ENDPOINT", server.endpoint())
            .env("LONGHAUL_API_KEY", key)
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        Self {
            child,
            lines: BufReader::new(stdout).lines(),
        }
    }

    async fn next(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.expect("a record in time").unwrap();
        serde_json::from_str(&line.expect("it goes on")).unwrap()
    }

    /// The names of keys, up to and including this one, that records tell of having been made.
    async fn up_to(&mut self, target: &str, seen: &mut Vec<Value>) {
        loop {
            seen.push(self.next().await);
            if seen.last().unwrap()["target"] == target {
                return;
            }
        }
    }
}

fn id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

#[tokio::test]
async fn a_tail_goes_on_after_a_restart_and_tells_nothing_twice() {
    let (mut server, first) = Server::start_guarded(&[]).await;
    let read = ["--role", "read"];
    let before = make_key(&first, &server, &read).await;
    let mut tail = Tail::start(&server, &first, &["-n", "1"]);
    let mut seen = Vec::new();
    tail.up_to(id(&before), &mut seen).await;
    assert_eq!(seen.len(), 1, "one was asked for: {seen:#?}");
    let during = make_key(&first, &server, &read).await;
    tail.up_to(id(&during), &mut seen).await;

    server.kill9().await;
    server.restart().await;
    let after = make_key(&first, &server, &read).await;
    tail.up_to(id(&after), &mut seen).await;
    // And what is new after that.
    let last = make_key(&first, &server, &read).await;
    tail.up_to(id(&last), &mut seen).await;
    let targets: Vec<_> = seen.iter().map(|r| r["target"].as_str().unwrap()).collect();
    assert_eq!(
        targets,
        [&before, &during, &after, &last].map(|key| id(key))
    );
    let ids: BTreeSet<_> = seen.iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), seen.len());
    let told = format!("{seen:?}");
    for key in [&first, &before, &during, &after, &last] {
        assert!(!told.contains(secret(key)));
    }
    tail.child.kill().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_tail_ends_with_its_credential_and_tells_of_its_tenant_alone() {
    let (server, first) = Server::start_guarded(&[]).await;
    by(&first, &server, &["tenant", "create", "acme"])
        .await
        .ok();
    let auditor = make_key(&first, &server, &["--tenant", "acme", "--role", "audit"]).await;
    let mut tail = Tail::start(&server, &auditor, &[]);
    let mut seen = Vec::new();
    tail.up_to(id(&auditor), &mut seen).await;
    let elsewhere = make_key(&first, &server, &["--role", "read"]).await;
    let own = make_key(&first, &server, &["--tenant", "acme", "--role", "read"]).await;
    tail.up_to(id(&own), &mut seen).await;
    assert!(seen.iter().all(|record| record["tenant"] == "acme"));
    assert!(seen.iter().all(|record| record["target"] != id(&elsewhere)));
    by(&first, &server, &["key", "revoke", id(&auditor)])
        .await
        .ok();
    let status = timeout(PATIENCE, tail.child.wait()).await;
    let status = status.expect("it ends with its credential").unwrap();
    assert_eq!(status.code(), Some(1));
    server.stop().await;
}
