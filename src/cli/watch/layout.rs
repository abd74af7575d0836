//! What the live view shows of a job: a header, a row per task, and a summary where there are too many. Pure.

use longhaul::{
    domain::wording::count,
    proto::v1::{Job, JobTask, job_task::State},
};

use crate::cli::{
    render::job::{headline, task_detail},
    text::{self, cut, one_line, paint, task_state},
};

/// Tasks that have a row of their own: what fits on a terminal of 24 lines.
pub const MAX_ROWS: usize = 20;
/// Characters of a task's name.
const NAME_CHARS: usize = 24;
/// Characters of the longest name of a state.
const STATE_CHARS: usize = 12;

/// The lines of the live view.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// The job itself.
    pub header: String,
    /// Some or all of its tasks.
    pub rows: Vec<Row>,
    /// What the other tasks are doing, if not all have a row.
    pub rest: Option<String>,
}

/// One task.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name and state.
    pub label: String,
    /// Units done, of `total`.
    pub done: u64,
    /// Never 0.
    pub total: u64,
    /// Figures, and what the worker said last.
    pub detail: String,
}

/// Lays out a snapshot.
pub fn layout(job: &Job) -> Layout {
    let shown = shown(&job.tasks);
    let width = shown
        .iter()
        .map(|task| task.name.chars().count())
        .max()
        .unwrap_or(0)
        .min(NAME_CHARS);
    let rest = (shown.len() < job.tasks.len()).then(|| summary(job));
    Layout {
        header: headline(job),
        rows: shown.into_iter().map(|task| row(task, width)).collect(),
        rest,
    }
}

/// All tasks if they are few; else those that someone watching would ask about: running and failed ones.
fn shown(tasks: &[JobTask]) -> Vec<&JobTask> {
    if tasks.len() <= MAX_ROWS {
        return tasks.iter().collect();
    }
    tasks
        .iter()
        .filter(|task| {
            matches!(
                task.state(),
                State::Running | State::Cancelling | State::BackingOff | State::Failed
            )
        })
        .take(MAX_ROWS)
        .collect()
}

fn row(task: &JobTask, width: usize) -> Row {
    let (state, style) = task_state(task.state());
    let name = cut(&task.name, width);
    let (done, total) = match (task.state(), task.progress.as_ref()) {
        (State::Succeeded, _) => (1, 1),
        (_, Some(progress)) if progress.total > 0 => (
            u64::try_from(progress.done).unwrap_or(0),
            progress.total.unsigned_abs(),
        ),
        _ => (0, 1),
    };
    let figures = text::progress(task.progress.as_ref());
    let attempt = if task.attempt > 1 {
        format!("#{}", task.attempt)
    } else {
        String::new()
    };
    let detail = [figures.as_str(), &attempt, &one_line(task_detail(task))]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("  ");
    Row {
        label: format!(
            "  {name:<width$}  {}",
            paint(style, format_args!("{state:<STATE_CHARS$}"))
        ),
        done: done.min(total),
        total,
        detail,
    }
}

/// How many tasks are in each state, as the server counts them.
fn summary(job: &Job) -> String {
    let counts = job.task_counts.unwrap_or_default();
    let states = [
        ("pending", counts.pending),
        ("queued", counts.queued),
        ("running", counts.running),
        ("backing off", counts.backing_off),
        ("cancelling", counts.cancelling),
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
        ("cancelled", counts.cancelled),
        ("skipped", counts.skipped),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(state, count)| format!("{count} {state}"))
    .collect::<Vec<_>>()
    .join(", ");
    format!("  {}: {states}", count(counts.total, "task"))
}

#[cfg(test)]
mod tests {
    use longhaul::proto::v1::{Progress, TaskCounts};

    use super::*;

    fn task(name: &str, state: State) -> JobTask {
        let mut task = JobTask {
            name: name.into(),
            ..Default::default()
        };
        task.set_state(state);
        task
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn every_task_of_a_small_job_has_a_row() {
        let mut running = task("copy", State::Running);
        running.attempt = 2;
        running.status_detail = "half way".into();
        running.progress = Some(Progress {
            done: 5,
            total: 10,
            ..Default::default()
        });
        let job = Job {
            tasks: vec![running, task("verify", State::Pending)],
            ..Default::default()
        };
        let layout = layout(&job);
        assert_eq!(layout.rest, None);
        let [copy, verify] = layout.rows.as_slice() else {
            panic!("two rows: {layout:?}");
        };
        assert_eq!(plain(&copy.label), "  copy    RUNNING     ");
        assert_eq!((copy.done, copy.total), (5, 10));
        assert_eq!(copy.detail, "5/10 50%  #2  half way");
        assert_eq!(plain(&verify.label), "  verify  PENDING     ");
        assert_eq!((verify.done, verify.total), (0, 1));
    }

    #[test]
    fn a_large_job_shows_what_matters_and_counts_the_rest() {
        let mut tasks: Vec<_> = (0..500)
            .map(|n| task(&format!("t{n}"), State::Queued))
            .collect();
        tasks[7].set_state(State::Running);
        tasks[400].set_state(State::Failed);
        let job = Job {
            tasks,
            task_counts: Some(TaskCounts {
                total: 500,
                queued: 498,
                running: 1,
                failed: 1,
                ..Default::default()
            }),
            ..Default::default()
        };
        let layout = layout(&job);
        let names: Vec<_> = layout
            .rows
            .iter()
            .map(|row| {
                plain(&row.label)
                    .split_whitespace()
                    .next()
                    .map(str::to_owned)
            })
            .collect();
        assert_eq!(names, [Some("t7".to_owned()), Some("t400".to_owned())]);
        assert_eq!(
            layout.rest.as_deref(),
            Some("  500 tasks: 498 queued, 1 running, 1 failed")
        );
    }

    #[test]
    fn rows_are_bounded() {
        let tasks: Vec<_> = (0..1_000)
            .map(|n| task(&format!("t{n}"), State::Running))
            .collect();
        let job = Job {
            tasks,
            ..Default::default()
        };
        assert_eq!(layout(&job).rows.len(), MAX_ROWS);
    }
}
