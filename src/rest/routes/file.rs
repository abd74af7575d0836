//! Route files on disk: which there are, in which order, and how large.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

use super::{
    Route,
    definition::{self, Schemas},
    fault::Mistakes,
    schema::read as read_text,
    section::{Section, Source},
};

/// Routes of a server: each request is compared with each of them.
const MAX_ROUTES: usize = 1_000;
/// Bytes of a file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Files of a folder: one for each route at most.
const MAX_FILES: usize = MAX_ROUTES;

/// Reads all routes below a path; what is wrong is reported.
pub(super) fn read(path: &Path, mistakes: &mut Mistakes) -> Vec<Route> {
    let files = match path.is_dir() {
        true => files(path, mistakes),
        false => vec![path.to_owned()],
    };
    let mut schemas = Schemas::default();
    let mut routes = Vec::new();
    for file in &files {
        match read_text(file, MAX_FILE_BYTES) {
            Ok(text) => {
                let mut source = Source::new(file, &text, mistakes);
                parse(&text, &mut source, &mut schemas, &mut routes);
            }
            Err(what) => mistakes.add(file, None, format!("the file {what}")),
        }
        if routes.len() > MAX_ROUTES {
            let what = format!("there are more than {MAX_ROUTES} routes; leave some out");
            mistakes.add(file, None, what);
            break;
        }
    }
    routes
}

/// The route files of a folder. Names that begin with a dot are what editors leave behind.
fn files(folder: &Path, mistakes: &mut Mistakes) -> Vec<PathBuf> {
    let mut bad = |what: String| mistakes.add(folder, None, what);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            bad(format!("the folder can not be read: {error}"));
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => {
                bad(format!("the folder can not be read: {error}"));
                return Vec::new();
            }
        };
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|e| e == "toml") && !is_hidden {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            bad(format!("the folder has more than {MAX_FILES} route files"));
            return Vec::new();
        }
    }
    if files.is_empty() {
        bad("the folder has no route file, NAME.toml".to_owned());
    }
    files.sort();
    files
}

fn parse(text: &str, source: &mut Source<'_>, schemas: &mut Schemas, routes: &mut Vec<Route>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What was recovered may be anything: reading on would report mistakes that nobody made.
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            source.bad(at, error.message().trim().replace('\n', ": "));
        }
        return;
    }
    let section = Section::new(table.get_ref(), 0, "a route file", &["route"], source);
    for (table, at) in section
        .tables("route", source)
        .into_iter()
        .take(MAX_ROUTES + 1)
    {
        routes.extend(definition::read(table, at, schemas, source));
    }
}
