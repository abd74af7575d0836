//! A record of the audit log as a row. Nothing is packed: an operator may have to read it with nothing but SQL.

use std::borrow::Cow;

use uuid::Uuid;

use super::{Coded, RowError};
use crate::domain::{
    Tenant, Timestamp,
    access::Actor,
    audit::{AuditRecord, Outcome},
};

impl Coded for Outcome {
    const NAME: &'static str = "outcome";
    const VALUES: &'static [Self] = &Self::ALL;
}

/// All of it.
#[derive(Debug)]
pub(crate) struct AuditRow<'a> {
    pub id: [u8; 16],
    pub time: i64,
    pub tenant: Cow<'a, str>,
    pub actor: Cow<'a, str>,
    pub actor_tenant: Cow<'a, str>,
    pub address: Cow<'a, str>,
    pub request_id: Cow<'a, str>,
    pub action: Cow<'a, str>,
    pub target: Cow<'a, str>,
    pub outcome: i64,
    pub detail: Cow<'a, str>,
}

impl<'a> AuditRow<'a> {
    pub(crate) fn of(record: &'a AuditRecord) -> Self {
        let AuditRecord {
            id,
            time,
            tenant,
            actor,
            action,
            target,
            outcome,
            detail,
        } = record;
        Self {
            id: id.into_bytes(),
            time: time.as_micros(),
            tenant: (*tenant.0).into(),
            actor: (*actor.name).into(),
            actor_tenant: (*actor.tenant.0).into(),
            address: actor.address.as_str().into(),
            request_id: actor.request_id.as_str().into(),
            action: action.into(),
            target: target.into(),
            outcome: outcome.code(),
            detail: detail.into(),
        }
    }

    pub(crate) fn record(self) -> Result<AuditRecord, RowError> {
        Ok(AuditRecord {
            id: Uuid::from_bytes(self.id),
            time: Timestamp::from_micros(self.time),
            tenant: Tenant(self.tenant.into()),
            actor: Actor {
                name: self.actor.into(),
                tenant: Tenant(self.actor_tenant.into()),
                address: self.address.into_owned(),
                request_id: self.request_id.into_owned(),
            },
            action: self.action.into_owned(),
            target: self.target.into_owned(),
            outcome: Outcome::from_code(self.outcome)?,
            detail: self.detail.into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let record = AuditRecord {
            id: Uuid::from_u128(1),
            time: Timestamp::from_micros(2),
            tenant: Tenant::new("a"),
            actor: Actor {
                name: "key:b".into(),
                tenant: Tenant::new("c"),
                address: "192.0.2.1".into(),
                request_id: "d".into(),
            },
            action: "Cancel".into(),
            target: "e".into(),
            outcome: Outcome::Refused,
            detail: "f".into(),
        };
        assert_eq!(AuditRow::of(&record).record(), Ok(record.clone()));
    }
}
