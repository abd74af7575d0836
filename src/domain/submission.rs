//! What a client may submit. Checking is total and early: every bad field is named at once, and nothing that passed is refused later for its form.

mod secrets;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

use super::{
    Document, JobId, JobSpec, TaskSpec, Timestamp,
    job::FailurePolicy,
    limits::*,
    secrecy::{Hidden, HiddenTasks},
    task::{Object, RetryPolicy, Timeouts},
    wording::{Sentence, sentence},
};

/// A field that can not be accepted, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field as in the request, such as `job.tasks[2].driver`.
    pub field: String,
    /// What is wrong and what would be right.
    pub description: Sentence,
}

impl Violation {
    /// Names a field and what is wrong with it.
    pub fn new(field: impl Into<String>, description: impl Into<Sentence>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
        }
    }
}

/// A job as a client describes it, not yet checked.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NewJob {
    /// See [`JobSpec`], field by field.
    pub action: String,
    /// One line for people.
    pub summary: String,
    /// What it is about.
    pub object: Option<Object>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Higher runs first.
    pub priority: i32,
    /// Who submits it.
    pub creator: String,
    /// The job that it is a part of.
    pub parent: Option<JobId>,
    /// What a failed task does to the others.
    pub failure_policy: FailurePolicy,
    /// Not before this time.
    pub schedule_time: Option<Timestamp>,
    /// The tasks.
    pub tasks: Vec<NewTask>,
    /// W3C trace context.
    pub traceparent: String,
}

/// A task as a client describes it, not yet checked.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NewTask {
    /// Unique in the job; made up if empty.
    pub name: String,
    /// The job's action if empty.
    pub action: String,
    /// The kind of worker.
    pub driver: String,
    /// The job's object if `None`.
    pub object: Option<Object>,
    /// The kind of resource.
    pub resource_type: String,
    /// Names of tasks that must succeed first.
    pub depends_on: Vec<String>,
    /// 1 if 0.
    pub max_attempts: u32,
    /// Default if `None`, and so each of its fields.
    pub retry_policy: NewRetryPolicy,
    /// Limits on its time.
    pub timeouts: Timeouts,
    /// What the worker gets, but for what is hidden.
    pub request_payload: Option<Document>,
    /// What the worker alone gets. Its fingerprint is another one: see [`super::secrecy::Secrecy::fingerprint`].
    #[serde(skip)]
    pub hidden: Option<Arc<Hidden>>,
}

/// The parts of a retry policy that a client set.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct NewRetryPolicy {
    /// The first pause.
    pub initial_backoff: Option<Duration>,
    /// The longest pause.
    pub max_backoff: Option<Duration>,
    /// The growth.
    pub multiplier: Option<f64>,
    /// The part left to chance.
    pub jitter: Option<f64>,
}

/// A job that passed every check.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The job.
    pub spec: JobSpec,
    /// Its tasks.
    pub tasks: Vec<Arc<TaskSpec>>,
    /// What their workers alone may know.
    pub hidden: HiddenTasks,
}

/// Checks a job; `path` is where it stands in the request. Adds to `violations` and answers `None` if anything is wrong, there or before.
pub fn check(
    job: NewJob,
    path: &str,
    now: Timestamp,
    violations: &mut Vec<Violation>,
) -> Option<Checked> {
    let mut check = Check { path, violations };
    check.line("action", &job.action, MAX_WORD_BYTES);
    check.line("summary", &job.summary, MAX_LINE_BYTES);
    check.line("creator", &job.creator, MAX_NAME_BYTES);
    check.line("traceparent", &job.traceparent, MAX_TRACEPARENT_BYTES);
    check.object("object", job.object.as_ref());
    check.labels(&job.labels);
    if job.priority.unsigned_abs() > MAX_PRIORITY.unsigned_abs() {
        check.bad(
            "priority",
            sentence!(
                "from-to",
                "must be from {least} to {most}",
                least = -MAX_PRIORITY,
                most = MAX_PRIORITY
            ),
        );
    }
    if job.schedule_time.is_some_and(|t| t > now.after(MAX_DELAY)) {
        check.bad(
            "schedule_time",
            sentence!(
                "days-ahead",
                "must be at most {days} days ahead",
                days = MAX_DELAY.as_secs() / 86_400
            ),
        );
    }
    check.size(&job);
    let hidden = check.hidden(&job.tasks);
    let tasks = check.tasks(job.tasks, &job.action);
    violations.is_empty().then_some(Checked {
        spec: JobSpec {
            action: job.action,
            summary: job.summary,
            object: job.object,
            labels: job.labels,
            priority: job.priority,
            creator: job.creator,
            parent: job.parent,
            failure_policy: job.failure_policy,
            schedule_time: job.schedule_time.filter(|t| *t > now),
            traceparent: job.traceparent,
        },
        tasks,
        hidden,
    })
}

