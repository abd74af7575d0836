//! What stands beside the jobs is copied as the jobs are, and what a destination has of its own is left alone.

use longhaul::{
    domain::{
        command::RecordWrite,
        registry::{Entry, Record, RecordKey},
    },
    store::AuditPosition,
};

use super::*;
use crate::behaviours::audited;

/// A source without jobs, with these things and no others.
async fn beside(changes: Changes) -> Stored {
    let mut stored = Stored::in_sqlite();
    stored.commit(changes).await;
    stored
}

/// The key `k1` after its second change.
fn changed_key() -> Changes {
    let record = Record {
        revision: 2,
        entry: key_entry("k1", "umbrella"),
    };
    Changes {
        records: vec![RecordWrite { record, before: 1 }],
        ..Changes::default()
    }
}

/// As many as fill several pages.
fn many() -> Changes {
    let keys = (0..1_100).map(|n| key_entry(&format!("k{n:04}"), "acme"));
    Changes {
        audit: (0..1_100).map(|n| audit_record("acme", n)).collect(),
        ..records(keys)
    }
}

#[tokio::test]
async fn a_store_without_jobs_is_copied_both_ways() {
    let stored = beside(many()).await;
    let source = Arc::clone(&stored.store);
    let surveyed = survey(&source).await.unwrap();
    assert_eq!(surveyed.records.keys, 1_100);
    assert!(surveyed.has_audit_log);
    let database = database();
    let there = copy(&source, &postgres(&database).await).await.unwrap();
    assert_eq!(
        (there.contents.records.keys, there.contents.audit),
        (1_100, 1_100)
    );
    compare_contents(&*source, &*postgres(&database).await).await;
    let dir = TempDir::new().unwrap();
    let back = copy(&postgres(&database).await, &sqlite(dir.path())).await;
    assert_eq!(back.unwrap().contents, there.contents);
    compare_contents(&*source, &*sqlite(dir.path())).await;

    // What was copied is known again.
    for to in [postgres(&database).await, sqlite(dir.path())] {
        assert!(matches!(to.tenants(None, 1).await.as_deref(), Ok([])));
    }
    let again = copy(&source, &postgres(&database).await).await.unwrap();
    assert_eq!(
        (again.standing, again.contents),
        (Standing::Whole, there.contents)
    );
}

#[tokio::test]
async fn what_a_destination_has_of_its_own_is_left_alone() {
    let source = source_of(12, 6).await;
    for own in [
        records([key_entry("k1", "theirs")]),
        records([data_key_entry(1)]),
        audited([audit_record("theirs", 1)]),
    ] {
        let theirs = beside(own).await;
        let before = beside_of(&theirs.store).await;
        let told = copy(&source.store, &theirs.store).await;
        let Err(error @ CopyError::OwnKeys) = told else {
            panic!("it was not refused: {told:?}");
        };
        assert!(error.to_string().contains("choose another one"), "{error}");
        assert_eq!(beside_of(&theirs.store).await, before);
        assert!(half_copied(&*theirs.store).await.unwrap().is_none());
    }
    // With neither, it is copied to.
    let empty = beside(Changes::default()).await;
    // The writer of this one is taken.
    assert_eq!(
        copying(&source.store, &empty.store)
            .survey()
            .await
            .unwrap()
            .standing,
        Standing::Nothing
    );
}

/// Everything beside the jobs, as text.
async fn beside_of(store: &Arc<dyn Store>) -> String {
    let mut all = String::new();
    for kind in RecordKind::ALL {
        let query = RecordQuery {
            kind,
            tenant: None,
            after: None,
            limit: 99,
        };
        all += &format!("{:?}", store.registry().records(query).await.unwrap());
    }
    all + &format!("{:?}", log(&**store, None, false, 99).await)
}

#[tokio::test]
async fn what_changes_in_the_source_before_a_copy_is_gone_on_with_is_copied() {
    let mut stored = source_of(12, 6).await;
    let source = Arc::clone(&stored.store);
    let dir = almost_copied(&source).await;
    stored.commit(changed_key()).await;
    // Nodes write at the same time: one of these stands before what was copied, one in between, and one behind.
    let mut first = audit_record("acme", 0);
    first.time = at(-5);
    let more = [first, audit_record("umbrella", 4), audit_record("acme", 99)];
    let mut more = audited(more);
    more.audit[1].id = id(1);
    stored.commit(more).await;
    let copied = copy(&source, &sqlite(dir.path())).await.unwrap();
    assert_eq!(
        (copied.standing, copied.contents.audit),
        (Standing::Part, 15)
    );
    compare_contents(&*source, &*sqlite(dir.path())).await;
}

