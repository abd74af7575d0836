//! Which connected workers want tasks, and which leases they hold. Owned by the commit loop, so it needs no lock.
//!
//! Slots are not counted up and down: a worker's free slots are its slots less the leases that it is known to hold, and those follow from the decisions.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot};

use super::{ToWorker, queues::Queues};
use crate::{
    domain::{
        JobKey, LeaseKey, Tenant, Timestamp,
        command::{CancelOrder, Claim, Command, Decision, Grant, Pause, Report},
        limits::MAX_DRIVERS,
        reach::{Queue, Reach},
    },
    store::Connected,
};

/// Slots that are served in one commit: more would make the others of the batch wait.
const MAX_SLOTS_PER_COMMIT: u32 = 1_000;

/// Queues that are looked at for one commit, besides those of callers who do not wait, and all of one worker: each is a question to the store.
const MAX_QUEUES_PER_COMMIT: usize = MAX_DRIVERS;

/// Queues that are remembered to be empty, besides those that somebody waits for: callers make names up, and to forget one costs no more than a look.
const MAX_KNOWN_QUEUES: usize = 10_000;

/// Names a connected worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SessionId(pub(super) u64);

/// A worker on a stream.
pub(super) struct Session {
    pub(super) worker: Arc<str>,
    /// Whose tasks it takes; `None` for those of all tenants.
    pub(super) tenant: Option<Tenant>,
    pub(super) drivers: Arc<[Arc<str>]>,
    pub(super) slots: u32,
    /// The leases that it holds, with the driver of each as far as that is known: one that it has brought along may be of any that it may speak of.
    pub(super) held: HashMap<LeaseKey, Option<Arc<str>>>,
    /// Leases that were sent and not acknowledged: if the stream breaks, they go back.
    pub(super) unacknowledged: HashSet<LeaseKey>,
    pub(super) outbox: mpsc::Sender<ToWorker>,
}

/// A worker that waits in a unary call.
pub(super) struct Acquirer {
    pub(super) worker: Arc<str>,
    /// Whose tasks it takes; `None` for those of all tenants.
    pub(super) tenant: Option<Tenant>,
    pub(super) drivers: Arc<[Arc<str>]>,
    pub(super) most: u32,
    pub(super) reply: oneshot::Sender<Vec<Grant>>,
    /// It does not wait: it is answered by the next commit, with tasks or without.
    pub(super) at_once: bool,
}

/// Who a claim was made for.
enum Claimant {
    Session(SessionId),
    Acquirer,
}

/// See the module.
#[derive(Default)]
pub(super) struct Dispatch {
    sessions: HashMap<SessionId, Session>,
    acquirers: VecDeque<Acquirer>,
    /// Who holds a lease, as far as a stream to it is open here; in order, so that those of one job are found together.
    holders: BTreeMap<LeaseKey, SessionId>,
    /// Queues in which no task is ready; one that is not here may have some.
    exhausted: Queues,
    /// How many of them somebody waited for when the others were forgotten last.
    awaited: usize,
    claimants: Vec<Claimant>,
    next_turn: u64,
    pub(super) paused: HashMap<Arc<str>, Pause>,
    /// The tenant that was served last by a worker of all tenants, by driver.
    pub(super) served: HashMap<Arc<str>, Tenant>,
}

impl Dispatch {
    pub(super) fn open(&mut self, id: SessionId, session: Session) {
        for lease in session.held.keys() {
            // From now on it is this stream's; the end of the old one, which may be noticed late, must not give it back.
            if let Some(old) = self.holders.insert(lease.clone(), id)
                && let Some(old) = self.sessions.get_mut(&old)
            {
                old.held.remove(lease);
                old.unacknowledged.remove(lease);
            }
        }
        self.sessions.insert(id, session);
    }

    /// A stream ended; answers what goes back to the queue.
    pub(super) fn close(&mut self, id: SessionId) -> Vec<Command> {
        let Some(session) = self.sessions.remove(&id) else {
            return Vec::new();
        };
        for lease in session.held.keys() {
            if self.holders.get(lease) == Some(&id) {
                self.holders.remove(lease);
            }
        }
        session.unacknowledged.into_iter().map(give_back).collect()
    }

