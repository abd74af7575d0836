//! What is told of queues: how they stand, and what was taken first.

use std::sync::Arc;

use longhaul::domain::reach::Queue;

use super::{Audit, Seen};
use crate::store::{is_in, rank};

impl Audit {
    /// Of the queues of a claim that wants more it is told how they stand; and a look that found nothing and was kept from nothing is not taken again.
    pub(super) fn unfilled(&mut self, seen: &Seen<'_>) {
        let decision = seen.decision;
        let is_idle = seen.commands.is_empty() && decision.grants.iter().all(Vec::is_empty);
        for (claim, grants) in seen.claims.iter().zip(&decision.grants) {
            let is_paused = |d: &Arc<str>| {
                [seen.before, seen.after]
                    .iter()
                    .any(|s| s.paused.contains(d))
            };
            let is_open = |d: &&Arc<str>| grants.len() < claim.slots as usize && !is_paused(d);
            for driver in claim.drivers.iter().filter(is_open) {
                let queue = Queue {
                    driver: driver.clone(),
                    tenant: claim.tenant.clone(),
                };
                let again = decision.ready.contains(&queue) && !is_idle;
                self.must(again || decision.exhausted.contains(&queue), || {
                    format!("nobody is told how {queue:?} stands, of which {claim:?} wants more")
                });
            }
        }
    }

    /// Nothing that may be taken is forgotten, and what is taken comes before what is left.
    pub(super) fn readiness(&mut self, seen: &Seen<'_>) {
        let ready_before: Vec<_> = seen.before.all_ready().collect();
        for (driver, task) in seen.after.all_ready() {
            let mut exhausted = seen.decision.exhausted.iter();
            let is_hidden = exhausted.any(|queue| is_in(queue, &driver, &task));
            self.must(!is_hidden, || {
                format!("P3: {driver} is said to be exhausted, and {task:?} is ready")
            });
            let new = !ready_before.contains(&(driver.clone(), task.clone()));
            // Those who wait for this tenant's tasks alone have to hear it, too.
            let of_one = Queue::of_one(&driver, &task.key.tenant);
            self.must(!new || seen.decision.ready.contains(&of_one), || {
                format!("P3: nobody hears that {task:?} is ready")
            });
            if new {
                continue;
            }
            for grant in seen.decision.grants.iter().flatten() {
                let taken = ready_before.iter().find(|(_, ready)| {
                    ready.key == grant.lease.job_key() && ready.ordinal == grant.lease.ordinal
                });
                let first = taken.is_none_or(|(of, taken)| {
                    *of != driver
                        || taken.key.tenant != task.key.tenant
                        || rank(taken) < rank(&task)
                });
                self.must(first, || {
                    format!("{:?} was taken before {task:?}", grant.lease)
                });
            }
        }
    }
}
