//! Tenants, credentials and data keys: each rule, and what a rule forbids.

use std::sync::Arc;

use longhaul::domain::{
    Tenant, Timestamp,
    access::{Actor, Role, Roles},
    command::{Command, Decision, RecordWrite, Refusal, Reply},
    registry::{
        Administration, DEFAULT_TENANT, DataKeyEntry, Entry, KeyEntry, Proof, Quotas, Record,
        RecordKey, TenantEntry,
    },
};
use proptest::prelude::*;

use crate::world::*;

/// What somebody wants changed, out of few, so that they meet.
#[derive(Clone, Debug)]
pub enum Change {
    Create(u8),
    Update(u8, Option<u32>, Option<bool>),
    CreateKey {
        id: u8,
        tenant: u8,
        ends_after: Option<u64>,
    },
    Revoke(u8, Option<u8>),
    Use(Vec<(u8, u64)>),
    Put(Vec<u8>, bool),
}

const TENANTS: [&str; 3] = ["acme", "globex", DEFAULT_TENANT];

pub fn change() -> impl Strategy<Value = Change> {
    let tenant = || 0..3u8;
    let key = || 0..4u8;
    prop_oneof![
        2 => tenant().prop_map(Change::Create),
        2 => (tenant(), prop::option::of(0..3u32), prop::option::of(any::<bool>()))
            .prop_map(|(of, quota, disabled)| Change::Update(of, quota, disabled)),
        3 => (key(), tenant(), prop::option::weighted(0.3, 0..60u64))
            .prop_map(|(id, tenant, ends_after)| Change::CreateKey { id, tenant, ends_after }),
        2 => (key(), prop::option::of(tenant())).prop_map(|(id, within)| Change::Revoke(id, within)),
        1 => prop::collection::vec((key(), 0..100u64), 0..4).prop_map(Change::Use),
        1 => (prop::collection::vec(0..3u8, 1..3), any::<bool>())
            .prop_map(|(numbers, only_new)| Change::Put(numbers, only_new)),
    ]
}

pub fn administration(change: &Change, now: Timestamp) -> Administration {
    let tenant = |of: &u8| Tenant::new(TENANTS[*of as usize]);
    match change {
        Change::Create(of) => Administration::CreateTenant {
            name: tenant(of),
            quotas: Quotas::default(),
        },
        Change::Update(of, quota, is_disabled) => Administration::UpdateTenant {
            name: tenant(of),
            quotas: quota.map(quotas),
            is_disabled: *is_disabled,
        },
        Change::CreateKey {
            id,
            tenant: of,
            ends_after,
        } => Administration::CreateKey(Box::new(KeyEntry {
            expire_time: ends_after.map(|after| now.after(seconds(after))),
            ..key(&format!("k{id}"), TENANTS[*of as usize])
        })),
        Change::Revoke(id, within) => Administration::RevokeKey {
            id: format!("k{id}").into(),
            within: within.as_ref().map(tenant),
        },
        Change::Use(uses) => {
            let uses = uses.iter();
            Administration::NoteUses(
                uses.map(|(id, ago)| (format!("k{id}").into(), now.before(seconds(*ago))))
                    .collect(),
            )
        }
        Change::Put(numbers, only_new) => Administration::PutDataKeys {
            keys: numbers.iter().map(|n| data_key((*n).into(), now)).collect(),
            only_new: *only_new,
        },
    }
}

pub fn actor(tenant: &str) -> Actor {
    Actor {
        name: "key:first".into(),
        tenant: Tenant::new(tenant),
        address: "192.0.2.1".into(),
        request_id: "r".into(),
    }
}

pub fn key(id: &str, tenant: &str) -> KeyEntry {
    KeyEntry {
        id: id.into(),
        tenant: Tenant::new(tenant),
        name: "ci".into(),
        proof: Proof::Secret([7; 32]),
        roles: [Role::Submit].into_iter().collect(),
        drivers: None,
        everywhere: false,
        creator: "key:first".into(),
        // Those of the decision count.
        create_time: Timestamp::from_micros(1),
        expire_time: None,
        revoke_time: Some(Timestamp::from_micros(2)),
        last_used_time: Some(Timestamp::from_micros(3)),
    }
}

fn data_key(number: u32, active_from: Timestamp) -> DataKeyEntry {
    DataKeyEntry {
        number,
        active_from,
        wrapped: b"sealed".as_slice().into(),
    }
}

fn quotas(submits: u32) -> Quotas {
    Quotas {
        submits_per_second: Some(submits),
        ..Quotas::default()
    }
}

