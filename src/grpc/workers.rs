//! `WorkerService`.

use std::{sync::Arc, time::Duration};

use futures_util::stream::BoxStream;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    admit::Fields,
    error::{self, status},
    lease, render,
    service::worker_service_server::WorkerService,
};
use crate::{
    domain::{
        LeaseKey,
        command::{Refusal, Report, Reported},
        limits::{MAX_ACQUIRE, MAX_DRIVERS, MAX_NAME_BYTES, MAX_REPORTS, MAX_SLOTS},
        submission::{Violation, is_driver},
    },
    engine::{Engine, Hello, ToWorker, WorkSession, monotonic_now},
    proto::v1,
};

/// The longest wait of an Acquire.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// How long a stream may be open before the worker says who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers that may wait for a worker's stream to take them; beyond that its messages are not read.
const ANSWERS: usize = 64;
/// Messages from the engine that are sent as one.
const GATHERED: usize = 64;
/// Bytes of leases that are sent as one message, unless one alone is larger: clients take 4 MiB by default.
const MAX_GATHERED_BYTES: usize = 2 * 1024 * 1024;
/// A worker that is not heard for this many heartbeat intervals is not there, even if its connection is.
const SILENT_INTERVALS: u32 = 3;

/// Serves `WorkerService`.
pub struct Workers {
    engine: Engine,
    streams: tokio_util::task::TaskTracker,
}

impl Workers {
    /// On an engine. Streams run as tasks of the tracker.
    pub fn new(engine: Engine, streams: tokio_util::task::TaskTracker) -> Self {
        Self { engine, streams }
    }
}

#[tonic::async_trait]
impl WorkerService for Workers {
    type WorkStream = BoxStream<'static, Result<v1::WorkResponse, Status>>;

    async fn work(
        &self,
        request: Request<Streaming<v1::WorkRequest>>,
    ) -> Result<Response<Self::WorkStream>, Status> {
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, requests.message())
            .await
            .map_err(|_elapsed| error::bad_field("hello", "did not come in time"))??
            .unwrap_or_default();
        let (hello, rest) = read_hello(&self.engine, first)?;
        let (session, messages) = self.engine.work(hello).await.map_err(status)?;
        let (outbox, answers) = mpsc::channel(ANSWERS);
        let greeting = v1::WorkResponse {
            heartbeat_interval: Some(render::span(self.engine.settings().heartbeat_interval)),
            ..v1::WorkResponse::default()
        };
        // The channel is new and has room.
        let _ = outbox.try_send(Ok(greeting));
        let inbound = Inbound {
            engine: self.engine.clone(),
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
        let v1::AcquireRequest {
            worker,
            drivers,
            max_leases,
            wait,
        } = request.into_inner();
        let mut fields = Fields::default();
        check_worker(
            &worker,
            &drivers,
            "worker",
            "drivers",
            &mut fields.violations,
        );
        if max_leases > MAX_ACQUIRE {
            let description = format!("must be at most {MAX_ACQUIRE}");
            fields.bad("max_leases", description);
        }
        let wait =
            wait.map(|wait| fields.span("wait", Some(wait), MAX_WAIT, Duration::ZERO..=MAX_WAIT));
        fields.check()?;
        let drivers = drivers.into_iter().map(Arc::from).collect();
        let grants = self
            .engine
            .acquire(worker.into(), drivers, max_leases.max(1), wait)
            .await
            .map_err(status)?;
        let leases = grants
            .into_iter()
            .map(|grant| lease::lease(grant, &self.engine));
        Ok(Response::new(v1::AcquireResponse {
            leases: leases.collect(),
        }))
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let reports = request.into_inner().reports;
        if reports.is_empty() {
            return Err(error::bad_field("reports", "must have at least one entry"));
        }
        let (results, directives) = take_reports(&self.engine, reports).await?;
        Ok(Response::new(v1::ReportResponse {
            results,
            directives,
        }))
    }
}

/// One worker's stream: reads what it says, and passes on what the engine says.
struct Inbound {
    engine: Engine,
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
                    if let Err(error) = self.take(request).await {
                        // If the stream is gone, so is whoever would read this.
                        let _ = self.outbox.send(Err(error)).await;
                        return;
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
                        for response in self.gather(said.drain(..)) {
                            if self.outbox.send(Ok(response)).await.is_err() {
                                return;
                            }
                        }
                        if drain {
                            let _ = self.outbox.send(Err(error::draining())).await;
                            return;
                        }
                    }
                    message = requests.message() => {
                        silence.as_mut().reset(self.deadline());
                        break message;
                    }
                    () = silence.as_mut() => {
                        let _ = self.outbox.try_send(Err(error::silent()));
                        return;
                    }
                    () = self.outbox.closed() => return,
                }
            };
        }
    }

    /// When a worker that says nothing more is taken for gone.
    fn deadline(&self) -> tokio::time::Instant {
        monotonic_now() + self.engine.settings().heartbeat_interval * SILENT_INTERVALS
    }

    async fn take(&self, request: v1::WorkRequest) -> Result<(), Status> {
        let v1::WorkRequest {
            hello,
            acknowledge,
            reports,
            slots,
        } = request;
        if hello.is_some() {
            return Err(error::bad_field("hello", "is for the first message only"));
        }
        if !acknowledge.is_empty() {
            let leases = acknowledge.iter();
            let leases = leases.filter_map(|token| self.engine.open_lease_token(token));
            let leases = leases.collect();
            self.session.acknowledge(leases).await.map_err(status)?;
        }
        if let Some(slots) = slots {
            if slots > MAX_SLOTS {
                let description = format!("must be at most {MAX_SLOTS}");
                return Err(error::bad_field("slots", &description));
            }
            self.session.set_slots(slots).await.map_err(status)?;
        }
        if !reports.is_empty() {
            let (results, directives) = take_reports(&self.engine, reports).await?;
            let response = v1::WorkResponse {
                results,
                directives,
                ..v1::WorkResponse::default()
            };
            // If the stream is gone, the next read ends the session.
            let _ = self.outbox.send(Ok(response)).await;
        }
        Ok(())
    }

    /// As few messages as can be, each of a size that clients take.
    fn gather(&self, messages: impl Iterator<Item = ToWorker>) -> Vec<v1::WorkResponse> {
        let mut responses = Vec::with_capacity(1);
        let mut response = v1::WorkResponse::default();
        let mut bytes = 0;
        for message in messages {
            match message {
                ToWorker::Leases(grants) => {
                    for grant in grants {
                        let lease = lease::lease(grant, &self.engine);
                        let size = lease.encoded_len();
                        if bytes > 0 && bytes + size > MAX_GATHERED_BYTES {
                            responses.push(std::mem::take(&mut response));
                            bytes = 0;
                        }
                        bytes += size;
                        response.leases.push(lease);
                    }
                }
                ToWorker::Cancel(lease, order) => {
                    let directive = lease::directive_cancel(&lease, order, &self.engine);
                    response.directives.push(directive);
                }
                ToWorker::Lost(lease) => {
                    let directive = lease::directive_lost(&lease, &self.engine);
                    response.directives.push(directive);
                }
                ToWorker::Drain => response.directives.push(lease::directive_drain()),
            }
        }
        responses.push(response);
        responses
    }
}

