//! The command line as a shell sees it: exit codes, what goes to stdout and what to stderr, and where settings come from.

use std::{fs, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    time::timeout,
};

use crate::harness::{self, Output, Server, longhaul};

/// How long a command may take to notice that nobody reads it.
const NOTICE_WITHIN: Duration = Duration::from_secs(20);

#[track_caller]
fn assert_fails(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, Some(code), "{output:#?}");
    assert_eq!(output.stdout, "", "an error is no data");
    for words in words {
        assert!(
            output.stderr.contains(words),
            "{words:?} is missing: {output:#?}"
        );
    }
}

#[tokio::test]
async fn a_watch_exits_by_the_outcome_of_the_job() {
    let server = Server::start().await;
    let _good = server.worker("good", &[], &["true"]);
    let _bad = server.worker("bad", &[], &["sh", "-c", "echo no space >&2; exit 3"]);

    let good = server
        .cli(&["submit", "--driver", "good", "--wait"])
        .await
        .ok();
    let last = good.lines().last().unwrap_or_default();
    assert!(last.contains("job") && last.contains("SUCCEEDED"), "{good}");

    let bad = server.cli(&["submit", "--driver", "bad", "--wait"]).await;
    assert_eq!(bad.code, Some(1), "{bad:#?}");
    assert!(
        bad.stdout.contains("FAILED") && bad.stdout.contains("no space"),
        "{bad:#?}"
    );

    let job = server.cli(&["submit", "--driver", "nobody"]).await.ok();
    let job = job.trim();
    server.cli(&["cancel", job, "--reason", "test"]).await.ok();
    let cancelled = server.cli(&["watch", job]).await;
    assert_eq!(cancelled.code, Some(3), "{cancelled:#?}");
    server.stop().await;
}

