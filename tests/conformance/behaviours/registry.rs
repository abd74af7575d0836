//! Tenants, credentials and data keys, and the audit log.

use longhaul::{
    domain::{
        Tenant, Timestamp,
        access::{Actor, Role},
        audit::{AUDIT_LIFE, AuditRecord, Outcome},
        command::{Changes, RecordWrite},
        registry::{
            DataKeyEntry, Entry, KeyEntry, Proof, Quotas, Record, RecordKey, RecordKind,
            TenantEntry,
        },
    },
    store::{AuditPosition, AuditQuery, RecordQuery, StoreError},
};

use crate::fixture::*;

pub fn tenant_entry(name: &str) -> Entry {
    Entry::Tenant(TenantEntry {
        name: Tenant::new(name),
        is_disabled: true,
        quotas: Quotas {
            submits_per_second: Some(1),
            open_jobs: Some(2),
            stored_bytes: Some(u64::MAX),
            watches: None,
            connections: Some(5),
        },
        create_time: at(1),
    })
}

pub fn key_entry(id: &str, tenant: &str) -> Entry {
    Entry::Key(KeyEntry {
        id: id.into(),
        tenant: Tenant::new(tenant),
        name: format!("the key {id} of \"{tenant}\""),
        proof: Proof::Secret([9; 32]),
        roles: [Role::Work, Role::Audit].into_iter().collect(),
        drivers: Some(["ansible".into(), "terraform".into()].into()),
        everywhere: true,
        creator: "key:first".into(),
        create_time: at(2),
        expire_time: Some(at(3)),
        revoke_time: None,
        last_used_time: Some(at(4)),
    })
}

pub fn data_key_entry(number: u32) -> Entry {
    Entry::DataKey(DataKeyEntry {
        number,
        active_from: at(5),
        wrapped: vec![0, 255, 7].into(),
    })
}

/// A record that is stored for the first time.
pub fn new_record(entry: Entry) -> RecordWrite {
    let record = Record { revision: 1, entry };
    RecordWrite { record, before: 0 }
}

pub fn records(entries: impl IntoIterator<Item = Entry>) -> Changes {
    Changes {
        records: entries.into_iter().map(new_record).collect(),
        ..Changes::default()
    }
}

/// The `n`th record of the audit log; it is of a time that several share.
pub fn audit_record(tenant: &str, n: u64) -> AuditRecord {
    AuditRecord {
        id: id(1_000_000 - n),
        time: at(i64::try_from(n / 3).unwrap()),
        tenant: Tenant::new(tenant),
        actor: Actor {
            name: format!("key:{n}").into(),
            tenant: Tenant::new("operator"),
            address: "2001:db8::1".into(),
            request_id: format!("request-{n}"),
        },
        action: "RevokeKey".into(),
        target: "ünïcode 'quoted'".into(),
        outcome: Outcome::ALL[usize::try_from(n % 3).unwrap()],
        detail: String::new(),
    }
}

pub fn audited(records: impl IntoIterator<Item = AuditRecord>) -> Changes {
    Changes {
        audit: records.into_iter().collect(),
        ..Changes::default()
    }
}

/// Everything of a kind, page by page.
async fn all(stored: &Stored, kind: RecordKind, tenant: Option<&str>, limit: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let query = RecordQuery {
            kind,
            tenant: tenant.map(Tenant::new),
            after: after.take(),
            limit,
        };
        let page = stored.store.registry().records(query).await.unwrap();
        assert!(page.len() <= limit);
        let full = page.len() == limit;
        ids.extend(page.iter().map(|record| record.key().id.to_string()));
        if !full {
            return ids;
        }
        after = ids.last().cloned();
    }
}

/// The whole log, page by page.
pub async fn log(
    store: &dyn longhaul::store::Store,
    tenant: Option<&str>,
    descending: bool,
    limit: usize,
) -> Vec<AuditRecord> {
    let mut records: Vec<AuditRecord> = Vec::new();
    loop {
        let query = AuditQuery {
            tenant: tenant.map(Tenant::new),
            descending,
            after: records.last().map(AuditPosition::of),
            limit,
        };
        let page = store.registry().audit(query).await.unwrap();
        assert!(page.len() <= limit);
        let full = page.len() == limit;
        records.extend(page);
        if !full {
            return records;
        }
    }
}

async fn locked(stored: &mut Stored, keys: &[RecordKey]) -> Vec<Record> {
    stored.writer.begin().await.unwrap();
    let mut found = stored.writer.records(keys).await.unwrap();
    stored.writer.rollback().await;
    found.sort_by_key(Record::key);
    found
}

