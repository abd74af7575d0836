//! `store`: what operators do to a store that nobody serves.

mod place;
mod progress;
mod summary;

use std::{
    path::{Path, PathBuf, absolute},
    sync::{Mutex, PoisonError},
};

use clap::{Args, Subcommand};
use longhaul::store::{
    copy::{self, Copied, CopyError, Copying, Differences, Names, Progress, Stage},
    postgres::Purpose,
};

use self::{
    place::{Looked, Place, StoreText},
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
    let flags = flags(
        from_password_file.as_deref(),
        to_password_file.as_deref(),
        unsafe_durability,
    )?;
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
        flags,
    };
    let mut signals = Signals::new()?;
    let stage = Mutex::new(None);
    let work = async {
        if dry_run {
            return would_copy(&from, &to, &names, &format, out).await;
        }
        let source = from.open(Purpose::Read).await?;
        // Before a destination is made that would be left empty.
        let surveyed = copy::survey(&source).await;
        surveyed.map_err(|error| failure(error, &names))?;
        let copying = Copying::new(source, to.open(Purpose::Fill).await?, names.clone());
        let copied = copy_and_show(&copying, &names, &stage, out).await?;
        summary::copied(&copied, &names, &format, out)
    };
    let signal = tokio::select! {
        done = work => return done,
        signal = signals.next() => signal,
    };
    let stage = stage.into_inner().unwrap_or_else(PoisonError::into_inner);
    Err(broken_off(signal, stage, dry_run, &names))
}

/// What the command needs beside the two stores, so that it can be typed again, wherever one is then.
fn flags(
    from_password_file: Option<&Path>,
    to_password_file: Option<&Path>,
    unsafe_durability: bool,
) -> Result<Vec<(String, Option<String>)>, Failure> {
    let mut flags = Vec::new();
    for (flag, file) in [
        ("--from-password-file", from_password_file),
        ("--to-password-file", to_password_file),
    ] {
        if let Some(file) = file {
            let file = absolute(file);
            let file = file.map_err(|error| Failure::usage(format!("{flag}: {error}")))?;
            flags.push((flag.to_owned(), Some(file.display().to_string())));
        }
    }
    if unsafe_durability {
        flags.push(("--unsafe-durability".to_owned(), None));
    }
    Ok(flags)
}

/// Whatever is committed is good, and what is not is not there.
fn broken_off(signal: &str, stage: Option<Stage>, dry_run: bool, names: &Names) -> Failure {
    let told = |what: &str| Failure::new(Exit::Failed, format!("broken off by {signal}{what}"));
    match stage {
        None if dry_run => told("; nothing was changed"),
        None => told(" before this run copied a job").hint(format!(
            "what an earlier one copied is still there; the same command goes on from there, or begins: {names}"
        )),
        Some(Stage::Copying | Stage::Verifying) => {
            told("; no server serves the copy until it is finished")
                .hint(format!("go on with the same command: {names}"))
        }
        Some(Stage::Checking) => told("; the copy was finished before, and is as it was"),
    }
}

/// Only looks.
async fn would_copy(
    from: &Place,
    to: &Place,
    names: &Names,
    format: &FormatArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let source = from.open(Purpose::Look).await?;
    let survey = match to.look_at().await? {
        Looked::There(to) => Copying::new(source, to, names.clone()).survey().await,
        Looked::Missing => copy::survey(&source).await,
        Looked::Unseen(why) => {
            out.note(format_args!("{to} was not looked at: {why}"));
            copy::survey(&source).await
        }
    };
    let survey = survey.map_err(|error| failure(error, names))?;
    summary::would_copy(&survey, names, format, out)
}

