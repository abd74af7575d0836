//! Writing what is to be written, commit by commit, and again while somebody is in the way.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{CopyError, plan, read, reading, written};
use crate::{
    domain::{
        Job, JobKey,
        audit::AuditRecord,
        command::{Changes, RecordWrite, WriteKind},
        registry::{Record, RecordKey},
    },
    store::{AuditPosition, Locked, MAX_KEPT_EVENTS, Scan, Store, StoreError, Writer},
};

/// How often a commit is tried that meets others.
const ATTEMPTS: u32 = 6;
/// The first pause before it is tried again; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(50);

/// A copy on its way.
pub(super) struct Writing<'a> {
    pub(super) from: &'a Arc<dyn Store>,
    pub(super) to: &'a Arc<dyn Store>,
    pub(super) writer: &'a mut dyn Writer,
    /// The destination has a part of it already.
    pub(super) resumes: bool,
}

impl Writing<'_> {
    /// All jobs, in the order of their changes, and what stands beside them.
    pub(super) async fn copy(
        &mut self,
        report: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), CopyError> {
        let mut pages = reading::kept(Arc::clone(self.from), Scan::ByChange(None));
        let mut done = 0;
        report(done);
        while let Some(page) = pages.page().await.map_err(read)? {
            done += page.len() as u64;
            let there = match self.resumes {
                true => {
                    let keys: Vec<JobKey> = page.iter().map(|kept| kept.job.key()).collect();
                    self.revisions(&keys).await.map_err(written)?
                }
                false => HashMap::new(),
            };
            for step in plan::steps(page, &there) {
                self.write(&step.changes).await?;
                if let Some((job, after)) = step.rest {
                    self.follow_up(&job, after).await?;
                }
            }
            report(done);
        }
        self.copy_records().await?;
        self.copy_audit_log().await?;
        let here = self.from.paused_drivers().await.map_err(read)?;
        let there = self.to.paused_drivers().await.map_err(written)?;
        self.write(&plan::drivers(here, &there)).await
    }

    /// Records of tenants, credentials and data keys that the destination has not, or has as they were before.
    async fn copy_records(&mut self) -> Result<(), CopyError> {
        let mut pages = reading::records(Arc::clone(self.from));
        while let Some(page) = pages.page().await.map_err(read)? {
            let keys: Vec<RecordKey> = page.iter().map(Record::key).collect();
            let there = match self.resumes {
                true => self.record_revisions(&keys).await.map_err(written)?,
                false => HashMap::new(),
            };
            let write = |record: Record| {
                let before = there.get(&record.key()).copied().unwrap_or(0);
                (before < record.revision).then_some(RecordWrite { record, before })
            };
            self.write(&Changes {
                records: page.into_iter().filter_map(write).collect(),
                ..Changes::default()
            })
            .await?;
        }
        Ok(())
    }

    /// What the destination has not of the audit log.
    async fn copy_audit_log(&mut self) -> Result<(), CopyError> {
        let mut pages = reading::audit(Arc::clone(self.from));
        let mut there = self.resumes.then(|| reading::audit(Arc::clone(self.to)));
        let mut next: Option<AuditRecord> = None;
        while let Some(page) = pages.page().await.map_err(read)? {
            let mut missing = Vec::with_capacity(page.len());
            for record in page {
                let at = AuditPosition::of(&record);
                // Both are in the same order.
                while let Some(reading) = &mut there
                    && next
                        .as_ref()
                        .is_none_or(|next| AuditPosition::of(next) < at)
                {
                    next = reading.next().await.map_err(written)?;
                    if next.is_none() {
                        there = None;
                    }
                }
                if next.as_ref().map(AuditPosition::of) != Some(at) {
                    missing.push(record);
                }
            }
            self.write(&Changes {
                audit: missing,
                ..Changes::default()
            })
            .await?;
        }
        Ok(())
    }

    /// Writes the events of a job that has too many for one commit.
    async fn follow_up(&mut self, job: &Arc<Job>, mut after: u64) -> Result<(), CopyError> {
        loop {
            let events = self.from.events(&job.key(), after, MAX_KEPT_EVENTS).await;
            let events = events.map_err(read)?;
            let Some(last) = events.last().map(|event| event.revision) else {
                return Ok(());
            };
            self.write(&plan::continuation(job, events)).await?;
            after = last;
        }
    }

    /// One commit. What was given up because of others is tried again, unless these others write the same jobs.
    async fn write(&mut self, changes: &Changes) -> Result<(), CopyError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS {
            match self.commit(changes).await {
                Err(CopyError::Store {
                    error: StoreError::Conflict(_),
                    ..
                }) => {}
                done => return done,
            }
            if self.is_written_by_others(changes).await.map_err(written)? {
                return Err(CopyError::OtherWriter);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.commit(changes).await
    }

    async fn commit(&mut self, changes: &Changes) -> Result<(), CopyError> {
        // What is left is the server's, to end what it has begun.
        if self.writer.is_low_on_space() {
            return Err(CopyError::Full);
        }
        self.writer.begin().await.map_err(written)?;
        let committed = self.writer.commit(changes).await;
        committed.map(drop).map_err(written)
    }

    /// Whether jobs of a commit that came to nothing are not as they were before it.
    async fn is_written_by_others(&mut self, changes: &Changes) -> Result<bool, StoreError> {
        let mut before = HashMap::new();
        for event in &changes.events {
            let revision = event.revision.saturating_sub(1);
            before.entry(event.job_key()).or_insert(revision);
        }
        let keys: Vec<JobKey> = changes.jobs.iter().map(|write| write.job.key()).collect();
        let there = self.revisions(&keys).await?;
        let records = changes.records.iter().map(|write| write.record.key());
        let records = self.record_revisions(&records.collect::<Vec<_>>()).await?;
        let is_other = |write: &RecordWrite| {
            let there = records.get(&write.record.key()).copied();
            there.unwrap_or(0) != write.before
        };
        if changes.records.iter().any(is_other) {
            return Ok(true);
        }
        Ok(changes.jobs.iter().any(|write| {
            let key = write.job.key();
            let there = there.get(&key);
            match write.how {
                WriteKind::Insert => there.is_some(),
                WriteKind::Update { .. } | WriteKind::Delete => there != before.get(&key),
            }
        }))
    }

    /// What the destination has of these records.
    async fn record_revisions(
        &mut self,
        keys: &[RecordKey],
    ) -> Result<HashMap<RecordKey, u64>, StoreError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        self.writer.begin().await?;
        let records = self.writer.records(keys).await;
        self.writer.rollback().await;
        let records = records?.into_iter();
        Ok(records
            .map(|record| (record.key(), record.revision))
            .collect())
    }

    /// What the destination has of these jobs.
    async fn revisions(&mut self, keys: &[JobKey]) -> Result<HashMap<JobKey, u64>, StoreError> {
        self.writer.begin().await?;
        let jobs = self.writer.jobs(keys, Locked::Wait).await;
        self.writer.rollback().await;
        let jobs = jobs?.into_iter();
        Ok(jobs.map(|job| (job.key(), job.revision)).collect())
    }
}
