//! Follows every batch from outside and knows what no row says: which leases are alive, how each ended, which request ids stand for what.

mod queues;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use longhaul::domain::{
    Job, JobId, JobKey, JobState, LeaseKey, TaskState, Timestamp,
    command::{
        Claim, Command, Decision, Fingerprint, Refusal, Reply, Report, RequestKey, WriteKind,
    },
    counts::Counted,
    event::{Event, EventKind},
    limits::Policy,
    reach::Reach,
    task::LeaseEnd,
};

use crate::{registered, sound, store::Store};

/// A batch, as seen from outside.
pub struct Seen<'a> {
    pub before: &'a Store,
    pub after: &'a Store,
    pub commands: &'a [Command],
    pub claims: &'a [Claim],
    pub decision: &'a Decision,
    pub now: Timestamp,
    pub policy: Policy,
    pub hold: Timestamp,
}

/// An event, and the job as watchers are shown it.
type Told<'a> = (&'a Event, Option<&'a Arc<Job>>);

#[derive(Default)]
pub struct Audit {
    alive: HashSet<LeaseKey>,
    /// The newest fencing token of each task.
    tokens: HashMap<(JobId, u32), u64>,
    /// The token of each task's last lease that ended by a report, and how it ended.
    reported: HashMap<(JobId, u32), (u64, LeaseEnd)>,
    /// The driver of each task that was ever leased.
    drivers: HashMap<(JobId, u32), Arc<str>>,
    /// Leases that have ended.
    over: HashSet<LeaseKey>,
    requests: HashMap<RequestKey, (Fingerprint, JobKey)>,
    /// Children by parent, those that were removed included.
    children: HashMap<JobKey, HashMap<JobId, JobState>>,
    ends: HashMap<JobId, JobState>,
    wrong: Vec<String>,
}

impl Audit {
    /// What is wrong with a batch.
    pub fn batch(&mut self, seen: &Seen<'_>) -> Vec<String> {
        let mut touched = HashSet::new();
        self.replies(seen, &mut touched);
        self.grants(seen, &mut touched);
        self.put_off(seen, &mut touched);
        self.ended(seen);
        self.writes(seen, &touched);
        self.events(seen);
        self.families(seen);
        self.counters(seen.after);
        self.readiness(seen);
        self.unfilled(seen);
        self.wrong.extend(registered::wrong(seen));
        std::mem::take(&mut self.wrong)
    }

