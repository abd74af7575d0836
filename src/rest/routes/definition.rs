//! A `[[route]]` of a file, read into a [`Route`]. What a route fixes for every request is held to the rules for jobs at once, by the domain itself.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use jiff::{Span, SpanRelativeTo};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Dialect, Method, Route,
    job::{JobTemplate, ObjectTemplate, RetryTemplate, TaskTemplate, TimeoutTemplate},
    pattern::Pattern,
    payload::Payload,
    schema::Schema,
    section::{Section, Source, Text},
    template::Template,
};
use crate::domain::{
    Timestamp,
    job::FailurePolicy,
    submission::{NewJob, NewRetryPolicy, NewTask, Violation, check},
    task::{Object, Timeouts},
};

/// What stands for a text that only a request decides, while the rest is checked.
const PLACEHOLDER: &str = "x";

const ROUTE: [&str; 12] = [
    "dialect",
    "match",
    "action",
    "object",
    "summary",
    "description",
    "labels",
    "priority",
    "creator",
    "failure_policy",
    "schema",
    "task",
];
const TASK: [&str; 10] = [
    "name",
    "action",
    "driver",
    "object",
    "resource_type",
    "depends_on",
    "max_attempts",
    "retry_policy",
    "timeouts",
    "request_payload",
];

/// The schemas of all files, each read once.
#[derive(Default)]
pub(super) struct Schemas {
    read: HashMap<PathBuf, Option<Arc<Schema>>>,
}

impl Schemas {
    /// A schema; a mistake is reported where it is named first.
    fn load(&mut self, name: &Text<'_>, source: &mut Source<'_>) -> Option<Arc<Schema>> {
        let folder = source
            .file()
            .parent()
            .map_or_else(PathBuf::new, PathBuf::from);
        let path = folder.join(name.get_ref());
        if let Some(known) = self.read.get(&path) {
            return known.clone();
        }
        let schema = match Schema::load(&path) {
            Ok(schema) => Some(Arc::new(schema)),
            Err(what) => {
                source.bad(name.span().start, what);
                None
            }
        };
        self.read.insert(path, schema.clone());
        schema
    }
}

/// Reads a route; `None` if it can not be told which requests it is for. Mistakes are reported.
pub(super) fn read(
    table: &DeTable<'_>,
    at: usize,
    schemas: &mut Schemas,
    source: &mut Source<'_>,
) -> Option<Route> {
    let section = Section::new(table, at, "a route", &ROUTE, source);
    let dialect = section
        .required("dialect", source)
        .and_then(|text| dialect(&text, source));
    let matched = section
        .required("match", source)
        .and_then(|text| matched(&text, source));
    let names: Vec<String> = match &matched {
        Some((_, pattern)) => pattern.parameters().map(str::to_owned).collect(),
        None => Vec::new(),
    };
    let mut reader = Reader {
        parameters: names.iter().map(String::as_str).collect(),
        // Without a path, nobody knows its parameters.
        is_path_known: matched.is_some(),
        lines: HashMap::new(),
        source,
    };
    let job = reader.job(section);
    reader.check(&job, at);
    let description = section.text("description", source);
    let schema = section
        .text("schema", source)
        .and_then(|name| schemas.load(&name, source));
    let (method, pattern) = matched?;
    Some(Route {
        dialect: dialect?,
        method,
        pattern,
        description: description.map(|text| (*text.get_ref()).to_owned()),
        schema,
        job,
        file: source.file().to_owned(),
        line: source.line(at),
    })
}

fn dialect(text: &Text<'_>, source: &mut Source<'_>) -> Option<Dialect> {
    let known = Dialect::ALL
        .into_iter()
        .find(|dialect| dialect.name() == *text.get_ref());
    if known.is_none() {
        let names = Dialect::ALL.map(Dialect::name).join(", ");
        source.bad(
            text.span().start,
            format!("there is no dialect `{}`; there is {names}", text.get_ref()),
        );
    }
    known
}

