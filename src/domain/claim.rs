//! Who gets which task: tenants take turns; within a tenant by priority, then age; workers take turns too, so that none is filled while others idle.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{
    Tenant,
    command::{Claim, Context, Grant, ReadyTask},
    limits::MAX_GRANT_BYTES,
    report,
    working::{Working, is_ready},
};

/// Serves the claims of a batch from what was ready before it and what became ready in it.
pub(super) fn serve(
    working: &mut Working,
    ctx: &mut Context<'_>,
    claims: &[Claim],
    mut loaded: std::collections::HashMap<Arc<str>, Vec<ReadyTask>>,
) {
    working.out.grants = claims.iter().map(|_| Vec::new()).collect();
    let mut left: Vec<u32> = claims.iter().map(|claim| claim.slots).collect();
    let mut bytes = vec![0; claims.len()];
    let drivers: Vec<Arc<str>> = {
        let mut seen = HashSet::new();
        let all = claims.iter().flat_map(|claim| claim.drivers.iter());
        all.filter(|driver| seen.insert(Arc::clone(driver)))
            .cloned()
            .collect()
    };
    for driver in drivers {
        if (ctx.is_paused)(&driver) || is_paused_by_batch(working, &driver) {
            continue;
        }
        let mut ready = loaded.remove(&driver).unwrap_or_default();
        // The store listed as many as are wanted. Where the batch itself took one of these away, there may be others behind.
        let may_have_more = ready.iter().any(|task| !can_be_taken(working, task));
        ready.extend(
            working
                .became_ready
                .get(&driver)
                .into_iter()
                .flatten()
                .cloned(),
        );
        let mut turns = Turns::new(ready, ctx.served.get(&driver));
        let mut takers: VecDeque<usize> = (0..claims.len())
            .filter(|i| left[*i] > 0 && claims[*i].drivers.contains(&driver))
            .collect();
        while let Some(taker) = takers.pop_front() {
            let Some(task) = turns.next(|task| can_be_taken(working, task)) else {
                match may_have_more {
                    true => working.out.ready_drivers.push(driver.clone()),
                    false => working.out.exhausted_drivers.push(driver.clone()),
                }
                break;
            };
            ctx.served.insert(driver.clone(), task.key.tenant.clone());
            let grant = grant(working, ctx, &task, &claims[taker].worker);
            bytes[taker] += payload_bytes(&grant);
            working.out.grants[taker].push(grant);
            left[taker] -= 1;
            if bytes[taker] >= MAX_GRANT_BYTES {
                // The rest comes with the next batch, in a message of its own.
                left[taker] = 0;
            }
            if left[taker] > 0 {
                takers.push_back(taker);
            }
        }
    }
}

fn payload_bytes(grant: &Grant) -> usize {
    let payload = grant.task.spec.request_payload.as_ref();
    payload.map_or(0, |payload| payload.0.len())
}

/// What is paused by a batch is paused for its claims, which come last.
fn is_paused_by_batch(working: &Working, driver: &Arc<str>) -> bool {
    let changes = &working.out.changes.drivers;
    let newest = changes.iter().rev().find(|(changed, _)| changed == driver);
    newest.is_some_and(|(_, pause)| pause.is_some())
}

fn can_be_taken(working: &Working, task: &ReadyTask) -> bool {
    working
        .get(&task.key)
        .is_some_and(|job| is_ready(&job.tasks[task.ordinal as usize]))
}

fn grant(working: &mut Working, ctx: &Context<'_>, ready: &ReadyTask, worker: &Arc<str>) -> Grant {
    let ordinal = ready.ordinal as usize;
    let policy = ctx.policy;
    working.edit(&ready.key, ctx, |edit| {
        report::lease(edit, ordinal, worker, &policy);
        let task = edit.job.tasks[ordinal].clone();
        Grant {
            lease: edit.job.lease_key(ready.ordinal),
            job: edit.job.spec.clone(),
            create_time: edit.job.create_time,
            depends_on: task
                .spec
                .depends_on
                .iter()
                .map(|d| edit.job.tasks[*d as usize].spec.name.clone())
                .collect(),
            duration: task.lease_duration(policy.lease_duration),
            task,
        }
    })
}

/// The ready tasks of a driver, in the order in which they are given out.
struct Turns {
    /// Each tenant's tasks, the next one last; in the order of their turns.
    tenants: VecDeque<Vec<ReadyTask>>,
}

impl Turns {
    fn new(ready: Vec<ReadyTask>, served: Option<&Tenant>) -> Self {
        let mut by_tenant: BTreeMap<Tenant, Vec<ReadyTask>> = BTreeMap::new();
        for task in ready {
            by_tenant
                .entry(task.key.tenant.clone())
                .or_default()
                .push(task);
        }
        for tasks in by_tenant.values_mut() {
            tasks.sort_unstable_by(|a, b| {
                let rank = |t: &ReadyTask| {
                    (
                        t.priority,
                        std::cmp::Reverse((t.ready_time, t.key.job, t.ordinal)),
                    )
                };
                rank(a).cmp(&rank(b))
            });
        }
        let (after, before): (Vec<_>, Vec<_>) = by_tenant
            .into_iter()
            .partition(|(tenant, _)| served.is_some_and(|served| tenant > served));
        Self {
            tenants: after
                .into_iter()
                .chain(before)
                .map(|(_, tasks)| tasks)
                .collect(),
        }
    }

    /// The next task that can still be taken.
    fn next(&mut self, still_ready: impl Fn(&ReadyTask) -> bool) -> Option<ReadyTask> {
        while let Some(mut tasks) = self.tenants.pop_front() {
            while let Some(task) = tasks.pop() {
                if still_ready(&task) {
                    if !tasks.is_empty() {
                        self.tenants.push_back(tasks);
                    }
                    return Some(task);
                }
            }
        }
        None
    }
}
