//! Who gets which task: tenants take turns; within a tenant by priority, then age; workers take turns too, so that none is filled while others idle. A
//! worker of one tenant gets that tenant's tasks alone, out of turn.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Tenant,
    command::{Claim, Context, Grant, ReadyTask},
    event::EventKind,
    lifecycle,
    limits::MAX_GRANT_BYTES,
    reach::Queue,
    report,
    secrecy::{Hidden, Secrets},
    working::{Working, is_ready},
};

/// How long a task waits whose secrets can not be opened: a person has to do something, and each look is an event.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);

/// Serves the claims of a batch from what was ready before it and what became ready in it.
pub(super) fn serve(
    working: &mut Working,
    ctx: &mut Context<'_>,
    claims: &[Claim],
    mut loaded: HashMap<Arc<str>, Vec<ReadyTask>>,
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
        let mut takers: VecDeque<usize> = (0..claims.len())
            .filter(|i| left[*i] > 0 && claims[*i].drivers.contains(&driver))
            .collect();
        let mut ready = loaded.remove(&driver).unwrap_or_default();
        let mut listed = list(working, claims, &driver, &ready);
        ready.extend(
            working
                .became_ready
                .get(&driver)
                .into_iter()
                .flatten()
                .cloned(),
        );
        let mut turns = Turns::new(ready, ctx.served.get(&driver));
        while let Some(taker) = takers.pop_front() {
            let whose = &claims[taker].tenant;
            let Some(task) = turns.next(whose.as_ref(), |task| can_be_taken(working, task)) else {
                // It is told once, and says nothing of what others may take.
                if let Some(listed) = listed.remove(whose) {
                    let queue = Queue {
                        driver: driver.clone(),
                        tenant: whose.clone(),
                    };
                    match listed.may_hide_more() {
                        true => working.out.ready.push(queue),
                        false => working.out.exhausted.push(queue),
                    }
                }
                continue;
            };
            let Some(hidden) = opened(working, ctx, &task) else {
                put_off(working, ctx, &task);
                takers.push_front(taker);
                continue;
            };
            if whose.is_none() {
                ctx.served.insert(driver.clone(), task.key.tenant.clone());
            }
            let grant = grant(working, ctx, &task, &claims[taker].worker, hidden);
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

/// What the store listed of a queue.
#[derive(Default)]
struct Listed {
    /// How many tasks its claims want.
    wanted: usize,
    tasks: usize,
    /// The batch itself took one of them away.
    has_gap: bool,
}

impl Listed {
    /// Whether there may be others behind those that were listed: these are no more than are wanted, and were not all there for the claims of this queue, as
    /// the batch or claims of another queue had some.
    fn may_hide_more(&self) -> bool {
        self.has_gap || self.tasks >= self.wanted
    }
}

/// By whose tasks they are, for the claims that there are.
fn list(
    working: &Working,
    claims: &[Claim],
    driver: &Arc<str>,
    ready: &[ReadyTask],
) -> HashMap<Option<Tenant>, Listed> {
    let mut listed: HashMap<Option<Tenant>, Listed> = HashMap::new();
    for claim in claims.iter().filter(|c| c.drivers.contains(driver)) {
        let of_tenant = listed.entry(claim.tenant.clone()).or_default();
        of_tenant.wanted += claim.slots as usize;
    }
    for task in ready {
        let has_gap = !can_be_taken(working, task);
        for whose in [None, Some(task.key.tenant.clone())] {
            if let Some(listed) = listed.get_mut(&whose) {
                listed.tasks += 1;
                listed.has_gap |= has_gap;
            }
        }
    }
    listed
}

fn payload_bytes(grant: &Grant) -> usize {
    let payload = grant.task.spec.request_payload.as_ref();
    let hidden = grant.hidden.as_ref();
    payload.map_or(0, |payload| payload.0.len()) + hidden.map_or(0, |hidden| hidden.len())
}

/// What the worker of a task alone may know; `None` if there is something and it can not be opened.
fn opened(working: &Working, ctx: &Context<'_>, ready: &ReadyTask) -> Option<Option<Arc<Hidden>>> {
    let job = working.get(&ready.key);
    match job.map(|job| &job.tasks[ready.ordinal as usize].secrets) {
        Some(Secrets::Sealed(sealed)) => {
            let hidden = ctx.secrecy.open(&ready.key, ready.ordinal, sealed)?;
            Some(Some(Arc::new(hidden)))
        }
        Some(Secrets::None | Secrets::Erased) | None => Some(None),
    }
}

/// Leaves a task for later, because its worker would get it without its secrets: a node that has the key may take it, or this one when it has been given it.
fn put_off(working: &mut Working, ctx: &Context<'_>, ready: &ReadyTask) {
    let ordinal = ready.ordinal as usize;
    working.edit(&ready.key, ctx, |edit| {
        edit.make_ready(ordinal, edit.now.after(UNREADABLE_PAUSE));
        let message = "its secrets were sealed with a master key that this server does not have: start it with that key, also as a former one in --master-key-file";
        lifecycle::warn(edit, ordinal, message.to_owned());
        edit.record(EventKind::TaskWarning, Some(ordinal), message.to_owned());
    });
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

fn grant(
    working: &mut Working,
    ctx: &Context<'_>,
    ready: &ReadyTask,
    worker: &Arc<str>,
    hidden: Option<Arc<Hidden>>,
) -> Grant {
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
            hidden,
        }
    })
}

/// The ready tasks of a driver, in the order in which they are given out.
struct Turns {
    /// Each tenant's tasks, the next one last.
    tasks: BTreeMap<Tenant, Vec<ReadyTask>>,
    /// Whose turn it is, for those who take the tasks of all tenants.
    order: VecDeque<Tenant>,
}

impl Turns {
    fn new(ready: Vec<ReadyTask>, served: Option<&Tenant>) -> Self {
        let mut tasks: BTreeMap<Tenant, Vec<ReadyTask>> = BTreeMap::new();
        for task in ready {
            tasks.entry(task.key.tenant.clone()).or_default().push(task);
        }
        for tasks in tasks.values_mut() {
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
        let (after, before): (Vec<_>, Vec<_>) = tasks
            .keys()
            .cloned()
            .partition(|tenant| served.is_some_and(|served| tenant > served));
        Self {
            tasks,
            order: after.into_iter().chain(before).collect(),
        }
    }

    /// The next task that can still be taken: of one tenant, which costs it no turn, or of the one whose turn it is.
    fn next(
        &mut self,
        whose: Option<&Tenant>,
        still_ready: impl Fn(&ReadyTask) -> bool,
    ) -> Option<ReadyTask> {
        let next_of = |tasks: &mut Vec<ReadyTask>| {
            while let Some(task) = tasks.pop() {
                if still_ready(&task) {
                    return Some(task);
                }
            }
            None
        };
        if let Some(tenant) = whose {
            return next_of(self.tasks.get_mut(tenant)?);
        }
        while let Some(tenant) = self.order.pop_front() {
            let Some(tasks) = self.tasks.get_mut(&tenant) else {
                continue;
            };
            if let Some(task) = next_of(tasks) {
                if !tasks.is_empty() {
                    self.order.push_back(tenant);
                }
                return Some(task);
            }
        }
        None
    }
}
