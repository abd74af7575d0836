//! What the tests drive: real processes of the real binary, each with files and a port of its own, gone when the test is.
//!
//! A server that panicked fails its test, whatever the test itself looked at.

mod process;

use std::{
    ffi::OsStr,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use longhaul::client::Client;
use tempfile::TempDir;
use tokio::{
    process::Command,
    time::{sleep, timeout},
};
use tonic::transport::{Channel, Endpoint};

use process::Process;

/// How long a server may take from start to serving, on a busy machine and in a debug build.
const START_WITHIN: Duration = Duration::from_secs(30);
/// The same for one whose database may have crashed a moment ago, and has to recover first.
const RECOVER_WITHIN: Duration = Duration::from_secs(120);
/// The pause before a server is started again that did not find its database.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// How long a drained server may take to exit: its default `drain_timeout`, and some seconds to close its files.
pub const EXIT_WITHIN: Duration = Duration::from_secs(30);
/// How long a command of the CLI may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);
/// Ticks in a second in /proc, on every architecture that Linux runs on today.
const TICKS_PER_SECOND: u64 = 100;
/// Where ports for servers begin: below those that the system gives to outgoing connections. A client that reconnects to a port
/// from that range while its server is down may be given the same port on its own side, and so be connected to itself.
const FIRST_PORT: u16 = 10_000;
/// How many ports from there on are tried.
const PORTS: u16 = 20_000;

/// `longhaul serve` with a data directory of its own, or as a node of a cluster.
pub struct Server {
    process: Process,
    /// All but where it listens.
    flags: Vec<String>,
    port: u16,
    folder: TempDir,
}

impl Server {
    /// A server with default settings.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A server with more flags for `serve`.
    pub async fn start_with(flags: &[&str]) -> Self {
        Self::start_by(longhaul(), flags).await
    }

    /// A server that may open so many files.
    pub async fn start_with_files(files: u32) -> Self {
        let mut shell = Command::new("sh");
        let limited = format!("ulimit -n {files}; exec \"$@\"");
        shell.args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_longhaul")]);
        Self::start_by(without_settings(shell), &[]).await
    }

    async fn start_by(longhaul: Command, flags: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let data_dir = folder.path().join("data").display().to_string();
        Self::start_in(
            folder,
            longhaul,
            &[&["--data-dir", &data_dir], flags].concat(),
        )
        .await
    }

    /// A server with the jobs of this directory.
    pub async fn start_on(data_dir: &Path) -> Self {
        let folder = TempDir::new().unwrap();
        let data_dir = data_dir.display().to_string();
        Self::start_in(folder, longhaul(), &["--data-dir", &data_dir]).await
    }

    /// A node whose jobs are in a database, found by this URL without a password.
    pub async fn start_node(url: &str, password: &str, flags: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, password).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let file = file.display().to_string();
        let store = ["--store", url, "--store-password-file", &file];
        Self::start_in(folder, longhaul(), &[&store, flags].concat()).await
    }

    /// A server that asks for credentials, and its first key.
    pub async fn start_guarded(flags: &[&str]) -> (Self, String) {
        let folder = TempDir::new().unwrap();
        let data_dir = folder.path().join("data").display().to_string();
        let flags = [&["--data-dir", &data_dir, "--auth"], flags].concat();
        let (server, [told]) = Self::start_and_read(folder, longhaul(), &flags).await;
        let key = told.strip_prefix("first key: ");
        let key = key.unwrap_or_else(|| panic!("no key: {told}\n{}", server.log()));
        (server, key.to_owned())
    }

    async fn start_in(folder: TempDir, longhaul: Command, flags: &[&str]) -> Self {
        let (server, []) = Self::start_and_read(folder, longhaul, flags).await;
        server
    }

    /// Starts a server and reads what it prints when it serves.
    async fn start_and_read<const N: usize>(
        folder: TempDir,
        longhaul: Command,
        flags: &[&str],
    ) -> (Self, [String; N]) {
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let port = free_port();
        let served = serve(longhaul, &folder, port, &flags).await;
        let (process, told) = served.unwrap_or_else(|log| panic!("it does not serve\n{log}"));
        let server = Self {
            process,
            flags,
            port,
            folder,
        };
        (server, told)
    }

    /// Starts the server again after it has ended, with the same data, port and flags.
    pub async fn restart(&mut self) {
        let served = self.try_restart().await;
        served.unwrap_or_else(|log| panic!("it does not serve\n{log}"));
    }

    /// The same with one more flag.
    pub async fn restart_with(&mut self, flag: &str) {
        self.flags.push(flag.to_owned());
        self.restart().await;
    }

    /// The same for one that may find its database away: then it ends, and is started again until it serves.
    pub async fn restart_until_it_serves(&mut self) {
        let mut last = String::new();
        let serves = async {
            while let Err(log) = self.try_restart().await {
                last = log;
                sleep(RESTART_PAUSE).await;
            }
        };
        let served = timeout(RECOVER_WITHIN, serves).await;
        served.unwrap_or_else(|_| panic!("it does not serve within {RECOVER_WITHIN:?}\n{last}"));
    }

    /// Starts it again; if it ended without serving, what it has logged.
    async fn try_restart(&mut self) -> Result<(), String> {
        self.process.check_log();
        let served = serve(longhaul(), &self.folder, self.port, &self.flags).await;
        (self.process, []) = served?;
        Ok(())
    }

    /// Where it serves, as a URL.
    pub fn endpoint(&self) -> String {
        match scheme(&self.flags) {
            // By a name that is in the certificate.
            "https" => format!("https://localhost:{}", self.port),
            scheme => format!("{scheme}://{}", self.address()),
        }
    }

    /// Where it serves, as `HOST:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its data directory.
    pub fn data_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Memory that it holds.
    pub fn resident_kb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.unwrap().parse().unwrap()
    }

    /// Processor time that it has used, in user and kernel mode.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The name in parentheses may hold anything; fields are counted from behind it.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// What it, and those before it in its place, have logged.
    pub fn logs(&self) -> String {
        let files = fs::read_dir(self.folder.path()).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let logs = files.filter(|path| path.extension().is_some_and(|name| name == "log"));
        logs.map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    /// A client that is connected to it.
    pub async fn client(&self) -> Client {
        Client::connect(&self.endpoint()).await.unwrap()
    }

    /// A connection to it, for calls that no client would make.
    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.endpoint()).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// Ends it as a power failure would, as far as a process can tell.
    pub async fn kill9(&mut self) {
        self.process.kill9().await;
    }

    /// Halts it: its connections stay open, and it answers nobody.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on, as if no time had passed.
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }

    /// Asks it to drain.
    pub fn sigterm(&self) {
        self.process.signal("TERM");
    }

    /// Waits for its end.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        self.process.exit(within).await
    }

    /// Drains it and checks that it ended well.
    pub async fn stop(mut self) {
        self.sigterm();
        let status = self.exit(EXIT_WITHIN).await;
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// Runs `longhaul` against this server.
    pub async fn cli<A: AsRef<OsStr>>(&self, args: &[A]) -> Output {
        let mut command = longhaul();
        command.args(args).env("LONGHAUL_ENDPOINT", self.endpoint());
        output(command).await
    }

    /// Runs `longhaul work` against this server: a worker for one driver, which runs a command for each task.
    pub fn worker(&self, driver: &str, flags: &[&str], command: &[&str]) -> RunningWorker {
        let mut longhaul = longhaul();
        longhaul
            .args(["work", "--driver", driver])
            .args(flags)
            .arg("--")
            .args(command)
            .env("LONGHAUL_ENDPOINT", self.endpoint());
        RunningWorker {
            process: Process::spawn(longhaul, "work", self.folder.path()),
        }
    }
}

