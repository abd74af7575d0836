//! The jobs of a batch while it is decided, and what the decision has come to so far.
//!
//! Every change of a job is an [`Edit`]: it moves tasks through the state machine, and ends in exactly one revision with one event. Counters, dirty rows
//! and notices follow from the moves; nobody keeps them by hand.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Job, JobKey, JobState, LeaseKey, Status, Task, TaskState, Tenant, Timestamp,
    command::{
        CancelOrder, Context, Decision, EndedLease, JobWrite, Loaded, ReadyTask, RequestKey,
        RequestRecord, WriteKind,
    },
    counts::Counted,
    event::{Event, EventKind, TaskRef},
    lifecycle,
    limits::Policy,
    reach::Queue,
    registry::{Entry, Record, RecordKey, Records},
    transition::{self, TaskInput},
};

/// Tasks in the snapshots of one batch, about 25 MB: a large job that changes a thousand times in a commit would fill the memory otherwise. Beyond it,
/// watchers get the last snapshot of each job only, and are told how many changes it stands for.
const MAX_SHOWN_TASKS: usize = 50_000;

/// The least time between two revisions of a job: what times are counted in.
const TIME_STEP: Duration = Duration::from_micros(1);

/// The working set of one batch.
pub(super) struct Working {
    slots: HashMap<JobKey, Slot>,
    /// Keys in the order in which they were first changed, so that writes are deterministic.
    changed: Vec<JobKey>,
    pub(super) requests: HashMap<RequestKey, RequestRecord>,
    records: Records,
    /// Tasks that became ready in this batch, by driver; some may have ceased to be.
    pub(super) became_ready: HashMap<Arc<str>, Vec<ReadyTask>>,
    /// Tasks in the snapshots so far.
    shown_tasks: usize,
    pub(super) out: Decision,
}

struct Slot {
    job: Arc<Job>,
    dirty: Dirty,
}

/// Which rows of a job the batch has to write.
#[derive(Default)]
struct Dirty {
    noted: bool,
    is_new: bool,
    job: bool,
    tasks: Vec<bool>,
    deleted: bool,
}

/// A change of one job in the making.
pub(super) struct Edit<'a> {
    pub(super) job: &'a mut Job,
    pub(super) now: Timestamp,
    pub(super) policy: Policy,
    leases_hold_until: Timestamp,
    watched: bool,
    before: Option<(JobState, Status)>,
    dirty: &'a mut Dirty,
    out: &'a mut Decision,
    shown_tasks: &'a mut usize,
    became_ready: &'a mut HashMap<Arc<str>, Vec<ReadyTask>>,
}

impl Working {
    pub(super) fn new(loaded: Loaded) -> Self {
        let slots = loaded
            .jobs
            .into_iter()
            .map(|job| {
                let slot = Slot {
                    dirty: Dirty::default(),
                    job,
                };
                (slot.job.key(), slot)
            })
            .collect();
        Self {
            slots,
            changed: Vec::new(),
            requests: loaded.requests,
            records: Records::new(loaded.records),
            became_ready: HashMap::new(),
            shown_tasks: 0,
            out: Decision::default(),
        }
    }

    /// A job as it is by now; not one that the batch removed.
    pub(super) fn get(&self, key: &JobKey) -> Option<&Arc<Job>> {
        self.slots
            .get(key)
            .filter(|slot| !slot.dirty.deleted)
            .map(|slot| &slot.job)
    }

    /// What a record says by now.
    pub(super) fn record(&self, key: &RecordKey) -> Option<&Entry> {
        self.records.get(key)
    }

    /// What a record says from now on.
    pub(super) fn put_record(&mut self, entry: Entry) -> Record {
        self.records.put(entry)
    }

    /// Adds a new job and makes its first revision.
    pub(super) fn insert(&mut self, job: Job, ctx: &Context<'_>) -> Arc<Job> {
        let key = job.key();
        self.slots.insert(
            key.clone(),
            Slot {
                dirty: Dirty {
                    is_new: true,
                    ..Dirty::default()
                },
                job: Arc::new(job),
            },
        );
        self.edit(&key, ctx, |edit| {
            edit.before = None;
            for ordinal in 0..edit.job.tasks.len() {
                edit.count_task(ordinal, edit.job.tasks[ordinal].state, 1);
            }
            lifecycle::begin(edit);
            edit.record(EventKind::JobSubmitted, None, String::new());
        });
        self.slots[&key].job.clone()
    }