pub async fn a_record_reads_back_as_it_was_written(mut stored: Stored) {
    let mut certificate = key_entry("k2", "acme");
    if let Entry::Key(key) = &mut certificate {
        key.proof = Proof::Certificate("spiffe://acme/worker".into());
        (key.drivers, key.expire_time) = (None, None);
        (key.revoke_time, key.last_used_time) = (Some(at(7)), None);
    }
    let entries = [
        tenant_entry("acme"),
        key_entry("k1", "acme"),
        certificate,
        data_key_entry(u32::MAX),
    ];
    stored.commit(records(entries.clone())).await;
    for entry in &entries {
        let found = stored.store.registry().record(&entry.key()).await.unwrap();
        let expected = Record {
            revision: 1,
            entry: entry.clone(),
        };
        assert_eq!(found, Some(expected));
    }
    let mut keys: Vec<RecordKey> = entries.iter().rev().map(Entry::key).collect();
    keys.push(RecordKey::tenant(&Tenant::new("k1")));
    let found = locked(&mut stored, &keys).await;
    let found: Vec<Entry> = found.into_iter().map(|record| record.entry).collect();
    assert_eq!(found, entries);
}

pub async fn a_record_that_is_not_there_is_not_found(mut stored: Stored) {
    stored.commit(records([key_entry("k1", "acme")])).await;
    let other_kind = RecordKey::tenant(&Tenant::new("k1"));
    let other_id = RecordKey::credential(&"k".into());
    for key in [&other_kind, &other_id] {
        assert_eq!(stored.store.registry().record(key).await.unwrap(), None);
    }
    assert_eq!(locked(&mut stored, &[other_kind, other_id]).await, []);
    assert_eq!(locked(&mut stored, &[]).await, []);
}

pub async fn a_record_changes_only_as_it_was_read(mut stored: Stored) {
    let key = RecordKey::credential(&"k1".into());
    let mut revision = 0;
    for (n, (before, is_as_read)) in (1..).zip([
        (1, false),
        (0, true),
        (0, false),
        (2, false),
        (1, true),
        (1, false),
        (2, true),
    ]) {
        let tenant = format!("of {n}");
        let record = Record {
            revision: before + 1,
            entry: key_entry("k1", &tenant),
        };
        let changes = Changes {
            records: vec![RecordWrite { record, before }],
            ..submitted(&job("acme", n))
        };
        stored.writer.begin().await.unwrap();
        let written = stored.writer.commit(&changes).await;
        let job = stored.job(&job("acme", n).key()).await;
        let now = stored.store.registry().record(&key).await.unwrap();
        if is_as_read {
            written.unwrap();
            revision = before + 1;
            assert!(job.is_some());
            assert_eq!(now.unwrap().entry.tenant(), Some(&Tenant::new(&tenant)));
        } else {
            let is_refused = match stored.exclusive {
                // Nobody else can have changed it: trying again is of no use.
                true => matches!(written, Err(StoreError::Failed(_))),
                false => matches!(written, Err(StoreError::Conflict(_))),
            };
            assert!(is_refused, "{before}: {written:?}");
            // Nothing of the whole commit is there.
            assert_eq!(job, None);
            assert_eq!(now.map_or(0, |record| record.revision), revision);
        }
    }
}

pub async fn records_are_listed_by_kind_and_tenant(mut stored: Stored) {
    let tenants = ["b", "a", "a b", "B", "ä"];
    let entries = tenants.map(tenant_entry).into_iter();
    let keys = (0..7).map(|n| key_entry(&format!("k{n}"), ["acme", "umbrella"][n % 2]));
    // In the order of numbers, not of digits.
    let data_keys = [10, 9, 100].map(data_key_entry);
    let all_at_once = entries.chain(keys).chain(data_keys);
    stored.commit(records(all_at_once)).await;
    for limit in [1, 2, 3, 99] {
        let of = async |kind, tenant| all(&stored, kind, tenant, limit).await;
        let names = of(RecordKind::Tenant, None).await;
        assert_eq!(names, ["B", "a", "a b", "b", "ä"]);
        assert_eq!(of(RecordKind::Tenant, Some("a b")).await, ["a b"]);
        let keys = of(RecordKind::Key, None).await;
        assert_eq!(keys, ["k0", "k1", "k2", "k3", "k4", "k5", "k6"]);
        let keys = of(RecordKind::Key, Some("acme")).await;
        assert_eq!(keys, ["k0", "k2", "k4", "k6"]);
        assert_eq!(of(RecordKind::Key, Some("acm")).await, Vec::<String>::new());
        let numbers = of(RecordKind::DataKey, None).await;
        assert_eq!(numbers, ["0000000009", "0000000010", "0000000100"]);
    }
    // With its last change a key is another tenant's.
    let mut moved = new_record(key_entry("k2", "umbrella"));
    (moved.record.revision, moved.before) = (2, 1);
    let changes = Changes {
        records: vec![moved],
        ..Changes::default()
    };
    stored.commit(changes).await;
    let keys = all(&stored, RecordKind::Key, Some("acme"), 2).await;
    assert_eq!(keys, ["k0", "k4", "k6"]);
}

