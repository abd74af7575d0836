//! A handler that runs a command once per task: a worker in any language, without a library.
//!
//! The command finds the task on its standard input, as canonical JSON, with the task's secrets, if it has any, as one more member of it, `secrets`: nobody
//! else can read there, as they could an environment or a command line. In its environment it finds `LONGHAUL_TASK_ID`, `LONGHAUL_JOB_ID`,
//! `LONGHAUL_TASK_NAME`, `LONGHAUL_DRIVER`, `LONGHAUL_ATTEMPT` and `LONGHAUL_FENCING_TOKEN`. On its standard output these lines are understood, each a
//! JSON object with one member:
//! - `{"progress": {"done": 3, "total": 9, "unit": "files", "message": "…"}}`, each of them optional;
//! - `{"warning": "…"}`;
//! - `{"result": {…}}`: what the task returns; the last one counts. Its line may have 1 MiB; with more the attempt fails for good;
//! - `{"status_detail": "…"}`: a line for people, in the place of what was said before.
//!
//! The last other lines become the status detail; one that looks like these but is none gets a warning as well, up to three times.
//!
//! Exit status 0 is success. 75 asks for another attempt, and so does death by a signal, which says more about the machine than about the task. Any other
//! status is a failure for good. The last lines of standard error say why.
//!
//! The command leads a process group of its own. To stop it, the group gets SIGTERM and, after the grace, SIGKILL. A command that is cancelled and still
//! exits with 0 has done its work: the task succeeded. Any other end confirms the cancel. Nothing of the group outlives the command, nor the handler,
//! however that ends; only a worker that is itself killed with SIGKILL leaves it running, which is what fencing tokens are for.

mod document;
mod group;
mod lines;
mod output;
mod program;
mod tail;

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    io::AsyncWriteExt as _,
    process::{ChildStdin, Command},
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::{
    group::{Ended, Group},
    lines::MAX_LINE_BYTES,
    output::Said,
};
use super::{Handler, Outcome, Stop, TaskContext, handler::BAD_RESULT};

/// How long a command may take to stop, unless the builder says otherwise.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// The exit status by which a command asks for another attempt: EX_TEMPFAIL of sysexits.h.
const TEMPORARY_FAILURE: i32 = 75;

