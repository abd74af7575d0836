//! Real commands, with a desk in the place of a server.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::{
    client::clock,
    proto::{
        Struct,
        v1::{JobTask, Lease, task_report::Report},
    },
    worker::{
        desk::Desk,
        signals::{CancelRequest, Signals},
    },
};

/// More than any of these commands takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    context: TaskContext,
    signals: Arc<Signals>,
    desk: Arc<Desk>,
}

impl Bench {
    fn new() -> Self {
        let lease = Lease {
            task: Some(JobTask {
                id: "t-1".to_owned(),
                job_id: "j-1".to_owned(),
                name: "only".to_owned(),
                driver: "d".to_owned(),
                ..Default::default()
            }),
            attempt: 2,
            fencing_token: 17,
            lease_token: Bytes::from_static(b"lease"),
            ..Default::default()
        };
        let desk = Arc::new(Desk::new(1));
        let signals = desk.grant(&lease).expect("a new lease");
        let context = TaskContext::new(lease, signals.clone(), desk.clone());
        Self {
            context,
            signals,
            desk,
        }
    }

    async fn run(&self, script: &str, arguments: &[&str]) -> Outcome {
        timeout(
            PATIENCE,
            handler(script, arguments).run(self.context.clone()),
        )
        .await
        .expect("the command ends")
    }

    /// What would be sent to the server now.
    fn reports(&self) -> Vec<Report> {
        let message = self.desk.ledger().next_message(clock::now());
        let reports = message.map(|message| message.reports).unwrap_or_default();
        reports
            .into_iter()
            .filter_map(|report| report.report)
            .collect()
    }

    fn warnings(&self) -> Vec<String> {
        let warning = |report| match report {
            Report::Warning(warning) => Some(warning.message),
            _ => None,
        };
        self.reports().into_iter().filter_map(warning).collect()
    }
}

fn handler(script: &str, arguments: &[&str]) -> CommandHandler {
    let mut argv: Vec<OsString> = ["sh", "-c", script, "sh"].map(OsString::from).to_vec();
    argv.extend(arguments.iter().map(OsString::from));
    CommandHandler::new(argv).expect("a command")
}

fn failed(outcome: Outcome) -> (String, String, bool) {
    match outcome {
        Outcome::Failed {
            message,
            reason,
            permanent,
            ..
        } => (message, reason, permanent),
        other => panic!("not a failure: {other:?}"),
    }
}