pub async fn the_audit_log_reads_both_ways(mut stored: Stored) {
    let tenants = ["acme", "umbrella", "acm"];
    let of = |n: u64| audit_record(tenants[usize::try_from(n % 3).unwrap()], n);
    // Not in the order of their times, as nodes write them.
    for part in [20..30, 0..10, 10..20] {
        stored.commit(audited(part.map(of))).await;
    }
    let mut expected: Vec<AuditRecord> = (0..30).map(of).collect();
    expected.sort_by_key(AuditPosition::of);
    for descending in [false, true] {
        if descending {
            expected.reverse();
        }
        let own = expected.iter().filter(|record| &*record.tenant.0 == "acme");
        let own: Vec<AuditRecord> = own.cloned().collect();
        for limit in [1, 7, 99] {
            let read = log(&*stored.store, None, descending, limit).await;
            assert_eq!(read, expected);
            let read = log(&*stored.store, Some("acme"), descending, limit).await;
            assert_eq!(read, own);
            let none = log(&*stored.store, Some("ac"), descending, limit).await;
            assert_eq!(none, []);
        }
    }
}

pub async fn what_is_done_and_its_record_are_one_commit(mut stored: Stored) {
    let done = |n| {
        let job = job("acme", n);
        let mut changes = submitted(&job);
        changes.audit = vec![audit_record("acme", n)];
        changes.records = vec![new_record(key_entry("k", "acme"))];
        (job, changes)
    };
    let (first, changes) = done(1);
    stored.commit(changes).await;
    assert!(stored.job(&first.key()).await.is_some());
    let kept = [audit_record("acme", 1)];
    assert_eq!(log(&*stored.store, None, false, 9).await, kept);
    // The key is there already.
    let (second, changes) = done(2);
    stored.writer.begin().await.unwrap();
    stored.writer.commit(&changes).await.unwrap_err();
    assert!(stored.job(&second.key()).await.is_none());
    assert_eq!(log(&*stored.store, None, false, 9).await, kept);
    // And the writer goes on.
    stored.submit(&second).await;
}

pub async fn a_transaction_needs_no_job(mut stored: Stored) {
    let job = job("acme", 1);
    stored.submit(&job).await;
    let before = stored.mark().await;
    let mut changes = records([tenant_entry("acme")]);
    changes.audit = vec![audit_record("acme", 1)];
    stored.commit(changes).await;
    // Nobody who follows jobs hears of it.
    let after = stored.mark().await;
    assert_eq!(stored.feed("acme", &before, &after).await.len(), 0);
    let key = RecordKey::tenant(&Tenant::new("acme"));
    assert_eq!(locked(&mut stored, &[key]).await.len(), 1);
    let next = stored.submit(&crate::fixture::job("acme", 2)).await;
    assert!(!stored.exclusive || next.first_position == Some(2));
}

pub async fn the_audit_log_is_kept_for_its_life(mut stored: Stored) {
    // Of nodes it is no matter of the writer, but of the upkeep, which has tests of its own.
    if !stored.exclusive {
        return;
    }
    // More than one idle moment removes.
    let old = 3_000;
    let of = |n: u64, time: Timestamp| AuditRecord {
        time,
        ..audit_record("acme", n)
    };
    let last = of(old, at(1));
    let all = (0..old).map(|n| of(n, at(0))).chain([last.clone()]);
    stored.commit(audited(all)).await;
    let end = at(0).after(AUDIT_LIFE);
    stored.writer.tidy(end).await.unwrap();
    let left = log(&*stored.store, None, false, 5_000).await;
    assert_eq!(left.len(), 3_001);
    for _ in 0..2 {
        let a_moment_later = end.after(std::time::Duration::from_micros(1));
        stored.writer.tidy(a_moment_later).await.unwrap();
    }
    assert_eq!(log(&*stored.store, None, false, 5_000).await, [last]);
}
