//! The smallest store that can be told what a decision wants written. It believes only what is marked as changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use longhaul::domain::{
    Job, JobKey, Tenant, Timestamp,
    audit::AuditRecord,
    command::{
        Changes, Claim, Command, Loaded, ReadyTask, RecordWrite, RequestKey, RequestRecord,
        WriteKind,
    },
    counts::Counted,
    event::Event,
    reach::Queue,
    registry::{Record, RecordKey},
};

#[derive(Clone, Default)]
pub struct Store {
    pub jobs: BTreeMap<JobKey, Arc<Job>>,
    pub requests: HashMap<RequestKey, RequestRecord>,
    pub counts: BTreeMap<Counted, i64>,
    pub paused: BTreeSet<Arc<str>>,
    pub events: Vec<Event>,
    pub records: BTreeMap<RecordKey, Record>,
    pub audit: Vec<AuditRecord>,
}

impl Store {
    /// What a batch needs, and no more: a decision that wants a row which was not promised to it must fail here.
    pub fn load(
        &self,
        commands: &[Command],
        claims: &[Claim],
        served: &HashMap<Arc<str>, Tenant>,
    ) -> Loaded {
        let mut loaded = Loaded::default();
        let mut wanted: Vec<JobKey> = commands.iter().filter_map(named).collect();
        for key in commands.iter().filter_map(request) {
            if let Some(record) = self.requests.get(&key) {
                wanted.push(record.key.clone());
                loaded.requests.insert(key, record.clone());
            }
        }
        let needed: BTreeSet<RecordKey> = commands.iter().flat_map(records).collect();
        let stored = needed.iter().filter_map(|key| self.records.get(key));
        loaded.records = stored.cloned().collect();
        let mut slots: HashMap<Queue, usize> = HashMap::new();
        for claim in claims {
            for driver in claim.drivers.iter() {
                let queue = Queue {
                    driver: driver.clone(),
                    tenant: claim.tenant.clone(),
                };
                *slots.entry(queue).or_default() += claim.slots as usize;
            }
        }
        for (queue, slots) in slots {
            let ready = self.ready(&queue, served.get(&queue.driver), slots);
            wanted.extend(ready.iter().map(|task| task.key.clone()));
            loaded.ready.entry(queue.driver).or_default().extend(ready);
        }
        let mut seen = HashSet::new();
        while let Some(key) = wanted.pop() {
            if seen.insert(key.clone())
                && let Some(job) = self.jobs.get(&key)
            {
                wanted.extend(job.parent_key());
                loaded.jobs.push(job.clone());
            }
        }
        loaded
    }

    /// The first tasks of each tenant, beginning after `served`, or of the one, as the port of the real stores has it.
    fn ready(&self, queue: &Queue, served: Option<&Tenant>, limit: usize) -> Vec<ReadyTask> {
        let mut by_tenant: BTreeMap<Tenant, Vec<ReadyTask>> = BTreeMap::new();
        for task in self.all_ready().filter(|(d, task)| is_in(queue, d, task)) {
            let tasks = by_tenant.entry(task.1.key.tenant.clone()).or_default();
            tasks.push(task.1);
        }
        let (after, before): (Vec<_>, Vec<_>) = by_tenant
            .into_iter()
            .partition(|(tenant, _)| served.is_some_and(|served| tenant > served));
        let mut found = Vec::new();
        for (_, mut tasks) in after.into_iter().chain(before) {
            tasks.sort_by_key(rank);
            found.extend(tasks.into_iter().take(limit));
        }
        found
    }

