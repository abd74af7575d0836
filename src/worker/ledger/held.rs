//! One lease, and what is to be said on it. Pure, like the ledger that owns it.
//!
//! Bounded: one progress report waiting and one under way, [`MAX_WARNINGS`] warnings, one receipt, one heartbeat, one outcome.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{
    client::ClientError,
    proto::v1::{
        CancelAcknowledged, Failure, Heartbeat, ProgressReport, Warning, task_report::Report,
    },
    worker::limits::{MAX_TEXT_BYTES, truncated},
};

/// Warnings of one lease that may wait for an answer: as many as the server keeps.
pub(super) const MAX_WARNINGS: usize = 20;
/// Heartbeats due within this part of their interval go along with one that is due now.
const HEARTBEAT_SLACK: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Held<H> {
    pub(super) handle: H,
    /// When the lease runs out by the worker's own clock.
    pub(super) expires: Instant,
    /// When the server must hear of the lease again.
    pub(super) heartbeat_due: Instant,
    /// Whether the lease is in the ledger's queue.
    pub(super) queued: bool,
    duration: Duration,
    heartbeat_interval: Duration,
    heartbeat: bool,
    cancel_acknowledged: bool,
    progress: Option<ProgressReport>,
    progress_in_flight: bool,
    warnings: VecDeque<String>,
    warnings_in_flight: usize,
    end: End,
}

/// How far the end of a lease is.
#[derive(Debug)]
enum End {
    /// The handler is at work.
    Open,
    /// The handler has ended; its outcome waits to be sent.
    Waiting(Report),
    /// The outcome is under way.
    InFlight,
    /// The outcome was refused, and the failure that says so waits to be sent.
    Replaced(Report),
    /// That failure is under way.
    ReplacedInFlight,
}

impl<H> Held<H> {
    pub(super) fn new(
        handle: H,
        duration: Duration,
        heartbeat_interval: Duration,
        now: Instant,
    ) -> Self {
        Self {
            handle,
            expires: now + duration,
            heartbeat_due: now + heartbeat_interval,
            queued: false,
            duration,
            heartbeat_interval,
            heartbeat: false,
            cancel_acknowledged: false,
            progress: None,
            progress_in_flight: false,
            warnings: VecDeque::new(),
            warnings_in_flight: 0,
            end: End::Open,
        }
    }

