//! `list`: jobs, newest first, page by page as they are printed.

use clap::Args;
use longhaul::{
    domain::wording::count,
    proto::{json, v1::ListRequest},
};

use super::{
    connect::ConnectArgs,
    exit::{Exit, Failure},
    output::{Format, Output},
    render::jobs::Pages,
    time,
};

/// The most jobs that the server gives at a time.
const MAX_PAGE_SIZE: u32 = 1_000;

/// `longhaul list`
#[derive(Debug, Args)]
#[command(after_help = "\
Filters are AIP-160 over job_id, state, status, action, summary, driver, object.type, object.id, object.name, labels.KEY, creator, parent_job_id, \
priority, create_time, start_time, end_time and update_time. For example:
  longhaul list --filter 'state = RUNNING AND labels.team = \"storage\"'
  longhaul list --filter 'create_time > \"2026-01-01T00:00:00Z\" AND object.name = \"test*\"'")]
pub struct ListArgs {
    /// Only jobs that match
    #[arg(long, value_name = "FILTER", default_value = "")]
    filter: String,
    /// "create_time desc", "create_time" or "update_time desc"
    #[arg(long, value_name = "ORDER", default_value = "create_time desc")]
    order_by: String,
    /// How many jobs to print
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print all jobs that match
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// How many jobs to ask for at a time
    #[arg(long, value_name = "N", default_value_t = MAX_PAGE_SIZE, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PAGE_SIZE)))]
    page_size: u32,
    /// How to print them; json is one object per line
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

/// Prints jobs until there are no more, or enough.
pub async fn run(args: ListArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let mut wanted = if args.all {
        u64::MAX
    } else {
        args.limit.into()
    };
    let mut printed = 0;
    let mut pages = Pages::default();
    let mut request = ListRequest {
        filter: args.filter,
        order_by: args.order_by,
        ..Default::default()
    };
    loop {
        let most = wanted.min(args.page_size.into());
        request.page_size = i32::try_from(most).unwrap_or(i32::MAX);
        let page = server.client.jobs().list(request.clone()).await;
        let page = server.answer(page)?;
        match args.output {
            Format::Text if page.jobs.is_empty() => {}
            Format::Text => out.lines(pages.lines(&page.jobs, time::now()))?,
            Format::Json => out.lines(json::lines(&page.jobs)?)?,
        }
        printed += page.jobs.len() as u64;
        wanted = wanted.saturating_sub(page.jobs.len() as u64);
        let more = !page.next_page_token.is_empty();
        if !more || wanted == 0 {
            if args.output == Format::Text {
                say_what_is_left(printed, more, page.total_size, out);
            }
            return Ok(Exit::Success);
        }
        request.page_token = page.next_page_token;
    }
}

fn say_what_is_left(printed: u64, more: bool, total: Option<i64>, out: &mut Output) {
    match (more, total) {
        (true, Some(total)) => {
            out.note(format_args!(
                "{printed} of {}; --all prints the rest",
                count(total, "job")
            ));
        }
        (true, None) => out.note(format_args!(
            "{} and more; --all prints the rest",
            count(printed, "job")
        )),
        (false, _) if printed == 0 => out.note("no jobs match"),
        (false, _) => {}
    }
}
