//! `WorkerService`.

use std::time::Duration;

use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    accept,
    error::{self, answer},
    service::worker_service_server::WorkerService,
};
use crate::{
    api::{Api, Fault, OpenWork},
    domain::wording::Sentence,
    engine::{ToWorker, WorkSession, monotonic_now},
    locale::Language,
    proto::v1,
};

/// How long a stream may be open before the worker says who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers that may wait for a worker's stream to take them; beyond that its messages are not read.
const ANSWERS: usize = 64;
/// Messages from the engine that are sent as one.
const GATHERED: usize = 64;
/// A worker that is not heard for this many heartbeat intervals is not there, even if its connection is.
const SILENT_INTERVALS: u32 = 3;

/// Serves `WorkerService`.
pub struct Workers {
    api: Api,
    streams: tokio_util::task::TaskTracker,
}

impl Workers {
    /// On the API. Streams run as tasks of the tracker.
    pub fn new(api: Api, streams: tokio_util::task::TaskTracker) -> Self {
        Self { api, streams }
    }
}

#[tonic::async_trait]
impl WorkerService for Workers {
    type WorkStream = BoxStream<'static, Result<v1::WorkResponse, Status>>;

    async fn work(
        &self,
        request: Request<Streaming<v1::WorkRequest>>,
    ) -> Result<Response<Self::WorkStream>, Status> {
        let (caller, mut requests) = accept(request)?;
        let first = tokio::time::timeout(HELLO_TIMEOUT, requests.message())
            .await
            .map_err(|_elapsed| {
                let late = Sentence::plain("hello-late", "did not come in time");
                say(&Fault::bad_field("hello", late))
            })??
            .unwrap_or_default();
        let OpenWork {
            session,
            messages,
            greeting,
            rest,
        } = self
            .api
            .open_work(&caller, first)
            .await
            .map_err(|fault| say(&fault))?;
        let (outbox, answers) = mpsc::channel(ANSWERS);
        // The channel is new and has room.
        let _ = outbox.try_send(Ok(greeting));
        let inbound = Inbound {
            api: self.api.clone(),
            session,
            outbox,
        };
        self.streams.spawn(inbound.run(rest, requests, messages));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn acquire(
        &self,
        request: Request<v1::AcquireRequest>,
    ) -> Result<Response<v1::AcquireResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.acquire(&caller, request).await, caller.language)
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let (caller, request) = accept(request)?;
        answer(self.api.report(&caller, request).await, caller.language)
    }
}

/// One worker's stream: reads what it says, and passes on what the engine says.
struct Inbound {
    api: Api,
    session: WorkSession,
    outbox: mpsc::Sender<Result<v1::WorkResponse, Status>>,
}

impl Inbound {
    /// Ends when the worker ends its side, when its stream breaks, or after the server said that it goes.
    async fn run(
        self,
        rest: v1::WorkRequest,
        mut requests: Streaming<v1::WorkRequest>,
        mut messages: mpsc::Receiver<ToWorker>,
    ) {
        let mut said = Vec::with_capacity(GATHERED);
        let mut next = Ok(Some(rest));
        let mut silence = std::pin::pin!(tokio::time::sleep_until(self.deadline()));
        loop {
            match next {
                Ok(Some(request)) => {
                    let answer = match self.api.take_work(&self.session, request).await {
                        Ok(answer) => answer.map(Ok),
                        Err(fault) => Some(Err(say(&fault))),
                    };
                    if let Some(answer) = answer {
                        let failed = answer.is_err();
                        // If the stream is gone, so is whoever would read this, and the next read ends the session.
                        let _ = self.outbox.send(answer).await;
                        if failed {
                            return;
                        }
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    // A stream that broke has nobody who would read this; one with a bad message has.
                    let _ = self.outbox.send(Err(error::foreign(error))).await;
                    return;
                }
            }
            // Pass on what the engine says until the worker speaks again.
            next = loop {
                tokio::select! {
                    // A worker that sends without end must not keep its leases from being sent.
                    biased;
                    count = messages.recv_many(&mut said, GATHERED) => {
                        if count == 0 {
                            return;
                        }
                        let drain = said.iter().any(|m| matches!(m, ToWorker::Drain));
                        for response in self.api.gather_work(said.drain(..)) {
                            if self.outbox.send(Ok(response)).await.is_err() {
                                return;
                            }
                        }
                        if drain {
                            let _ = self.outbox.send(Err(say(&Fault::draining()))).await;
                            return;
                        }
                    }
                    message = requests.message() => {
                        silence.as_mut().reset(self.deadline());
                        break message;
                    }
                    () = silence.as_mut() => {
                        let _ = self.outbox.try_send(Err(say(&Fault::silent())));
                        return;
                    }
                    () = self.outbox.closed() => return,
                }
            };
        }
    }

    /// When a worker that says nothing more is taken for gone.
    fn deadline(&self) -> tokio::time::Instant {
        monotonic_now() + self.api.engine().settings().heartbeat_interval * SILENT_INTERVALS
    }
}

/// Workers' streams are read by programs.
fn say(fault: &Fault) -> Status {
    error::status(fault, Language::English)
}
