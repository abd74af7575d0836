//! Tenants, credentials and the audit log.

use super::{Engine, EngineError};
use crate::{
    domain::{
        access::Actor,
        audit::AuditRecord,
        command::{Command, Reply},
        registry::{Administration, Record, RecordKey},
    },
    store::{AuditQuery, RecordQuery},
};

impl Engine {
    /// Changes a record; answers with it as it is then. What nobody asked for has no actor, and goes into no log.
    ///
    /// # Errors
    /// The change is not possible, or the store failed.
    pub async fn administer(
        &self,
        act: Administration,
        actor: Option<Actor>,
    ) -> Result<Option<Record>, EngineError> {
        let command = Command::Administer(act).by(actor);
        Ok(match self.ask_one(command).await? {
            Reply::Record(record) => Some(*record),
            Reply::Submitted { .. } | Reply::Job(_) | Reply::Reported(_) | Reply::Done => None,
        })
    }

    /// Logs that somebody tried what they may not do.
    ///
    /// # Errors
    /// The store failed.
    pub async fn note_denied(
        &self,
        action: String,
        target: String,
        actor: Actor,
    ) -> Result<(), EngineError> {
        let command = Command::Denied { action, target };
        self.ask_one(command.by(Some(actor))).await.map(drop)
    }

    /// One record.
    ///
    /// # Errors
    /// The store failed.
    pub async fn record(&self, key: &RecordKey) -> Result<Option<Record>, EngineError> {
        Ok(self.shared.store.registry().record(key).await?)
    }

    /// Records of a kind, by id.
    ///
    /// # Errors
    /// The store failed.
    pub async fn records(&self, query: RecordQuery) -> Result<Vec<Record>, EngineError> {
        Ok(self.shared.store.registry().records(query).await?)
    }

    /// A part of the audit log.
    ///
    /// # Errors
    /// The store failed.
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, EngineError> {
        Ok(self.shared.store.registry().audit(query).await?)
    }
}