/// Takes reports in one commit; answers each in order. A bad token is a lease that the worker does not hold.
async fn take_reports(
    engine: &Engine,
    reports: Vec<v1::TaskReport>,
) -> Result<(Vec<v1::ReportResult>, Vec<v1::Directive>), Status> {
    if reports.len() > MAX_REPORTS {
        let description = format!("must have at most {MAX_REPORTS} entries");
        return Err(error::bad_field("reports", &description));
    }
    let mut read = Vec::with_capacity(reports.len());
    let mut accepted: Vec<(LeaseKey, Report)> = Vec::with_capacity(reports.len());
    for (i, report) in reports.into_iter().enumerate() {
        let answer = read_report(engine, report.report, &report.lease_token, i);
        let answer = answer.map(|(lease, report)| {
            accepted.push((lease.clone(), report));
            lease
        });
        read.push((report.lease_token, answer));
    }
    let mut answers = engine.report(accepted).await.map_err(status)?.into_iter();
    let mut directives = Vec::new();
    let results = read
        .into_iter()
        .map(|(token, read)| match read {
            Err(status) => lease::refused(token, &status),
            Ok(lease) => {
                let answer: Result<Reported, Refusal> =
                    answers.next().unwrap_or(Err(Refusal::LeaseLost));
                let (result, directive) = lease::answer(&lease, token, answer, engine);
                directives.extend(directive);
                result
            }
        })
        .collect();
    Ok((results, directives))
}

/// Reads one report; what is wrong with it is said in its own answer, and does not concern the others.
fn read_report(
    engine: &Engine,
    report: Option<v1::task_report::Report>,
    token: &[u8],
    i: usize,
) -> Result<(LeaseKey, Report), Status> {
    let mut violations = Vec::new();
    let report = lease::report(report, &format!("reports[{i}]"), &mut violations);
    let lease = engine.open_lease_token(token);
    match (lease, report) {
        (Some(lease), Some(report)) => Ok((lease, report)),
        (None, _) => Err(status(Refusal::LeaseLost.into())),
        (Some(_), None) => Err(error::invalid(violations)),
    }
}

/// Reads the first message of a stream; answers the rest of it, too.
fn read_hello(engine: &Engine, first: v1::WorkRequest) -> Result<(Hello, v1::WorkRequest), Status> {
    let Some(hello) = first.hello else {
        return Err(error::bad_field(
            "hello",
            "is required in the first message",
        ));
    };
    let v1::WorkerHello {
        name,
        drivers,
        slots,
        held,
    } = hello;
    let mut violations = Vec::new();
    check_worker(
        &name,
        &drivers,
        "hello.name",
        "hello.drivers",
        &mut violations,
    );
    if slots > MAX_SLOTS {
        violations.push(Violation::new(
            "hello.slots",
            format!("must be at most {MAX_SLOTS}"),
        ));
    }
    if !violations.is_empty() {
        return Err(error::invalid(violations));
    }
    let held = held
        .iter()
        .filter_map(|token| engine.open_lease_token(token));
    let hello = Hello {
        worker: name.into(),
        drivers: drivers.into_iter().map(Arc::from).collect(),
        slots,
        held: held.collect(),
    };
    let rest = v1::WorkRequest {
        hello: None,
        ..first
    };
    Ok((hello, rest))
}

fn check_worker(
    name: &str,
    drivers: &[String],
    name_field: &str,
    drivers_field: &str,
    violations: &mut Vec<Violation>,
) {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        let description = format!("must have from 1 to {MAX_NAME_BYTES} bytes");
        violations.push(Violation::new(name_field, description));
    }
    if drivers.is_empty() || drivers.len() > MAX_DRIVERS {
        let description = format!("must have from 1 to {MAX_DRIVERS} entries");
        violations.push(Violation::new(drivers_field, description));
    }
    for (i, driver) in drivers.iter().enumerate().take(MAX_DRIVERS) {
        if !is_driver(driver) {
            let field = format!("{drivers_field}[{i}]");
            violations.push(Violation::new(field, "must be of [A-Za-z0-9_.-]"));
        }
    }
}
