//! The public keys of the issuer of tokens, from a file or from where the issuer publishes them.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jsonwebtoken::jwk::JwkSet;

use super::{
    AuthError,
    jwt::{self, JwtSettings, Told},
};
use crate::domain::Timestamp;

/// How often the keys are read again.
const REFRESH: Duration = Duration::from_secs(300);
/// How often they are at the most, when a token names a key that is not there, or they could not be read.
const RETRY: Duration = Duration::from_secs(10);
/// How long the issuer may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a set of keys.
const MAX_BYTES: usize = 1024 * 1024;

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file of this machine.
    File(PathBuf),
    /// Where the issuer publishes them.
    Url(Uri),
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file can not be read.
    #[error("the keys of the issuer can not be read from {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The issuer does not answer.
    #[error("the keys of the issuer can not be had from {url}: {reason}")]
    Fetch {
        /// Where.
        url: Uri,
        /// Why.
        reason: String,
    },
    /// It is no set of keys.
    #[error("what should be the keys of the issuer is no JSON Web Key Set: {0}")]
    NoKeys(#[from] serde_json::Error),
    /// The system's certificates can not be read.
    #[error("the certificates that this system trusts can not be read: {0}")]
    Roots(std::io::Error),
}

/// Whose tokens are good, and the keys to see it by.
pub(super) struct Issuer {
    settings: JwtSettings,
    source: KeySource,
    client: Option<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>>,
    keys: ArcSwapOption<JwkSet>,
    looked: Mutex<Option<Timestamp>>,
}

impl Issuer {
    /// Reads a file at once; what is published elsewhere is read when it is first needed, for the issuer may start after us.
    pub(super) async fn new(settings: JwtSettings, source: KeySource) -> Result<Self, KeysError> {
        let client = match &source {
            KeySource::File(_) => None,
            KeySource::Url(_) => {
                let connector = HttpsConnectorBuilder::new()
                    .with_native_roots()
                    .map_err(KeysError::Roots)?
                    .https_or_http()
                    .enable_http1()
                    .build();
                Some(Client::builder(TokioExecutor::new()).build(connector))
            }
        };
        let issuer = Self {
            settings,
            source,
            client,
            keys: ArcSwapOption::empty(),
            looked: Mutex::new(None),
        };
        if let KeySource::File(_) = issuer.source {
            issuer.keys.store(Some(Arc::new(issuer.read().await?)));
        }
        Ok(issuer)
    }

    /// Who has a token.
    pub(super) async fn verify(&self, token: &str, now: Timestamp) -> Result<Told, AuthError> {
        if self.keys.load().is_none() {
            self.refresh(now, RETRY).await;
        }
        let told = self.try_verify(token, now);
        if let Err(AuthError::Invalid) = told
            && self.refresh(now, RETRY).await
        {
            // The issuer may have begun to sign with another key.
            return self.try_verify(token, now);
        }
        told
    }

    fn try_verify(&self, token: &str, now: Timestamp) -> Result<Told, AuthError> {
        match &*self.keys.load() {
            Some(keys) => jwt::verify(token, keys, &self.settings, now),
            None => Err(AuthError::Unavailable(
                "the keys of the issuer of tokens could not be read yet".into(),
            )),
        }
    }

    /// Whether the issuer still has the key that a token was signed with.
    pub(super) fn has(&self, key: Option<&str>) -> bool {
        match (key, &*self.keys.load()) {
            (Some(key), Some(keys)) => keys.find(key).is_some(),
            (None, _) | (_, None) => true,
        }
    }

    /// Reads the keys again if that was not done for a while.
    pub(super) async fn keep(&self, now: Timestamp) {
        self.refresh(now, REFRESH).await;
    }

    /// Whether they were read. If they can not be, those that are known stay good.
    async fn refresh(&self, now: Timestamp, pause: Duration) -> bool {
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.is_some_and(|looked| now.since(looked) < pause) {
                return false;
            }
            *looked = Some(now);
        }
        match self.read().await {
            Ok(keys) => {
                self.keys.store(Some(Arc::new(keys)));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the keys of the issuer of tokens stay as they were");
                false
            }
        }
    }

    async fn read(&self) -> Result<JwkSet, KeysError> {
        let text = match (&self.source, &self.client) {
            (KeySource::Url(url), Some(client)) => {
                let failed = |reason: String| KeysError::Fetch {
                    url: url.clone(),
                    reason,
                };
                let fetched = async {
                    let response = client.get(url.clone()).await;
                    let response = response.map_err(|error| failed(error.to_string()))?;
                    if !response.status().is_success() {
                        return Err(failed(format!("it answers {}", response.status())));
                    }
                    let body = Limited::new(response.into_body(), MAX_BYTES)
                        .collect()
                        .await;
                    body.map(|body| body.to_bytes().to_vec())
                        .map_err(|error| failed(error.to_string()))
                };
                let fetched = tokio::time::timeout(TIMEOUT, fetched).await;
                fetched.map_err(|_| failed("it does not answer".into()))??
            }
            (KeySource::File(path), _) => {
                let text = tokio::fs::read(path).await;
                text.map_err(|source| KeysError::Read {
                    path: path.clone(),
                    source,
                })?
            }
            (KeySource::Url(url), None) => {
                return Err(KeysError::Fetch {
                    url: url.clone(),
                    reason: "there is no client for it".into(),
                });
            }
        };
        Ok(serde_json::from_slice(&text)?)
    }
}