fn create(name: &str) -> Administration {
    Administration::CreateTenant {
        name: Tenant::new(name),
        quotas: quotas(1),
    }
}

fn update(name: &str, quotas: Option<Quotas>, is_disabled: Option<bool>) -> Administration {
    Administration::UpdateTenant {
        name: Tenant::new(name),
        quotas,
        is_disabled,
    }
}

fn create_key(id: &str, tenant: &str) -> Administration {
    Administration::CreateKey(key(id, tenant).into())
}

fn revoke(id: &str, within: Option<&str>) -> Administration {
    Administration::RevokeKey {
        id: id.into(),
        within: within.map(Tenant::new),
    }
}

fn put(numbers: &[u32], only_new: bool, wrapped: &'static [u8]) -> Administration {
    let key = |number: &u32| DataKeyEntry {
        wrapped: wrapped.into(),
        ..data_key(*number, Timestamp::default())
    };
    Administration::PutDataKeys {
        keys: numbers.iter().map(key).collect(),
        only_new,
    }
}

impl World {
    fn administer(&mut self, act: Administration) -> Result<Record, Refusal> {
        match self.one(Command::Administer(act))? {
            Reply::Record(record) => Ok(*record),
            other => panic!("{other:?} is no record"),
        }
    }

    /// Several at once.
    fn administer_all(&mut self, acts: impl IntoIterator<Item = Administration>) -> Decision {
        self.run(acts.into_iter().map(Command::Administer).collect(), &[])
    }

    fn key(&self, id: &str) -> Option<&KeyEntry> {
        match &self.store.records.get(&credential(id))?.entry {
            Entry::Key(key) => Some(key),
            other => panic!("{other:?} is no key"),
        }
    }
}

fn credential(id: &str) -> RecordKey {
    RecordKey::credential(&Arc::from(id))
}

fn tenant(record: &Record) -> &TenantEntry {
    match &record.entry {
        Entry::Tenant(tenant) => tenant,
        other => panic!("{other:?} is no tenant"),
    }
}

fn written(decision: &Decision) -> Vec<(String, u64, u64)> {
    let writes = decision.changes.records.iter();
    writes
        .map(|RecordWrite { record, before }| (record.key().to_string(), *before, record.revision))
        .collect()
}

#[test]
fn a_tenant_is_made_once() {
    let mut world = World::new();
    let made = world.administer(create("acme")).expect("made");
    assert_eq!(made.revision, 1);
    let expected = TenantEntry {
        name: Tenant::new("acme"),
        is_disabled: false,
        quotas: quotas(1),
        create_time: world.now,
    };
    assert_eq!(tenant(&made), &expected);
    let twice = world.administer(create("acme"));
    assert_eq!(twice, Err(Refusal::TenantExists(Tenant::new("acme"))));
    // In one batch, too.
    let decision = world.administer_all([create("globex"), create("globex")]);
    assert!(decision.replies[0].is_ok() && decision.replies[1].is_err());
    assert_eq!(written(&decision), [("tenant globex".into(), 0, 1)]);
    // This one is there without a record.
    let default = world.administer(create(DEFAULT_TENANT));
    let exists = Refusal::TenantExists(Tenant::new(DEFAULT_TENANT));
    assert_eq!(default, Err(exists));
}

#[test]
fn a_tenant_changes_in_what_is_said() {
    let mut world = World::new();
    world.administer(create("acme")).expect("made");
    let made = world.now;
    world.now = world.now.after(seconds(5));
    for (quota, disabled, revision, expected) in [
        (None, Some(true), 2, (1, true)),
        (Some(7), None, 3, (7, true)),
        (None, None, 3, (7, true)),
        (Some(7), Some(true), 3, (7, true)),
        (Some(8), Some(false), 4, (8, false)),
    ] {
        let changed = world.administer(update("acme", quota.map(quotas), disabled));
        let changed = changed.expect("changed");
        assert_eq!(changed.revision, revision, "{quota:?} {disabled:?}");
        let entry = tenant(&changed);
        let (quota, disabled) = expected;
        assert_eq!((entry.quotas, entry.is_disabled), (quotas(quota), disabled));
        assert_eq!(entry.create_time, made);
    }
    let missing = world.administer(update("globex", None, Some(true)));
    assert_eq!(missing, Err(Refusal::TenantNotFound(Tenant::new("globex"))));
    let default = world.administer(update(DEFAULT_TENANT, Some(quotas(3)), None));
    let default = default.expect("it gets a record with its first quota");
    assert_eq!((default.revision, tenant(&default).quotas), (1, quotas(3)));
    let default = world.administer(update(DEFAULT_TENANT, None, Some(true)));
    let default = default.expect("changed");
    assert_eq!((default.revision, tenant(&default).quotas), (2, quotas(3)));
}

