//! The keys that secrets and tokens are sealed with.

use std::time::Duration;

use super::{Api, Caller, Fault, Reason, render};
use crate::{
    domain::{
        limits::MAX_PAGE,
        registry::{Administration, DataKeyEntry, Entry, RecordKind},
        wording::{Sentence, sentence},
    },
    engine::{Engine, EngineError},
    proto::v1,
    store::RecordQuery,
    vault::{DataKeys, RotateError},
};

/// How long after it was made a key is used: by then every node has read it many times over.
const UNTIL_ACTIVE: Duration = Duration::from_secs(15);

/// The data keys that are kept.
pub(crate) async fn data_keys(engine: &Engine) -> Result<DataKeys, EngineError> {
    let mut kept: Vec<DataKeyEntry> = Vec::new();
    let mut after = None;
    loop {
        let query = RecordQuery {
            kind: RecordKind::DataKey,
            tenant: None,
            after,
            limit: MAX_PAGE,
        };
        let page = engine.records(query).await?;
        let is_last = page.len() < MAX_PAGE;
        after = page.last().map(|record| record.key().id.to_string());
        kept.extend(page.into_iter().filter_map(|record| match record.entry {
            Entry::DataKey(key) => Some(key),
            Entry::Tenant(_) | Entry::Key(_) => None,
        }));
        if is_last {
            return Ok(DataKeys::of(kept));
        }
    }
}

impl Api {
    /// `RotateDataKeys`.
    pub(crate) async fn rotate_data_keys(
        &self,
        caller: &Caller,
        _request: v1::RotateDataKeysRequest,
    ) -> Result<v1::RotateDataKeysResponse, Fault> {
        let kept = data_keys(&self.engine).await?;
        let active_from = self.engine.now().after(UNTIL_ACTIVE);
        let keys = self.vault.rotated(&kept, active_from)?;
        let newest = keys.iter().map(|key| key.number).max();
        let act = Administration::PutDataKeys {
            keys,
            only_new: false,
        };
        self.administer(caller, act).await?;
        let kept = data_keys(&self.engine).await?;
        self.vault.renew(&kept).map_err(RotateError::from)?;
        Ok(v1::RotateDataKeysResponse {
            number: newest.unwrap_or_default(),
            active_from_time: Some(render::time(active_from)),
        })
    }
}

impl From<RotateError> for Fault {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::NoMasterKey => {
                let message = Sentence::plain(
                    "no-master-key",
                    "there is no master key to wrap keys with: start the server with --master-key-file",
                );
                Self::new(Reason::MasterKeyRequired, message)
            }
            RotateError::Unwrappable(key) => {
                let message = sentence!(
                    "master-key-missing",
                    "data key {number} was wrapped by a master key that this server does not have: give it that key too, on a line behind the current one",
                    number = key.0
                );
                Self::new(Reason::MasterKeyMissing, message)
            }
            RotateError::NoRandomness => crate::store::StoreError::Failed(error.to_string()).into(),
        }
    }
}
