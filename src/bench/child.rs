//! The other side of a measurement: a server or an echo, each a process of its own.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{BenchError, BenchOptions, database::Database, process::Gauge, scratch::Scratch};
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
        store: Option<&str>,
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
            .envs(store.map(|url| ("LONGHAUL_STORE", url)))
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

impl Listener {
    /// A server with this store, or a node of one.
    async fn serve(options: &BenchOptions, data: &Data) -> Result<Self, BenchError> {
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0"];
        match data {
            Data::Embedded(scratch) => {
                let dir = scratch.path().display().to_string();
                arguments.extend(["--data-dir", &dir]);
                Self::start(options, &arguments, Some(""), &[]).await
            }
            Data::Database(database) => {
                Self::start(options, &arguments, Some(database.url()), &[]).await
            }
        }
    }
}

/// The bare echo, as a process.
pub(super) struct Echo(Listener);

impl Echo {
    /// Starts one that answers with these bytes.
    pub(super) async fn start(options: &BenchOptions, answer: &[u8]) -> Result<Self, BenchError> {
        let listener = Listener::start(options, &["bench", "echo-server"], None, answer).await?;
        Ok(Self(listener))
    }

    pub(super) async fn connect(&self, connections: usize) -> Result<Vec<Client>, BenchError> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(Client::connect(&self.0.endpoint).await?);
        }
        Ok(clients)
    }
}

/// A server under load: one node, or several that share a database.
pub(super) struct Server {
    endpoints: Vec<String>,
    own: Option<Own>,
}

struct Own {
    nodes: Vec<Listener>,
    data: Data,
}

/// Where a server of ours keeps its jobs.
#[derive(Debug)]
pub(super) enum Data {
    /// The embedded store.
    Embedded(Scratch),
    /// A database of its own.
    Database(Database),
}

impl Data {
    async fn new(options: &BenchOptions) -> Result<Self, BenchError> {
        match &options.store {
            Some(beside) => Ok(Self::Database(Database::new(beside).await?)),
            None => Ok(Self::Embedded(Scratch::new(&options.dir)?)),
        }
    }
}

impl Server {
    /// The one that runs already, for others too, or a new one.
    pub(super) async fn given_or_started(options: &BenchOptions) -> Result<Self, BenchError> {
        match options.endpoints.is_empty() {
            true => Self::start(options).await,
            false => Ok(Self {
                endpoints: options.endpoints.clone(),
                own: None,
            }),
        }
    }

    /// Starts one with an empty store.
    pub(super) async fn start(options: &BenchOptions) -> Result<Self, BenchError> {
        Self::start_nodes(options, options.nodes).await
    }

    /// Starts one with an empty store, and so many nodes.
    pub(super) async fn start_nodes(
        options: &BenchOptions,
        nodes: usize,
    ) -> Result<Self, BenchError> {
        Self::nodes_on(options, Data::new(options).await?, nodes).await
    }

    /// Starts one with this store.
    pub(super) async fn start_on(options: &BenchOptions, data: Data) -> Result<Self, BenchError> {
        Self::nodes_on(options, data, options.nodes).await
    }

    async fn nodes_on(
        options: &BenchOptions,
        data: Data,
        count: usize,
    ) -> Result<Self, BenchError> {
        let mut nodes = Vec::with_capacity(count);
        for _ in 0..count {
            nodes.push(Listener::serve(options, &data).await?);
        }
        Ok(Self {
            endpoints: nodes.iter().map(|node| node.endpoint.clone()).collect(),
            own: Some(Own { nodes, data }),
        })
    }

    /// How many nodes it has.
    pub(super) fn nodes(&self) -> usize {
        self.endpoints.len()
    }

    /// Where it serves; the first of its nodes, if there are several.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoints[0]
    }

    /// Connections of their own, to one node after another.
    pub(super) async fn connect(&self, connections: usize) -> Result<Vec<Client>, BenchError> {
        let mut clients = Vec::with_capacity(connections);
        for endpoint in self.endpoints.iter().cycle().take(connections) {
            clients.push(Client::connect(endpoint).await?);
        }
        Ok(clients)
    }

    /// One connection.
    pub(super) async fn client(&self) -> Result<Client, BenchError> {
        Ok(Client::connect(self.endpoint()).await?)
    }

    /// Its process; `None` if it is not ours, or there are several.
    pub(super) fn gauge(&self) -> Option<Gauge> {
        match self.own.as_ref()?.nodes.as_slice() {
            [node] => node.child.id().map(Gauge),
            _ => None,
        }
    }

    /// Ends it in an orderly way, and leaves its store; `None` if it is not ours.
    pub(super) async fn stop(self) -> Result<Option<Data>, BenchError> {
        let Some(Own { nodes, data }) = self.own else {
            return Ok(None);
        };
        for mut node in nodes {
            let pid = node.child.id().and_then(|id| i32::try_from(id).ok());
            if let Some(pid) = pid.and_then(Pid::from_raw) {
                // If it has gone already, the wait ends at once.
                let _ = kill_process(pid, Signal::TERM);
            }
            match timeout(END_TIMEOUT, node.child.wait()).await {
                Ok(ended) => ended.map_err(BenchError::io("can't wait for the server's end"))?,
                Err(_elapsed) => {
                    let said = format!("it did not end within {END_TIMEOUT:?} of SIGTERM");
                    return Err(BenchError::Broken(said));
                }
            };
        }
        Ok(Some(data))
    }

    /// Kills it on the spot, and leaves its store; `None` if it is not ours.
    pub(super) async fn kill(self) -> Result<Option<Data>, BenchError> {
        let Some(Own { nodes, data }) = self.own else {
            return Ok(None);
        };
        for mut node in nodes {
            let killed = node.child.kill().await;
            killed.map_err(BenchError::io("can't kill the server"))?;
        }
        Ok(Some(data))
    }
}
