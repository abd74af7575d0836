//! Hears of data keys that other nodes have made.

use std::{sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;

use crate::{
    api::data_keys,
    engine::{Engine, EngineError},
    vault::{Unwrappable, Vault},
};

/// How often the keys are read: several times before a new one counts.
const LOOK: Duration = Duration::from_secs(3);

/// Why the keys that are kept can not be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Unwrappable(#[from] Unwrappable),
}

/// Takes over the keys that are kept now.
pub(super) async fn read(engine: &Engine, vault: &Vault) -> Result<(), KeysError> {
    let kept = data_keys(engine).await?;
    Ok(vault.renew(&kept)?)
}

/// The same again and again, for as long as it is polled.
pub(super) async fn follow(engine: Engine, vault: Arc<Vault>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        looks.tick().await;
        match read(&engine, &vault).await {
            Ok(()) => told = None,
            // That the store is away is told elsewhere.
            Err(KeysError::Engine(error)) => tracing::debug!(%error, "data keys are read later"),
            Err(KeysError::Unwrappable(missing)) if told == Some(missing) => {}
            Err(KeysError::Unwrappable(missing)) => {
                tracing::error!(error = %missing, "new data keys can not be used: give this server the new master key");
                told = Some(missing);
            }
        }
    }
}