/// `longhaul work`.
pub struct RunningWorker {
    process: Process,
}

impl RunningWorker {
    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it without a word to the server.
    pub async fn kill9(&mut self) {
        self.process.kill9().await;
    }

    /// Asks it to finish.
    pub fn sigterm(&self) {
        self.process.signal("TERM");
    }

    /// Waits for its end.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        self.process.exit(within).await
    }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Its stdout, if it exited with 0.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }
}

/// Runs `longhaul` on its own.
pub async fn cli<A: AsRef<OsStr>>(args: &[A]) -> Output {
    let mut command = longhaul();
    command.args(args);
    output(command).await
}

/// Runs a command to its end.
pub async fn output(mut command: Command) -> Output {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = timeout(COMMAND_WITHIN, command.output()).await;
    let output = ended
        .unwrap_or_else(|_| panic!("not done within {COMMAND_WITHIN:?}: {command:?}"))
        .unwrap_or_else(|error| {
            panic!("can't run {command:?}: {error}; `make setup` installs what tests need")
        });
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The binary, without what the environment says about it.
pub fn longhaul() -> Command {
    without_settings(Command::new(env!("CARGO_BIN_EXE_longhaul")))
}

fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LONGHAUL_") {
            command.env_remove(name);
        }
    }
    command
}

/// The search path with the binary, and the tools that `make setup` installs, in front.
pub fn path_with_tools() -> std::ffi::OsString {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin");
    let binary = Path::new(env!("CARGO_BIN_EXE_longhaul")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [binary.to_owned(), tools].into_iter();
    std::env::join_paths(folders.chain(std::env::split_paths(&path))).unwrap()
}

/// Starts a server, waits until it serves, and reads what it prints then; if it ends without, what it has logged.
async fn serve<const N: usize>(
    mut command: Command,
    folder: &TempDir,
    port: u16,
    flags: &[String],
) -> Result<(Process, [String; N]), String> {
    command
        .arg("serve")
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .args(flags);
    let mut process = Process::spawn_to_read(command, "serve", folder.path());
    let line = process.next_line(START_WITHIN).await;
    if line != format!("listening on {}://127.0.0.1:{port}", scheme(flags)) {
        return Err(format!("{line}\n{}", process.log()));
    }
    let mut told = [const { String::new() }; N];
    for line in &mut told {
        *line = process.next_line(START_WITHIN).await;
    }
    process.read_no_more();
    Ok((process, told))
}

/// What a server with these flags speaks.
fn scheme(flags: &[String]) -> &'static str {
    match flags.iter().any(|flag| flag == "--tls-cert") {
        true => "https",
        false => "http",
    }
}

/// A port that nobody listens on, and that no other test of this process is given.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test processes at a time begin at different places.
    let start = (std::process::id() % u32::from(PORTS)) as u16;
    (0..PORTS)
        .map(|_| FIRST_PORT + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