fn matched(text: &Text<'_>, source: &mut Source<'_>) -> Option<(Method, Pattern)> {
    let at = text.span().start;
    let Some((method, path)) = text.get_ref().split_once(' ') else {
        source.bad(
            at,
            "`match` must be a method and a path, like \"POST /v1/buckets\"",
        );
        return None;
    };
    let known = Method::ALL.into_iter().find(|m| m.name() == method);
    if known.is_none() {
        let names = Method::ALL.map(Method::name).join(", ");
        source.bad(
            at,
            format!("a request with the method `{method}` can not start a job; use {names}"),
        );
    }
    match Pattern::parse(path) {
        Ok(pattern) => Some((known?, pattern)),
        Err(what) => {
            source.bad(at, what);
            None
        }
    }
}

struct Reader<'a, 's> {
    parameters: Vec<&'a str>,
    is_path_known: bool,
    /// The lines of fields, by their paths in a job.
    lines: HashMap<String, usize>,
    source: &'a mut Source<'s>,
}

impl Reader<'_, '_> {
    fn job(&mut self, section: Section<'_>) -> JobTemplate {
        if section.value("action").is_none() {
            let what = "`action` is missing in a route; write what it does, like \"create\"";
            self.source.bad(section.at, what);
        }
        let priority = section.integer("priority", self.source);
        if let Some(priority) = &priority {
            self.mark("priority", priority.span().start);
        }
        JobTemplate {
            action: self.template(section, "action", ""),
            summary: self.template(section, "summary", ""),
            object: self.object(section, ""),
            labels: self.labels(section),
            priority: priority.map_or(0, Spanned::into_inner),
            creator: self.template(section, "creator", ""),
            failure_policy: self.failure_policy(section),
            tasks: self.tasks(section),
        }
    }

    fn mark(&mut self, field: &str, at: usize) {
        let line = self.source.line(at);
        self.lines.insert(field.to_owned(), line);
    }

    fn parse(&mut self, text: &Text<'_>) -> Option<Template> {
        match Template::parse(text.get_ref(), &self.parameters) {
            Ok(template) => Some(template),
            Err(what) if self.is_path_known || !what.contains("`path.") => {
                self.source.bad(text.span().start, what);
                None
            }
            Err(_) => None,
        }
    }

    /// A text that a request may decide.
    fn template(&mut self, section: Section<'_>, key: &str, path: &str) -> Option<Template> {
        let text = section.text(key, self.source)?;
        self.mark(&format!("{path}{key}"), text.span().start);
        self.parse(&text)
    }

    /// A text that is the same for every request.
    fn fixed(&mut self, key: &str, text: &Text<'_>) -> String {
        if text.get_ref().contains("{{") {
            let what = format!("`{key}` is the same for every request; write it without {{{{ }}}}");
            self.source.bad(text.span().start, what);
        }
        (*text.get_ref()).to_owned()
    }

    fn object(&mut self, section: Section<'_>, path: &str) -> Option<ObjectTemplate> {
        let fields = ["type", "id", "name"];
        let object = section.section("object", "an object", &fields, self.source)?;
        let path = format!("{path}object.");
        Some(ObjectTemplate {
            kind: self.template(object, "type", &path),
            id: self.template(object, "id", &path),
            name: self.template(object, "name", &path),
        })
    }

    fn labels(&mut self, section: Section<'_>) -> Vec<(String, Template)> {
        let Some((table, at)) = section.table("labels", self.source) else {
            return Vec::new();
        };
        self.mark("labels", at);
        let mut labels = Vec::new();
        for (key, value) in table {
            let key = key.get_ref();
            self.mark(&format!("labels[{key:?}]"), value.span().start);
            let DeValue::String(text) = value.get_ref() else {
                let what = format!("the label `{key}` must be a text in quotes");
                self.source.bad(value.span().start, what);
                continue;
            };
            let text = Spanned::new(value.span(), text.as_ref());
            if let Some(template) = self.parse(&text) {
                labels.push((key.to_string(), template));
            }
        }
        labels
    }

