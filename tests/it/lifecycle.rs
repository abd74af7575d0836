//! How a server starts, ends, and refuses to start: each time with a sentence and an exit code.

use std::{fs, os::unix::fs::PermissionsExt as _};

use tempfile::TempDir;

use crate::harness::{self, EXIT_WITHIN, Output, Server};

/// A refusal: no success, no panic, one sentence that holds what a person needs.
#[track_caller]
fn assert_refused(output: &Output, expected: &[&str]) {
    assert!(output.code.is_some_and(|code| code != 0), "{output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
    for words in expected {
        assert!(
            output.stderr.contains(words),
            "{words:?} is missing: {output:?}"
        );
    }
}

#[tokio::test]
async fn an_idle_server_drains_at_once_and_exits_with_0() {
    let mut server = Server::start().await;
    server.sigterm();
    assert!(server.exit(EXIT_WITHIN).await.success(), "{}", server.log());
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_kill_9() {
    let mut server = Server::start().await;
    let submitted = server.cli(&["submit", "--driver", "nobody"]).await.ok();
    let job = submitted.trim();
    server.kill9().await;
    let unreachable = server.cli(&["get", job]).await;
    assert_eq!(unreachable.code, Some(4), "{unreachable:?}");
    server.restart().await;
    assert!(server.cli(&["get", job]).await.ok().contains(job));
    server.stop().await;
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused() {
    let server = Server::start().await;
    let data = server.data_dir();
    let second = harness::cli(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        data.to_str().unwrap(),
    ])
    .await;
    assert_refused(&second, &[data.to_str().unwrap()]);
    server.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_refused() {
    let server = Server::start().await;
    let data = TempDir::new().unwrap();
    let second = harness::cli(&[
        "serve",
        "--listen",
        &server.address(),
        "--data-dir",
        data.path().to_str().unwrap(),
    ])
    .await;
    assert_refused(&second, &[&server.address(), "in use"]);
    server.stop().await;
}

#[tokio::test]
async fn a_database_that_is_none_of_ours_is_refused_and_left_alone() {
    let mut server = Server::start().await;
    server.sigterm();
    server.exit(EXIT_WITHIN).await;
    let database = fs::read_dir(server.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3")))
        .expect("a database in the data directory");
    let whole = fs::read(&database).unwrap();

    for broken in [
        &b"this is no database, but it is long enough to be mistaken for one"[..],
        &whole[..whole.len() / 2],
    ] {
        fs::write(&database, broken).unwrap();
        let data = server.data_dir();
        let refused = harness::cli(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            data.to_str().unwrap(),
        ])
        .await;
        assert_refused(&refused, &[database.to_str().unwrap()]);
        assert_eq!(fs::read(&database).unwrap(), broken, "the file was changed");
    }
}

#[tokio::test]
async fn an_unknown_key_in_the_settings_is_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("longhaul.toml");
    fs::write(&file, "listen = \"127.0.0.1:0\"\nretentoin = \"1d\"\n").unwrap();
    let refused = harness::cli(&["serve", "--config", file.to_str().unwrap()]).await;
    assert_refused(&refused, &["retentoin", file.to_str().unwrap()]);
}

#[tokio::test]
async fn the_jobs_are_for_the_user_of_the_server_alone() {
    let server = Server::start().await;
    server.cli(&["submit", "--driver", "nobody"]).await.ok();
    // Also where the directory was there before and is open to others.
    for name in ["longhaul.db", "longhaul.db-wal", "longhaul.db-shm", "lock"] {
        let file = fs::metadata(server.data_dir().join(name)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600, "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_setting_that_leaves_nothing_is_refused() {
    for (flag, value, words) in [
        ("--lease-duration", "1ms", ["lease_duration", "at least 1s"]),
        (
            "--lease-duration",
            "999ms",
            ["lease_duration", "at least 1s"],
        ),
        (
            "--heartbeat-interval",
            "99ms",
            ["heartbeat_interval", "at least 100ms"],
        ),
        ("--cancel-grace", "0s", ["cancel_grace", "at least 1s"]),
        ("--max-connections", "0", ["max_connections", "more than 0"]),
    ] {
        let refused = harness::cli(&["serve", "--listen", "127.0.0.1:0", flag, value]).await;
        assert_refused(&refused, &words);
    }
}

#[tokio::test]
async fn a_task_ends_under_the_shortest_settings() {
    let shortest = [
        "--lease-duration",
        "1s",
        "--heartbeat-interval",
        "100ms",
        "--cancel-grace",
        "1s",
        // A slow machine may lose some.
        "--max-lost-leases",
        "1000",
    ];
    let server = Server::start_with(&shortest).await;
    let _worker = server.worker("slow", &[], &["sleep", "2"]);
    let told = server.cli(&["submit", "--driver", "slow", "--wait"]).await;
    assert!(told.ok().contains("SUCCEEDED"));
    server.stop().await;
}

#[tokio::test]
async fn settings_that_are_not_served_with_are_not_printed() {
    for (flag, value, word) in [
        ("--max-connections", "0", "max_connections"),
        ("--lease-duration", "0s", "lease_duration"),
        ("--listen", "0.0.0.0:0", "--insecure"),
    ] {
        let refused = harness::cli(&["serve", "--print-config", flag, value]).await;
        assert_refused(&refused, &[word]);
        assert_eq!(refused.stdout, "", "{flag}");
    }
    let printed = harness::cli(&["serve", "--print-config", "--max-connections", "1"]).await;
    assert!(printed.ok().contains("max_connections"));
}

#[tokio::test]
async fn other_machines_are_not_served_without_being_asked_for() {
    let refused = harness::cli(&["serve", "--listen", "0.0.0.0:0"]).await;
    assert_refused(&refused, &["0.0.0.0:0", "--insecure"]);
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_finishes_what_it_holds() {
    let server = Server::start().await;
    let folder = TempDir::new().unwrap();
    let started = folder.path().join("started");
    let goes_on = folder.path().join("goes-on");
    // Both ends of the two pipes wait for each other.
    let script = r#"mkfifo "$2"; echo > "$1"; cat "$2"; echo '{"result": {"finished": true}}'"#;
    let status = std::process::Command::new("mkfifo").arg(&started).status();
    assert!(status.unwrap().success());
    let mut worker = server.worker(
        "waits",
        &[],
        &[
            "sh",
            "-c",
            script,
            "sh",
            started.to_str().unwrap(),
            goes_on.to_str().unwrap(),
        ],
    );
    let job = server.cli(&["submit", "--driver", "waits"]).await.ok();
    tokio::fs::read(&started).await.unwrap();
    worker.sigterm();
    tokio::fs::write(&goes_on, "").await.unwrap();
    assert!(worker.exit(EXIT_WITHIN).await.success(), "{}", worker.log());
    let ended = server
        .cli(&["get", job.trim(), "--output", "json"])
        .await
        .ok();
    let ended: serde_json::Value = serde_json::from_str(&ended).unwrap();
    assert_eq!(ended["state"], "STATE_SUCCEEDED", "{ended}");
    server.stop().await;
}
