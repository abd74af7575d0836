//! Copies: as the source in everything that can be asked, gone on with after an end at any moment, and never taken for whole when they are not.

mod dying;
mod meanwhile;
mod opening;
mod registry;
mod tampering;
mod transfer;

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use longhaul::{
    domain::{
        Document, Job, TaskSpec, Tenant,
        command::{Changes, RequestKey, RequestRecord},
        counts::{CountDeltas, Counted},
        event::EventKind,
        registry::RecordKind,
    },
    store::{
        Kept, MAX_KEPT_EVENTS, Note, RecordQuery, Scan, Store, Whose,
        copy::{
            Copied, CopyError, Copying, Difference, Names, Progress, Side, Stage, Standing, Unlike,
            half_copied, survey,
        },
        memory::MemoryStore,
        postgres::{PostgresStore, Purpose},
        sqlite::SqliteStore,
    },
};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{
    behaviours::{audit_record, data_key_entry, key_entry, log, records, tenant_entry},
    fixture::*,
    histories::{DRIVERS, History, TENANTS, all_pages, queries, steps},
    postgres::Database,
};
use dying::{Dying, End};

fn copying(from: &Arc<dyn Store>, to: &Arc<dyn Store>) -> Copying {
    let names = Names {
        from: "sqlite:/here".into(),
        to: "sqlite:/there".into(),
        flags: Vec::new(),
    };
    Copying::new(Arc::clone(from), Arc::clone(to), names)
}

async fn copy(from: &Arc<dyn Store>, to: &Arc<dyn Store>) -> Result<Copied, CopyError> {
    copying(from, to).run(&mut |_| {}).await
}

fn sqlite(dir: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(dir).unwrap())
}