/// Checks a request id.
pub fn check_request_id(id: &str, path: &str, violations: &mut Vec<Violation>) {
    if id.len() > MAX_WORD_BYTES || !id.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        violations.push(Violation::new(
            path,
            sentence!(
                "printable-ascii",
                "must be at most {most} bytes of printable ASCII",
                most = MAX_WORD_BYTES
            ),
        ));
    }
}

/// Checks a name or one line: it goes into environments and onto terminals as it is, and a NUL is more than some stores keep.
pub fn check_line(text: &str, path: &str, most: usize, violations: &mut Vec<Violation>) {
    let mut bad = |description| violations.push(Violation::new(path, description));
    if text.len() > most {
        bad(sentence!(
            "too-long",
            "has {bytes} bytes; at most {most} are allowed",
            bytes = text.len(),
            most
        ));
    }
    if let Some((at, control)) = text.char_indices().find(|(_, c)| c.is_control()) {
        bad(sentence!(
            "control-character",
            "has the control character {control} at byte {at}; none is allowed",
            control = format!("{control:?}"),
            at
        ));
    }
}

/// Whether a word may name a driver.
pub fn is_driver(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= MAX_WORD_BYTES
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// Characters of a caller's text that a description repeats: all of it may be a megabyte.
const SHOWN_CHARS: usize = 64;
/// Tasks of a cycle that a description names.
const SHOWN_TASKS: usize = 20;

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

/// Bytes of a job's payloads and texts together.
fn size(job: &NewJob) -> usize {
    let object = |object: &Option<Object>| {
        object
            .as_ref()
            .map_or(0, |o| o.kind.len() + o.id.len() + o.name.len())
    };
    let labels = job.labels.iter().map(|(k, v)| k.len() + v.len());
    let tasks = job.tasks.iter().map(|task| {
        let words = [&task.name, &task.action, &task.driver, &task.resource_type];
        let words = words.into_iter().chain(&task.depends_on);
        words.map(String::len).sum::<usize>()
            + object(&task.object)
            + task.request_payload.as_ref().map_or(0, |p| p.0.len())
            + task.hidden.as_ref().map_or(0, |hidden| hidden.len())
    });
    let texts = [&job.action, &job.summary, &job.creator, &job.traceparent];
    let texts = texts.into_iter().map(String::len);
    texts.chain(labels).chain(tasks).sum::<usize>() + object(&job.object)
}

struct Check<'a> {
    path: &'a str,
    violations: &'a mut Vec<Violation>,
}

