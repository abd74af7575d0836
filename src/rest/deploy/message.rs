//! What a job has to say: this dialect has no other place for it.

use crate::{
    domain::{
        Job, JobState, Status, Task, TaskState,
        wording::{Sentence, sentence},
    },
    locale::Language,
    rest::standing,
};

/// What its workers said last while it is open, and why it ended as it did.
pub(super) fn of(job: &Job, language: Language) -> String {
    match sentence_of(job) {
        Some(sentence) => language.say(&sentence).into_owned(),
        None => standing::of(job, language),
    }
}

/// `None` if nobody said anything of an open job.
fn sentence_of(job: &Job) -> Option<Sentence> {
    Some(match (job.state, job.status) {
        (JobState::Queued | JobState::Running, _) => return said_last(job),
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
    })
}

/// The newest that a worker said of a task that has not ended.
fn said_last(job: &Job) -> Option<Sentence> {
    let open = job.tasks.iter().filter(|task| !task.state.is_terminal());
    let said = open.filter_map(|task| Some((task.update_time, line(task)?)));
    said.max_by_key(|(time, _)| *time).map(|(_, line)| line)
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
    let said = Some(task.status_detail.as_str()).filter(|said| !said.is_empty());
    said.map(Sentence::foreign)
}

/// Why a job that succeeded did so with a warning. Of many warnings of a task only the newest are kept, and those of two tasks have no order.
fn warned(job: &Job) -> Sentence {
    let mut warnings = job.tasks.iter().flat_map(|task| &task.warnings).rev();
    match (warnings.next(), warnings.next()) {
        (Some(warning), None) => sentence!(
            "deploy-one-warning",
            "succeeded with a warning: {warning}",
            warning
        ),
        (Some(warning), Some(_)) => sentence!(
            "deploy-some-warnings",
            "succeeded with warnings, among them: {warning}",
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
