//! `audit list`, `audit tail`: who did what, and who tried.

use clap::{Args, Subcommand};
use longhaul::{
    client::{AuditOptions, AuditUpdate},
    proto::{
        json,
        v1::{AuditRecord, ListAuditRequest},
    },
};

use super::{
    connect::ConnectArgs,
    exit::{Exit, Failure},
    output::{Format, FormatArgs, Output},
    render,
    text::{FAINT, ODD, one_line, paint},
};

/// Records asked for at a time: the most that the server gives.
const RECORDS_PER_CALL: u32 = 1_000;

/// `longhaul audit`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Print the audit log, newest first
    List {
        /// How many records to print
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Print all records
        #[arg(long, conflicts_with = "limit")]
        all: bool,
        #[command(flatten)]
        log: LogOfArgs,
    },
    /// Follow the audit log: the newest records, and then each new one
    Tail {
        /// How many of the newest records to print first
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(..=i64::from(RECORDS_PER_CALL)))]
        limit: u32,
        #[command(flatten)]
        log: LogOfArgs,
    },
}

/// Whose log, and how to print it.
#[derive(Debug, Args)]
pub struct LogOfArgs {
    /// Of this tenant [default: of all that the caller reaches]
    #[arg(
        long,
        value_name = "TENANT",
        default_value = "",
        hide_default_value = true
    )]
    tenant: String,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Does what an `audit` command says.
pub async fn run(command: AuditCommand, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        AuditCommand::List { limit, all, log } => {
            let wanted = if all { u64::MAX } else { limit.into() };
            list(wanted, log, out).await
        }
        AuditCommand::Tail { limit, log } => tail(limit, log, out).await,
    }
}

async fn list(mut wanted: u64, args: LogOfArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let mut request = ListAuditRequest {
        tenant: args.tenant,
        page_size: 0,
        page_token: String::new(),
    };
    loop {
        let most = wanted.min(RECORDS_PER_CALL.into());
        request.page_size = i32::try_from(most).unwrap_or(i32::MAX);
        let page = server.client.admin().list_audit(request.clone()).await;
        let page = server.answer(page)?;
        print(&page.records, &args.format, out)?;
        wanted = wanted.saturating_sub(page.records.len() as u64);
        if page.next_page_token.is_empty() || wanted == 0 {
            return Ok(Exit::Success);
        }
        request.page_token = page.next_page_token;
    }
}

/// Follows the log until it is interrupted.
async fn tail(newest: u32, args: LogOfArgs, out: &mut Output) -> Result<Exit, Failure> {
    // Whoever mistyped the address should hear of it at once; later it comes back by itself.
    let server = args.connect.connect().await?;
    let mut watch = server.client.watch_audit(AuditOptions {
        tenant: args.tenant,
        newest: newest as usize,
    });
    let mut is_lost = false;
    while let Some(update) = watch.next().await {
        match update.map_err(|error| server.failure(error))? {
            AuditUpdate::Disconnected { error, .. } => {
                // An outage is told of once, at its beginning and at its end.
                if !std::mem::replace(&mut is_lost, true) {
                    let why = one_line(&error.to_string()).into_owned();
                    out.note(paint(
                        ODD,
                        format_args!("lost the server: {why}; trying until it is back"),
                    ));
                }
                continue;
            }
            AuditUpdate::Records { records, missed } => {
                if missed {
                    out.note(paint(
                        ODD,
                        "more was written meanwhile than the server gives at once; longhaul audit list has all of it",
                    ));
                }
                print(&records, &args.format, out)?;
            }
            AuditUpdate::Heartbeat => {}
        }
        if std::mem::take(&mut is_lost) {
            out.note(paint(FAINT, "the server is back"));
        }
    }
    Err(Failure::new(
        Exit::Failed,
        "the server ended the audit log without saying why",
    ))
}

fn print(records: &[AuditRecord], format: &FormatArgs, out: &mut Output) -> Result<(), Failure> {
    match format.output {
        Format::Text => out.lines(records.iter().map(render::audit::line)),
        Format::Json => out.lines(json::lines(records)?),
    }
}
