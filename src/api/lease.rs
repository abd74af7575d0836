//! Leases, reports and what is said about them, between messages and domain types.

use std::time::Duration;

use super::{
    Fault,
    render::{self, TaskOf, View},
    submission::document,
};
use crate::{
    domain::{
        LeaseKey,
        command::{CancelOrder, Grant, Refusal, Report, Reported},
        limits::{MAX_BACKOFF, MAX_DETAIL_BYTES, MAX_LINE_BYTES, MAX_WORD_BYTES},
        submission::Violation,
        task::Progress,
        wording::{Sentence, sentence},
    },
    engine::Engine,
    locale::Language,
    proto::{
        sensitive::Taken,
        v1::{self, directive, task_report::Report as Reported1},
    },
};

/// A lease for its worker.
pub(super) fn lease(grant: Grant, engine: &Engine) -> v1::Lease {
    let Grant {
        lease,
        task,
        job,
        create_time,
        depends_on,
        hidden,
        duration,
    } = grant;
    let of = TaskOf {
        id: lease.job,
        spec: &job,
        create_time,
        depends_on,
    };
    let mut shown = render::lone_task(&task, of, View::Full);
    if let Some(hidden) = &hidden {
        put_back(&mut shown, hidden.fields());
    }
    v1::Lease {
        attempt: lease.attempt,
        fencing_token: lease.fencing_token,
        lease_token: engine.lease_token(&lease),
        expire_time: task.lease_expiry.map(render::time),
        duration: Some(render::span(duration)),
        heartbeat_interval: Some(render::span(heartbeat(duration, engine))),
        traceparent: job.traceparent.clone(),
        deadline: task.attempt_deadline().map(render::time),
        task: Some(shown),
        secrets: hidden.map_or_else(Default::default, |hidden| {
            hidden.secrets().clone().into_iter().collect()
        }),
    }
}

/// The payload as it was before what is secret was taken out.
fn put_back(task: &mut v1::JobTask, fields: &[u8]) {
    if fields.is_empty() {
        return;
    }
    let payload = task.request_payload.take().unwrap_or_default();
    let whole = Taken::from_bytes(fields).and_then(|taken| payload.join(&taken));
    match whole {
        Ok(whole) => task.request_payload = Some(whole),
        // The store has changed one of the two.
        Err(error) => {
            tracing::error!(%error, task = task.id, "the payload of a task goes to its worker without its secrets");
            task.request_payload = Some(payload);
        }
    }
}

/// How often the holder of a lease of this length reports: a third of it, so that two reports may be lost.
fn heartbeat(duration: Duration, engine: &Engine) -> Duration {
    engine.settings().heartbeat_interval.min(duration / 3)
}

