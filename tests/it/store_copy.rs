//! `longhaul store copy` as operators use it: between servers, killed in the middle, interrupted, and refused.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use longhaul::{
    domain::{
        Tenant, Timestamp,
        access::Actor,
        audit::{AuditRecord, Outcome},
        command::{Changes, RecordWrite},
        registry::{DataKeyEntry, Entry, Quotas, Record, TenantEntry},
    },
    proto::v1::{
        AcquireRequest, ListRequest, ReportRequest, Success, TaskReport, job::State,
        task_report::Report,
    },
    store::{Store as _, copy::half_copied, sqlite::SqliteStore},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    time::timeout,
};

use crate::{
    harness::{self, EXIT_WITHIN, Output, Server, longhaul},
    jobs::{job_when, submit, submit_many},
    postgres::Database,
};

/// Jobs that a copy is killed in the middle of; `LONGHAUL_COPY_JOBS` sets another number.
const JOBS: usize = 3_000;
/// Any wait for a process.
const WITHIN: Duration = Duration::from_secs(60);

async fn copy(from: &str, to: &str, more: &[&str]) -> Output {
    let args = ["store", "copy", "--from", from, "--to", to];
    harness::cli(&[&args, more].concat()).await
}

/// Ends a server; its jobs stay for as long as it does.
async fn end(server: &mut Server) -> String {
    server.sigterm();
    assert!(server.exit(EXIT_WITHIN).await.success(), "{}", server.log());
    server.data_dir().display().to_string()
}

#[track_caller]
fn assert_told(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, Some(code), "{output:#?}");
    for words in words {
        assert!(
            output.stderr.contains(words),
            "{words:?} is missing: {output:#?}"
        );
    }
}

/// A file with the password of a database, and its address.
fn way_to(database: &Database, folder: &TempDir) -> (String, String) {
    let password = folder.path().join("password");
    fs::write(&password, database.password()).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&password, closed).unwrap();
    let password = password.display().to_string();
    (password, database.url_without_password())
}

/// To a database, from there into a directory again, and each of them is served: a worker who held a lease all the while finishes its task.
#[tokio::test]
async fn what_was_begun_before_is_finished_on_the_copy() {
    let mut server = Server::start().await;
    let client = server.client().await;
    let job = submit(&client, "build").await;
    for _ in 0..2 {
        submit(&client, "nobody").await;
    }
    let acquire = AcquireRequest {
        worker: "patient".to_owned(),
        drivers: vec!["build".to_owned()],
        max_leases: 1,
        ..AcquireRequest::default()
    };
    let leases = client.workers().acquire(acquire).await.unwrap();
    let lease = leases.into_inner().leases.remove(0);
    let request = ListRequest {
        page_size: 2,
        ..ListRequest::default()
    };
    let page = client.jobs().list(request.clone()).await;
    let next = page.unwrap().into_inner().next_page_token;
    let embedded = end(&mut server).await;

    let database = Database::fresh();
    let folder = TempDir::new().unwrap();
    let (password, url) = way_to(&database, &folder);
    let there = ["--to-password-file", &password];
    let to_database = copy(&embedded, &url, &there).await;
    assert_told(&to_database, 0, &["copying"]);
    let copied = folder.path().join("data");
    let copied = format!("sqlite:{}", copied.display());
    let back = ["--from-password-file", &password];
    let to_directory = copy(&url, &copied, &back).await;
    assert_told(&to_directory, 0, &["copying"]);
    assert_eq!(
        to_database.stdout, to_directory.stdout,
        "the same was copied"
    );

    let mut server = Server::start_on(&folder.path().join("data")).await;
    let client = server.client().await;
    let behind = ListRequest {
        page_token: next,
        ..request
    };
    let page = client.jobs().list(behind).await.unwrap().into_inner();
    let left: Vec<_> = page.jobs.iter().map(|job| &job.id).collect();
    assert_eq!(left, [&job.id]);
    let success = ReportRequest {
        wait: None,
        reports: vec![TaskReport {
            lease_token: lease.lease_token,
            report: Some(Report::Success(Success::default())),
        }],
    };
    let answer = client.workers().report(success.clone()).await;
    assert_eq!(answer.unwrap().into_inner().results[0].error, None);
    let ended = job_when(&client, &job.id, |_| true).await;
    assert_eq!(ended.state(), State::Succeeded);
    end(&mut server).await;

    let node = Server::start_node(&url, database.password(), &[]).await;
    let client = node.client().await;
    let answer = client.workers().report(success).await;
    assert_eq!(answer.unwrap().into_inner().results[0].error, None);
    let ended = job_when(&client, &job.id, |_| true).await;
    assert_eq!(ended.state(), State::Succeeded);
    node.stop().await;
}

