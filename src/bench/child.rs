//! The other side of a measurement: a server or an echo, each a process of its own.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{BenchError, BenchOptions, process::Gauge, scratch::Scratch};
use crate::client::Client;

/// How a server says that it serves, and where.
const LISTENING: &str = "listening on ";
/// How long a server may take to end when it is asked to; its own drain timeout is shorter.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// A program that listens. It is killed when this is dropped.
struct Listener {
    child: Child,
    endpoint: String,
    /// Kept open: its end tells an echo that we are gone.
    _stdin: Option<ChildStdin>,
    /// Kept open: a program that can not write is not what is measured.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Listener {
    async fn start(
        options: &BenchOptions,
        arguments: &[&str],
        stdin: &[u8],
    ) -> Result<Self, BenchError> {
        let program = &options.program;
        let spawn = |source| BenchError::Spawn {
            program: program.clone(),
            arguments: arguments.join(" "),
            source,
        };
        let mut child = Command::new(program)
            .args(arguments)
            .env("LONGHAUL_LOG", "warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(spawn)?;
        let (mut input, output) = (child.stdin.take(), child.stdout.take());
        if let Some(input) = &mut input {
            input.write_all(stdin).await.map_err(spawn)?;
        }
        let silent = || BenchError::NotListening {
            program: program.clone(),
            arguments: arguments.join(" "),
        };
        let mut lines = BufReader::new(output.ok_or_else(silent)?).lines();
        loop {
            let line = lines.next_line().await.map_err(spawn)?;
            let line = line.ok_or_else(silent)?;
            if let Some(endpoint) = line.strip_prefix(LISTENING) {
                return Ok(Self {
                    endpoint: endpoint.trim().to_owned(),
                    child,
                    _stdin: input,
                    _stdout: lines,
                });
            }
        }
    }
}

/// The bare echo, as a process.
pub(super) struct Echo(Listener);

impl Echo {
    /// Starts one that answers with these bytes.
    pub(super) async fn start(options: &BenchOptions, answer: &[u8]) -> Result<Self, BenchError> {
        let listener = Listener::start(options, &["bench", "echo-server"], answer).await?;
        Ok(Self(listener))
    }

    pub(super) async fn connect(&self, connections: usize) -> Result<Vec<Client>, BenchError> {
        connect(&self.0.endpoint, connections).await
    }
}

/// A server under load.
pub(super) struct Server {
    endpoint: String,
    own: Option<Own>,
}

struct Own {
    listener: Listener,
    data: Scratch,
}

impl Server {
    /// One that runs already, for others too.
    pub(super) fn given(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            own: None,
        }
    }

    /// Starts one with an empty store.
    pub(super) async fn start(options: &BenchOptions) -> Result<Self, BenchError> {
        Self::start_on(options, Scratch::new(&options.dir)?).await
    }

    /// Starts one with this store.
    pub(super) async fn start_on(
        options: &BenchOptions,
        data: Scratch,
    ) -> Result<Self, BenchError> {
        let dir = data.path().display().to_string();
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &dir];
        let listener = Listener::start(options, &arguments, &[]).await?;
        Ok(Self {
            endpoint: listener.endpoint.clone(),
            own: Some(Own { listener, data }),
        })
    }

    /// Where it serves.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Connections of their own.
    pub(super) async fn connect(&self, connections: usize) -> Result<Vec<Client>, BenchError> {
        connect(&self.endpoint, connections).await
    }

    /// One connection.
    pub(super) async fn client(&self) -> Result<Client, BenchError> {
        Ok(Client::connect(&self.endpoint).await?)
    }

    /// Its process; `None` if it is not ours.
    pub(super) fn gauge(&self) -> Option<Gauge> {
        self.own.as_ref()?.listener.child.id().map(Gauge)
    }

    /// Ends it in an orderly way, and leaves its store; `None` if it is not ours.
    pub(super) async fn stop(self) -> Result<Option<Scratch>, BenchError> {
        let Some(Own { mut listener, data }) = self.own else {
            return Ok(None);
        };
        let pid = listener.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // If it has gone already, the wait ends at once.
            let _ = kill_process(pid, Signal::TERM);
        }
        match timeout(END_TIMEOUT, listener.child.wait()).await {
            Ok(ended) => ended.map_err(BenchError::io("can't wait for the server's end"))?,
            Err(_elapsed) => {
                let said = format!("it did not end within {END_TIMEOUT:?} of SIGTERM");
                return Err(BenchError::Broken(said));
            }
        };
        Ok(Some(data))
    }

    /// Kills it on the spot, and leaves its store; `None` if it is not ours.
    pub(super) async fn kill(self) -> Result<Option<Scratch>, BenchError> {
        let Some(Own { mut listener, data }) = self.own else {
            return Ok(None);
        };
        let killed = listener.child.kill().await;
        killed.map_err(BenchError::io("can't kill the server"))?;
        Ok(Some(data))
    }
}

async fn connect(endpoint: &str, connections: usize) -> Result<Vec<Client>, BenchError> {
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(Client::connect(endpoint).await?);
    }
    Ok(clients)
}
