//! A watch in a pipe: one line per change, with time, task, state and progress. Pure.

use std::collections::HashMap;

use anstyle::Style;
use longhaul::{
    domain::wording::count,
    proto::v1::{Job, JobTask, job, job_task},
};

use crate::cli::{
    render::job::{about, task_detail},
    text::{self, BAD, FAINT, STRONG, job_state, job_status, one_line, paint, task_state},
    time,
};

/// Characters of the longest name of a state.
const STATE_CHARS: usize = 12;
/// Characters that the column of names has at least, so that it seldom moves.
const NAME_CHARS: usize = 12;

/// What was printed of the job so far, to tell what is new.
#[derive(Default)]
pub struct Changes {
    job: Option<JobFace>,
    tasks: HashMap<String, TaskFace>,
}

/// What of a job is worth a line when it changes. Its progress is not: that is its tasks'.
#[derive(PartialEq, Eq)]
struct JobFace {
    state: job::State,
    status: job::Status,
    cancelling: bool,
}

/// What of a task is worth a line when it changes.
#[derive(PartialEq, Eq)]
struct TaskFace {
    state: job_task::State,
    attempt: u32,
    progress: String,
    detail: String,
    /// How many there are, up to the server's limit, and the newest.
    warnings: (usize, String),
}

impl Changes {
    /// Lines for what this snapshot says that the ones before it did not. `coalesced` changes were merged into it.
    pub fn lines(&mut self, job: &Job, coalesced: u64) -> Vec<String> {
        let width = job
            .tasks
            .iter()
            .map(|task| task.name.chars().count())
            .max()
            .unwrap_or(0)
            .max(NAME_CHARS);
        let first = self.job.is_none();
        // What happened before the watch began was not merged, but missed.
        let coalesced = if first { 0 } else { coalesced };
        let face = JobFace {
            state: job.state(),
            status: job.status(),
            cancelling: job.cancel.is_some(),
        };
        let job_changed = self.job.as_ref() != Some(&face);
        let ended = matches!(
            face.state,
            job::State::Succeeded | job::State::Failed | job::State::Cancelled
        );
        self.job = Some(face);

        let mut lines = Vec::new();
        let job_line = || job_line(job, width, coalesced, first);
        // A job that has ended comes after its tasks, so that the last line is the outcome.
        if (job_changed || coalesced > 0) && !ended {
            lines.push(job_line());
        }
        for task in &job.tasks {
            let face = TaskFace::of(task);
            let before = self.tasks.get(&task.id);
            if before != Some(&face) {
                lines.push(task_line(task, width, &face, before));
                self.tasks.insert(task.id.clone(), face);
            }
        }
        if (job_changed || coalesced > 0) && ended {
            lines.push(job_line());
        }
        lines
    }
}

impl TaskFace {
    fn of(task: &JobTask) -> Self {
        Self {
            state: task.state(),
            attempt: task.attempt,
            progress: text::progress(task.progress.as_ref()),
            detail: one_line(task_detail(task)).into_owned(),
            warnings: (
                task.warnings.len(),
                task.warnings
                    .last()
                    .map_or_else(String::new, |warning| one_line(warning).into_owned()),
            ),
        }
    }
}

fn job_line(job: &Job, width: usize, coalesced: u64, first: bool) -> String {
    let (status, style) = job_status(job.status());
    let mut said = vec![paint(style, status)];
    match &job.error {
        Some(error) => said.push(paint(BAD, one_line(&error.message))),
        None if first => said.push(about(job)),
        None => {}
    }
    if coalesced > 0 {
        let merged = count(coalesced, "earlier change");
        said.push(paint(FAINT, format_args!("({merged} merged)")));
    }
    let name = paint(STRONG, format_args!("{:<width$}", "job"));
    line(
        job.update_time.as_ref(),
        &name,
        job_state(job.state()),
        &said,
    )
}

fn task_line(task: &JobTask, width: usize, face: &TaskFace, before: Option<&TaskFace>) -> String {
    let mut said = Vec::new();
    if face.attempt > 1 {
        said.push(paint(FAINT, format_args!("#{}", face.attempt)));
    }
    said.extend([face.progress.clone(), face.detail.clone()]);
    let (warnings, newest) = &face.warnings;
    if *warnings > 0 && before.is_none_or(|before| before.warnings != face.warnings) {
        said.push(paint(text::ODD, format_args!("warning: {newest}")));
    }
    let name = format!("{:<width$}", one_line(&task.name));
    line(
        task.update_time.as_ref(),
        &name,
        task_state(face.state),
        &said,
    )
}