    fn must(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(fault());
        }
    }

    /// Answers fit what is known, and collects the jobs that the commands may have touched.
    fn replies(&mut self, seen: &Seen<'_>, touched: &mut HashSet<JobKey>) {
        let decision = seen.decision;
        self.must(decision.replies.len() == seen.commands.len(), || {
            "an answer for each command".into()
        });
        let mut gone: HashSet<JobKey> = HashSet::new();
        for (command, reply) in seen.commands.iter().zip(&decision.replies) {
            match command.bare() {
                Command::Submit(submission) => {
                    let request = RequestKey {
                        tenant: submission.tenant.clone(),
                        id: submission.request_id.clone(),
                    };
                    match reply {
                        // Before anything else is looked at.
                        Err(Refusal::MasterKeyRequired) => {
                            self.must(!submission.hidden.is_empty(), || {
                                "a key was asked for to seal nothing".into()
                            });
                        }
                        _ => self.submitted(&request, submission.fingerprint, reply, touched),
                    }
                }
                Command::Retry {
                    key,
                    request_id,
                    fingerprint,
                } => {
                    let again =
                        matches!(reply, Ok(Reply::Submitted { job, .. }) if job.id == key.job);
                    let refused = matches!(
                        reply,
                        Err(Refusal::JobNotFound(_)
                            | Refusal::JobSucceeded(_)
                            | Refusal::SecretsErased(_))
                    );
                    if again {
                        touched.insert(key.clone());
                    } else if !refused {
                        let request = RequestKey {
                            tenant: key.tenant.clone(),
                            id: request_id.clone(),
                        };
                        self.submitted(&request, *fingerprint, reply, touched);
                    }
                }
                Command::Report {
                    lease,
                    report,
                    reach,
                } => {
                    let kept = seen.before.jobs.contains_key(&lease.job_key())
                        && !gone.contains(&lease.job_key());
                    if reach.as_ref().is_none_or(|r| self.is_within(r, lease)) {
                        self.reported(seen, (lease, report, kept), reply, touched);
                    } else {
                        self.must(matches!(reply, Err(Refusal::LeaseLost)), || {
                            format!("P11: {report:?} on {lease:?} is beyond {reach:?}, and was answered {reply:?}")
                        });
                    }
                }
                Command::CancelDelivered { lease } if self.alive.contains(lease) => {
                    touched.insert(lease.job_key());
                }
                Command::Cancel { key, .. } | Command::Sweep { key } => {
                    touched.insert(key.clone());
                }
                Command::Delete { key } | Command::Expire { key } => {
                    touched.insert(key.clone());
                    let removed = |w: &&longhaul::domain::command::JobWrite| {
                        w.how == WriteKind::Delete && w.job.key() == *key
                    };
                    if decision.changes.jobs.iter().any(|w| removed(&w)) && reply.is_ok() {
                        gone.insert(key.clone());
                    }
                }
                Command::CancelDelivered { .. }
                | Command::Recall { .. }
                | Command::PauseDriver { .. }
                | Command::ResumeDriver { .. }
                | Command::Administer(_)
                | Command::Denied { .. }
                | Command::Audited(_) => {}
            }
            self.requests.retain(|_, (_, job)| !gone.contains(job));
        }
    }

    fn submitted(
        &mut self,
        request: &RequestKey,
        fingerprint: Fingerprint,
        reply: &Result<Reply, Refusal>,
        touched: &mut HashSet<JobKey>,
    ) {
        let known = self.requests.get(request).cloned();
        let fits = match (&known, reply) {
            (None, Ok(Reply::Submitted { created, .. })) => *created,
            (None, Err(refusal)) => !matches!(refusal, Refusal::RequestIdReused { .. }),
            (Some((before, key)), Ok(Reply::Submitted { job, created })) => {
                *before == fingerprint && *key == job.key() && !created
            }
            (Some((before, _)), Err(Refusal::RequestIdReused { .. })) => *before != fingerprint,
            _ => false,
        };
        self.must(fits, || {
            format!("{reply:?} does not fit request id {request:?}, known as {known:?}")
        });
        if let Ok(Reply::Submitted { job, created: true }) = reply {
            touched.insert(job.key());
            if !request.id.is_empty() {
                self.requests
                    .insert(request.clone(), (fingerprint, job.key()));
            }
        }
    }

    /// Whether a lease is any business of a reporter. What was never leased is nobody's.
    fn is_within(&self, reach: &Reach, lease: &LeaseKey) -> bool {
        let driver = self.drivers.get(&(lease.job, lease.ordinal));
        let serves = |driver: &Arc<str>| match &reach.drivers {
            Some(drivers) => drivers.contains(driver),
            None => true,
        };
        match &reach.tenant {
            Some(tenant) if *tenant != lease.tenant => false,
            _ => driver.is_some_and(serves),
        }
    }

    fn reported(
        &mut self,
        seen: &Seen<'_>,
        (lease, report, kept): (&LeaseKey, &Report, bool),
        reply: &Result<Reply, Refusal>,
        touched: &mut HashSet<JobKey>,
    ) {
        let task = (lease.job, lease.ordinal);
        let how = match report {
            Report::Success { .. } => Some(LeaseEnd::Succeeded),
            Report::Failure { .. } => Some(LeaseEnd::Failed),
            Report::Release { .. } => Some(LeaseEnd::Released),
            Report::Cancelled { .. } => Some(LeaseEnd::Cancelled),
            _ => None,
        };
        let live = self.alive.contains(lease) && !self.over.contains(lease);
        let repeat = how.is_some_and(|how| {
            // The token tells leases of a task apart; the attempt follows from it.
            kept && self.reported.get(&task) == Some(&(lease.fencing_token, how))
        });
        match reply {
            Ok(Reply::Reported(reported)) => {
                self.must(live || repeat, || {
                    format!("P4: a report on {lease:?} was accepted, which is not alive")
                });
                self.must(reported.expiry.is_none() == how.is_some(), || {
                    format!("{report:?} answered {reported:?}")
                });
                if live {
                    touched.insert(lease.job_key());
                }
                if let Some(how) = how.filter(|_| live) {
                    self.reported.insert(task, (lease.fencing_token, how));
                    self.over.insert(lease.clone());
                }
            }
            Err(Refusal::LeaseLost) => {
                let by_server = |lease: &LeaseKey| {
                    let ended = seen.decision.ended.iter();
                    ended.clone().any(|e| e.lease == *lease && e.by_server)
                };
                self.must(!repeat, || format!("repeating {report:?} was refused"));
                self.must(!live || by_server(lease), || {
                    format!("the holder of {lease:?} was refused")
                });
            }
            other => self.must(false, || format!("{other:?} answers no report")),
        }
    }

    fn grants(&mut self, seen: &Seen<'_>, touched: &mut HashSet<JobKey>) {
        self.must(seen.decision.grants.len() == seen.claims.len(), || {
            "an answer for each claim".into()
        });
        for (claim, grants) in seen.claims.iter().zip(&seen.decision.grants) {
            self.must(grants.len() <= claim.slots as usize, || {
                format!("{} leases for {claim:?}", grants.len())
            });
            for grant in grants {
                let lease = &grant.lease;
                let token = self.tokens.entry((lease.job, lease.ordinal)).or_default();
                let before = std::mem::replace(token, lease.fencing_token);
                // Also greater than that of any lease that a failover or a restore may have lost.
                let time = seen.now.as_micros().unsigned_abs();
                let grows = lease.fencing_token > before && lease.fencing_token >= time;
                self.must(grows, || {
                    format!("the fencing token of {lease:?} does not grow with time")
                });
                let driver = &grant.task.spec.driver;
                self.drivers
                    .insert((lease.job, lease.ordinal), driver.clone());
                let is_own = claim.tenant.as_ref().is_none_or(|own| *own == lease.tenant);
                self.must(is_own, || format!("P11: {lease:?} was given for {claim:?}"));
                self.must(
                    claim.drivers.contains(driver) && !seen.before.paused.contains(driver),
                    || format!("a task of {driver} was given for {claim:?}"),
                );
                let known = seen.after.jobs.get(&lease.job_key());
                let fits = known.is_some_and(|job| {
                    job.tasks[lease.ordinal as usize] == grant.task
                        && job.lease_key(lease.ordinal) == *lease
                        && job.cancel.is_none()
                        && grant.task.worker == claim.worker
                });
                self.must(fits, || {
                    format!("the grant of {lease:?} is not what is stored")
                });
                self.alive.insert(lease.clone());
                touched.insert(lease.job_key());
            }
        }
    }

    /// A task whose secrets can not be opened is left for later, and nothing else happens to it.
    fn put_off(&mut self, seen: &Seen<'_>, touched: &mut HashSet<JobKey>) {
        let warned = seen.decision.changes.events.iter();
        for event in warned.filter(|event| event.kind == EventKind::TaskWarning) {
            let of = |store: &Store| {
                let job = store.jobs.get(&event.job_key())?;
                let ordinal = event.task.as_ref()?.ordinal as usize;
                job.tasks.get(ordinal).cloned()
            };
            let (before, after) = (of(seen.before), of(seen.after));
            let was_ready = before.is_some_and(|task| task.ready_time.is_some());
            let waits = after.is_some_and(|task| {
                task.schedule_time > Some(seen.now) && task.secrets.were_given()
            });
            if was_ready && waits && !seen.claims.is_empty() {
                touched.insert(event.job_key());
            }
        }
    }

    /// Each lease ends once, and the living are exactly those that the rows tell of.
    fn ended(&mut self, seen: &Seen<'_>) {
        for ended in &seen.decision.ended {
            let was_alive = self.alive.remove(&ended.lease);
            self.must(was_alive, || format!("{:?} ended twice", ended.lease));
            let reported = self.over.contains(&ended.lease);
            self.must(reported != ended.by_server, || {
                format!("{ended:?} does not say who ended it")
            });
        }
        for lease in &seen.decision.lost {
            self.must(!self.alive.contains(lease), || {
                format!("the holder of {lease:?} is told that it is lost")
            });
        }
        let stored: HashSet<LeaseKey> = seen
            .after
            .jobs
            .values()
            .flat_map(|job| {
                (0u32..)
                    .zip(&job.tasks)
                    .filter(|(_, task)| task.state.is_leased())
                    .map(|(ordinal, _)| job.lease_key(ordinal))
            })
            .collect();
        if stored != self.alive {
            let told: Vec<_> = stored.symmetric_difference(&self.alive).cloned().collect();
            self.must(false, || format!("leases are told wrong: {told:?}"));
        }
    }

    fn writes(&mut self, seen: &Seen<'_>, touched: &HashSet<JobKey>) {
        let mut known = touched.clone();
        for write in &seen.decision.changes.jobs {
            // A change of a job may change its ancestors, and nothing else.
            let mut up = touched
                .contains(&write.job.key())
                .then(|| write.job.parent_key())
                .flatten();
            while let Some(key) = up {
                up = seen.after.jobs.get(&key).and_then(|j| j.parent_key());
                known.insert(key);
            }
        }
        let mut written = HashSet::new();
        for write in &seen.decision.changes.jobs {
            let key = write.job.key();
            let before = seen.before.jobs.get(&key);
            self.must(written.insert(key.clone()), || {
                format!("job {} is written twice", key.job)
            });
            self.must(known.contains(&key), || {
                format!("job {} was changed by nothing", key.job)
            });
            let was_over = before.is_some_and(|job| job.state.is_terminal());
            self.must(!was_over || write.how == WriteKind::Delete, || {
                format!("P4: job {} had ended and was changed", key.job)
            });
            let over = write.job.state.is_terminal();
            self.must(write.how != WriteKind::Delete || over, || {
                format!("job {} was removed before its end", key.job)
            });
            if let Some(before) = before
                && before.revision == write.job.revision
            {
                self.must(visible(before) == visible(&write.job), || {
                    format!("job {} changed visibly without a revision", key.job)
                });
            }
            if write.how != WriteKind::Delete {
                let faults = sound::faults(&write.job, &seen.policy, seen.hold);
                self.wrong.extend(faults);
                self.told_to_stop(seen, before, &write.job);
            }
        }
    }

    /// Whoever holds a lease of a job that is being cancelled from now on is told, and so are its children.
    fn told_to_stop(&mut self, seen: &Seen<'_>, before: Option<&Arc<Job>>, job: &Job) {
        if job.cancel.is_none() || before.is_none_or(|job| job.cancel.is_some()) {
            return;
        }
        for (ordinal, task) in (0u32..).zip(&job.tasks) {
            let told = || {
                let lease = job.lease_key(ordinal);
                let mut cancels = seen.decision.cancels.iter();
                cancels.any(|(told, _)| *told == lease)
            };
            self.must(task.state != TaskState::Cancelling || told(), || {
                format!("the holder of task {ordinal} of job {} is not told", job.id)
            });
        }
        let families = &seen.decision.cancel_children;
        let told = families.iter().any(|(parent, _)| *parent == job.key());
        self.must(job.children.open() == 0 || told, || {
            format!("the children of job {} are not told", job.id)
        });
    }

    /// One event for each revision, in order and without gap, that tells the truth about state and status.
    fn events(&mut self, seen: &Seen<'_>) {
        let changes = &seen.decision.changes;
        self.must(changes.events.len() == seen.decision.history.len(), || {
            "a place in the history for each event".into()
        });
        let mut by_job: BTreeMap<JobKey, Vec<Told<'_>>> = BTreeMap::new();
        for (event, job) in changes.events.iter().zip(&seen.decision.history) {
            let key = JobKey {
                tenant: event.tenant.clone(),
                job: event.job,
            };
            by_job.entry(key).or_default().push((event, job.as_ref()));
        }
        for write in &changes.jobs {
            let key = write.job.key();
            let events = by_job.remove(&key).unwrap_or_default();
            let before = seen.before.jobs.get(&key);
            let mut revision = before.map_or(0, |job| job.revision);
            let mut at = before.map(|job| (job.state, job.status));
            let mut time = before.map(|job| job.update_time);
            for (event, job) in &events {
                revision += 1;
                self.must(event.revision == revision, || {
                    format!("the history of {} has a gap before {event:?}", key.job)
                });
                let just_behind = time.map(|time| time.as_micros() + 1);
                let due = seen.now.as_micros().max(just_behind.unwrap_or(i64::MIN));
                self.must(event.time.as_micros() == due, || {
                    format!("{event:?} is not of {due}, behind {time:?}")
                });
                time = Some(event.time);
                self.must(event.before == at, || format!("{event:?} follows {at:?}"));
                let over = at.is_some_and(|(state, _)| state.is_terminal());
                self.must(!over || event.kind == EventKind::JobDeleted, || {
                    format!("{event:?} after the end")
                });
                at = Some(event.after);
                let shown = job.map(|job| (job.revision, job.update_time, (job.state, job.status)));
                self.must(
                    shown.is_none_or(|s| s == (event.revision, event.time, event.after)),
                    || format!("a watcher is shown {shown:?} for {event:?}"),
                );
                let (end, _) = event.after;
                if end.is_terminal() && !over {
                    let first = self.ends.insert(key.job, end).is_none();
                    self.must(first, || format!("P4: job {} ended twice", key.job));
                }
            }
            self.must(time.is_none_or(|t| t == write.job.update_time), || {
                format!("job {} was not updated when its last event was", key.job)
            });
            self.must(revision == write.job.revision, || {
                format!(
                    "job {} has {} without an event",
                    key.job, write.job.revision
                )
            });
            if let Some((last, job)) = events.last() {
                let fits = match last.kind {
                    EventKind::JobDeleted => job.is_none(),
                    _ => *job == Some(&write.job),
                };
                self.must(fits, || format!("the last word on {} is not told", key.job));
            }
        }
        self.must(by_job.is_empty(), || {
            format!("events of jobs that are not written: {by_job:?}")
        });
    }

    fn families(&mut self, seen: &Seen<'_>) {
        for write in &seen.decision.changes.jobs {
            if let Some(parent) = write.job.parent_key() {
                let children = self.children.entry(parent).or_default();
                children.insert(write.job.id, write.job.state);
            }
        }
        for (key, job) in &seen.after.jobs {
            let none = HashMap::new();
            let children = self.children.get(key).unwrap_or(&none);
            let count = |state| children.values().filter(|s| **s == state).count();
            let counted = &job.children;
            let fits = counted.total as usize == children.len()
                && counted.succeeded as usize == count(JobState::Succeeded)
                && counted.failed as usize == count(JobState::Failed)
                && counted.cancelled as usize == count(JobState::Cancelled);
            let open = children.values().any(|state| !state.is_terminal());
            let early = open && job.state.is_terminal();
            self.must(fits, || format!("job {} miscounts its children", key.job));
            self.must(!early, || format!("job {} ended before a child", key.job));
        }
    }

    fn counters(&mut self, after: &Store) {
        let mut counts: BTreeMap<Counted, i64> = BTreeMap::new();
        for job in after.jobs.values() {
            let tenant = || job.tenant.clone();
            *counts
                .entry(Counted::Jobs(tenant(), job.state, job.status))
                .or_default() += 1;
            for task in &job.tasks {
                let counted = Counted::Tasks(tenant(), task.spec.driver.clone(), task.state);
                *counts.entry(counted).or_default() += 1;
            }
        }
        self.must(counts == after.counts, || {
            format!(
                "counters {:?} differ from a recount {counts:?}",
                after.counts
            )
        });
    }
}

/// A job without what only the server sees.
fn visible(job: &Job) -> Job {
    let mut job = job.clone();
    job.timer = None;
    for task in &mut job.tasks {
        task.lease_expiry = None;
        task.last_end = None;
        task.cancel_acknowledged = false;
    }
    job
}
