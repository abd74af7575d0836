//! The layers are what ARCHITECTURE.md says: its code map is the rule, and every file under `src/` is held to it.

mod source;

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use source::Source;

/// Lines that a file may have, so that it can be read in a sitting.
const MAX_LINES: usize = 600;
/// The one place on the server's side that asks what time it is.
const CLOCK: &str = "src/engine/clock.rs";
/// Where the runtime's timer is read, for the deadlines of waits, which no decision depends on.
const TIMER: &str = "src/engine.rs";
/// Where time is an argument.
const SERVER_SIDE: [&str; 8] = [
    "domain", "store", "engine", "quota", "auth", "api", "grpc", "server",
];
/// Names that say nothing about what a file owns. `mod.rs` gives a module two places to look in.
const EMPTY_NAMES: [&str; 8] = [
    "common", "helper", "helpers", "manager", "misc", "mod", "util", "utils",
];

/// What the code map grants to each module.
struct Rules {
    layers: Vec<Layer>,
    /// Crates that Cargo.toml names, as they are written in code.
    crates: BTreeSet<String>,
}

/// One row of the code map.
struct Layer {
    module: Vec<String>,
    may_use: Vec<Vec<String>>,
    crates: Crates,
}

/// Crates that a module may use.
enum Crates {
    Only(BTreeSet<String>),
    AllBut(BTreeSet<String>),
}

/// A line that breaks a rule.
struct Violation {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

impl Rules {
    fn read(root: &Path) -> Self {
        let map = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
        let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml"))
            .unwrap()
            .parse()
            .unwrap();
        let crates = manifest["dependencies"].as_table().unwrap().keys();
        Self {
            layers: map.lines().filter_map(Layer::from_row).collect(),
            crates: crates.map(|name| name.replace('-', "_")).collect(),
        }
    }

    /// The row of the innermost module that has one.
    fn layer_of(&self, module: &[String]) -> Option<&Layer> {
        let rows = self.layers.iter().filter(|l| module.starts_with(&l.module));
        rows.max_by_key(|l| l.module.len())
    }

    /// Everything in a file that breaks a rule.
    fn check(&self, file: &str, text: &str) -> Vec<Violation> {
        let source = Source::parse(text);
        let module = module_of(file);
        let mut violations = Vec::new();
        let mut report = |line: usize, rule: String| {
            violations.push(Violation {
                file: file.to_owned(),
                line,
                rule,
            });
        };

        check_form(file, text, &mut report);
        for name in ["todo", "unimplemented"] {
            for line in source.lines_of(&[name, "!"]) {
                report(line, format!("`{name}!`: unfinished business"));
            }
        }
        let has_clock = matches!(file, CLOCK | TIMER);
        if !has_clock && SERVER_SIDE.contains(&module.first().map_or("", String::as_str)) {
            for line in source.lines_of(&["::", "now", "("]) {
                report(
                    line,
                    format!("`now()` is called in {CLOCK} only: time is an argument"),
                );
            }
        }
        if matches!(file, "src/lib.rs" | "src/main.rs") {
            return violations;
        }
        let Some(layer) = self.layer_of(&module) else {
            report(
                1,
                "no row of the code map in ARCHITECTURE.md is about this file".to_owned(),
            );
            return violations;
        };
        if layer.name() == "domain" {
            for line in source.lines_of(&["async"]) {
                report(line, "`domain` is not async".to_owned());
            }
        }
        for path in source.paths() {
            let home: Vec<_> = module.iter().chain(&path.inside).cloned().collect();
            if let Err(rule) = self.check_path(layer, &home, &path.segments) {
                report(path.line, rule);
            }
        }
        violations
    }

    /// Whether a path that stands in the module `home` is granted by its row.
    fn check_path(&self, layer: &Layer, home: &[String], path: &[String]) -> Result<(), String> {
        let Some(target) = resolve(home, path) else {
            let name = &path[0];
            return match &layer.crates {
                Crates::Only(granted) if self.crates.contains(name) && !granted.contains(name) => {
                    Err(format!("`{}` may not use the crate `{name}`", layer.name()))
                }
                Crates::AllBut(denied) if denied.contains(name) => {
                    Err(format!("`{}` may not use the crate `{name}`", layer.name()))
                }
                Crates::Only(_) | Crates::AllBut(_) => Ok(()),
            };
        };
        match self.layer_of(&target) {
            Some(used) if used.module == layer.module || layer.grants(used, &target) => Ok(()),
            Some(used) => Err(format!("`{}` may not use `{}`", layer.name(), used.name())),
            None => Err(format!(
                "`{}` may not use `{}`, which no row of the code map is about",
                layer.name(),
                target.join("::")
            )),
        }
    }
}

impl Layer {
    fn name(&self) -> String {
        self.module.join("::")
    }

