//! `bench`: measures a server, or the limits of the machine.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use indicatif::{ProgressBar, ProgressStyle};
use longhaul::bench::{self, BenchError, BenchOptions, Progress, Scenario};

use super::{
    exit::{Exit, Failure},
    logging::{self, LogFormat, LogLevel},
    output::{Format, Output},
    render,
};

/// How often the bar is drawn anew though nothing happened.
const TICK: Duration = Duration::from_secs(1);

/// `longhaul bench`
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Every figure is taken on this machine, with server and load on the same processors; compare ratios, not machines. The data of a measurement is kept in
--dir while it lasts: choose a folder on the disk that matters, or a tmpfs to leave the disk out.

Examples:
  longhaul bench
  longhaul bench --quick --scenario submit --scenario batch
  longhaul bench --store postgres://me@localhost/postgres --nodes 3 --scenario cluster
  longhaul bench floor"
)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    /// What to measure; all if left out
    #[arg(long = "scenario", value_name = "NAME", value_parser = scenarios())]
    scenarios: Vec<Scenario>,
    /// Measure the server that runs there, instead of starting one; it will keep the jobs. Once for each node of a cluster
    #[arg(long = "endpoint", value_name = "URL")]
    endpoints: Vec<String>,
    /// Start servers on PostgreSQL, each with a database of its own beside this one; the user must be allowed to create databases
    #[arg(
        long,
        value_name = "URL",
        env = "LONGHAUL_BENCH_STORE",
        hide_env_values = true,
        conflicts_with = "endpoints"
    )]
    store: Option<String>,
    /// Nodes of each server that is started; more than one need --store
    #[arg(long, value_name = "N", default_value = "1", requires = "store", value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: u8,
    #[command(flatten)]
    method: MethodArgs,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Measure the limits of the machine: bare calls, raw inserts, the disk
    Floor(MethodArgs),
    /// Answer every submission with the same bytes, for the floor of a call
    #[command(hide = true)]
    EchoServer,
}

#[derive(Debug, Args)]
struct MethodArgs {
    /// Seconds that the server works in a round [default: 3; with --quick: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Rounds, of which the median counts [default: 5; with --quick: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: Option<u64>,
    /// Jobs in the store where its size matters [default: 1000000; with --quick: 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10_000..=100_000_000))]
    jobs: Option<u64>,
    /// One short round: to see that it works, not to quote
    #[arg(long)]
    quick: bool,
    /// Bytes of a task's payload
    #[arg(long, value_name = "BYTES", default_value = "200", value_parser = clap::value_parser!(u32).range(0..=500_000))]
    payload: u32,
    /// Where to keep data while measuring
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// How to print the figures
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

fn scenarios() -> impl TypedValueParser<Value = Scenario> {
    PossibleValuesParser::new(Scenario::ALL.map(Scenario::name))
        .try_map(|name| name.parse::<Scenario>())
}

/// Measures, or is measured.
pub async fn run(args: BenchArgs, out: &mut Output) -> Result<Exit, Failure> {
    logging::start(&LogLevel::quiet(), LogFormat::Text);
    match args.command {
        None => {
            let servers = Servers {
                endpoints: args.endpoints,
                store: args.store,
                nodes: usize::from(args.nodes),
            };
            let mut scenarios = args.scenarios;
            if scenarios.is_empty() {
                let fits = |s: &Scenario| s.is_for(servers.store.is_some(), servers.nodes);
                scenarios = Scenario::ALL.into_iter().filter(fits).collect();
            }
            measure(scenarios, servers, args.method, out).await
        }
        Some(BenchCommand::Floor(method)) => {
            measure(vec![Scenario::Floor], Servers::default(), method, out).await
        }
        Some(BenchCommand::EchoServer) => echo(out).await,
    }
}

/// What is measured.
#[derive(Default)]
struct Servers {
    endpoints: Vec<String>,
    store: Option<String>,
    nodes: usize,
}

async fn measure(
    scenarios: Vec<Scenario>,
    servers: Servers,
    method: MethodArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let output = method.output;
    let program = std::env::current_exe()
        .map_err(|error| Failure::local("can't find this program", &error))?;
    let or = |given: Option<u64>, quick: u64, thorough: u64| {
        given.unwrap_or(if method.quick { quick } else { thorough })
    };
    let options = BenchOptions {
        scenarios,
        // At most a thousand, so it fits.
        rounds: usize::try_from(or(method.rounds, 1, 5)).unwrap_or(1_000),
        round_time: Duration::from_secs(or(method.seconds, 1, 3)),
        jobs: or(method.jobs, 100_000, 1_000_000),
        payload_bytes: method.payload as usize,
        dir: method.dir,
        endpoints: servers.endpoints,
        store: servers.store,
        nodes: servers.nodes.max(1),
        program,
    };
    let bar = ProgressBar::new(0).with_style(style());
    bar.enable_steady_tick(TICK);
    let mut show = |progress: Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(progress.scenario.name());
    };
    let report = bench::run(&options, &mut show).await;
    bar.finish_and_clear();
    let report = report.map_err(|error| failure(&error))?;
    match output {
        Format::Text => out.lines(render::bench::lines(&report))?,
        Format::Json => {
            let json = serde_json::to_string_pretty(&report);
            out.line(json.map_err(|error| Failure::local("can't write JSON", &error))?)?;
        }
    }
    Ok(Exit::Success)
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{spinner} {elapsed:>4}  {bar:24.cyan/dim} {pos}/{len} rounds  {wide_msg}",
    )
    .expect("the template is right")
    .progress_chars("━╸─")
}

fn failure(error: &BenchError) -> Failure {
    match error {
        BenchError::NeedsOwnServer(_) | BenchError::NeedsNodes(_) => {
            Failure::usage(error.to_string())
        }
        error => Failure::local("can't measure", error),
    }
}

async fn echo(out: &mut Output) -> Result<Exit, Failure> {
    let mut said = Ok(());
    let served = bench::serve_echo(tokio::io::stdin(), |address| {
        said = out.line(format_args!("listening on http://{address}"));
    });
    served.await.map_err(|error| failure(&error))?;
    said.map(|()| Exit::Success)
}
