//! What several nodes on one database owe each other: what one is at the others wait for or leave, nobody writes over what he has not read, and each
//! hears of all.

use std::{sync::Arc, time::Duration};

use longhaul::{
    domain::{
        Job, JobId, JobKey, Tenant,
        command::{Changes, RequestKey, RequestRecord, WriteKind},
        event::EventKind,
    },
    store::{
        Locked, StoreError, Whose,
        postgres::{OpenError, PostgresStore},
    },
};

use crate::{fixture::*, postgres::Database};

/// Two nodes of one cluster.
async fn two() -> (Arc<Database>, Stored, Stored) {
    let database = Arc::new(database());
    let one = Stored::in_postgres_at(&database).await;
    let other = Stored::in_postgres_at(&database).await;
    (database, one, other)
}

/// The job with another revision, and the changes that make it so.
fn changed(job: &Job) -> (Job, Changes) {
    let mut job = job.clone();
    job.revision += 1;
    let how = WriteKind::Update {
        job: true,
        tasks: vec![],
    };
    let changes = Changes {
        jobs: vec![write(&job, how)],
        events: vec![event(&job, EventKind::TaskProgress)],
        ..Changes::default()
    };
    (job, changes)
}

fn numbers(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

/// Returns when somebody waits for what another has locked.
async fn is_waited_for(database: &Database) {
    let wait = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while database.sql(waiting) == "0" {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    waited.expect("somebody waits");
}

fn is_conflict<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Conflict(_)))
}

#[tokio::test]
async fn what_one_node_is_at_the_others_leave() {
    let (_database, mut one, mut other) = two().await;
    let (first, second) = (job("acme", 1), job("acme", 2));
    one.submit(&first).await;
    one.submit(&second).await;
    let keys = [first.key(), second.key()];

    one.writer.begin().await.unwrap();
    let locked = one.writer.jobs(&keys[..1], Locked::Wait).await.unwrap();
    assert_eq!(numbers(&locked), [first.id]);
    other.writer.begin().await.unwrap();
    for whose in [Whose::All { served: None }, Whose::One(&first.tenant)] {
        let ready = other.writer.ready("ansible", whose, 10).await.unwrap();
        let of: Vec<_> = ready.tasks.iter().map(|task| task.key.job).collect();
        assert_eq!((of, ready.more), (vec![second.id], true));
    }
    let left = other.writer.jobs(&keys, Locked::Skip).await.unwrap();
    assert_eq!(numbers(&left), [second.id]);
    // Those that were taken come again.
    let again = other.writer.jobs(&keys, Locked::Skip).await.unwrap();
    assert_eq!(again, left);
    one.writer.rollback().await;
    other.writer.rollback().await;

    other.writer.begin().await.unwrap();
    for whose in [Whose::All { served: None }, Whose::One(&first.tenant)] {
        let ready = other.writer.ready("ansible", whose, 10).await.unwrap();
        assert_eq!((ready.tasks.len(), ready.more), (2, false));
    }
    let all = other.writer.jobs(&keys, Locked::Skip).await.unwrap();
    assert_eq!(numbers(&all), [first.id, second.id]);
}

#[tokio::test]
async fn a_job_comes_with_its_ancestors_or_not_at_all() {
    let (_database, mut one, mut other) = two().await;
    let parent = job("acme", 1);
    let mut child = job("acme", 2);
    respec(&mut child, |spec| spec.parent = Some(parent.id));
    let mut grandchild = job("acme", 3);
    respec(&mut grandchild, |spec| spec.parent = Some(child.id));
    for job in [&parent, &child, &grandchild] {
        one.submit(job).await;
    }
    let keys = [grandchild.key()];

    other.writer.begin().await.unwrap();
    let mut family = numbers(&other.writer.jobs(&keys, Locked::Skip).await.unwrap());
    assert_eq!(family[0], grandchild.id);
    family.sort_unstable();
    assert_eq!(family, [parent.id, child.id, grandchild.id]);
    other.writer.rollback().await;

    one.writer.begin().await.unwrap();
    one.writer
        .jobs(&[parent.key()], Locked::Wait)
        .await
        .unwrap();
    other.writer.begin().await.unwrap();
    let left = other.writer.jobs(&keys, Locked::Skip).await.unwrap();
    assert!(!numbers(&left).contains(&grandchild.id));
}

