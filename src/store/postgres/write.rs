//! Writing what a batch decided: for each kind of row one statement, all of them sent at once and COMMIT behind them.
//!
//! **A job is changed only as it was read**: a statement that finds another revision ends the transaction, which is then tried again. And only by a
//! transaction with a larger id than the one before: the feed is in the order of these ids, and a job's revisions must not be told the wrong way round.
//! A transaction has its id from the first row that it locks; if it then waits for another job, those who change that one meanwhile may have larger ids.
//! Such a transaction has to start again, and so gets a new one.
//!
//! Rows are written in one order everywhere, and those that nobody has locked before (request ids, counters) last: so nobody waits in a circle.

pub(super) mod statements;

use std::collections::HashMap;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::registry;
use crate::{
    domain::{
        Document, Job, JobKey, Task, Timestamp,
        command::{Changes, JobWrite, WriteKind},
        counts::Counted,
        event::{Event, EventKind},
        secrecy::Secrets,
    },
    store::rows::{
        Coded, EventRow, JobSpecRow, JobStateRow, TaskSpecRow, TaskStateRow, number, sealed,
    },
};
use statements::*;

/// The value of a parameter: mostly a column of all rows at once.
pub(super) type Parameter<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// A statement and its parameters.
pub(super) struct Step<'a> {
    pub(super) sql: &'static str,
    pub(super) parameters: Vec<Parameter<'a>>,
}

impl Step<'_> {
    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        let parameters = self.parameters.iter();
        parameters.map(|parameter| &**parameter as _).collect()
    }
}

/// What writes all of it, in this order; `shard` is where the counters of this node are.
pub(super) fn steps(changes: &Changes, shard: i16) -> Vec<Step<'_>> {
    let mut jobs: Vec<&JobWrite> = changes.jobs.iter().collect();
    jobs.sort_unstable_by_key(|write| order(&write.job));
    let of = |wanted: fn(&WriteKind) -> bool| -> Vec<&Job> {
        let wanted = jobs.iter().filter(|write| wanted(&write.how));
        wanted.map(|write| write.job.as_ref()).collect()
    };
    let deleted = of(|how| *how == WriteKind::Delete);
    let inserted = of(|how| *how == WriteKind::Insert);
    let updated = of(|how| matches!(how, WriteKind::Update { job: true, .. }));
    let new_tasks: Vec<TaskOf<'_>> = inserted.iter().flat_map(|job| tasks_of(job)).collect();
    let tasks: Vec<TaskOf<'_>> = jobs.iter().flat_map(|write| updated_tasks(write)).collect();
    let before = Before::of(changes);

    let mut steps = Vec::with_capacity(16);
    delete_jobs(&mut steps, changes, &deleted, &before);
    update_jobs(&mut steps, &updated, &before);
    insert_jobs(&mut steps, &inserted);
    update_tasks(&mut steps, &tasks);
    insert_tasks(&mut steps, &new_tasks);
    let is_ready = |task: &&TaskOf<'_>| task.task.ready_time.is_some();
    let of_queue = new_tasks.iter().filter(is_ready);
    insert_ready(&mut steps, of_queue.chain(tasks.iter().filter(is_ready)));
    insert_events(&mut steps, &changes.events);
    registry::write_records(&mut steps, changes);
    registry::write_audit(&mut steps, changes);
    insert_requests(&mut steps, changes);
    add_counts(&mut steps, changes, shard);
    set_drivers(&mut steps, changes);
    steps
}

/// In which order jobs are locked and written.
fn order(job: &Job) -> (&str, Uuid) {
    (&job.tenant.0, job.id.0)
}

/// A task and where it is.
struct TaskOf<'a> {
    job: &'a Job,
    ordinal: i32,
    task: &'a Task,
}

fn tasks_of(job: &Job) -> impl Iterator<Item = TaskOf<'_>> {
    let tasks = (0..).zip(&job.tasks);
    tasks.map(move |(ordinal, task)| TaskOf { job, ordinal, task })
}

fn updated_tasks(write: &JobWrite) -> impl Iterator<Item = TaskOf<'_>> {
    let ordinals = match &write.how {
        WriteKind::Update { tasks, .. } => tasks.as_slice(),
        WriteKind::Insert | WriteKind::Delete => &[],
    };
    ordinals.iter().map(|ordinal| TaskOf {
        job: &write.job,
        ordinal: i32::try_from(*ordinal).unwrap_or(i32::MAX),
        task: &write.job.tasks[*ordinal as usize],
    })
}

/// How jobs were before the changes.
struct Before(HashMap<JobKey, u64>);