async fn copy_and_show(
    copying: &Copying,
    names: &Names,
    stage: &Mutex<Option<Stage>>,
    out: &mut Output,
) -> Result<Copied, Failure> {
    out.note(format_args!("copying {} to {}", names.from, names.to));
    let mut shown = Shown::new(out);
    let copied = copying
        .run(&mut |progress: Progress| {
            *stage.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress.stage);
            shown.show(progress);
        })
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
        CopyError::Changed(_) | CopyError::OtherWriter => {
            Failure::local("the copy was not finished", &error).hint(again)
        }
        CopyError::Unverified(_) => Failure::local("can't copy", &error),
        CopyError::Served { .. } => Failure::local("can't copy", &error),
        CopyError::SameStore
        | CopyError::NotEmpty
        | CopyError::OwnKeys
        | CopyError::ChangedSince => {
            Failure::usage(format!("can't copy: {error}"))
        }
        CopyError::HalfSource(_) | CopyError::OtherCopy(_) => Failure::local("can't copy", &error),
        CopyError::Differs(differences) => differ(&error, differences).hint(match differences.extra {
            0 => format!(
                "the source was changed since the copying began, or the copy was: remove {} and start over; the source is as it was",
                names.to
            ),
            _ => format!(
                "{} holds what the source does not: it was removed from the source since, or never was in it; look at it before you remove anything",
                names.to
            ),
        }),
        CopyError::Outdated(differences) => differ(&error, differences)
            .hint("one of them was changed since, and nothing was changed now; for a new copy remove the destination, or drop its database, and start over"),
    }
}

fn differ(error: &CopyError, differences: &Differences) -> Failure {
    let mut details: Vec<String> = differences.named.iter().map(ToString::to_string).collect();
    if differences.more > 0 {
        details.push(format!("and {} more", differences.more));
    }
    Failure::new(Exit::Failed, error.to_string()).details(details)
}

#[cfg(test)]
mod tests {
    use longhaul::{
        domain::{JobId, JobKey, Tenant},
        store::copy::Difference,
    };

    use super::*;

    fn names() -> Names {
        Names {
            from: "sqlite:/here".into(),
            to: "sqlite:/there".into(),
            flags: flags(Some(Path::new("/a/secret")), None, true).expect("flags"),
        }
    }

    fn told(failure: &Failure) -> String {
        anstream::adapter::strip_str(&failure.to_string()).to_string()
    }

    #[test]
    fn the_command_can_be_typed_again() {
        let again = "longhaul store copy --from 'sqlite:/here' --to 'sqlite:/there' --from-password-file '/a/secret' --unsafe-durability";
        assert_eq!(names().to_string(), again);
        let relative = flags(None, Some(Path::new("secret")), false).expect("flags");
        let [(flag, Some(file))] = &relative[..] else {
            panic!("{relative:?}");
        };
        assert_eq!(flag, "--to-password-file");
        assert!(Path::new(file).is_absolute() && file.ends_with("/secret"));
    }

    #[test]
    fn whoever_breaks_a_copy_off_is_told_how_it_goes_on() {
        let told = |stage, dry_run| told(&broken_off("SIGINT", stage, dry_run, &names()));
        let begun = ["no server serves", "longhaul store copy"];
        for (stage, dry_run, said, unsaid) in [
            (Some(Stage::Copying), false, begun, "nothing was changed"),
            (Some(Stage::Verifying), false, begun, "nothing was changed"),
            (
                None,
                false,
                ["before this run", "longhaul store copy"],
                "serves",
            ),
            (
                None,
                true,
                ["nothing was changed", ""],
                "longhaul store copy",
            ),
            (
                Some(Stage::Checking),
                false,
                ["was finished before", ""],
                "longhaul store copy",
            ),
        ] {
            let told = told(stage, dry_run);
            assert!(said.iter().all(|words| told.contains(words)), "{told}");
            assert!(!told.contains(unsaid), "{told}");
        }
    }

    /// They may be all that there is of them.
    #[test]
    fn nobody_is_told_to_remove_jobs_that_are_nowhere_else() {
        let key = JobKey {
            tenant: Tenant::new("acme"),
            job: JobId(uuid::Uuid::nil()),
        };
        for (difference, extra, removes) in [
            (Difference::Missing(key.clone()), 0, true),
            (Difference::Extra(key), 1, false),
        ] {
            let differences = Differences {
                named: vec![difference],
                more: 0,
                extra,
            };
            let told = told(&failure(CopyError::Differs(differences), &names()));
            assert_eq!(
                told.contains("remove sqlite:/there and start over"),
                removes,
                "{told}"
            );
        }
    }
}