    /// Changes a job. What follows from the change elsewhere, in its ancestors, is done as well.
    ///
    /// # Panics
    /// The job is not in the working set; callers have looked.
    pub(super) fn edit<R>(
        &mut self,
        key: &JobKey,
        ctx: &Context<'_>,
        change: impl FnOnce(&mut Edit<'_>) -> R,
    ) -> R {
        let (answer, mut ended) = self.edit_one(key, ctx, change);
        // The end of a job may be all that its parent waited for, and so on upwards.
        while let Some((parent, state)) = ended {
            let waits = self.get(&parent).is_some_and(|p| !p.state.is_terminal());
            ended = match waits {
                true => {
                    self.edit_one(&parent, ctx, |edit| lifecycle::child_ended(edit, state))
                        .1
                }
                false => None,
            };
        }
        answer
    }

    /// Changes a job alone. Answers, if that ended it, with its parent and its last state.
    fn edit_one<R>(
        &mut self,
        key: &JobKey,
        ctx: &Context<'_>,
        change: impl FnOnce(&mut Edit<'_>) -> R,
    ) -> (R, Option<(JobKey, JobState)>) {
        let slot = self
            .slots
            .get_mut(key)
            .expect("the caller found the job in the working set");
        if !slot.dirty.noted {
            slot.dirty.noted = true;
            slot.dirty.tasks = vec![false; slot.job.tasks.len()];
            self.changed.push(key.clone());
        }
        let was_open = !slot.job.state.is_terminal();
        let job = Arc::make_mut(&mut slot.job);
        let mut edit = Edit {
            before: Some((job.state, job.status)),
            watched: (ctx.is_watched)(key),
            job,
            now: ctx.now,
            policy: ctx.policy,
            leases_hold_until: ctx.leases_hold_until,
            dirty: &mut slot.dirty,
            out: &mut self.out,
            shown_tasks: &mut self.shown_tasks,
            became_ready: &mut self.became_ready,
        };
        let answer = change(&mut edit);
        let ended = was_open && slot.job.state.is_terminal();
        let parent = slot.job.parent_key().filter(|_| ended);
        (answer, parent.map(|parent| (parent, slot.job.state)))
    }

    /// Removes a finished job.
    pub(super) fn remove(&mut self, key: &JobKey, ctx: &Context<'_>) {
        self.edit(key, ctx, |edit| {
            for ordinal in 0..edit.job.tasks.len() {
                edit.count_task(ordinal, edit.job.tasks[ordinal].state, -1);
            }
            edit.record(EventKind::JobDeleted, None, String::new());
            edit.dirty.deleted = true;
        });
    }

    /// What the batch has come to.
    pub(super) fn finish(mut self) -> Decision {
        for key in &self.changed {
            let Some(slot) = self.slots.remove(key) else {
                continue;
            };
            let how = match slot.dirty {
                // Made and removed in one batch: only its events remain, and its counters cancel out.
                Dirty {
                    is_new: true,
                    deleted: true,
                    ..
                } => continue,
                Dirty { deleted: true, .. } => WriteKind::Delete,
                Dirty { is_new: true, .. } => WriteKind::Insert,
                Dirty { job, tasks, .. } => {
                    let tasks: Vec<u32> = (0u32..)
                        .zip(tasks)
                        .filter_map(|(ordinal, dirty)| dirty.then_some(ordinal))
                        .collect();
                    if !job && tasks.is_empty() {
                        continue;
                    }
                    WriteKind::Update { job, tasks }
                }
            };
            self.out.changes.jobs.push(JobWrite { job: slot.job, how });
        }
        self.out.changes.records = self.records.into_writes();
        self.out.keep_last_of_each_job();
        for (driver, tasks) in &self.became_ready {
            let exhausted = &self.out.exhausted;
            if exhausted.contains(&Queue::of_all(driver)) {
                continue;
            }
            let tenants: HashSet<&Tenant> = tasks.iter().map(|task| &task.key.tenant).collect();
            let queues = tenants.into_iter();
            let queues = queues.map(|tenant| Queue::of_one(driver, tenant));
            let new = queues.filter(|queue| !exhausted.contains(queue));
            self.out.ready.extend(new);
        }
        self.out
    }
}

impl Decision {
    /// The last event of each job always carries the job, so that a watch that begins during the batch misses nothing.
    fn keep_last_of_each_job(&mut self) {
        let last: HashMap<_, _> = self
            .changes
            .jobs
            .iter()
            .map(|write| (write.job.id, &write.job))
            .collect();
        let mut told = HashSet::with_capacity(last.len());
        for (event, job) in self.changes.events.iter().zip(&mut self.history).rev() {
            if told.insert(event.job) && event.kind != EventKind::JobDeleted {
                *job = last.get(&event.job).map(|job| Arc::clone(job));
            }
        }
    }
}

impl Edit<'_> {
    /// Moves a task through the state machine.
    ///
    /// # Panics
    /// The move is not in the table; callers look at the state first, and the property tests of `decide` try to prove them wrong.
    pub(super) fn step(&mut self, ordinal: usize, input: TaskInput) {
        let from = self.job.tasks[ordinal].state;
        let Some(to) = transition::next(from, input) else {
            unreachable!("{input:?} can not happen to a task in {from:?}");
        };
        self.count_task(ordinal, from, -1);
        self.count_task(ordinal, to, 1);
        let task = &mut self.job.tasks[ordinal];
        task.state = to;
        if to != TaskState::Queued {
            task.ready_time = None;
        }
        if !matches!(to, TaskState::Queued | TaskState::BackingOff) {
            task.schedule_time = None;
        }
        if !to.is_leased() {
            task.lease_expiry = None;
        }
        if to.is_terminal() {
            task.end_time = Some(self.now);
            task.secrets.erase();
        }
        self.touch(ordinal);
    }

    /// Notes that a visible part of a task changed.
    pub(super) fn touch(&mut self, ordinal: usize) {
        self.job.tasks[ordinal].update_time = self.now;
        self.dirty.tasks[ordinal] = true;
    }

    /// Extends a lease. Nobody but its holder sees that, so it makes no revision.
    pub(super) fn extend_lease(&mut self, ordinal: usize, expiry: Timestamp) {
        self.job.tasks[ordinal].lease_expiry = Some(expiry);
        self.dirty.tasks[ordinal] = true;
        // The timer stays early, which spares the row of the job; but leases may have become shorter since the last one.
        if self.job.timer.is_none_or(|timer| expiry < timer) {
            self.retime();
        }
    }

    /// Lets a queued task be taken from a time on: in the future, it waits for the sweeper; in the past, that is its age in the queue.
    pub(super) fn make_ready(&mut self, ordinal: usize, since: Timestamp) {
        let priority = self.job.spec.priority;
        let key = self.job.key();
        let now = self.now;
        let task = &mut self.job.tasks[ordinal];
        if since > now {
            task.schedule_time = Some(since);
            task.ready_time = None;
        } else {
            task.schedule_time = None;
            task.ready_time = Some(since);
            task.first_ready_time.get_or_insert(now);
            self.became_ready
                .entry(task.spec.driver.clone())
                .or_default()
                .push(ReadyTask {
                    key,
                    ordinal: position(ordinal),
                    priority,
                    ready_time: since,
                });
        }
        self.touch(ordinal);
    }

    /// Sets the job's state.
    pub(super) fn set_state(&mut self, state: JobState) {
        self.job.state = state;
    }

    /// Makes the revision: settles what follows from the change within the job, and writes one event.
    pub(super) fn record(&mut self, kind: EventKind, task: Option<usize>, detail: String) {
        let time = self.revision_time();
        if kind != EventKind::JobDeleted {
            lifecycle::settle(self);
            self.retime();
        }
        let after = (self.job.state, self.job.status);
        self.recount(
            self.before,
            (kind != EventKind::JobDeleted).then_some(after),
        );
        self.job.update_time = time;
        self.job.revision += 1;
        self.dirty.job = true;
        self.out.changes.events.push(Event {
            tenant: self.job.tenant.clone(),
            job: self.job.id,
            revision: self.job.revision,
            time,
            kind,
            task: task.map(|ordinal| TaskRef {
                ordinal: position(ordinal),
                id: self.job.tasks[ordinal].id,
                attempt: self.job.tasks[ordinal].attempt,
            }),
            before: self.before,
            after,
            detail,
        });
        let shown = self.shown(kind);
        self.out.history.push(shown);
        self.before = Some(after);
    }

    /// Of the revision in the making: now, or just behind the one before, if that was made in the same moment or the clock stands. So a time tells
    /// which of two revisions is newer.
    fn revision_time(&self) -> Timestamp {
        match self.job.revision {
            0 => self.now,
            _ => self.now.max(self.job.update_time.after(TIME_STEP)),
        }
    }

    /// The job as it is after an event, if a watcher is to see that.
    fn shown(&mut self, kind: EventKind) -> Option<Arc<Job>> {
        let tasks = *self.shown_tasks + self.job.tasks.len();
        if !self.watched || kind == EventKind::JobDeleted || tasks > MAX_SHOWN_TASKS {
            return None;
        }
        *self.shown_tasks = tasks;
        Some(Arc::new(self.job.clone()))
    }

    /// Computes the job's timer anew.
    pub(super) fn retime(&mut self) {
        let timer = lifecycle::timer(self.job, &self.policy, self.now, self.leases_hold_until);
        if self.job.timer != timer {
            self.job.timer = timer;
            self.dirty.job = true;
        }
    }

    /// Tells that the current lease of a task has ended.
    pub(super) fn lease_ended(&mut self, lease: LeaseKey, by_server: bool) {
        self.out.ended.push(EndedLease { lease, by_server });
    }

    /// Tells that the holder of a task's lease is to stop.
    pub(super) fn order_cancel(&mut self, ordinal: usize) {
        if let Some(order) = cancel_order(self.job, &self.policy) {
            self.out
                .cancels
                .push((self.job.lease_key(position(ordinal)), order));
        }
    }

    /// Asks for the job's open child jobs to be cancelled.
    pub(super) fn cancel_children(&mut self) {
        if self.job.children.open() > 0
            && let Some(cancel) = &self.job.cancel
        {
            let reason = cancel.reason.clone();
            self.out.cancel_children.push((self.job.key(), reason));
        }
    }

    /// Moves the job from one counter to another; `None` where it was not there before, or is not any more.
    fn recount(&mut self, before: Option<(JobState, Status)>, after: Option<(JobState, Status)>) {
        let moves = [(before, -1), (after, 1)];
        for (outcome, by) in moves.into_iter().filter(|_| before != after) {
            if let Some((state, status)) = outcome {
                let counted = Counted::Jobs(self.job.tenant.clone(), state, status);
                self.out.changes.counts.add(counted, by);
            }
        }
    }

    fn count_task(&mut self, ordinal: usize, state: TaskState, by: i64) {
        let driver = self.job.tasks[ordinal].spec.driver.clone();
        self.out
            .changes
            .counts
            .add(Counted::Tasks(self.job.tenant.clone(), driver, state), by);
    }
}

/// What the holders of a cancelled job's leases are told; `None` if it is not cancelled.
pub(super) fn cancel_order(job: &Job, policy: &Policy) -> Option<CancelOrder> {
    job.cancel.as_ref().map(|cancel| CancelOrder {
        reason: cancel.reason.clone(),
        deadline: cancel.requested.after(policy.cancel_grace),
    })
}

/// A task's position as it is stored.
pub(super) fn position(ordinal: usize) -> u32 {
    u32::try_from(ordinal).unwrap_or(u32::MAX)
}

/// Whether a task can be taken right now.
pub(super) fn is_ready(task: &Task) -> bool {
    task.state == TaskState::Queued && task.ready_time.is_some()
}
