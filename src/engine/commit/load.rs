//! What a batch has to know before it is decided: the commands that time asks for, the rows that all of them name, and the tasks that may be taken.
//!
//! Where others write too, jobs that somebody waits for are locked first and in one go; all that comes later leaves out what others are at.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{CommitLoop, Queues, follow_ups::FollowUp};
use crate::{
    domain::{
        Job, JobKey, Timestamp,
        command::{Claim, Command, Loaded, RequestKey},
        limits::MAX_DEPTH,
        reach::Queue,
        registry::RecordKey,
    },
    store::{Locked, StoreError, Whose},
};

/// Jobs that the sweeper looks at in one commit.
const MAX_DUE: usize = 500;
/// Finished jobs that are removed in one commit.
const MAX_EXPIRED: usize = 500;
/// Child jobs of a cancelled job that are cancelled in one commit; the parent's timer sees to the rest.
const MAX_CHILDREN: usize = 500;
/// How often finished jobs are looked at for removal.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(5);
/// How often the earliest timer is read again where others may have set it and gone.
const DUE_INTERVAL: Duration = Duration::from_secs(2);
/// How long what is due may be left to others who were at it.
const SHARED_PAUSE: Duration = Duration::from_millis(25);

impl CommitLoop {
    /// Adds commands of our own and loads every row that the batch needs.
    pub(super) async fn load(
        &mut self,
        commands: &mut Vec<Command>,
        own: &[FollowUp],
        cancelled: &[(JobKey, String)],
        now: Timestamp,
    ) -> Result<(Loaded, Vec<Claim>), StoreError> {
        let asked = commands.len();
        commands.extend(own.iter().map(|own| own.command.clone()));
        self.sweep(commands, cancelled, now).await?;
        let mut loaded = Loaded::default();
        let mut wanted: Vec<JobKey> = commands[..asked].iter().filter_map(key_of).collect();
        let requests: Vec<RequestKey> = commands.iter().filter_map(request_of).collect();
        if !requests.is_empty() {
            for (key, record) in self.writer.requests(&requests).await? {
                wanted.push(record.key.clone());
                loaded.requests.insert(key, record);
            }
        }
        let mut records: Vec<RecordKey> = commands.iter().flat_map(records_of).collect();
        if !records.is_empty() {
            // In one order, so that nobody waits in a circle.
            records.sort_unstable();
            records.dedup();
            loaded.records = self.writer.records(&records).await?;
        }
        let mut seen = HashSet::with_capacity(wanted.len());
        self.jobs(wanted, Locked::Wait, &mut seen, &mut loaded)
            .await?;
        let mut others: Vec<JobKey> = commands[asked..].iter().filter_map(key_of).collect();
        let claims = self
            .candidates(commands, &mut loaded, &mut others, now)
            .await?;
        self.jobs(others, Locked::Skip, &mut seen, &mut loaded)
            .await?;
        if self.is_shared && !own.is_empty() {
            let free = self.those_free(own, &loaded).await;
            commands.splice(asked..asked + own.len(), free);
        }
        Ok((loaded, claims))
    }

    /// Those of our own commands that can be decided: their jobs are here, or are gone for good, which a holder has to be told too.
    async fn those_free(&mut self, own: &[FollowUp], loaded: &Loaded) -> Vec<Command> {
        let here: HashSet<JobKey> = loaded.jobs.iter().map(|job| job.key()).collect();
        let is_here = |command: &Command| key_of(command).is_none_or(|key| here.contains(&key));
        let (mut free, missing) = self.follow_ups.split(own, is_here);
        for command in missing {
            let Some(key) = key_of(&command) else {
                continue;
            };
            if let Ok(None) = self.shared.store.job(&key).await {
                free.push(command);
            }
        }
        free
    }

