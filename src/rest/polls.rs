//! Requests that wait for a change of a job: they hang on the watch hub, cost what a watcher costs, and are counted for each tenant.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::call::Call;
use crate::{
    api::{Api, Caller, Fault, Reason},
    domain::{Job, JobKey, Tenant, wording::sentence},
    engine::{EngineError, Version},
};

/// When to come back if too many requests wait.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone)]
pub(super) struct Polls {
    most: usize,
    free: Arc<DashMap<Tenant, Arc<Semaphore>>>,
}

impl Polls {
    /// So many may wait at once for one tenant.
    pub(super) fn new(most: usize) -> Self {
        let free = Arc::default();
        Self { most, free }
    }

    /// One of those who wait, until it is dropped.
    pub(super) fn enter(&self, caller: &Caller) -> Result<OwnedSemaphorePermit, Fault> {
        let tenant = &caller.tenant;
        let free = match self.free.get(tenant) {
            Some(free) => Arc::clone(&free),
            None => {
                let all_free = || Arc::new(Semaphore::new(self.most));
                let free = self.free.entry(tenant.clone()).or_insert_with(all_free);
                Arc::clone(&free)
            }
        };
        free.try_acquire_owned().map_err(|_none_is_free| {
            let message = sentence!(
                "too-many-waits",
                "{most} requests wait already; ask again later, or follow many jobs with one request",
                most = self.most
            );
            Fault::new(Reason::TooManyWaits, message).retry(RETRY)
        })
    }

    /// The job that a GET asks for: as it is, or with `Prefer: wait` as soon as it is newer than the revision that the caller names, or has ended.
    pub(super) async fn look(
        &self,
        api: &Api,
        call: &Call,
        key: &JobKey,
    ) -> Result<Arc<Job>, Fault> {
        let Some(patience) = call.wait() else {
            return Ok(api.engine().get(key).await?);
        };
        let waited = self.wait(api, &call.caller, key, call.known_revision(), patience);
        Ok(Arc::clone(&waited.await?.job))
    }

    /// Waits for the end of a job that is stored already; none if there is no room to wait: a caller must not take "too many wait" for "not stored".
    pub(super) async fn wait_if_room(
        &self,
        api: &Api,
        caller: &Caller,
        key: &JobKey,
        patience: Duration,
    ) -> Result<Option<Arc<Version>>, Fault> {
        match self.wait(api, caller, key, None, patience).await {
            Err(fault) if fault.reason == Reason::TooManyWaits => Ok(None),
            waited => waited.map(Some),
        }
    }

    /// Waits until the job is newer than `after`, or terminal; `None` waits for its end alone. Answers with the job as it is then, or when the time is up
    /// or the server goes.
    pub(super) async fn wait(
        &self,
        api: &Api,
        caller: &Caller,
        key: &JobKey,
        after: Option<u64>,
        patience: Duration,
    ) -> Result<Arc<Version>, Fault> {
        let _one_of_those_who_wait = self.enter(caller)?;
        match api.engine().wait(key, after, patience).await {
            // Whether it is what was waited for, the caller sees by the job.
            Ok((version, _)) => Ok(version),
            // Whoever waits for a server that goes hears how things are, and asks the next one.
            Err(EngineError::Draining) => Ok(api.engine().version(key).await?),
            Err(error) => Err(error.into()),
        }
    }
}
