//! Tenants, credentials and the audit log.

use std::sync::LazyLock;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    PostgresStore,
    columns::Cells,
    read::as_limit,
    session::query,
    write::{Parameter, Step, column, small},
};
use crate::{
    domain::{
        audit::AuditRecord,
        command::{Changes, RecordWrite},
        registry::{Record, RecordKey},
    },
    store::{
        AuditPosition, AuditQuery, RecordQuery, Registry, StoreError,
        rows::{AuditRow, Coded as _, RecordRow, number},
    },
};

const RECORD_COLUMNS: &str = "r.kind, r.id, r.tenant, r.revision, r.body";
const AUDIT_COLUMNS: &str =
    "time, id, tenant, actor, actor_tenant, address, request_id, action, target, outcome, detail";

pub(super) static SOME: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {RECORD_COLUMNS} FROM unnest($1::smallint[], $2::text[]) AS k(kind, id)
         JOIN records AS r ON r.kind = k.kind AND r.id = k.id ORDER BY r.kind, r.id"
    )
});
/// In the order in which everybody locks, so that nobody waits in a circle.
pub(super) static LOCK: LazyLock<String> = LazyLock::new(|| format!("{} FOR UPDATE OF r", *SOME));
pub(super) static PAGE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {RECORD_COLUMNS} FROM records AS r WHERE r.kind = $1 AND r.id > $2 ORDER BY r.id LIMIT $3"
    )
});
pub(super) static PAGE_OF_TENANT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {RECORD_COLUMNS} FROM records AS r WHERE r.kind = $1 AND r.tenant = $4 AND r.id > $2 ORDER BY r.id LIMIT $3"
    )
});
pub(super) const UPDATE: &str = "WITH changed AS (
        UPDATE records AS r SET tenant = k.tenant, revision = k.revision, body = k.body
        FROM unnest($1::smallint[], $2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::bigint[]) AS k(kind, id, tenant, revision, body, before)
        WHERE r.kind = k.kind AND r.id = k.id AND r.revision = k.before
        RETURNING 1
    ) SELECT longhaul_expect(count(*), $7) FROM changed";
/// One that somebody else has made meanwhile ends the transaction; tried again, it finds theirs.
const INSERT: &str = "INSERT INTO records (kind, id, tenant, revision, body)
    SELECT * FROM unnest($1::smallint[], $2::text[], $3::text[], $4::bigint[], $5::bytea[])";

/// Oldest first, and newest first.
pub(super) static AUDIT: LazyLock<[String; 2]> = LazyLock::new(|| {
    [(">", "ASC"), ("<", "DESC")].map(|(behind, order)| {
        format!(
            "SELECT {AUDIT_COLUMNS} FROM audit WHERE (time, id) {behind} ($1, $2)
             ORDER BY time {order}, id {order} LIMIT $3"
        )
    })
});
/// The tenant's own, as a range of the key: said with `=`, the index of all tenants' would do as well, and a thousand others might stand before one.
pub(super) static AUDIT_OF_TENANT: LazyLock<[String; 2]> = LazyLock::new(|| {
    [(">", "<=", "ASC"), ("<", ">=", "DESC")].map(|(behind, until, order)| {
        format!(
            "SELECT {AUDIT_COLUMNS} FROM audit WHERE (tenant, time, id) {behind} ($4, $1, $2) AND tenant {until} $4
             ORDER BY tenant {order}, time {order}, id {order} LIMIT $3"
        )
    })
});
const INSERT_AUDIT: &str = "INSERT INTO audit
        (time, id, tenant, actor, actor_tenant, address, request_id, action, target, outcome, detail)
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::smallint[],
        $11::text[])";

#[async_trait]
impl Registry for PostgresStore {
    async fn record(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let key = [key.clone()];
        let found = self
            .read(move |client| Box::pin(async move { some(client, &SOME, &key).await }))
            .await?;
        Ok(found.into_iter().next())
    }

    async fn records(&self, query: RecordQuery) -> Result<Vec<Record>, StoreError> {
        self.read(move |client| Box::pin(async move { page(client, &query).await }))
            .await
    }

    async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        self.read(move |client| Box::pin(async move { audit(client, &query).await }))
            .await
    }
}

/// The records that are stored, of those asked for; nobody else changes them until the end of the transaction.
pub(super) async fn lock(
    client: &ClientWrapper,
    keys: &[RecordKey],
) -> Result<Vec<Record>, StoreError> {
    some(client, &LOCK, keys).await
}

async fn some(
    client: &ClientWrapper,
    sql: &str,
    keys: &[RecordKey],
) -> Result<Vec<Record>, StoreError> {
    let keys = keys.iter().map(|key| (small(key.kind.code()), &*key.id));
    let (kinds, ids): (Vec<i16>, Vec<&str>) = keys.unzip();
    let rows = query(client, sql, &[&kinds, &ids]).await?;
    rows.iter().map(record).collect()
}

