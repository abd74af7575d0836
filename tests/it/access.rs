//! Credentials, tenants and the audit log as those meet them who run a server: real commands against a server that asks who calls.

mod certificates;
mod mistakes;
mod operator;
mod permissions;
mod tailing;
mod tokens;

use crate::harness::{Output, Server};

/// Runs a command with a credential.
async fn by(key: &str, server: &Server, args: &[&str]) -> Output {
    server.cli(&[args, &["--api-key", key]].concat()).await
}

/// Makes a key with these flags.
async fn make_key(admin: &str, server: &Server, flags: &[&str]) -> String {
    let made = by(admin, server, &[&["key", "create"], flags].concat()).await;
    assert!(made.stderr.contains("not shown again"), "{made:#?}");
    let told = made.stderr.clone();
    let stdout = made.ok();
    let key = stdout.strip_suffix('\n').unwrap();
    assert!(key.starts_with("lh_") && !key.contains('\n'), "{stdout}");
    assert!(!told.contains(key), "the key goes to stdout alone: {told}");
    key.to_owned()
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, Some(code), "{output:#?}");
    assert_eq!(output.stdout, "", "an error is no data");
    for words in words {
        assert!(
            output.stderr.contains(words),
            "{words:?} is missing: {output:#?}"
        );
    }
}

/// What nobody but its holder knows of a key.
fn secret(key: &str) -> &str {
    key.rsplit('_').next().unwrap()
}