#[tokio::test]
async fn who_waits_for_a_job_reads_it_as_it_is_then() {
    let (database, mut one, mut other) = two().await;
    let mut before = job("acme", 1);
    before.tasks.push(task(2, "ansible"));
    one.submit(&before).await;
    let keys = [before.key()];
    one.writer.begin().await.unwrap();
    one.writer.jobs(&keys, Locked::Wait).await.unwrap();
    let mut after = before.clone();
    after.revision += 1;
    after.tasks[1].status_detail = "on its way".into();
    let how = WriteKind::Update {
        job: true,
        tasks: vec![1],
    };
    let changes = Changes {
        jobs: vec![write(&after, how)],
        events: vec![event(&after, EventKind::TaskProgress)],
        ..Changes::default()
    };
    other.writer.begin().await.unwrap();
    let write = async {
        is_waited_for(&database).await;
        one.writer.commit(&changes).await
    };
    let (read, written) = tokio::join!(other.writer.jobs(&keys, Locked::Wait), write);
    written.unwrap();
    assert_eq!(read.unwrap(), [after]);
}

#[tokio::test]
async fn nobody_writes_over_what_he_has_not_read() {
    let (_database, mut one, mut other) = two().await;
    let before = job("acme", 1);
    one.submit(&before).await;
    let (after, changes) = changed(&before);
    other.commit(changes.clone()).await;

    one.writer.begin().await.unwrap();
    assert!(is_conflict(&one.writer.commit(&changes).await));
    // Removing it counts as a change too.
    let mut tombstone = event(&before, EventKind::JobDeleted);
    tombstone.revision = before.revision + 1;
    let removal = Changes {
        jobs: vec![write(&before, WriteKind::Delete)],
        events: vec![tombstone],
        ..Changes::default()
    };
    one.writer.begin().await.unwrap();
    assert!(is_conflict(&one.writer.commit(&removal).await));
    assert_eq!(one.job(&before.key()).await, Some(after.clone()));
    let events = one.store.events(&before.key(), 0, 10).await.unwrap();
    assert_eq!(events.len(), 2);
    // Read anew, it can be changed.
    let (after, changes) = changed(&after);
    one.commit(changes).await;
    assert_eq!(other.job(&before.key()).await, Some(after));
}

#[tokio::test]
async fn revisions_are_never_told_the_wrong_way_round() {
    let (_database, mut one, mut other) = two().await;
    let (first, second) = (job("acme", 1), job("acme", 2));
    one.submit(&first).await;
    one.submit(&second).await;
    let keys = [first.key(), second.key()];

    // This transaction has its id now, and the other's is larger.
    one.writer.begin().await.unwrap();
    one.writer.jobs(&keys[..1], Locked::Wait).await.unwrap();
    let (newer, changes) = changed(&second);
    other.commit(changes).await;
    let left = one.writer.jobs(&keys, Locked::Skip).await.unwrap();
    assert_eq!(numbers(&left), [first.id]);
    let (newest, changes) = changed(&newer);
    assert!(is_conflict(&one.writer.commit(&changes).await));
    // The next one has a larger id.
    one.writer.begin().await.unwrap();
    let read = one.writer.jobs(&keys[1..], Locked::Skip).await.unwrap();
    assert_eq!(read, [newer]);
    one.writer.commit(&changes).await.unwrap();
    assert_eq!(other.job(&keys[1]).await, Some(newest));
}

