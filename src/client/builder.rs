//! What a client is made of: an address, whom to trust there, and what to show.

use std::{fmt, path::PathBuf};

use super::{
    Client, ClientError,
    channel::{self, Address},
    connect::Connector,
    credential::{ApiKey, Calls},
    tls::{TlsFiles, Verdict},
};

/// Makes a [`Client`]. From [`Client::builder`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it is asked to connect"]
pub struct ClientBuilder {
    address: String,
    files: TlsFiles,
    api_key: Option<String>,
    insecure: bool,
}

impl fmt::Debug for ClientBuilder {
    /// Without the credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("address", &self.address)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl ClientBuilder {
    pub(super) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            files: TlsFiles::default(),
            api_key: None,
            insecure: false,
        }
    }

    /// Trusts only servers for whom the certificates in this PEM file vouch, or whose own is among them; without it, those whom the system trusts.
    pub fn tls_ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.files.ca = Some(file.into());
        self
    }

    /// Shows this certificate to servers that ask for one; two PEM files. They are read anew for each connection.
    pub fn tls_identity(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.files.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Has this credential with each call.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Sends the credential even where others can read it: over `http://` to another machine.
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// Connects. The client reconnects by itself later on.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect_lazy`], or nothing that can be trusted answers within some seconds.
    pub async fn connect(self) -> Result<Client, ClientError> {
        let Parts {
            address,
            connector,
            api_key,
            verdict,
        } = self.parts()?;
        let connected = address.endpoint.connect_with_connector(connector.clone());
        let commands = connected.await.map_err(|source| ClientError::Connect {
            endpoint: address.endpoint.uri().to_string(),
            source,
        })?;
        let watches = address.endpoint.connect_with_connector_lazy(connector);
        Ok(Client {
            commands: Calls::new(commands, api_key.clone(), verdict.clone()),
            watches: Calls::new(watches, api_key, verdict),
        })
    }

    /// A client that connects with the first call. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The address is none of a server, a file can not be used, or the credential could be read on the way.
    pub fn connect_lazy(self) -> Result<Client, ClientError> {
        let Parts {
            address,
            connector,
            api_key,
            verdict,
        } = self.parts()?;
        let channel = |connector| address.endpoint.connect_with_connector_lazy(connector);
        Ok(Client {
            commands: Calls::new(channel(connector.clone()), api_key.clone(), verdict.clone()),
            watches: Calls::new(channel(connector), api_key, verdict),
        })
    }

    fn parts(self) -> Result<Parts, ClientError> {
        let Self {
            address: text,
            files,
            api_key,
            insecure,
        } = self;
        let address = channel::address(&text)?;
        let api_key = api_key.as_deref().map(ApiKey::new).transpose()?;
        if !address.is_tls && !files.is_empty() {
            return Err(ClientError::InvalidEndpoint {
                endpoint: text,
                reason: "certificates count only where it begins with https://".to_owned(),
            });
        }
        if api_key.is_some() && !address.is_tls && !address.is_local && !insecure {
            return Err(ClientError::Exposed { endpoint: text });
        }
        let tls = match address.is_tls {
            // They are read again later, but what is wrong now is told now.
            true => files.config().map(|_| Some(files))?,
            false => None,
        };
        let verdict = Verdict::default();
        Ok(Parts {
            address,
            connector: Connector::new(tls, verdict.clone()),
            api_key,
            verdict,
        })
    }
}

struct Parts {
    address: Address,
    connector: Connector,
    api_key: Option<ApiKey>,
    verdict: Verdict,
}
