//! `store`: what operators do to a store that nobody serves.

mod place;
mod progress;
mod summary;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use longhaul::store::copy::{self, Copied, CopyError, Copying, Names, Progress};

use self::{
    place::{Place, StoreText},
    progress::Shown,
};
use super::{
    exit::{Exit, Failure},
    logging::{self, LogFormat, LogLevel},
    output::{Format, FormatArgs, Output},
    signals::Signals,
};

/// `longhaul store`
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Copy all jobs into another store, and verify the copy
    Copy(Box<CopyArgs>),
}

/// `longhaul store copy`
#[derive(Debug, Args)]
#[command(after_help = "\
A store is a directory, as DIR or sqlite:DIR, or a PostgreSQL database, as postgres://user@host/database. Stop every server of both first. If the copying is
broken off, the same command goes on with it; until it is finished and verified no server serves the copy.

Examples:
  longhaul store copy --from /var/lib/longhaul --to postgres://longhaul@db.example.com/longhaul
  longhaul store copy --from postgres://longhaul@db.example.com/longhaul --to sqlite:/srv/longhaul")]
pub struct CopyArgs {
    /// What to copy
    #[arg(long, value_name = "STORE")]
    from: StoreText,
    /// Where to: an empty store, or one with a part of this copy; made if it is missing
    #[arg(long, value_name = "STORE")]
    to: StoreText,
    /// File whose first line is the password of the database that is copied
    #[arg(long, value_name = "FILE")]
    from_password_file: Option<PathBuf>,
    /// File whose first line is the password of the database that is copied to
    #[arg(long, value_name = "FILE")]
    to_password_file: Option<PathBuf>,
    /// Copy to a database that may lose in a crash what it has acknowledged (fsync or synchronous_commit off)
    #[arg(long)]
    unsafe_durability: bool,
    /// Only say what would be copied
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// Does what is asked.
pub async fn run(command: StoreCommand, out: &mut Output) -> Result<Exit, Failure> {
    logging::start(&LogLevel::quiet(), LogFormat::Text);
    match command {
        StoreCommand::Copy(args) => copy(*args, out).await,
    }
}

async fn copy(args: CopyArgs, out: &mut Output) -> Result<Exit, Failure> {
    let CopyArgs {
        from,
        to,
        from_password_file,
        to_password_file,
        unsafe_durability,
        dry_run,
        format,
    } = args;
    for (flag, file, text) in [
        ("--from", "--from-password-file", &from),
        ("--to", "--to-password-file", &to),
    ] {
        if text.holds_password() {
            out.note(format_args!(
                "the password in {flag} can be read by everybody on this machine, in the list of processes: use {file} or PGPASSWORD"
            ));
        }
    }
    // Reading loses nothing, whatever the server may lose.
    let from = from.place("--from", from_password_file, true)?;
    let to = to.place("--to", to_password_file, unsafe_durability)?;
    refuse_the_same(&from, &to)?;
    if !from.is_there() {
        return Err(Failure::usage(format!(
            "--from: there is no store in {from}"
        )));
    }
    let names = Names {
        from: from.to_string(),
        to: to.to_string(),
    };
    let mut signals = Signals::new()?;
    let work = async {
        let source = from.open().await?;
        if dry_run && !to.can_be_looked_at() {
            let survey = copy::survey(&*source).await;
            let survey = survey.map_err(|error| failure(error, &names))?;
            return summary::would_copy(&survey, &names, &format, out);
        }
        let copying = Copying::new(source, to.open().await?, names.clone());
        if dry_run {
            let survey = copying.survey().await;
            let survey = survey.map_err(|error| failure(error, &names))?;
            return summary::would_copy(&survey, &names, &format, out);
        }
        let copied = copy_and_show(&copying, &names, out).await?;
        summary::copied(&copied, &names, &format, out)
    };
    tokio::select! {
        done = work => done,
        // Whatever is committed is good, and what is not is not there.
        signal = signals.next() => Err(Failure::new(Exit::Failed, format!("broken off by {signal}; no server serves the copy until it is finished"))
            .hint(format!("go on with the same command: {names}"))),
    }
}

async fn copy_and_show(
    copying: &Copying,
    names: &Names,
    out: &mut Output,
) -> Result<Copied, Failure> {
    out.note(format_args!("copying {} to {}", names.from, names.to));
    let mut shown = Shown::new(out);
    let copied = copying
        .run(&mut |progress: Progress| shown.show(progress))
        .await;
    shown.end();
    copied.map_err(|error| failure(error, names))
}

fn refuse_the_same(from: &Place, to: &Place) -> Result<(), Failure> {
    match from.is_same(to) {
        true => Err(Failure::usage(format!(
            "--from and --to are one store, {from}"
        ))),
        false => Ok(()),
    }
}

/// What went wrong, and what to do about it.
fn failure(error: CopyError, names: &Names) -> Failure {
    let again = format!("then go on with the same command: {names}");
    match &error {
        CopyError::Store { .. } => {
            Failure::local("the copy was not finished", &error).hint(format!("mend that; {again}"))
        }
        CopyError::Full => {
            Failure::local("the copy was not finished", &error).hint(format!("make room; {again}"))
        }
        CopyError::Served { .. } => Failure::local("can't copy", &error),
        CopyError::SameStore | CopyError::NotEmpty => {
            Failure::usage(format!("can't copy: {error}"))
        }
        CopyError::HalfSource(_) | CopyError::OtherCopy(_) => Failure::local("can't copy", &error),
        CopyError::Differs(differences) => {
            let mut details: Vec<String> =
                differences.named.iter().map(ToString::to_string).collect();
            if differences.more > 0 {
                details.push(format!("and {} more", differences.more));
            }
            Failure::new(Exit::Failed, error.to_string())
                .details(details)
                .hint(format!(
                    "the source was changed since the copying began, or the copy was: remove {} and start over; the source is as it was",
                    names.to
                ))
        }
    }
}