/// Reads a report; `path` is where it stands in the request.
pub(super) fn report(
    report: Option<Reported1>,
    path: &str,
    violations: &mut Vec<Violation>,
) -> Option<Report> {
    let before = violations.len();
    let mut check = Check { path, violations };
    let report = match report {
        None => {
            check.bad(
                "report",
                Sentence::plain("one-required", "one of them is required"),
            );
            return None;
        }
        Some(Reported1::Heartbeat(v1::Heartbeat {})) => Report::Heartbeat,
        Some(Reported1::Progress(v1::ProgressReport {
            progress,
            status_detail,
        })) => {
            check.long("progress.status_detail", &status_detail, MAX_DETAIL_BYTES);
            let progress = progress.map(|p| {
                let v1::Progress {
                    done,
                    total,
                    unit,
                    message,
                } = p;
                check.long("progress.progress.unit", &unit, MAX_WORD_BYTES);
                check.long("progress.progress.message", &message, MAX_LINE_BYTES);
                if done < 0 || total < 0 {
                    check.bad(
                        "progress.progress",
                        Sentence::plain("not-negative", "must not be negative"),
                    );
                }
                Progress {
                    done,
                    total,
                    unit,
                    message,
                }
            });
            Report::Progress {
                progress,
                status_detail,
            }
        }
        Some(Reported1::Warning(v1::Warning { message })) => {
            check.long("warning.message", &message, MAX_DETAIL_BYTES);
            if message.is_empty() {
                check.bad(
                    "warning.message",
                    Sentence::plain("required", "is required"),
                );
            }
            Report::Warning { message }
        }
        Some(Reported1::Success(v1::Success {
            result,
            status_detail,
        })) => {
            check.long("success.status_detail", &status_detail, MAX_DETAIL_BYTES);
            let result = document(result).unwrap_or_else(|error| {
                check.bad("success.result", error.into());
                None
            });
            Report::Success {
                result,
                status_detail,
            }
        }
        Some(Reported1::Failure(v1::Failure {
            message,
            reason,
            permanent,
            retry_after,
            status_detail,
        })) => {
            check.long("failure.message", &message, MAX_DETAIL_BYTES);
            check.long("failure.reason", &reason, 63);
            check.long("failure.status_detail", &status_detail, MAX_DETAIL_BYTES);
            if message.is_empty() {
                check.bad(
                    "failure.message",
                    Sentence::plain("required", "is required"),
                );
            }
            let retry_after = retry_after.map(Duration::try_from);
            if let Some(Err(_)) = retry_after {
                check.bad(
                    "failure.retry_after",
                    Sentence::plain("not-negative", "must not be negative"),
                );
            }
            let retry_after = retry_after.and_then(Result::ok);
            if retry_after.is_some_and(|pause| pause > MAX_BACKOFF) {
                check.bad(
                    "failure.retry_after",
                    Sentence::plain("up-to-a-day", "must be from 0 to 1 day"),
                );
            }
            Report::Failure {
                message,
                reason,
                permanent,
                retry_after,
                status_detail,
            }
        }
        Some(Reported1::Release(v1::Release { reason })) => {
            check.long("release.reason", &reason, MAX_DETAIL_BYTES);
            Report::Release { reason }
        }
        Some(Reported1::CancelAcknowledged(v1::CancelAcknowledged {})) => {
            Report::CancelAcknowledged
        }
        Some(Reported1::Cancelled(v1::Cancelled { status_detail })) => {
            check.long("cancelled.status_detail", &status_detail, MAX_DETAIL_BYTES);
            Report::Cancelled { status_detail }
        }
    };
    (violations.len() == before).then_some(report)
}

struct Check<'a> {
    path: &'a str,
    violations: &'a mut Vec<Violation>,
}

impl Check<'_> {
    fn bad(&mut self, field: &str, description: Sentence) {
        let field = format!("{}.{field}", self.path);
        self.violations.push(Violation::new(field, description));
    }

    fn long(&mut self, field: &str, text: &str, most: usize) {
        if text.len() > most {
            self.bad(
                field,
                sentence!("at-most-bytes", "must be at most {most} bytes", most),
            );
        }
    }
}

/// The answer to a report, and what the worker is asked to do besides.
pub(super) fn answer(
    lease: &LeaseKey,
    token: bytes::Bytes,
    answer: Result<Reported, Refusal>,
    engine: &Engine,
) -> (v1::ReportResult, Option<v1::Directive>) {
    match answer {
        Ok(Reported { expiry, cancel }) => (
            v1::ReportResult {
                lease_token: token,
                expire_time: expiry.map(render::time),
                error: None,
            },
            cancel.map(|order| directive_cancel(lease, order, engine)),
        ),
        Err(refusal) => (refused(token, &refusal.into()), None),
    }
}

/// The answer to a report that was refused.
pub(super) fn refused(token: bytes::Bytes, fault: &Fault) -> v1::ReportResult {
    v1::ReportResult {
        lease_token: token,
        expire_time: None,
        error: Some(fault.to_rpc(Language::English)),
    }
}

/// Stop working on a task.
pub(super) fn directive_cancel(
    lease: &LeaseKey,
    order: CancelOrder,
    engine: &Engine,
) -> v1::Directive {
    v1::Directive {
        r#type: directive::Type::Cancel.into(),
        lease_token: engine.lease_token(lease),
        reason: order.reason,
        deadline: Some(render::time(order.deadline)),
    }
}

/// A lease is no longer the worker's.
pub(super) fn directive_lost(lease: &LeaseKey, engine: &Engine) -> v1::Directive {
    v1::Directive {
        r#type: directive::Type::LeaseLost.into(),
        lease_token: engine.lease_token(lease),
        reason: "the server ended the lease".to_owned(),
        deadline: None,
    }
}

/// The server goes.
pub(super) fn directive_drain() -> v1::Directive {
    v1::Directive {
        r#type: directive::Type::Drain.into(),
        lease_token: bytes::Bytes::new(),
        reason: "the server is shutting down".to_owned(),
        deadline: None,
    }
}
