//! Where handlers, the session with the server and the lease guard meet: the ledger behind a lock, and bells for those who wait for a change in it.
//!
//! The lock is held for moments and never across an await. Whoever changes the ledger rings the bell; each bell has one listener, but `room`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    ledger::{Answer, Ledger, Lost},
    signals::{CancelRequest, Signals},
};
use crate::{
    client::{ClientError, clock},
    proto::v1::{Directive, Lease, ProgressReport, ReportResult, directive, task_report::Report},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    ledger: Mutex<Ledger<Arc<Signals>>>,
    /// There may be something to send. For the session.
    news: Notify,
    /// There is a new lease to look after. For the guard.
    granted: Notify,
    /// A lease has ended, or the handler of a lost one. For the wind-down.
    ended: Notify,
    /// Warnings were answered. For handlers that have more.
    room: Notify,
}

impl Desk {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            ledger: Mutex::new(Ledger::new(slots, clock::now())),
            news: Notify::new(),
            granted: Notify::new(),
            ended: Notify::new(),
            room: Notify::new(),
        }
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger<Arc<Signals>>> {
        // A panic can not leave the ledger half changed in a way that matters more than going on.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- for handlers ----

    pub(super) fn progress(&self, lease_token: &Bytes, report: ProgressReport) {
        self.ledger().progress(lease_token, report);
        self.news.notify_one();
    }

    /// Waits while too many warnings of the lease are unanswered.
    pub(super) async fn warn(&self, lease_token: &Bytes, mut message: String) {
        loop {
            // Listening begins before the look, so that no room is missed between the two.
            let room = self.room.notified();
            match self.ledger().warn(lease_token, message) {
                Ok(()) => break,
                Err(back) => message = back,
            }
            room.await;
        }
        self.news.notify_one();
    }

    pub(super) fn end(&self, lease_token: &Bytes, outcome: Report) {
        if !self.ledger().end(lease_token, outcome) {
            self.ended.notify_one();
        }
        self.news.notify_one();
    }

    // ---- for the session ----

    /// Resolves when there may be something to send.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Takes a lease in. None if it is held already.
    pub(super) fn grant(&self, lease: &Lease) -> Option<Arc<Signals>> {
        let task_id = lease.task.as_ref().map_or("", |task| &task.id);
        let signals = Arc::new(Signals::new(task_id));
        let refused = self.ledger().grant(lease, signals.clone(), clock::now());
        self.granted.notify_one();
        refused.is_none().then_some(signals)
    }

    /// Takes an answer in.
    ///
    /// # Errors
    /// As [`Ledger::answer`].
    pub(super) fn answer(&self, result: ReportResult) -> Result<(), ClientError> {
        let answer = self.ledger().answer(result)?;
        match answer {
            Answer::Accepted => {}
            Answer::Ended => self.ended.notify_one(),
            Answer::Lost(lost) => self.lost(&lost),
            Answer::Refused(error) => {
                tracing::warn!(%error, "the server refused a report on a task");
                self.ended.notify_one();
            }
        }
        self.room.notify_waiters();
        Ok(())
    }

    /// Does what the server asks concerning one lease.
    pub(super) fn follow(&self, directive: Directive) {
        match directive.r#type() {
            directive::Type::LeaseLost => {
                let lost = self.ledger().lose(&directive.lease_token);
                if let Some(lost) = lost {
                    self.lost(&lost);
                }
            }
            directive::Type::Cancel => {
                let cancelled = self.ledger().cancel(&directive.lease_token).cloned();
                if let Some(signals) = cancelled {
                    signals.cancel(CancelRequest {
                        reason: directive.reason,
                        deadline: directive.deadline.and_then(|time| time.try_into().ok()),
                    });
                    self.news.notify_one();
                }
            }
            // DRAIN is about the session, which sees to it; a type that is newer than this worker is not for it.
            directive::Type::Drain | directive::Type::Unspecified => {}
        }
    }

    // ---- for the worker as a whole ----

    /// Gives up leases that run out by the worker's own clock. Never ends.
    pub(super) async fn guard_leases(&self) -> std::convert::Infallible {
        loop {
            let expired = self.ledger().expire(clock::now());
            for lost in expired {
                self.lost(&lost);
            }
            let next = self.ledger().next_expiry();
            tokio::select! {
                () = tokio::time::sleep_until(next.unwrap_or_else(clock::now)), if next.is_some() => {}
                () = self.granted.notified() => {}
            }
        }
    }

    /// Asks the server for no more leases.
    pub(super) fn close(&self) {
        self.ledger().close();
        self.news.notify_one();
    }

    /// Tells all handlers that the worker shuts down.
    pub(super) fn stop_handlers(&self) {
        for signals in self.ledger().running() {
            signals.shutdown.cancel();
        }
    }

    /// Resolves when every handler has ended and every outcome is answered.
    pub(super) async fn settled(&self) {
        while !self.ledger().is_settled() {
            self.ended.notified().await;
        }
    }

    fn lost(&self, lost: &Lost<Arc<Signals>>) {
        let task_id = &lost.handle.task_id;
        if lost.was_running {
            tracing::warn!(task_id, "the lease is lost; the handler is told to stop");
        } else {
            tracing::debug!(task_id, "the outcome counts already, or came too late");
        }
        lost.handle.lease_lost.cancel();
        self.room.notify_waiters();
        self.ended.notify_one();
        self.news.notify_one();
    }
}
