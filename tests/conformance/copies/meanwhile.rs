//! What others do while a copy is made: it is noticed, or waited for.

use std::sync::atomic::{AtomicUsize, Ordering};

use longhaul::{
    server::{self, ServeSettings, StartError},
    store::StoreError,
};

use super::{
    dying::{Deed, Others},
    *,
};
use crate::behaviours::audited;

/// Another process, to its end.
fn elsewhere(deed: impl AsyncFnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| block_on(deed())).join().unwrap();
    });
}

async fn with_jobs(jobs: u64) -> Arc<Database> {
    let database = Arc::new(database());
    let mut node = Stored::in_postgres_at(&database).await;
    for n in 0..jobs {
        let mut changes = Changes::default();
        add(&mut changes, &job("acme", n));
        changes.requests.clear();
        node.commit(changes).await;
    }
    database
}

/// Copies, while a node comes, does something to the source when all of it was compared, and goes.
async fn copy_while(
    database: &Arc<Database>,
    deed: impl AsyncFn(&mut Stored) + Send + Sync,
) -> Result<Copied, CopyError> {
    let to: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let from = postgres(database).await;
    let mut came = 0;
    let told = copying(&from, &to)
        .run(&mut |progress| {
            let is_compared = progress.stage == Stage::Verifying && progress.done == progress.total;
            if is_compared {
                came += 1;
                elsewhere(async || {
                    let mut node = Stored::in_postgres_at(database).await;
                    let tail = node.store.tail().unwrap();
                    tail.announce(&[]).await.unwrap();
                    deed(&mut node).await;
                    tail.leave().await.unwrap();
                });
            }
        })
        .await;
    assert_eq!(came, 1);
    told
}

#[tokio::test]
async fn a_source_that_was_served_in_between_is_noticed() {
    let database = with_jobs(5).await;
    let told = copy_while(&database, async |_| {}).await;
    assert_eq!(told.unwrap().contents.numbers.all_jobs(), 5);
    let told = copy_while(&database, async |node: &mut Stored| {
        let mut changed = job("acme", 1);
        changed.revision = 2;
        node.change(&changed, EventKind::TaskProgress).await;
    });
    assert!(matches!(told.await, Err(CopyError::Changed(Side::Source))));
    // Of these no feed tells.
    for changes in [
        records([key_entry("k", "acme")]),
        audited([audit_record("acme", 1)]),
    ] {
        let told = copy_while(&database, async |node: &mut Stored| {
            node.commit(changes.clone()).await;
        });
        assert!(matches!(told.await, Err(CopyError::Changed(Side::Source))));
    }
    let told = copy_while(&database, async |node: &mut Stored| {
        node.remove(&job("acme", 2), at(9)).await;
    });
    assert!(matches!(told.await, Err(CopyError::Changed(Side::Source))));
}

/// Who begins to serve before the mark is set has said so, and is seen when it is set; an empty store stays theirs.
#[tokio::test]
async fn a_node_that_comes_as_the_mark_is_set_is_seen() {
    let stored = source_of(12, 6).await;
    let database = Arc::new(database());
    let begin: Deed = {
        let database = Arc::clone(&database);
        Arc::new(move || {
            elsewhere(async || {
                let node = postgres(&database).await;
                node.tail().unwrap().announce(&[]).await.unwrap();
            });
        })
    };
    let others = Others {
        after_marking: Some(begin),
        ..Others::default()
    };
    let to: Arc<dyn Store> = Arc::new(Dying::among(postgres(&database).await, others));
    let told = copy(&stored.store, &to).await;
    assert!(matches!(
        told,
        Err(CopyError::Served {
            side: Side::Destination,
            nodes: 1
        })
    ));
    assert!(half_copied(&*to).await.unwrap().is_none());
    assert_eq!(to.tenants(None, 1).await.unwrap(), []);
}

/// And who asks for the mark has said that it is there.
#[tokio::test]
async fn a_server_says_that_it_is_there_before_it_asks_whether_it_may() {
    let database = Arc::new(database());
    let seen = Arc::new(AtomicUsize::new(0));
    let look: Deed = {
        let (database, seen) = (Arc::clone(&database), Arc::clone(&seen));
        Arc::new(move || {
            elsewhere(async || {
                let others = postgres(&database).await.others().await.unwrap();
                seen.store(others, Ordering::SeqCst);
            });
        })
    };
    let settings = ServeSettings {
        listen: ([127, 0, 0, 1], 0).into(),
        ..ServeSettings::default()
    };
    let others = Others {
        before_looking: Some(look),
        ..Others::default()
    };
    let store = PostgresStore::open(super::settings(&database), RETENTION).await;
    let store = Arc::new(Dying::among(Arc::new(store.unwrap()), others));
    let server = server::start_on(settings.clone(), store).await.unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    server.drain().await.unwrap();

    // One that is refused has gone at once.
    let stored = source_of(12, 6).await;
    let database = super::database();
    assert!(die(&stored.store, postgres(&database).await, End::After(3)).await);
    let store = PostgresStore::open(super::settings(&database), RETENTION).await;
    let refused = server::start_on(settings, Arc::new(store.unwrap())).await;
    assert!(matches!(refused.err(), Some(StartError::HalfCopied { .. })));
    let others = postgres(&database).await.others().await;
    assert_eq!(others.unwrap(), 0);
}

#[tokio::test]
async fn a_commit_that_meets_others_is_tried_again() {
    let stored = source_of(12, 6).await;
    let to: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let busy: Arc<dyn Store> = Arc::new(Dying::new(Arc::clone(&to), End::Conflicts(2)));
    copy(&stored.store, &busy).await.unwrap();
    compare_contents(&*stored.store, &*to).await;

    let to: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let busy: Arc<dyn Store> = Arc::new(Dying::new(to, End::Conflicts(usize::MAX)));
    let told = copy(&stored.store, &busy).await;
    let error = StoreError::Conflict(String::new());
    assert!(matches!(
        told,
        Err(CopyError::Store { side: Side::Destination, error: ref told })
            if std::mem::discriminant(told) == std::mem::discriminant(&error)
    ));
}

#[tokio::test]
async fn another_copy_to_the_same_place_is_noticed() {
    let stored = source_of(12, 6).await;
    let source = Arc::clone(&stored.store);
    let database = database();
    let to = postgres(&database).await;
    let mut others = 0;
    let told = copying(&source, &to)
        .run(&mut |progress| {
            if (progress.stage, progress.done) == (Stage::Copying, 0) {
                others += 1;
                elsewhere(async || {
                    let copied = copy(&source, &postgres(&database).await).await;
                    assert_eq!(copied.unwrap().standing, Standing::Part);
                });
            }
        })
        .await;
    assert!(matches!(told, Err(CopyError::OtherWriter)), "{told:?}");
    assert_eq!(others, 1);
    compare_contents(&*source, &*to).await;
}

/// Ten years, and each job of a range of its own if there were no wider ones.
#[tokio::test]
async fn jobs_of_a_clock_that_was_ahead_are_copied() {
    let mut stored = Stored::in_sqlite();
    let year = 365 * 24 * 3_600 * 1_000;
    for years in [0, 1, 10] {
        let mut changes = Changes::default();
        add(&mut changes, &job("acme", years * year));
        changes.requests.clear();
        stored.commit(changes).await;
    }
    let database = database();
    let to = postgres(&database).await;
    copy(&stored.store, &to).await.unwrap();
    compare_contents(&*stored.store, &*to).await;
    let ranges = database.sql("SELECT count(*) FROM partitions");
    assert!(ranges.parse::<u32>().unwrap() < 10, "{ranges}");
}