impl Before {
    fn of(changes: &Changes) -> Self {
        let mut revisions = HashMap::with_capacity(changes.jobs.len());
        for event in &changes.events {
            revisions
                .entry(event.job_key())
                .or_insert(event.revision.saturating_sub(1));
        }
        Self(revisions)
    }

    /// The revision that must be stored. A change without an event makes none.
    fn revision(&self, job: &Job) -> i64 {
        number(self.0.get(&job.key()).copied().unwrap_or(job.revision))
    }
}

pub(super) fn column<'a, T: ToSql + Sync + Send + 'a>(
    values: impl Iterator<Item = T>,
) -> Parameter<'a> {
    Box::new(values.collect::<Vec<T>>())
}

fn tenants<'a>(jobs: &[&'a Job]) -> Parameter<'a> {
    column(jobs.iter().map(|job| job.tenant.0.as_ref()))
}

fn ids<'a>(jobs: &[&Job]) -> Parameter<'a> {
    column(jobs.iter().map(|job| job.id.0))
}

/// How many rows must be found.
fn expected<'a, T>(rows: &[T]) -> Parameter<'a> {
    Box::new(number(rows.len() as u64))
}

pub(super) fn small(code: i64) -> i16 {
    i16::try_from(code).unwrap_or(i16::MAX)
}

fn delete_jobs<'a>(
    steps: &mut Vec<Step<'a>>,
    changes: &'a Changes,
    jobs: &[&'a Job],
    before: &Before,
) {
    if jobs.is_empty() {
        return;
    }
    steps.push(Step {
        sql: DELETE_JOBS,
        parameters: vec![
            tenants(jobs),
            ids(jobs),
            column(jobs.iter().map(|job| before.revision(job))),
            expected(jobs),
        ],
    });
    steps.push(Step {
        sql: DELETE_READY_OF_JOBS,
        parameters: vec![tenants(jobs), ids(jobs)],
    });
    // Of one whose time is over they go with the whole range of its age, which costs nothing; till then nobody finds them. Who deletes one before that
    // wants it gone.
    let removed: HashMap<JobKey, Timestamp> = changes
        .events
        .iter()
        .filter(|event| event.kind == EventKind::JobDeleted)
        .map(|event| (event.job_key(), event.time))
        .collect();
    let is_over = |job: &Job| {
        let removed = removed.get(&job.key());
        removed.is_some_and(|at| job.expire_time.is_some_and(|end| end <= *at))
    };
    let early: Vec<&Job> = jobs.iter().copied().filter(|job| !is_over(job)).collect();
    if !early.is_empty() {
        steps.extend([DELETE_TASKS, DELETE_EVENTS].map(|sql| Step {
            sql,
            parameters: vec![tenants(&early), ids(&early)],
        }));
    }
    let asked: Vec<&Job> = jobs
        .iter()
        .copied()
        .filter(|job| !job.request_id.is_empty())
        .collect();
    if !asked.is_empty() {
        let requests = column(asked.iter().map(|job| job.request_id.as_str()));
        steps.push(Step {
            sql: DELETE_REQUESTS,
            parameters: vec![tenants(&asked), ids(&asked), requests],
        });
    }
}

/// The columns of a job that change, but for its key.
fn states<'a>(rows: &[JobStateRow], rests: Vec<Vec<u8>>) -> Vec<Parameter<'a>> {
    let each = rows.iter();
    vec![
        column(each.clone().map(|row| row.revision)),
        column(each.clone().map(|row| small(row.state))),
        column(each.clone().map(|row| small(row.status))),
        column(each.clone().map(|row| row.timer)),
        column(each.clone().map(|row| row.start_time)),
        column(each.clone().map(|row| row.update_time)),
        column(each.clone().map(|row| row.end_time)),
        column(each.map(|row| row.expire_time)),
        Box::new(rests),
    ]
}

fn job_states<'a>(jobs: &[&Job]) -> Vec<Parameter<'a>> {
    let mut rows: Vec<JobStateRow> = jobs.iter().map(|job| JobStateRow::of(job)).collect();
    let rests = rows.iter_mut().map(|row| std::mem::take(&mut row.rest));
    let rests = rests.collect();
    states(&rows, rests)
}

fn update_jobs<'a>(steps: &mut Vec<Step<'a>>, jobs: &[&'a Job], before: &Before) {
    if jobs.is_empty() {
        return;
    }
    let mut parameters = vec![
        tenants(jobs),
        ids(jobs),
        column(jobs.iter().map(|job| before.revision(job))),
        expected(jobs),
    ];
    parameters.extend(job_states(jobs));
    steps.push(Step {
        sql: UPDATE_JOBS,
        parameters,
    });
}