/// As it is opened to be filled.
async fn postgres(database: &Database) -> Arc<dyn Store> {
    let store = PostgresStore::open_to(Purpose::Fill, settings(database)).await;
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
    for kind in RecordKind::ALL {
        let query = RecordQuery {
            kind,
            tenant: None,
            after: None,
            limit: 2_000,
        };
        let records = here.registry().records(query.clone()).await.unwrap();
        assert_eq!(records, there.registry().records(query).await.unwrap());
    }
    let audit = log(here, None, false, 2_000).await;
    assert_eq!(audit, log(there, None, false, 2_000).await);
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
        let ready = here
            .ready(driver, Whose::All { served: None }, 99)
            .await
            .unwrap();
        let same = there
            .ready(driver, Whose::All { served: None }, 99)
            .await
            .unwrap();
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_copy_of_an_embedded_store_is_as_its_source(steps in steps()) {
        block_on(async {
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
        block_on(async {
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
    source_of(700, 300).await
}

/// So many jobs, of which this one has a long life; another has everything that a job can have.
async fn source_of(jobs: u64, long: u64) -> Stored {
    let mut stored = Stored::in_sqlite();
    let mut changes = Changes::default();
    for n in 0..jobs {
        let tenant = ["acme", "umbrella"][usize::from(n % 3 == 0)];
        let mut job = job(tenant, n);
        job.request_id = format!("request {n}");
        if n == long {
            job.revision = 2 * MAX_KEPT_EVENTS as u64 + 3;
        }
        if n == 4 {
            fill(&mut job);
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
    let tenants = ["acme", "umbrella"].map(tenant_entry).into_iter();
    let keys = ["k1", "k2", "k3"].map(|id| key_entry(id, "acme"));
    let known = tenants.chain(keys).chain([1, 2].map(data_key_entry));
    changes.records = records(known).records;
    changes.audit = (0..jobs).map(|n| audit_record("acme", n)).collect();
    stored.commit(changes).await;
    stored
}

fn fill(job: &mut Job) {
    respec(job, |spec| {
        spec.labels.insert("env".into(), "prod".into());
    });
    job.timer = Some(at(50));
    let task = &mut job.tasks[0];
    let mut spec = TaskSpec::clone(&task.spec);
    spec.request_payload = Some(Document(vec![b' '; 5_000].into()));
    task.spec = Arc::new(spec);
    task.result = Some(Document(b"{}".to_vec().into()));
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

/// An end before each write of a copy, and `again` another one soon after it was gone on with; and one after the last, of which nobody hears. Answers how many
/// writes there are.
async fn end_at_each_write(
    source: &Arc<dyn Store>,
    to: impl AsyncFn(&Target) -> Arc<dyn Store>,
    again: bool,
) -> usize {
    for writes in 0.. {
        let target = Target::new();
        if !die(source, to(&target).await, End::After(writes)).await {
            let target = Target::new();
            let last = End::AfterUnheard(writes - 1);
            assert!(
                !die(source, to(&target).await, last).await,
                "it was read again"
            );
            compare_contents(&**source, &*to(&target).await).await;
            return writes;
        }
        if again {
            die(source, to(&target).await, End::After(3)).await;
        }
        let to = to(&target).await;
        let copied = copy(source, &to).await;
        let copied = copied.unwrap_or_else(|error| panic!("{writes}: {error:?}"));
        let all = survey(source).await.unwrap().numbers;
        assert_eq!(copied.contents.numbers, all);
        compare_contents(&**source, &*to).await;
    }
    unreachable!("it ends")
}

/// Mark, key, the jobs up to that of a long life, twice more of that, the rest of the page, tenants, credentials, data keys, audit log, drivers, what it is
/// a copy of, unmarking.
const WRITES: usize = 13;

#[tokio::test]
async fn a_copy_that_ends_at_any_moment_is_gone_on_with() {
    let stored = source().await;
    let embedded = async |target: &Target| sqlite(target.dir.path());
    // One more for the second page of jobs, and of the log.
    let writes = end_at_each_write(&stored.store, embedded, true).await;
    assert_eq!(writes, WRITES + 2);
}

#[tokio::test]
async fn a_copy_into_a_shared_store_that_ends_at_any_moment_is_gone_on_with() {
    let stored = source_of(12, 6).await;
    let shared = async |target: &Target| postgres(target.database()).await;
    // One more, which finds no range for its jobs.
    let writes = end_at_each_write(&stored.store, shared, false).await;
    assert_eq!(writes, WRITES + 1);
}

/// Where a copy goes, again and again.
struct Target {
    dir: TempDir,
    database: OnceLock<Database>,
}

impl Target {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            database: OnceLock::new(),
        }
    }

    fn database(&self) -> &Database {
        self.database.get_or_init(database)
    }
}

/// A copy whose end nobody has heard of is not made again, and not refused.
#[tokio::test]
async fn the_same_copy_of_what_is_copied_verifies_it() {
    let mut stored = source_of(12, 6).await;
    let source = Arc::clone(&stored.store);
    let dir = TempDir::new().unwrap();
    copy(&source, &sqlite(dir.path())).await.unwrap();
    let told = copy(&source, &sqlite(dir.path())).await.unwrap();
    assert_eq!(told.standing, Standing::Whole);
    let database = database();
    copy(&source, &postgres(&database).await).await.unwrap();
    let told = copy(&source, &postgres(&database).await).await.unwrap();
    assert_eq!(told.standing, Standing::Whole);
    assert_eq!(told.contents.numbers.all_jobs(), 12);

    // It is another source's.
    let other = source_of(12, 6).await;
    let told = copy(&other.store, &postgres(&database).await).await;
    assert!(matches!(told, Err(CopyError::NotEmpty)));
    // The source goes on.
    stored.submit(&job("acme", 99)).await;
    let told = copy(&source, &postgres(&database).await).await;
    let Err(CopyError::Outdated(differences)) = told else {
        panic!("it was not noticed");
    };
    assert_eq!(
        differences.named[0],
        Difference::Missing(job("acme", 99).key())
    );
    // The copy goes on.
    let mut served = Stored::in_postgres_at(&Arc::new(database)).await;
    served.submit(&job("acme", 98)).await;
    let told = copy(&source, &served.store).await;
    assert!(matches!(told, Err(CopyError::ChangedSince)));
}

/// A whole copy that is still marked.
async fn almost_copied(source: &Arc<dyn Store>) -> TempDir {
    let dir = TempDir::new().unwrap();
    assert!(die(source, sqlite(dir.path()), End::BeforeUnmarking).await);
    dir
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
    assert_eq!(
        copied.contents.records.to_string(),
        "2 records of tenants, 3 keys and 2 data keys"
    );
    assert_eq!(copied.contents.audit, 700);
}
