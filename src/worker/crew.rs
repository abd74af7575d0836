//! The handlers at work: one tokio task per lease.
//!
//! Invariant: each lease that is taken in ends with exactly one word to the desk, whether its handler returns, panics or is cut off.

use std::{any::Any, collections::HashMap, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Handler, Outcome, context::TaskContext, desk::Desk};
use crate::proto::v1::Lease;

/// See the module. Dropping it cuts off all handlers.
pub(super) struct Crew {
    handlers: HashMap<String, Arc<dyn Handler>>,
    desk: Arc<Desk>,
    tasks: JoinSet<()>,
    /// Cuts off all handlers; their leases are given back.
    cut_off: CancellationToken,
}

impl Crew {
    pub(super) fn new(
        handlers: HashMap<String, Arc<dyn Handler>>,
        desk: Arc<Desk>,
        cut_off: CancellationToken,
    ) -> Self {
        Self {
            handlers,
            desk,
            tasks: JoinSet::new(),
            cut_off,
        }
    }

    /// Puts a handler to work on a lease.
    pub(super) fn start(&mut self, lease: Lease) {
        while self.tasks.try_join_next().is_some() {}
        let Some(signals) = self.desk.grant(&lease) else {
            return;
        };
        let lease_token = lease.lease_token.clone();
        let driver = lease.task.as_ref().map_or("", |task| &task.driver);
        let Some(handler) = self.handlers.get(driver).cloned() else {
            let outcome = Outcome::released(format!("this worker has no driver `{driver}`"));
            self.desk.end(&lease_token, outcome.into_report());
            return;
        };
        if self.desk.ledger().is_closed() {
            let outcome = Outcome::released("the worker is shutting down");
            self.desk.end(&lease_token, outcome.into_report());
            return;
        }
        let context = TaskContext::new(lease, signals, self.desk.clone());
        let desk = self.desk.clone();
        let cut_off = self.cut_off.clone();
        self.tasks.spawn(async move {
            let work = AssertUnwindSafe(handler.run(context)).catch_unwind();
            let outcome = match cut_off.run_until_cancelled(work).await {
                Some(Ok(outcome)) => outcome,
                Some(Err(panic)) => panicked(&*panic),
                None => Outcome::released("the worker is shutting down"),
            };
            desk.end(&lease_token, outcome.into_report());
        });
    }
}

/// A failure that tells what the panic said.
fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    let words = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Outcome::Failed {
        message: format!("the handler panicked: {words}"),
        reason: "HANDLER_PANICKED".to_owned(),
        permanent: false,
        retry_after: None,
        status_detail: String::new(),
    }
}
