//! The command line: what can be typed, and which module carries it out.
//!
//! Uses the library as any other program could. Each command returns an [`Exit`] or a [`Failure`]; only this module shows a failure, once.

mod audit;
mod bench;
mod change;
mod connect;
mod exit;
mod key;
mod list;
mod logging;
mod output;
mod quickstart;
mod render;
mod secrets;
mod serve;
mod settings;
mod show;
mod signals;
mod store;
mod submit;
mod tenant;
mod text;
mod time;
mod watch;
mod work;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use self::{
    exit::{Exit, Failure},
    output::Output,
};

/// A job service: submit long-running work, let workers carry it out, watch every change live.
#[derive(Debug, Parser)]
#[command(
    name = "longhaul",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(after_help = "See it work: longhaul quickstart")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See a server, a worker and a job at work
    Quickstart(quickstart::QuickstartArgs),
    /// Run a server
    Serve(Box<serve::ServeArgs>),
    /// Run a worker that runs a command for each task
    Work(work::WorkArgs),
    /// Submit a job
    Submit(Box<submit::SubmitArgs>),
    /// Follow a job to its end
    Watch(watch::WatchArgs),
    /// Print a job
    Get(show::GetArgs),
    /// Print jobs, newest first
    List(list::ListArgs),
    /// Print the history of a job, every single change
    Events(show::EventsArgs),
    /// Say why a job is where it is, and what to do about it
    Explain(show::ExplainArgs),
    /// Ask a job to stop
    Cancel(change::CancelArgs),
    /// Run a failed or cancelled job again, or a pausing task at once
    Retry(change::RetryArgs),
    /// Remove a finished job
    Delete(change::DeleteArgs),
    /// Print how many jobs and tasks there are
    Counts(show::OverviewArgs),
    /// Print which server this is, and its limits
    Info(show::OverviewArgs),
    /// Pause or resume a driver
    #[command(subcommand)]
    Driver(change::DriverCommand),
    /// Make, list and revoke credentials
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Make, list and change tenants
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Change the keys that secrets are sealed with
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// Read or follow the audit log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Print who you are to the server
    Whoami(show::OverviewArgs),
    /// Copy a store
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Measure a server against the limits of this machine
    Bench(Box<bench::BenchArgs>),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Does what the command line says, and shows what went wrong.
pub fn main() -> Exit {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut out = Output::new();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            out.note(Failure::local("can't start threads", &error));
            return Exit::Failed;
        }
    };
    let result = runtime.block_on(run(cli.command, &matches, &mut out));
    // What is still in flight belongs to a command that has ended; waiting for it would only delay the prompt.
    runtime.shutdown_background();
    result.unwrap_or_else(|failure| {
        if !matches!(failure, Failure::PipeClosed) {
            out.note(&failure);
        }
        failure.exit()
    })
}

async fn run(command: Command, matches: &ArgMatches, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        Command::Serve(args) => {
            let (_, matches) = matches.subcommand().unwrap_or(("serve", matches));
            serve::run(*args, matches, out).await
        }
        Command::Quickstart(args) => quickstart::run(args, out).await,
        Command::Work(args) => work::run(args, out).await,
        Command::Submit(args) => submit::run(*args, out).await,
        Command::Watch(args) => watch::run(args, out).await,
        Command::Get(args) => show::get(args, out).await,
        Command::List(args) => list::run(args, out).await,
        Command::Events(args) => show::events(args, out).await,
        Command::Explain(args) => show::explain(args, out).await,
        Command::Cancel(args) => change::cancel(args, out).await,
        Command::Retry(args) => change::retry(args, out).await,
        Command::Delete(args) => change::delete(args, out).await,
        Command::Counts(args) => show::counts(args, out).await,
        Command::Info(args) => show::info(args, out).await,
        Command::Driver(command) => change::driver(command, out).await,
        Command::Key(command) => key::run(command, out).await,
        Command::Tenant(command) => tenant::run(command, out).await,
        Command::Secrets(command) => secrets::run(command, out).await,
        Command::Audit(command) => audit::run(command, out).await,
        Command::Whoami(args) => key::whoami(args, out).await,
        Command::Store(command) => store::run(command, out).await,
        Command::Bench(args) => bench::run(*args, out).await,
        Command::Completions { shell } => completions(shell, out),
    }
}

fn completions(shell: Shell, out: &mut Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "longhaul", &mut script);
    out.raw(&script)?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
