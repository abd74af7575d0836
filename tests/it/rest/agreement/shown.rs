//! What each API has to show of a job, by the tables of its document, from the job as gRPC shows it.

use longhaul::proto::{
    Struct,
    v1::{
        Job, JobTask, Object,
        job::{State, Status},
        job_task,
    },
};
use prost_types::Timestamp;
use serde_json::{Map, Value, json};

/// What hides a secret.
const MASK: &str = "********";
/// What keys of secrets contain.
const SECRETS: [&str; 8] = [
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "privatekey",
    "credential",
    "authorization",
];

/// RFC 3339 in UTC with so many digits of fraction, the others cut off.
fn time(time: Timestamp, digits: usize) -> String {
    let second = jiff::Timestamp::from_second(time.seconds).unwrap();
    let second = second.strftime("%Y-%m-%dT%H:%M:%S");
    let fraction = format!("{:09}", time.nanos);
    match digits {
        0 => format!("{second}Z"),
        _ => format!("{second}.{}Z", &fraction[..digits]),
    }
}

/// The same with as many digits as it needs, in groups of three: the canonical JSON of protobuf.
fn canonical(when: Option<Timestamp>) -> Value {
    let digits = |when: Timestamp| match when.nanos {
        0 => 0,
        nanos if nanos % 1_000_000 == 0 => 3,
        nanos if nanos % 1_000 == 0 => 6,
        _ => 9,
    };
    when.map(|when| time(when, digits(when))).into()
}

fn micros(when: Option<Timestamp>) -> Value {
    when.map(|when| time(when, 6)).into()
}

fn fields(document: Option<&Struct>) -> Option<Map<String, Value>> {
    match document?.to_json().unwrap() {
        Value::Object(fields) => Some(fields),
        other => panic!("no object: {other}"),
    }
}

/// All numbers as doubles, which they are in a `Struct`.
pub fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().unwrap()),
        Value::Array(values) => values.into_iter().map(plain).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, plain(value)));
            Value::Object(fields.collect())
        }
        other => other,
    }
}

