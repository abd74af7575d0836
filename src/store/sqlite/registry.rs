//! Tenants, credentials and the audit log.

use std::{borrow::Cow, sync::LazyLock};

use async_trait::async_trait;
use rusqlite::{CachedStatement, Connection, Params, Row, params};

use super::{SqliteStore, read::as_limit};
use crate::{
    domain::{
        Timestamp,
        audit::{AUDIT_LIFE, AuditRecord},
        command::{Changes, RecordWrite},
        registry::{Record, RecordKey},
    },
    store::{
        AuditPosition, AuditQuery, RecordQuery, Registry, StoreError,
        rows::{AuditRow, Coded as _, RecordRow, number},
    },
};

/// Records of the audit log that one idle moment removes.
const OLD_AT_ONCE: usize = 2_000;

const RECORD_COLUMNS: &str = "kind, id, tenant, revision, body";
const AUDIT_COLUMNS: &str =
    "time, id, tenant, actor, actor_tenant, address, request_id, action, target, outcome, detail";

pub(super) static RECORD: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {RECORD_COLUMNS} FROM records WHERE kind = ?1 AND id = ?2"));
pub(super) static RECORDS: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {RECORD_COLUMNS} FROM records WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3")
});
pub(super) static RECORDS_OF_TENANT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {RECORD_COLUMNS} FROM records INDEXED BY records_of_tenant
         WHERE kind = ?1 AND tenant = ?4 AND id > ?2 ORDER BY id LIMIT ?3"
    )
});
const INSERT_RECORD: &str =
    "INSERT INTO records (kind, id, tenant, revision, body) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO NOTHING";
const UPDATE_RECORD: &str = "UPDATE records SET tenant = ?3, revision = ?4, body = ?5
    WHERE kind = ?1 AND id = ?2 AND revision = ?6";

/// Oldest first, and newest first.
pub(super) static AUDIT: LazyLock<[String; 2]> = LazyLock::new(|| audit_statements("audit", ""));
pub(super) static AUDIT_OF_TENANT: LazyLock<[String; 2]> =
    LazyLock::new(|| audit_statements("audit INDEXED BY audit_of_tenant", "tenant = ?4 AND "));
const INSERT_AUDIT: &str = "INSERT INTO audit
    (time, id, tenant, actor, actor_tenant, address, request_id, action, target, outcome, detail)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
pub(super) const TIDY: &str = "DELETE FROM audit WHERE (time, id) IN (
    SELECT time, id FROM audit WHERE time < ?1 ORDER BY time, id LIMIT ?2)";

fn audit_statements(table: &str, of: &str) -> [String; 2] {
    [(">", "ASC"), ("<", "DESC")].map(|(behind, order)| {
        format!(
            "SELECT {AUDIT_COLUMNS} FROM {table} WHERE {of}(time, id) {behind} (?1, ?2)
             ORDER BY time {order}, id {order} LIMIT ?3"
        )
    })
}

#[async_trait]
impl Registry for SqliteStore {
    async fn record(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let key = [key.clone()];
        let found = self.readers.read(move |moment| records(moment, &key));
        Ok(found.await?.pop())
    }

    async fn records(&self, query: RecordQuery) -> Result<Vec<Record>, StoreError> {
        self.readers.read(move |moment| page(moment, &query)).await
    }

    async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        self.readers.read(move |moment| audit(moment, &query)).await
    }
}

/// The records that are stored, of those asked for.
pub(super) fn records(
    connection: &Connection,
    keys: &[RecordKey],
) -> Result<Vec<Record>, StoreError> {
    let mut statement = connection.prepare_cached(&RECORD)?;
    let mut found = Vec::new();
    for RecordKey { kind, id } in keys {
        found.extend(told(&mut statement, params![kind.code(), id])?);
    }
    Ok(found)
}

fn page(connection: &Connection, query: &RecordQuery) -> Result<Vec<Record>, StoreError> {
    let after = query.after.as_deref().unwrap_or("");
    let (kind, limit) = (query.kind.code(), as_limit(query.limit));
    match &query.tenant {
        None => told(
            &mut connection.prepare_cached(&RECORDS)?,
            params![kind, after, limit],
        ),
        Some(tenant) => told(
            &mut connection.prepare_cached(&RECORDS_OF_TENANT)?,
            params![kind, after, limit, tenant.0],
        ),
    }
}

fn told(
    statement: &mut CachedStatement<'_>,
    parameters: impl Params,
) -> Result<Vec<Record>, StoreError> {
    let rows = statement.query_map(parameters, |row| {
        Ok(RecordRow {
            kind: row.get(0)?,
            id: text(row, 1)?,
            tenant: text(row, 2)?,
            revision: row.get(3)?,
            body: row.get(4)?,
        })
    })?;
    rows.map(|row| Ok(row?.record()?)).collect()
}

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Cow<'static, str>> {
    row.get::<_, String>(column).map(Into::into)
}

fn audit(connection: &Connection, query: &AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
    let after = query.after.unwrap_or(match query.descending {
        false => AuditPosition::FIRST,
        true => AuditPosition::LAST,
    });
    let (time, id) = (after.time.as_micros(), after.id.as_bytes());
    let (way, limit) = (usize::from(query.descending), as_limit(query.limit));
    match &query.tenant {
        None => entries(
            &mut connection.prepare_cached(&AUDIT[way])?,
            params![time, id, limit],
        ),
        Some(tenant) => entries(
            &mut connection.prepare_cached(&AUDIT_OF_TENANT[way])?,
            params![time, id, limit, tenant.0],
        ),
    }
}

fn entries(
    statement: &mut CachedStatement<'_>,
    parameters: impl Params,
) -> Result<Vec<AuditRecord>, StoreError> {
    let rows = statement.query_map(parameters, |row| {
        Ok(AuditRow {
            time: row.get(0)?,
            id: row.get(1)?,
            tenant: text(row, 2)?,
            actor: text(row, 3)?,
            actor_tenant: text(row, 4)?,
            address: text(row, 5)?,
            request_id: text(row, 6)?,
            action: text(row, 7)?,
            target: text(row, 8)?,
            outcome: row.get(9)?,
            detail: text(row, 10)?,
        })
    })?;
    rows.map(|row| Ok(row?.record()?)).collect()
}

/// Writes what a batch decided of them.
pub(super) fn write(connection: &Connection, changes: &Changes) -> Result<(), StoreError> {
    for RecordWrite { record, before } in &changes.records {
        let row = RecordRow::of(record);
        let found = match before {
            0 => connection.prepare_cached(INSERT_RECORD)?.execute(params![
                row.kind,
                row.id,
                row.tenant,
                row.revision,
                row.body
            ])?,
            before => connection.prepare_cached(UPDATE_RECORD)?.execute(params![
                row.kind,
                row.id,
                row.tenant,
                row.revision,
                row.body,
                number(*before)
            ])?,
        };
        if found != 1 {
            return Err(StoreError::not_as_read(&record.key()));
        }
    }
    for record in &changes.audit {
        let row = AuditRow::of(record);
        connection.prepare_cached(INSERT_AUDIT)?.execute(params![
            row.time,
            row.id,
            row.tenant,
            row.actor,
            row.actor_tenant,
            row.address,
            row.request_id,
            row.action,
            row.target,
            row.outcome,
            row.detail
        ])?;
    }
    Ok(())
}

/// Takes away what is too old, as far as one moment goes.
pub(super) fn tidy(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    let before = now.before(AUDIT_LIFE).as_micros();
    let mut statement = connection.prepare_cached(TIDY)?;
    statement.execute(params![before, as_limit(OLD_AT_ONCE)])?;
    Ok(())
}
