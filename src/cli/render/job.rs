//! One job, in full.

use comfy_table::Cell;
use jiff::Timestamp;
use longhaul::proto::{
    Struct, json,
    v1::{CancelReceipt, ChildSummary, Job, JobTask, Object},
};

use super::table;
use crate::cli::{
    text::{self, BAD, FAINT, STRONG, cut, job_state, job_status, one_line, paint, task_state},
    time,
};

/// Characters of a task's detail in the table of tasks.
const DETAIL_CHARS: usize = 60;
/// Characters of the column of names: the longest one, and a gap.
const FACT_CHARS: usize = 12;

/// Everything that a person wants to know of a job.
pub fn lines(job: &Job, now: Timestamp) -> Vec<String> {
    let mut lines = vec![headline(job)];
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!(
                "  {}{value}",
                paint(FAINT, format_args!("{name:<FACT_CHARS$}"))
            ));
        }
    };
    fact("object", object(job.object.as_ref()));
    fact("detail", one_line(&job.status_detail).into_owned());
    fact("progress", text::progress(job.progress.as_ref()));
    fact(
        "error",
        job.error
            .as_ref()
            .map_or_else(String::new, |error| paint(BAD, one_line(&error.message))),
    );
    if job.error.is_none() {
        fact("last error", one_line(&job.last_error).into_owned());
    }
    fact(
        "cancel",
        job.cancel.as_ref().map_or_else(String::new, receipt),
    );
    fact(
        "children",
        job.child_summary
            .as_ref()
            .map_or_else(String::new, children),
    );
    fact("labels", labels(job));
    fact("creator", one_line(&job.creator).into_owned());
    fact(
        "priority",
        if job.priority == 0 {
            String::new()
        } else {
            job.priority.to_string()
        },
    );
    fact("parent", one_line(&job.parent_job_id).into_owned());
    fact("retry of", one_line(&job.retry_of_job_id).into_owned());
    fact("revision", job.revision.to_string());
    for (name, line) in times(job, now) {
        fact(name, line);
    }
    if !job.tasks.is_empty() {
        lines.push(String::new());
        lines.extend(tasks(&job.tasks));
    }
    lines.extend(job.tasks.iter().flat_map(warnings));
    if let Some(result) = &job.result {
        lines.push(String::new());
        lines.push(paint(STRONG, "RESULT"));
        lines.extend(object_lines(result));
    }
    lines
}

/// Id, state, status and what it is about.
pub fn headline(job: &Job) -> String {
    let (state, state_style) = job_state(job.state());
    let (status, status_style) = job_status(job.status());
    let mut line = format!(
        "{}  {}  {}",
        paint(STRONG, one_line(&job.id)),
        paint(state_style, state),
        paint(status_style, status)
    );
    let about = about(job);
    if !about.is_empty() {
        line.push_str("  ");
        line.push_str(&about);
    }
    line
}

/// What a job does, for people: its summary, or else its action and object.
pub fn about(job: &Job) -> String {
    if !job.summary.is_empty() {
        return one_line(&job.summary).into_owned();
    }
    [
        one_line(&job.action).into_owned(),
        object(job.object.as_ref()),
    ]
    .into_iter()
    .filter(|part| !part.is_empty())
    .collect::<Vec<_>>()
    .join(" ")
}

