//! What a job has to say: this dialect has no other place for it.

use crate::{
    domain::{
        Job, JobState, Status, Task, TaskState,
        wording::{Sentence, sentence},
    },
    locale::Language,
};

/// What its workers said last while it is open, and why it ended as it did.
pub(super) fn of(job: &Job, language: Language) -> String {
    language.say(&sentence_of(job)).into_owned()
}

fn sentence_of(job: &Job) -> Sentence {
    match (job.state, job.status) {
        (JobState::Queued | JobState::Running, _) => open(job),
        (JobState::Cancelling, _) => match reason_to_cancel(job) {
            "" => Sentence::plain("deploy-cancelling", "the job is being cancelled"),
            reason => sentence!(
                "deploy-cancelling-because",
                "the job is being cancelled: {reason}",
                reason
            ),
        },
        (JobState::Cancelled, _) => match reason_to_cancel(job) {
            "" => Sentence::plain("deploy-cancelled", "the job was cancelled"),
            reason => sentence!(
                "deploy-cancelled-because",
                "the job was cancelled: {reason}",
                reason
            ),
        },
        (JobState::Succeeded, Status::Warning) => warned(job),
        (JobState::Succeeded, _) => match job.tasks.as_slice() {
            [task] if !task.status_detail.is_empty() => {
                Sentence::foreign(task.status_detail.as_str())
            }
            _ => Sentence::plain("deploy-succeeded", "succeeded"),
        },
        (JobState::Failed, _) => failed(job),
    }
}

/// The newest that a worker said of a task that has not ended, or how far the job is.
fn open(job: &Job) -> Sentence {
    let open = job.tasks.iter().filter(|task| !task.state.is_terminal());
    let said = open.filter_map(|task| Some((task.update_time, line(task)?)));
    if let Some((_, line)) = said.max_by_key(|(time, _)| *time) {
        return line;
    }
    match (job.state, job.spec.schedule_time) {
        (JobState::Queued, None) => {
            Sentence::plain("deploy-waits-for-worker", "waits for a worker")
        }
        (JobState::Queued, Some(_)) => Sentence::plain(
            "deploy-waits-for-time",
            "waits for its schedule time or for a worker",
        ),
        _ => {
            let done = job.tasks.iter().filter(|task| task.state.is_terminal());
            sentence!(
                "deploy-tasks-done",
                "{done} of {total} tasks are done",
                done = done.count(),
                total = job.tasks.len()
            )
        }
    }
}

/// What there is to say of a task that has not ended.
fn line(task: &Task) -> Option<Sentence> {
    if task.state == TaskState::BackingOff && !task.last_error.is_empty() {
        return Some(sentence!(
            "deploy-tries-again",
            "an attempt failed, another one follows: {error}",
            error = task.last_error
        ));
    }
    let progress = task.progress.as_ref().map(|p| p.message.as_str());
    let said = progress.into_iter().chain([task.status_detail.as_str()]);
    let mut said = said.filter(|line| !line.is_empty());
    said.next().map(Sentence::foreign)
}

/// Why a job that succeeded did so with a warning.
fn warned(job: &Job) -> Sentence {
    let warnings = job.tasks.iter().flat_map(|task| &task.warnings);
    let count = warnings.clone().count();
    match (warnings.last(), count) {
        (Some(warning), 1) => sentence!(
            "deploy-one-warning",
            "succeeded with a warning: {warning}",
            warning
        ),
        (Some(warning), _) => sentence!(
            "deploy-warnings",
            "succeeded with {count} warnings, the last of them: {warning}",
            count,
            warning
        ),
        (None, _) => Sentence::plain(
            "deploy-child-failed",
            "succeeded, but not all of its child jobs did",
        ),
    }
}

fn failed(job: &Job) -> Sentence {
    let failed = job.tasks.iter().find(|t| t.state == TaskState::Failed);
    let Some(task) = failed else {
        return Sentence::plain("deploy-tasks-not-run", "not all of the tasks were run");
    };
    let (name, error) = (&task.spec.name, &task.last_error);
    match job.status {
        Status::PartialFailures => sentence!(
            "deploy-partly-failed",
            "{succeeded} of {total} tasks succeeded; task {name:?} failed: {error}",
            succeeded = job.count(TaskState::Succeeded),
            total = job.tasks.len(),
            name,
            error
        ),
        _ => sentence!(
            "deploy-task-failed",
            "task {name:?} failed: {error}",
            name,
            error
        ),
    }
}

fn reason_to_cancel(job: &Job) -> &str {
    job.cancel.as_ref().map_or("", |receipt| &receipt.reason)
}