/// Why a command can not be run for tasks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnusableCommand {
    /// The command line is empty.
    #[error("there is no command to run; give one after `--`")]
    Missing,
    /// There is no file at the path that was given.
    #[error("can't run `{program}`: {source}")]
    NotThere {
        /// The path.
        program: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No directory of `PATH` has such a program.
    #[error("can't run `{0}`: no directory of PATH has a program of that name")]
    NotInPath(String),
    /// It is a directory, or a file that must not be executed.
    #[error("can't run `{0}`: it is not an executable file; chmod +x may help")]
    NotExecutable(String),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct CommandHandler {
    program: OsString,
    arguments: Vec<OsString>,
    grace: Duration,
}

impl CommandHandler {
    /// A handler for a command and its arguments. The program is looked up in `PATH`, and no shell is involved.
    ///
    /// # Errors
    /// `argv` is empty, or there is no such program now.
    pub fn new(argv: Vec<OsString>) -> Result<Self, UnusableCommand> {
        let mut argv = argv.into_iter();
        let program = argv.next().ok_or(UnusableCommand::Missing)?;
        program::check(&program)?;
        Ok(Self {
            program,
            arguments: argv.collect(),
            grace: DEFAULT_GRACE,
        })
    }

    /// How long the command may take to stop before it is killed; less where the server sets a shorter limit. 10 s if not set.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long the command may take to stop now. Of the server's patience a tenth is left for the report.
    fn grace_for(&self, stop: &Stop) -> Duration {
        match stop {
            Stop::Cancelled(request) => request.remaining().map_or(self.grace, |remaining| {
                remaining.mul_f64(0.9).min(self.grace)
            }),
            Stop::LeaseLost | Stop::Shutdown => self.grace,
        }
    }

    fn command(&self, task: &TaskContext) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env("LONGHAUL_TASK_ID", &task.task().id)
            .env("LONGHAUL_JOB_ID", &task.task().job_id)
            .env("LONGHAUL_TASK_NAME", &task.task().name)
            .env("LONGHAUL_DRIVER", &task.task().driver)
            .env("LONGHAUL_ATTEMPT", task.attempt().to_string())
            .env("LONGHAUL_FENCING_TOKEN", task.fencing_token().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

#[async_trait]
impl Handler for CommandHandler {
    async fn run(&self, task: TaskContext) -> Outcome {
        let (mut group, pipes) = match Group::start(self.command(&task)) {
            Ok(started) => started,
            Err(error) => return self.not_started(&error),
        };
        let exited = CancellationToken::new();
        let end = async {
            let ended = group
                .attend(task.stop_requested(), |stop| self.grace_for(stop))
                .await;
            exited.cancel();
            ended
        };
        let (ended, said, complaints, ()) = tokio::join!(
            end,
            output::follow(pipes.stdout, &task, &exited),
            output::last_lines(pipes.stderr, &exited),
            feed(
                pipes.stdin,
                document::of(task.task(), task.secrets()),
                &exited
            ),
        );
        match ended {
            Ok(Ended::ByItself(status)) => outcome(status, said, &complaints.to_string()),
            // It was done before it could stop, and the server lets success count.
            Ok(Ended::Stopped(Stop::Cancelled(_), status)) if status.success() => {
                outcome(status, said, &complaints.to_string())
            }
            Ok(Ended::Stopped(Stop::Cancelled(_), _)) => Outcome::Cancelled {
                status_detail: said.last_lines.to_string(),
            },
            Ok(Ended::Stopped(Stop::LeaseLost, _)) => Outcome::released("the lease was lost"),
            Ok(Ended::Stopped(Stop::Shutdown, _)) => {
                Outcome::released("the worker is shutting down")
            }
            Err(error) => Outcome::failure(format!("lost sight of the command: {error}")),
        }
    }
}

impl CommandHandler {
    /// Another worker may have what this one lacks, so the failure is not for good.
    fn not_started(&self, error: &std::io::Error) -> Outcome {
        Outcome::Failed {
            message: format!("can't start `{}`: {error}", self.program.to_string_lossy()),
            reason: "COMMAND_NOT_STARTED".to_owned(),
            permanent: false,
            retry_after: None,
            status_detail: String::new(),
        }
    }
}

/// Writes the task to the command, as far as the command cares to read it.
async fn feed(mut stdin: ChildStdin, document: Zeroizing<Vec<u8>>, exited: &CancellationToken) {
    let written = exited.run_until_cancelled(async {
        stdin.write_all(&document).await?;
        stdin.shutdown().await
    });
    if let Some(Err(error)) = written.await {
        tracing::debug!(%error, "the command did not read the whole task");
    }
}

/// What the end of the command means.
fn outcome(status: ExitStatus, said: Said, complaints: &str) -> Outcome {
    let status_detail = said.last_lines.to_string();
    let (what, reason, permanent) = match (status.code(), status.signal()) {
        (Some(0), _) => {
            return match said.result.transpose() {
                Ok(result) => Outcome::Succeeded {
                    result,
                    status_detail,
                },
                Err(bytes) => Outcome::Failed {
                    message: format!(
                        "the command succeeded, but the line with its result has {bytes} bytes, and at most {MAX_LINE_BYTES} are read"
                    ),
                    reason: BAD_RESULT.to_owned(),
                    permanent: true,
                    retry_after: None,
                    status_detail,
                },
            };
        }
        (Some(TEMPORARY_FAILURE), _) => ("exit status 75".to_owned(), "TEMPORARY_FAILURE", false),
        (Some(code), _) => (format!("exit status {code}"), "EXIT_STATUS", true),
        (None, Some(signal)) => (
            format!("killed by signal {signal}"),
            "KILLED_BY_SIGNAL",
            false,
        ),
        (None, None) => (status.to_string(), "KILLED_BY_SIGNAL", false),
    };
    let message = if complaints.is_empty() {
        format!("{what}, and nothing on standard error")
    } else {
        format!("{what}: {complaints}")
    };
    Outcome::Failed {
        message,
        reason: reason.to_owned(),
        permanent,
        retry_after: None,
        status_detail,
    }
}

#[cfg(test)]
mod tests;