    pub(super) fn set_slots(&mut self, id: SessionId, slots: u32) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.slots = slots;
        }
    }

    /// A worker says that it has got a lease. Only who was sent it can.
    pub(super) fn acknowledge(&mut self, id: SessionId, lease: &LeaseKey) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.unacknowledged.remove(lease);
        }
    }

    /// A worker speaks of a lease: so it has got it, and if it says that it is done, its slot is free whatever the answer will be. Not if the lease may be
    /// beyond its reach: then it is for the decision to say.
    pub(super) fn hear(&mut self, lease: &LeaseKey, report: &Report, reach: Option<&Reach>) {
        if let Some(id) = self.holders.get(lease)
            && let Some(session) = self.sessions.get_mut(id)
            && let Some(driver) = session.held.get(lease)
            && reach.is_none_or(|reach| is_within(reach, lease, driver.as_deref()))
        {
            session.unacknowledged.remove(lease);
            if report.ends_lease() {
                session.held.remove(lease);
            }
        }
    }

    /// Every lease whose holder is connected here.
    pub(super) fn all_held(&self) -> impl Iterator<Item = LeaseKey> {
        self.holders.keys().cloned()
    }

    /// Leases of a job whose holders are connected here.
    pub(super) fn held_of(&self, key: &JobKey) -> impl Iterator<Item = LeaseKey> {
        let from = LeaseKey {
            tenant: key.tenant.clone(),
            job: key.job,
            ordinal: 0,
            attempt: 0,
            fencing_token: 0,
        };
        let held = self.holders.range(from..).map(|(lease, _)| lease);
        held.take_while(|lease| lease.job == key.job && lease.tenant == key.tenant)
            .cloned()
    }

    /// Any queue may have tasks that are ready.
    pub(super) fn look_again(&mut self) {
        self.exhausted.clear();
    }

    /// These tenants may have tasks that are ready.
    pub(super) fn look_again_for(&mut self, tenants: &HashSet<Tenant>) {
        self.exhausted.remove_tenants(tenants);
    }

    /// These queues may have tasks that are ready.
    pub(super) fn look_again_at(&mut self, queues: impl Iterator<Item = Queue>) {
        for Queue { driver, tenant } in queues {
            self.exhausted.remove(&driver, None);
            self.exhausted.remove(&driver, tenant.as_ref());
        }
    }

    /// A driver turned out to be paused. Since when, and why, is yet to be heard.
    pub(super) fn learn_of_pause(&mut self, driver: &Arc<str>, now: Timestamp) {
        let unheard = (now, String::new());
        self.paused.entry(driver.clone()).or_insert(unheard);
    }

    /// These drivers are paused, and no others.
    pub(super) fn set_paused(&mut self, paused: HashMap<Arc<str>, Pause>) {
        let resumed = std::mem::replace(&mut self.paused, paused).into_keys();
        for driver in resumed.filter(|driver| !self.paused.contains_key(driver)) {
            // A store that others write to told nothing of it meanwhile.
            self.exhausted.remove_driver(&driver);
        }
    }

    pub(super) fn wait(&mut self, acquirer: Acquirer) {
        self.acquirers.push_back(acquirer);
    }

    /// Forgets everybody who waits, and gives out no more: the server goes.
    pub(super) fn drain(&mut self) {
        for session in self.sessions.values_mut() {
            session.slots = 0;
            // A full outbox means that the stream is broken or about to be; its end tells the same.
            let _ = session.outbox.try_send(ToWorker::Drain);
        }
        self.acquirers.clear();
    }

    /// Whether anybody waits for tasks that may be there.
    pub(super) fn has_demand(&self) -> bool {
        let wanted = |drivers: &[Arc<str>], tenant: Option<&Tenant>| {
            drivers.iter().any(|driver| self.may_have(driver, tenant))
        };
        self.acquirers
            .iter()
            .any(|a| a.at_once || wanted(&a.drivers, a.tenant.as_ref()))
            || self
                .sessions
                .values()
                .any(|s| free(s) > 0 && wanted(&s.drivers, s.tenant.as_ref()))
    }

    fn may_have(&self, driver: &str, tenant: Option<&Tenant>) -> bool {
        let is_empty = |tenant| self.exhausted.contains(driver, tenant);
        let has_none = is_empty(None) || tenant.is_some_and(|tenant| is_empty(Some(tenant)));
        !has_none && !self.paused.contains_key(driver)
    }

    /// The claims of all who want tasks, for one commit; workers take turns at being first.
    ///
    /// `fresh` are queues in which tasks may become ready in this very commit.
    pub(super) fn claims(&mut self, fresh: &Queues) -> Vec<Claim> {
        let mut claimants = Vec::new();
        let mut claims = Vec::new();
        let mut left = MAX_SLOTS_PER_COMMIT;
        let mut looked_at = Queues::default();
        self.acquirers
            .retain(|acquirer| !acquirer.reply.is_closed());
        let wanted = |drivers: &[Arc<str>], tenant: Option<&Tenant>| {
            let is_fresh = |driver: &str| fresh.contains(driver, tenant);
            let mut drivers = drivers.iter();
            drivers.any(|driver| is_fresh(driver) || self.may_have(driver, tenant))
        };
        for acquirer in &self.acquirers {
            let (drivers, tenant) = (&acquirer.drivers, acquirer.tenant.as_ref());
            let has_turn = wanted(drivers, tenant)
                && (have_room(&mut looked_at, drivers, tenant) || acquirer.at_once);
            let slots = match has_turn {
                true => acquirer.most.min(left),
                false => 0,
            };
            left -= slots;
            claimants.push(Claimant::Acquirer);
            claims.push(Claim {
                worker: acquirer.worker.clone(),
                tenant: acquirer.tenant.clone(),
                drivers: acquirer.drivers.clone(),
                slots,
            });
        }
        let mut ids: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, s)| free(s) > 0 && wanted(&s.drivers, s.tenant.as_ref()))
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        let turn = usize::try_from(self.next_turn).unwrap_or(0) % ids.len().max(1);
        ids.rotate_left(turn);
        self.next_turn = self.next_turn.wrapping_add(1);
        for id in ids {
            let session = &self.sessions[&id];
            if !have_room(&mut looked_at, &session.drivers, session.tenant.as_ref()) {
                continue;
            }
            let slots = free(session).min(left);
            left -= slots;
            claimants.push(Claimant::Session(id));
            claims.push(Claim {
                worker: session.worker.clone(),
                tenant: session.tenant.clone(),
                drivers: session.drivers.clone(),
                slots,
            });
        }
        self.claimants = claimants;
        claims
    }

    /// Takes note of a committed decision and tells the workers. Answers commands that follow from it.
    pub(super) fn take(&mut self, decision: &mut Decision) -> Vec<Command> {
        let mut follow_ups = Vec::new();
        for (driver, paused) in &decision.changes.drivers {
            match paused {
                Some(since) => self.paused.insert(driver.clone(), since.clone()),
                None => self.paused.remove(driver),
            };
        }
        self.look_again_at(decision.ready.drain(..));
        if self.exhausted.len() > MAX_KNOWN_QUEUES + 2 * self.awaited {
            self.forget_unawaited();
        }
        for queue in decision.exhausted.drain(..) {
            self.exhausted.insert(queue);
        }
        let taken = decision.ended.iter().filter(|ended| ended.by_server);
        for lease in taken.map(|ended| &ended.lease).chain(&decision.lost) {
            if let Some(session) = self.forget(lease) {
                let _ = session.outbox.try_send(ToWorker::Lost(lease.clone()));
            }
        }
        for ended in &decision.ended {
            self.forget(&ended.lease);
        }
        for lease in &decision.dead {
            self.forget(lease);
        }
        for (lease, order) in decision.cancels.drain(..) {
            if self.tell_cancel(&lease, order) {
                follow_ups.push(Command::CancelDelivered { lease });
            }
        }
        self.hand_out(std::mem::take(&mut decision.grants), &mut follow_ups);
        follow_ups
    }

    /// Of the queues that are known to be empty keeps those that somebody waits for: they would be looked at again at once, and so without end.
    fn forget_unawaited(&mut self) {
        let mut awaited = Queues::default();
        let sessions = self.sessions.values().map(|s| (&s.drivers, &s.tenant));
        let acquirers = self.acquirers.iter().map(|a| (&a.drivers, &a.tenant));
        for (drivers, tenant) in sessions.chain(acquirers) {
            for driver in drivers.iter() {
                for tenant in [&None, tenant] {
                    if self.exhausted.contains(driver, tenant.as_ref()) {
                        awaited.insert(Queue {
                            driver: driver.clone(),
                            tenant: tenant.clone(),
                        });
                    }
                }
            }
        }
        self.awaited = awaited.len();
        self.exhausted = awaited;
    }

    /// After a failed commit nothing was granted; those who do not wait are told so.
    pub(super) fn forget_claims(&mut self) {
        self.hand_out(Vec::new(), &mut Vec::new());
    }

    /// A lease is nobody's any more. Answers whose it was.
    fn forget(&mut self, lease: &LeaseKey) -> Option<&Session> {
        let id = self.holders.remove(lease)?;
        let session = self.sessions.get_mut(&id)?;
        session.held.remove(lease);
        session.unacknowledged.remove(lease);
        Some(session)
    }

    fn tell_cancel(&mut self, lease: &LeaseKey, order: CancelOrder) -> bool {
        self.holders
            .get(lease)
            .and_then(|id| self.sessions.get(id))
            .is_some_and(|session| {
                let message = ToWorker::Cancel(lease.clone(), order);
                session.outbox.try_send(message).is_ok()
            })
    }

    fn hand_out(&mut self, grants: Vec<Vec<Grant>>, follow_ups: &mut Vec<Command>) {
        let mut grants = grants.into_iter();
        for claimant in std::mem::take(&mut self.claimants) {
            let granted = grants.next().unwrap_or_default();
            match claimant {
                Claimant::Acquirer => {
                    let Some(acquirer) = self.acquirers.pop_front() else {
                        continue;
                    };
                    if granted.is_empty() && !acquirer.at_once {
                        self.acquirers.push_back(acquirer);
                    } else if let Err(granted) = acquirer.reply.send(granted) {
                        let back = granted.into_iter().map(|grant| give_back(grant.lease));
                        follow_ups.extend(back);
                    }
                }
                Claimant::Session(_) if granted.is_empty() => {}
                Claimant::Session(id) => self.send(id, granted, follow_ups),
            }
        }
    }

    fn send(&mut self, id: SessionId, granted: Vec<Grant>, follow_ups: &mut Vec<Command>) {
        let leases = granted.iter().map(|grant| {
            let driver = Arc::clone(&grant.task.spec.driver);
            (grant.lease.clone(), driver)
        });
        let leases: Vec<(LeaseKey, Arc<str>)> = leases.collect();
        let sent = self
            .sessions
            .get(&id)
            .is_some_and(|s| s.outbox.try_send(ToWorker::Leases(granted)).is_ok());
        match self.sessions.get_mut(&id) {
            Some(session) if sent => {
                for (lease, driver) in leases {
                    session.held.insert(lease.clone(), Some(driver));
                    session.unacknowledged.insert(lease.clone());
                    self.holders.insert(lease, id);
                }
            }
            _ => follow_ups.extend(leases.into_iter().map(|(lease, _)| give_back(lease))),
        }
    }

    /// The workers that are connected here.
    pub(super) fn roster(&self) -> Vec<Connected> {
        let mut roster: HashMap<Queue, (usize, usize)> = HashMap::new();
        let mut add = |drivers: &[Arc<str>], tenant: &Option<Tenant>, slots: u32| {
            for driver in drivers {
                let queue = Queue {
                    driver: driver.clone(),
                    tenant: tenant.clone(),
                };
                let entry = roster.entry(queue).or_default();
                entry.0 += 1;
                entry.1 += slots as usize;
            }
        };
        for session in self.sessions.values() {
            add(&session.drivers, &session.tenant, free(session));
        }
        for acquirer in &self.acquirers {
            add(&acquirer.drivers, &acquirer.tenant, acquirer.most);
        }
        let of_each = roster.into_iter();
        let connected =
            of_each.map(
                |(Queue { driver, tenant }, (workers, free_slots))| Connected {
                    driver,
                    tenant,
                    workers,
                    free_slots,
                },
            );
        connected.collect()
    }
}