#[tokio::test]
async fn a_result_that_is_too_large_is_not_lost_in_silence() {
    let server = Server::start().await;
    let script =
        r#"printf '{"result":{"text":"'; head -c 2000000 /dev/zero | tr '\0' x; echo '"}}'"#;
    let _worker = server.worker("talker", &[], &["sh", "-c", script]);
    let told = server
        .cli(&["submit", "--driver", "talker", "--wait", "--output", "json"])
        .await;
    assert_eq!(told.code, Some(1), "{told:#?}");
    let last: serde_json::Value =
        serde_json::from_str(told.stdout.lines().last().unwrap()).unwrap();
    let error = last["job"]["lastError"].as_str().unwrap();
    assert!(
        error.contains("2000022 bytes") && error.contains("at most 1048576"),
        "{error}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_result_that_is_none_is_warned_of() {
    let server = Server::start().await;
    let _worker = server.worker("talker", &[], &["echo", r#"{"result": 5}"#]);
    let told = server
        .cli(&["submit", "--driver", "talker", "--wait", "--output", "json"])
        .await
        .ok();
    let expected = "a line on stdout looks like a report but is none: {\\\"result\\\": 5}";
    assert!(told.contains(expected), "{told}");
    server.stop().await;
}

#[tokio::test]
async fn a_watch_as_json_is_an_object_per_line_and_ends_with_the_final_one() {
    let server = Server::start().await;
    let _worker = server.worker("good", &[], &["true"]);
    let told = server
        .cli(&["submit", "--driver", "good", "--wait", "--output", "json"])
        .await
        .ok();
    let messages: Vec<serde_json::Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = messages.last().unwrap();
    assert_eq!(last["final"], true, "{told}");
    assert_eq!(last["job"]["state"], "STATE_SUCCEEDED", "{told}");
    server.stop().await;
}

#[tokio::test]
async fn every_bad_field_is_named_and_the_input_is_at_fault() {
    let server = Server::start().await;
    let bad = server
        .cli(&["submit", "--driver", "bad driver", "--priority", "5000"])
        .await;
    assert_fails(
        &bad,
        2,
        &["job.priority", "job.tasks[0].driver", "INVALID_"],
    );
    let controls = server
        .cli(&[
            "submit",
            "--driver",
            "d",
            "--task",
            "a\nb",
            "--summary",
            "c\u{1b}d",
        ])
        .await;
    assert_fails(
        &controls,
        2,
        &["job.summary", "job.tasks[0].name", r"character '\n'"],
    );
    let filter = server.cli(&["list", "--filter", "colour = RED"]).await;
    assert_fails(&filter, 2, &["colour"]);
    let unknown = server
        .cli(&["get", "01931b5e-7f3a-7cc3-98c4-dc0c0c07398f"])
        .await;
    assert_fails(&unknown, 1, &["JOB_NOT_FOUND", "hint:"]);
    assert!(
        server.cli(&["list"]).await.ok().is_empty(),
        "nothing was stored"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_job_that_is_no_job_is_refused_with_its_line() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("job.json");
    fs::write(&file, "{\n  \"tasks\": [\n    {\"drivr\": \"x\"}\n  ]\n}").unwrap();
    let output = harness::cli(&["submit", file.to_str().unwrap()]).await;
    assert_fails(&output, 2, &["job.json", "drivr", "line 3"]);
    let output = harness::cli(&["submit", "--driver", "x", "--payload", "[1]"]).await;
    assert_fails(&output, 2, &["--payload", "object"]);
}

#[tokio::test]
async fn a_label_that_is_given_twice_is_refused_by_its_name() {
    let args = ["submit", "--driver", "d", "--label", "team=storage"];
    let twice = [&args[..], &["--label", "team=network"]].concat();
    let output = harness::cli(&twice).await;
    assert_fails(
        &output,
        2,
        &["--label team ", "team=storage", "team=network"],
    );
}

#[tokio::test]
async fn what_holds_no_data_is_a_sentence_or_an_empty_object() {
    let server = Server::start().await;
    for text in [true, false] {
        let job = server.cli(&["submit", "--driver", "nobody"]).await.ok();
        let job = job.trim();
        server.cli(&["cancel", job]).await.ok();
        for (command, sentence) in [
            (&["delete", job][..], "deleted"),
            (&["driver", "pause", "nobody"], "paused"),
            (&["driver", "resume", "nobody"], "again"),
        ] {
            let json: &[&str] = if text { &[] } else { &["--output", "json"] };
            let output = server.cli(&[command, json].concat()).await;
            assert_eq!(output.code, Some(0), "{output:#?}");
            assert_eq!(output.stderr.contains(sentence), text, "{output:#?}");
            let data = if text { "" } else { "{}\n" };
            assert_eq!(output.stdout, data);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn no_server_has_a_code_of_its_own_and_a_next_step() {
    let args = ["list", "--endpoint", "http://127.0.0.1:1"];
    let output = harness::cli(&args).await;
    assert_fails(&output, 4, &["127.0.0.1:1", "longhaul serve"]);
    let output = harness::cli(&["list", "--endpoint", "ftp://127.0.0.1"]).await;
    assert_fails(&output, 2, &["ftp://127.0.0.1", "http://"]);
}

#[tokio::test]
async fn a_setting_is_a_flag_a_variable_a_key_or_its_default() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("longhaul.toml");
    let text = "max_lost_leases = 4\nretention = \"2d\"\ncancel_grace = \"5s\"\n";
    fs::write(&file, text).unwrap();
    let mut command = longhaul();
    command
        .args(["serve", "--print-config", "--retention", "3d", "--config"])
        .arg(&file)
        .env("LONGHAUL_MAX_LOST_LEASES", "5")
        .env("LONGHAUL_RETENTION", "4d");
    let printed = harness::output(command).await.ok();
    let in_file = format!("\"5s\"  # file {}", file.display());
    for (key, told) in [
        ("retention", "\"3d\"  # flag --retention"),
        ("max_lost_leases", "5  # env LONGHAUL_MAX_LOST_LEASES"),
        ("cancel_grace", &in_file),
        ("drain_timeout", "\"25s\"  # default"),
    ] {
        let line = printed
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_default();
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(line)[2..], words(told)[..], "{printed}");
    }
}

#[tokio::test]
async fn a_watch_that_may_wait_for_its_server_does() {
    let mut server = Server::start().await;
    let job = server.cli(&["submit", "--driver", "nobody"]).await.ok();
    server.kill9().await;

    let impatient = server.cli(&["watch", job.trim()]).await;
    assert_fails(&impatient, 4, &["can't connect"]);
    let soon = ["watch", job.trim(), "--give-up-after", "100ms"];
    assert_fails(&server.cli(&soon).await, 4, &["trying", "can't connect"]);

    let mut command = longhaul();
    command
        .args(["watch", job.trim(), "--give-up-after", "1h"])
        .args(["--endpoint", &server.endpoint()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut watch = command.spawn().unwrap();
    let mut talk = BufReader::new(watch.stderr.take().unwrap()).lines();
    let told = talk.next_line().await.unwrap().unwrap();
    assert!(told.contains("trying until it is back"), "{told}");
    server.restart().await;
    server.cli(&["cancel", job.trim()]).await.ok();
    let ended = timeout(NOTICE_WITHIN, watch.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(3), "the job's end");
    server.stop().await;
}

#[tokio::test]
async fn an_address_to_listen_on_is_read_or_explained() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("longhaul.toml");
    for bad in ["7301", "localhost", "example.com:7301", ""] {
        let by_flag = harness::cli(&["serve", "--print-config", "--listen", bad]).await;
        let mut command = longhaul();
        command
            .args(["serve", "--print-config"])
            .env("LONGHAUL_LISTEN", bad);
        let by_variable = harness::output(command).await;
        fs::write(&file, format!("listen = \"{bad}\"\n")).unwrap();
        let config = file.to_str().unwrap();
        let by_file = harness::cli(&["serve", "--print-config", "--config", config]).await;
        for told in [by_flag, by_variable, by_file] {
            assert_fails(&told, 2, &["127.0.0.1:7070"]);
        }
    }
    let local = ["serve", "--print-config", "--listen", "localhost:7301"];
    let printed = harness::cli(&local).await.ok();
    assert!(printed.contains("\"127.0.0.1:7301\""), "{printed}");
}

#[tokio::test]
async fn a_list_goes_on_page_by_page_until_it_is_enough() {
    let server = Server::start().await;
    for _ in 0..5 {
        server.cli(&["submit", "--driver", "nobody"]).await.ok();
    }
    let count = |list: String| list.lines().filter(|line| line.contains("QUEUED")).count();
    let all = server
        .cli(&["list", "--all", "--page-size", "2"])
        .await
        .ok();
    assert_eq!(count(all), 5);
    let some = server
        .cli(&["list", "--limit", "3", "--page-size", "2"])
        .await;
    assert!(some.stderr.contains("--all"), "{some:#?}");
    assert_eq!(count(some.ok()), 3);
    server.stop().await;
}

#[tokio::test]
async fn a_closed_pipe_is_no_error() {
    let server = Server::start().await;
    let job = server.cli(&["submit", "--driver", "slow"]).await.ok();
    let mut command = longhaul();
    command
        .args(["watch", job.trim(), "--endpoint", &server.endpoint()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut watch = command.spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().is_some());
    drop(lines);
    let _worker = server.worker("slow", &[], &["true"]);
    let ended = timeout(NOTICE_WITHIN, watch.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(0));
    let mut talk = String::new();
    watch
        .stderr
        .unwrap()
        .read_to_string(&mut talk)
        .await
        .unwrap();
    assert_eq!(talk, "");
    server.stop().await;
}