    /// Every task that may be taken, with its driver.
    pub fn all_ready(&self) -> impl Iterator<Item = (Arc<str>, ReadyTask)> + '_ {
        self.jobs.values().flat_map(|job| {
            (0u32..).zip(&job.tasks).filter_map(|(ordinal, task)| {
                task.ready_time.map(|ready_time| {
                    let ready = ReadyTask {
                        key: job.key(),
                        ordinal,
                        priority: job.spec.priority,
                        ready_time,
                    };
                    (task.spec.driver.clone(), ready)
                })
            })
        })
    }

    pub fn due(&self, now: Timestamp) -> Vec<JobKey> {
        let due = |job: &&Arc<Job>| job.timer.is_some_and(|t| t <= now);
        self.jobs.values().filter(due).map(|j| j.key()).collect()
    }

    pub fn next_due(&self) -> Option<Timestamp> {
        self.jobs.values().filter_map(|job| job.timer).min()
    }

    pub fn open_children(&self, parent: &JobKey) -> Vec<JobKey> {
        let open =
            |job: &&Arc<Job>| job.parent_key().as_ref() == Some(parent) && !job.state.is_terminal();
        self.jobs.values().filter(open).map(|j| j.key()).collect()
    }

    /// Writes row by row; answers what can not be written, or was changed without being marked.
    pub fn apply(&mut self, changes: &Changes) -> Vec<String> {
        let mut wrong = Vec::new();
        for write in &changes.jobs {
            let key = write.job.key();
            let stored = self.jobs.get(&key);
            match (&write.how, stored) {
                (WriteKind::Insert, None) => {
                    self.jobs.insert(key, write.job.clone());
                }
                (WriteKind::Update { job, tasks }, Some(stored)) => {
                    let mut merged = match job {
                        true => Job {
                            tasks: stored.tasks.clone(),
                            ..(*write.job).clone()
                        },
                        false => (**stored).clone(),
                    };
                    for ordinal in tasks {
                        merged.tasks[*ordinal as usize] =
                            write.job.tasks[*ordinal as usize].clone();
                    }
                    if merged != *write.job {
                        wrong.push(format!(
                            "a part of job {} changed and is not marked ({:?}): stored {merged:#?}, decided {:#?}",
                            key.job, write.how, write.job
                        ));
                    }
                    if !job && tasks.is_empty() {
                        wrong.push(format!("job {} is written for nothing", key.job));
                    }
                    self.jobs.insert(key, Arc::new(merged));
                }
                (WriteKind::Delete, Some(_)) => {
                    self.requests.retain(|_, record| record.key != key);
                    self.jobs.remove(&key);
                }
                (how, stored) => wrong.push(format!(
                    "job {} can not be written as {how:?}, stored: {}",
                    key.job,
                    stored.is_some()
                )),
            }
        }
        for (counted, by) in changes.counts.iter() {
            *self.counts.entry(counted.clone()).or_default() += by;
        }
        self.counts.retain(|_, count| *count != 0);
        self.events.extend(changes.events.iter().cloned());
        self.requests.extend(changes.requests.iter().cloned());
        for (driver, paused) in &changes.drivers {
            match paused {
                Some(_) => self.paused.insert(driver.clone()),
                None => self.paused.remove(driver),
            };
        }
        for RecordWrite { record, before } in &changes.records {
            let key = record.key();
            let stored = self.records.insert(key.clone(), record.clone());
            let revision = stored.map_or(0, |stored| stored.revision);
            if (*before, record.revision) != (revision, revision + 1) {
                let wanted = (before, record.revision);
                wrong.push(format!("the {key} at {revision} is written as {wanted:?}"));
            }
        }
        self.audit.extend(changes.audit.iter().cloned());
        wrong
    }
}

/// Whether a task is one of a queue's.
pub fn is_in(queue: &Queue, driver: &str, task: &ReadyTask) -> bool {
    let tenant = queue.tenant.as_ref();
    *queue.driver == *driver && tenant.is_none_or(|tenant| *tenant == task.key.tenant)
}

/// The order in which tasks of a tenant are given out, the first one smallest.
pub fn rank(task: &ReadyTask) -> impl Ord + use<> {
    let age = (task.ready_time, task.key.job, task.ordinal);
    (-task.priority, age)
}

fn named(command: &Command) -> Option<JobKey> {
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
        Command::Report { lease, .. }
        | Command::CancelDelivered { lease }
        | Command::Recall { lease } => Some(lease.job_key()),
        _ => None,
    }
}

fn records(command: &Command) -> Vec<RecordKey> {
    match command.bare() {
        Command::Administer(act) => act.needs(),
        _ => Vec::new(),
    }
}

fn request(command: &Command) -> Option<RequestKey> {
    let (tenant, id) = match command.bare() {
        Command::Submit(submission) => (&submission.tenant, &submission.request_id),
        Command::Retry {
            key, request_id, ..
        } => (&key.tenant, request_id),
        _ => return None,
    };
    (!id.is_empty()).then(|| RequestKey {
        tenant: tenant.clone(),
        id: id.clone(),
    })
}