/// One of the two ways in which Active IQ Unified Manager tells of a job.
pub fn aiqum(job: &Job, jobs: &str) -> Value {
    let is_documented = jobs == "/management-server/jobs";
    let word = |word: &str| match is_documented {
        true => word.to_ascii_uppercase(),
        false => word.to_ascii_lowercase(),
    };
    let state = match (is_documented, job.state(), job.status()) {
        (false, State::Queued, _) => "queued",
        (false, State::Running, _) => "running",
        (false, State::Cancelling, _) => "aborting",
        (false, State::Succeeded | State::Failed, _) => "completed",
        (false, State::Cancelled, _) => "aborted",
        (true, State::Queued | State::Running | State::Cancelling, Status::Warning) => "WARNING",
        (true, State::Queued, _) => "QUEUED",
        (true, State::Running | State::Cancelling, _) => "RUNNING",
        (true, State::Succeeded, _) => "NORMAL",
        (true, State::Failed, Status::PartialFailures) => "PARTIAL_FAILURES",
        (true, State::Failed | State::Cancelled, _) => "ERROR",
        (_, State::Unspecified, _) => panic!("a job without a state: {job:?}"),
    };
    let status = match job.status() {
        Status::Normal => "normal",
        Status::Warning => "warning",
        Status::PartialFailures => "partial_failures",
        Status::Error => "error",
        Status::Unspecified => panic!("a job without a status: {job:?}"),
    };
    let children = job.child_summary.unwrap_or_default();
    let is_over = job.end_time.is_some();
    json!({
        "key": job.id,
        "name": job.summary,
        "type": joined(&job.action, job.object.as_ref().map_or("", |object| &object.r#type)),
        "state": state,
        "status": word(status),
        "submit_time": micros(job.create_time),
        "complete_time": micros(job.end_time),
        "parent_job_key": Some(&job.parent_job_id).filter(|id| !id.is_empty()),
        "spawned_job_summary": {
            "total_jobs": children.total,
            "running_jobs": children.open,
            "completed_jobs": children.succeeded + children.failed + children.cancelled,
            "successful_jobs": children.succeeded,
            "failed_jobs": children.failed,
            "aborted_jobs": children.cancelled,
        },
        "task_reports": job.tasks.iter().map(|task| aiqum_task(task, word)).collect::<Vec<_>>(),
        "job_results": results(job.result.as_ref().filter(|_| is_over)),
        "_links": {"self": {"href": format!("{jobs}/{}", job.id)}},
    })
}

/// Two words as one, if there are two.
fn joined(action: &str, kind: &str) -> String {
    match kind {
        "" => action.to_owned(),
        kind => format!("{action}_{kind}"),
    }
}

fn aiqum_task(task: &JobTask, word: impl Fn(&str) -> String) -> Value {
    use job_task::State as S;
    let (state, status) = match task.state() {
        S::Pending | S::BackingOff => ("waiting", "normal"),
        S::Queued => ("queued", "normal"),
        S::Running | S::Cancelling => ("running", "normal"),
        S::Succeeded => ("completed", "normal"),
        S::Failed | S::Cancelled => ("completed", "error"),
        S::Skipped => ("completed", "skipped"),
        S::Unspecified => panic!("a task without a state: {task:?}"),
    };
    let error = Some(&task.last_error).filter(|error| status == "error" && !error.is_empty());
    json!({
        "key": task.id,
        "name": task.name,
        "type": joined(&task.action, &task.resource_type),
        "description": task.status_detail,
        "state": word(state),
        "status": word(status),
        "failure_reason": error,
        "start_time": micros(task.start_time),
        "complete_time": micros(task.end_time),
    })
}

/// A text as it is, anything else as JSON.
fn results(result: Option<&Struct>) -> Vec<Value> {
    let fields = fields(result).unwrap_or_default().into_iter();
    let results = fields.map(|(name, value)| match value {
        Value::String(text) => json!({"name": name, "value": text}),
        value => json!({"name": name, "value": {"json": plain(value)}}),
    });
    results.collect()
}

/// The same of an answer: values that are JSON in the other one are read.
pub fn with_read_results(mut record: Value, expected: &Value) -> Value {
    let wanted = expected["job_results"].as_array().unwrap();
    if let Some(results) = record["job_results"].as_array_mut() {
        for (result, wanted) in results.iter_mut().zip(wanted) {
            if wanted["value"].is_object() {
                let read = serde_json::from_str(result["value"].as_str().unwrap());
                result["value"] = json!({"json": plain(read.unwrap())});
            }
        }
    }
    record
}

/// What ONTAP Select Deploy tells of a job, but for the message.
pub fn deploy(job: &Job, jobs: &str) -> Value {
    let state = match job.state() {
        State::Queued => "queued",
        State::Running | State::Cancelling => "running",
        State::Succeeded => "success",
        State::Failed | State::Cancelled => "failure",
        State::Unspecified => panic!("a job without a state: {job:?}"),
    };
    json!({
        "id": job.id,
        "state": state,
        "last_modified": micros(job.update_time),
        "_links": {"self": {"href": format!("{jobs}/{}", job.id)}},
    })
}

/// What its message has to hold: why the job ended as it did, or what a worker has said.
pub fn is_message(job: &Job, message: &str) -> bool {
    use job_task::State as S;
    let of_a_task = |says: &dyn Fn(&JobTask) -> bool| job.tasks.iter().any(says);
    let reason = job.cancel.as_ref().map_or("", |cancel| &cancel.reason);
    let says = match job.state() {
        State::Failed => of_a_task(&|task| {
            task.state() == S::Failed && message.contains(&task.last_error)
                || job.tasks.iter().all(|task| task.state() != S::Failed)
        }),
        State::Cancelling | State::Cancelled => message.contains(reason),
        State::Succeeded if of_a_task(&|task| !task.warnings.is_empty()) => {
            of_a_task(&|task| task.warnings.last().is_some_and(|w| message.contains(w)))
        }
        State::Queued | State::Running => match said_last(job) {
            said if said.is_empty() => message == job.status_detail,
            said => said.iter().any(|said| message == said),
        },
        State::Succeeded | State::Unspecified => true,
    };
    says && !message.is_empty()
}

/// What was said last of a task that has not ended; of several tasks if they changed in the same moment.
fn said_last(job: &Job) -> Vec<String> {
    let open = job.tasks.iter().filter(|task| task.end_time.is_none());
    let said = open.filter_map(|task| {
        let failed = task.state() == job_task::State::BackingOff && !task.last_error.is_empty();
        let said = match failed {
            true => format!(
                "an attempt failed, another one follows: {}",
                task.last_error
            ),
            false => task.status_detail.clone(),
        };
        let at = task
            .update_time
            .map_or((0, 0), |time| (time.seconds, time.nanos));
        (!said.is_empty()).then_some((at, said))
    });
    let said: Vec<_> = said.collect();
    let last = said.iter().map(|(at, _)| *at).max();
    let said = said.into_iter().filter(|(at, _)| Some(*at) == last);
    said.map(|(_, said)| said).collect()
}

/// What NetApp Service Engine tells of a job.
pub fn nse(job: &Job) -> Value {
    let status = match (job.state(), job.status()) {
        (State::Queued, _) => "pending",
        (State::Running | State::Cancelling, _) => "in_progress",
        (State::Succeeded, _) => "successful",
        (State::Failed, Status::PartialFailures) => "partial_failures",
        (State::Failed, _) => "failed",
        (State::Cancelled, _) => "cancelled",
        (State::Unspecified, _) => panic!("a job without a state: {job:?}"),
    };
    let about = job.object.clone().unwrap_or_default();
    let tasks = job.tasks.iter().map(|task| nse_task(job, task, &about));
    let has_started = job.start_time.is_some();
    json!({
        "id": job.id,
        "action": job.action,
        "job_summary": job.summary,
        "created": time(job.create_time.unwrap(), 3),
        "updated": time(job.update_time.unwrap(), 3),
        "object_id": about.id,
        "object_type": about.r#type,
        "object_name": about.name,
        "status": status,
        "status_detail": job.status_detail,
        "last_error": job.last_error,
        "user_id": job.creator,
        "job_tasks": has_started.then(|| tasks.collect::<Vec<_>>()),
        // The rule of the documents, which Active IQ Unified Manager has as well.
        "state": aiqum(job, "/management-server/jobs")["state"],
    })
}

fn nse_task(job: &Job, task: &JobTask, about: &Object) -> Value {
    use job_task::State as S;
    let status = match task.state() {
        S::Pending | S::Queued => "pending",
        S::Running | S::BackingOff | S::Cancelling => "in_progress",
        S::Succeeded => "successful",
        S::Failed => "failed",
        S::Cancelled | S::Skipped => "cancelled",
        S::Unspecified => panic!("a task without a state: {task:?}"),
    };
    let about = task.object.as_ref().unwrap_or(about);
    let payload = fields(task.request_payload.as_ref()).unwrap_or_default();
    json!({
        "id": task.id,
        "job_id": job.id,
        "action": task.action,
        "driver": task.driver,
        "object_id": about.id,
        "object_type": about.r#type,
        "resource_type": task.resource_type,
        "status": status,
        "status_detail": task.status_detail,
        "last_error": task.last_error,
        "user_id": job.creator,
        "request_payload": masked(Value::Object(payload)),
    })
}

fn masked(value: Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(masked).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let key = name.to_lowercase().replace(['_', '-'], "");
                match SECRETS.iter().any(|secret| key.contains(secret)) {
                    true => (name, json!(MASK)),
                    false => (name, masked(value)),
                }
            });
            Value::Object(fields.collect())
        }
        other => other,
    }
}

