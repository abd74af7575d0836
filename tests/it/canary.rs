//! The canary: secrets that can be told from all other texts go every way that there is, on each store, and are then looked for in all that was answered,
//! logged and stored. They must be nowhere but in the leases of their workers.
//!
//! Its control goes the same way with the same texts under names that say nothing: then they are found in all of these places, so a place that is not
//! looked at would be noticed.

mod birds;
mod flight;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tokio::task::spawn_blocking;

use self::{
    birds::{Birds, Sight},
    flight::fly,
};
use crate::{
    harness::{EXIT_WITHIN, Server},
    postgres::Database,
};

/// Whether the texts are secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Secret,
    Open,
}

/// Routes that put what is asked for into a payload, under a name that says that it is secret, and under one that does not.
const ROUTES: &str = r#"
[[route]]
dialect = "nse"
match = "POST /v2.1/secret-things"
schema = "thing.json"
action = "create"
summary = "Make {{ body.name }}"
[[route.task]]
driver = "routed"
request_payload = { name = "{{ body.name }}", admin_password = "{{ body.word }}" }

[[route]]
dialect = "nse"
match = "POST /v2.1/open-things"
schema = "thing.json"
action = "create"
summary = "Make {{ body.name }}"
[[route.task]]
driver = "routed"
request_payload = { name = "{{ body.name }}", word = "{{ body.word }}" }
"#;
const SCHEMA: &str = r#"{"type": "object", "required": ["name", "word"], "additionalProperties": false,
    "properties": {"name": {"type": "string", "maxLength": 20}, "word": {"type": "string"}}}"#;

/// Files that servers are started with.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("routes.toml", ROUTES);
        write("thing.json", SCHEMA);
        write("master.key", &"5a".repeat(32));
        let key = folder.path().join("master.key");
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn flags(&self) -> Vec<String> {
        let routes = ["--routes".to_owned(), self.path("routes.toml")];
        let key = ["--master-key-file".to_owned(), self.path("master.key")];
        let log = ["--log-level".to_owned(), "trace".to_owned()];
        [routes, key, log].concat()
    }
}

/// What a database is made of, and what is beside it.
fn files_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect()
}

/// All of a database as SQL.
fn dumped(database: &Database) -> Vec<u8> {
    let url = database.url();
    let dump = Command::new(crate::postgres::programs::folder().join("pg_dump"))
        .arg(&url)
        .stderr(Stdio::inherit())
        .output();
    let dump = dump.unwrap();
    assert!(dump.status.success());
    assert!(dump.stdout.len() > 1_000);
    dump.stdout
}

async fn on_sqlite(kept: Kept) -> Sight {
    let (files, birds) = (Files::new(), Birds::new());
    let flags = files.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut server = Server::start_with(&flags).await;
    let mut sight = Sight::new(&birds);
    let data_dir = server.data_dir();
    let stored = |sight: &mut Sight| {
        for (file, bytes) in files_of(&data_dir) {
            sight.look("stored", &file, &bytes);
        }
    };
    fly(&mut server, &birds, kept, &mut sight, stored).await;
    sight.look("logged", "log", server.logs().as_bytes());
    server.sigterm();
    assert!(server.exit(EXIT_WITHIN).await.success());
    for (file, bytes) in files_of(&data_dir) {
        sight.look("stored", &file, &bytes);
    }
    sight
}

async fn on_postgres(kept: Kept) -> Sight {
    let (files, birds) = (Files::new(), Birds::new());
    let flags = files.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let database = spawn_blocking(Database::fresh).await.unwrap();
    let (url, password) = (database.url_without_password(), database.password());
    let mut server = Server::start_node(&url, password, &flags).await;
    let mut sight = Sight::new(&birds);
    let stored = |sight: &mut Sight| sight.look("stored", "dump", &dumped(&database));
    fly(&mut server, &birds, kept, &mut sight, stored).await;
    sight.look("logged", "log", server.logs().as_bytes());
    server.stop().await;
    sight.look("stored", "dump", &dumped(&database));
    sight
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_seen_by_their_workers_alone_on_sqlite() {
    on_sqlite(Kept::Secret).await.saw_nothing();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_seen_by_their_workers_alone_on_postgres() {
    on_postgres(Kept::Secret).await.saw_nothing();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_secret_is_seen_everywhere_on_sqlite() {
    on_sqlite(Kept::Open).await.saw_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_secret_is_seen_everywhere_on_postgres() {
    on_postgres(Kept::Open).await.saw_all();
}
