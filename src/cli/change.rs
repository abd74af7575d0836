//! `cancel`, `retry`, `delete`, `driver pause`, `driver resume`: one call each, and a line that says what became of it.

use std::fmt;

use clap::{Args, Subcommand};
use longhaul::proto::v1::{
    CancelRequest, DeleteRequest, Job, PauseDriverRequest, ResumeDriverRequest, RetryRequest,
};

use super::{
    connect::{ConnectArgs, required},
    exit::{Exit, Failure},
    json::{self, ApiMessage},
    output::{Format, Output},
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
    /// How to print the job
    #[arg(
        long,
        value_name = "FORMAT",
        env = "LONGHAUL_OUTPUT",
        default_value = "text"
    )]
    output: Format,
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
    /// How to print the job
    #[arg(
        long,
        value_name = "FORMAT",
        env = "LONGHAUL_OUTPUT",
        default_value = "text"
    )]
    output: Format,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `longhaul delete`
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Id of the finished job
    job: String,
    /// How to print the answer
    #[arg(
        long,
        value_name = "FORMAT",
        env = "LONGHAUL_OUTPUT",
        default_value = "text"
    )]
    output: Format,
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
        /// How to print the answer
        #[arg(
            long,
            value_name = "FORMAT",
            env = "LONGHAUL_OUTPUT",
            default_value = "text"
        )]
        output: Format,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// Hand out tasks of a driver again
    Resume {
        /// Name of the driver
        driver: String,
        /// How to print the answer
        #[arg(
            long,
            value_name = "FORMAT",
            env = "LONGHAUL_OUTPUT",
            default_value = "text"
        )]
        output: Format,
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
    let answer = server.client.jobs().cancel(request).await;
    let answer = answer
        .map_err(|status| server.refusal(status))?
        .into_inner();
    print(&required(answer.job, "job")?, args.output, out)
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
    let answer = server.client.jobs().retry(request).await;
    let answer = answer
        .map_err(|status| server.refusal(status))?
        .into_inner();
    let job = required(answer.job, "job")?;
    if answer.created {
        out.note(format_args!(
            "submitted as a new job; follow it: longhaul watch {}",
            job.id
        ));
    }
    print(&job, args.output, out)
}

/// Removes a finished job.
pub async fn delete(args: DeleteArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let request = DeleteRequest {
        job_id: args.job.clone(),
    };
    let answer = server.client.jobs().delete(request).await;
    let answer = answer
        .map_err(|status| server.refusal(status))?
        .into_inner();
    let done = format_args!("job {} is deleted", args.job);
    say_done(&answer, done, args.output, out)
}

/// Pauses or resumes a driver.
pub async fn driver(command: DriverCommand, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        DriverCommand::Pause {
            driver,
            reason,
            output,
            connect,
        } => {
            let server = connect.connect().await?;
            let request = PauseDriverRequest {
                driver: driver.clone(),
                reason,
            };
            let answer = server.client.admin().pause_driver(request).await;
            let answer = answer
                .map_err(|status| server.refusal(status))?
                .into_inner();
            let done = format_args!(
                "driver {driver} is paused; go on with: longhaul driver resume {driver}"
            );
            say_done(&answer, done, output, out)
        }
        DriverCommand::Resume {
            driver,
            output,
            connect,
        } => {
            let server = connect.connect().await?;
            let request = ResumeDriverRequest {
                driver: driver.clone(),
            };
            let answer = server.client.admin().resume_driver(request).await;
            let answer = answer
                .map_err(|status| server.refusal(status))?
                .into_inner();
            let done = format_args!("driver {driver} is handed out again");
            say_done(&answer, done, output, out)
        }
    }
}

/// What was done, where the answer holds no data: a sentence for people, the answer itself for programs.
fn say_done<M: ApiMessage>(
    answer: &M,
    done: fmt::Arguments<'_>,
    output: Format,
    out: &mut Output,
) -> Result<Exit, Failure> {
    match output {
        Format::Text => out.note(done),
        Format::Json => out.line(json::pretty(answer)?)?,
    }
    Ok(Exit::Success)
}

fn print(job: &Job, output: Format, out: &mut Output) -> Result<Exit, Failure> {
    match output {
        Format::Text => out.line(render::job::headline(job))?,
        Format::Json => out.line(json::pretty(job)?)?,
    }
    Ok(Exit::Success)
}
