//! Tenants, credentials and the audit log, in maps.

use std::{collections::BTreeMap, sync::Mutex};

use async_trait::async_trait;

use super::lock;
use crate::{
    domain::{
        Timestamp,
        audit::{AUDIT_LIFE, AuditRecord},
        command::{Changes, RecordWrite},
        registry::{Record, RecordKey},
    },
    store::{AuditPosition, AuditQuery, RecordQuery, Registry, StoreError},
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct MemoryRegistry(Mutex<Contents>);

#[derive(Debug, Default)]
struct Contents {
    records: BTreeMap<RecordKey, Record>,
    audit: BTreeMap<AuditPosition, AuditRecord>,
}

impl MemoryRegistry {
    pub(super) fn get(&self, keys: &[RecordKey]) -> Vec<Record> {
        let contents = lock(&self.0);
        let found = keys.iter().filter_map(|key| contents.records.get(key));
        found.cloned().collect()
    }

    /// Whether the records that are changed are as they were read.
    pub(super) fn check(&self, changes: &Changes) -> Result<(), StoreError> {
        let contents = lock(&self.0);
        let is_as_read = |write: &&RecordWrite| {
            let stored = contents.records.get(&write.record.key());
            stored.map_or(0, |stored| stored.revision) == write.before
        };
        match changes.records.iter().find(|write| !is_as_read(write)) {
            Some(write) => Err(StoreError::not_as_read(&write.record.key())),
            None => Ok(()),
        }
    }

    pub(super) fn apply(&self, changes: &Changes) {
        let mut contents = lock(&self.0);
        for RecordWrite { record, .. } in &changes.records {
            contents.records.insert(record.key(), record.clone());
        }
        for record in &changes.audit {
            let at = AuditPosition::of(record);
            contents.audit.insert(at, record.clone());
        }
    }

    pub(super) fn tidy(&self, now: Timestamp) {
        let oldest_kept = now.before(AUDIT_LIFE);
        lock(&self.0).audit.retain(|at, _| at.time >= oldest_kept);
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn record(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        Ok(lock(&self.0).records.get(key).cloned())
    }

    async fn records(&self, query: RecordQuery) -> Result<Vec<Record>, StoreError> {
        let contents = lock(&self.0);
        let matching = contents.records.iter().filter(|(key, record)| {
            key.kind == query.kind
                && query.after.as_ref().is_none_or(|after| *key.id > **after)
                && (query.tenant.as_ref()).is_none_or(|of| record.entry.tenant() == Some(of))
        });
        let records = matching.map(|(_, record)| record.clone());
        Ok(records.take(query.limit).collect())
    }

    async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        let contents = lock(&self.0);
        let mut all: Vec<_> = contents.audit.iter().collect();
        if query.descending {
            all.reverse();
        }
        let matching = all.into_iter().filter(|(at, record)| {
            let is_behind = match (query.after, query.descending) {
                (None, _) => true,
                (Some(after), false) => **at > after,
                (Some(after), true) => **at < after,
            };
            is_behind && (query.tenant.as_ref()).is_none_or(|of| record.tenant == *of)
        });
        let records = matching.map(|(_, record)| record.clone());
        Ok(records.take(query.limit).collect())
    }
}
