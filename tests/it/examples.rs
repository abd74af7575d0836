//! The examples in Rust work together, as the README says.

use std::{fs, path::PathBuf, process::Stdio};

use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{self, Server};

/// An example, which `cargo test` builds beside the binary.
fn example(name: &str, server: &Server) -> Command {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_longhaul"));
    let example = binary.with_file_name("examples").join(name);
    assert!(
        example.exists(),
        "{} is missing: `cargo test` builds it, as does `cargo build --examples`",
        example.display()
    );
    let mut command = Command::new(example);
    command.env("LONGHAUL_ENDPOINT", server.endpoint());
    command
}

#[tokio::test]
async fn a_worker_counts_the_words_of_the_files_that_are_submitted() {
    let server = Server::start().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a file.txt");
    fs::write(&file, "one  two\nthreeä ").unwrap();
    let worker = example("worker", &server)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    let mut submit = example("submit_and_watch", &server);
    submit.arg(&file);
    let told = harness::output(submit).await.ok();
    assert!(told.starts_with("submitted "), "{told}");
    assert!(told.contains(r#"STATE_SUCCEEDED {"words":3.0}"#), "{told}");

    fs::remove_file(&file).unwrap();
    let mut submit = example("submit_and_watch", &server);
    submit.arg(&file);
    let refused = harness::output(submit).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("a file.txt"), "{refused:?}");
    drop(worker);
    server.stop().await;
}