async fn page(client: &ClientWrapper, of: &RecordQuery) -> Result<Vec<Record>, StoreError> {
    let after = of.after.as_deref().unwrap_or("");
    let (kind, limit) = (small(of.kind.code()), as_limit(of.limit));
    let rows = match &of.tenant {
        None => query(client, &PAGE, &[&kind, &after, &limit]).await?,
        Some(tenant) => {
            let tenant = tenant.0.as_ref();
            query(client, &PAGE_OF_TENANT, &[&kind, &after, &limit, &tenant]).await?
        }
    };
    rows.iter().map(record).collect()
}

fn record(row: &Row) -> Result<Record, StoreError> {
    let mut cells = Cells::of(row, 0);
    let row = RecordRow {
        kind: cells.number()?,
        id: cells.text()?,
        tenant: cells.text()?,
        revision: cells.next()?,
        body: cells.next()?,
    };
    Ok(row.record()?)
}

async fn audit(client: &ClientWrapper, of: &AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
    let after = of.after.unwrap_or(match of.descending {
        false => AuditPosition::FIRST,
        true => AuditPosition::LAST,
    });
    let (time, id, limit) = (after.time.as_micros(), after.id, as_limit(of.limit));
    let way = usize::from(of.descending);
    let rows = match &of.tenant {
        None => query(client, &AUDIT[way], &[&time, &id, &limit]).await?,
        Some(tenant) => {
            let tenant = tenant.0.as_ref();
            let parameters = [&time as _, &id as _, &limit as _, &tenant as _];
            query(client, &AUDIT_OF_TENANT[way], &parameters).await?
        }
    };
    rows.iter().map(entry).collect()
}

fn entry(row: &Row) -> Result<AuditRecord, StoreError> {
    let mut cells = Cells::of(row, 0);
    let row = AuditRow {
        time: cells.next()?,
        id: cells.next::<Uuid>()?.into_bytes(),
        tenant: cells.text()?,
        actor: cells.text()?,
        actor_tenant: cells.text()?,
        address: cells.text()?,
        request_id: cells.text()?,
        action: cells.text()?,
        target: cells.text()?,
        outcome: cells.number()?,
        detail: cells.text()?,
    };
    Ok(row.record()?)
}

/// What writes the records of a batch: those that were there before, and those that were not, each in the order in which everybody does.
pub(super) fn write_records<'a>(steps: &mut Vec<Step<'a>>, changes: &'a Changes) {
    let mut writes: Vec<&RecordWrite> = changes.records.iter().collect();
    writes.sort_by_cached_key(|write| write.record.key());
    let (new, changed): (Vec<_>, Vec<_>) = writes.into_iter().partition(|write| write.before == 0);
    if !changed.is_empty() {
        let mut parameters = columns_of(&changed);
        parameters.extend([
            column(changed.iter().map(|write| number(write.before))),
            Box::new(number(changed.len() as u64)) as Parameter<'a>,
        ]);
        steps.push(Step {
            sql: UPDATE,
            parameters,
        });
    }
    if !new.is_empty() {
        steps.push(Step {
            sql: INSERT,
            parameters: columns_of(&new),
        });
    }
}

fn columns_of<'a>(writes: &[&'a RecordWrite]) -> Vec<Parameter<'a>> {
    let rows = writes.iter().map(|write| RecordRow::of(&write.record));
    let rows: Vec<RecordRow<'a>> = rows.collect();
    vec![
        column(rows.iter().map(|row| small(row.kind))),
        column(rows.iter().map(|row| row.id.to_string())),
        column(rows.iter().map(|row| row.tenant.to_string())),
        column(rows.iter().map(|row| row.revision)),
        column(rows.into_iter().map(|row| row.body)),
    ]
}

/// What adds to the audit log.
pub(super) fn write_audit<'a>(steps: &mut Vec<Step<'a>>, changes: &'a Changes) {
    if changes.audit.is_empty() {
        return;
    }
    let rows: Vec<AuditRow<'a>> = changes.audit.iter().map(AuditRow::of).collect();
    let texts = |of: for<'r> fn(&'r AuditRow<'a>) -> &'r str| {
        column(rows.iter().map(|row| of(row).to_owned()))
    };
    steps.push(Step {
        sql: INSERT_AUDIT,
        parameters: vec![
            column(rows.iter().map(|row| row.time)),
            column(rows.iter().map(|row| Uuid::from_bytes(row.id))),
            texts(|row| &row.tenant),
            texts(|row| &row.actor),
            texts(|row| &row.actor_tenant),
            texts(|row| &row.address),
            texts(|row| &row.request_id),
            texts(|row| &row.action),
            texts(|row| &row.target),
            column(rows.iter().map(|row| small(row.outcome))),
            texts(|row| &row.detail),
        ],
    });
}