fn insert_jobs<'a>(steps: &mut Vec<Step<'a>>, jobs: &[&'a Job]) {
    if jobs.is_empty() {
        return;
    }
    let mut parameters = vec![tenants(jobs), ids(jobs)];
    parameters.extend(job_states(jobs));
    let rows: Vec<JobSpecRow<'a>> = jobs.iter().map(|job| JobSpecRow::of(job)).collect();
    let each = || rows.iter();
    let labels = each().map(|row| {
        let labels = Some(&row.labels).filter(|labels| !labels.is_empty());
        labels.map(|labels| serde_json::to_string(labels).expect("texts make an object of JSON"))
    });
    parameters.extend([
        column(each().map(|row| row.parent.map(Uuid::from_bytes))),
        column(jobs.iter().map(|job| job.spec.priority)),
        column(each().map(|row| row.create_time)),
        column(jobs.iter().map(|job| job.spec.action.as_str())),
        column(jobs.iter().map(|job| job.spec.summary.as_str())),
        column(jobs.iter().map(|job| job.spec.creator.as_str())),
        column(each().map(|row| row.object_type.clone().map(String::from))),
        column(each().map(|row| row.object_id.clone().map(String::from))),
        column(each().map(|row| row.object_name.clone().map(String::from))),
        column(labels),
        column(each().map(|row| row.spec.clone())),
    ]);
    steps.push(Step {
        sql: INSERT_JOBS,
        parameters,
    });
}

/// Where tasks are.
fn places<'a>(tasks: &[TaskOf<'a>]) -> Vec<Parameter<'a>> {
    vec![
        column(tasks.iter().map(|of| of.job.tenant.0.as_ref())),
        column(tasks.iter().map(|of| of.job.id.0)),
        column(tasks.iter().map(|of| of.ordinal)),
    ]
}

/// What changes of them, but for the result.
fn task_states<'a>(tasks: &[TaskOf<'_>]) -> [Parameter<'a>; 2] {
    let rows = tasks.iter().map(|of| TaskStateRow::of(of.task));
    let (times, rests): (Vec<_>, Vec<_>) = rows.map(|row| (row.ready_time, row.rest)).unzip();
    [Box::new(times), Box::new(rests)]
}

fn body(document: &Option<Document>) -> Option<&[u8]> {
    document.as_ref().map(|document| document.0.as_ref())
}

fn update_tasks<'a>(steps: &mut Vec<Step<'a>>, tasks: &[TaskOf<'a>]) {
    if tasks.is_empty() {
        return;
    }
    let mut parameters = places(tasks);
    parameters.push(expected(tasks));
    parameters.extend(task_states(tasks));
    parameters.push(column(tasks.iter().map(|of| body(&of.task.result))));
    steps.push(Step {
        sql: UPDATE_TASKS,
        parameters,
    });
    let ended = tasks.iter().filter(|of| of.task.secrets == Secrets::Erased);
    let ended: Vec<TaskOf<'a>> = ended.map(|of| TaskOf { ..*of }).collect();
    if !ended.is_empty() {
        steps.push(Step {
            sql: ERASE_SECRETS,
            parameters: places(&ended),
        });
    }
    let taken = tasks.iter().filter(|of| of.task.ready_time.is_none());
    let taken: Vec<TaskOf<'a>> = taken.map(|of| TaskOf { ..*of }).collect();
    if !taken.is_empty() {
        steps.push(Step {
            sql: DELETE_READY,
            parameters: places(&taken),
        });
    }
}

fn insert_tasks<'a>(steps: &mut Vec<Step<'a>>, tasks: &[TaskOf<'a>]) {
    if tasks.is_empty() {
        return;
    }
    let mut parameters = places(tasks);
    parameters.extend(task_states(tasks));
    let rows = tasks.iter().map(|of| TaskSpecRow::of(of.task));
    let specs: Vec<Vec<u8>> = rows.map(|row| row.spec).collect();
    parameters.extend([
        column(tasks.iter().map(|of| of.task.spec.driver.as_ref())),
        Box::new(specs) as Parameter<'a>,
        column(tasks.iter().map(|of| body(&of.task.spec.request_payload))),
        column(tasks.iter().map(|of| body(&of.task.result))),
        column(tasks.iter().map(|of| sealed(&of.task.secrets))),
    ]);
    steps.push(Step {
        sql: INSERT_TASKS,
        parameters,
    });
}

fn insert_ready<'a: 'b, 'b>(
    steps: &mut Vec<Step<'a>>,
    tasks: impl Iterator<Item = &'b TaskOf<'a>>,
) {
    let mut tasks: Vec<TaskOf<'a>> = tasks.map(|of| TaskOf { ..*of }).collect();
    if tasks.is_empty() {
        return;
    }
    tasks.sort_unstable_by_key(|of| (order(of.job), of.ordinal));
    let mut parameters = places(&tasks);
    parameters.extend([
        column(
            tasks
                .iter()
                .filter_map(|of| of.task.ready_time.map(Timestamp::as_micros)),
        ),
        column(tasks.iter().map(|of| of.job.spec.priority)),
        column(tasks.iter().map(|of| of.task.spec.driver.as_ref())),
    ]);
    steps.push(Step {
        sql: INSERT_READY,
        parameters,
    });
}

