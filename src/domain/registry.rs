//! What is known of tenants and credentials, and how that changes. Few and small: a record is written whole.

use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;

use super::{
    Tenant, Timestamp,
    access::Roles,
    command::{RecordWrite, Refusal, Reply},
    working::Working,
};

/// The tenant of callers without a credential. It is there without a record.
pub const DEFAULT_TENANT: &str = "default";

/// Characters of a tenant's name.
const MAX_TENANT_CHARS: usize = 63;

/// Whether a tenant can have this name: `[a-z0-9-]`, with a letter or digit at both ends.
pub fn is_tenant(name: &str) -> bool {
    let is_inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=MAX_TENANT_CHARS).contains(&name.len())
        && name.bytes().all(is_inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The kinds of records. The order is that of the numbers under which they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// A tenant.
    Tenant,
    /// A credential.
    Key,
    /// A key that secrets and tokens are sealed with.
    DataKey,
}

impl RecordKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Tenant, Self::Key, Self::DataKey];
}

/// Names a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Of what kind.
    pub kind: RecordKind,
    /// Which of them.
    pub id: Arc<str>,
}

/// A record as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// One more with each change, from 1.
    pub revision: u64,
    /// What it says.
    pub entry: Entry,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A tenant.
    Tenant(TenantEntry),
    /// A credential.
    Key(KeyEntry),
    /// A key that secrets and tokens are sealed with.
    DataKey(DataKeyEntry),
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantEntry {
    /// Its name.
    pub name: Tenant,
    /// Whether its credentials are refused.
    pub is_disabled: bool,
    /// How much it may use.
    pub quotas: Quotas,
    /// When it was made.
    pub create_time: Timestamp,
}

/// How much a tenant may use; `None` is the server's default, 0 no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Jobs that it may submit in a second, on the average.
    pub submits_per_second: Option<u32>,
    /// Jobs that have not ended.
    pub open_jobs: Option<u64>,
    /// Bytes of payloads and results that are kept.
    pub stored_bytes: Option<u64>,
    /// Watches and waits at a time, on each node.
    pub watches: Option<u32>,
    /// Connections at a time, on each node.
    pub connections: Option<u32>,
}

/// How the holder of a credential shows that it is the holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It knows the secret whose SHA-256 this is. The secret is random and long, so nobody finds it by trying.
    Secret([u8; 32]),
    /// It has a certificate with this name in it.
    Certificate(String),
}

/// A credential: an API key, or the name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// Its id, which is no secret.
    pub id: Arc<str>,
    /// The tenant that its holder acts for.
    pub tenant: Tenant,
    /// What people call it.
    pub name: String,
    /// How its holder is known.
    pub proof: Proof,
    /// What its holder may do.
    pub roles: Roles,
    /// The drivers whose tasks its holder may take; `None` is all.
    pub drivers: Option<Arc<[Arc<str>]>>,
    /// See [`super::access::Principal::everywhere`].
    pub everywhere: bool,
    /// Who made it.
    pub creator: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it ends by itself.
    pub expire_time: Option<Timestamp>,
    /// When it was revoked.
    pub revoke_time: Option<Timestamp>,
    /// When it was last used, give or take a minute.
    pub last_used_time: Option<Timestamp>,
}

/// A key that secrets and tokens are sealed with, itself sealed with the master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKeyEntry {
    /// Its number.
    pub number: u32,
    /// From when on it is used for what is new: every node has heard of it by then.
    pub active_from: Timestamp,
    /// The key, as nobody can use it without the master key.
    pub wrapped: Bytes,
}

/// A change of records.
#[derive(Clone, Debug)]
pub enum Administration {
    /// Make a tenant.
    CreateTenant {
        /// Its name.
        name: Tenant,
        /// How much it may use.
        quotas: Quotas,
    },
    /// Change a tenant.
    UpdateTenant {
        /// Which.
        name: Tenant,
        /// How much it may use from now on.
        quotas: Option<Quotas>,
        /// Whether its credentials are refused from now on.
        is_disabled: Option<bool>,
    },
    /// Make a credential; its times are those of the decision.
    CreateKey(Box<KeyEntry>),
    /// End a credential for ever. Revoking twice is harmless.
    RevokeKey {
        /// Which.
        id: Arc<str>,
        /// The tenant that may revoke its own; `None` may revoke any.
        within: Option<Tenant>,
    },
    /// Credentials were used.
    NoteUses(Vec<(Arc<str>, Timestamp)>),
    /// Store keys.
    PutDataKeys {
        /// The keys.
        keys: Vec<DataKeyEntry>,
        /// Those that are there already, by number, are left as they are; without it they were sealed anew.
        only_new: bool,
    },
}

