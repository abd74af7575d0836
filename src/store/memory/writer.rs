//! The writer of the model.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;

use super::{Contents, claim_order, lock, registry::MemoryRegistry};
use crate::{
    domain::{
        Job, JobKey, Tenant, Timestamp,
        command::{Changes, ReadyTask, RequestKey, RequestRecord},
        event::EventKind,
        registry::{Record, RecordKey},
    },
    store::{
        Committed, Locked, MAX_TENANTS_PER_CLAIM, Note, Ready, StoreError, TOMBSTONE_LIFE, Whose,
        Writer,
    },
};

/// Nobody else writes, and a commit is applied at once: so a transaction has nothing to hold.
pub(super) struct MemoryWriter {
    pub(super) contents: Arc<Mutex<Contents>>,
    pub(super) registry: Arc<MemoryRegistry>,
}

impl MemoryWriter {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        lock(&self.contents)
    }
}

#[async_trait]
impl Writer for MemoryWriter {
    async fn begin(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn requests(
        &mut self,
        keys: &[RequestKey],
    ) -> Result<Vec<(RequestKey, RequestRecord)>, StoreError> {
        let contents = self.contents();
        let record = |key: &RequestKey| Some((key.clone(), contents.requests.get(key)?.clone()));
        Ok(keys.iter().filter_map(record).collect())
    }

    async fn records(&mut self, keys: &[RecordKey]) -> Result<Vec<Record>, StoreError> {
        Ok(self.registry.get(keys))
    }

    async fn jobs(&mut self, keys: &[JobKey], _: Locked) -> Result<Vec<Job>, StoreError> {
        let contents = self.contents();
        let job = |key: &JobKey| contents.jobs.get(key).map(|job| Job::clone(job));
        Ok(keys.iter().filter_map(job).collect())
    }

    async fn ready(
        &mut self,
        driver: &str,
        whose: Whose<'_>,
        limit: usize,
    ) -> Result<Ready, StoreError> {
        let contents = self.contents();
        if contents.paused.contains_key(driver) {
            return Ok(Ready::paused());
        }
        let mut by_tenant: BTreeMap<Tenant, Vec<ReadyTask>> = BTreeMap::new();
        for task in contents.ready_tasks(driver) {
            let tasks = by_tenant.entry(task.key.tenant.clone()).or_default();
            tasks.push(task);
        }
        let mut turns: Vec<_> = by_tenant.into_iter().collect();
        match whose {
            Whose::One(one) => turns.retain(|(tenant, _)| tenant == one),
            Whose::All { served } => {
                // First those behind the one that was served last, then round to it.
                let first = turns.partition_point(|(tenant, _)| Some(tenant) <= served);
                turns.rotate_left(first);
            }
        }
        let more = turns.len() > MAX_TENANTS_PER_CLAIM;
        turns.truncate(MAX_TENANTS_PER_CLAIM);
        for (_, tasks) in &mut turns {
            tasks.sort_by_key(claim_order);
            tasks.truncate(limit);
        }
        let tasks = turns.into_iter().flat_map(|(_, tasks)| tasks).collect();
        Ok(Ready {
            tasks,
            more,
            is_paused: false,
        })
    }

    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        Ok(self.contents().jobs_by_time(|job| job.timer, now, limit))
    }

    async fn next_due(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.contents().jobs.values().filter_map(|j| j.timer).min())
    }

    async fn expired(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        let contents = self.contents();
        Ok(contents.jobs_by_time(|job| job.expire_time, now, limit))
    }

    async fn open_children(
        &mut self,
        parent: &JobKey,
        limit: usize,
    ) -> Result<Vec<JobKey>, StoreError> {
        let contents = self.contents();
        let children = contents
            .jobs_of(&parent.tenant)
            .filter(|job| job.spec.parent == Some(parent.job) && !job.state.is_terminal());
        Ok(children.take(limit).map(|job| job.key()).collect())
    }

    async fn commit(&mut self, changes: &Changes) -> Result<Committed, StoreError> {
        self.registry.check(changes)?;
        let mut contents = self.contents();
        let first_position = Some(contents.position + 1);
        contents.apply(changes);
        self.registry.apply(changes);
        Ok(Committed { first_position })
    }

    async fn rollback(&mut self) {}

    async fn tidy(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.registry.tidy(now);
        let mut contents = self.contents();
        let (newest, oldest_kept) = (contents.position, now.before(TOMBSTONE_LIFE));
        contents.events.retain(|position, event| {
            event.kind != EventKind::JobDeleted || event.time >= oldest_kept || *position == newest
        });
        Ok(())
    }

    async fn set_note(&mut self, note: Note, value: Option<&[u8]>) -> Result<(), StoreError> {
        let mut contents = self.contents();
        match value {
            Some(value) => contents.notes.insert(note, value.to_vec()),
            None => contents.notes.remove(&note),
        };
        Ok(())
    }

    fn is_low_on_space(&self) -> bool {
        false
    }
}
