//! What is left of removed jobs: tasks and events in a range that a few other jobs keep, and the tombstones that tell of them; and what is too old of the
//! audit log. Taken away in slices, by any
//! node: who finds others at it leaves it to them.

use std::{ops::RangeInclusive, time::Duration};

use deadpool_postgres::ClientWrapper;
use uuid::Uuid;

use super::{
    partitions::{alone, first_id, millis},
    read::{self, as_limit},
    session::{prepared, query},
};
use crate::{
    domain::audit::AUDIT_LIFE,
    store::{StoreError, TOMBSTONE_LIFE, rows::unsigned},
};

/// Tombstones, or records of the audit log, that one statement takes away.
pub(super) const OLD_AT_ONCE: usize = 2_000;
/// Rows that one statement may look at: few, because each that it takes away may have two megabytes; and fewer where even so many last too long.
pub(super) const ROWS_AT_ONCE: RangeInclusive<usize> = 1..=200;
/// Who is at it; whoever makes ranges is not held up by it. "LngHleft".
pub(super) const LOCK: i64 = 0x4c6e_6748_6c65_6674;
/// Never the newest event: it is what cursors go up to.
pub(super) const TIDY: &str = "DELETE FROM removed WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM removed WHERE time < $1 ORDER BY time LIMIT $2 FOR UPDATE SKIP LOCKED))
    AND xid < (SELECT greatest((SELECT max(xid) FROM events), (SELECT max(xid) FROM removed)))";
/// The log has no end that anything hangs on.
pub(super) const TIDY_AUDIT: &str = "DELETE FROM audit WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM audit WHERE time < $1 ORDER BY time, id LIMIT $2 FOR UPDATE SKIP LOCKED))";
/// The first range at or behind a place, if its time is over.
const RANGE: &str =
    "SELECT name, high FROM partitions WHERE high < $1 AND high >= $2 ORDER BY high LIMIT 1";
/// Where rows are left, and what counts within a job there.
const TABLES: [(&str, &str); 2] = [("tasks", "ordinal"), ("events", "revision")];

/// Takes away tombstones that have told everybody, by the database's clock; answers how many those were.
pub(super) async fn tidy(client: &ClientWrapper) -> Result<usize, StoreError> {
    remove_old(client, TIDY, TOMBSTONE_LIFE).await
}

/// The same of the audit log.
pub(super) async fn tidy_audit(client: &ClientWrapper) -> Result<usize, StoreError> {
    remove_old(client, TIDY_AUDIT, AUDIT_LIFE).await
}

async fn remove_old(
    client: &ClientWrapper,
    sql: &str,
    life: Duration,
) -> Result<usize, StoreError> {
    let before = read::clock(client).await?.before(life).as_micros();
    let statement = prepared(client, sql).await?;
    let parameters = [&before as _, &as_limit(OLD_AT_ONCE) as _];
    let removed = client.execute(&statement, &parameters).await?;
    Ok(usize::try_from(removed).unwrap_or(usize::MAX))
}

/// How far the ranges have been looked through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the range ends.
    high: Uuid,
    /// Which of [`TABLES`].
    table: usize,
    /// The last row; none at the beginning of a table.
    row: Option<(String, Uuid, i64)>,
}

/// What came of a slice.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slice {
    /// So many rows went; the rest is behind this place.
    GoOn { removed: u64, next: Place },
    /// Behind the place there is nothing.
    Over,
    /// Others are at it.
    Elsewhere,
}

/// Takes away what some rows have left behind of jobs that are gone, in ranges that ended so long ago: there all jobs but such as take longer are over. No
/// job comes to be there any more, and none that is gone comes back.
pub(super) async fn remove(
    client: &ClientWrapper,
    kept: Duration,
    from: Place,
    rows: usize,
) -> Result<Slice, StoreError> {
    let slice = alone(client, LOCK, async |now| {
        let past = first_id(now.saturating_sub(millis(kept)));
        let ranges = query(client, RANGE, &[&past, &from.high]).await?;
        let Some(range) = ranges.first() else {
            return Ok(Slice::Over);
        };
        let (name, high): (&str, Uuid) = (range.try_get(0)?, range.try_get(1)?);
        let mut place = if high == from.high {
            from
        } else {
            Place {
                high,
                ..Place::default()
            }
        };
        let sql = statement(name, place.table);
        let (tenant, job, number) = place
            .row
            .clone()
            .unwrap_or((String::new(), Uuid::nil(), -1));
        let rows = as_limit(rows);
        let parameters = [&tenant as _, &job as _, &number as _, &rows as _];
        let last = client.query_opt(&sql, &parameters).await?;
        let (mut looked, mut removed) = (0, 0);
        if let Some(last) = &last {
            looked = last.try_get(3)?;
            removed = unsigned("count", last.try_get(4)?)?;
            place.row = Some((last.try_get(0)?, last.try_get(1)?, last.try_get(2)?));
        }
        let next = if looked == rows {
            place
        } else {
            place.behind_table()
        };
        Ok(Slice::GoOn { removed, next })
    })
    .await?;
    Ok(slice.unwrap_or(Slice::Elsewhere))
}

impl Place {
    /// The beginning of the next table, which may be the next range's.
    fn behind_table(self) -> Self {
        let table = self.table + 1;
        if table < TABLES.len() {
            return Self {
                table,
                row: None,
                ..self
            };
        }
        Self {
            high: Uuid::from_u128(self.high.as_u128().saturating_add(1)),
            ..Self::default()
        }
    }
}

/// Looks at rows in the order of their keys. One snapshot sees them and their jobs, so none is taken for left behind that is being written.
pub(super) fn statement(range: &str, table: usize) -> String {
    let (table, number) = TABLES[table];
    format!(
        "WITH looked AS MATERIALIZED (
            SELECT t.ctid AS at, t.tenant, t.job, t.{number}::bigint AS number, j.is_there IS NULL AS is_left
            FROM (
                SELECT ctid, tenant, job, {number} FROM {table}_{range} AS t
                WHERE (t.tenant, t.job, t.{number}) > ($1::text, $2::uuid, $3::bigint) ORDER BY t.tenant, t.job, t.{number} LIMIT $4::bigint
            ) AS t LEFT JOIN LATERAL (
                SELECT true AS is_there FROM jobs_{range} AS j WHERE j.tenant = t.tenant AND j.id = t.job LIMIT 1
            ) AS j ON true
        ), removed AS (
            DELETE FROM {table}_{range} WHERE ctid = ANY (ARRAY(SELECT l.at FROM looked AS l WHERE l.is_left)) RETURNING 1
        )
        SELECT l.tenant, l.job, l.number, (SELECT count(*) FROM looked), (SELECT count(*) FROM removed)
        FROM looked AS l ORDER BY l.tenant DESC, l.job DESC, l.number DESC LIMIT 1"
    )
}