impl Check<'_> {
    fn bad(&mut self, field: &str, description: impl Into<Sentence>) {
        self.violations.push(Violation::new(
            format!("{}.{field}", self.path),
            description,
        ));
    }

    fn line(&mut self, field: &str, value: &str, most: usize) {
        let path = format!("{}.{field}", self.path);
        check_line(value, &path, most, self.violations);
    }

    fn object(&mut self, field: &str, object: Option<&Object>) {
        let Some(object) = object else { return };
        for (part, value) in [
            ("type", &object.kind),
            ("id", &object.id),
            ("name", &object.name),
        ] {
            self.line(&format!("{field}.{part}"), value, MAX_NAME_BYTES);
        }
    }

    fn labels(&mut self, labels: &BTreeMap<String, String>) {
        if labels.len() > MAX_LABELS {
            self.bad(
                "labels",
                sentence!(
                    "at-most-allowed",
                    "at most {most} are allowed",
                    most = MAX_LABELS
                ),
            );
        }
        for (key, value) in labels.iter().take(MAX_LABELS) {
            let field = format!("labels[{:?}]", shown(key));
            let fits = !key.is_empty()
                && key.len() <= MAX_LABEL_KEY_BYTES
                && key
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b));
            if !fits {
                self.bad(
                    &field,
                    sentence!(
                        "label-key",
                        "a key is 1 to {most} characters of [a-z0-9_.-]",
                        most = MAX_LABEL_KEY_BYTES
                    ),
                );
            }
            self.line(&field, value, MAX_NAME_BYTES);
        }
    }

    fn size(&mut self, job: &NewJob) {
        let bytes = size(job);
        if bytes > MAX_JOB_BYTES {
            self.bad(
                "tasks",
                sentence!("job-too-large", "payloads and texts of the job have {bytes} bytes together; at most {most} are allowed", bytes, most = MAX_JOB_BYTES),
            );
        }
    }

    /// What is hidden of the tasks, by position.
    fn hidden(&mut self, tasks: &[NewTask]) -> HiddenTasks {
        let mut all = Vec::new();
        for (i, task) in (0u32..).zip(tasks) {
            if let Some(hidden) = &task.hidden {
                secrets::check(self, i, hidden);
                all.push((i, hidden.clone()));
            }
        }
        all.into()
    }

    fn tasks(&mut self, tasks: Vec<NewTask>, job_action: &str) -> Vec<Arc<TaskSpec>> {
        if tasks.is_empty() || tasks.len() > MAX_TASKS {
            self.bad(
                "tasks",
                sentence!(
                    "tasks-needed",
                    "has {tasks}; from 1 to {most} are needed",
                    tasks = tasks.len(),
                    most = MAX_TASKS
                ),
            );
            return Vec::new();
        }
        let names: Vec<String> = tasks
            .iter()
            .enumerate()
            .map(|(i, task)| match task.name.as_str() {
                "" => format!("task-{}", i + 1),
                name => name.to_owned(),
            })
            .collect();
        let mut positions = HashMap::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            if let Some(first) = positions.insert(name.as_str(), i) {
                self.bad(
                    &format!("tasks[{i}].name"),
                    sentence!(
                        "name-taken",
                        "{name:?} is the name of tasks[{first}] already",
                        name = shown(name),
                        first
                    ),
                );
            }
        }
        let dependencies: Vec<Vec<u32>> = tasks
            .iter()
            .enumerate()
            .map(|(i, task)| self.dependencies(i, task, &positions))
            .collect();
        for cycle in find_cycles(&dependencies) {
            let name = |i: &usize| shown(&names[*i]);
            let mut path: Vec<String> = cycle.iter().take(SHOWN_TASKS).map(name).collect();
            if cycle.len() > SHOWN_TASKS {
                path.push(format!("({} more)", cycle.len() - SHOWN_TASKS));
            }
            path.push(name(&cycle[0]));
            self.bad(
                &format!("tasks[{}].depends_on", cycle[0]),
                sentence!("cycle", "a cycle: {path}", path = path.join(" -> ")),
            );
        }
        tasks
            .into_iter()
            .zip(names.clone())
            .zip(dependencies)
            .enumerate()
            .map(|(i, ((task, name), depends_on))| {
                Arc::new(self.task(i, task, name, depends_on, job_action))
            })
            .collect()
    }

    fn dependencies(
        &mut self,
        i: usize,
        task: &NewTask,
        positions: &HashMap<&str, usize>,
    ) -> Vec<u32> {
        let count = task.depends_on.len();
        if count > MAX_TASKS {
            self.bad(
                &format!("tasks[{i}].depends_on"),
                sentence!(
                    "too-many-names",
                    "has {count} names; at most {most} are allowed",
                    count,
                    most = MAX_TASKS
                ),
            );
            return Vec::new();
        }
        let mut found = Vec::with_capacity(count);
        for (k, name) in task.depends_on.iter().enumerate() {
            match positions.get(name.as_str()).map(|p| u32::try_from(*p)) {
                Some(Ok(position)) if !found.contains(&position) => found.push(position),
                Some(_) => {}
                None => {
                    self.bad(
                        &format!("tasks[{i}].depends_on[{k}]"),
                        sentence!(
                            "no-such-task",
                            "no task of this job is named {name:?}",
                            name = shown(name)
                        ),
                    );
                }
            }
        }
        found
    }

    fn task(
        &mut self,
        i: usize,
        task: NewTask,
        name: String,
        depends_on: Vec<u32>,
        job_action: &str,
    ) -> TaskSpec {
        let at = |field: &str| format!("tasks[{i}].{field}");
        self.line(&at("name"), &name, MAX_WORD_BYTES);
        self.line(&at("action"), &task.action, MAX_WORD_BYTES);
        self.line(&at("resource_type"), &task.resource_type, MAX_WORD_BYTES);
        self.object(&at("object"), task.object.as_ref());
        if !is_driver(&task.driver) {
            self.bad(
                &at("driver"),
                sentence!(
                    "driver-name",
                    "must be 1 to {most} characters of [A-Za-z0-9_.-]",
                    most = MAX_WORD_BYTES
                ),
            );
        }
        if task.max_attempts > MAX_ATTEMPTS {
            self.bad(
                &at("max_attempts"),
                sentence!("at-most", "must be at most {most}", most = MAX_ATTEMPTS),
            );
        }
        let retry_policy = self.retry_policy(i, &task.retry_policy);
        self.timeouts(i, &task.timeouts);
        TaskSpec {
            name,
            action: match task.action.as_str() {
                "" => job_action.to_owned(),
                _ => task.action,
            },
            driver: task.driver.into(),
            object: task.object,
            resource_type: task.resource_type,
            depends_on,
            max_attempts: task.max_attempts.max(1),
            retry_policy,
            timeouts: task.timeouts,
            request_payload: task.request_payload,
        }
    }

    fn retry_policy(&mut self, i: usize, given: &NewRetryPolicy) -> RetryPolicy {
        let at = |field: &str| format!("tasks[{i}].retry_policy.{field}");
        let default = RetryPolicy::default();
        let policy = RetryPolicy {
            initial_backoff: given.initial_backoff.unwrap_or(default.initial_backoff),
            max_backoff: given.max_backoff.unwrap_or(default.max_backoff),
            multiplier: given.multiplier.unwrap_or(default.multiplier),
            jitter: given.jitter.unwrap_or(default.jitter),
        };
        for (field, pause) in [
            ("initial_backoff", policy.initial_backoff),
            ("max_backoff", policy.max_backoff),
        ] {
            if pause > MAX_BACKOFF {
                self.bad(
                    &at(field),
                    Sentence::plain("up-to-a-day", "must be from 0 to 1 day"),
                );
            }
        }
        if !(1.0..=10.0).contains(&policy.multiplier) {
            self.bad(
                &at("multiplier"),
                sentence!(
                    "from-to",
                    "must be from {least} to {most}",
                    least = 1,
                    most = 10
                ),
            );
        }
        if !(0.0..=1.0).contains(&policy.jitter) {
            self.bad(
                &at("jitter"),
                sentence!(
                    "from-to",
                    "must be from {least} to {most}",
                    least = 0,
                    most = 1
                ),
            );
        }
        policy
    }

    fn timeouts(&mut self, i: usize, timeouts: &Timeouts) {
        for (field, least, span) in [
            ("schedule_to_start", MIN_TIMEOUT, timeouts.schedule_to_start),
            ("start_to_close", MIN_TIMEOUT, timeouts.start_to_close),
            ("schedule_to_close", MIN_TIMEOUT, timeouts.schedule_to_close),
            ("heartbeat", MIN_HEARTBEAT, timeouts.heartbeat),
        ] {
            if span.is_some_and(|span| span < least || span > MAX_TIMEOUT) {
                self.bad(
                    &format!("tasks[{i}].timeouts.{field}"),
                    sentence!(
                        "timeout-range",
                        "must be from {least} ms to 365 days",
                        least = least.as_millis()
                    ),
                );
            }
        }
    }
}