    fn failure_policy(&mut self, section: Section<'_>) -> FailurePolicy {
        let Some(text) = section.text("failure_policy", self.source) else {
            return FailurePolicy::FailFast;
        };
        match *text.get_ref() {
            "fail_fast" => FailurePolicy::FailFast,
            "continue" => FailurePolicy::Continue,
            other => {
                let what = format!(
                    "there is no failure policy `{other}`; there is fail_fast and continue"
                );
                self.source.bad(text.span().start, what);
                FailurePolicy::FailFast
            }
        }
    }

    fn tasks(&mut self, section: Section<'_>) -> Vec<TaskTemplate> {
        let tables = section.tables("task", self.source);
        let tables = tables.into_iter().enumerate();
        tables
            .map(|(i, (table, at))| {
                let task = Section::new(table, at, "a task", &TASK, self.source);
                self.mark(&format!("tasks[{i}]"), at);
                self.task(task, &format!("tasks[{i}]."))
            })
            .collect()
    }

    fn task(&mut self, section: Section<'_>, path: &str) -> TaskTemplate {
        let name = section.text("name", self.source).map(|text| {
            self.mark(&format!("{path}name"), text.span().start);
            self.fixed("name", &text)
        });
        let depends_on = section.texts("depends_on", self.source);
        if let Some(first) = depends_on.first() {
            self.mark(&format!("{path}depends_on"), first.span().start);
        }
        let depends_on = depends_on.iter().map(|text| self.fixed("depends_on", text));
        let depends_on = depends_on.collect();
        let max_attempts = section.integer("max_attempts", self.source);
        if let Some(most) = &max_attempts {
            self.mark(&format!("{path}max_attempts"), most.span().start);
        }
        TaskTemplate {
            name: name.unwrap_or_default(),
            action: self.template(section, "action", path),
            driver: self.template(section, "driver", path),
            object: self.object(section, path),
            resource_type: self.template(section, "resource_type", path),
            depends_on,
            max_attempts: max_attempts.map_or(0, Spanned::into_inner),
            retry_policy: self.retry_policy(section, path),
            timeouts: self.timeouts(section, path),
            request_payload: self.payload(section),
        }
    }

    fn retry_policy(&mut self, section: Section<'_>, path: &str) -> RetryTemplate {
        let fields = ["initial_backoff", "max_backoff", "multiplier", "jitter"];
        let policy = section.section("retry_policy", "a retry policy", &fields, self.source);
        let Some(policy) = policy else {
            return RetryTemplate::default();
        };
        let path = format!("{path}retry_policy");
        self.mark(&path, policy.at);
        RetryTemplate {
            initial_backoff: self.span(policy, "initial_backoff", &path),
            max_backoff: self.span(policy, "max_backoff", &path),
            multiplier: policy.number("multiplier", self.source),
            jitter: policy.number("jitter", self.source),
        }
    }

    fn timeouts(&mut self, section: Section<'_>, path: &str) -> TimeoutTemplate {
        let fields = [
            "schedule_to_start",
            "start_to_close",
            "schedule_to_close",
            "heartbeat",
        ];
        let timeouts = section.section("timeouts", "timeouts", &fields, self.source);
        let Some(timeouts) = timeouts else {
            return TimeoutTemplate::default();
        };
        let path = format!("{path}timeouts");
        self.mark(&path, timeouts.at);
        TimeoutTemplate {
            schedule_to_start: self.span(timeouts, "schedule_to_start", &path),
            start_to_close: self.span(timeouts, "start_to_close", &path),
            schedule_to_close: self.span(timeouts, "schedule_to_close", &path),
            heartbeat: self.span(timeouts, "heartbeat", &path),
        }
    }