fn insert_events<'a>(steps: &mut Vec<Step<'a>>, events: &'a [Event]) {
    let numbered = || (0_i32..).zip(events);
    let is_tombstone = |event: &Event| event.kind == EventKind::JobDeleted;
    let (removed, kept): (Vec<_>, Vec<_>) = numbered().partition(|(_, event)| is_tombstone(event));
    for (sql, events) in [(INSERT_EVENTS, kept), (INSERT_REMOVED, removed)] {
        if events.is_empty() {
            continue;
        }
        let rows = events.iter().map(|(_, event)| EventRow::of(event));
        let rests: Vec<Vec<u8>> = rows.map(|row| row.rest).collect();
        let each = || events.iter();
        let parameters = vec![
            column(each().map(|(_, event)| event.tenant.0.as_ref())),
            column(each().map(|(_, event)| event.job.0)),
            column(each().map(|(_, event)| number(event.revision))),
            column(each().map(|(_, event)| event.time.as_micros())),
            column(each().map(|(n, _)| *n)),
            column(each().map(|(_, event)| small(event.kind.code()))),
            Box::new(rests) as Parameter<'a>,
        ];
        steps.push(Step { sql, parameters });
    }
}

fn insert_requests<'a>(steps: &mut Vec<Step<'a>>, changes: &'a Changes) {
    if changes.requests.is_empty() {
        return;
    }
    let mut requests: Vec<_> = changes.requests.iter().collect();
    requests.sort_unstable_by_key(|(key, _)| (&key.tenant.0, &key.id));
    let each = || requests.iter();
    steps.push(Step {
        sql: INSERT_REQUESTS,
        parameters: vec![
            column(each().map(|(key, _)| key.tenant.0.as_ref())),
            column(each().map(|(key, _)| key.id.as_str())),
            column(each().map(|(_, record)| record.key.job.0)),
            column(each().map(|(_, record)| record.fingerprint.as_slice())),
        ],
    });
}

fn add_counts<'a>(steps: &mut Vec<Step<'a>>, changes: &'a Changes, shard: i16) {
    let mut counts: Vec<_> = changes
        .counts
        .iter()
        .map(|(counted, by)| {
            let (tenant, driver, state, status) = match counted {
                Counted::Jobs(tenant, state, status) => (tenant, "", state.code(), status.code()),
                Counted::Tasks(tenant, driver, state) => (tenant, driver.as_ref(), state.code(), 0),
            };
            (tenant.0.as_ref(), driver, small(state), small(status), by)
        })
        .collect();
    if counts.is_empty() {
        return;
    }
    counts.sort_unstable();
    let each = || counts.iter();
    steps.push(Step {
        sql: ADD_COUNTS,
        parameters: vec![
            column(each().map(|count| count.0)),
            column(each().map(|count| count.1)),
            column(each().map(|count| count.2)),
            column(each().map(|count| count.3)),
            column(each().map(|count| count.4)),
            Box::new(shard),
        ],
    });
}

fn set_drivers<'a>(steps: &mut Vec<Step<'a>>, changes: &'a Changes) {
    // Of several changes of one driver the last counts.
    let newest: HashMap<&str, _> = changes
        .drivers
        .iter()
        .map(|(driver, pause)| (driver.as_ref(), pause))
        .collect();
    let mut newest: Vec<_> = newest.into_iter().collect();
    newest.sort_unstable_by_key(|(driver, _)| *driver);
    let resumed = newest.iter().filter(|(_, pause)| pause.is_none());
    let resumed: Vec<&str> = resumed.map(|(driver, _)| *driver).collect();
    if !resumed.is_empty() {
        steps.push(Step {
            sql: RESUME_DRIVERS,
            parameters: vec![Box::new(resumed)],
        });
    }
    let paused: Vec<(&str, i64, &str)> = newest
        .iter()
        .filter_map(|(driver, pause)| {
            let (since, reason) = pause.as_ref()?;
            Some((*driver, since.as_micros(), reason.as_str()))
        })
        .collect();
    if !paused.is_empty() {
        steps.push(Step {
            sql: PAUSE_DRIVERS,
            parameters: vec![
                column(paused.iter().map(|pause| pause.0)),
                column(paused.iter().map(|pause| pause.1)),
                column(paused.iter().map(|pause| pause.2)),
            ],
        });
    }
}
