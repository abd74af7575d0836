//! `get`, `events`, `explain`, `counts`, `info`: read and print, change nothing.

use clap::Args;
use longhaul::proto::{
    json,
    v1::{
        ExplainRequest, GetCountsRequest, GetRequest, GetServerInfoRequest, ListEventsRequest, View,
    },
};

use super::{
    connect::{ConnectArgs, required},
    exit::{Exit, Failure},
    output::{Format, FormatArgs, Output},
    render, time,
};

/// Events asked for at a time: the most that the server gives.
const EVENTS_PER_CALL: i32 = 1_000;

/// `longhaul get`
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Id of the job
    job: String,
    #[command(flatten)]
    format: FormatArgs,
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
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `longhaul explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Id of the job
    job: String,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `longhaul counts`, `longhaul info` and `longhaul whoami`
#[derive(Debug, Args)]
pub struct OverviewArgs {
    #[command(flatten)]
    pub format: FormatArgs,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Prints one job.
pub async fn get(args: GetArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let request = GetRequest {
        job_id: args.job,
        view: View::Full.into(),
    };
    let answer = server.answer(server.client.jobs().get(request).await)?;
    let job = required(answer.job, "job")?;
    out.answer(&args.format, &job, render::job::lines(&job, time::now()))
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
        let page = server.answer(page)?;
        match args.format.output {
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
    let answer = server.answer(server.client.jobs().explain(request).await)?;
    out.answer(&args.format, &answer, render::events::explanation(&answer))
}

/// Prints how many jobs and tasks there are.
pub async fn counts(args: OverviewArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let answer = server.answer(server.client.jobs().get_counts(GetCountsRequest {}).await)?;
    out.answer(&args.format, &answer, render::jobs::counts(&answer))
}

/// Prints which server this is.
pub async fn info(args: OverviewArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let request = GetServerInfoRequest {};
    let answer = server.answer(server.client.admin().get_server_info(request).await)?;
    out.answer(
        &args.format,
        &answer,
        render::server::lines(&answer, time::now()),
    )
}