    /// Whether its row names the module that a path leads into, or a single item of it that the path leads to.
    fn grants(&self, used: &Layer, target: &[String]) -> bool {
        self.may_use.iter().any(|granted| {
            *granted == used.module
                || granted.len() > used.module.len() && target.starts_with(granted)
        })
    }

    /// Reads a row of the code map: module, what it owns, modules that it may use, crates that it may use.
    fn from_row(row: &str) -> Option<Self> {
        let cells: Vec<_> = row.strip_prefix("| `")?.split('|').collect();
        let [module, _, modules, crates, ""] = cells[..] else {
            return None;
        };
        let module = module.trim_end().strip_suffix('`')?;
        let named = quoted(crates).into_iter().collect();
        Some(Self {
            module: split(module),
            may_use: quoted(modules).iter().map(|m| split(m)).collect(),
            crates: match crates.trim_start() {
                only if only.starts_with("only ") => Crates::Only(named),
                all if all.starts_with("all") => Crates::AllBut(named),
                other => {
                    panic!("the crates of `{module}` begin with neither `only` nor `all`: {other}")
                }
            },
        })
    }
}

/// The words in backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn split(path: &str) -> Vec<String> {
    path.split("::").map(str::to_owned).collect()
}

/// The module that a file holds: `src/engine/hub.rs` is `engine::hub`.
fn module_of(file: &str) -> Vec<String> {
    let inner = file.strip_prefix("src/").unwrap_or(file);
    let inner = inner.strip_suffix(".rs").unwrap_or(inner);
    if matches!(inner, "lib" | "main") {
        return Vec::new();
    }
    inner.split('/').map(str::to_owned).collect()
}

/// The place in our own crate that a path leads to, from the module `home`; `None` if it leads to another crate, or to a name in scope.
fn resolve(home: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut base = match path.first().map(String::as_str) {
        Some("crate" | "longhaul") => Vec::new(),
        Some("self") => home.to_vec(),
        Some("super") => {
            let ups = path.iter().take_while(|s| *s == "super").count();
            let mut base = home.to_vec();
            base.truncate(home.len().saturating_sub(ups));
            base.extend(path[ups..].iter().cloned());
            return Some(base);
        }
        _ => return None,
    };
    base.extend(path[1..].iter().cloned());
    Some(base)
}

/// Rules about the file itself.
fn check_form(file: &str, text: &str, report: &mut impl FnMut(usize, String)) {
    let lines = text.lines().count();
    if lines > MAX_LINES {
        report(
            lines,
            format!("{lines} lines: at most {MAX_LINES} can be read in a sitting"),
        );
    }
    let name = file
        .rsplit('/')
        .next()
        .unwrap_or(file)
        .trim_end_matches(".rs");
    if EMPTY_NAMES.contains(&name) {
        report(1, format!("`{name}` does not say what the file owns"));
    }
    if !text.starts_with("//!") {
        report(
            1,
            "a file opens with `//!`: what it owns, what it must not know".to_owned(),
        );
    }
}

