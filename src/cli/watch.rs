//! `watch`: follows a job to its end, live on a terminal, as lines in a pipe, or as NDJSON.

mod layout;
mod live;
mod plain;

use clap::Args;
use longhaul::{
    client::{WatchOptions, WatchUpdate},
    proto::{
        json,
        v1::{Job, WatchJobResponse, watch_job_response::Kind},
    },
};

use self::{live::Live, plain::Changes};
use super::{
    connect::{ConnectArgs, Server},
    exit::{Exit, Failure},
    logging::LogLevel,
    output::{Format, Output},
    text::{BAD, FAINT, ODD, one_line, paint},
    time::HumanDuration,
};

/// `longhaul watch`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 succeeded, 1 failed, 2 wrong input, 3 cancelled, 4 can't connect."
)]
pub struct WatchArgs {
    /// Id of the job
    job: String,
    /// Go on after this revision, which was seen before
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    after: u64,
    /// The least time between two changes of progress [default: 250ms]
    #[arg(long, value_name = "TIME", env = "LONGHAUL_MIN_INTERVAL")]
    min_interval: Option<HumanDuration>,
    /// End when the server could not be reached for so long, from the start on [default: it must be there at the start; later keep trying]
    #[arg(long, value_name = "TIME", env = "LONGHAUL_GIVE_UP_AFTER")]
    give_up_after: Option<HumanDuration>,
    /// How to print it; json is one object per line
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

/// Watches a job and exits by its outcome.
pub async fn run(args: WatchArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = match args.give_up_after {
        Some(_) => args.connect.connect_lazily(LogLevel::quiet())?,
        // Whoever mistyped the address should hear of it at once.
        None => args.connect.connect().await?,
    };
    let options = WatchOptions {
        after_revision: args.after,
        min_interval: args.min_interval.map(|interval| interval.0),
        give_up_after: args.give_up_after.map(|limit| limit.0),
        ..Default::default()
    };
    follow(&server, &args.job, options, args.output, out).await
}

/// Follows a job to its end and shows it as it goes.
///
/// # Errors
/// The job does not exist, or the server was gone for longer than the options allow.
pub async fn follow(
    server: &Server,
    job_id: &str,
    options: WatchOptions,
    format: Format,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let mut watch = server.client.watch(job_id, options);
    let mut view = View::new(format, out);
    let mut lost = false;
    while let Some(update) = watch.next().await {
        match update {
            Ok(update) => {
                if let Some(note) = note(&update, &mut lost) {
                    view.note(note, out);
                }
                view.show(&update, out)?;
                if let WatchUpdate::Snapshot {
                    job,
                    is_final: true,
                    ..
                } = update
                {
                    view.end(Some(&job), out);
                    return Ok(Exit::of(job.state()));
                }
            }
            Err(error) => {
                view.end(None, out);
                return Err(server.failure(error));
            }
        }
    }
    Err(Failure::new(
        Exit::Failed,
        format!("the watch of job {job_id} ended before the job did"),
    ))
}

/// The way a watch is shown.
enum View {
    Live(Live),
    Plain(Changes),
    Json,
}

impl View {
    fn new(format: Format, out: &Output) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Text => out
                .is_terminal()
                .then(|| Live::new(out.has_colours()))
                .flatten()
                .map_or_else(|| Self::Plain(Changes::default()), Self::Live),
        }
    }

    fn show(&mut self, update: &WatchUpdate, out: &mut Output) -> Result<(), Failure> {
        match (self, update) {
            (Self::Json, update) => match message(update) {
                Some(message) => out.line(json::compact(&message)?),
                None => Ok(()),
            },
            (Self::Live(live), WatchUpdate::Snapshot { job, .. }) => {
                live.show(job);
                Ok(())
            }
            (
                Self::Plain(changes),
                WatchUpdate::Snapshot {
                    job,
                    coalesced,
                    reset,
                    ..
                },
            ) => {
                if *reset {
                    *changes = Changes::default();
                }
                out.lines(changes.lines(job, *coalesced))
            }
            (
                Self::Live(_) | Self::Plain(_),
                WatchUpdate::Synced { .. }
                | WatchUpdate::Heartbeat { .. }
                | WatchUpdate::Disconnected { .. },
            ) => Ok(()),
        }
    }

    fn note(&self, note: String, out: &mut Output) {
        match self {
            Self::Live(live) => live.note(note),
            Self::Plain(_) | Self::Json => out.note(note),
        }
    }

    fn end(self, job: Option<&Job>, out: &mut Output) {
        if let Self::Live(live) = self {
            live.end();
            if let Some(error) = job.and_then(|job| job.error.as_ref()) {
                out.note(paint(BAD, one_line(&error.message)));
            }
        }
    }
}

