//! The client library: submit a job, follow it, wait for its end.
//!
//! Owns the connection to a server and what makes it dependable: request ids, retries, resuming a watch. Must not know the engine, the store or the
//! command line. Commands and watches have a channel each, so that a watch that nobody reads can not hold up a command.
//!
//! ```no_run
//! # async fn example(spec: longhaul::proto::v1::JobSpec) -> Result<(), longhaul::client::ClientError> {
//! use longhaul::{client::{Client, WatchOptions, WatchUpdate}, proto::v1};
//!
//! let client = Client::connect("http://127.0.0.1:7070").await?;
//! let request = v1::SubmitRequest { job: Some(spec), ..Default::default() };
//! let job = client.submit(request).await?.job.unwrap_or_default();
//! let mut watch = client.watch(&job.id, WatchOptions::default());
//! while let Some(update) = watch.next().await {
//!     if let WatchUpdate::Snapshot { job, is_final, .. } = update? {
//!         println!("{} {}", job.status_detail, if is_final { "the end" } else { "" });
//!     }
//! }
//! # Ok(()) }
//! ```

mod audit;
mod backoff;
mod builder;
mod channel;
pub(crate) mod clock;
mod connect;
mod credential;
mod error;
mod position;
#[cfg(test)]
pub(crate) mod scripted;
mod tls;
mod watch;

use std::time::Duration;

pub use audit::{AuditOptions, AuditUpdate, AuditWatch};
pub(crate) use backoff::Backoff;
pub use builder::ClientBuilder;
pub use credential::Calls;
pub use error::ClientError;
pub use tls::TlsError;
pub use watch::{Watch, WatchOptions, WatchUpdate};

use crate::proto::v1::{
    self, admin_service_client::AdminServiceClient, job_service_client::JobServiceClient,
    worker_service_client::WorkerServiceClient,
};

/// Bytes of the largest answer that is read: a page of 1,000 jobs, or one job of a thousand tasks with their payloads, stays well below.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How often a submission is repeated when the server can not be reached: with the pauses between them about 30 s, enough for a restart.
const SUBMIT_RETRIES: usize = 10;
/// How long one `Wait` call may take; short enough for proxies that cut calls off after a minute.
const WAIT_CALL: Duration = Duration::from_secs(30);
/// How much longer than [`WAIT_CALL`] an answer may take before the call counts as lost.
const WAIT_CALL_MARGIN: Duration = Duration::from_secs(10);

/// A connection to a server. Cheap to clone; the clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    commands: Calls,
    watches: Calls,
}

impl Client {
    /// What connects to the server at `endpoint`, such as `https://jobs.example.com:7070`, with more than an address.
    pub fn builder(endpoint: &str) -> ClientBuilder {
        ClientBuilder::new(endpoint)
    }

    /// Connects to the server at `endpoint`, such as `http://127.0.0.1:7070`. Reconnects by itself later on.
    ///
    /// # Errors
    /// The endpoint is not a URL of a server, or nothing that can be trusted answers there within some seconds.
    pub async fn connect(endpoint: &str) -> Result<Self, ClientError> {
        Self::builder(endpoint).connect().await
    }

    /// As [`Client::connect`], but connects with the first call. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The endpoint is not a URL of a server.
    pub fn connect_lazy(endpoint: &str) -> Result<Self, ClientError> {
        Self::builder(endpoint).connect_lazy()
    }

    /// The generated client of `JobService`, on the channel for commands.
    pub fn jobs(&self) -> JobServiceClient<Calls> {
        JobServiceClient::new(self.commands.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The generated client of `WorkerService`, on the channel for commands.
    pub fn workers(&self) -> WorkerServiceClient<Calls> {
        WorkerServiceClient::new(self.commands.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The generated client of `AdminService`, on the channel for commands.
    pub fn admin(&self) -> AdminServiceClient<Calls> {
        AdminServiceClient::new(self.commands.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Stores a job. A request without a `request_id` gets one, so that repeating it is safe; while the server is unavailable it is repeated with the
    /// same id for about half a minute.
    ///
    /// # Errors
    /// What the server refused, or why it could not be reached. In the latter case the job may be stored all the same.
    pub async fn submit(
        &self,
        mut request: v1::SubmitRequest,
    ) -> Result<v1::SubmitResponse, ClientError> {
        if request.request_id.is_empty() {
            request.request_id = uuid::Uuid::now_v7().to_string();
        }
        let mut backoff = Backoff::default();
        for _ in 0..SUBMIT_RETRIES {
            match self.jobs().submit(request.clone()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => {
                    let error = ClientError::from(status);
                    if !error.is_retryable() {
                        return Err(error);
                    }
                    tokio::time::sleep(backoff.pause_after(&error)).await;
                }
            }
        }
        Ok(self.jobs().submit(request).await?.into_inner())
    }

    /// Follows a job to its end, through disconnects and restarts of the server.
    pub fn watch(&self, job_id: &str, options: WatchOptions) -> Watch {
        let jobs =
            JobServiceClient::new(self.watches.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        Watch::new(jobs, job_id, options)
    }

    /// Follows the audit log, through disconnects and restarts of the server.
    pub fn watch_audit(&self, options: AuditOptions) -> AuditWatch {
        let service = AdminServiceClient::new(self.watches.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES);
        AuditWatch::new(service, options)
    }

    /// Waits until the job is terminal, for as long as that takes, through disconnects and restarts of the server.
    ///
    /// # Errors
    /// What repeating the call can not mend, such as a job that does not exist.
    pub async fn wait(&self, job_id: &str) -> Result<v1::Job, ClientError> {
        let mut jobs =
            JobServiceClient::new(self.watches.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        let mut backoff = Backoff::default();
        loop {
            let mut request = tonic::Request::new(v1::WaitRequest {
                job_id: job_id.to_owned(),
                after_revision: None,
                timeout: prost_types::Duration::try_from(WAIT_CALL).ok(),
                view: v1::View::Unspecified.into(),
            });
            request.set_timeout(WAIT_CALL + WAIT_CALL_MARGIN);
            match jobs.wait(request).await {
                Ok(response) => {
                    backoff.reset();
                    let v1::WaitResponse { job, timed_out } = response.into_inner();
                    if !timed_out {
                        return job
                            .ok_or(ClientError::Malformed("an answer to Wait without a job"));
                    }
                }
                Err(status) => {
                    let error = ClientError::from(status);
                    if !error.is_retryable() {
                        return Err(error);
                    }
                    tokio::time::sleep(backoff.pause_after(&error)).await;
                }
            }
        }
    }
}