#[tokio::test]
async fn a_request_id_is_stored_by_one_of_those_who_try() {
    let (_database, mut one, mut other) = two().await;
    let request = |job: &Job| {
        let (tenant, id) = (job.tenant.clone(), "r1".to_owned());
        let mut changes = submitted(job);
        let record = RequestRecord {
            key: job.key(),
            fingerprint: [7; 32],
        };
        changes.requests.push((RequestKey { tenant, id }, record));
        changes
    };
    let (mine, theirs) = (job("acme", 1), job("acme", 2));
    one.writer.begin().await.unwrap();
    other.writer.begin().await.unwrap();
    let (mine_changes, their_changes) = (request(&mine), request(&theirs));
    let both = tokio::join!(
        one.writer.commit(&mine_changes),
        other.writer.commit(&their_changes)
    );
    let answers = [both.0, both.1];
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers.iter().any(is_conflict));
    let page = one.store.list(list("acme", 10)).await.unwrap();
    assert_eq!(page.jobs.len(), 1);
    other.writer.begin().await.unwrap();
    let key = their_changes.requests[0].0.clone();
    let found = other.writer.requests(&[key]).await.unwrap();
    assert_eq!(found[0].1.key, page.jobs[0].key());
}

#[tokio::test]
async fn a_tail_misses_nothing_however_long_a_transaction_takes() {
    let (_database, mut one, mut other) = two().await;
    let (slow, quick) = (job("acme", 1), job("acme", 2));
    one.submit(&slow).await;
    let tail = other.store.tail().unwrap();
    let start = other.mark().await;
    let told = |stretch: &longhaul::store::Stretch| -> Vec<_> {
        let events = stretch.events.iter();
        events
            .map(|(_, event)| (event.job, event.revision))
            .collect()
    };

    // Begun before, and committed after the other was told.
    one.writer.begin().await.unwrap();
    one.writer.jobs(&[slow.key()], Locked::Wait).await.unwrap();
    other.submit(&quick).await;
    tail.woken().await;
    let first = tail.read(&start).await.unwrap();
    assert_eq!(told(&first), [(quick.id, 1)]);
    assert!(!first.more && first.until.is_ahead_of(&start));
    let (_, changes) = changed(&slow);
    one.writer.commit(&changes).await.unwrap();
    let second = tail.read(&first.until).await.unwrap();
    assert_eq!(told(&second), [(slow.id, 2)]);
    assert!(second.until.is_ahead_of(&first.until));
    assert_eq!(told(&tail.read(&second.until).await.unwrap()), []);
    let keys = [
        quick.key(),
        JobKey {
            tenant: Tenant::new("acme"),
            job: JobId(id(9)),
        },
    ];
    assert_eq!(tail.jobs(&keys).await.unwrap().len(), 1);

    // And so it is with what a tenant's followers are told between the two.
    let items = other.feed("acme", &start, &first.until).await;
    assert_eq!(items.len(), 1);
    let items = other.feed("acme", &first.until, &second.until).await;
    assert_eq!((items.len(), items[0].key.job), (1, slow.id));
    assert_eq!(other.feed("acme", &start, &second.until).await.len(), 2);
}

#[tokio::test]
async fn a_tail_is_woken_by_others() {
    let (_database, mut one, other) = two().await;
    let tail = other.store.tail().unwrap();
    let start = other.mark().await;
    one.submit(&job("acme", 1)).await;
    // By a notification, or because it is time.
    let mut told = 0;
    while told == 0 {
        tail.woken().await;
        told = tail.read(&start).await.unwrap().events.len();
    }
    assert_eq!(told, 1);
}

#[tokio::test]
async fn counters_of_all_nodes_add_up() {
    use longhaul::domain::{JobState, Status, counts::Counted};
    let (_database, mut one, mut other) = two().await;
    let acme = Tenant::new("acme");
    for (n, by) in [(1, 5), (2, -3), (3, 1), (4, -3)] {
        let mut changes = submitted(&job("acme", n));
        let counted = Counted::Jobs(acme.clone(), JobState::Queued, Status::Normal);
        changes.counts.add(counted, by);
        let node = if n % 2 == 0 { &mut one } else { &mut other };
        node.commit(changes).await;
    }
    assert_eq!(one.store.counts(&acme).await.unwrap().jobs, []);
}