impl Record {
    /// What finds it.
    pub fn key(&self) -> RecordKey {
        self.entry.key()
    }
}

impl Entry {
    /// What finds its record.
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Tenant(tenant) => RecordKey::tenant(&tenant.name),
            Self::Key(key) => RecordKey::credential(&key.id),
            Self::DataKey(key) => RecordKey::data_key(key.number),
        }
    }

    /// Whose it is; nobody's if it is the operator's.
    pub fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::Tenant(tenant) => Some(&tenant.name),
            Self::Key(key) => Some(&key.tenant),
            Self::DataKey(_) => None,
        }
    }
}

impl RecordKey {
    /// Of a tenant.
    pub fn tenant(name: &Tenant) -> Self {
        Self {
            kind: RecordKind::Tenant,
            id: Arc::clone(&name.0),
        }
    }

    /// Of a credential.
    pub fn credential(id: &Arc<str>) -> Self {
        Self {
            kind: RecordKind::Key,
            id: Arc::clone(id),
        }
    }

    /// Of a data key.
    pub fn data_key(number: u32) -> Self {
        Self {
            kind: RecordKind::DataKey,
            // As many digits as the largest has, so that the order of names is that of numbers.
            id: format!("{number:010}").into(),
        }
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RecordKind::Tenant => "tenant",
            RecordKind::Key => "key",
            RecordKind::DataKey => "data key",
        };
        write!(f, "{kind} {}", self.id)
    }
}

impl KeyEntry {
    /// Whether its holder may still use it.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoke_time.is_none() && !self.has_expired(now)
    }

    /// Whether its time is over.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expire_time.is_some_and(|end| end <= now)
    }
}

impl Administration {
    /// The records that have to be known to decide it.
    pub fn needs(&self) -> Vec<RecordKey> {
        match self {
            Self::CreateTenant { name, .. } | Self::UpdateTenant { name, .. } => {
                vec![RecordKey::tenant(name)]
            }
            Self::CreateKey(key) => {
                vec![
                    RecordKey::credential(&key.id),
                    RecordKey::tenant(&key.tenant),
                ]
            }
            Self::RevokeKey { id, .. } => vec![RecordKey::credential(id)],
            Self::NoteUses(uses) => {
                let ids = uses.iter().map(|(id, _)| id);
                ids.map(RecordKey::credential).collect()
            }
            Self::PutDataKeys { keys, .. } => {
                let numbers = keys.iter().map(|key| key.number);
                numbers.map(RecordKey::data_key).collect()
            }
        }
    }
}

