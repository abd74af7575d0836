//! `cancel`, `retry`, `delete`, `driver pause`, `driver resume`: one call each, and a line that says what became of it.

use clap::{Args, Subcommand};
use longhaul::proto::v1::{
    CancelRequest, DeleteRequest, PauseDriverRequest, ResumeDriverRequest, RetryRequest,
};

use super::{
    connect::{ConnectArgs, required},
    exit::{Exit, Failure},
    output::{FormatArgs, Output},
    render,
};

/// `longhaul cancel`
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// Id of the job
    job: String,
    /// Why, for people; the worker is told
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `longhaul retry`
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Id of the job
    job: String,
    /// Makes it safe to repeat the command: the same id never submits a second job [default: a random one]
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `longhaul delete`
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Id of the finished job
    job: String,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `longhaul driver`
#[derive(Debug, Subcommand)]
pub enum DriverCommand {
    /// Stop handing out tasks of a driver; running ones go on
    Pause {
        /// Name of the driver
        driver: String,
        /// Why, for people
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        #[command(flatten)]
        format: FormatArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// Hand out tasks of a driver again
    Resume {
        /// Name of the driver
        driver: String,
        #[command(flatten)]
        format: FormatArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
}

/// Asks a job to stop.
pub async fn cancel(args: CancelArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let request = CancelRequest {
        job_id: args.job,
        reason: args.reason,
    };
    let answer = server.answer(server.client.jobs().cancel(request).await)?;
    let job = required(answer.job, "job")?;
    out.answer(&args.format, &job, [render::job::headline(&job)])
}

/// Starts pausing tasks now, or submits a finished job once more.
pub async fn retry(args: RetryArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let request = RetryRequest {
        job_id: args.job,
        request_id: args
            .request_id
            .unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
    };
    let answer = server.answer(server.client.jobs().retry(request).await)?;
    let job = required(answer.job, "job")?;
    if answer.created {
        out.note(format_args!(
            "submitted as a new job; follow it: longhaul watch {}",
            job.id
        ));
    }
    out.answer(&args.format, &job, [render::job::headline(&job)])
}

/// Removes a finished job.
pub async fn delete(args: DeleteArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let request = DeleteRequest {
        job_id: args.job.clone(),
    };
    let answer = server.answer(server.client.jobs().delete(request).await)?;
    let done = format_args!("job {} is deleted", args.job);
    out.done(&args.format, &answer, done)
}

/// Pauses or resumes a driver.
pub async fn driver(command: DriverCommand, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        DriverCommand::Pause {
            driver,
            reason,
            format,
            connect,
        } => {
            let server = connect.connect().await?;
            let request = PauseDriverRequest {
                driver: driver.clone(),
                reason,
            };
            let answer = server.answer(server.client.admin().pause_driver(request).await)?;
            let done = format_args!(
                "driver {driver} is paused; go on with: longhaul driver resume {driver}"
            );
            out.done(&format, &answer, done)
        }
        DriverCommand::Resume {
            driver,
            format,
            connect,
        } => {
            let server = connect.connect().await?;
            let request = ResumeDriverRequest {
                driver: driver.clone(),
            };
            let answer = server.answer(server.client.admin().resume_driver(request).await)?;
            let done = format_args!("driver {driver} is handed out again");
            out.done(&format, &answer, done)
        }
    }
}