/// Waits until the process with the id in the file is gone; one that nobody has reaped is gone. By itself it would stay for much longer than we wait.
async fn until_gone(pid_file: &Path) {
    let pid = std::fs::read_to_string(pid_file).expect("the script wrote its process id");
    let stat = format!("/proc/{}/stat", pid.trim());
    let wait = async {
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .expect("nothing is left behind");
}

async fn until_exists(path: &Path) {
    let wait = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .expect("the script gets there");
}

#[tokio::test]
async fn the_task_comes_on_standard_input_and_in_the_environment() {
    let bench = Bench::new();
    let script = r#"read -r task
        printf '{"result":{"task":%s,"env":"%s"}}\n' "$task" \
        "$LONGHAUL_TASK_ID $LONGHAUL_JOB_ID $LONGHAUL_TASK_NAME $LONGHAUL_DRIVER $LONGHAUL_ATTEMPT $LONGHAUL_FENCING_TOKEN""#;
    let Outcome::Succeeded {
        result: Some(result),
        ..
    } = bench.run(script, &[]).await
    else {
        panic!("no result");
    };
    let result: Value = result.to_json().expect("JSON");
    assert_eq!(
        result,
        json!({
            "task": {"id": "t-1", "jobId": "j-1", "name": "only", "driver": "d"},
            "env": "t-1 j-1 only d 2 17",
        })
    );
}

#[tokio::test]
async fn lines_are_understood_or_kept() {
    let bench = Bench::new();
    let script = r#"echo '{"progress":{"done":1,"total":2}}'
        echo copying; echo '{"warning":"slow"}'; echo '{"progress":{"done":2,"total":2}}'; printf done"#;
    let outcome = bench.run(script, &[]).await;
    assert_eq!(
        outcome,
        Outcome::Succeeded {
            result: None,
            status_detail: "copying\ndone".to_owned()
        }
    );
    let reports = bench.reports();
    assert!(
        matches!(&reports[..], [Report::Progress(progress), Report::Warning(warning)]
            if progress.progress.as_ref().is_some_and(|progress| progress.done == 2)
                && progress.status_detail == "copying\ndone" && warning.message == "slow"),
        "{reports:?}"
    );
}

#[tokio::test]
async fn the_exit_status_decides() {
    let bench = Bench::new();
    let (message, reason, permanent) = failed(bench.run("echo why >&2; exit 3", &[]).await);
    assert_eq!(
        (message.as_str(), reason.as_str(), permanent),
        ("exit status 3: why", "EXIT_STATUS", true)
    );
    let (message, reason, permanent) = failed(bench.run("echo later >&2; exit 75", &[]).await);
    assert_eq!(
        (message.as_str(), reason.as_str(), permanent),
        ("exit status 75: later", "TEMPORARY_FAILURE", false)
    );
    let (message, reason, permanent) = failed(bench.run("kill -9 $$", &[]).await);
    assert!(message.starts_with("killed by signal 9"), "{message}");
    assert_eq!((reason.as_str(), permanent), ("KILLED_BY_SIGNAL", false));
}

#[tokio::test]
async fn a_command_that_is_gone_may_be_there_elsewhere() {
    let bench = Bench::new();
    let program = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o700))
        .tempfile()
        .expect("a file");
    let path = program.path().to_owned();
    let handler = CommandHandler::new(vec![path.clone().into()]).expect("a command");
    drop(program);
    let (message, reason, permanent) = failed(handler.run(bench.context.clone()).await);
    assert!(message.contains(&*path.to_string_lossy()), "{message}");
    assert_eq!((reason.as_str(), permanent), ("COMMAND_NOT_STARTED", false));
}

#[test]
fn a_command_that_can_not_run_is_refused_before_the_first_task() {
    let refused = |argv: &[&str]| {
        let argv = argv.iter().map(Into::into).collect();
        CommandHandler::new(argv).expect_err("no such command")
    };
    assert!(matches!(refused(&[]), UnusableCommand::Missing));
    assert!(matches!(
        refused(&["/no/such/program"]),
        UnusableCommand::NotThere { .. }
    ));
    assert!(matches!(
        refused(&["no-such-program-anywhere"]),
        UnusableCommand::NotInPath(_)
    ));
    assert!(matches!(refused(&["/"]), UnusableCommand::NotExecutable(_)));
    assert!(CommandHandler::new(vec!["sh".into()]).is_ok());
}

#[tokio::test]
async fn a_task_larger_than_a_pipe_may_be_left_unread() {
    let mut bench = Bench::new();
    let lease = Lease {
        task: Some(JobTask {
            status_detail: "x".repeat(1 << 20),
            ..Default::default()
        }),
        ..Default::default()
    };
    bench.context = TaskContext::new(lease, bench.signals.clone(), bench.desk.clone());
    assert_eq!(bench.run("exit 0", &[]).await, Outcome::success());
}

#[tokio::test]
async fn much_output_is_bounded() {
    let bench = Bench::new();
    let script =
        "i=0; while [ $i -lt 3000 ]; do echo line $i; echo line $i >&2; i=$((i+1)); done; exit 1";
    let outcome = bench.run(script, &[]).await;
    let Outcome::Failed {
        message,
        status_detail,
        ..
    } = outcome
    else {
        panic!("not a failure")
    };
    assert_eq!(status_detail.lines().count(), 20);
    assert!(status_detail.ends_with("line 2999") && message.ends_with("line 2999"));
}

