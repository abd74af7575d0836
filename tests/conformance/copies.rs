//! Copies: as the source in everything that can be asked, gone on with after an end at any moment, and never taken for whole when they are not.

mod dying;

use std::{path::Path, sync::Arc};

use longhaul::{
    domain::{
        Job, Tenant,
        command::{Changes, RequestKey, RequestRecord},
        counts::{CountDeltas, Counted},
        event::EventKind,
    },
    store::{
        Kept, MAX_KEPT_EVENTS, Note, Scan, Store,
        copy::{Copied, CopyError, Copying, Difference, Names, Progress, Stage, half_copied},
        memory::MemoryStore,
        postgres::PostgresStore,
        sqlite::SqliteStore,
    },
};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{
    fixture::*,
    histories::{DRIVERS, History, TENANTS, all_pages, queries, steps},
    postgres::Database,
};
use dying::{Dying, End};

fn copying(from: &Arc<dyn Store>, to: &Arc<dyn Store>) -> Copying {
    let names = Names {
        from: "sqlite:/here".into(),
        to: "sqlite:/there".into(),
    };
    Copying::new(Arc::clone(from), Arc::clone(to), names)
}

async fn copy(from: &Arc<dyn Store>, to: &Arc<dyn Store>) -> Result<Copied, CopyError> {
    copying(from, to).run(&mut |_| {}).await
}

fn sqlite(dir: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(dir).unwrap())
}

async fn postgres(database: &Database) -> Arc<dyn Store> {
    let store = PostgresStore::open(settings(database), RETENTION).await;
    Arc::new(store.unwrap())
}

async fn all(store: &dyn Store, from: Scan) -> Vec<Kept> {
    let mut kept = Vec::new();
    let mut next = Some(from);
    while let Some(from) = next {
        let page = store.scan(&from, 90).await.unwrap();
        kept.extend(page.jobs);
        next = page.next;
    }
    kept
}

/// Asks both for everything.
async fn compare(here: &dyn Store, there: &dyn Store) {
    compare_contents(here, there).await;
    for tenant in TENANTS.map(Tenant::new) {
        for query in queries(&tenant) {
            let jobs = all_pages(here, query.clone()).await.unwrap();
            assert_eq!(jobs, all_pages(there, query).await.unwrap());
        }
    }
}

/// All that they hold.
async fn compare_contents(here: &dyn Store, there: &dyn Store) {
    for scan in [Scan::ByKey(None), Scan::ByChange(None)] {
        let kept = all(here, scan.clone()).await;
        assert_eq!(kept, all(there, scan).await);
    }
    assert_eq!(
        here.paused_drivers().await.unwrap(),
        there.paused_drivers().await.unwrap()
    );
    for tenant in TENANTS.map(Tenant::new) {
        let counts = here.counts(&tenant).await.unwrap();
        assert_eq!(counts, there.counts(&tenant).await.unwrap());
    }
    let key = here.note(Note::TokenKey).await.unwrap();
    assert_eq!(key, there.note(Note::TokenKey).await.unwrap());
    assert!(half_copied(there).await.unwrap().is_none());
}

