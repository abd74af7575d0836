//! `WorkerService`.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tokio::sync::mpsc;

use super::{
    Api, Caller, Fault,
    fields::{Fields, at_most, driver_name, entries},
    lease, render,
};
use crate::{
    domain::{
        LeaseKey,
        command::{Refusal, Report, Reported},
        limits::{MAX_ACQUIRE, MAX_DRIVERS, MAX_NAME_BYTES, MAX_REPORTS, MAX_SLOTS},
        reach::Reach,
        submission::{Violation, is_driver},
        wording::{Sentence, sentence},
    },
    engine::{Engine, Hello, ToWorker, WorkSession},
    proto::v1,
};

/// The longest wait of an Acquire.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Bytes of leases that are sent as one message, unless one alone is larger: clients take 4 MiB by default.
const MAX_GATHERED_BYTES: usize = 2 * 1024 * 1024;

/// A worker's session of `Work`, opened by its first message.
pub(crate) struct OpenWork {
    pub(crate) session: WorkSession,
    /// What the engine says to the worker.
    pub(crate) messages: mpsc::Receiver<ToWorker>,
    /// The first answer.
    pub(crate) greeting: v1::WorkResponse,
    /// The rest of the first message, still to be taken.
    pub(crate) rest: v1::WorkRequest,
}

impl Api {
    /// `Work`, its first message.
    pub(crate) async fn open_work(
        &self,
        caller: &Caller,
        first: v1::WorkRequest,
    ) -> Result<OpenWork, Fault> {
        let (hello, rest) = read_hello(self, caller, first)?;
        let (session, messages) = self.engine.work(hello).await?;
        let greeting = v1::WorkResponse {
            heartbeat_interval: Some(render::span(self.engine.settings().heartbeat_interval)),
            ..v1::WorkResponse::default()
        };
        Ok(OpenWork {
            session,
            messages,
            greeting,
            rest,
        })
    }

    /// `Work`, each message after the hello; answers the reports in it.
    pub(crate) async fn take_work(
        &self,
        session: &WorkSession,
        request: v1::WorkRequest,
    ) -> Result<Option<v1::WorkResponse>, Fault> {
        let v1::WorkRequest {
            hello,
            acknowledge,
            reports,
            slots,
        } = request;
        if hello.is_some() {
            return Err(Fault::bad_field(
                "hello",
                Sentence::plain("first-message-only", "is for the first message only"),
            ));
        }
        if !acknowledge.is_empty() {
            let leases = acknowledge.iter();
            let leases = leases.filter_map(|token| self.engine.open_lease_token(token));
            session.acknowledge(leases.collect()).await?;
        }
        if let Some(slots) = slots {
            if slots > MAX_SLOTS {
                return Err(Fault::bad_field("slots", at_most(MAX_SLOTS)));
            }
            session.set_slots(slots).await?;
        }
        if reports.is_empty() {
            return Ok(None);
        }
        let (results, directives) = take_reports(&self.engine, session.reach(), reports).await?;
        Ok(Some(v1::WorkResponse {
            results,
            directives,
            ..v1::WorkResponse::default()
        }))
    }

