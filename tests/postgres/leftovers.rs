//! However a process of tests ends, its servers end with it.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
};

use super::postgres::{Cluster, Database, Options};

/// Set in a process that is to start servers and then to end in this way.
const END: &str = "TEST_POSTGRES_END";

#[test]
fn nothing_is_left_of_a_process_that_was_killed() {
    leaves_nothing("nothing_is_left_of_a_process_that_was_killed", "killed");
}

#[test]
fn nothing_is_left_of_a_process_that_ended() {
    leaves_nothing("nothing_is_left_of_a_process_that_ended", "itself");
}

fn leaves_nothing(test: &str, end: &str) {
    if env::var_os(END).is_some() {
        return start_servers(end);
    }
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("leftovers::{test}"), "--nocapture"])
        .env(END, end)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let servers: Vec<(u32, String)> = lines
        .map(|line| line.unwrap())
        .filter_map(|line| {
            let (pid, folder) = line.strip_prefix("server ")?.split_once(' ')?;
            Some((pid.parse().unwrap(), folder.to_owned()))
        })
        .take(2)
        .collect();
    assert_eq!(servers.len(), 2);
    for (pid, folder) in &servers {
        assert!(runs(*pid, folder), "the test sees a server that runs");
        assert!(Path::new(folder).is_dir());
    }

    if end == "killed" {
        child.kill().unwrap();
    } else {
        drop(child.stdin.take());
    }
    child.wait().unwrap();
    // The guards hold the other end of it until they have done their work.
    let mut errors = String::new();
    child.stderr.unwrap().read_to_string(&mut errors).unwrap();

    for (pid, folder) in &servers {
        assert!(!runs(*pid, folder), "server {pid} runs on\n{errors}");
        assert!(!Path::new(folder).exists(), "{folder} is there\n{errors}");
    }
}

/// Starts one that is shared and one that is frozen, says so, and waits for its end.
fn start_servers(end: &str) {
    let database = Database::fresh();
    let private = Cluster::start(Options::default());
    private.freeze();
    let mut stdout = std::io::stdout().lock();
    for cluster in [database.cluster(), &private] {
        let (pid, folder) = (cluster.pid(), cluster.socket_folder().display());
        writeln!(stdout, "\nserver {pid} {folder}").unwrap();
    }
    let _ = std::io::stdin().read(&mut [0]);
    // A static would not be dropped either.
    assert_eq!(end, "itself");
    std::mem::forget(private);
}

/// Whether this is a server of this folder, and not what only waits to be reaped.
fn runs(pid: u32, folder: &str) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command).contains(folder)
}
