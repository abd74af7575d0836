//! A worker that does nothing, as fast as it can: the bare `Work` stream.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::BenchError;
use crate::{
    client::Client,
    proto::v1::{
        Lease, Progress, ProgressReport, Success, TaskReport, WorkRequest, WorkResponse,
        WorkerHello, task_report::Report,
    },
};

/// Reports in a message that the server accepts.
const MAX_REPORTS: usize = 1_000;
/// Messages that may wait for the connection.
const OUTBOUND: usize = 16;

/// One stream.
pub(super) struct WorkStream {
    requests: mpsc::Sender<WorkRequest>,
    responses: Streaming<WorkResponse>,
}

impl WorkStream {
    /// Says hello, and waits for the welcome.
    pub(super) async fn open(
        client: &Client,
        driver: &str,
        slots: u32,
    ) -> Result<Self, BenchError> {
        let (requests, outbound) = mpsc::channel(OUTBOUND);
        let hello = WorkRequest {
            hello: Some(WorkerHello {
                name: "bench".to_owned(),
                drivers: vec![driver.to_owned()],
                slots,
                held: Vec::new(),
            }),
            ..WorkRequest::default()
        };
        // The channel is new and has room.
        let _ = requests.try_send(hello);
        let answer = client.workers().work(ReceiverStream::new(outbound)).await?;
        let mut stream = Self {
            requests,
            responses: answer.into_inner(),
        };
        stream.next().await?;
        Ok(stream)
    }

    /// The next leases; messages without any are read over, but for refusals.
    pub(super) async fn leases(&mut self) -> Result<Vec<Lease>, BenchError> {
        loop {
            let message = self.next().await?;
            if !message.leases.is_empty() {
                return Ok(message.leases);
            }
        }
    }

    /// Reports that these are done, in as few messages as are accepted.
    pub(super) async fn complete(&self, leases: Vec<Lease>) -> Result<(), BenchError> {
        let done = |lease: Lease| TaskReport {
            lease_token: lease.lease_token,
            report: Some(Report::Success(Success::default())),
        };
        self.report(leases.into_iter().map(done).collect()).await
    }

    async fn report(&self, mut reports: Vec<TaskReport>) -> Result<(), BenchError> {
        while !reports.is_empty() {
            let rest = reports.split_off(reports.len().min(MAX_REPORTS));
            let request = WorkRequest {
                reports,
                ..WorkRequest::default()
            };
            let sent = self.requests.send(request).await;
            sent.map_err(|_| BenchError::Broken("it ended a Work stream".to_owned()))?;
            reports = rest;
        }
        Ok(())
    }

    /// Reports that each of these has got to this step.
    pub(super) async fn progress(&self, leases: &[Lease], step: i64) -> Result<(), BenchError> {
        let on = |lease: &Lease| TaskReport {
            lease_token: lease.lease_token.clone(),
            report: Some(Report::Progress(ProgressReport {
                progress: Some(Progress {
                    done: step,
                    ..Progress::default()
                }),
                ..ProgressReport::default()
            })),
        };
        self.report(leases.iter().map(on).collect()).await
    }

    /// Completes whatever comes, for ever.
    pub(super) async fn complete_all(mut self) -> Result<(), BenchError> {
        loop {
            let leases = self.leases().await?;
            self.complete(leases).await?;
        }
    }

    /// The next message; a refused report is an error.
    pub(super) async fn next(&mut self) -> Result<WorkResponse, BenchError> {
        let message = self.responses.message().await?;
        let message =
            message.ok_or_else(|| BenchError::Broken("it ended a Work stream".to_owned()))?;
        match message.results.iter().find_map(|r| r.error.as_ref()) {
            None => Ok(message),
            Some(error) => Err(BenchError::Broken(format!(
                "a report was refused: {}",
                error.message
            ))),
        }
    }
}
