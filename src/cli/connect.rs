//! The way to the server: its address, and failures with the address in them.

use clap::Args;
use longhaul::client::{Client, ClientError};
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
    #[command(flatten)]
    log: LogArgs,
}

impl ConnectArgs {
    /// Connects, and starts a log that only tells what needs attention.
    ///
    /// # Errors
    /// There is no server at the address.
    pub async fn connect(&self) -> Result<Server, Failure> {
        self.log.start(LogLevel::quiet());
        let client = Client::connect(&self.endpoint)
            .await
            .map_err(|error| Failure::from_client(&error, &self.endpoint))?;
        Ok(Server::new(client, &self.endpoint))
    }

    /// A client that connects when it is used and keeps trying, and a log of this level.
    ///
    /// # Errors
    /// The address is none.
    pub fn connect_lazily(&self, level: LogLevel) -> Result<Server, Failure> {
        self.log.start(level);
        let client = Client::connect_lazy(&self.endpoint)
            .map_err(|error| Failure::from_client(&error, &self.endpoint))?;
        Ok(Server::new(client, &self.endpoint))
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