/// A closed store with tenants, keys and an audit log, and without jobs.
async fn with_keys(dir: &Path) -> String {
    let store = SqliteStore::open(dir).unwrap();
    let tenant = TenantEntry {
        name: Tenant::new("acme"),
        is_disabled: false,
        quotas: Quotas::default(),
        create_time: Timestamp::from_micros(1),
    };
    let data_key = |number| DataKeyEntry {
        number,
        active_from: Timestamp::from_micros(1),
        wrapped: b"sealed".as_slice().into(),
    };
    let entries = [
        Entry::Tenant(tenant),
        Entry::DataKey(data_key(1)),
        Entry::DataKey(data_key(2)),
    ];
    let record = |entry| RecordWrite {
        record: Record { revision: 1, entry },
        before: 0,
    };
    let changes = Changes {
        records: entries.map(record).into(),
        audit: vec![AuditRecord {
            id: uuid::Uuid::now_v7(),
            time: Timestamp::from_micros(1),
            tenant: Tenant::new("acme"),
            actor: Actor {
                name: "local".into(),
                tenant: Tenant::new("default"),
                address: "127.0.0.1".into(),
                request_id: String::new(),
            },
            action: "CreateTenant".into(),
            target: "acme".into(),
            outcome: Outcome::Done,
            detail: String::new(),
        }],
        ..Changes::default()
    };
    let mut writer = store.writer().unwrap();
    writer.begin().await.unwrap();
    writer.commit(&changes).await.unwrap();
    dir.display().to_string()
}

#[tokio::test]
async fn keys_and_the_audit_log_come_along_and_are_never_mixed() {
    let folder = TempDir::new().unwrap();
    let from = with_keys(&folder.path().join("from")).await;
    let to = folder.path().join("to").display().to_string();
    let dry = copy(&from, &to, &["--dry-run"]).await.ok();
    let known = "1 record of tenants, 0 keys and 2 data keys";
    assert!(
        dry.contains(known) && dry.contains("  the audit log"),
        "{dry}"
    );
    let copied = copy(&from, &to, &[]).await.ok();
    let log = "1 record of the audit log";
    assert!(copied.contains(known) && copied.contains(log), "{copied}");
    let told = copy(&from, &to, &["--output", "json"]).await.ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["records"]["dataKeys"], 2, "{told}");
    assert_eq!(told["auditRecords"], 1, "{told}");

    let theirs = with_keys(&folder.path().join("theirs")).await;
    for more in [&[][..], &["--dry-run"]] {
        let refused = copy(&from, &theirs, more).await;
        assert_told(&refused, 2, &["audit log of its own", "choose another one"]);
    }
    // Without any, nothing is said of them.
    let server = filled(1).await;
    let plain = server.data_dir().display().to_string();
    let plain = copy(
        &plain,
        &folder.path().join("plain").display().to_string(),
        &[],
    )
    .await;
    assert!(!plain.ok().contains("data key"));
}

/// A stopped server with so many jobs.
async fn filled(jobs: usize) -> Server {
    let mut server = Server::start().await;
    let client = server.client().await;
    let mut left = jobs;
    while left > 0 {
        let some = left.min(1_000);
        submit_many(&client, "nobody", some).await;
        left -= some;
    }
    end(&mut server).await;
    server
}

fn start_copy(from: &str, to: &Path) -> Child {
    let mut command = longhaul();
    command
        .args(["store", "copy", "--from", from, "--to"])
        .arg(to)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().unwrap()
}

/// Waits until some jobs are written; answers whether the copy was still at it then.
async fn in_the_middle(copying: &mut Child, to: &Path) -> bool {
    let log = to.join("longhaul.db-wal");
    let written = async {
        loop {
            // What is made at the start is far less than the first jobs are.
            if fs::metadata(&log).is_ok_and(|log| log.len() > 400_000) {
                return true;
            }
            if copying.try_wait().unwrap().is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(WITHIN, written).await.expect("nothing is written")
}

/// A copy that a signal ended before it was finished, and what it said.
async fn broken_off(from: &str, folder: &TempDir, signal: &str) -> (PathBuf, String) {
    // Whoever looks may come too late.
    for attempt in 0..20 {
        let to = folder.path().join(format!("{signal}-{attempt}"));
        let mut copying = start_copy(from, &to);
        let stderr = copying.stderr.take().unwrap();
        if in_the_middle(&mut copying, &to).await {
            let kill = format!("kill -{signal} {}", copying.id().unwrap());
            let status = std::process::Command::new("sh")
                .args(["-c", &kill])
                .status();
            assert!(status.unwrap().success(), "{kill}");
        }
        timeout(WITHIN, copying.wait()).await.unwrap().unwrap();
        let mut lines = BufReader::new(stderr).lines();
        let mut told = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            told += &line;
            told.push('\n');
        }
        let store = SqliteStore::open(&to).unwrap();
        if half_copied(&store).await.unwrap().is_some() {
            return (to, told);
        }
    }
    panic!("no copy was caught in the middle");
}

#[tokio::test]
async fn a_copy_that_was_killed_is_not_served_and_gone_on_with() {
    let jobs = env::var("LONGHAUL_COPY_JOBS").ok();
    let jobs = jobs.map_or(JOBS, |jobs| jobs.parse().unwrap());
    let server = filled(jobs).await;
    let from = server.data_dir().display().to_string();
    let folder = TempDir::new().unwrap();
    for signal in ["KILL", "INT", "TERM"] {
        let (to, told) = broken_off(&from, &folder, signal).await;
        let to = to.display().to_string();
        let again = format!("longhaul store copy --from 'sqlite:{from}' --to 'sqlite:{to}'");
        if signal != "KILL" {
            assert!(
                told.contains(&format!("SIG{signal}")) && told.contains(&again),
                "{told}"
            );
        }
        let listen = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &to];
        let served = harness::cli(&listen).await;
        assert_told(&served, 1, &["not finished", &again]);

        let other = filled(1).await;
        let other = other.data_dir().display().to_string();
        assert_told(&copy(&other, &to, &[]).await, 1, &["not finished", &again]);
        let further = folder.path().join("further").display().to_string();
        assert_told(
            &copy(&to, &further, &[]).await,
            1,
            &["not finished", &again],
        );

        let dry = copy(&from, &to, &["--dry-run"]).await;
        assert!(dry.stdout.contains("go on copying"), "{dry:#?}");
        let copied = copy(&from, &to, &["--output", "json"]).await.ok();
        let copied: Value = serde_json::from_str(&copied).unwrap();
        assert_eq!(copied["resumed"], true, "{copied}");
        assert_eq!(copied["jobs"][0]["count"], jobs, "{copied}");
        let server = Server::start_on(Path::new(&to)).await;
        let counts = server.cli(&["counts"]).await.ok();
        assert!(counts.contains(&jobs.to_string()), "{counts}");
        server.stop().await;
    }
}