/// An object as `type/id/name`, without trailing empty parts.
pub fn object(object: Option<&Object>) -> String {
    let Some(Object { r#type, id, name }) = object else {
        return String::new();
    };
    let path = format!("{}/{}/{}", one_line(r#type), one_line(id), one_line(name));
    path.trim_end_matches('/').to_owned()
}

fn labels(job: &Job) -> String {
    let mut labels: Vec<_> = job
        .labels
        .iter()
        .map(|(key, value)| format!("{}={}", one_line(key), one_line(value)))
        .collect();
    labels.sort();
    labels.join(" ")
}

fn receipt(receipt: &CancelReceipt) -> String {
    let CancelReceipt {
        requested_time,
        delivered_time,
        acknowledged_time,
        forced_time,
        reason,
    } = receipt;
    let mut line = [
        ("requested", requested_time),
        ("delivered", delivered_time),
        ("acknowledged", acknowledged_time),
        ("forced", forced_time),
    ]
    .into_iter()
    .filter_map(|(step, at)| {
        let at = time::instant(at.as_ref())?;
        Some(format!("{step} {}", time::to_the_millisecond(at)))
    })
    .collect::<Vec<_>>()
    .join(", ");
    if !reason.is_empty() {
        line.push_str(&format!(" ({})", one_line(reason)));
    }
    line
}

fn children(summary: &ChildSummary) -> String {
    let ChildSummary {
        total,
        open,
        succeeded,
        failed,
        cancelled,
    } = summary;
    if *total == 0 {
        return String::new();
    }
    format!("{total}: {open} open, {succeeded} succeeded, {failed} failed, {cancelled} cancelled")
}

/// The times that are known, each with how long ago, or how long it took.
fn times(job: &Job, now: Timestamp) -> Vec<(&'static str, String)> {
    let created = time::instant(job.create_time.as_ref());
    let scheduled = time::instant(job.schedule_time.as_ref());
    let started = time::instant(job.start_time.as_ref());
    let ended = time::instant(job.end_time.as_ref());
    let expires = time::instant(job.expire_time.as_ref());
    let to = |at: Timestamp| {
        if at > now {
            format!("in {}", time::between(now, at))
        } else {
            format!("{} ago", time::between(at, now))
        }
    };
    let line =
        |at: Timestamp, relation: String| format!("{} ({relation})", time::to_the_second(at));
    let took = |at: Timestamp| match started {
        Some(start) => format!("took {}", time::between(start, at)),
        None => to(at),
    };
    [
        ("created", created.map(|at| line(at, to(at)))),
        ("scheduled", scheduled.map(|at| line(at, to(at)))),
        ("started", started.map(|at| line(at, to(at)))),
        ("ended", ended.map(|at| line(at, took(at)))),
        ("expires", expires.map(|at| line(at, to(at)))),
    ]
    .into_iter()
    .filter_map(|(name, line)| Some((name, line?)))
    .collect()
}

fn tasks(tasks: &[JobTask]) -> Vec<String> {
    let mut rows =
        table::with_header(&["TASK", "STATE", "DRIVER", "ATTEMPT", "PROGRESS", "DETAIL"]);
    for task in tasks {
        rows.add_row([
            Cell::new(one_line(&task.name)),
            table::coloured(task_state(task.state())),
            Cell::new(one_line(&task.driver)),
            Cell::new(format!("{}/{}", task.attempt, task.max_attempts)),
            Cell::new(text::progress(task.progress.as_ref())),
            Cell::new(cut(task_detail(task), DETAIL_CHARS)),
        ]);
    }
    table::lines(&rows)
}

/// The line that says most about a task: why it failed, or what its worker said last.
pub fn task_detail(task: &JobTask) -> &str {
    use longhaul::proto::v1::job_task::State;
    let message = task
        .progress
        .as_ref()
        .map_or("", |progress| &progress.message);
    let troubled = matches!(task.state(), State::Failed | State::BackingOff);
    match (
        troubled,
        task.last_error.as_str(),
        task.status_detail.as_str(),
    ) {
        (true, error, _) if !error.is_empty() => error,
        (_, _, "") => message,
        (_, _, detail) => detail,
    }
}

fn warnings(task: &JobTask) -> impl Iterator<Item = String> + '_ {
    task.warnings.iter().map(|warning| {
        format!(
            "{} {}: {}",
            paint(text::ODD, "warning:"),
            one_line(&task.name),
            one_line(warning)
        )
    })
}

/// JSON escapes most control characters, but not all that terminals heed.
fn object_lines(object: &Struct) -> Vec<String> {
    match json::pretty_object(object) {
        Ok(text) => text
            .lines()
            .map(|line| one_line(line).into_owned())
            .collect(),
        Err(error) => vec![format!("({error})")],
    }
}

#[cfg(test)]
mod tests {
    use longhaul::proto::v1::{Progress, job, job_task};
    use serde_json::json;

    use super::*;
    use crate::cli::render::plain;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn task(name: &str, state: job_task::State) -> JobTask {
        let mut task = JobTask {
            name: name.into(),
            driver: "copier".into(),
            attempt: 1,
            max_attempts: 3,
            ..Default::default()
        };
        task.set_state(state);
        task
    }

    #[test]
    fn a_job_is_told_in_full() {
        let mut copy = task("copy", job_task::State::Succeeded);
        copy.progress = Some(Progress {
            done: 4,
            total: 4,
            unit: "files".into(),
            message: "copied d".into(),
        });
        copy.warnings = vec!["c was busy".into()];
        let mut verify = task("verify", job_task::State::Failed);
        verify.last_error = "b differs".into();
        verify.status_detail = "comparing".into();
        let mut job = Job {
            id: "0197".into(),
            summary: "Move the volume".into(),
            object: Some(Object {
                r#type: "volumes".into(),
                id: "7".into(),
                name: String::new(),
            }),
            error: Some(tonic_types::Status {
                code: 9,
                message: "task verify failed: b differs".into(),
                details: Vec::new(),
            }),
            last_error: "b differs".into(),
            revision: 12,
            progress: Some(Progress {
                done: 1,
                total: 2,
                unit: "tasks".into(),
                message: String::new(),
            }),
            tasks: vec![copy, verify],
            result: Some(Struct::from_json(&json!({"copied": "4"})).expect("an object")),
            labels: [("team", "storage"), ("site", "nyc")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            priority: -5,
            create_time: at(0),
            start_time: at(2),
            end_time: at(62),
            expire_time: at(604_862),
            ..Default::default()
        };
        job.set_state(job::State::Failed);
        job.set_status(job::Status::PartialFailures);
        let now = Timestamp::from_second(122).expect("an instant");
        assert_eq!(
            plain(lines(&job, now)),
            [
                "0197  FAILED  PARTIAL_FAILURES  Move the volume",
                "  object      volumes/7",
                "  progress    1/2 tasks 50%",
                "  error       task verify failed: b differs",
                "  labels      site=nyc team=storage",
                "  priority    -5",
                "  revision    12",
                "  created     1970-01-01T00:00:00Z (2m 2s ago)",
                "  started     1970-01-01T00:00:02Z (2m 0s ago)",
                "  ended       1970-01-01T00:01:02Z (took 1m 0s)",
                "  expires     1970-01-08T00:01:02Z (in 6d 23h)",
                "",
                "TASK    STATE      DRIVER  ATTEMPT  PROGRESS        DETAIL",
                "copy    SUCCEEDED  copier  1/3      4/4 files 100%  copied d",
                "verify  FAILED     copier  1/3                      b differs",
                "warning: copy: c was busy",
                "",
                "RESULT",
                "{",
                "  \"copied\": \"4\"",
                "}",
            ]
        );
    }

    #[test]
    fn a_receipt_says_which_steps_were_taken() {
        let receipt = receipt(&CancelReceipt {
            requested_time: at(1),
            delivered_time: at(2),
            acknowledged_time: None,
            forced_time: None,
            reason: "wrong\nvolume".into(),
        });
        assert_eq!(
            receipt,
            "requested 1970-01-01T00:00:01.000Z, delivered 1970-01-01T00:00:02.000Z (wrong volume)"
        );
    }

    #[test]
    fn a_job_without_a_summary_is_known_by_action_and_object() {
        let job = Job {
            action: "create".into(),
            object: Some(Object {
                r#type: "sg_buckets".into(),
                id: String::new(),
                name: "test1234".into(),
            }),
            ..Default::default()
        };
        assert_eq!(about(&job), "create sg_buckets//test1234");
    }
}