#[tokio::test]
async fn connections_that_are_lost_are_made_again() {
    let (database, mut one, mut other) = two().await;
    let first = job("acme", 1);
    one.submit(&first).await;
    other.job(&first.key()).await.unwrap();
    one.writer.begin().await.unwrap();
    one.writer.jobs(&[first.key()], Locked::Wait).await.unwrap();
    assert!(database.kill_backends("longhaul") > 0);

    // What was begun is gone, and says so.
    let (_, changes) = changed(&first);
    let lost = one.writer.commit(&changes).await;
    assert!(
        matches!(
            lost,
            Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_))
        ),
        "{lost:?}"
    );
    for node in [&mut one, &mut other] {
        let again = async {
            while node.writer.begin().await.is_err() || node.writer.next_due().await.is_err() {}
            node.writer.rollback().await;
            while node.store.job(&first.key()).await.is_err() {}
        };
        tokio::time::timeout(Duration::from_secs(30), again)
            .await
            .unwrap();
    }
    assert_eq!(one.job(&first.key()).await, Some(first.clone()));
    one.commit(changes).await;
}

#[tokio::test]
async fn a_range_that_is_missing_is_made() {
    let database = Arc::new(database());
    let mut stored = Stored::in_postgres_at(&database).await;
    let names = database.sql("SELECT name FROM partitions WHERE low IS NOT NULL");
    for name in names.lines() {
        database.sql(&format!(
            "DROP TABLE jobs_{name}, tasks_{name}, events_{name}"
        ));
    }
    database.sql("DELETE FROM partitions WHERE low IS NOT NULL");
    let mut job = job("acme", 1);
    job.id = JobId(uuid::Uuid::now_v7());
    stored.writer.begin().await.unwrap();
    assert!(is_conflict(&stored.writer.commit(&submitted(&job)).await));
    stored.submit(&job).await;
    assert_eq!(stored.job(&job.key()).await.as_ref(), Some(&job));
    assert_eq!(
        database.sql("SELECT name FROM partitions WHERE low IS NOT NULL"),
        names
    );
}

#[tokio::test]
async fn of_a_job_whose_time_is_over_nothing_is_found_though_it_is_there() {
    let database = Arc::new(database());
    let mut stored = Stored::in_postgres_at(&database).await;
    let mut over = job("acme", 1);
    over.expire_time = Some(at(5));
    let start = stored.mark().await;
    for job in [&over, &job("acme", 2)] {
        stored.submit(job).await;
    }
    stored.remove(&over, at(6)).await;
    let rows = |table: &str| database.sql(&format!("SELECT count(*) FROM {table}"));
    assert_eq!((rows("tasks"), rows("events")), ("2".into(), "2".into()));
    assert_eq!(stored.job(&over.key()).await, None);
    let events = stored.store.events(&over.key(), 0, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    let items = stored.feed("acme", &start, &stored.mark().await).await;
    let told: Vec<_> = items
        .iter()
        .map(|item| (item.from_revision, item.revision))
        .collect();
    assert_eq!(told, [(0, 1), (1, 2)]);
    for order in [
        longhaul::store::ListOrder::UpdateTime,
        longhaul::store::ListOrder::CreateTime,
    ] {
        let query = longhaul::store::ListQuery {
            order,
            ..list("acme", 10)
        };
        assert_eq!(stored.store.list(query).await.unwrap().jobs.len(), 1);
    }
}

#[tokio::test]
async fn several_nodes_may_open_a_new_database_at_once() {
    let database = database();
    let open = || PostgresStore::open(settings(&database), RETENTION);
    let (one, other, another) = tokio::join!(open(), open(), open());
    let stores = [one.unwrap(), other.unwrap(), another.unwrap()];
    let keys = stores.each_ref().map(|store| {
        use longhaul::store::Store;
        (store.info().token_key, store.info().feed_id)
    });
    assert!(keys[0] == keys[1] && keys[1] == keys[2]);
}

#[tokio::test]
async fn a_newer_schema_is_used_if_it_says_so() {
    let database = database();
    let open = || PostgresStore::open(settings(&database), RETENTION);
    drop(open().await.unwrap());
    database.sql("INSERT INTO schema_version SELECT 999, 'later', applied_on, checksum FROM schema_version WHERE version = 1");
    drop(open().await.unwrap());
    database.sql("UPDATE meta SET value = '999' WHERE key = 'oldest_program'");
    let error = open().await.err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::TooNew {
                found: 999,
                oldest: 999,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn another_programs_tables_are_left_alone() {
    let database = database();
    database.sql("CREATE TABLE jobs (id integer)");
    let error = PostgresStore::open(settings(&database), RETENTION)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, OpenError::Foreign(_)), "{error}");
    assert_eq!(
        database.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"),
        "1"
    );
}

#[tokio::test]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused() {
    let database = database();
    let mut settings = settings(&database);
    settings.unsafe_durability = false;
    let error = PostgresStore::open(settings, RETENTION)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, OpenError::Unsafe("fsync")), "{error}");
}