/// Cycles among the dependencies, by position: each task depends on the next one, and the last one on the first. Of each knot of
/// tasks, all of which depend on each other in the end, there is at least one; never more than there are tasks.
fn find_cycles(dependencies: &[Vec<u32>]) -> Vec<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        OnPath,
        Done,
    }
    let mut seen = vec![Seen::No; dependencies.len()];
    let mut told = vec![false; dependencies.len()];
    let mut cycles = Vec::new();
    for start in 0..dependencies.len() {
        if seen[start] != Seen::No {
            continue;
        }
        // (task, how many of its dependencies were followed); no recursion, a chain may be long.
        let mut path = vec![(start, 0)];
        seen[start] = Seen::OnPath;
        while let Some((task, followed)) = path.last_mut() {
            let Some(next) = dependencies[*task].get(*followed) else {
                seen[*task] = Seen::Done;
                path.pop();
                continue;
            };
            *followed += 1;
            let (task, next) = (*task, *next as usize);
            match seen[next] {
                Seen::Done => {}
                Seen::No => {
                    seen[next] = Seen::OnPath;
                    path.push((next, 0));
                }
                // Both ends of this step are in the cycle that it closes.
                Seen::OnPath if told[task] || told[next] => {}
                Seen::OnPath => {
                    let cycle = path.iter().map(|(t, _)| *t).skip_while(|t| *t != next);
                    let cycle: Vec<usize> = cycle.collect();
                    cycle.iter().for_each(|t| told[*t] = true);
                    cycles.push(cycle);
                }
            }
        }
    }
    cycles
}