/// What a person should know besides the job itself. An outage is told of once, at its beginning and at its end.
fn note(update: &WatchUpdate, lost: &mut bool) -> Option<String> {
    match update {
        WatchUpdate::Disconnected { error, .. } => {
            let known = std::mem::replace(lost, true);
            (!known).then(|| {
                let why = one_line(&error.to_string()).into_owned();
                paint(
                    ODD,
                    format_args!("lost the server: {why}; trying until it is back"),
                )
            })
        }
        WatchUpdate::Snapshot { reset: true, .. } => {
            *lost = false;
            Some(paint(
                ODD,
                "the server was restored from a backup; what it says now replaces what it said before",
            ))
        }
        WatchUpdate::Snapshot { .. }
        | WatchUpdate::Heartbeat { .. }
        | WatchUpdate::Synced { .. } => {
            std::mem::take(lost).then(|| paint(FAINT, "the server is back"))
        }
    }
}

/// The update as the message that it came as.
fn message(update: &WatchUpdate) -> Option<WatchJobResponse> {
    let (kind, revision) = match update {
        WatchUpdate::Snapshot { revision, .. } => (Kind::Snapshot, *revision),
        WatchUpdate::Synced { revision } => (Kind::Synced, *revision),
        WatchUpdate::Heartbeat { revision } => (Kind::Heartbeat, *revision),
        WatchUpdate::Disconnected { .. } => return None,
    };
    let mut message = WatchJobResponse {
        kind: kind.into(),
        from_revision: revision,
        revision,
        ..Default::default()
    };
    if let WatchUpdate::Snapshot {
        job,
        from_revision,
        revision: _,
        coalesced,
        is_final,
        reset,
    } = update
    {
        message.job = Some(Job::clone(job));
        message.from_revision = *from_revision;
        message.coalesced = *coalesced;
        message.r#final = *is_final;
        message.reset = *reset;
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use longhaul::client::ClientError;

    use super::*;

    #[test]
    fn an_outage_is_told_of_at_its_beginning_and_at_its_end() {
        let gone = || WatchUpdate::Disconnected {
            error: ClientError::EndedEarly,
            retry_in: Duration::from_secs(1),
        };
        let alive = WatchUpdate::Heartbeat { revision: 3 };
        let mut lost = false;
        let told: Vec<_> = [&alive, &gone(), &gone(), &alive, &alive, &gone()]
            .map(|update| note(update, &mut lost).is_some())
            .into();
        assert_eq!(told, [false, true, false, true, false, true]);
    }

    #[test]
    fn an_update_is_the_message_that_it_came_as() {
        let update = WatchUpdate::Snapshot {
            job: Box::new(Job {
                id: "j".into(),
                ..Default::default()
            }),
            from_revision: 4,
            revision: 9,
            coalesced: 4,
            is_final: true,
            reset: false,
        };
        let message = message(&update).expect("a message");
        assert_eq!(
            json::compact(&message).expect("JSON"),
            r#"{"job":{"id":"j"},"kind":"KIND_SNAPSHOT","fromRevision":"4","revision":"9","coalesced":"4","final":true}"#
        );
    }
}