#[tokio::test]
async fn a_dump_that_is_restored_elsewhere_goes_on() {
    let database = Arc::new(database());
    let mut stored = Stored::in_postgres_at(&database).await;
    let (mut one, two) = (job("acme", 1), job("acme", 2));
    stored.submit(&one).await;
    stored.submit(&two).await;
    one.revision += 1;
    stored.change(&one, EventKind::TaskProgress).await;
    drop(stored);
    for table in ["jobs", "events", "removed"] {
        database.sql(&format!("UPDATE {table} SET xid = xid + 1000000000000"));
    }
    database.sql("UPDATE meta SET value = 'elsewhere' WHERE key = 'home'");
    let former = database.sql("SELECT value FROM meta WHERE key = 'feed_id'");

    let mut stored = Stored::in_postgres_at(&database).await;
    let another = database.sql("SELECT value FROM meta WHERE key = 'feed_id'");
    assert_ne!(another, former);
    // Of a server that is on its first timeline.
    let start = longhaul::store::FeedCursor::default().in_era(1);
    let end = stored.mark().await;
    let items = stored.feed("acme", &start, &end).await;
    let told: Vec<_> = items
        .iter()
        .map(|item| (item.key.job, item.revision))
        .collect();
    assert_eq!(told, [(two.id, 1), (one.id, 2)]);
    let (_, changes) = changed(&one);
    stored.commit(changes).await;
    let items = stored.feed("acme", &end, &stored.mark().await).await;
    assert_eq!((items.len(), items[0].revision), (1, 3));
}

/// The name of the feed after the database has been opened once more.
async fn feed_of(database: &Database) -> [u8; 16] {
    use longhaul::store::Store;
    let store = PostgresStore::open(settings(database), RETENTION).await;
    store.unwrap().info().feed_id
}

#[tokio::test]
async fn a_dump_that_is_restored_in_place_has_another_feed() {
    let database = database();
    let feed = feed_of(&database).await;
    assert_eq!(feed_of(&database).await, feed);
    // As a version does that knows nothing of tables.
    database.sql("DELETE FROM meta WHERE key = 'home_tables'");
    assert_eq!(feed_of(&database).await, feed);

    // It does not get along with what partitions inherit, and goes on.
    let programs = crate::postgres::programs::folder();
    let restored = std::process::Command::new("sh")
        .args([
            "-ec",
            "\"$1/pg_dump\" --clean \"$2\" | \"$1/psql\" --quiet \"$2\"",
        ])
        .args(["sh", &programs.display().to_string(), &database.url()])
        .output()
        .unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let another = feed_of(&database).await;
    assert_ne!(another, feed);
    assert_eq!(feed_of(&database).await, another);
}

/// What nothing tells of, such as a disk that was put back to where it was, an operator has to say: see docs/operations.md.
#[tokio::test]
async fn a_feed_is_renewed_by_hand() {
    let database = database();
    let feed = feed_of(&database).await;
    database.sql("DELETE FROM meta WHERE key = 'home'");
    let another = feed_of(&database).await;
    assert_ne!(another, feed);
    assert_eq!(feed_of(&database).await, another);
}