/// Time, name, state, and whatever else there is to say.
fn line(
    at: Option<&prost_types::Timestamp>,
    name: &str,
    (state, style): (&str, Style),
    said: &[String],
) -> String {
    let said = said
        .iter()
        .filter(|part| !part.is_empty())
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("  ");
    let at = time::instant(at).map_or_else(String::new, time::to_the_millisecond);
    if said.is_empty() {
        return format!("{at}  {name}  {}", paint(style, state));
    }
    format!(
        "{at}  {name}  {}  {said}",
        paint(style, format_args!("{state:<STATE_CHARS$}"))
    )
}

#[cfg(test)]
mod tests {
    use longhaul::proto::v1::Progress;

    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn job(state: job::State, task: job_task::State, done: i64, seconds: i64) -> Job {
        let mut job = Job {
            id: "j".into(),
            summary: "Create the bucket".into(),
            update_time: at(seconds),
            tasks: vec![JobTask {
                id: "t".into(),
                name: "bucket".into(),
                attempt: 1,
                progress: Some(Progress {
                    done,
                    total: 4,
                    unit: "steps".into(),
                    message: String::new(),
                }),
                update_time: at(seconds),
                ..Default::default()
            }],
            ..Default::default()
        };
        job.set_state(state);
        job.set_status(job::Status::Normal);
        job.tasks[0].set_state(task);
        job
    }

    fn plain(lines: Vec<String>) -> Vec<String> {
        lines
            .iter()
            .map(|line| anstream::adapter::strip_str(line).to_string())
            .collect()
    }

    #[test]
    fn a_job_is_told_change_by_change() {
        use job_task::State as Task;
        let mut changes = Changes::default();
        let mut told = Vec::new();
        for (state, task, done, seconds) in [
            (job::State::Queued, Task::Queued, 0, 0),
            (job::State::Running, Task::Running, 0, 1),
            (job::State::Running, Task::Running, 2, 2),
            (job::State::Running, Task::Running, 2, 3),
            (job::State::Succeeded, Task::Succeeded, 4, 4),
        ] {
            told.extend(changes.lines(&job(state, task, done, seconds), 0));
        }
        assert_eq!(
            plain(told),
            [
                "1970-01-01T00:00:00.000Z  job           QUEUED        NORMAL  Create the bucket",
                "1970-01-01T00:00:00.000Z  bucket        QUEUED        0/4 steps 0%",
                "1970-01-01T00:00:01.000Z  job           RUNNING       NORMAL",
                "1970-01-01T00:00:01.000Z  bucket        RUNNING       0/4 steps 0%",
                "1970-01-01T00:00:02.000Z  bucket        RUNNING       2/4 steps 50%",
                "1970-01-01T00:00:04.000Z  bucket        SUCCEEDED     4/4 steps 100%",
                "1970-01-01T00:00:04.000Z  job           SUCCEEDED     NORMAL",
            ]
        );
    }

    #[test]
    fn merged_changes_warnings_and_errors_are_said() {
        let mut job = self::job(job::State::Failed, job_task::State::Failed, 1, 5);
        job.error = Some(tonic_types::Status {
            code: 9,
            message: "task bucket failed".into(),
            details: Vec::new(),
        });
        let task = &mut job.tasks[0];
        task.attempt = 3;
        task.last_error = "no space\nleft".into();
        task.warnings = vec!["slow disk".into()];
        let mut changes = Changes::default();
        changes.lines(
            &self::job(job::State::Running, job_task::State::Running, 1, 1),
            3,
        );
        assert_eq!(
            plain(changes.lines(&job, 7)),
            [
                "1970-01-01T00:00:05.000Z  bucket        FAILED        #3  1/4 steps 25%  no space left  warning: slow disk",
                "1970-01-01T00:00:05.000Z  job           FAILED        NORMAL  task bucket failed  (7 earlier changes merged)",
            ]
        );
        job.tasks[0].attempt = 4;
        assert_eq!(
            plain(changes.lines(&job, 0)),
            [
                "1970-01-01T00:00:05.000Z  bucket        FAILED        #4  1/4 steps 25%  no space left"
            ]
        );
    }
}
