//! `serve`: runs a server until a signal, and then lets it drain.

mod exposure;
mod first_key;

use std::{path::PathBuf, time::Duration};

use clap::{ArgMatches, Args};
use longhaul::server::{self, ServeSettings};
use tracing::{info, warn};

use super::{
    exit::{Exit, Failure},
    logging,
    output::Output,
    settings::{ServeLayer, Settings},
    signals::Signals,
    time::HumanDuration,
};

/// `longhaul serve`
#[derive(Debug, Args)]
#[command(after_help = "\
Each setting is a flag, a variable LONGHAUL_…, or a key of the TOML file, such as data_dir = \"/var/lib/longhaul\"; the first that is there counts.")]
pub struct ServeArgs {
    /// TOML file with settings
    #[arg(long, value_name = "FILE", env = "LONGHAUL_CONFIG")]
    config: Option<PathBuf>,
    /// Print the settings that apply and where each comes from, as a settings file, and exit
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    layer: ServeLayer,
}

/// Serves until SIGINT or SIGTERM.
pub async fn run(args: ServeArgs, matches: &ArgMatches, out: &mut Output) -> Result<Exit, Failure> {
    let settings = Settings::resolve(args.layer, matches, args.config.as_deref())?;
    // Before they are printed: what is printed can be served with.
    let missing = exposure::missing(&settings.serve);
    exposure::refuse(&settings.serve, missing, settings.insecure)?;
    refuse_nothing(&settings.serve)?;
    if args.print_config {
        out.lines(settings.lines())?;
        return Ok(Exit::Success);
    }
    logging::start(&settings.log_level, settings.log_format);
    if settings.shows_password {
        warn!(
            "the password in --store can be read by everybody on this machine, in the list of processes: use --store-password-file, PGPASSWORD or LONGHAUL_STORE"
        );
    }
    let listen = settings.serve.listen;
    if let Some(missing) = missing {
        warn!(%listen, "insecure: serving other machines although {missing}: {}", missing.consequence());
    }
    let scheme = match settings.serve.tls {
        Some(_) => "https",
        None => "http",
    };

    let mut signals = Signals::new()?;
    let mut server = server::start(settings.serve)
        .await
        .map_err(|error| Failure::local("can't serve", &error))?;
    match out.line(format_args!(
        "listening on {scheme}://{}",
        server.local_addr()
    )) {
        // Whoever started the server need not stay to hear where it listens.
        Ok(()) | Err(Failure::PipeClosed) => {}
        Err(failure) => return Err(failure),
    }
    if let Some(key) = server.take_first_key() {
        info!("the store had no credentials; its first key is on stdout");
        let lines = first_key::lines(&key, scheme, server.local_addr(), out.is_terminal());
        if let Err(Failure::PipeClosed) = out.lines(lines) {
            warn!(
                "nobody could be told the first key; to make another one, serve without --auth on the loopback interface for a moment: longhaul key create --all-tenants --role admin NAME"
            );
        }
    }

    tokio::select! {
        signal = signals.next() => info!(signal, "draining; a second signal ends at once"),
        error = server.failed() => return Err(Failure::local("the server stopped", &error)),
    }
    tokio::select! {
        drained = server.drain() => {
            drained.map_err(|error| Failure::local("the server did not stop cleanly", &error))?;
            Ok(Exit::Success)
        }
        signal = signals.next() => Err(Failure::new(
            Exit::Failed,
            format!("ended at once by a second signal ({signal}); calls that were open are cut off, nothing acknowledged is lost"),
        )),
    }
}

/// Below this a worker that is well loses its leases, and so every task fails.
const MIN_LEASE: Duration = Duration::from_secs(1);
/// A worker counts as gone after three of these.
const MIN_HEARTBEAT: Duration = Duration::from_millis(100);
/// Below this a task is cancelled before its worker can have heard of it.
const MIN_CANCEL_GRACE: Duration = Duration::from_secs(1);

/// Settings under which no task could end, or no call be made.
fn refuse_nothing(settings: &ServeSettings) -> Result<(), Failure> {
    let ServeSettings {
        lease_duration,
        heartbeat_interval,
        cancel_grace,
        max_connections,
        max_streams_per_connection,
        ..
    } = settings;
    let spans = [
        ("lease_duration", lease_duration, MIN_LEASE),
        ("heartbeat_interval", heartbeat_interval, MIN_HEARTBEAT),
        ("cancel_grace", cancel_grace, MIN_CANCEL_GRACE),
    ];
    for (key, span, least) in spans {
        if *span < least {
            return Err(Failure::usage(format!(
                "{key} must be at least {}, and is {}",
                HumanDuration(least),
                HumanDuration(*span)
            )));
        }
    }
    let counts = [
        ("max_connections", *max_connections == 0),
        (
            "max_streams_per_connection",
            *max_streams_per_connection == 0,
        ),
    ];
    match counts.into_iter().find(|(_, is_nothing)| *is_nothing) {
        Some((key, _)) => Err(Failure::usage(format!("{key} must be more than 0"))),
        None => Ok(()),
    }
}
