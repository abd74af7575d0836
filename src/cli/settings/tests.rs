//! What the layers make of each other.

use clap::{CommandFactory, FromArgMatches, Parser};

use longhaul::server::Storage;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    layer: ServeLayer,
}

fn resolve(line: &[&str], path: Option<&Path>) -> Result<Settings, Failure> {
    let matches = Line::command().get_matches_from([&["longhaul"], line].concat());
    let line = Line::from_arg_matches(&matches).expect("the flags of the test");
    Settings::resolve(line.layer, &matches, path)
}

fn file_with(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("a temporary file");
    file
}

#[test]
fn a_flag_counts_more_than_the_file_and_the_file_more_than_the_default() {
    let file = file_with("retention = \"2d\"\nmax_lost_leases = 5\n");
    let settings = resolve(
        &["--retention", "12h", "--listen", "127.0.0.1:0"],
        Some(file.path()),
    )
    .expect("settings");
    assert_eq!(settings.serve.retention, Duration::from_secs(43_200));
    assert_eq!(settings.serve.max_lost_leases, 5);
    assert_eq!(settings.serve.drain_timeout, Duration::from_secs(25));

    let lines = settings.lines();
    let source = |key: &str| {
        let line = lines.iter().find(|line| line.starts_with(key));
        line.and_then(|line| line.split("  # ").nth(1))
    };
    let from_file = format!("file {}", file.path().display());
    assert_eq!(source("retention"), Some("flag --retention"));
    assert_eq!(source("max_lost_leases"), Some(from_file.as_str()));
    assert_eq!(source("drain_timeout"), Some("default"));
}

#[test]
fn what_is_printed_can_be_read_again() {
    let hosts = ["--allowed-hosts", "a.example,b"];
    let flags = [&["--insecure", "--log-format", "json"], &hosts[..]].concat();
    let printed = resolve(&flags, None).expect("settings").lines().join("\n");
    let again = resolve(&[], Some(file_with(&printed).path())).expect("settings");
    assert!(again.insecure);
    assert_eq!(again.serve.allowed_hosts, ["a.example", "b"]);
    assert_eq!(again.log_format, LogFormat::Json);
    assert_eq!(again.serve.listen, ServeSettings::default().listen);
}

#[test]
fn a_database_is_one_store_and_is_shown_without_its_password() {
    let url = "postgres://u:s3cret@h/d?sslmode=require";
    let settings = resolve(&["--store", url], None).expect("settings");
    assert!(matches!(settings.serve.storage, Storage::Postgres(_)));
    assert!(settings.shows_password);
    let printed = settings.lines().join("\n");
    assert!(
        printed.contains(
            "\"postgres://u@h:5432/d?sslmode=require\"  # flag --store, without the password"
        ),
        "{printed}"
    );
    let quiet = resolve(&["--store", "postgres://u@h/d"], None).expect("settings");
    assert!(!quiet.shows_password);
    let told = format!("{settings:?} {printed}");
    assert!(!told.contains("s3cret"), "{told}");
    let again = resolve(&[], Some(file_with(&printed).path())).expect("settings");
    assert!(matches!(again.serve.storage, Storage::Postgres(_)));
}

#[test]
fn flags_that_name_two_stores_or_none_are_refused() {
    let file = file_with("store = \"postgres://u@h/d\"\ndata_dir = \"/a\"\n");
    let url = ["--store", "postgres://u@h/d"];
    for (line, path, told) in [
        (
            &["--data-dir", "/b"][..],
            Some(file.path()),
            "--data-dir is for",
        ),
        (&["--store-connections", "5"], None, "only with --store"),
        (&["--unsafe-durability"], None, "only with --store"),
        (
            &[&url[..], &["--store-connections", "1"]].concat(),
            None,
            "at least 2",
        ),
        (&["--store", "postgres://h/d"], None, "names no user"),
    ] {
        let failure = resolve(line, path).expect_err(told).to_string();
        assert!(failure.contains(told), "{failure}");
    }
    // A file may say both, for whoever starts it with the embedded store.
    let settings = resolve(&[], Some(file.path())).expect("settings");
    assert!(matches!(settings.serve.storage, Storage::Postgres(_)));
    let settings = resolve(&["--store", "", "--data-dir", "/b"], Some(file.path()));
    let storage = settings.expect("settings").serve.storage;
    assert_eq!(storage, Storage::Embedded("/b".into()));
}

#[test]
fn no_refusal_shows_a_password() {
    let file = file_with("store = \"postgres://u:s3cret@h/d?passwort=1\"\n");
    for (line, path) in [
        (&["--store", "postgres://u:s3cret@h:x/d"][..], None),
        (&[], Some(file.path())),
    ] {
        let failure = format!("{0} {0:?}", resolve(line, path).expect_err("a refusal"));
        assert!(
            failure.contains("store:") && !failure.contains("s3cret"),
            "{failure}"
        );
    }
}

#[test]
fn every_setting_has_a_variable_of_its_name() {
    for arg in Line::command().get_arguments() {
        let key = arg.get_id().as_str();
        let expected = format!("LONGHAUL_{}", variable(key));
        assert_eq!(
            arg.get_env().and_then(|name| name.to_str()),
            Some(expected.as_str())
        );
        assert_eq!(arg.get_long(), Some(key.replace('_', "-").as_str()));
    }
}
