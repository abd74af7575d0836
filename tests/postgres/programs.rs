//! PostgreSQL's programs on this machine, and who may run them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where Debian keeps the programs of each version, out of the search path.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The folder of the server's programs: where the search path has them, else Debian's newest.
pub fn folder() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    found(&env::split_paths(&path).collect::<Vec<_>>(), Path::new(DEBIAN)).unwrap_or_else(|| {
        panic!(
            "PostgreSQL's server is neither in PATH nor in {DEBIAN}: install the package `postgresql`; as root on Debian `make setup` does"
        )
    })
}

/// See [`folder`].
pub fn found(path: &[PathBuf], debian: &Path) -> Option<PathBuf> {
    let whole = |folder: &PathBuf| {
        let programs = ["postgres", "initdb", "pg_ctl", "psql"];
        programs
            .iter()
            .all(|program| folder.join(program).is_file())
    };
    let versions = fs::read_dir(debian).into_iter().flatten().flatten();
    let mut versions: Vec<u32> = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable_by_key(|version| std::cmp::Reverse(*version));
    let versions = versions
        .into_iter()
        .map(|version| debian.join(version.to_string()).join("bin"));
    path.iter().cloned().chain(versions).find(whole)
}

/// A shell as the user that the server will run as: PostgreSQL refuses to be root.
pub fn shell() -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "--",
            "sh",
        ]);
        command
    } else {
        Command::new("sh")
    };
    without_settings(&mut command);
    command
}

/// The SQL shell, as whoever runs the tests.
pub fn psql() -> Command {
    let mut command = Command::new(folder().join("psql"));
    without_settings(&mut command);
    // Certificates, passwords and services of whoever runs the tests.
    command.env("HOME", "/nonexistent");
    command
}

/// What somebody has set for another server is not meant here; and messages are in English.
fn without_settings(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C");
}
