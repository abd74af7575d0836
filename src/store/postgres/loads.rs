//! No question makes the database send, or a node hold, more than there is room for, however large the jobs are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::{
    cluster::{Cluster, Database, Options},
    columns::Cells,
    connect::Connector,
    feed, list, open, queue, session, write,
};
use crate::{
    domain::{
        Document, Job, JobId, JobKey, JobSpec, JobState, Status, Task, TaskId, TaskSpec, TaskState,
        Tenant, Timestamp,
        command::{Changes, JobWrite, WriteKind},
        event::{Event, EventKind},
        filter::Filter,
        job::{ChildCounts, FailurePolicy},
        limits::MAX_GRANT_BYTES,
        task::{RetryPolicy, Timeouts},
    },
    store::{ListOrder, ListQuery, Whose, filter::Value},
};

/// Jobs of which each has this many bytes.
const JOBS: usize = 40;
const BYTES: usize = 1024 * 1024;
/// How many of them have room in an answer, and in a claim.
const IN_ANSWER: usize = feed::MAX_JOBS_BYTES / BYTES;
const IN_CLAIM: usize = 4 * MAX_GRANT_BYTES / BYTES;
const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn id(n: usize) -> Uuid {
    Uuid::from_u128((1_700_000_000_000_u128 << 80) + (7 << 76) + n as u128)
}

fn job(tenant: &str, n: usize, tasks: Vec<Task>) -> Job {
    Job {
        id: JobId(id(n)),
        tenant: Tenant::new(tenant),
        spec: Arc::new(JobSpec {
            action: "create".into(),
            summary: String::new(),
            object: None,
            labels: BTreeMap::new(),
            priority: 0,
            creator: String::new(),
            parent: None,
            failure_policy: FailurePolicy::FailFast,
            schedule_time: None,
            traceparent: String::new(),
        }),
        request_id: String::new(),
        depth: 0,
        retry_of: None,
        state: JobState::Queued,
        status: Status::Normal,
        last_error: String::new(),
        revision: 1,
        tasks,
        children: ChildCounts::default(),
        cancel: None,
        timer: None,
        create_time: NOW,
        start_time: None,
        update_time: NOW,
        end_time: None,
        expire_time: None,
    }
}

/// A task that is ready, half of whose bytes are its payload.
fn task(driver: &str, bytes: usize) -> Task {
    let half = || Some(Document(vec![b'a'; bytes / 2].into()));
    let spec = TaskSpec {
        name: "t".into(),
        action: String::new(),
        driver: driver.into(),
        object: None,
        resource_type: String::new(),
        depends_on: Vec::new(),
        max_attempts: 1,
        retry_policy: RetryPolicy::default(),
        timeouts: Timeouts::default(),
        request_payload: half(),
    };
    let mut task = Task::new(TaskId(id(0)), Arc::new(spec), NOW);
    task.state = TaskState::Queued;
    task.ready_time = Some(NOW);
    task.result = half();
    task
}

fn submitted(jobs: impl IntoIterator<Item = Job>) -> Changes {
    let mut changes = Changes::default();
    for job in jobs {
        changes.events.push(Event {
            tenant: job.tenant.clone(),
            job: job.id,
            revision: 1,
            time: NOW,
            kind: EventKind::JobSubmitted,
            task: None,
            before: None,
            after: (job.state, job.status),
            detail: String::new(),
        });
        changes.jobs.push(JobWrite {
            job: Arc::new(job),
            how: WriteKind::Insert,
        });
    }
    changes
}

/// A database with large jobs of one task, and with one of many tasks.
async fn opened() -> (Database, ClientWrapper) {
    let cluster = Cluster::start(Options::default().set("fsync", "off"));
    let database = cluster.database();
    let connector = Connector::new(database.url().parse().expect("an address"));
    open::open(
        &connector,
        true,
        open::Tables::Make,
        Some(Duration::from_secs(3_600)),
    )
    .await
    .expect("a database");
    let client = session::begin(&connector).await.expect("a connection");
    let large = (0..JOBS).map(|n| job("acme", n, vec![task("ansible", BYTES)]));
    let tasks = (0..JOBS).map(|_| task("terraform", 4 * BYTES / JOBS));
    let wide = job("umbrella", JOBS, tasks.collect());
    let changes = submitted(large.chain([wide]));
    client.batch_execute("BEGIN").await.expect("a transaction");
    for step in write::steps(&changes, 0) {
        let written = client.execute(step.sql, &step.parameters()).await;
        written.expect("a statement");
    }
    client.batch_execute("COMMIT").await.expect("a commit");
    (database, client)
}

