//! What is kept beside the jobs: tenants and credentials, and the audit log.

use async_trait::async_trait;
use uuid::Uuid;

use super::StoreError;
use crate::domain::{
    Tenant, Timestamp,
    audit::AuditRecord,
    registry::{Record, RecordKey, RecordKind},
};

/// Records to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordQuery {
    /// Of what kind.
    pub kind: RecordKind,
    /// Whose; `None` is everybody's.
    pub tenant: Option<Tenant>,
    /// Behind which id.
    pub after: Option<String>,
    /// How many at the most.
    pub limit: usize,
}

/// Where in the audit log a record stands: by time, then id.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct AuditPosition {
    /// When.
    pub time: Timestamp,
    /// Its id.
    pub id: Uuid,
}

/// A part of the audit log to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Whose matters; `None` is everybody's.
    pub tenant: Option<Tenant>,
    /// Newest first.
    pub descending: bool,
    /// Behind this place, in the order that is asked for. Nodes write at the same time: what is committed later may stand before what was read.
    pub after: Option<AuditPosition>,
    /// How many at the most.
    pub limit: usize,
}

/// Reads. What was committed before is seen.
#[async_trait]
pub trait Registry: Send + Sync {
    /// One record.
    async fn record(&self, key: &RecordKey) -> Result<Option<Record>, StoreError>;
    /// Records of a kind, by id.
    async fn records(&self, query: RecordQuery) -> Result<Vec<Record>, StoreError>;
    /// A part of the audit log.
    async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, StoreError>;
}

impl AuditPosition {
    /// Before all records.
    pub(super) const FIRST: Self = Self {
        time: Timestamp::from_micros(i64::MIN),
        id: Uuid::nil(),
    };
    /// Behind all records.
    pub(super) const LAST: Self = Self {
        time: Timestamp::from_micros(i64::MAX),
        id: Uuid::max(),
    };

    /// Where a record stands.
    pub fn of(record: &AuditRecord) -> Self {
        Self {
            time: record.time,
            id: record.id,
        }
    }
}
