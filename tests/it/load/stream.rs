//! A worker on a bare `Work` stream, who writes down which of its reports the server accepted: the library's worker keeps that to itself.
//!
//! Like a rival it reports on every lease until it is told whether that counted, on one stream after another, and some reports it makes too late.

use std::time::Duration;

use bytes::Bytes;
use longhaul::{
    client::ClientError,
    proto::v1::{
        Failure, Lease, ReportResult, Success, TaskReport, WorkRequest, WorkResponse, WorkerHello,
        task_report::Report,
    },
};
use rand::{RngExt as _, rngs::StdRng};
use tokio::{
    pin,
    sync::mpsc,
    time::{interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::{
    CALL, PAUSE, Slip, Stage, answer,
    history::{Fact, Hold},
    hold,
    jobs::STEADY,
};

/// What the names of these workers begin with.
pub const NAME: &str = "stream";
/// Leases that each wants to hold.
const SLOTS: u32 = 2;
/// Messages that may wait for the connection.
const OUTBOUND: usize = 16;

/// A lease of which the server has not said yet whether its end counts.
pub struct Held {
    lease_token: Bytes,
    hold: Hold,
    succeeded: bool,
    /// Its worker takes his time.
    is_late: bool,
}

impl Held {
    pub fn new(lease: &Lease, hold: Hold, succeeded: bool) -> Self {
        Self {
            lease_token: lease.lease_token.clone(),
            hold,
            succeeded,
            is_late: false,
        }
    }

    fn report(&self) -> TaskReport {
        TaskReport {
            lease_token: self.lease_token.clone(),
            report: Some(match self.succeeded {
                true => Report::Success(Success::default()),
                false => Report::Failure(Failure {
                    message: "by the seed".to_owned(),
                    ..Failure::default()
                }),
            }),
        }
    }
}

impl Stage {
    /// A worker on one stream after another.
    pub(super) async fn streamer(self, number: usize, stop: CancellationToken) {
        let rng = self.rng(NAME, number);
        let name = format!("{NAME}-{number}");
        let worker = StreamWorker::new(self, name, rng, Vec::new());
        worker.work(&stop).await;
    }

    /// Ends attempts over a stream, in this order, and notes of each whether that counted.
    pub async fn complete_on_stream(&self, held: Vec<Held>) {
        let stop = CancellationToken::new();
        stop.cancel();
        let rng = self.rng(NAME, 0);
        let worker = StreamWorker::new(self.clone(), NAME.to_owned(), rng, held);
        worker.work(&stop).await;
    }
}

struct StreamWorker {
    stage: Stage,
    name: String,
    rng: StdRng,
    held: Vec<Held>,
    /// Leases that have come so far.
    leases: usize,
}

/// To the server.
type Requests = mpsc::Sender<WorkRequest>;

impl StreamWorker {
    fn new(stage: Stage, name: String, rng: StdRng, held: Vec<Held>) -> Self {
        Self {
            stage,
            name,
            rng,
            held,
            leases: 0,
        }
    }

    /// Until it is to stop and has been told of everything.
    async fn work(mut self, stop: &CancellationToken) {
        while !self.is_done(stop) {
            if let Err(error) = self.converse(stop).await {
                assert!(error.is_retryable(), "{error}");
            }
            sleep(PAUSE).await;
        }
    }

    fn is_done(&self, stop: &CancellationToken) -> bool {
        stop.is_cancelled() && self.held.is_empty()
    }

    /// One stream, until it breaks or all is done.
    async fn converse(&mut self, stop: &CancellationToken) -> Result<(), ClientError> {
        let (requests, outbound) = mpsc::channel(OUTBOUND);
        send(&requests, self.hello(stop)).await?;
        let mut workers = self.stage.front.workers();
        let mut responses = answer(workers.work(ReceiverStream::new(outbound))).await?;
        let welcome = timeout(CALL, next(&mut responses)).await;
        let welcome = welcome.map_err(|_| ClientError::Silent(CALL))??;
        let every = welcome.heartbeat_interval.unwrap().try_into().unwrap();
        let mut beat = interval(every);
        // What was not answered on the last one, and at the latest now.
        let reports = self.held.iter_mut().map(|held| {
            held.is_late = false;
            held.report()
        });
        let again = WorkRequest {
            reports: reports.collect(),
            ..WorkRequest::default()
        };
        send(&requests, again).await?;
        self.take_in(welcome, &requests).await?;
        let silence = sleep(CALL);
        pin!(silence);
        while !self.is_done(stop) {
            tokio::select! {
                message = next(&mut responses) => {
                    silence.set(sleep(CALL));
                    self.take_in(message?, &requests).await?;
                }
                // It must be heard, lease or no lease.
                _ = beat.tick() => self.be_heard(&requests, stop).await?,
                () = &mut silence, if !self.held.is_empty() => return Err(ClientError::Silent(CALL)),
            }
        }
        Ok(())
    }

    fn hello(&self, stop: &CancellationToken) -> WorkRequest {
        let held = self.held.iter().map(|held| held.lease_token.clone());
        WorkRequest {
            hello: Some(WorkerHello {
                name: self.name.clone(),
                drivers: vec![STEADY.to_owned()],
                slots: slots(stop),
                held: held.collect(),
            }),
            ..WorkRequest::default()
        }
    }

    async fn be_heard(
        &mut self,
        requests: &Requests,
        stop: &CancellationToken,
    ) -> Result<(), ClientError> {
        let mut reports = Vec::new();
        for late in self.held.iter_mut().filter(|held| held.is_late) {
            if stop.is_cancelled() || self.rng.random_ratio(1, 4) {
                late.is_late = false;
                reports.push(late.report());
            }
        }
        let request = WorkRequest {
            reports,
            slots: Some(slots(stop)),
            ..WorkRequest::default()
        };
        send(requests, request).await
    }

    async fn take_in(
        &mut self,
        message: WorkResponse,
        requests: &Requests,
    ) -> Result<(), ClientError> {
        // Directives are for the others: whether a lease was lost, the answer to a report says.
        for result in message.results {
            self.answered(result)?;
        }
        let (mut acknowledge, mut reports) = (Vec::new(), Vec::new());
        for lease in message.leases {
            let token = &lease.lease_token;
            acknowledge.push(token.clone());
            if self.held.iter().any(|held| held.lease_token == *token) {
                continue;
            }
            let hold = hold(&lease, &format!("{}/{}", self.name, self.leases));
            self.leases += 1;
            self.stage.history.note(Fact::Leased(hold.clone()));
            let mut held = Held::new(&lease, hold, !self.rng.random_ratio(1, 10));
            held.is_late = self.rng.random_ratio(1, 12);
            if !held.is_late {
                reports.push(held.report());
            }
            self.held.push(held);
        }
        if acknowledge.is_empty() {
            return Ok(());
        }
        sleep(Duration::from_millis(self.rng.random_range(0..15))).await;
        let request = WorkRequest {
            acknowledge,
            reports,
            ..WorkRequest::default()
        };
        send(requests, request).await
    }

    /// Notes whether a report counted, unless the server can not say yet: then it is made again on another stream.
    fn answered(&mut self, result: ReportResult) -> Result<(), ClientError> {
        let is_it = |held: &Held| held.lease_token == result.lease_token;
        let at = self.held.iter().position(is_it);
        let at = at.expect("an answer to a report that was made");
        let accepted = match result.error {
            None => true,
            Some(error) if error.code == Code::FailedPrecondition as i32 => {
                self.stage.slips(Slip::IgnoresRefusals)
            }
            Some(error) => {
                assert_eq!(error.code, Code::Unavailable as i32, "{error:?}");
                return Err(Status::unavailable(error.message).into());
            }
        };
        let Held {
            hold, succeeded, ..
        } = self.held.remove(at);
        self.stage.history.note(match accepted {
            true => Fact::Completed { hold, succeeded },
            false => Fact::Refused(hold),
        });
        Ok(())
    }
}

fn slots(stop: &CancellationToken) -> u32 {
    match stop.is_cancelled() {
        true => 0,
        false => SLOTS,
    }
}

/// A stream that takes nothing more has ended; how, its other half says to whoever reads on. Here it is enough that it did.
async fn send(requests: &Requests, request: WorkRequest) -> Result<(), ClientError> {
    match timeout(CALL, requests.send(request)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(ClientError::Silent(CALL)),
    }
}

async fn next(responses: &mut Streaming<WorkResponse>) -> Result<WorkResponse, ClientError> {
    responses.message().await?.ok_or(ClientError::EndedEarly)
}
