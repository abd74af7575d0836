//! The server under attack: a process of the real binary, on a port and a directory of its own, gone when the test is.

use std::{fs, path::Path, process::Stdio, time::Duration};

use longhaul::{
    client::{Client, ClientBuilder},
    proto::v1::GetCountsRequest,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long it may take from start to serving, on a busy machine and in a debug build.
const START_WITHIN: Duration = Duration::from_secs(30);

/// See the module.
pub struct Server {
    child: Child,
    folder: TempDir,
    endpoint: String,
    /// A credential for everything.
    pub key: String,
}

impl Server {
    /// One that requires credentials.
    pub async fn start(flags: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), flags).await
    }

    /// The same, over TLS, with a certificate for `localhost` that vouches for itself.
    pub async fn start_tls() -> Self {
        let folder = TempDir::new().unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        fs::write(&certificate, cert.pem()).unwrap();
        fs::write(&key, signing_key.serialize_pem()).unwrap();
        let [certificate, key] = [certificate, key].map(|path| path.display().to_string());
        Self::start_in(folder, &["--tls-cert", &certificate, "--tls-key", &key]).await
    }

    async fn start_in(folder: TempDir, flags: &[&str]) -> Self {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LONGHAUL_") {
                command.env_remove(name);
            }
        }
        command
            .args(["serve", "--auth", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path().join("data"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = async || {
            let line = timeout(START_WITHIN, lines.next_line()).await;
            let line = line.expect("it says where it listens").unwrap();
            line.unwrap_or_else(|| panic!("{}", read_log(folder.path())))
        };
        let endpoint = line().await;
        let key = line().await;
        let after = |line: &str, words: &str| line.rsplit_once(words).unwrap().1.to_owned();
        Self {
            endpoint: after(&endpoint, "listening on "),
            key: after(&key, ": "),
            child,
            folder,
        }
    }

    /// Where it listens, as `HOST:PORT`.
    pub fn address(&self) -> &str {
        self.endpoint.rsplit_once('/').unwrap().1
    }

    /// Its certificate, if it speaks TLS.
    pub fn certificate(&self) -> Option<String> {
        let file = self.folder.path().join("tls.crt");
        file.exists().then(|| file.display().to_string())
    }

    /// A client that means well.
    pub async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
    }

    /// What a client that means well is told that is refused.
    pub async fn client_error(&self) -> String {
        // One that connects first would try again for a while.
        let client = self.builder().connect_lazy().unwrap();
        let counted = client.jobs().get_counts(GetCountsRequest::default()).await;
        format!("{:?}", counted.expect_err("it is refused"))
    }

    fn builder(&self) -> ClientBuilder {
        let builder = match self.certificate() {
            None => Client::builder(&self.endpoint),
            Some(file) => {
                let endpoint = self.endpoint.replace("127.0.0.1", "localhost");
                Client::builder(&endpoint).tls_ca(file)
            }
        };
        builder.api_key(&self.key)
    }

    /// Memory that it holds.
    pub fn resident_kb(&self) -> u64 {
        let pid = self.child.id().expect("it runs");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.unwrap().parse().unwrap()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        read_log(self.folder.path())
    }

    /// No thread or task of it has panicked.
    pub fn check(&self) {
        let log = self.log();
        assert!(!log.contains("panicked at"), "{log}");
    }
}

fn read_log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}
