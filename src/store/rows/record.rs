//! Tenants, credentials and data keys as rows: what names them has columns, the rest is packed.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Coded, RowError, micros, number, pack, time, unpack, unsigned};
use crate::domain::{
    Tenant, Timestamp,
    access::{Role, Roles},
    registry::{
        DataKeyEntry, Entry, KeyEntry, Proof, Quotas, Record, RecordKey, RecordKind, TenantEntry,
    },
};

impl Coded for RecordKind {
    const NAME: &'static str = "kind of record";
    const VALUES: &'static [Self] = &Self::ALL;
}

impl Coded for Role {
    const NAME: &'static str = "role";
    const VALUES: &'static [Self] = &Self::ALL;
}

/// All of a record.
#[derive(Debug)]
pub(crate) struct RecordRow<'a> {
    pub kind: i64,
    pub id: Cow<'a, str>,
    /// Whose it is; empty if it is the operator's.
    pub tenant: Cow<'a, str>,
    pub revision: i64,
    /// The rest, packed.
    pub body: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct TenantPart {
    is_disabled: bool,
    quotas: QuotasPart,
    create_time: i64,
}

#[derive(Serialize, Deserialize)]
struct QuotasPart {
    submits_per_second: Option<u32>,
    open_jobs: Option<u64>,
    stored_bytes: Option<u64>,
    watches: Option<u32>,
    connections: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct KeyPart<'a> {
    name: Cow<'a, str>,
    proof: ProofPart<'a>,
    roles: Vec<i64>,
    drivers: Option<Vec<Cow<'a, str>>>,
    everywhere: bool,
    creator: Cow<'a, str>,
    create_time: i64,
    expire_time: Option<i64>,
    revoke_time: Option<i64>,
    last_used_time: Option<i64>,
}

#[derive(Serialize, Deserialize)]
enum ProofPart<'a> {
    Secret([u8; 32]),
    Certificate(Cow<'a, str>),
}

#[derive(Serialize, Deserialize)]
struct DataKeyPart<'a> {
    number: u32,
    active_from: i64,
    wrapped: Cow<'a, [u8]>,
}

impl<'a> RecordRow<'a> {
    pub(crate) fn of(record: &'a Record) -> Self {
        let RecordKey { kind, id } = record.key();
        Self {
            kind: kind.code(),
            id: Cow::Owned(id.to_string()),
            tenant: (record.entry.tenant()).map_or("".into(), |tenant| (*tenant.0).into()),
            revision: number(record.revision),
            body: body(&record.entry),
        }
    }

    pub(crate) fn record(self) -> Result<Record, RowError> {
        let entry = match RecordKind::from_code(self.kind)? {
            RecordKind::Tenant => {
                let part: TenantPart = unpack("tenant", &self.body)?;
                Entry::Tenant(part.entry(Tenant(self.tenant.into())))
            }
            RecordKind::Key => {
                let part: KeyPart<'_> = unpack("key", &self.body)?;
                Entry::Key(part.entry(self.id.into(), Tenant(self.tenant.into()))?)
            }
            RecordKind::DataKey => {
                let part: DataKeyPart<'_> = unpack("data key", &self.body)?;
                Entry::DataKey(DataKeyEntry {
                    number: part.number,
                    active_from: Timestamp::from_micros(part.active_from),
                    wrapped: Bytes::copy_from_slice(&part.wrapped),
                })
            }
        };
        Ok(Record {
            revision: unsigned("revision", self.revision)?,
            entry,
        })
    }
}

fn body(entry: &Entry) -> Vec<u8> {
    match entry {
        Entry::Tenant(TenantEntry {
            name: _,
            is_disabled,
            quotas,
            create_time,
        }) => pack(&TenantPart {
            is_disabled: *is_disabled,
            quotas: (*quotas).into(),
            create_time: create_time.as_micros(),
        }),
        Entry::Key(key) => pack(&KeyPart::of(key)),
        Entry::DataKey(DataKeyEntry {
            number,
            active_from,
            wrapped,
        }) => pack(&DataKeyPart {
            number: *number,
            active_from: active_from.as_micros(),
            wrapped: wrapped.as_ref().into(),
        }),
    }
}