    /// What the engine says to a worker, in as few messages as can be, each of a size that clients take.
    pub(crate) fn gather_work(
        &self,
        messages: impl Iterator<Item = ToWorker>,
    ) -> Vec<v1::WorkResponse> {
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

    /// `Acquire`.
    pub(crate) async fn acquire(
        &self,
        caller: &Caller,
        request: v1::AcquireRequest,
    ) -> Result<v1::AcquireResponse, Fault> {
        let v1::AcquireRequest {
            worker,
            drivers,
            max_leases,
            wait,
        } = request;
        let mut fields = Fields::default();
        check_worker(
            &worker,
            &drivers,
            "worker",
            "drivers",
            &mut fields.violations,
        );
        if max_leases > MAX_ACQUIRE {
            fields.bad("max_leases", at_most(MAX_ACQUIRE));
        }
        let wait =
            wait.map(|wait| fields.span("wait", Some(wait), MAX_WAIT, Duration::ZERO..=MAX_WAIT));
        fields.check()?;
        caller
            .may_serve(&drivers)
            .map_err(|fault| self.denied(caller, "Acquire", &drivers.join(" "), fault))?;
        let waits = wait.is_some_and(|wait| !wait.is_zero());
        let _one_of_those_who_wait = waits.then(|| caller.holder.allowance.watch()).transpose()?;
        let drivers = drivers.into_iter().map(Arc::from).collect();
        let grants = self
            .engine
            .acquire(
                &caller.holder.reach,
                worker.into(),
                drivers,
                max_leases.max(1),
                wait,
            )
            .await?;
        let leases = grants
            .into_iter()
            .map(|grant| lease::lease(grant, &self.engine));
        Ok(v1::AcquireResponse {
            leases: leases.collect(),
        })
    }

    /// `Report`.
    pub(crate) async fn report(
        &self,
        caller: &Caller,
        request: v1::ReportRequest,
    ) -> Result<v1::ReportResponse, Fault> {
        let v1::ReportRequest { reports, wait } = request;
        if reports.is_empty() {
            return Err(Fault::bad_field("reports", entries(MAX_REPORTS)));
        }
        let mut fields = Fields::default();
        let wait =
            wait.map(|wait| fields.span("wait", Some(wait), MAX_WAIT, Duration::ZERO..=MAX_WAIT));
        fields.check()?;
        let waits = wait.is_some_and(|wait| !wait.is_zero());
        let _one_of_those_who_wait = waits.then(|| caller.holder.allowance.watch()).transpose()?;
        let (results, mut directives) =
            take_reports(&self.engine, &caller.holder.reach, reports).await?;
        // A refusal is news for the worker, too.
        let is_quiet = directives.is_empty() && results.iter().all(|r| r.error.is_none());
        if let Some(wait) = wait
            && is_quiet
        {
            let open = results.iter().filter(|result| result.expire_time.is_some());
            let tokens = open.map(|result| &result.lease_token);
            let leases = tokens.filter_map(|token| self.engine.open_lease_token(token));
            directives = self
                .orders(&caller.holder.reach, leases.collect(), wait)
                .await?;
        }
        Ok(v1::ReportResponse {
            results,
            directives,
        })
    }

    /// What the worker is asked to do about these leases, as soon as there is something. It is asked for as a worker would: by a heartbeat.
    async fn orders(
        &self,
        reach: &Arc<Reach>,
        leases: Vec<LeaseKey>,
        wait: Duration,
    ) -> Result<Vec<v1::Directive>, Fault> {
        let leases = self.engine.await_orders(leases, wait).await?;
        let heartbeats = leases.iter().map(|l| (l.clone(), Report::Heartbeat));
        let answers = self.engine.report(reach, heartbeats.collect()).await?;
        let answers = leases.iter().zip(answers);
        Ok(answers
            .filter_map(|(lease, answer)| match answer {
                Ok(Reported { cancel, .. }) => {
                    cancel.map(|order| lease::directive_cancel(lease, order, &self.engine))
                }
                Err(_) => Some(lease::directive_lost(lease, &self.engine)),
            })
            .collect())
    }
}

/// Takes reports in one commit; answers each in order. A bad token is a lease that the worker does not hold.
async fn take_reports(
    engine: &Engine,
    reach: &Arc<Reach>,
    reports: Vec<v1::TaskReport>,
) -> Result<(Vec<v1::ReportResult>, Vec<v1::Directive>), Fault> {
    if reports.len() > MAX_REPORTS {
        return Err(Fault::bad_field("reports", entries(MAX_REPORTS)));
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
    let mut answers = engine.report(reach, accepted).await?.into_iter();
    let mut directives = Vec::new();
    let results = read
        .into_iter()
        .map(|(token, read)| match read {
            Err(fault) => lease::refused(token, &fault),
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
) -> Result<(LeaseKey, Report), Fault> {
    let mut violations = Vec::new();
    let report = lease::report(report, &format!("reports[{i}]"), &mut violations);
    let lease = engine.open_lease_token(token);
    match (lease, report) {
        (Some(lease), Some(report)) => Ok((lease, report)),
        (None, _) => Err(Refusal::LeaseLost.into()),
        (Some(_), None) => Err(Fault::invalid(violations)),
    }
}

/// Reads the first message of a stream; answers the rest of it, too.
fn read_hello(
    api: &Api,
    caller: &Caller,
    first: v1::WorkRequest,
) -> Result<(Hello, v1::WorkRequest), Fault> {
    let Some(hello) = first.hello else {
        return Err(Fault::bad_field(
            "hello",
            Sentence::plain("first-message", "is required in the first message"),
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
        violations.push(Violation::new("hello.slots", at_most(MAX_SLOTS)));
    }
    if !violations.is_empty() {
        return Err(Fault::invalid(violations));
    }
    caller
        .may_serve(&drivers)
        .map_err(|fault| api.denied(caller, "Work", &drivers.join(" "), fault))?;
    let held = held
        .iter()
        .filter_map(|token| api.engine.open_lease_token(token));
    let hello = Hello {
        worker: name.into(),
        reach: Arc::clone(&caller.holder.reach),
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
        let description = sentence!(
            "bytes",
            "must have from 1 to {most} bytes",
            most = MAX_NAME_BYTES
        );
        violations.push(Violation::new(name_field, description));
    }
    if drivers.is_empty() || drivers.len() > MAX_DRIVERS {
        violations.push(Violation::new(drivers_field, entries(MAX_DRIVERS)));
    }
    for (i, driver) in drivers.iter().enumerate().take(MAX_DRIVERS) {
        if !is_driver(driver) {
            let field = format!("{drivers_field}[{i}]");
            violations.push(Violation::new(field, driver_name()));
        }
    }
}
