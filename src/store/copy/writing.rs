//! Writing what is to be written, commit by commit, and again while somebody is in the way.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{CopyError, plan, read, reading, written};
use crate::{
    domain::{
        Job, JobKey,
        command::{Changes, WriteKind},
    },
    store::{Locked, MAX_KEPT_EVENTS, Scan, Store, StoreError, Writer},
};

/// How often a commit is tried that meets others.
const ATTEMPTS: u32 = 6;
/// The first pause before it is tried again; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(50);

/// A copy on its way.
pub(super) struct Writing<'a> {
    pub(super) from: &'a Arc<dyn Store>,
    pub(super) to: &'a dyn Store,
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
        let here = self.from.paused_drivers().await.map_err(read)?;
        let there = self.to.paused_drivers().await.map_err(written)?;
        self.write(&plan::drivers(here, &there)).await
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
        Ok(changes.jobs.iter().any(|write| {
            let key = write.job.key();
            let there = there.get(&key);
            match write.how {
                WriteKind::Insert => there.is_some(),
                WriteKind::Update { .. } | WriteKind::Delete => there != before.get(&key),
            }
        }))
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
