//! Secrets of the job's only task. Never from the command line itself, which everybody on the machine can read in the list of processes.

use std::{collections::HashMap, env, path::Path};

use super::read;
use crate::cli::exit::Failure;

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFrom {
    name: String,
    source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Variable(String),
    /// Or stdin.
    File(String),
}

/// `NAME`, `NAME=env:VARIABLE`, `NAME=@FILE` or `NAME=-`; the server knows which names are allowed.
pub fn secret(text: &str) -> Result<SecretFrom, String> {
    let (name, source) = match text.split_once('=') {
        None => (text, Source::Variable(text.to_owned())),
        Some((name, "-")) => (name, Source::File("-".to_owned())),
        Some((name, source)) => match (source.strip_prefix('@'), source.strip_prefix("env:")) {
            (Some(path), _) if !path.is_empty() => (name, Source::File(path.to_owned())),
            (_, Some(variable)) if !variable.is_empty() => {
                (name, Source::Variable(variable.to_owned()))
            }
            _ => {
                return Err(
                    "a secret is not written on the command line; name its file (db=@FILE, or - for stdin) or its variable (db=env:DB_PASSWORD, or DB_PASSWORD alone)"
                        .into(),
                );
            }
        },
    };
    Ok(SecretFrom {
        name: name.to_owned(),
        source,
    })
}

/// The secrets by name.
pub(super) fn read_all(secrets: &[SecretFrom]) -> Result<HashMap<String, String>, Failure> {
    let mut all = HashMap::with_capacity(secrets.len());
    for SecretFrom { name, source } in secrets {
        let value = match source {
            Source::Variable(variable) => env::var(variable).map_err(|_| {
                Failure::usage(format!(
                    "--secret {name}: there is no variable {variable} with a text"
                ))
            })?,
            Source::File(path) => without_end_of_line(read(Path::new(path))?),
        };
        if all.insert(name.clone(), value).is_some() {
            return Err(Failure::usage(format!(
                "--secret {name} is given more than once"
            )));
        }
    }
    Ok(all)
}

/// What an editor or `echo` puts behind the last line belongs to the file and not to the secret.
fn without_end_of_line(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_a_file_or_a_variable_and_never_from_the_line() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "two\nlines\n").expect("a file");
        let from_file = format!("key=@{}", file.path().display());
        let all: Result<Vec<_>, _> = [from_file.as_str(), "home=env:PATH", "PATH"]
            .map(secret)
            .into_iter()
            .collect();
        let all = read_all(&all.expect("secrets")).expect("secrets");
        assert_eq!(all["key"], "two\nlines");
        assert_eq!((&all["home"], all.len()), (&all["PATH"], 3));
        for text in ["db=hunter2", "db=", "db=@", "db=env:"] {
            let refused = secret(text).expect_err(text);
            assert!(
                !refused.contains("hunter2") && refused.contains("db=@FILE"),
                "{refused}"
            );
        }
        let twice = [secret("PATH"), secret("PATH=env:PATH")].map(|one| one.expect("a secret"));
        let missing = [secret("db=env:LONGHAUL_NO_SUCH").expect("a secret")];
        for (secrets, told) in [
            (&twice[..], "more than once"),
            (&missing[..], "no variable LONGHAUL_NO_SUCH"),
        ] {
            let failure = read_all(secrets).expect_err(told).to_string();
            assert!(failure.contains(told), "{failure}");
        }
    }
}