/// What the database sends of a list: where it is, whether it is cut there, and the job.
async fn sent(client: &ClientWrapper, query: &ListQuery) -> Vec<(bool, Uuid)> {
    let (sql, values) = list::select(query);
    let values: Vec<(&(dyn ToSql + Sync), Type)> = values
        .iter()
        .map(|value| match value {
            Value::Integer(value) => (value as _, Type::INT8),
            Value::Text(value) => (value as _, Type::TEXT),
            Value::Bytes(value) => (value as _, Type::BYTEA),
            Value::Id(value) => (value as _, Type::UUID),
        })
        .collect();
    let rows = client.query_typed(&sql, &values).await.expect("a page");
    let row = |row| {
        let mut cells = Cells::of(row, 4);
        let is_cut = cells.next().expect("a mark");
        Some((is_cut, cells.next::<Option<Uuid>>().expect("an id")?))
    };
    rows.iter().filter_map(row).collect()
}

#[tokio::test]
async fn a_page_sends_no_more_jobs_than_it_has_room_for() {
    let (_database, client) = opened().await;
    for order in [
        ListOrder::CreateTime,
        ListOrder::CreateTimeDesc,
        ListOrder::UpdateTime,
        ListOrder::UpdateTimeDesc,
    ] {
        let mut query = ListQuery {
            tenant: Tenant::new("acme"),
            filter: Filter::All,
            order,
            after: None,
            limit: 1_000,
        };
        let rows = sent(&client, &query).await;
        assert_eq!(rows.len(), IN_ANSWER, "{order:?}");
        assert!(rows.iter().rev().skip(1).all(|(is_cut, _)| !is_cut));
        assert!(rows.last().is_some_and(|(is_cut, _)| *is_cut));
        // The page says the same, and goes on behind it.
        let mut all = 0;
        let mut pages = 0;
        loop {
            let page = list::page(&client, &query).await.expect("a page");
            assert!(page.jobs.len() <= IN_ANSWER, "{order:?}");
            all += page.jobs.len();
            pages += 1;
            query.after = page.next;
            if page.next.is_none() {
                break;
            }
            assert_eq!(page.next, page.at.last().copied(), "{order:?}");
        }
        assert_eq!((all, pages), (JOBS, JOBS.div_ceil(IN_ANSWER)), "{order:?}");
    }
}

#[tokio::test]
async fn a_part_of_the_feed_sends_no_more_jobs_than_it_has_room_for() {
    let (_database, client) = opened().await;
    let ids: Vec<Uuid> = (0..JOBS).rev().map(id).collect();
    let keys = ids.iter().map(|id| JobKey {
        tenant: Tenant::new("acme"),
        job: JobId(*id),
    });
    let keys: Vec<JobKey> = keys.collect();
    let mut room = feed::MAX_JOBS_BYTES;
    let (looked, jobs) = feed::jobs_within(&client, &keys, &mut room)
        .await
        .expect("jobs");
    assert_eq!((looked, jobs.len(), room), (IN_ANSWER, IN_ANSWER, 0));
    let found: Vec<Uuid> = jobs.iter().map(|job| job.id.0).collect();
    assert_eq!(found, ids[..IN_ANSWER]);
    // One always has room, and jobs that are gone are looked at too.
    let unknown = JobKey {
        tenant: Tenant::new("umbrella"),
        job: JobId(Uuid::max()),
    };
    let some = [unknown.clone(), keys[0].clone(), unknown, keys[1].clone()];
    let (looked, jobs) = feed::jobs_within(&client, &some, &mut 1)
        .await
        .expect("jobs");
    assert_eq!((looked, jobs.len()), (2, 1));
    let (looked, jobs) = feed::jobs_within(&client, &some[2..], &mut 1)
        .await
        .expect("jobs");
    assert_eq!((looked, jobs.len()), (2, 1));
}

#[tokio::test]
async fn a_claim_takes_no_more_jobs_than_it_has_room_for() {
    let (_database, client) = opened().await;
    client.batch_execute("BEGIN").await.expect("a transaction");
    let of_all = Whose::All { served: None };
    let acme = Tenant::new("acme");
    for whose in [of_all, Whose::One(&acme)] {
        let ready = queue::ready(&client, "ansible", whose, 1_000)
            .await
            .expect("tasks");
        assert_eq!((ready.tasks.len(), ready.more), (IN_CLAIM, true));
    }
    let ready = queue::ready(&client, "ansible", of_all, 1)
        .await
        .expect("tasks");
    assert_eq!((ready.tasks.len(), ready.more), (1, true));
    // However many of its tasks are ready, a job is loaded once.
    let ready = queue::ready(&client, "terraform", of_all, 1_000)
        .await
        .expect("tasks");
    assert_eq!((ready.tasks.len(), ready.more), (JOBS, false));
}