/// Every Rust file below a folder, with its path from the root.
fn rust_files(root: &Path, folder: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn assert_none(violations: &[Violation]) {
    let list: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(
        list.is_empty(),
        "{} violations:\n{}",
        list.len(),
        list.join("\n")
    );
}

#[test]
fn every_file_keeps_to_its_layer() {
    let rules = Rules::read(&root());
    let files = rust_files(&root(), "src");
    // Files of modules that exist for tests only.
    let test_files: BTreeSet<_> = files
        .iter()
        .flat_map(|(file, text)| {
            let folder = match file.strip_suffix(".rs").unwrap() {
                "src/lib" | "src/main" => "src",
                module => module,
            };
            let modules = Source::parse(text).test_modules;
            modules
                .into_iter()
                .map(move |name| format!("{folder}/{name}.rs"))
                .collect::<Vec<_>>()
        })
        .collect();
    let violations: Vec<_> = files
        .iter()
        .filter(|(file, _)| !test_files.contains(file))
        .flat_map(|(file, text)| rules.check(file, text))
        .collect();
    assert_none(&violations);
}

#[test]
fn tests_and_benches_can_be_read_in_a_sitting() {
    let mut violations = Vec::new();
    for folder in ["tests", "benches", "examples"] {
        for (file, text) in rust_files(&root(), folder) {
            check_form(&file, &text, &mut |line, rule| {
                violations.push(Violation {
                    file: file.clone(),
                    line,
                    rule,
                });
            });
        }
    }
    assert_none(&violations);
}

#[test]
fn the_code_map_names_only_what_exists() {
    for layer in Rules::read(&root()).layers {
        let file = root()
            .join("src")
            .join(layer.module.join("/"))
            .with_extension("rs");
        assert!(
            file.exists(),
            "the code map names `{}`, but there is no {}",
            layer.name(),
            file.display()
        );
    }
}

/// The rules can fail: each of these breaks one, and is caught on its line.
#[test]
fn each_rule_catches_what_breaks_it() {
    let rules = Rules::read(&root());
    let cases = [
        (
            "src/domain/job.rs",
            "use crate::store::Row;",
            "`domain` may not use `store`",
        ),
        (
            "src/domain/job.rs",
            "use tokio::time::Instant;",
            "`domain` may not use the crate `tokio`",
        ),
        (
            "src/domain/job.rs",
            "use crate::proto::{v1::Job};",
            "`domain` may not use `proto`",
        ),
        (
            "src/domain/job.rs",
            "async fn f() {}",
            "`domain` is not async",
        ),
        (
            "src/domain/job.rs",
            "fn f() { super::super::engine::run() }",
            "`domain` may not use `engine`",
        ),
        (
            "src/store/rows.rs",
            "use rusqlite::Row;",
            "`store` may not use the crate `rusqlite`",
        ),
        (
            "src/store/sqlite/writer.rs",
            "use crate::engine::Clock;",
            "`store::sqlite` may not use `engine`",
        ),
        (
            "src/engine/hub.rs",
            "fn f() -> tonic::Status {}",
            "`engine` may not use the crate `tonic`",
        ),
        (
            "src/engine/hub.rs",
            "fn f() { let x = prost::Message::encode(); }",
            "`engine` may not use the crate `prost`",
        ),
        (
            "src/engine/hub.rs",
            "use crate::store::sqlite::Sqlite;",
            "`engine` may not use `store::sqlite`",
        ),
        (
            "src/engine/hub.rs",
            "fn f() { std::time::Instant::now(); }",
            "`now()` is called in src/engine/clock.rs only",
        ),
        (
            "src/api/job.rs",
            "use crate::store::Store;",
            "`api` may not use `store`",
        ),
        (
            "src/api/job.rs",
            "use crate::store::{StoreError, rows::JobRow};",
            "`api` may not use `store`",
        ),
        (
            "src/grpc/job.rs",
            "use {axum::Router};",
            "`grpc` may not use the crate `axum`",
        ),
        (
            "src/client.rs",
            "use crate::engine::Engine;",
            "`client` may not use `engine`",
        ),
        (
            "src/worker.rs",
            "use crate::domain::Job;",
            "`worker` may not use `domain`",
        ),
        ("src/grpc/job.rs", "fn f() { todo!() }", "`todo!`"),
        (
            "src/grpc/utils.rs",
            "fn f() {}",
            "`utils` does not say what the file owns",
        ),
        (
            "src/grpc/mod.rs",
            "fn f() {}",
            "`mod` does not say what the file owns",
        ),
        ("src/drawer.rs", "fn f() {}", "no row of the code map"),
        (
            "src/grpc/job.rs",
            "use crate::drawer::f;",
            "which no row of the code map is about",
        ),
    ];
    for (file, line, rule) in cases {
        let found = rules.check(file, &format!("//! A file.\n\n{line}\n"));
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{file}: {line}: {found:?}");
        assert!(found[0].contains(rule), "{file}: {line}: {found:?}");
    }
    assert_eq!(
        rules.check("src/grpc/job.rs", "fn f() {}\n").len(),
        1,
        "no module documentation"
    );
    let long = "//! A file.\n".repeat(MAX_LINES + 1);
    assert_eq!(
        rules.check("src/grpc/job.rs", &long).len(),
        1,
        "a long file"
    );
}

#[test]
fn what_the_code_map_grants_is_not_reported() {
    let rules = Rules::read(&root());
    let text = "//! A file.\nuse crate::{domain::Job, store::{self, Store}};\nuse tokio::sync;\n\
                use super::hub;\nfn f(clock: &Clock) { clock.now(); sync::x(); std::mem::take(x) }\n\
                #[cfg(test)] mod tests { use tonic::Status; fn f() { Instant::now(); } }\n";
    assert_none(&rules.check("src/engine/hub.rs", text));
    let item = "//! A file.\nuse crate::store::StoreError;\n";
    assert_none(&rules.check("src/api/fault.rs", item));
}