    /// What time asks for: timers, retention, and children of cancelled jobs.
    async fn sweep(
        &mut self,
        commands: &mut Vec<Command>,
        cancelled: &[(JobKey, String)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for (parent, reason) in cancelled {
            let reason = match reason.as_str() {
                "" => format!("its parent job {} was cancelled", parent.job),
                reason => format!("its parent job {} was cancelled: {reason}", parent.job),
            };
            for key in self.writer.open_children(parent, MAX_CHILDREN).await? {
                let reason = reason.clone();
                commands.push(Command::Cancel { key, reason });
            }
        }
        if self.next_due.is_some_and(|t| t <= now) {
            let due = self.writer.due(now, MAX_DUE).await?;
            self.next_due = match (due.is_empty(), self.is_shared) {
                (true, false) => self.writer.next_due().await?,
                (true, true) => next_look(self.writer.next_due().await?, true, now),
                (false, false) => self.next_due,
                (false, true) => Some(now.after(SHARED_PAUSE)),
            };
            commands.extend(due.into_iter().map(|key| Command::Sweep { key }));
        }
        if self.next_expire <= now {
            let expired = self.writer.expired(now, MAX_EXPIRED).await?;
            self.next_expire = match (expired.len(), self.is_shared) {
                (MAX_EXPIRED, false) => now,
                (MAX_EXPIRED, true) => now.after(SHARED_PAUSE),
                _ => now.after(EXPIRE_INTERVAL),
            };
            commands.extend(expired.into_iter().map(|key| Command::Expire { key }));
        }
        Ok(())
    }

    /// The claims of the workers that want tasks, with the candidates for them.
    async fn candidates(
        &mut self,
        commands: &[Command],
        loaded: &mut Loaded,
        wanted: &mut Vec<JobKey>,
        now: Timestamp,
    ) -> Result<Vec<Claim>, StoreError> {
        self.crowded.clear();
        self.is_contended = false;
        if self.draining || now < self.quiet_until {
            return Ok(Vec::new());
        }
        let claims = self.dispatch.claims(&fresh_queues(commands));
        let mut slots: HashMap<Queue, usize> = HashMap::new();
        for claim in claims.iter().filter(|claim| claim.slots > 0) {
            for driver in claim.drivers.iter() {
                let queue = Queue {
                    driver: driver.clone(),
                    tenant: claim.tenant.clone(),
                };
                *slots.entry(queue).or_default() += claim.slots as usize;
            }
        }
        for (queue, slots) in slots {
            let driver = &queue.driver;
            if self.dispatch.paused.contains_key(driver) {
                continue;
            }
            let whose = match &queue.tenant {
                Some(tenant) => Whose::One(tenant),
                None => Whose::All {
                    served: self.dispatch.served.get(driver),
                },
            };
            let ready = self.writer.ready(driver, whose, slots).await?;
            self.is_contended |= ready.more || !ready.tasks.is_empty();
            if ready.is_paused {
                self.dispatch.learn_of_pause(driver, now);
            }
            wanted.extend(ready.tasks.iter().map(|task| task.key.clone()));
            let of_driver = loaded.ready.entry(driver.clone()).or_default();
            of_driver.extend(ready.tasks);
            if ready.more {
                self.crowded.insert(queue);
            }
        }
        Ok(claims)
    }

    /// Loads jobs and all of their ancestors, from memory where that is known to be true.
    async fn jobs(
        &mut self,
        wanted: Vec<JobKey>,
        locked: Locked,
        seen: &mut HashSet<JobKey>,
        loaded: &mut Loaded,
    ) -> Result<(), StoreError> {
        let mut wanted = wanted;
        wanted.retain(|key| seen.insert(key.clone()));
        for _level in 0..=MAX_DEPTH + 1 {
            if wanted.is_empty() {
                break;
            }
            let mut found: Vec<Arc<Job>> = Vec::with_capacity(wanted.len());
            let mut missing = Vec::new();
            for key in wanted {
                match self.hot.take(&key) {
                    Some(job) => found.push(job),
                    None => missing.push(key),
                }
            }
            if !missing.is_empty() {
                let jobs = self.writer.jobs(&missing, locked).await?;
                // A store that others write to has brought the ancestors as well.
                seen.extend(jobs.iter().filter(|_| self.is_shared).map(Job::key));
                found.extend(jobs.into_iter().map(Arc::new));
            }
            wanted = found
                .iter()
                .filter_map(|job| job.parent_key())
                .filter(|key| seen.insert(key.clone()))
                .collect();
            loaded.jobs.append(&mut found);
        }
        Ok(())
    }
}

/// When to look for what is due: at the earliest timer; and before long where others may set one and go.
pub(super) fn next_look(
    earliest: Option<Timestamp>,
    is_shared: bool,
    now: Timestamp,
) -> Option<Timestamp> {
    let again = is_shared.then(|| now.after(DUE_INTERVAL));
    [earliest, again].into_iter().flatten().min()
}

/// Queues in which tasks may become ready by these commands.
fn fresh_queues(commands: &[Command]) -> Queues {
    let mut fresh = Queues::default();
    for command in commands {
        let Command::Submit(submission) = command.bare() else {
            continue;
        };
        for task in &submission.tasks {
            fresh.insert(Queue::of_all(&task.driver));
            fresh.insert(Queue::of_one(&task.driver, &submission.tenant));
        }
    }
    fresh
}

fn request_of(command: &Command) -> Option<RequestKey> {
    let (tenant, id) = match command.bare() {
        Command::Submit(submission) => (&submission.tenant, &submission.request_id),
        Command::Retry {
            key, request_id, ..
        } => (&key.tenant, request_id),
        Command::Cancel { .. }
        | Command::Delete { .. }
        | Command::Report { .. }
        | Command::CancelDelivered { .. }
        | Command::Recall { .. }
        | Command::Sweep { .. }
        | Command::Expire { .. }
        | Command::PauseDriver { .. }
        | Command::ResumeDriver { .. }
        | Command::Administer(_)
        | Command::Denied { .. }
        | Command::Audited(_) => return None,
    };
    (!id.is_empty()).then(|| RequestKey {
        tenant: tenant.clone(),
        id: id.clone(),
    })
}

/// Records that a command names.
fn records_of(command: &Command) -> Vec<RecordKey> {
    match command.bare() {
        Command::Administer(act) => act.needs(),
        _ => Vec::new(),
    }
}

fn key_of(command: &Command) -> Option<JobKey> {
    match command.bare() {
        Command::Submit(submission) => submission.spec.parent.map(|job| JobKey {
            tenant: submission.tenant.clone(),
            job,
        }),
        Command::Cancel { key, .. }
        | Command::Retry { key, .. }
        | Command::Delete { key }
        | Command::Sweep { key }
        | Command::Expire { key } => Some(key.clone()),
        // Beyond its reach a worker holds up nothing.
        Command::Report {
            lease,
            reach: Some(reach),
            ..
        } if !reach.includes(&lease.tenant) => None,
        Command::Report { lease, .. }
        | Command::CancelDelivered { lease }
        | Command::Recall { lease } => Some(lease.job_key()),
        Command::PauseDriver { .. }
        | Command::ResumeDriver { .. }
        | Command::Administer(_)
        | Command::Denied { .. }
        | Command::Audited(_) => None,
    }
}
