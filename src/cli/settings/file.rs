//! The TOML file: reads one layer of settings, and says what is wrong with it by file, line and key.

use std::{fs, path::Path};

use clap::Args as _;
use toml::de::DeTable;

use super::ServeLayer;
use crate::cli::exit::Failure;

/// More wrong letters than this, and a known key is not what was meant.
const MOST_TYPOS: usize = 4;

/// Reads the file.
///
/// # Errors
/// The file can not be read, is not TOML, or holds an unknown key or a wrong value.
pub fn read(path: &Path) -> Result<ServeLayer, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!(
            "can't read settings from {}: {error}",
            path.display()
        ))
        .hint("name the file with --config FILE or LONGHAUL_CONFIG, or leave both out")
    })?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<ServeLayer, Failure> {
    let at = |error: &toml::de::Error| {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        Failure::usage(format!(
            "{}, line {line}: {}",
            path.display(),
            error.message().trim()
        ))
    };
    let table = DeTable::parse(text).map_err(|error| at(&error))?;
    let known = known_keys();
    for key in table.get_ref().keys() {
        let name = key.get_ref().as_ref();
        if !known.iter().any(|known| known == name) {
            let line = line_of(text, key.span().start);
            let meant = nearest(name, &known)
                .map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
            return Err(Failure::usage(format!(
                "{}, line {line}: there is no setting '{name}'{meant}",
                path.display()
            ))
            .hint(format!("the settings are {}", known.join(", "))));
        }
    }
    toml::from_str(text).map_err(|error| at(&error))
}

/// The names of the settings: those of the flags.
fn known_keys() -> Vec<String> {
    ServeLayer::augment_args(clap::Command::new("serve"))
        .get_arguments()
        .map(|arg| arg.get_id().to_string())
        .collect()
}

/// The line of a byte, counted from 1.
fn line_of(text: &str, byte: usize) -> usize {
    1 + text
        .bytes()
        .take(byte)
        .filter(|byte| *byte == b'\n')
        .count()
}

/// The known key that takes the fewest changes, if it takes few.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    known
        .iter()
        .map(|known| (distance(name, known), known.as_str()))
        .filter(|(distance, known)| *distance <= MOST_TYPOS.min(known.len() / 2))
        .min()
        .map(|(_, known)| known)
}

/// How many letters must be put in, taken out or replaced to make one word of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, theirs) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *theirs);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn refusal(text: &str) -> String {
        let failure = parse(text, Path::new("longhaul.toml")).expect_err("a refusal");
        assert_eq!(failure.exit(), Exit::Usage);
        anstream::adapter::strip_str(&failure.to_string()).to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_its_neighbour() {
        let told = refusal("data_dir = \"/tmp\"\n\nlisen = \"127.0.0.1:1\"\n");
        assert!(
            told.starts_with("error: longhaul.toml, line 3: there is no setting 'lisen'; did you mean 'listen'?\nhint: the settings are listen, data_dir,"),
            "{told}"
        );
        assert!(refusal("data-dir = \"/tmp\"").contains("did you mean 'data_dir'?"));
        assert!(refusal("[colours]\nx = 1").contains("line 1: there is no setting 'colours'\n"));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        let told = refusal("insecure = false\nretention = \"soon\"");
        assert!(
            told.contains("longhaul.toml, line 2: 'soon' is not a duration"),
            "{told}"
        );
        assert!(refusal("max_lost_leases = -1").contains("line 1"));
        assert!(refusal("listen = ").contains("line 1"));
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
