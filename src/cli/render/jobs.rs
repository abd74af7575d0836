//! Pages of jobs, and counts of them.

use std::collections::BTreeMap;

use comfy_table::Cell;
use jiff::Timestamp;
use longhaul::proto::v1::{GetCountsResponse, Job, job_task};

use super::{job, table};
use crate::cli::{
    text::{self, cut, job_state, job_status, one_line, task_state},
    time,
};

/// Characters of a job's summary in a list.
const ABOUT_CHARS: usize = 48;

/// A list of jobs, page by page.
#[derive(Default)]
pub struct Pages(table::Pages);

impl Pages {
    /// The next page; the first one has the headings.
    pub fn lines(&mut self, jobs: &[Job], now: Timestamp) -> Vec<String> {
        let mut rows = table::with_header(&["JOB", "STATE", "STATUS", "PROGRESS", "AGE", "ABOUT"]);
        for job in jobs {
            rows.add_row([
                Cell::new(one_line(&job.id)),
                table::coloured(job_state(job.state())),
                table::coloured(job_status(job.status())),
                Cell::new(text::progress(job.progress.as_ref())),
                Cell::new(age(job, now)),
                Cell::new(cut(&job::about(job), ABOUT_CHARS)),
            ]);
        }
        self.0.lines(rows)
    }
}

fn age(job: &Job, now: Timestamp) -> String {
    time::instant(job.create_time.as_ref())
        .map_or_else(String::new, |created| time::between(created, now))
}

/// How many jobs are in each state, and how many tasks of each driver.
pub fn counts(counts: &GetCountsResponse) -> Vec<String> {
    let mut rows = table::with_header(&["JOBS", "COUNT"]);
    for jobs in &counts.jobs {
        rows.add_row([
            table::coloured(job_state(jobs.state())),
            Cell::new(jobs.count),
        ]);
    }
    let mut lines = table::lines(&rows);
    if counts.tasks.is_empty() {
        return lines;
    }

    let mut drivers: BTreeMap<&str, BTreeMap<i32, i64>> = BTreeMap::new();
    for tasks in &counts.tasks {
        let states = drivers.entry(&tasks.driver).or_default();
        *states.entry(tasks.state).or_default() += tasks.count;
    }
    let states: Vec<job_task::State> = (1..)
        .map_while(|number| job_task::State::try_from(number).ok())
        .filter(|state| {
            drivers
                .values()
                .any(|counts| counts.contains_key(&(*state as i32)))
        })
        .collect();
    let headings = states.iter().map(|state| task_state(*state).0);
    let mut rows = table::with_header(&["DRIVER"].into_iter().chain(headings).collect::<Vec<_>>());
    for (driver, counts) in drivers {
        let cells = states
            .iter()
            .map(|state| Cell::new(counts.get(&(*state as i32)).copied().unwrap_or(0)));
        rows.add_row([Cell::new(one_line(driver))].into_iter().chain(cells));
    }
    lines.push(String::new());
    lines.extend(table::lines(&rows));
    lines
}

#[cfg(test)]
mod tests {
    use longhaul::proto::v1::{JobCount, JobTaskCount, job};

    use super::*;
    use crate::cli::render::plain;

    fn job(id: &str, summary: &str) -> Job {
        let mut job = Job {
            id: id.into(),
            summary: summary.into(),
            create_time: Some(prost_types::Timestamp::default()),
            ..Default::default()
        };
        job.set_state(job::State::Running);
        job.set_status(job::Status::Normal);
        job
    }

    #[test]
    fn pages_follow_one_another_in_the_same_columns() {
        let now = Timestamp::from_second(75).expect("an instant");
        let mut pages = Pages::default();
        let first = pages.lines(&[job("long-enough", "Copy\nall")], now);
        let second = pages.lines(&[job("short", "Verify")], now);
        assert_eq!(
            plain([first, second].concat()),
            [
                "JOB          STATE    STATUS  PROGRESS  AGE     ABOUT",
                "long-enough  RUNNING  NORMAL            1m 15s  Copy all",
                "short        RUNNING  NORMAL            1m 15s  Verify",
            ]
        );
    }

    #[test]
    fn counts_are_by_state_and_by_driver() {
        let task = |driver: &str, state: job_task::State, count| JobTaskCount {
            driver: driver.into(),
            state: state.into(),
            count,
        };
        let answer = GetCountsResponse {
            jobs: vec![JobCount {
                state: job::State::Queued.into(),
                count: 3,
            }],
            tasks: vec![
                task("b", job_task::State::Failed, 1),
                task("a", job_task::State::Queued, 2),
                task("b", job_task::State::Queued, 5),
            ],
        };
        assert_eq!(
            plain(counts(&answer)),
            [
                "JOBS    COUNT",
                "QUEUED  3",
                "",
                "DRIVER  QUEUED  FAILED",
                "a       2       0",
                "b       5       1",
            ]
        );
    }
}
