//! The job that a route makes: templates for every text, filled in for each request.
//!
//! The result is a `JobSpec` in canonical protobuf JSON, so that whoever submits it reads it like any other.

use std::time::Duration;

use minijinja::Value;
use serde_json::{Map, Value as Json, json};

use super::{fault::MAX_VIOLATIONS, payload::Payload, template::Template, value::Budget};
use crate::domain::{
    job::FailurePolicy,
    limits::MAX_JOB_BYTES,
    submission::Violation,
    wording::{Sentence, sentence},
};

/// Bytes that a rendered job may have. Twice what a job may hold, as its fields' names and its JSON count here and not there.
const MAX_RENDERED_BYTES: usize = 2 * MAX_JOB_BYTES;

/// What a job or a task is about.
#[derive(Debug, Default)]
pub(super) struct ObjectTemplate {
    pub(super) kind: Option<Template>,
    pub(super) id: Option<Template>,
    pub(super) name: Option<Template>,
}

/// A job to be.
#[derive(Debug)]
pub(super) struct JobTemplate {
    pub(super) action: Option<Template>,
    pub(super) summary: Option<Template>,
    pub(super) object: Option<ObjectTemplate>,
    pub(super) labels: Vec<(String, Template)>,
    pub(super) priority: i32,
    pub(super) creator: Option<Template>,
    pub(super) failure_policy: FailurePolicy,
    pub(super) tasks: Vec<TaskTemplate>,
}

/// A task to be. Names tie tasks together, so they are the same for every request.
#[derive(Debug)]
pub(super) struct TaskTemplate {
    pub(super) name: String,
    pub(super) action: Option<Template>,
    pub(super) driver: Option<Template>,
    pub(super) object: Option<ObjectTemplate>,
    pub(super) resource_type: Option<Template>,
    pub(super) depends_on: Vec<String>,
    pub(super) max_attempts: u32,
    pub(super) retry_policy: RetryTemplate,
    pub(super) timeouts: TimeoutTemplate,
    pub(super) request_payload: Option<Payload>,
}

/// The parts of a retry policy that a route sets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RetryTemplate {
    pub(super) initial_backoff: Option<Duration>,
    pub(super) max_backoff: Option<Duration>,
    pub(super) multiplier: Option<f64>,
    pub(super) jitter: Option<f64>,
}

/// The limits on time that a route sets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TimeoutTemplate {
    pub(super) schedule_to_start: Option<Duration>,
    pub(super) start_to_close: Option<Duration>,
    pub(super) schedule_to_close: Option<Duration>,
    pub(super) heartbeat: Option<Duration>,
}

impl JobTemplate {
    /// The job for a request.
    ///
    /// # Errors
    /// Every field that can not be filled in, at most [`MAX_VIOLATIONS`].
    pub(super) fn render(&self, input: &Value) -> Result<Json, Vec<Violation>> {
        let mut filling = Filling {
            input,
            budget: Budget::new(MAX_RENDERED_BYTES),
            violations: Vec::new(),
        };
        let job = filling.job(self);
        match filling.violations.is_empty() {
            true => Ok(job),
            false => Err(filling.violations),
        }
    }
}

struct Filling<'a> {
    input: &'a Value,
    budget: Budget,
    violations: Vec<Violation>,
}