#[test]
fn a_key_has_the_times_of_its_decision() {
    let mut world = World::new();
    let made = world
        .administer(create_key("k", DEFAULT_TENANT))
        .expect("made");
    let expected = KeyEntry {
        create_time: world.now,
        revoke_time: None,
        last_used_time: None,
        ..key("k", DEFAULT_TENANT)
    };
    assert_eq!(made.entry, Entry::Key(expected));
}

#[test]
fn a_key_is_of_a_tenant_that_is_there() {
    let mut world = World::new();
    let acme = || Tenant::new("acme");
    let missing = world.administer(create_key("k", "acme"));
    assert_eq!(missing, Err(Refusal::TenantNotFound(acme())));
    assert_eq!(world.key("k"), None);
    world.administer(create("acme")).expect("made");
    world.administer(create_key("k", "acme")).expect("made");
    // Made with it, in one batch.
    let decision = world.administer_all([create("globex"), create_key("l", "globex")]);
    assert!(decision.replies.iter().all(Result::is_ok));
    assert_eq!(world.key("l").map(|key| &*key.tenant.0), Some("globex"));
}

#[test]
fn a_key_that_is_good_is_not_made_again() {
    let mut world = World::new();
    let ends = world.now.after(seconds(60));
    let mut first = key("k", DEFAULT_TENANT);
    first.expire_time = Some(ends);
    let create = |key: &KeyEntry| Administration::CreateKey(Box::new(key.clone()));
    world.administer(create(&first)).expect("made");
    let exists = Err(Refusal::KeyExists("k".into()));
    assert_eq!(world.administer(create(&first)), exists);
    world.now = ends.before(seconds(1));
    assert_eq!(world.administer(create(&first)), exists);
    // Its time is over.
    world.now = ends;
    let second = world
        .administer(create_key("k", DEFAULT_TENANT))
        .expect("made");
    assert_eq!(second.revision, 2);
    assert_eq!(world.administer(create(&first)), exists);
    // It was taken back.
    world.administer(revoke("k", None)).expect("revoked");
    let third = world
        .administer(create_key("k", DEFAULT_TENANT))
        .expect("made");
    assert_eq!(third.revision, 4);
    let key = world.key("k").expect("it is there");
    assert!(key.is_good(world.now) && key.revoke_time.is_none());
}

#[test]
fn a_key_is_revoked_by_its_own_tenant_or_by_the_operator() {
    let mut world = World::new();
    world.administer(create("acme")).expect("made");
    for id in ["a", "b"] {
        world.administer(create_key(id, "acme")).expect("made");
    }
    // Others do not even learn that it is there.
    for act in [revoke("a", Some("globex")), revoke("nothing", None)] {
        let id = match &act {
            Administration::RevokeKey { id, .. } => id.clone(),
            _ => unreachable!("both revoke"),
        };
        assert_eq!(world.administer(act), Err(Refusal::KeyNotFound(id)));
    }
    assert_eq!(world.key("a").and_then(|key| key.revoke_time), None);
    let first = world.now;
    world
        .administer(revoke("a", Some("acme")))
        .expect("revoked");
    world.administer(revoke("b", None)).expect("revoked");
    world.now = world.now.after(seconds(9));
    // Again, which is harmless.
    let again = world.administer_all([revoke("a", None)]);
    assert!(again.replies[0].is_ok() && again.changes.is_empty());
    for id in ["a", "b"] {
        let key = world.key(id).expect("it is there");
        assert_eq!(key.revoke_time, Some(first));
        assert!(!key.is_good(first));
    }
}

#[test]
fn a_key_is_good_until_it_ends() {
    let now = Timestamp::from_micros(10);
    let at = |micros| Some(Timestamp::from_micros(micros));
    for (revoked, ends, is_good) in [
        (None, None, true),
        (None, at(11), true),
        (None, at(10), false),
        (at(9), None, false),
        // Revoking is for ever, whatever a clock says.
        (at(11), None, false),
    ] {
        let key = KeyEntry {
            revoke_time: revoked,
            expire_time: ends,
            ..key("k", "acme")
        };
        assert_eq!(key.is_good(now), is_good, "{revoked:?} {ends:?}");
        assert_eq!(key.has_expired(now), ends == at(10));
    }
}