impl TenantPart {
    fn entry(self, name: Tenant) -> TenantEntry {
        let Self {
            is_disabled,
            quotas,
            create_time,
        } = self;
        TenantEntry {
            name,
            is_disabled,
            quotas: quotas.into(),
            create_time: Timestamp::from_micros(create_time),
        }
    }
}

impl From<Quotas> for QuotasPart {
    fn from(quotas: Quotas) -> Self {
        let Quotas {
            submits_per_second,
            open_jobs,
            stored_bytes,
            watches,
            connections,
        } = quotas;
        Self {
            submits_per_second,
            open_jobs,
            stored_bytes,
            watches,
            connections,
        }
    }
}

impl From<QuotasPart> for Quotas {
    fn from(part: QuotasPart) -> Self {
        let QuotasPart {
            submits_per_second,
            open_jobs,
            stored_bytes,
            watches,
            connections,
        } = part;
        Self {
            submits_per_second,
            open_jobs,
            stored_bytes,
            watches,
            connections,
        }
    }
}

impl<'a> KeyPart<'a> {
    fn of(key: &'a KeyEntry) -> Self {
        let KeyEntry {
            id: _,
            tenant: _,
            name,
            proof,
            roles,
            drivers,
            everywhere,
            creator,
            create_time,
            expire_time,
            revoke_time,
            last_used_time,
        } = key;
        let drivers = drivers.as_deref();
        Self {
            name: name.into(),
            proof: match proof {
                Proof::Secret(digest) => ProofPart::Secret(*digest),
                Proof::Certificate(name) => ProofPart::Certificate(name.into()),
            },
            roles: roles.iter().map(Coded::code).collect(),
            drivers: drivers.map(|all| all.iter().map(|driver| (**driver).into()).collect()),
            everywhere: *everywhere,
            creator: creator.into(),
            create_time: create_time.as_micros(),
            expire_time: micros(*expire_time),
            revoke_time: micros(*revoke_time),
            last_used_time: micros(*last_used_time),
        }
    }

    fn entry(self, id: Arc<str>, tenant: Tenant) -> Result<KeyEntry, RowError> {
        let Self {
            name,
            proof,
            roles,
            drivers,
            everywhere,
            creator,
            create_time,
            expire_time,
            revoke_time,
            last_used_time,
        } = self;
        let roles = roles.into_iter().map(Role::from_code);
        let drivers = drivers.map(|all| all.into_iter().map(Arc::from).collect());
        Ok(KeyEntry {
            id,
            tenant,
            name: name.into_owned(),
            proof: match proof {
                ProofPart::Secret(digest) => Proof::Secret(digest),
                ProofPart::Certificate(name) => Proof::Certificate(name.into_owned()),
            },
            roles: roles.collect::<Result<Roles, _>>()?,
            drivers,
            everywhere,
            creator: creator.into_owned(),
            create_time: Timestamp::from_micros(create_time),
            expire_time: time(expire_time),
            revoke_time: time(revoke_time),
            last_used_time: time(last_used_time),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes_back(entry: Entry) {
        let record = Record { revision: 7, entry };
        let read = RecordRow::of(&record).record();
        assert_eq!(read.as_ref(), Ok(&record));
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let tenant = Tenant::new("a");
        comes_back(Entry::Tenant(TenantEntry {
            name: tenant.clone(),
            is_disabled: true,
            quotas: Quotas {
                submits_per_second: Some(1),
                open_jobs: Some(2),
                stored_bytes: Some(3),
                watches: Some(4),
                connections: None,
            },
            create_time: Timestamp::from_micros(5),
        }));
        for proof in [
            Proof::Secret([9; 32]),
            Proof::Certificate("spiffe://a/b".into()),
        ] {
            comes_back(Entry::Key(KeyEntry {
                id: "k".into(),
                tenant: tenant.clone(),
                name: "n".into(),
                proof,
                roles: [Role::Work, Role::Audit].into_iter().collect(),
                drivers: Some(["d".into(), "e".into()].into()),
                everywhere: true,
                creator: "c".into(),
                create_time: Timestamp::from_micros(1),
                expire_time: Some(Timestamp::from_micros(2)),
                revoke_time: Some(Timestamp::from_micros(3)),
                last_used_time: None,
            }));
        }
        comes_back(Entry::DataKey(DataKeyEntry {
            number: 3,
            active_from: Timestamp::from_micros(4),
            wrapped: Bytes::from_static(b"w"),
        }));
    }
}
