//! Requests that wait for a change of a job: they hang on the watch hub, cost what a watcher costs, and are counted for each tenant.

use std::{sync::Arc, time::Duration};

use super::call::Known;
use crate::{
    api::{Api, Caller, Fault, Reason},
    domain::JobKey,
    engine::{EngineError, Version},
    locale::Language,
};

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Polls;

impl Polls {
    /// The job that a GET asks for: as it is, or with `Prefer: wait` as soon as it is another one than the caller knows, or without a condition as soon as
    /// it has ended. `language` is that of answers that differ by it. The job is looked at first: what a caller knows may be newer than the job, after a restore from a backup.
    pub(super) async fn look(
        &self,
        api: &Api,
        caller: &Caller,
        key: &JobKey,
        known: &Known,
        language: Option<Language>,
        patience: Option<Duration>,
    ) -> Result<Arc<Version>, Fault> {
        let version = api.engine().version(key).await?;
        let revision = version.job.revision;
        let after = match patience {
            // There is no other one to wait for.
            Some(_) if known.is_any() || version.job.state.is_terminal() => None,
            Some(patience) if known.is_empty() => Some((None, patience)),
            Some(patience) if known.has(revision, language) => Some((Some(revision), patience)),
            Some(_) | None => None,
        };
        let Some((after, patience)) = after else {
            return Ok(version);
        };
        drop(version);
        self.wait(api, caller, key, after, patience).await
    }

    /// Waits for the end of a job that is stored already; none if that can not be. Nobody must take what goes wrong then for a submission that failed.
    pub(super) async fn wait_for_stored(
        &self,
        api: &Api,
        caller: &Caller,
        key: &JobKey,
        patience: Duration,
    ) -> Option<Arc<Version>> {
        match self.wait(api, caller, key, None, patience).await {
            Ok(version) => Some(version),
            Err(fault) => {
                if fault.reason != Reason::QuotaExceeded {
                    let reason = fault.reason.name();
                    tracing::warn!(job = %key.job, reason, "the end of a job that was stored could not be waited for");
                }
                None
            }
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
        let _one_of_those_who_wait = caller.holder.allowance.watch()?;
        match api.engine().wait(key, after, patience).await {
            // Whether it is what was waited for, the caller sees by the job.
            Ok((version, _)) => Ok(version),
            // Whoever waits for a server that goes hears how things are, and asks the next one.
            Err(EngineError::Draining) => Ok(api.engine().version(key).await?),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        api::ServerFacts,
        auth::{AuthSettings, Authenticator, Holder},
        domain::{JobId, registry::Quotas},
        engine::{Engine, EngineSettings, SteadyClock},
        quota::Allowances,
        store::{Store as _, memory::MemoryStore},
        vault::Vault,
    };

    #[tokio::test]
    async fn what_goes_wrong_with_a_wait_is_no_fault_of_what_is_stored() {
        let store = MemoryStore::new();
        let clock = Arc::new(SteadyClock::start(store.info().newest_time));
        let vault = Arc::new(Vault::without_key());
        let started = Engine::start(
            Arc::new(store),
            clock,
            vault.clone(),
            EngineSettings::default(),
        );
        let (engine, thread) = started.await.unwrap();
        let facts = ServerFacts {
            drain_timeout: Duration::ZERO,
        };
        let started = Authenticator::start(engine.clone(), AuthSettings::default()).await;
        let (authenticator, _keeper) = started.unwrap();
        let api = Api::new(engine, authenticator, vault, facts);
        let allowances = Allowances::new(Quotas {
            watches: Some(1),
            ..Quotas::default()
        });
        let caller = Caller::holding(Holder::everybody(&allowances));
        // Removed, after it was stored.
        let key = JobKey {
            tenant: caller.tenant.clone(),
            job: JobId(Uuid::from_u128(7)),
        };
        let polls = Polls;
        let patience = Duration::from_secs(60);
        let waited = polls.wait_for_stored(&api, &caller, &key, patience);
        assert!(waited.await.is_none());
        // Whoever asks for it hears so, and the room is free again.
        let asked = polls.wait(&api, &caller, &key, None, patience).await;
        assert_eq!(asked.unwrap_err().reason, Reason::JobNotFound);
        let permit = caller.holder.allowance.watch().unwrap();
        let waited = polls.wait_for_stored(&api, &caller, &key, patience);
        assert!(waited.await.is_none());
        drop(permit);
        thread.stop().await.unwrap();
    }
}