#[test]
fn uses_are_noted_if_they_are_later() {
    let mut world = World::new();
    world
        .administer(create_key("k", DEFAULT_TENANT))
        .expect("made");
    let at = |micros| Timestamp::from_micros(micros);
    for (uses, last, is_written) in [
        (vec![("gone", 5)], None, false),
        (vec![("k", 5), ("gone", 9)], Some(5), true),
        (vec![("k", 4)], Some(5), false),
        (vec![("k", 5)], Some(5), false),
        (vec![("k", 7), ("k", 6)], Some(7), true),
        (vec![], Some(7), false),
    ] {
        let uses = uses.iter().map(|(id, micros)| ((*id).into(), at(*micros)));
        let decision = world.administer_all([Administration::NoteUses(uses.collect())]);
        assert!(matches!(decision.replies[0], Ok(Reply::Done)));
        assert_eq!(!decision.changes.is_empty(), is_written);
        let key = world.key("k").expect("it is there");
        assert_eq!(key.last_used_time, last.map(at));
    }
    assert_eq!(world.store.records[&credential("k")].revision, 3);
}

#[test]
fn data_keys_are_made_once_and_sealed_anew() {
    let mut world = World::new();
    let wrapped = |world: &World, number| match &world.store.records[&RecordKey::data_key(number)] {
        Record {
            revision,
            entry: Entry::DataKey(key),
        } => (*revision, key.wrapped.clone()),
        other => panic!("{other:?} is no data key"),
    };
    world.administer_all([put(&[1], true, b"one")]);
    // Another node, which has not heard of it.
    world.administer_all([put(&[1, 2], true, b"two")]);
    assert_eq!(wrapped(&world, 1), (1, b"one".as_slice().into()));
    assert_eq!(wrapped(&world, 2), (1, b"two".as_slice().into()));
    let decision = world.administer_all([put(&[1, 2], false, b"two")]);
    assert_eq!(written(&decision), [("data key 0000000001".into(), 1, 2)]);
    assert_eq!(wrapped(&world, 1), (2, b"two".as_slice().into()));
}

#[test]
fn what_a_batch_changes_twice_is_written_once() {
    let mut world = World::new();
    let decision = world.administer_all([
        create("acme"),
        update("acme", Some(quotas(2)), None),
        create_key("k", "acme"),
        update("acme", None, Some(true)),
        revoke("k", Some("acme")),
    ]);
    let once = [("tenant acme".into(), 0, 1), ("key k".into(), 0, 1)];
    assert_eq!(written(&decision), once);
    let disabled = update("acme", None, Some(false));
    let decision = world.administer_all([disabled, update("acme", Some(quotas(3)), None)]);
    assert_eq!(written(&decision), [("tenant acme".into(), 1, 2)]);
    // Each is told of the record as it is by then.
    let told = decision.replies.iter().map(|reply| match reply {
        Ok(Reply::Record(record)) => (record.revision, tenant(record).quotas),
        other => panic!("{other:?} is no record"),
    });
    assert_eq!(told.collect::<Vec<_>>(), [(2, quotas(2)), (2, quotas(3))]);
}

#[test]
fn what_changes_nothing_is_not_written() {
    let mut world = World::new();
    world.administer_all([
        create("acme"),
        create_key("k", "acme"),
        put(&[1], true, b"one"),
    ]);
    let decision = world.administer_all([
        create("acme"),
        update("acme", None, None),
        update("acme", Some(quotas(1)), Some(false)),
        create_key("k", "acme"),
        revoke("k", Some("globex")),
        Administration::NoteUses(vec![("gone".into(), world.now)]),
        put(&[1], true, b"two"),
        put(&[1], false, b"one"),
    ]);
    assert!(decision.changes.is_empty(), "{:?}", decision.changes);
    // The rule can fail.
    let decision = world.administer_all([update("acme", None, Some(true))]);
    assert!(!decision.changes.is_empty());
}

#[test]
fn names_of_data_keys_are_in_the_order_of_their_numbers() {
    let mut numbers = [0, 1, 9, 10, 99, 100, 1_000_000_000, u32::MAX];
    numbers.reverse();
    numbers.sort_by_key(|number| RecordKey::data_key(*number));
    assert!(numbers.is_sorted());
}

#[test]
fn roles_are_kept_as_they_were_given() {
    let mut world = World::new();
    for (n, roles) in Role::ALL.iter().enumerate() {
        let roles: Roles = [*roles].into_iter().collect();
        let entry = KeyEntry {
            roles,
            ..key(&format!("k{n}"), DEFAULT_TENANT)
        };
        let made = world.administer(Administration::CreateKey(entry.into()));
        let Entry::Key(key) = made.expect("made").entry else {
            panic!("it is no key");
        };
        assert_eq!(key.roles, roles);
    }
}
