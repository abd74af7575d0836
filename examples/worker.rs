//! A worker of the driver `count_words`: counts the words of the file that a task names, says how far it is, and stops when it should.
//!
//! `cargo run --example worker`, beside `longhaul serve`. `examples/submit_and_watch.rs` gives it something to do.

use std::io;

use longhaul::{
    client::Client,
    proto::{Struct, v1::Progress},
    worker::{Outcome, Stop, TaskContext, Worker},
};
use serde_json::{Value, json};
use tokio::{fs::File, io::AsyncReadExt};
use tokio_util::sync::CancellationToken;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 * 1024;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let endpoint = std::env::var("LONGHAUL_ENDPOINT");
    let endpoint = endpoint.as_deref().unwrap_or("http://127.0.0.1:7070");
    let worker = Worker::builder(Client::connect_lazy(endpoint)?)
        .driver("count_words", |task: TaskContext| async move {
            tokio::select! {
                outcome = count_words(&task) => outcome,
                stop = task.stop_requested() => stopped(&stop),
            }
        })
        .slots(4)
        .build()?;

    let shutdown = CancellationToken::new();
    let interrupted = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    });
    worker.run(shutdown).await?;
    Ok(())
}

/// Carries out a task. What is wrong with the payload stays wrong, so that another attempt would be in vain; a file may come back.
async fn count_words(task: &TaskContext) -> Outcome {
    let payload = task.task().request_payload.as_ref();
    let payload = payload.and_then(|payload| payload.to_json().ok());
    let path = payload
        .as_ref()
        .and_then(|payload| payload["path"].as_str());
    let Some(path) = path else {
        return Outcome::Failed {
            message: "requestPayload.path is missing: name the file whose words to count".into(),
            reason: "BAD_PAYLOAD".into(),
            permanent: true,
            retry_after: None,
            status_detail: String::new(),
        };
    };
    match count(path, task).await {
        Ok(words) => match Struct::from_json(&json!({ "words": words })) {
            Ok(result) => Outcome::success_with(result),
            Err(error) => Outcome::failure(error.to_string()),
        },
        Err(error) => Outcome::failure(format!("{path}: {error}")),
    }
}

/// Counts what stands between white space.
async fn count(path: &str, task: &TaskContext) -> io::Result<Value> {
    let mut file = File::open(path).await?;
    let total = file.metadata().await?.len();
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut words, mut done, mut in_word) = (0_u64, 0_i64, false);
    loop {
        let read = file.read(&mut chunk).await?;
        if read == 0 {
            return Ok(words.into());
        }
        for byte in &chunk[..read] {
            let begins = !in_word && !byte.is_ascii_whitespace();
            words += u64::from(begins);
            in_word = !byte.is_ascii_whitespace();
        }
        done += read as i64;
        task.progress(Progress {
            done,
            total: i64::try_from(total).unwrap_or(i64::MAX),
            unit: "bytes".into(),
            message: format!("{words} words so far"),
        });
    }
}

/// How a task ends that was told to stop. There is nothing to clean up.
fn stopped(stop: &Stop) -> Outcome {
    match stop {
        Stop::Cancelled(_) => Outcome::Cancelled {
            status_detail: String::new(),
        },
        Stop::LeaseLost | Stop::Shutdown => Outcome::released("the worker stops"),
    }
}
