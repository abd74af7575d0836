//! The way to the server: its address, and failures with the address in them.

use std::{convert::Infallible, fmt, fs, path::PathBuf, str::FromStr};

use clap::Args;
use longhaul::client::{Client, ClientBuilder, ClientError};
use tonic::{Response, Status};

use super::{
    exit::Failure,
    logging::{LogArgs, LogLevel},
};

/// The flags of every command that talks to a server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server and log")]
pub struct ConnectArgs {
    /// Server to talk to
    #[arg(
        long,
        value_name = "URL",
        env = "LONGHAUL_ENDPOINT",
        default_value = "http://127.0.0.1:7070"
    )]
    endpoint: String,
    /// PEM file with the certificate of the server's authority, or with its own [default: those that the system trusts]
    #[arg(long, value_name = "FILE", env = "LONGHAUL_TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// PEM file with a certificate to show to the server
    #[arg(
        long,
        value_name = "FILE",
        env = "LONGHAUL_TLS_CLIENT_CERT",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// PEM file with the key of the certificate
    #[arg(
        long,
        value_name = "FILE",
        env = "LONGHAUL_TLS_CLIENT_KEY",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    /// Credential for each call; others on this machine can read what stands on the command line
    #[arg(
        long,
        value_name = "KEY",
        env = "LONGHAUL_API_KEY",
        hide_env_values = true,
        conflicts_with = "api_key_file"
    )]
    api_key: Option<Secret>,
    /// File whose first line is the credential
    #[arg(long, value_name = "FILE", env = "LONGHAUL_API_KEY_FILE")]
    api_key_file: Option<PathBuf>,
    /// Send the credential to other machines over http:// as well, where everybody on the way can read it
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    log: LogArgs,
}

/// What is not shown.
#[derive(Clone)]
struct Secret(String);

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl ConnectArgs {
    /// Connects, and starts a log that only tells what needs attention.
    ///
    /// # Errors
    /// There is no server at the address.
    pub async fn connect(&self) -> Result<Server, Failure> {
        self.log.start(LogLevel::quiet());
        let client = self.builder()?.connect().await;
        let client = client.map_err(|error| Failure::from_client(&error, &self.endpoint))?;
        Ok(Server::new(client, &self.endpoint))
    }

    /// A client that connects when it is used and keeps trying, and a log of this level.
    ///
    /// # Errors
    /// The address is none.
    pub fn connect_lazily(&self, level: LogLevel) -> Result<Server, Failure> {
        self.log.start(level);
        let client = self.builder()?.connect_lazy();
        let client = client.map_err(|error| Failure::from_client(&error, &self.endpoint))?;
        Ok(Server::new(client, &self.endpoint))
    }

    fn builder(&self) -> Result<ClientBuilder, Failure> {
        let mut builder = Client::builder(&self.endpoint).insecure(self.insecure);
        if let Some(file) = &self.tls_ca {
            builder = builder.tls_ca(file);
        }
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            builder = builder.tls_identity(certificate, key);
        }
        if let Some(key) = self.api_key()? {
            builder = builder.api_key(key);
        }
        Ok(builder)
    }

    fn api_key(&self) -> Result<Option<String>, Failure> {
        let Some(file) = &self.api_key_file else {
            return Ok(self.api_key.as_ref().map(|key| key.0.clone()));
        };
        let text = fs::read_to_string(file).map_err(|error| {
            Failure::usage(format!(
                "can't read the API key from {}: {error}",
                file.display()
            ))
        })?;
        let line = text.lines().next().unwrap_or_default();
        Ok(Some(line.trim().to_owned()))
    }
}

/// A server to talk to.
pub struct Server {
    /// The client.
    pub client: Client,
    endpoint: String,
}

impl Server {
    /// The server at an address that `client` is made for.
    pub fn new(client: Client, endpoint: &str) -> Self {
        Self {
            client,
            endpoint: endpoint.to_owned(),
        }
    }

    /// What a call was answered.
    ///
    /// # Errors
    /// The server refused, or is gone.
    pub fn answer<M>(&self, answer: Result<Response<M>, Status>) -> Result<M, Failure> {
        match answer {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(self.failure(ClientError::from(status))),
        }
    }

    /// A client error as a failure: for `map_err`.
    pub fn failure(&self, error: ClientError) -> Failure {
        Failure::from_client(&error, &self.endpoint)
    }
}

/// What the answer must hold by contract. A server that breaks it is told on rather than trusted.
///
/// # Errors
/// It is not there.
pub fn required<T>(part: Option<T>, name: &str) -> Result<T, Failure> {
    part.ok_or_else(|| {
        Failure::new(
            super::exit::Exit::Failed,
            format!(
                "the server's answer has no {name}; is it of another version? longhaul info says"
            ),
        )
    })
}