impl Filling<'_> {
    fn job(&mut self, job: &JobTemplate) -> Json {
        let JobTemplate {
            action,
            summary,
            object,
            labels,
            priority,
            creator,
            failure_policy,
            tasks,
        } = job;
        let mut spec = Map::new();
        self.text(&mut spec, "action", "action", action.as_ref());
        self.text(&mut spec, "summary", "summary", summary.as_ref());
        self.object(&mut spec, "object", object.as_ref());
        if !labels.is_empty() {
            let mut map = Map::new();
            for (key, value) in labels {
                self.text(&mut map, key, &format!("labels.{key}"), Some(value));
            }
            spec.insert("labels".to_owned(), Json::Object(map));
        }
        if *priority != 0 {
            spec.insert("priority".to_owned(), json!(priority));
        }
        self.text(&mut spec, "creator", "creator", creator.as_ref());
        if *failure_policy == FailurePolicy::Continue {
            let value = json!("FAILURE_POLICY_CONTINUE");
            spec.insert("failurePolicy".to_owned(), value);
        }
        let tasks = tasks.iter().enumerate();
        let tasks: Vec<Json> = tasks
            .map(|(i, task)| self.task(task, &format!("tasks[{i}]")))
            .collect();
        spec.insert("tasks".to_owned(), Json::Array(tasks));
        Json::Object(spec)
    }

    fn task(&mut self, task: &TaskTemplate, path: &str) -> Json {
        let TaskTemplate {
            name,
            action,
            driver,
            object,
            resource_type,
            depends_on,
            max_attempts,
            retry_policy,
            timeouts,
            request_payload,
        } = task;
        let at = |field: &str| format!("{path}.{field}");
        let mut spec = Map::new();
        if !name.is_empty() {
            spec.insert("name".to_owned(), json!(name));
        }
        self.text(&mut spec, "action", &at("action"), action.as_ref());
        self.text(&mut spec, "driver", &at("driver"), driver.as_ref());
        self.object(&mut spec, &at("object"), object.as_ref());
        let kind = resource_type.as_ref();
        self.text(&mut spec, "resourceType", &at("resource_type"), kind);
        if !depends_on.is_empty() {
            spec.insert("dependsOn".to_owned(), json!(depends_on));
        }
        if *max_attempts != 0 {
            spec.insert("maxAttempts".to_owned(), json!(max_attempts));
        }
        add_group(&mut spec, "retryPolicy", retry(retry_policy));
        add_group(&mut spec, "timeouts", self::timeouts(timeouts));
        if let Some(payload) = request_payload {
            let field = at("request_payload");
            let Self {
                input,
                budget,
                violations,
            } = self;
            let mut failed = false;
            let value = payload.render(&field, input, budget, &mut |field, what| {
                failed = true;
                violate(violations, field, what);
            });
            if !failed && !value.is_object() {
                violate(
                    violations,
                    &field,
                    sentence!("an-object", "must be an object"),
                );
            }
            spec.insert("requestPayload".to_owned(), value);
        }
        Json::Object(spec)
    }

    fn object(
        &mut self,
        spec: &mut Map<String, Json>,
        path: &str,
        object: Option<&ObjectTemplate>,
    ) {
        let Some(ObjectTemplate { kind, id, name }) = object else {
            return;
        };
        let mut map = Map::new();
        for (key, template) in [("type", kind), ("id", id), ("name", name)] {
            self.text(&mut map, key, &format!("{path}.{key}"), template.as_ref());
        }
        spec.insert("object".to_owned(), Json::Object(map));
    }

    fn text(
        &mut self,
        spec: &mut Map<String, Json>,
        key: &str,
        field: &str,
        template: Option<&Template>,
    ) {
        let Some(template) = template else { return };
        match template.text(self.input, &mut self.budget) {
            Ok(text) => {
                spec.insert(key.to_owned(), Json::String(text));
            }
            Err(what) => violate(&mut self.violations, field, what),
        }
    }
}

fn violate(violations: &mut Vec<Violation>, field: &str, what: Sentence) {
    if violations.len() < MAX_VIOLATIONS {
        violations.push(Violation::new(field, what));
    }
}

fn add_group(spec: &mut Map<String, Json>, key: &str, group: Map<String, Json>) {
    if !group.is_empty() {
        spec.insert(key.to_owned(), Json::Object(group));
    }
}

fn retry(policy: &RetryTemplate) -> Map<String, Json> {
    let RetryTemplate {
        initial_backoff,
        max_backoff,
        multiplier,
        jitter,
    } = policy;
    let fields = [
        ("initialBackoff", initial_backoff.map(span)),
        ("maxBackoff", max_backoff.map(span)),
        ("multiplier", multiplier.map(Json::from)),
        ("jitter", jitter.map(Json::from)),
    ];
    set(fields)
}

fn timeouts(timeouts: &TimeoutTemplate) -> Map<String, Json> {
    let TimeoutTemplate {
        schedule_to_start,
        start_to_close,
        schedule_to_close,
        heartbeat,
    } = timeouts;
    let fields = [
        ("scheduleToStart", schedule_to_start.map(span)),
        ("startToClose", start_to_close.map(span)),
        ("scheduleToClose", schedule_to_close.map(span)),
        ("heartbeat", heartbeat.map(span)),
    ];
    set(fields)
}

fn set<const N: usize>(fields: [(&str, Option<Json>); N]) -> Map<String, Json> {
    let fields = fields.into_iter();
    fields
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// A duration as protobuf JSON has it: seconds with 0, 3, 6 or 9 digits.
fn span(span: Duration) -> Json {
    let (seconds, nanos) = (span.as_secs(), span.subsec_nanos());
    Json::String(match nanos {
        0 => format!("{seconds}s"),
        n if n % 1_000_000 == 0 => format!("{seconds}.{:03}s", n / 1_000_000),
        n if n % 1_000 == 0 => format!("{seconds}.{:06}s", n / 1_000),
        n => format!("{seconds}.{n:09}s"),
    })
}