#[tokio::test]
async fn a_result_that_is_too_long_fails_the_attempt_and_says_how_long() {
    let bench = Bench::new();
    let long = r#"printf '{"result":{"text":"'; head -c 1048576 /dev/zero | tr '\0' x; echo '"}}'"#;
    let (message, reason, permanent) = failed(bench.run(long, &[]).await);
    assert!(
        message.contains("1048598 bytes") && message.contains("at most 1048576 "),
        "{message}"
    );
    assert_eq!((reason.as_str(), permanent), ("BAD_RESULT", true));
    assert_eq!(bench.reports(), [], "nothing more is to be said");

    // As ever, the last one counts, and a command that fails has failed.
    let mended = format!(r#"{long}; echo '{{"result":{{"stored":"elsewhere"}}}}'"#);
    let outcome = bench.run(&mended, &[]).await;
    let stored = Struct::from_json(&json!({"stored": "elsewhere"})).expect("an object");
    assert_eq!(outcome, Outcome::success_with(stored));
    let spoiled = format!(r#"echo '{{"result":{{}}}}'; {long}"#);
    let (_, reason, _) = failed(bench.run(&spoiled, &[]).await);
    assert_eq!(reason, "BAD_RESULT");
    let (_, reason, _) = failed(bench.run(&format!("{long}; exit 3"), &[]).await);
    assert_eq!(reason, "EXIT_STATUS");
}

#[tokio::test]
async fn another_line_that_is_too_long_is_cut_and_a_warning_says_so() {
    let bench = Bench::new();
    let script = "head -c 2000000 /dev/zero | tr '\\0' x; echo; echo done";
    let outcome = bench.run(script, &[]).await;
    assert!(
        matches!(&outcome, Outcome::Succeeded { status_detail, .. } if status_detail.ends_with("done")),
        "{outcome:?}"
    );
    let reports = bench.reports();
    assert!(
        matches!(&reports[..], [Report::Progress(_), Report::Warning(warning)]
            if warning.message.contains("1048576 bytes")),
        "{reports:?}"
    );
}

#[tokio::test]
async fn a_line_that_only_looks_like_a_report_counts_as_text_and_a_warning_says_so() {
    for line in [
        r#"{"result": 5}"#,
        r#"{"progress":"x"}"#,
        r#"{"result":{"id":7},"progress":{"done":1}}"#,
    ] {
        let bench = Bench::new();
        let outcome = bench.run(r#"printf '%s\n' "$1""#, &[line]).await;
        let as_text = Outcome::Succeeded {
            result: None,
            status_detail: line.to_owned(),
        };
        assert_eq!(outcome, as_text);
        let expected = format!("a line on stdout looks like a report but is none: {line}");
        assert_eq!(bench.warnings(), [expected]);
    }

    let bench = Bench::new();
    let script = r#"for i in 1 2 3 4 5; do echo '{"result":'$i'}'; done; echo '{"other":5}'"#;
    bench.run(script, &[]).await;
    assert_eq!(bench.warnings().len(), 3, "a few warnings are enough");

    let bench = Bench::new();
    bench
        .run(r#"echo '{"other":5}'; echo '{"result":{}}'"#, &[])
        .await;
    assert_eq!(bench.warnings(), [""; 0]);
}

/// How a script ends that is cancelled once it has made the file that is its first argument.
async fn cancelled(script: &str) -> Outcome {
    let directory = tempfile::tempdir().expect("a directory");
    let ready = directory.path().join("ready");
    let bench = Bench::new();
    let path = ready.to_string_lossy().into_owned();
    let cancel = async {
        until_exists(&ready).await;
        bench.signals.cancel(CancelRequest::default());
    };
    let arguments = [path.as_str()];
    let (outcome, ()) = tokio::join!(bench.run(script, &arguments), cancel);
    outcome
}

#[tokio::test]
async fn cancel_lets_the_command_clean_up() {
    for (trap, status_detail) in [
        ("trap 'echo cleaned up; exit 143' TERM", "cleaned up"),
        ("trap 'echo gave up; exit 75' TERM", "gave up"),
        (":", ""),
    ] {
        let script = format!(r#"{trap}; touch "$1"; while :; do sleep 0.05; done"#);
        assert_eq!(
            cancelled(&script).await,
            Outcome::Cancelled {
                status_detail: status_detail.to_owned()
            }
        );
    }
}

#[tokio::test]
async fn what_is_done_in_spite_of_a_cancel_counts() {
    let script = r#"trap 'echo "{\"result\":{\"id\":7}}"; exit 0' TERM; touch "$1"; while :; do sleep 0.05; done"#;
    let result = Struct::from_json(&json!({"id": 7})).expect("an object");
    assert_eq!(cancelled(script).await, Outcome::success_with(result));
}

#[tokio::test]
async fn a_deaf_command_and_its_children_are_killed_before_the_deadline() {
    let directory = tempfile::tempdir().expect("a directory");
    let child = directory.path().join("child");
    let bench = Bench::new();
    // The child is deaf to SIGTERM as well: it inherits that.
    let script = r#"trap '' TERM; sleep 600 & echo $! > "$1.new"; mv "$1.new" "$1"; while :; do sleep 0.05; done"#;
    let path = child.to_string_lossy().into_owned();
    let deadline = Duration::from_secs(1);
    let cancel = async {
        until_exists(&child).await;
        bench.signals.cancel(CancelRequest {
            reason: String::new(),
            deadline: Some(clock::wall_now() + deadline),
        });
        clock::now()
    };
    let arguments = [path.as_str()];
    let (outcome, cancelled_at) = tokio::join!(bench.run(script, &arguments), cancel);
    assert!(matches!(outcome, Outcome::Cancelled { .. }), "{outcome:?}");
    assert!(cancelled_at.elapsed() >= deadline / 2, "it had its grace");
    until_gone(&child).await;
}

#[tokio::test]
async fn children_do_not_outlive_a_command_that_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let child = directory.path().join("child");
    let path = child.to_string_lossy().into_owned();
    let outcome = Bench::new()
        .run(r#"sleep 600 & echo $! > "$1""#, &[&path])
        .await;
    assert_eq!(outcome, Outcome::success());
    until_gone(&child).await;
}

#[tokio::test]
async fn nothing_outlives_a_handler_that_is_dropped() {
    let directory = tempfile::tempdir().expect("a directory");
    let child = directory.path().join("child");
    let path = child.to_string_lossy().into_owned();
    let bench = Bench::new();
    let script = r#"sleep 600 & echo $! > "$1.new"; mv "$1.new" "$1"; wait"#;
    let arguments = [path.as_str()];
    tokio::select! {
        outcome = bench.run(script, &arguments) => panic!("ended: {outcome:?}"),
        () = until_exists(&child) => {}
    }
    until_gone(&child).await;
}

#[tokio::test]
async fn shutdown_and_a_lost_lease_stop_the_command() {
    for stop in [Stop::Shutdown, Stop::LeaseLost] {
        let bench = Bench::new();
        match stop {
            Stop::LeaseLost => bench.signals.lease_lost.cancel(),
            Stop::Shutdown | Stop::Cancelled(_) => bench.signals.shutdown.cancel(),
        }
        let outcome = bench.run("sleep 600", &[]).await;
        assert!(
            matches!(outcome, Outcome::Released { .. }),
            "{stop:?}: {outcome:?}"
        );
    }
}

/// Something that left the command's group, and so outlives it, and keeps on writing.
#[tokio::test]
async fn a_stray_child_that_keeps_writing_does_not_hold_the_task() {
    for writes in ["while :; do echo x; sleep 0.3; done", "exec yes"] {
        for onto in ["2>/dev/null", ">&2"] {
            let script = r#"echo '{"result":{"id":"7"}}'; eval "setsid sh -c '$1' $2 &"; exit 0"#;
            let bench = Bench::new();
            let outcome = bench.run(script, &[writes, onto]).await;
            let Outcome::Succeeded { result, .. } = outcome else {
                panic!("{writes} {onto}: {outcome:?}");
            };
            let result = result.expect("it came before the end").to_json();
            assert_eq!(result.expect("JSON"), json!({"id": "7"}), "{writes} {onto}");
        }
    }
}
