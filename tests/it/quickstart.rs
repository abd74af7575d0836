//! The first thing that a newcomer sees: the quickstart, and the script that its worker runs.

use std::{fs, process::Stdio};

use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::harness::{self, Output};

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/quickstart/create-bucket.sh"
);

/// Runs the script as a worker would, in a grid of its own.
async fn create_bucket(grid: &TempDir, task: &str, fencing_token: u64) -> Output {
    let mut child = Command::new(SCRIPT)
        .env("GRID_DIR", grid.path())
        .env("LONGHAUL_TASK_ID", "a-task")
        .env("LONGHAUL_FENCING_TOKEN", fencing_token.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(task.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test]
async fn quickstart_runs_the_documented_job_to_its_end() {
    let output = harness::cli(&["quickstart", "--once"]).await;
    let shown = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code, Some(0), "{shown}");
    for expected in [
        "POST /v2.1/objectstorage/buckets",
        "202 Okay. Accepted for processing.",
        "test1234",
        "all sites agree",
        "SUCCEEDED",
    ] {
        assert!(shown.contains(expected), "{expected} is missing:\n{shown}");
    }
}

#[tokio::test]
async fn the_script_creates_a_bucket_and_says_so() {
    let grid = TempDir::new().unwrap();
    let task = r#"{"id": "x", "dependsOn": ["a", "b"], "requestPayload": {
        "s3_bucket_name": "test1234", "grid_account_id": "42", "versioning": true, "expire_days": 30.0,
        "nested": {"s3_bucket_name": "other", "list": [1, {"a": "\"}"}], "none": null}}}"#;
    let output = create_bucket(&grid, task, 1).await.ok();
    let lines: Vec<serde_json::Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (result, steps) = lines.split_last().unwrap();
    assert_eq!(result["result"]["arn"], "arn:aws:s3:::test1234");
    assert_eq!(result["result"]["versioning"], "Enabled");
    for (done, step) in (1..).zip(steps) {
        assert_eq!(step["progress"]["done"], done);
        assert_eq!(step["progress"]["total"], steps.len());
    }
    for file in ["policy.json", "sites/lon/lifecycle.json"] {
        let text = fs::read_to_string(grid.path().join("42/test1234").join(file)).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}

#[tokio::test]
async fn the_script_refuses_what_is_no_bucket() {
    let grid = TempDir::new().unwrap();
    for (task, complaint) in [
        ("", "s3_bucket_name is missing"),
        ("{}", "s3_bucket_name is missing"),
        (r#"{"a": "unterminated"#, "not the JSON of a task"),
        (
            r#"{"s3_bucket_name": "elsewhere"}"#,
            "s3_bucket_name is missing",
        ),
        (
            r#"{"requestPayload": {"s3_bucket_name": "test1234"}}"#,
            "grid_account_id is missing",
        ),
        (
            r#"{"requestPayload": {"s3_bucket_name": "../etc", "grid_account_id": "1"}}"#,
            "no valid bucket name",
        ),
        (
            r#"{"requestPayload": {"s3_bucket_name": "Test", "grid_account_id": "1"}}"#,
            "no valid bucket name",
        ),
        (
            r#"{"requestPayload": {"s3_bucket_name": "ab", "grid_account_id": "1"}}"#,
            "3 to 63",
        ),
        (
            r#"{"requestPayload": {"s3_bucket_name": "a\"b$(id)", "grid_account_id": "1"}}"#,
            "no valid bucket name",
        ),
        (
            r#"{"requestPayload": {"s3_bucket_name": "abc", "grid_account_id": "../1"}}"#,
            "not a number",
        ),
    ] {
        let output = create_bucket(&grid, task, 1).await;
        assert_eq!(output.code, Some(1), "{task}: {output:?}");
        assert!(output.stderr.contains(complaint), "{task}: {output:?}");
    }
    assert_eq!(
        fs::read_dir(grid.path()).unwrap().count(),
        0,
        "something was created"
    );
}

#[tokio::test]
async fn the_script_refuses_an_attempt_that_lost_its_lease() {
    let grid = TempDir::new().unwrap();
    let task = r#"{"requestPayload": {"s3_bucket_name": "test1234", "grid_account_id": "42"}}"#;
    create_bucket(&grid, task, 2).await.ok();
    let late = create_bucket(&grid, task, 1).await;
    assert_eq!(late.code, Some(1), "{late:?}");
    assert!(late.stderr.contains("a newer attempt"), "{late:?}");
}
