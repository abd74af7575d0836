//! What the documents tell a reader to type works: every shell block runs against a real server, in order, as if typed into one terminal.
//!
//! The info string of a block says how. `sh test` is run, and must succeed. `sh test background`, a single command, is run beside the blocks that
//! follow, as in another terminal. A plain `sh` block is not run here, and must be listed in [`NOT_RUN`].

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    harness::{self, Server},
    postgres::Database,
};

/// First lines of blocks that are not run here, and why.
const NOT_RUN: [(&str, &str); 5] = [
    ("cargo run --release -- quickstart", "has a test of its own"),
    ("make test", "is what runs this test"),
    ("longhaul serve", "never ends; the harness runs it"),
    ("cargo run --example", "has a test of its own"),
    (
        "psql --dbname longhaul --command \"DELETE FROM meta WHERE key = 'home'\"",
        "conformance/shared.rs does it to a database of its own",
    ),
];

/// Where a reader's server listens; a test's own one takes its place.
const DEFAULT_ADDRESS: &str = "127.0.0.1:7070";

/// Where documents keep a server's jobs. What is there in a test was left by a server that has ended.
const DATA_DIR: &str = "/var/lib/longhaul";
/// Another place for them.
const OTHER_DIR: &str = "/srv/longhaul";
/// A database, and the file with its password.
const DATABASE: &str = "postgres://longhaul@db.example.com/longhaul";
const PASSWORD_FILE: &str = "/etc/longhaul/password";
/// Where other files are that documents make.
const FILES: &str = "/etc/longhaul/";
/// Ports of servers that documents start.
const PORTS: [&str; 3] = ["7443", "7444", "7445"];

/// A fenced block of a document.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    info: String,
    text: String,
    line: usize,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in document.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(info) => {
                open = true;
                blocks.push(Block {
                    info: info.trim().to_owned(),
                    text: String::new(),
                    line: number + 1,
                });
            }
            None if open => {
                let block = blocks.last_mut().expect("a block was opened");
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    blocks
}

/// One script of all blocks that are to be run; empty if there are none.
fn script(name: &str, document: &str) -> Result<String, String> {
    let mut script = String::new();
    for Block { info, text, line } in blocks(document) {
        let words: Vec<_> = info.split_whitespace().collect();
        match words[..] {
            ["sh", "test"] => {
                script.push_str(&format!(
                    "echo '--- {name}:{line}' >&2\nset -x\n{text}{{ set +x; }} 2>&-\n"
                ));
            }
            ["sh", "test", "background"] => {
                script.push_str(&format!(
                    "{{ exec {text}}} >&2 &\ntrap 'kill $(jobs -p)' EXIT\n"
                ));
            }
            ["sh" | "shell" | "bash" | "console", ..]
                if !NOT_RUN.iter().any(|(start, _)| text.starts_with(start)) =>
            {
                return Err(format!(
                    "{name}:{line}: this block is neither run nor listed in NOT_RUN:\n{text}"
                ));
            }
            _ => {}
        }
    }
    Ok(script)
}

