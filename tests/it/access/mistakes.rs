//! What is told to those who mistype, or ask for what can not be.

use super::{assert_refused, by, make_key};
use crate::harness::{self, Server};

#[tokio::test]
async fn mistakes_say_what_to_do() {
    let (server, first) = Server::start_guarded(&[]).await;
    by(&first, &server, &["tenant", "create", "acme"])
        .await
        .ok();
    for (command, code, words) in [
        (
            &["key", "create", "--role", "reed"][..],
            2,
            &["reed", "submit, read, work, cancel, admin, audit"][..],
        ),
        (&["key", "create"], 2, &["--role"]),
        (
            &["key", "create", "--role", "read", "--tenant", "nobody"],
            1,
            &["TENANT_NOT_FOUND", "nobody", "longhaul tenant create"],
        ),
        (
            &["key", "create", "--role", "read", "--tenant", "No Body"],
            2,
            &["tenant", "[a-z0-9-]"],
        ),
        (
            &[
                "key",
                "create",
                "--role",
                "read",
                "--expires",
                "2020-01-31T00:00:00Z",
            ],
            2,
            &["expire_time", "must be in the future"],
        ),
        (
            &["key", "create", "--role", "read", "--expires", "soon"],
            2,
            &["neither a time to last, such as 90d, nor an instant"],
        ),
        (
            &["key", "create", "--role", "read", "--all-tenants"],
            2,
            &["all_tenants", "work, admin and audit"],
        ),
        (
            &["key", "create", "--role", "work", "--driver", "no driver"],
            2,
            &["drivers[0]"],
        ),
        (
            &["key", "create", "--role", "read", "--certificate", "worker"],
            2,
            &["certificate", "spiffe://"],
        ),
        (
            &["key", "revoke", "0123456789abcdef"],
            1,
            &["KEY_NOT_FOUND", "longhaul key list"],
        ),
        (
            &["tenant", "create", "acme"],
            1,
            &["TENANT_EXISTS", "longhaul tenant set"],
        ),
        (
            &["tenant", "set", "acme"],
            2,
            &["nothing to set", "--quota-"],
        ),
        (
            &["tenant", "set", "acme", "--quota-watches", "many"],
            2,
            &["neither a number nor default"],
        ),
        (
            &["tenant", "set", "nobody", "--quota-watches", "1"],
            1,
            &["TENANT_NOT_FOUND"],
        ),
        (&["tenant", "disable", "nobody"], 1, &["TENANT_NOT_FOUND"]),
        (&["audit", "tail", "-n", "1001"], 2, &["1001"]),
    ] {
        assert_refused(&by(&first, &server, command).await, code, words);
    }
    // None of it made anything.
    let keys = by(&first, &server, &["key", "list", "--tenant", "acme"]).await;
    assert!(keys.stderr.contains("no keys"), "{keys:#?}");
    assert_eq!(keys.ok(), "");

    // A key that was not copied as a whole, and one that nobody has.
    let refused = by(&first[..first.len() - 1], &server, &["whoami"]).await;
    assert_refused(&refused, 1, &["CREDENTIAL_INVALID", "as a whole"]);
    server.stop().await;
}

/// Whoever administers one tenant gives nothing of another, and no more than it has.
#[tokio::test]
async fn an_administrator_gives_no_more_than_it_has() {
    let (server, first) = Server::start_guarded(&[]).await;
    by(&first, &server, &["tenant", "create", "acme"])
        .await
        .ok();
    let flags = ["--tenant", "acme", "--role", "admin", "--role", "read"];
    let admin = make_key(&first, &server, &flags).await;
    make_key(&admin, &server, &["--role", "read"]).await;
    for (flags, words) in [
        (&["--role", "cancel"][..], &["ROLE_REQUIRED", "cancel"][..]),
        (
            &["--role", "admin", "--all-tenants"],
            &["ROLE_REQUIRED", "for all tenants"],
        ),
        (
            &["--role", "read", "--tenant", "default"],
            &["TENANT_NOT_FOUND"],
        ),
    ] {
        let create = [&["key", "create"], flags].concat();
        assert_refused(&by(&admin, &server, &create).await, 1, words);
    }
    let keys = by(&admin, &server, &["key", "list"]).await.ok();
    assert!(keys.contains("acme") && !keys.contains("default"), "{keys}");
    server.stop().await;
}

#[tokio::test]
async fn settings_of_tokens_that_can_not_be_are_refused() {
    let tokens = ["--auth", "--jwt-issuer", "https://issuer.example"];
    for (flags, words) in [
        (&tokens[..], "jwt_issuer needs jwt_keys"),
        (
            &["--auth", "--jwt-keys", "keys.json"],
            "jwt_keys needs jwt_issuer",
        ),
        (&["--jwt-issuer", "a", "--jwt-keys", "b"], "add --auth"),
        (
            &[&tokens[..], &["--jwt-keys", "http://issuer.example/keys"]].concat(),
            "use https://",
        ),
        (
            &[
                &tokens[..],
                &["--jwt-keys", "a", "--jwt-algorithms", "HS256"],
            ]
            .concat(),
            "HS256",
        ),
    ] {
        let flags = [&["serve", "--print-config"], flags].concat();
        assert_refused(&harness::cli(&flags).await, 2, &[words]);
    }
    let nothing = [&["serve", "--listen", "127.0.0.1:0"], &tokens[..]].concat();
    let nothing = [&nothing[..], &["--jwt-keys", "/nothing.json"]].concat();
    let folder = tempfile::TempDir::new().unwrap();
    let data_dir = folder.path().display().to_string();
    let nothing = [&nothing[..], &["--data-dir", &data_dir]].concat();
    assert_refused(&harness::cli(&nothing).await, 1, &["/nothing.json"]);
}