/// Whether queues can be looked at besides those that are; then they are too.
fn have_room(looked_at: &mut Queues, drivers: &[Arc<str>], tenant: Option<&Tenant>) -> bool {
    let is_new = |driver: &&Arc<str>| !looked_at.contains(driver, tenant);
    let new = drivers.iter().filter(is_new).count();
    let has_room = looked_at.len() == 0 || looked_at.len() + new <= MAX_QUEUES_PER_COMMIT;
    if has_room && new > 0 {
        for driver in drivers {
            looked_at.insert(Queue {
                driver: driver.clone(),
                tenant: tenant.cloned(),
            });
        }
    }
    has_room
}

fn free(session: &Session) -> u32 {
    let held = u32::try_from(session.held.len()).unwrap_or(u32::MAX);
    session.slots.saturating_sub(held)
}

/// Whether a lease is certainly within a reach; its driver is not always known.
fn is_within(reach: &Reach, lease: &LeaseKey, driver: Option<&str>) -> bool {
    let serves = match driver {
        Some(driver) => reach.serves(driver),
        None => reach.drivers.is_none(),
    };
    reach.includes(&lease.tenant) && serves
}

/// A lease that reached nobody costs nothing.
pub(super) fn give_back(lease: LeaseKey) -> Command {
    Command::Report {
        lease,
        report: Report::Release {
            reason: "the worker was gone before it took the lease".to_owned(),
        },
        reach: None,
    }
}

#[cfg(test)]
mod tests;