#[tokio::test]
async fn what_can_not_be_copied_is_refused_and_nothing_is_made() {
    let mut server = Server::start().await;
    let data = server.data_dir().display().to_string();
    let folder = TempDir::new().unwrap();
    let to = folder.path().join("to").display().to_string();
    let nothing = folder.path().join("nothing").display().to_string();

    let used = copy(&data, &to, &[]).await;
    let pid = server.pid().to_string();
    assert_told(&used, 1, &["in use", &pid, "stop the server"]);
    submit(&server.client().await, "nobody").await;
    end(&mut server).await;

    assert_told(
        &copy(&nothing, &to, &[]).await,
        2,
        &["no store in", "nothing"],
    );
    assert_told(&copy(&data, &data, &[]).await, 2, &["one store"]);
    let unknown = copy("mysql://ada:secret@host/database", &to, &[]).await;
    assert_told(&unknown, 2, &["--from", "postgres://"]);
    assert!(!unknown.stderr.contains("secret"), "{unknown:#?}");
    let idle = copy(&data, &to, &["--to-password-file", "/etc/passwd"]).await;
    assert_told(&idle, 2, &["--to-password-file", "database"]);
    let dry = copy(&data, &to, &["--dry-run", "--output", "json"]).await;
    let dry: Value = serde_json::from_str(&dry.ok()).unwrap();
    assert_eq!(
        (&dry["tenants"], &dry["resumes"]),
        (&1.into(), &false.into())
    );
    for path in [&to, &nothing] {
        assert!(!Path::new(path).exists(), "{path}");
    }

    copy(&data, &to, &[]).await.ok();
    let twice = copy(&data, &to, &[]).await.ok();
    assert!(twice.contains("was copied before"), "{twice}");
    let other = filled(1).await;
    let other = other.data_dir().display().to_string();
    assert_told(&copy(&other, &to, &[]).await, 2, &["holds jobs already"]);
    // The destination was made, by the file, from another one.
    let same = folder.path().join("same");
    fs::create_dir(&same).unwrap();
    fs::copy(
        Path::new(&data).join("longhaul.db"),
        same.join("longhaul.db"),
    )
    .unwrap();
    let same = copy(&data, &same.display().to_string(), &[]).await;
    assert_told(&same, 2, &["are one store"]);
}

#[tokio::test]
async fn a_database_is_only_looked_at_before_it_is_copied_to() {
    let database = Database::fresh();
    let folder = TempDir::new().unwrap();
    let (password, url) = way_to(&database, &folder);
    let relations = || {
        database.sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    };
    // A name that was mistyped.
    let nowhere = folder.path().join("nowhere").display().to_string();
    for more in [&[][..], &["--dry-run"]] {
        let from = [&["--from-password-file", &password], more].concat();
        let told = copy(&url, &nowhere, &from).await;
        assert_told(&told, 1, &["nothing of Longhaul", "its name"]);
        assert_eq!(relations(), "0");
    }

    let there = ["--to-password-file", &password];
    let dry = [&there[..], &["--dry-run"]].concat();
    let server = filled(3).await;
    let from = server.data_dir().display().to_string();
    let told = copy(&from, &url, &dry).await;
    assert!(told.stdout.starts_with("would copy"), "{told:#?}");
    assert_eq!(relations(), "0");
    copy(&from, &url, &there).await.ok();
    let told = copy(&from, &url, &dry).await.ok();
    assert!(told.starts_with("would only verify again"), "{told}");
    let other = filled(1).await;
    let other = other.data_dir().display().to_string();
    let told = copy(&other, &url, &dry).await;
    assert_told(&told, 2, &["holds jobs already"]);
}
