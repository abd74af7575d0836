//! The story of somebody who lets others use a server.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::timeout,
};

use super::{assert_refused, by, make_key, secret};
use crate::{
    harness::{EXIT_WITHIN, Server, longhaul, output},
    rest::web::post,
};

/// How long a server may take to say something.
const PATIENCE: Duration = Duration::from_secs(60);

fn read(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The id of a key.
fn id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

#[tokio::test]
async fn an_operator_lets_others_submit_work_and_audit() {
    let (server, first) = Server::start_guarded(&[]).await;
    assert!(!server.log().contains(secret(&first)), "{}", server.log());
    assert_refused(
        &server.cli(&["list"]).await,
        1,
        &["CREDENTIAL_REQUIRED", "LONGHAUL_API_KEY", "--api-key-file"],
    );
    let me = by(&first, &server, &["whoami"]).await.ok();
    assert!(me.contains("submit,read,work,cancel,admin,audit"), "{me}");
    assert!(me.contains("all tenants"), "{me}");

    let made = ["tenant", "create", "acme", "--quota-open-jobs", "100"];
    let made = by(&first, &server, &made).await.ok();
    assert!(made.contains("acme") && made.contains("ENABLED"), "{made}");
    let submitter = ["--tenant", "acme", "--role", "submit,read,cancel", "nina"];
    let submitter = make_key(&first, &server, &submitter).await;
    let worker = [
        "--tenant",
        "acme",
        "--role",
        "work",
        "--driver",
        "d",
        "--expires",
        "90d",
    ];
    let worker = make_key(&first, &server, &worker).await;
    let auditor = ["--tenant", "acme", "--role", "audit"];
    let auditor = make_key(&first, &server, &auditor).await;
    let stranger = ["--role", "submit", "--role", "read"];
    let stranger = make_key(&first, &server, &stranger).await;

    let mut working = server.worker("d", &["--api-key", &worker], &["true"]);
    let submit = ["submit", "--driver", "d", "--wait"];
    let told = by(&submitter, &server, &submit).await.ok();
    assert!(told.contains("SUCCEEDED"), "{told}");
    let job = by(&submitter, &server, &["submit", "--driver", "d"]).await;
    let job = job.ok().trim().to_owned();
    let watched = by(&submitter, &server, &["watch", &job]).await.ok();
    assert!(watched.contains("SUCCEEDED"), "{watched}");

    // Nobody does what is not theirs, and what is another tenant's is not there.
    for (key, command, role) in [
        (&worker, &["submit", "--driver", "d"][..], "submit"),
        (&auditor, &["get", &job], "read"),
        (&stranger, &["cancel", &job], "cancel"),
        (&submitter, &["key", "list"], "admin"),
        (&submitter, &["audit", "list"], "audit"),
        (&auditor, &["tenant", "list"], "admin for all tenants"),
    ] {
        let refused = by(key, &server, command).await;
        let lacks = format!("takes the role {role}, which key:{}", id(key));
        assert_refused(&refused, 1, &["ROLE_REQUIRED", &lacks, "longhaul whoami"]);
    }
    let elsewhere = by(&stranger, &server, &["get", &job]).await;
    assert_refused(&elsewhere, 1, &["JOB_NOT_FOUND"]);

    working.sigterm();
    assert!(working.exit(EXIT_WITHIN).await.success());
    let all = by(&first, &server, &["audit", "list", "--all"]).await.ok();
    for words in ["CreateTenant", "CreateKey", "DENIED", "Submit", id(&worker)] {
        assert!(all.contains(words), "{words}: {all}");
    }
    let own = by(&auditor, &server, &["audit", "list"]).await.ok();
    assert!(own.contains("  tenant=acme"), "{own}");
    assert!(!own.contains("  tenant=default"), "{own}");
    for key in [&first, &submitter, &worker, &auditor, &stranger] {
        for told in [&all, &server.log(), &working.log()] {
            assert!(!told.contains(secret(key)), "{told}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn who_is_revoked_or_disabled_is_shut_out() {
    let (server, first) = Server::start_guarded(&[]).await;
    by(&first, &server, &["tenant", "create", "acme"])
        .await
        .ok();
    let flags = ["--tenant", "acme", "--role", "submit", "--role", "read"];
    let nina = make_key(&first, &server, &flags).await;
    let omar = make_key(&first, &server, &flags).await;
    let job = by(&nina, &server, &["submit", "--driver", "nobody"]).await;
    let job = job.ok().trim().to_owned();

    let mut watching = longhaul();
    watching
        .args(["watch", &job])
        .env("LONGHAUL_ENDPOINT", server.endpoint())
        .env("LONGHAUL_API_KEY", &nina)
        .stdout(Stdio::piped());
    let watching = output(watching);
    let revoking = async {
        // All of the key will do, and none of it gets around.
        for _ in 0..2 {
            let done = by(&first, &server, &["key", "revoke", &nina]).await;
            assert!(done.stderr.contains("is revoked"), "{done:#?}");
            done.ok();
        }
    };
    let (watched, ()) = tokio::join!(watching, revoking);
    assert_eq!(watched.code, Some(1), "{watched:#?}");
    assert!(
        watched.stderr.contains("CREDENTIAL_INVALID"),
        "{watched:#?}"
    );
    let refused = by(&nina, &server, &["get", &job]).await;
    assert_refused(&refused, 1, &["CREDENTIAL_INVALID", "longhaul key list"]);
    by(&omar, &server, &["get", &job]).await.ok();

    let done = by(&first, &server, &["tenant", "disable", "acme"]).await;
    assert!(
        done.stderr.contains("longhaul tenant enable acme"),
        "{done:#?}"
    );
    let refused = by(&omar, &server, &["get", &job]).await;
    assert_refused(&refused, 1, &["CREDENTIAL_INVALID"]);
    by(&first, &server, &["tenant", "enable", "acme"])
        .await
        .ok();
    by(&omar, &server, &["get", &job]).await.ok();

    let keys = by(&first, &server, &["key", "list"]).await.ok();
    for (key, state) in [(&nina, "REVOKED"), (&omar, "GOOD"), (&first, "GOOD")] {
        let line = keys.lines().find(|line| line.starts_with(id(key)));
        assert!(line.unwrap().contains(state), "{keys}");
    }
    let audit = by(&first, &server, &["audit", "list", "--all"]).await.ok();
    let revoked = format!("RevokeKey     {}", id(&nina));
    assert!(audit.contains(&revoked), "{audit}");
    assert!(!audit.contains(secret(&nina)), "{audit}");
    server.stop().await;
}

#[tokio::test]
async fn the_first_key_is_made_once() {
    let (mut server, first) = Server::start_guarded(&[]).await;
    server.sigterm();
    assert!(server.exit(EXIT_WITHIN).await.success());
    server.restart().await;
    by(&first, &server, &["whoami"]).await.ok();
    let logs = server.logs();
    assert_eq!(
        logs.matches("its first key is on stdout").count(),
        1,
        "{logs}"
    );
    assert!(!logs.contains(secret(&first)), "{logs}");
    server.stop().await;
}

#[tokio::test]
async fn whoever_does_not_hear_the_first_key_can_make_another() {
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().join("data");
    let mut unheard = longhaul();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    unheard
        .args(["serve", "--listen", "127.0.0.1:0", "--auth", "--data-dir"])
        .arg(&data_dir)
        .stdout(writer)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut unheard = unheard.spawn().unwrap();
    let mut log = BufReader::new(unheard.stderr.take().unwrap()).lines();
    let told = async {
        while let Some(line) = log.next_line().await.unwrap() {
            if line.contains("nobody could be told the first key") {
                return line;
            }
        }
        panic!("it ended without a word");
    };
    let told = timeout(PATIENCE, told).await.unwrap();
    assert!(told.contains("longhaul key create --all-tenants"), "{told}");
    unheard.kill().await.unwrap();

    let mut server = Server::start_on(&data_dir).await;
    let made = ["key", "create", "--all-tenants", "--role", "admin", "again"];
    let key = server.cli(&made).await.ok();
    server.sigterm();
    assert!(server.exit(EXIT_WITHIN).await.success());
    server.restart_with("--auth").await;
    assert_refused(&server.cli(&["whoami"]).await, 1, &["CREDENTIAL_REQUIRED"]);
    by(key.trim(), &server, &["whoami"]).await.ok();
    server.stop().await;
}

#[tokio::test]
async fn programs_read_the_same_as_json() {
    let (server, first) = Server::start_guarded(&[]).await;
    let told = async |command: &[&str]| {
        let command = [command, &["--output", "json"]].concat();
        by(&first, &server, &command).await.ok()
    };
    let made = read(&told(&["tenant", "create", "acme", "--quota-watches", "7"]).await);
    assert_eq!(made["tenant"]["quotas"]["watches"], 7);
    // What is not named stays, and default is what the server says.
    let set = ["tenant", "set", "acme", "--quota-open-jobs", "9"];
    let set = read(&told(&set).await);
    assert_eq!(set["tenant"]["quotas"]["watches"], 7);
    assert_eq!(set["tenant"]["quotas"]["openJobs"], "9");
    let set = ["tenant", "set", "acme", "--quota-watches", "default"];
    let set = read(&told(&set).await);
    assert!(set["tenant"]["quotas"]["watches"].is_null(), "{set}");
    let tenants = told(&["tenant", "list"]).await;
    assert_eq!(read(tenants.lines().next().unwrap())["name"], "acme");

    let made = [
        "key", "create", "--tenant", "acme", "--role", "read", "nina",
    ];
    let made = read(&told(&made).await);
    let (key, secret) = (&made["key"], made["secret"].as_str().unwrap());
    assert_eq!(key["roles"][0], "ROLE_READ");
    assert_eq!(id(secret), key["keyId"].as_str().unwrap());
    let keys = told(&["key", "list", "--tenant", "acme"]).await;
    assert_eq!(read(&keys), *key);
    let revoked = read(&told(&["key", "revoke", id(secret)]).await);
    assert!(revoked["key"]["revokeTime"].is_string(), "{revoked}");
    assert_eq!(read(&told(&["whoami"]).await)["allTenants"], true);
    let log = told(&["audit", "list", "--all"]).await;
    let log: Vec<Value> = log.lines().map(read).collect();
    // Newest first.
    assert_eq!(log[0]["action"], "RevokeKey");
    assert_eq!(log[0]["target"], id(secret));
    assert_eq!(log[0]["outcome"], "OUTCOME_DONE");
    assert_eq!(log[0]["address"], "127.0.0.1");
    assert_eq!(log.last().unwrap()["actor"], "server");
    let two = told(&["audit", "list", "-n", "2"]).await;
    assert_eq!(two.lines().map(read).collect::<Vec<_>>(), log[..2]);
    server.stop().await;
}

/// A quota is kept, and says who can change it.
#[tokio::test]
async fn a_tenant_keeps_to_its_quotas() {
    let (server, first) = Server::start_guarded(&[]).await;
    let create = ["tenant", "create", "acme", "--quota-open-jobs", "1"];
    by(&first, &server, &create).await.ok();
    let flags = ["--tenant", "acme", "--role", "submit,read,cancel"];
    let nina = make_key(&first, &server, &flags).await;
    let submit = ["submit", "--driver", "nobody"];
    by(&nina, &server, &submit).await.ok();
    // The command tries again, as the server says that this may help.
    let mut second = longhaul();
    second
        .args(submit)
        .env("LONGHAUL_ENDPOINT", server.endpoint())
        .env("LONGHAUL_API_KEY", &nina);
    let second = output(second);
    let raised = async {
        let job = json!({"tasks": [{"driver": "nobody"}]});
        let bearer = format!("Bearer {nina}");
        let refused = post(&server, "/v1/jobs", &job).header("authorization", &bearer);
        assert_eq!(refused.send().await.expect(429)["reason"], "QUOTA_EXCEEDED");
        let set = ["tenant", "set", "acme", "--quota-open-jobs", "0"];
        by(&first, &server, &set).await.ok();
    };
    let (second, ()) = tokio::join!(second, raised);
    second.ok();
    server.stop().await;
}
