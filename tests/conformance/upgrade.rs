//! A database that an older version wrote: it opens, and everything in it can be asked for as if it had been written today.

use std::{path::Path, sync::Arc};

use longhaul::{
    domain::{
        Job, JobState, Status, TaskState, Tenant,
        event::EventKind,
        filter::{Field, Filter, Order, Pattern},
    },
    store::ListQuery,
};
use rusqlite::Connection;

use crate::fixture::{Stored, job, list};

/// The tables of version 1.
const TABLES: &str = include_str!("../../src/store/sqlite/migrations/V1__initial.sql");
/// What its server wrote into them.
const ROWS: &str = include_str!("upgrade/v1.sql");

/// A database of version 1, as its server left it.
fn version_1(dir: &Path) -> Connection {
    let old = Connection::open(dir.join("longhaul.db")).unwrap();
    old.execute_batch("PRAGMA page_size = 4096; PRAGMA application_id = 0x4c6e6748;")
        .unwrap();
    old.execute_batch(TABLES).unwrap();
    old.execute_batch(ROWS).unwrap();
    old
}

fn tenant() -> Tenant {
    Tenant::new("default")
}

async fn jobs(stored: &Stored) -> Vec<Arc<Job>> {
    let query = ListQuery {
        tenant: tenant(),
        ..list("", 100)
    };
    stored.store.list(query).await.unwrap().jobs
}

#[tokio::test]
async fn counters_are_recounted_by_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let old = version_1(dir.path());
    // Whatever the counters of jobs said, the jobs know better.
    old.execute("UPDATE counters SET count = 70 WHERE driver = ''", ())
        .unwrap();
    drop(old);
    let mut stored = Stored::in_sqlite_at(dir.path());
    let counts = stored.store.counts(&tenant()).await.unwrap();
    assert_eq!(
        counts.jobs,
        [
            (JobState::Queued, Status::Normal, 1),
            (JobState::Running, Status::Warning, 2),
            (JobState::Succeeded, Status::Normal, 2),
            (JobState::Succeeded, Status::Warning, 1),
            (JobState::Failed, Status::PartialFailures, 1),
            (JobState::Failed, Status::Error, 1),
            (JobState::Cancelled, Status::Error, 1),
        ]
    );
    let task = |driver: &str, state, count| (driver.into(), state, count);
    assert_eq!(
        counts.tasks,
        [
            task("d", TaskState::Running, 2),
            task("d", TaskState::Succeeded, 4),
            task("d", TaskState::Failed, 2),
            task("nobody", TaskState::Queued, 1),
            task("nobody", TaskState::Cancelled, 1),
        ]
    );
    // And it goes on: nothing was left behind that a commit stumbles over.
    let mut changed = Job::clone(&jobs(&stored).await[0]);
    changed.revision += 1;
    stored.change(&changed, EventKind::TaskProgress).await;
    stored.submit(&job("default", 1)).await;
    assert_eq!(jobs(&stored).await.len(), 10);
    drop(stored);
    // Once is enough.
    let again = Stored::in_sqlite_at(dir.path());
    assert_eq!(again.store.counts(&tenant()).await.unwrap(), counts);
}

#[tokio::test]
async fn summaries_and_times_can_be_searched() {
    let dir = tempfile::tempdir().unwrap();
    drop(version_1(dir.path()));
    let stored = Stored::in_sqlite_at(dir.path());
    let jobs = jobs(&stored).await;
    let summaries: Vec<_> = jobs.iter().map(|job| job.spec.summary.as_str()).collect();
    assert_eq!(
        summaries,
        [
            "Runs on, too",
            "Runs on",
            "Two tasks, one bad",
            &"z".repeat(300),
            &"ü".repeat(512),
            &"y".repeat(128),
            &"x".repeat(127),
            "Create a bucket",
            "",
        ]
    );
    for job in &jobs {
        // The tasks have kept their own times.
        let starts = job.tasks.iter().filter_map(|task| task.start_time);
        assert_eq!(job.start_time, starts.min(), "{job:#?}");
        let ends = job.tasks.iter().filter_map(|task| task.end_time);
        let end = ends.max().filter(|_| job.state.is_terminal());
        assert_eq!(job.end_time, end, "{job:#?}");
        let mut filters = vec![
            Filter::Text(Field::Summary, Pattern::Exact(job.spec.summary.clone())),
            Filter::Id(Order::Equal, job.id),
        ];
        filters.extend(job.start_time.map(|at| Filter::StartTime(Order::Equal, at)));
        filters.extend(job.end_time.map(|at| Filter::EndTime(Order::Equal, at)));
        for filter in filters {
            let query = ListQuery {
                tenant: tenant(),
                filter: filter.clone(),
                ..list("", 100)
            };
            let found = stored.store.list(query).await.unwrap().jobs;
            let expected: Vec<_> = jobs.iter().filter(|job| filter.matches(job)).collect();
            assert!(expected.contains(&job), "{filter:?}");
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        }
    }
}
