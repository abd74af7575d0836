//! The conversation with the server: one `Work` stream after another, for ever.
//!
//! Owns the stream and the reconnects; what is said comes from the ledger.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{WorkerError, crew::Crew, desk::Desk};
use crate::{
    client::{Backoff, Calls, ClientError, clock},
    proto::v1::{WorkRequest, WorkResponse, directive, worker_service_client::WorkerServiceClient},
};

/// How long the server may take to answer a hello.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer to a report may take before the connection counts as dead: as long as a group commit on a struggling disk, and well below the
/// lease.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a worker stays with a server that is about to go, to get answers to what it has reported.
const FAREWELL: Duration = Duration::from_secs(2);
/// Messages between the ledger and the stream. One, so that what waits is gathered into the next message.
const OUTBOUND_MESSAGES: usize = 1;

/// See the module.
pub(super) struct Session<'a> {
    pub(super) service: WorkerServiceClient<Calls>,
    pub(super) name: &'a str,
    pub(super) drivers: &'a [String],
    pub(super) desk: Arc<Desk>,
    pub(super) crew: Crew,
}

/// Why a stream ended that had been welcomed.
enum Ended {
    /// The server asked to connect again.
    Drained,
    /// The stream broke.
    Broken(ClientError),
}

impl Session<'_> {
    /// Talks with the server, for ever.
    ///
    /// # Errors
    /// The server refused the first hello, and would refuse the same hello again.
    pub(super) async fn keep(mut self) -> Result<std::convert::Infallible, WorkerError> {
        let mut backoff = Backoff::default();
        let mut known = false;
        loop {
            let pause = match self.open().await {
                Ok((outbound, inbound, welcome)) => {
                    tracing::info!("connected; waiting for tasks");
                    known = true;
                    backoff.reset();
                    match self.converse(outbound, inbound, welcome).await {
                        Ended::Drained => {
                            tracing::info!("the server is about to go; connecting again");
                            backoff.pause()
                        }
                        Ended::Broken(error) => pause_after(&mut backoff, &error),
                    }
                }
                Err(error) if !known && !error.is_retryable() => {
                    return Err(WorkerError::Refused(error));
                }
                Err(error) => pause_after(&mut backoff, &error),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Says hello and waits for the welcome.
    async fn open(
        &mut self,
    ) -> Result<
        (
            mpsc::Sender<WorkRequest>,
            Streaming<WorkResponse>,
            WorkResponse,
        ),
        ClientError,
    > {
        let (outbound, messages) = mpsc::channel(OUTBOUND_MESSAGES);
        let hello = self
            .desk
            .ledger()
            .hello(self.name, self.drivers, clock::now());
        // The channel is new and has room for one.
        let _ = outbound.try_send(hello);
        let welcome = async {
            let mut inbound = self
                .service
                .work(ReceiverStream::new(messages))
                .await?
                .into_inner();
            let welcome = inbound.message().await?.ok_or(ClientError::EndedEarly)?;
            Ok((inbound, welcome))
        };
        let (inbound, welcome) = timeout(WELCOME_TIMEOUT, welcome)
            .await
            .unwrap_or(Err(ClientError::Silent(WELCOME_TIMEOUT)))?;
        if let Some(interval) = welcome
            .heartbeat_interval
            .and_then(|interval| interval.try_into().ok())
        {
            self.desk.ledger().set_heartbeat_interval(interval);
        }
        Ok((outbound, inbound, welcome))
    }

    /// Sends what the ledger has to say and takes in what the server says, until one of them ends it.
    async fn converse(
        &mut self,
        outbound: mpsc::Sender<WorkRequest>,
        mut inbound: Streaming<WorkResponse>,
        welcome: WorkResponse,
    ) -> Ended {
        let mut leave_at = match self.receive(welcome) {
            Ok(drain) => drain,
            Err(error) => return Ended::Broken(error),
        };
        loop {
            let (has_message, next_due, answer_due) = {
                let ledger = self.desk.ledger();
                if leave_at.is_some_and(|at| at <= clock::now() || ledger.is_quiet()) {
                    return Ended::Drained;
                }
                let answer_due = ledger
                    .unanswered_since()
                    .map(|since| since + ANSWER_TIMEOUT);
                (
                    ledger.has_message(clock::now()),
                    ledger.next_due(),
                    answer_due,
                )
            };
            tokio::select! {
                permit = outbound.reserve(), if has_message && !outbound.is_closed() => {
                    let message = self.desk.ledger().next_message(clock::now());
                    if let (Ok(permit), Some(message)) = (permit, message) {
                        permit.send(message);
                    }
                }
                received = inbound.message() => match received {
                    Ok(Some(message)) => match self.receive(message) {
                        Ok(drain) => leave_at = leave_at.or(drain),
                        Err(error) => return Ended::Broken(error),
                    },
                    Ok(None) => return Ended::Broken(ClientError::EndedEarly),
                    Err(status) => return Ended::Broken(status.into()),
                },
                () = self.desk.news() => {}
                () = sleep_until(next_due), if !has_message => {}
                () = sleep_until(leave_at.unwrap_or(next_due)), if leave_at.is_some() => {}
                () = sleep_until(answer_due.unwrap_or(next_due)), if answer_due.is_some() => {
                    return Ended::Broken(ClientError::Silent(ANSWER_TIMEOUT));
                }
            }
        }
    }

    /// Takes a message in. If the server is about to go: until when to stay.
    fn receive(&mut self, message: WorkResponse) -> Result<Option<Instant>, ClientError> {
        let WorkResponse {
            leases,
            results,
            directives,
            heartbeat_interval: _,
        } = message;
        for result in results {
            self.desk.answer(result)?;
        }
        for lease in leases {
            self.crew.start(lease);
        }
        let mut leave_at = None;
        for directive in directives {
            if directive.r#type() == directive::Type::Drain {
                leave_at = Some(clock::now() + FAREWELL);
            }
            self.desk.follow(directive);
        }
        Ok(leave_at)
    }
}

fn pause_after(backoff: &mut Backoff, error: &ClientError) -> Duration {
    let pause = backoff.pause_after(error);
    tracing::warn!(%error, ?pause, "not connected to the server; trying again");
    pause
}