/// What the native API tells of a job, as far as others tell it, too. Null stands for a field that is not there.
pub fn native(job: &Job) -> Value {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let tasks = job.tasks.iter().map(|task| {
        json!({
            "id": task.id,
            "jobId": job.id,
            "name": task.name,
            "driver": task.driver,
            "state": task.state().as_str_name(),
            "status": task.status().as_str_name(),
            "statusDetail": text(&task.status_detail),
            "lastError": text(&task.last_error),
            "warnings": Some(&task.warnings).filter(|warnings| !warnings.is_empty()),
            "createTime": canonical(task.create_time),
            "startTime": canonical(task.start_time),
            "updateTime": canonical(task.update_time),
            "endTime": canonical(task.end_time),
        })
    });
    json!({
        "id": job.id,
        "revision": job.revision.to_string(),
        "action": text(&job.action),
        "summary": text(&job.summary),
        "creator": text(&job.creator),
        "state": job.state().as_str_name(),
        "status": job.status().as_str_name(),
        "statusDetail": text(&job.status_detail),
        "lastError": text(&job.last_error),
        "labels": Some(&job.labels).filter(|labels| !labels.is_empty()),
        "parentJobId": text(&job.parent_job_id),
        "retryOfJobId": text(&job.retry_of_job_id),
        "error": job.error.as_ref().map(|error| json!({"code": error.code, "message": error.message})),
        "tasks": tasks.collect::<Vec<_>>(),
        "createTime": canonical(job.create_time),
        "scheduleTime": canonical(job.schedule_time),
        "startTime": canonical(job.start_time),
        "updateTime": canonical(job.update_time),
        "endTime": canonical(job.end_time),
        "expireTime": canonical(job.expire_time),
    })
}

/// What of the one is not as in the other, which may have more. Null is as good as missing.
pub fn difference(shown: &Value, expected: &Value) -> Option<String> {
    match (shown, expected) {
        (Value::Object(shown), Value::Object(expected)) => {
            let mut differing = expected.iter().filter_map(|(name, expected)| {
                let shown = shown.get(name).unwrap_or(&Value::Null);
                difference(shown, expected).map(|what| format!("{name}.{what}"))
            });
            differing.next()
        }
        (Value::Array(shown), Value::Array(expected)) if shown.len() == expected.len() => {
            let mut pairs = shown.iter().zip(expected);
            pairs.find_map(|(shown, expected)| difference(shown, expected))
        }
        (shown, expected) => (shown != expected).then(|| format!(" is {shown} and not {expected}")),
    }
}