    /// Whether the handler has ended.
    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.end, End::Open)
    }

    /// A report sent at `sent_at` was accepted. The lease lasts from some moment after that, so counting from it is safe.
    pub(super) fn extend(&mut self, sent_at: Instant) {
        self.expires = self.expires.max(sent_at + self.duration);
    }

    /// A report goes out, which is as good as a heartbeat.
    pub(super) fn sent(&mut self, now: Instant) {
        self.heartbeat_due = now + self.heartbeat_interval;
    }

    /// Makes a heartbeat wait if one is due now or soon; it counts as sent.
    pub(super) fn heartbeat_if_due(&mut self, now: Instant) -> bool {
        let due = self.heartbeat_due <= now + self.heartbeat_interval / HEARTBEAT_SLACK;
        if due {
            self.heartbeat = !self.has_report();
            self.sent(now);
        }
        due
    }

    pub(super) fn acknowledge_cancel(&mut self) {
        self.cancel_acknowledged = true;
    }

    pub(super) fn progress(&mut self, newer: ProgressReport) {
        if !self.has_ended() {
            self.progress = Some(merged(newer, self.progress.take()));
        }
    }

    pub(super) fn warn(&mut self, message: String) -> Result<(), String> {
        if self.warnings.len() + self.warnings_in_flight >= MAX_WARNINGS {
            return Err(message);
        }
        self.warnings.push_back(message);
        Ok(())
    }

    pub(super) fn end(&mut self, outcome: Report) {
        self.end = End::Waiting(outcome);
    }

    /// Puts a failure in the place of an outcome that the server refused. False if that was refused as well.
    pub(super) fn replace_refused_end(&mut self, error: &ClientError) -> bool {
        if !matches!(self.end, End::InFlight) {
            return false;
        }
        let message = format!("the server refused the outcome of the task: {error}");
        self.end = End::Replaced(Report::Failure(Failure {
            message: truncated(message, MAX_TEXT_BYTES),
            reason: "OUTCOME_REFUSED".to_owned(),
            permanent: true,
            ..Default::default()
        }));
        true
    }

    pub(super) fn has_report(&self) -> bool {
        self.heartbeat
            || self.cancel_acknowledged
            || self.may_send_progress()
            || !self.warnings.is_empty()
            || matches!(self.end, End::Waiting(_) | End::Replaced(_))
    }

    /// The next report to send; the outcome comes last.
    pub(super) fn next_report(&mut self) -> Option<Report> {
        if std::mem::take(&mut self.cancel_acknowledged) {
            return Some(Report::CancelAcknowledged(CancelAcknowledged {}));
        }
        if self.may_send_progress()
            && let Some(progress) = self.progress.take()
        {
            self.progress_in_flight = true;
            return Some(Report::Progress(progress));
        }
        if let Some(message) = self.warnings.pop_front() {
            self.warnings_in_flight += 1;
            return Some(Report::Warning(Warning { message }));
        }
        match std::mem::replace(&mut self.end, End::Open) {
            End::Waiting(report) => {
                self.end = End::InFlight;
                return Some(report);
            }
            End::Replaced(report) => {
                self.end = End::ReplacedInFlight;
                return Some(report);
            }
            end @ (End::Open | End::InFlight | End::ReplacedInFlight) => self.end = end,
        }
        std::mem::take(&mut self.heartbeat).then_some(Report::Heartbeat(Heartbeat {}))
    }

    /// The report was answered, whatever the answer.
    pub(super) fn answered(&mut self, report: &Report) {
        match report {
            Report::Progress(_) => self.progress_in_flight = false,
            Report::Warning(_) => self.warnings_in_flight -= 1,
            Report::Heartbeat(_)
            | Report::CancelAcknowledged(_)
            | Report::Success(_)
            | Report::Failure(_)
            | Report::Release(_)
            | Report::Cancelled(_) => {}
        }
    }

    /// The report was not sent after all, or its answer will never come. To be called with the newest report first.
    pub(super) fn take_back(&mut self, report: Report) {
        self.answered(&report);
        match report {
            Report::Heartbeat(_) => self.heartbeat = true,
            Report::CancelAcknowledged(_) => self.cancel_acknowledged = true,
            Report::Progress(older) => {
                self.progress = Some(match self.progress.take() {
                    Some(newer) => merged(newer, Some(older)),
                    None => older,
                });
            }
            Report::Warning(warning) => self.warnings.push_front(warning.message),
            Report::Success(_) | Report::Failure(_) | Report::Release(_) | Report::Cancelled(_) => {
                self.end = match self.end {
                    End::ReplacedInFlight => End::Replaced(report),
                    End::Open | End::Waiting(_) | End::InFlight | End::Replaced(_) => {
                        End::Waiting(report)
                    }
                };
            }
        }
    }

    /// One progress report at a time is under way, so that a busy handler is throttled by the server's own pace; the last one goes with the outcome.
    fn may_send_progress(&self) -> bool {
        self.progress.is_some() && (!self.progress_in_flight || self.has_ended())
    }
}

/// Whether the report ends its lease.
pub(super) fn is_end(report: &Report) -> bool {
    match report {
        Report::Success(_) | Report::Failure(_) | Report::Release(_) | Report::Cancelled(_) => true,
        Report::Heartbeat(_)
        | Report::Progress(_)
        | Report::Warning(_)
        | Report::CancelAcknowledged(_) => false,
    }
}

/// The newer report, with what it leaves out taken from the older one. What is said last is a line, or the message of progress that came without one.
fn merged(newer: ProgressReport, older: Option<ProgressReport>) -> ProgressReport {
    let older = older.unwrap_or_default();
    let message = |report: &ProgressReport| {
        let progress = report.progress.as_ref();
        progress.map_or_else(String::new, |progress| progress.message.clone())
    };
    let status_detail = match newer.status_detail.is_empty() && message(&newer).is_empty() {
        false => newer.status_detail,
        true if older.status_detail.is_empty() => message(&older),
        true => older.status_detail,
    };
    ProgressReport {
        progress: newer.progress.or(older.progress),
        status_detail,
    }
}