    /// A duration, written as in the settings of the server. A day has 24 hours.
    fn span(&mut self, section: Section<'_>, key: &str, path: &str) -> Option<Duration> {
        let text = section.text(key, self.source)?;
        self.mark(&format!("{path}.{key}"), text.span().start);
        let span = text
            .get_ref()
            .parse::<Span>()
            .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
            .ok()
            .and_then(|span| Duration::try_from(span).ok());
        if span.is_none() {
            let what = format!(
                "`{key}`: '{}' is not a duration; write it like 500ms, 25s, 1h30m or 7d",
                text.get_ref()
            );
            self.source.bad(text.span().start, what);
        }
        span
    }

    fn payload(&mut self, section: Section<'_>) -> Option<Payload> {
        let value = section.value("request_payload")?;
        let payload = Payload::read(value, &self.parameters, self.source);
        if !payload.may_be_object() {
            let what = "`request_payload` must be a table, or one expression that gives an object";
            self.source.bad(value.span().start, what);
        }
        Some(payload)
    }

    /// Holds what is fixed to the rules for jobs.
    fn check(&mut self, job: &JobTemplate, at: usize) {
        let new = NewJob {
            action: sample(job.action.as_ref()),
            summary: sample(job.summary.as_ref()),
            object: job.object.as_ref().map(sample_object),
            labels: job
                .labels
                .iter()
                .map(|(key, value)| (key.clone(), sample(Some(value))))
                .collect(),
            priority: job.priority,
            creator: sample(job.creator.as_ref()),
            failure_policy: job.failure_policy,
            tasks: job.tasks.iter().map(sample_task).collect(),
            ..NewJob::default()
        };
        let mut violations = Vec::new();
        check(new, "job", Timestamp::from_micros(0), &mut violations);
        for Violation { field, description } in violations {
            let field = field.strip_prefix("job.").unwrap_or(&field);
            let line = self.line_of(field, at);
            let told = field.replacen("tasks", "task", 1);
            let what = format!("`{told}` {description}");
            self.source.bad_line(line, what);
        }
    }

    /// The line of a field, or of the innermost table around it.
    fn line_of(&self, field: &str, at: usize) -> usize {
        let mut field = field;
        loop {
            if let Some(line) = self.lines.get(field) {
                return *line;
            }
            match field.rfind(['.', '[']) {
                Some(end) => field = &field[..end],
                None => return self.source.line(at),
            }
        }
    }
}

/// A text as far as it is known.
fn sample(template: Option<&Template>) -> String {
    match template {
        Some(template) => template.literal().unwrap_or(PLACEHOLDER).to_owned(),
        None => String::new(),
    }
}

fn sample_object(object: &ObjectTemplate) -> Object {
    Object {
        kind: sample(object.kind.as_ref()),
        id: sample(object.id.as_ref()),
        name: sample(object.name.as_ref()),
    }
}

fn sample_task(task: &TaskTemplate) -> NewTask {
    NewTask {
        name: task.name.clone(),
        action: sample(task.action.as_ref()),
        driver: sample(task.driver.as_ref()),
        object: task.object.as_ref().map(sample_object),
        resource_type: sample(task.resource_type.as_ref()),
        depends_on: task.depends_on.clone(),
        max_attempts: task.max_attempts,
        retry_policy: NewRetryPolicy {
            initial_backoff: task.retry_policy.initial_backoff,
            max_backoff: task.retry_policy.max_backoff,
            multiplier: task.retry_policy.multiplier,
            jitter: task.retry_policy.jitter,
        },
        timeouts: Timeouts {
            schedule_to_start: task.timeouts.schedule_to_start,
            start_to_close: task.timeouts.start_to_close,
            schedule_to_close: task.timeouts.schedule_to_close,
            heartbeat: task.timeouts.heartbeat,
        },
        request_payload: None,
        hidden: None,
    }
}
