//! `get`, `events`, `explain`, `counts`, `info`: read and print, change nothing.

use clap::Args;
use longhaul::proto::v1::{
    ExplainRequest, GetCountsRequest, GetRequest, GetServerInfoRequest, ListEventsRequest, View,
};

use super::{
    connect::{ConnectArgs, required},
    exit::{Exit, Failure},
    json,
    output::{Format, Output},
    render, time,
};

/// Events asked for at a time: the most that the server gives.
const EVENTS_PER_CALL: i32 = 1_000;

/// `longhaul get`
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Id of the job
    job: String,
    /// How to print it
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

/// `longhaul events`
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Id of the job
    job: String,
    /// Only changes newer than this revision
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    after: u64,
    /// How to print them
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

/// `longhaul explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Id of the job
    job: String,
    /// How to print it
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

/// `longhaul counts` and `longhaul info`
#[derive(Debug, Args)]
pub struct OverviewArgs {
    /// How to print it
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

/// Prints one job.
pub async fn get(args: GetArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let request = GetRequest {
        job_id: args.job,
        view: View::Full.into(),
    };
    let answer = server.client.jobs().get(request).await;
    let answer = answer
        .map_err(|status| server.refusal(status))?
        .into_inner();
    let job = required(answer.job, "job")?;
    match args.output {
        Format::Text => out.lines(render::job::lines(&job, time::now()))?,
        Format::Json => out.line(json::pretty(&job)?)?,
    }
    Ok(Exit::Success)
}

/// Prints the history of a job, page by page.
pub async fn events(args: EventsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let mut request = ListEventsRequest {
        job_id: args.job,
        after_revision: args.after,
        page_size: EVENTS_PER_CALL,
        page_token: String::new(),
    };
    loop {
        let page = server.client.jobs().list_events(request.clone()).await;
        let page = page.map_err(|status| server.refusal(status))?.into_inner();
        match args.output {
            Format::Text => out.lines(page.events.iter().map(render::events::line))?,
            Format::Json => out.lines(json::lines(&page.events)?)?,
        }
        if page.next_page_token.is_empty() {
            return Ok(Exit::Success);
        }
        request.page_token = page.next_page_token;
    }
}

/// Prints why a job is where it is.
pub async fn explain(args: ExplainArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let request = ExplainRequest { job_id: args.job };
    let answer = server.client.jobs().explain(request).await;
    let answer = answer
        .map_err(|status| server.refusal(status))?
        .into_inner();
    match args.output {
        Format::Text => out.lines(render::events::explanation(&answer))?,
        Format::Json => out.line(json::pretty(&answer)?)?,
    }
    Ok(Exit::Success)
}

/// Prints how many jobs and tasks there are.
pub async fn counts(args: OverviewArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let answer = server.client.jobs().get_counts(GetCountsRequest {}).await;
    let answer = answer
        .map_err(|status| server.refusal(status))?
        .into_inner();
    match args.output {
        Format::Text => out.lines(render::jobs::counts(&answer))?,
        Format::Json => out.line(json::pretty(&answer)?)?,
    }
    Ok(Exit::Success)
}

/// Prints which server this is.
pub async fn info(args: OverviewArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let answer = server
        .client
        .admin()
        .get_server_info(GetServerInfoRequest {})
        .await;
    let answer = answer
        .map_err(|status| server.refusal(status))?
        .into_inner();
    match args.output {
        Format::Text => out.lines(render::server::lines(&answer, time::now()))?,
        Format::Json => out.line(json::pretty(&answer)?)?,
    }
    Ok(Exit::Success)
}