/// The documents of the project, by their path.
fn documents() -> impl Iterator<Item = (String, String)> {
    let mut names = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
        .map(str::to_owned)
        .to_vec();
    let mut folders = vec!["docs".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(name),
                false if name.ends_with(".md") => names.push(name),
                false => {}
            }
        }
    }
    names.into_iter().map(|name| {
        let text = fs::read_to_string(root().join(&name)).unwrap();
        (name, text)
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn what_the_documents_tell_to_type_works() {
    for (name, document) in documents() {
        let script = script(&name, &document).unwrap();
        if script.is_empty() {
            continue;
        }
        let routes = root().join("examples/routes");
        let server = Server::start_with(&["--routes", routes.to_str().unwrap()]).await;
        let home = TempDir::new().unwrap();
        let (script, _database) = on_this_machine(&script, &server, &home).await;
        let mut shell = Command::new("bash");
        shell
            .args(["-euo", "pipefail", "-c"])
            .arg(script)
            .current_dir(root())
            .env("PATH", harness::path_with_tools())
            .env("HOME", home.path())
            .env("TMPDIR", home.path())
            .env("LONGHAUL_ENDPOINT", server.endpoint());
        let output = harness::output(shell).await;
        assert_eq!(
            output.code,
            Some(0),
            "{name}\n{}\n{}",
            output.stdout,
            output.stderr
        );
        server.stop().await;
    }
}

/// The script with places of this test instead of those that documents name, and the database among them, if there is one.
async fn on_this_machine(
    script: &str,
    server: &Server,
    home: &TempDir,
) -> (String, Option<Database>) {
    let script = script.replace(DEFAULT_ADDRESS, &server.address());
    let script = PORTS.iter().fold(script, |script, port| {
        script.replace(port, &harness::free_port().to_string())
    });
    let files = format!("{}/", home.path().display());
    if !script.contains(DATA_DIR) {
        return (script.replace(FILES, &files), None);
    }
    let left = home.path().join("left");
    let mut former = Server::start_on(&left).await;
    let submit = ["submit", "--driver", "nobody"];
    former.cli(&submit).await.ok();
    former.sigterm();
    assert!(former.exit(harness::EXIT_WITHIN).await.success());
    let database = Database::fresh();
    let password = home.path().join("password");
    fs::write(&password, database.password()).unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let here = |path: &Path| path.display().to_string();
    let places = [
        (DATA_DIR, here(&left)),
        (OTHER_DIR, here(&home.path().join("other"))),
        (DATABASE, database.url_without_password()),
        (PASSWORD_FILE, here(&password)),
    ];
    let places = places.iter();
    let script = places.fold(script, |script, (place, here)| script.replace(place, here));
    (script.replace(FILES, &files), Some(database))
}

#[test]
fn rust_in_the_documents_is_part_of_an_example() {
    let unindented = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let examples = fs::read_dir(root().join("examples")).unwrap();
    let examples: Vec<_> = examples
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok())
        .map(|text| unindented(&text))
        .collect();
    for (name, text) in documents() {
        for block in blocks(&text).iter().filter(|block| block.info == "rust") {
            let found = examples
                .iter()
                .any(|e| e.contains(&unindented(&block.text)));
            assert!(found, "{name}:{}: no example has this", block.line);
        }
    }
}

/// The table of reasons in the code: the macro call that makes it, row by row.
#[test]
fn the_table_of_errors_is_that_of_the_code() {
    let code = fs::read_to_string(root().join("src/api/fault.rs")).unwrap();
    let table = code.split("\nreasons! {\n").nth(1).unwrap();
    let table = table.split("\n}").next().unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut checked = 0;
    for row in table.lines() {
        let (_, row) = row.trim_end_matches(';').split_once(" = ").unwrap();
        let mut cells = row.split(", ");
        let reason = cells.next().unwrap().trim_matches('"');
        let code = snake(cells.next().unwrap());
        let http = cells.next().unwrap();
        let begins = format!("| {code} | {http} |");
        let named = format!("`{reason}`");
        let told = readme
            .lines()
            .any(|line| line.starts_with(&begins) && line.contains(&named));
        assert!(told, "README.md has no row {begins} with {named}");
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}

/// `NotFound` as `NOT_FOUND`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (i, c) in name.chars().enumerate() {
        if i > 0 && c.is_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_uppercase());
    }
    snake
}

#[tokio::test]
async fn the_table_of_settings_is_what_the_server_knows() {
    let printed = harness::cli(&["serve", "--print-config"]).await.ok();
    let document = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let mut rows: Vec<_> = document
        .lines()
        .filter(|line| line.starts_with("| `--"))
        .collect();
    for line in printed.lines() {
        let (key, rest) = line.split_once(" = ").unwrap();
        let (value, _) = rest.split_once("  # ").unwrap();
        let key = key.trim();
        let value = value.trim().trim_matches('"');
        let cells = format!("| `{key}` | `{value}` |");
        let Some(row) = rows.iter().position(|row| row.contains(&cells)) else {
            panic!("docs/operations.md has no row with {cells}");
        };
        let flag = format!("| `--{}` |", key.replace('_', "-"));
        assert!(rows.remove(row).starts_with(&flag), "{flag}");
    }
    assert_eq!(rows, [""; 0], "settings that the server does not know");
}

#[test]
fn links_between_documents_lead_somewhere() {
    for (name, text) in documents() {
        let folder = root().join(&name);
        let folder = folder.parent().unwrap();
        let targets = text.split("](").skip(1);
        for target in targets.filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            let elsewhere = path.is_empty() || path.contains("://");
            assert!(
                elsewhere || folder.join(path).exists(),
                "{name} links to {target}, which is not there"
            );
        }
    }
}

#[test]
fn a_block_that_nobody_runs_is_found() {
    assert!(script("x", "```sh\nrm -rf /\n```\n").is_err());
    assert!(script("x", "```sh\nmake test\n```\n").is_ok());
    assert!(script("x", "```json\n{}\n```\n").is_ok());
}

#[test]
fn blocks_are_read_with_their_lines() {
    let found = blocks("text\n```sh test\na\nb\n```\n```\nc\n```\n");
    let block = |info: &str, text: &str, line| Block {
        info: info.to_owned(),
        text: text.to_owned(),
        line,
    };
    assert_eq!(found, [block("sh test", "a\nb\n", 2), block("", "c\n", 6)]);
}