/// What only a writer is asked: a copy is worked on as its source would be.
async fn compare_writers(history: &mut History, there: &dyn Store) {
    let mut there = there.writer().unwrap();
    let here = &mut history.model.writer;
    here.begin().await.unwrap();
    there.begin().await.unwrap();
    let (now, jobs) = (history.now, &history.jobs);
    assert_eq!(
        here.due(now, 99).await.unwrap(),
        there.due(now, 99).await.unwrap()
    );
    assert_eq!(
        here.expired(now, 99).await.unwrap(),
        there.expired(now, 99).await.unwrap()
    );
    assert_eq!(
        here.next_due().await.unwrap(),
        there.next_due().await.unwrap()
    );
    for driver in DRIVERS {
        let ready = here.ready(driver, None, 99).await.unwrap();
        let same = there.ready(driver, None, 99).await.unwrap();
        assert_eq!((ready.tasks, ready.more), (same.tasks, same.more));
    }
    for key in jobs {
        assert_eq!(
            here.open_children(key, 99).await.unwrap(),
            there.open_children(key, 99).await.unwrap()
        );
    }
    there.rollback().await;
    here.rollback().await;
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_copy_of_an_embedded_store_is_as_its_source(steps in steps()) {
        run(async {
            let mut history = History::begin(Stored::in_sqlite()).await;
            for step in steps {
                history.take(step).await;
            }
            let dirs = [(); 2].map(|()| TempDir::new().unwrap());
            let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
            let source = Arc::clone(&history.database.store);
            copy(&source, &memory).await.unwrap();
            compare(&*source, &*memory).await;
            for (source, dir) in [(source, &dirs[0]), (memory, &dirs[1])] {
                copy(&source, &sqlite(dir.path())).await.unwrap();
                let copied = sqlite(dir.path());
                assert_eq!(copied.info().token_key, history.database.store.info().token_key);
                compare(&*source, &*copied).await;
                compare_writers(&mut history, &*copied).await;
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn a_copy_of_a_shared_store_is_as_its_source(steps in steps()) {
        run(async {
            let mut history = History::begin(Stored::in_postgres().await).await;
            for step in steps {
                history.take(step).await;
            }
            let dir = TempDir::new().unwrap();
            let databases = [database(), database(), database()];
            let source = Arc::clone(&history.database.store);
            copy(&source, &sqlite(dir.path())).await.unwrap();
            let embedded = sqlite(dir.path());
            compare(&*source, &*embedded).await;
            let model = Arc::clone(&history.model.store);
            for (source, database) in [source, embedded, model].iter().zip(&databases) {
                copy(source, &postgres(database).await).await.unwrap();
                let copied = postgres(database).await;
                compare(&**source, &*copied).await;
                compare_writers(&mut history, &*copied).await;
            }
        });
    }
}

/// A source of two tenants, with more than fits into one commit: many jobs, one of a long life among them, and request ids.
async fn source() -> Stored {
    let mut stored = Stored::in_sqlite();
    let mut changes = Changes::default();
    for n in 0..700 {
        let tenant = ["acme", "umbrella"][usize::from(n % 3 == 0)];
        let mut job = job(tenant, n);
        job.request_id = format!("request {n}");
        if n == 300 {
            job.revision = 2 * MAX_KEPT_EVENTS as u64 + 3;
        }
        add(&mut changes, &job);
        for revision in 1..job.revision {
            let mut earlier = event(&job, EventKind::TaskProgress);
            earlier.revision = revision;
            let at = changes.events.len() - 1;
            changes.events.insert(at, earlier);
        }
    }
    changes.drivers = vec![("ansible".into(), Some((at(1), "broken".into())))];
    stored.commit(changes).await;
    stored
}

fn add(changes: &mut Changes, job: &Job) {
    let Changes { jobs, events, .. } = submitted(job);
    changes.jobs.extend(jobs);
    changes.events.extend(events);
    let tenant = || job.tenant.clone();
    count(&mut changes.counts, job);
    let id = RequestKey {
        tenant: tenant(),
        id: job.request_id.clone(),
    };
    let record = RequestRecord {
        key: job.key(),
        fingerprint: [3; 32],
    };
    changes.requests.push((id, record));
}

fn count(counts: &mut CountDeltas, job: &Job) {
    let tenant = || job.tenant.clone();
    counts.add(Counted::Jobs(tenant(), job.state, job.status), 1);
    for task in &job.tasks {
        counts.add(
            Counted::Tasks(tenant(), task.spec.driver.clone(), task.state),
            1,
        );
    }
}

/// Copies until it dies; answers whether it did.
async fn die(from: &Arc<dyn Store>, to: Arc<dyn Store>, end: End) -> bool {
    let dying: Arc<dyn Store> = Arc::new(Dying::new(to, end));
    match copy(from, &dying).await {
        Ok(_) => false,
        Err(CopyError::Store { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

/// An end before each write of a copy, and one after it of which nobody hears; and another one soon after it was gone on with.
#[tokio::test]
async fn a_copy_that_ends_at_any_moment_is_gone_on_with() {
    let stored = source().await;
    let source = Arc::clone(&stored.store);
    let mut ends = 0;
    for writes in 0.. {
        let mut died = false;
        for end in [End::After(writes), End::AfterUnheard(writes)] {
            let dir = TempDir::new().unwrap();
            died = die(&source, sqlite(dir.path()), end).await;
            let marked = half_copied(&*sqlite(dir.path())).await.unwrap().is_some();
            // The last write takes the mark away.
            if marked || writes == 0 {
                die(&source, sqlite(dir.path()), End::After(3)).await;
                let copied = copy(&source, &sqlite(dir.path())).await;
                let copied = copied.unwrap_or_else(|error| panic!("{end:?}: {error:?}"));
                assert_eq!(copied.contents.numbers.all_jobs(), 700);
            }
            compare_contents(&*source, &*sqlite(dir.path())).await;
            ends += usize::from(died);
        }
        if !died {
            break;
        }
    }
    // Mark, key, the jobs up to that of a long life, twice more of that, the rest of the first page, the second, drivers, unmarking.
    assert_eq!(ends, 2 * 9);
}

#[tokio::test]
async fn a_copy_into_a_shared_store_is_gone_on_with() {
    let stored = source().await;
    let source = Arc::clone(&stored.store);
    for end in [End::After(3), End::AfterUnheard(3), End::After(5)] {
        let database = database();
        assert!(die(&source, postgres(&database).await, end).await);
        let copied = copy(&source, &postgres(&database).await).await.unwrap();
        assert!(copied.resumed);
        compare_contents(&*source, &*postgres(&database).await).await;
    }
}

/// A whole copy that is still marked.
async fn almost_copied(source: &Arc<dyn Store>) -> TempDir {
    let dir = TempDir::new().unwrap();
    assert!(die(source, sqlite(dir.path()), End::BeforeUnmarking).await);
    dir
}

/// What a copy that was tampered with is said to differ in; nothing if it is not noticed.
async fn told_of(source: &Arc<dyn Store>, sql: &str) -> Vec<String> {
    let dir = almost_copied(source).await;
    let database = rusqlite::Connection::open(dir.path().join("longhaul.db")).unwrap();
    database.execute_batch(sql).unwrap();
    drop(database);
    let told = match copy(source, &sqlite(dir.path())).await {
        Ok(_) => Vec::new(),
        Err(CopyError::Differs(differences)) => {
            let named = differences.named.iter().map(Difference::to_string);
            named.collect()
        }
        Err(error) => panic!("{error}"),
    };
    let marked = half_copied(&*sqlite(dir.path())).await.unwrap().is_some();
    assert_eq!(marked, !told.is_empty());
    told
}

#[tokio::test]
async fn a_copy_that_was_tampered_with_is_noticed() {
    let stored = source().await;
    let source = Arc::clone(&stored.store);
    let one = job("acme", 4).id;
    let hex = one.0.simple();
    let of_one = |what: &str| vec![format!("job {one} of acme {what}")];
    for (sql, told) in [
        ("SELECT 1", vec![]),
        (
            &*format!("UPDATE jobs SET priority = 1 WHERE id = x'{hex}'"),
            of_one("differs: the job itself"),
        ),
        (
            &*format!("UPDATE tasks SET driver = 'b' WHERE job = x'{hex}'"),
            vec![
                format!("job {one} of acme differs: its tasks"),
                "the counters of acme say 466 tasks of ansible that are QUEUED where there are 465".into(),
                "the counters of acme say 0 tasks of b that are QUEUED where there are 1".into(),
            ],
        ),
        (
            &*format!("UPDATE events SET time = time + 1 WHERE job = x'{hex}'"),
            of_one("differs: its events"),
        ),
        (
            "DELETE FROM request_ids WHERE id = 'request 4'",
            of_one("differs: its request id"),
        ),
        (
            "UPDATE counters SET count = count + 1 WHERE tenant = 'acme' AND driver = ''",
            vec!["the counters of acme say 467 jobs that are QUEUED and NORMAL where there are 466".into()],
        ),
        (
            &*format!(
                "INSERT INTO jobs (tenant, id, state, status, revision, update_time, rest, priority, create_time, action, creator, spec)
                 SELECT 'zeta', id, state, status, revision, update_time, rest, priority, create_time, action, creator, spec
                 FROM jobs WHERE id = x'{hex}'"
            ),
            vec![
                format!("job {one} of zeta is not in the source"),
                "the counters of zeta say 0 jobs that are QUEUED and NORMAL where there are 1".into(),
            ],
        ),
    ] {
        assert_eq!(told_of(&source, sql).await, told, "{sql}");
    }
}

#[tokio::test]
async fn a_source_that_has_changed_since_is_noticed() {
    let mut source = source().await;
    let dir = almost_copied(&source.store).await;
    let mut changed = job("acme", 4);
    changed.request_id = "request 4".into();
    changed.revision = 2;
    changed.tasks[0].status_detail = "half of it".into();
    source.change(&changed, EventKind::TaskProgress).await;
    source.remove(&job("acme", 5), at(9)).await;
    let told = copy(&source.store, &sqlite(dir.path())).await;
    let Err(CopyError::Differs(differences)) = told else {
        panic!("it was not noticed");
    };
    let jobs: Vec<_> = differences.named.iter().take(2).collect();
    assert!(
        matches!(jobs[..], [Difference::Job(one, _), Difference::Extra(other)]
            if *one == changed.key() && *other == job("acme", 5).key()),
        "{jobs:?}"
    );
    assert!(half_copied(&*sqlite(dir.path())).await.unwrap().is_some());
}

#[tokio::test]
async fn many_differences_are_counted() {
    let stored = source().await;
    let source = Arc::clone(&stored.store);
    let told = told_of(&source, "UPDATE jobs SET priority = 1").await;
    assert_eq!(told.len(), 10);
}

#[tokio::test]
async fn what_can_not_be_a_copy_is_refused() {
    let stored = source().await;
    let source = Arc::clone(&stored.store);
    let dir = TempDir::new().unwrap();
    die(&source, sqlite(dir.path()), End::After(3)).await;
    let half = sqlite(dir.path());
    let refused = |told: Result<Copied, CopyError>| told.expect_err("it is refused");

    let same = copy(&source, &source).await;
    assert!(matches!(refused(same), CopyError::SameStore));
    let of_half = copy(&half, &(Arc::new(MemoryStore::new()) as _)).await;
    assert!(matches!(refused(of_half), CopyError::HalfSource(_)));
    let other = Stored::in_sqlite();
    let into_half = copy(&other.store, &half).await;
    assert!(matches!(refused(into_half), CopyError::OtherCopy(_)));
    let mut busy = Stored::in_sqlite();
    busy.submit(&job("acme", 1)).await;
    let into_jobs = copy(&source, &busy.store).await;
    assert!(matches!(refused(into_jobs), CopyError::NotEmpty));
    assert_eq!(all(&*busy.store, Scan::ByKey(None)).await.len(), 1);
}

#[tokio::test]
async fn a_store_that_is_served_is_not_copied() {
    let database = database();
    let served = postgres(&database).await;
    served.tail().unwrap().announce(&[]).await.unwrap();
    let other = postgres(&database).await;
    let empty: Arc<dyn Store> = Arc::new(MemoryStore::new());
    for (from, to) in [(&other, &empty), (&empty, &other)] {
        let told = copy(from, to).await;
        assert!(matches!(told, Err(CopyError::Served { nodes: 1, .. })));
    }
    assert!(half_copied(&*other).await.unwrap().is_none());
}

#[tokio::test]
async fn whoever_waits_is_told_how_far_it_is() {
    let stored = source().await;
    let source = Arc::clone(&stored.store);
    let to: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut told = Vec::new();
    let copied = copying(&source, &to)
        .run(&mut |progress| told.push(progress))
        .await
        .unwrap();
    let stage = |stage| {
        let of_stage = told.iter().filter(move |progress| progress.stage == stage);
        of_stage.map(|progress| progress.done).collect::<Vec<_>>()
    };
    assert_eq!(stage(Stage::Copying), [0, 500, 700]);
    assert_eq!(stage(Stage::Verifying), [0, 700]);
    assert!(told.iter().all(|Progress { total, .. }| *total == 700));
    assert_eq!(copied.contents.requests, 700);
    assert_eq!(copied.contents.events, 699 + 2 * MAX_KEPT_EVENTS as u64 + 3);
    assert_eq!(copied.contents.tenants, 2);
}
