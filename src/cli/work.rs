//! `work`: a worker that runs a command for each task of a driver.

use std::{ffi::OsString, fs, pin::pin, time::Duration};

use clap::Args;
use longhaul::worker::{Worker, WorkerError, command::CommandHandler};
use tokio_util::sync::CancellationToken;

use super::{
    connect::ConnectArgs,
    exit::{Exit, Failure},
    logging::LogLevel,
    output::Output,
    signals::Signals,
    time::HumanDuration,
};

/// What a handler gets on top of its command's grace, to report how it ended.
const REPORT_TIME: Duration = Duration::from_secs(5);

/// `longhaul work`
#[derive(Debug, Args)]
#[command(after_help = "\
The command finds the task as JSON on stdin, its secrets as the member `secrets`, and LONGHAUL_JOB_ID, LONGHAUL_TASK_ID, LONGHAUL_TASK_NAME,
LONGHAUL_DRIVER, LONGHAUL_ATTEMPT and LONGHAUL_FENCING_TOKEN in its environment. Of its stdout, lines such as
  {\"progress\": {\"done\": 3, \"total\": 9, \"unit\": \"files\"}}   {\"warning\": \"…\"}   {\"result\": {…}}
are understood; the last other lines become the status detail. Exit 0 succeeds, 75 asks for another attempt,
any other code fails with the last lines of stderr. To cancel, its process group gets SIGTERM, and SIGKILL
after the grace; if it still exits with 0, it has succeeded.

SIGINT or SIGTERM ends the worker once its running tasks are done; a second one ends it at once.")]
pub struct WorkArgs {
    /// Driver whose tasks to take; may be given more than once
    #[arg(
        long = "driver",
        value_name = "NAME",
        env = "LONGHAUL_DRIVER",
        value_delimiter = ',',
        required = true
    )]
    drivers: Vec<String>,
    /// How many tasks to run at a time
    #[arg(long, value_name = "N", env = "LONGHAUL_SLOTS", default_value_t = 1)]
    slots: u32,
    /// Name of this worker, shown in the tasks that it holds [default: host name and process id]
    #[arg(long, value_name = "NAME", env = "LONGHAUL_WORKER_NAME")]
    name: Option<String>,
    /// How long a command has to stop, from SIGTERM to SIGKILL
    #[arg(
        long,
        value_name = "TIME",
        env = "LONGHAUL_GRACE",
        default_value = "10s"
    )]
    grace: HumanDuration,
    /// How long running tasks may go on when the worker ends
    #[arg(
        long,
        value_name = "TIME",
        env = "LONGHAUL_WORKER_DRAIN_TIMEOUT",
        default_value = "30s"
    )]
    drain_timeout: HumanDuration,
    /// Command to run for each task, with its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<OsString>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Works until SIGINT or SIGTERM, through disconnects and restarts of the server.
pub async fn run(args: WorkArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect_lazily(LogLevel::default())?;
    let grace = args.grace.0;
    let handler = CommandHandler::new(args.command)
        .map_err(|error| Failure::usage(error.to_string()))?
        .grace(grace);
    let mut worker = Worker::builder(server.client.clone())
        .name(args.name.unwrap_or_else(default_name))
        .slots(args.slots)
        .drain_timeout(args.drain_timeout.0)
        .stop_timeout(grace.saturating_add(REPORT_TIME));
    for driver in &args.drivers {
        worker = worker.driver(driver, handler.clone());
    }
    let failure = |error| match error {
        WorkerError::Refused(error) => server.failure(error),
        error => Failure::usage(error.to_string()),
    };
    let worker = worker.build().map_err(failure)?;

    let mut signals = Signals::new()?;
    let shutdown = CancellationToken::new();
    let mut working = pin!(worker.run(shutdown.clone()));
    out.note(format_args!(
        "working on tasks of {}",
        args.drivers.join(", ")
    ));
    tokio::select! {
        ended = &mut working => return ended.map(|()| Exit::Success).map_err(failure),
        signal = signals.next() => {
            out.note(format_args!("{signal}: no more tasks; ending when the running ones are done"));
            shutdown.cancel();
        }
    }
    tokio::select! {
        ended = working => ended.map(|()| Exit::Success).map_err(failure),
        signal = signals.next() => Err(Failure::new(
            Exit::Failed,
            format!("ended at once by a second signal ({signal}); running tasks are cut off, and run again when their leases are over"),
        )),
    }
}

/// Host and process, which is what someone looks for who sees the name in a task.
fn default_name() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "worker",
        host => host,
    };
    format!("{host}-{}", std::process::id())
}