#[tokio::test]
async fn what_changes_after_a_copy_was_finished_is_noticed() {
    let mut stored = source_of(12, 6).await;
    let source = Arc::clone(&stored.store);
    let database = Arc::new(database());
    copy(&source, &postgres(&database).await).await.unwrap();
    // In the source.
    stored.commit(changed_key()).await;
    stored.commit(audited([audit_record("acme", 99)])).await;
    let told = copy(&source, &postgres(&database).await).await;
    let Err(CopyError::Outdated(differences)) = told else {
        panic!("it was not noticed: {told:?}");
    };
    let key = RecordKey::credential(&"k1".into());
    let at = AuditPosition::of(&audit_record("acme", 99));
    let expected = [
        Difference::Record(key, Unlike::Changed),
        Difference::Audit(at, Unlike::Missing),
    ];
    assert_eq!(differences.named, expected);
    // In the copy, of which no feed tells.
    for changes in [changed_key(), audited([audit_record("acme", 98)])] {
        let database = Arc::new(super::database());
        let source = source_of(12, 6).await;
        copy(&source.store, &postgres(&database).await)
            .await
            .unwrap();
        let mut served = Stored::in_postgres_at(&database).await;
        served.commit(changes).await;
        drop(served);
        let told = copy(&source.store, &postgres(&database).await).await;
        assert!(matches!(told, Err(CopyError::ChangedSince)), "{told:?}");
    }
}

/// What is missing is copied once more; what is there and not the same is not written over.
#[tokio::test]
async fn whatever_differs_beside_the_jobs_is_noticed() {
    let stored = source_of(12, 6).await;
    let source = Arc::clone(&stored.store);
    let second = audit_record("acme", 1).id;
    for (sql, told) in [
        ("SELECT 1", ""),
        ("DELETE FROM records", ""),
        (&*format!("DELETE FROM audit WHERE id = '{second}'"), ""),
        (
            "UPDATE records SET body = '\\x09' WHERE id = 'k2'",
            "does not understand",
        ),
        (
            "UPDATE records SET revision = 7 WHERE id = 'k2'",
            "the key k2 differs",
        ),
        (
            "UPDATE records SET tenant = 'other' WHERE id = 'k2'",
            "the key k2 differs",
        ),
        (
            "INSERT INTO records (kind, id, tenant, revision, body) SELECT kind, 'k9', tenant, revision, body FROM records WHERE id = 'k2'",
            "the key k9 is not in the source",
        ),
        (
            "INSERT INTO audit SELECT tenant, time + 1, gen_random_uuid(), outcome, actor, actor_tenant, address, request_id, action, target, detail
             FROM audit LIMIT 1",
            "of the audit log is not in the source",
        ),
        (
            &*format!(
                "WITH gone AS (DELETE FROM audit WHERE id = '{second}' RETURNING *)
                 INSERT INTO audit SELECT tenant, time, id, outcome, 'nobody', actor_tenant, address, request_id, action, target, detail FROM gone"
            ),
            "of the audit log differs",
        ),
    ] {
        let database = database();
        let dying = Dying::new(postgres(&database).await, End::BeforeUnmarking);
        let dying: Arc<dyn Store> = Arc::new(dying);
        assert!(copy(&source, &dying).await.is_err());
        database.sql(sql);
        let again = copy(&source, &postgres(&database).await).await;
        let said = match again {
            Ok(_) => String::new(),
            Err(CopyError::Differs(differences)) => differences.named[0].to_string(),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(told) && said.is_empty() == told.is_empty(), "{sql}: {said}");
        let copied = postgres(&database).await;
        let is_marked = half_copied(&*copied).await.unwrap().is_some();
        assert_eq!(is_marked, !told.is_empty());
    }
}

/// As a data key was wrapped: nobody needs the master key to copy it.
#[tokio::test]
async fn a_data_key_is_copied_as_it_is() {
    let stored = beside(records([data_key_entry(3)])).await;
    let to: Arc<dyn Store> = Arc::new(MemoryStore::new());
    copy(&stored.store, &to).await.unwrap();
    let found = to.registry().record(&RecordKey::data_key(3)).await.unwrap();
    let Some(Entry::DataKey(key)) = found.map(|record| record.entry) else {
        panic!("it is not there");
    };
    assert_eq!(key.wrapped.as_ref(), [0, 255, 7]);
}
