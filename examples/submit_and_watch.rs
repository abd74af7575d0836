//! Submits a job with a task for each file that is named, and follows it to its end, through disconnects and restarts of the server.
//!
//! `cargo run --example submit_and_watch -- README.md ARCHITECTURE.md`, beside `longhaul serve` and `cargo run --example worker`.
#![expect(clippy::print_stdout, reason = "it is what the example is for")]

use std::{fs, process::ExitCode};

use anyhow::Context as _;
use longhaul::{
    client::{Client, WatchOptions, WatchUpdate},
    proto::{
        Struct,
        v1::{Job, JobSpec, JobTaskSpec, SubmitRequest, job::State},
    },
};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let endpoint = std::env::var("LONGHAUL_ENDPOINT");
    let endpoint = endpoint.as_deref().unwrap_or("http://127.0.0.1:7070");
    let client = Client::connect(endpoint).await?;

    let files: Vec<_> = std::env::args().skip(1).collect();
    let tasks = files.iter().map(|file| count_words(file));
    let request = SubmitRequest {
        job: Some(JobSpec {
            summary: format!("Count the words of {} files", files.len()),
            tasks: tasks.collect::<anyhow::Result<_>>()?,
            ..Default::default()
        }),
        ..Default::default()
    };
    let submitted = client.submit(request).await?;
    let job = submitted.job.context("an answer without a job")?;
    println!("submitted {}", job.id);

    let mut watch = client.watch(&job.id, WatchOptions::default());
    while let Some(update) = watch.next().await {
        match update? {
            WatchUpdate::Snapshot { job, is_final, .. } => {
                show(&job);
                if is_final && job.state() == State::Succeeded {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            WatchUpdate::Disconnected { error, retry_in } => {
                println!("{error}; trying again in {retry_in:.1?}");
            }
            WatchUpdate::Synced { .. } | WatchUpdate::Heartbeat { .. } => {}
        }
    }
    Ok(ExitCode::FAILURE)
}

/// A task for `examples/worker.rs`. Its path is absolute, as the worker may have been started elsewhere.
fn count_words(file: &str) -> anyhow::Result<JobTaskSpec> {
    let path = fs::canonicalize(file).with_context(|| file.to_owned())?;
    Ok(JobTaskSpec {
        name: file.to_owned(),
        driver: "count_words".into(),
        request_payload: Some(Struct::from_json(&json!({ "path": path }))?),
        ..Default::default()
    })
}

fn show(job: &Job) {
    println!("{} {}", job.state().as_str_name(), job.status_detail);
    for task in &job.tasks {
        let state = task.state().as_str_name();
        let result = task.result.as_ref().and_then(|r| r.to_json().ok());
        let result = result.map(|r| r.to_string()).unwrap_or_default();
        println!("  {}: {state} {}{result}", task.name, task.last_error);
    }
}