/// Changes records.
pub(super) fn administer(
    working: &mut Working,
    now: Timestamp,
    act: Administration,
) -> Result<Reply, Refusal> {
    match act {
        Administration::CreateTenant { name, quotas } => {
            if tenant(working, &name).is_some() || *name.0 == *DEFAULT_TENANT {
                return Err(Refusal::TenantExists(name));
            }
            Ok(put(
                working,
                Entry::Tenant(TenantEntry {
                    name,
                    is_disabled: false,
                    quotas,
                    create_time: now,
                }),
            ))
        }
        Administration::UpdateTenant {
            name,
            quotas,
            is_disabled,
        } => {
            let mut entry = match tenant(working, &name) {
                Some(entry) => entry.clone(),
                // It is there without a record, and gets one with its first quota.
                None if *name.0 == *DEFAULT_TENANT => TenantEntry {
                    name,
                    is_disabled: false,
                    quotas: Quotas::default(),
                    create_time: now,
                },
                None => return Err(Refusal::TenantNotFound(name)),
            };
            entry.quotas = quotas.unwrap_or(entry.quotas);
            entry.is_disabled = is_disabled.unwrap_or(entry.is_disabled);
            Ok(put(working, Entry::Tenant(entry)))
        }
        Administration::CreateKey(key) => {
            // A name in a certificate may be given again when it was taken back.
            if credential(working, &key.id).is_some_and(|old| old.is_good(now)) {
                return Err(Refusal::KeyExists(key.id));
            }
            if tenant(working, &key.tenant).is_none() && *key.tenant.0 != *DEFAULT_TENANT {
                return Err(Refusal::TenantNotFound(key.tenant));
            }
            Ok(put(
                working,
                Entry::Key(KeyEntry {
                    create_time: now,
                    revoke_time: None,
                    last_used_time: None,
                    ..*key
                }),
            ))
        }
        Administration::RevokeKey { id, within } => {
            let known = credential(working, &id);
            let own = known.filter(|key| within.is_none_or(|within| key.tenant == within));
            let Some(mut key) = own.cloned() else {
                return Err(Refusal::KeyNotFound(id));
            };
            key.revoke_time.get_or_insert(now);
            Ok(put(working, Entry::Key(key)))
        }
        Administration::NoteUses(uses) => {
            for (id, time) in uses {
                let Some(mut key) = credential(working, &id).cloned() else {
                    continue;
                };
                if key.last_used_time < Some(time) {
                    key.last_used_time = Some(time);
                    put(working, Entry::Key(key));
                }
            }
            Ok(Reply::Done)
        }
        Administration::PutDataKeys { keys, only_new } => {
            for key in keys {
                let is_there = working.record(&RecordKey::data_key(key.number)).is_some();
                if !(only_new && is_there) {
                    put(working, Entry::DataKey(key));
                }
            }
            Ok(Reply::Done)
        }
    }
}

fn tenant<'a>(working: &'a Working, name: &Tenant) -> Option<&'a TenantEntry> {
    match working.record(&RecordKey::tenant(name))? {
        Entry::Tenant(entry) => Some(entry),
        Entry::Key(_) | Entry::DataKey(_) => None,
    }
}

fn credential<'a>(working: &'a Working, id: &Arc<str>) -> Option<&'a KeyEntry> {
    match working.record(&RecordKey::credential(id))? {
        Entry::Key(entry) => Some(entry),
        Entry::Tenant(_) | Entry::DataKey(_) => None,
    }
}

/// Writes a record, unless it says so already.
fn put(working: &mut Working, entry: Entry) -> Reply {
    Reply::Record(Box::new(working.put_record(entry)))
}

/// The records of a batch while it is decided.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Each as it is by now, with its revision as it is stored.
    records: HashMap<RecordKey, (Record, u64)>,
    /// Those that were changed, in the order in which they first were.
    changed: Vec<RecordKey>,
}

impl Records {
    pub(super) fn new(loaded: Vec<Record>) -> Self {
        let records = loaded.into_iter().map(|record| {
            let stored = record.revision;
            (record.key(), (record, stored))
        });
        Self {
            records: records.collect(),
            changed: Vec::new(),
        }
    }

    pub(super) fn get(&self, key: &RecordKey) -> Option<&Entry> {
        self.records.get(key).map(|(record, _)| &record.entry)
    }

    /// What the record says from now on; if it says so already, it stays as it is.
    pub(super) fn put(&mut self, entry: Entry) -> Record {
        let key = entry.key();
        let known = self.records.get(&key);
        if let Some((record, _)) = known.filter(|(record, _)| record.entry == entry) {
            return record.clone();
        }
        let (revision, stored) =
            known.map_or((0, 0), |(record, stored)| (record.revision, *stored));
        if revision == stored {
            self.changed.push(key.clone());
        }
        // One more than stored, however often a batch changes it.
        let revision = stored + 1;
        let record = Record { revision, entry };
        self.records.insert(key, (record.clone(), stored));
        record
    }

    pub(super) fn into_writes(mut self) -> Vec<RecordWrite> {
        let changed = self.changed.into_iter();
        let writes = changed.filter_map(|key| self.records.remove(&key));
        writes
            .map(|(record, before)| RecordWrite { record, before })
            .collect()
    }
}
