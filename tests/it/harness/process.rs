//! A process of the binary whose stderr goes to a file, and which ends with the test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Lines of a log that a failed test shows.
const SHOWN_LINES: usize = 60;

/// A running, or ended, process.
pub struct Process {
    child: Child,
    pid: u32,
    stdout: Option<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Process {
    /// Starts it. All that it prints goes to a new file in `folder`.
    pub fn spawn(mut command: Command, name: &str, folder: &Path) -> Self {
        let (log, file) = log_file(name, folder);
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self::run(command, log)
    }

    /// Starts it. What it prints on stderr goes to a new file in `folder`, and stdout can be read.
    pub fn spawn_to_read(mut command: Command, name: &str, folder: &Path) -> Self {
        let (log, file) = log_file(name, folder);
        command.stdout(Stdio::piped()).stderr(file);
        Self::run(command, log)
    }

    fn run(mut command: Command, log: PathBuf) -> Self {
        command.stdin(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        Self {
            pid: child.id().expect("it was not waited for yet"),
            stdout: child.stdout.take().map(BufReader::new),
            child,
            log,
        }
    }

    /// The next line that it prints; empty if it ends without one.
    pub async fn next_line(&mut self, within: Duration) -> String {
        let mut line = String::new();
        let stdout = self.stdout.as_mut().expect("its stdout is read");
        let read = timeout(within, stdout.read_line(&mut line)).await;
        read.unwrap_or_else(|_| panic!("it printed nothing within {within:?}\n{}", self.log()))
            .unwrap();
        line.trim_end().to_owned()
    }

    /// Reads nothing more of what it prints.
    pub fn read_no_more(&mut self) {
        self.stdout = None;
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        // Through a shell, because the standard library can only kill, and the crate has no unsafe code.
        let kill = format!("kill -{signal} {}", self.pid);
        let status = std::process::Command::new("sh")
            .args(["-c", &kill])
            .status();
        assert!(status.unwrap().success(), "{kill}");
    }

    /// Ends it at once, and waits until it is gone.
    pub async fn kill9(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for its end.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        let ended = timeout(within, self.child.wait()).await;
        ended
            .unwrap_or_else(|_| {
                panic!(
                    "process {} still runs after {within:?}\n{}",
                    self.pid,
                    self.log()
                )
            })
            .unwrap()
    }

    /// Fails if a thread or task of it has panicked.
    pub fn check_log(&self) {
        let log = self.log();
        assert!(
            !log.contains("panicked at"),
            "process {} panicked:\n{log}",
            self.pid
        );
    }
}

fn log_file(name: &str, folder: &Path) -> (PathBuf, File) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("{name}-{number}.log"));
    let file = File::create(&path).unwrap();
    (path, file)
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.start_kill();
        if thread::panicking() {
            show_end(&self.log, &self.log());
        } else {
            self.check_log();
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a failed test shows what its processes said"
)]
fn show_end(file: &Path, log: &str) {
    let lines: Vec<_> = log.lines().collect();
    let end = lines.len().saturating_sub(SHOWN_LINES);
    eprintln!(
        "--- the end of {}\n{}",
        file.display(),
        lines[end..].join("\n")
    );
}
