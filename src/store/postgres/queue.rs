//! The queue: which tasks may be taken, and how many come before one.

use std::sync::LazyLock;

use deadpool_postgres::ClientWrapper;

use super::{
    columns::{Cells, bytes_of},
    read::as_limit,
    session::{query, query_one},
};
use crate::{
    domain::{JobId, JobKey, Tenant, Timestamp, command::ReadyTask, limits::MAX_GRANT_BYTES},
    store::{MAX_COUNTED_BEFORE, MAX_TENANTS_PER_CLAIM, Ready, StoreError, Whose, rows::unsigned},
};

/// Whose turn it is: hops from one tenant with ready tasks to the next, however long their queues; first those behind the one that was served last, then
/// round to it. Of each no more tasks than are wanted, and of all together twice as many: some are taken by others meanwhile. They are locked by their
/// jobs, in the order of the turns; what others have locked is left to them.
///
/// The first two columns tell whether there is more: tasks whose turn did not come, and such as others had locked and may let go. The third tells whether
/// the driver is paused.
///
/// A hop compares driver and tenant together: only the index of the turns is in that order, and none else will do, whatever the table is like.
///
/// Their jobs are loaded as they are, with all tasks and documents. What has no room for that waits for its turn too; the first one always has.
pub(super) static READY: LazyLock<String> = LazyLock::new(|| ready_of(ROUND));
/// The same where one tenant alone takes part, whose tasks are wanted.
pub(super) static READY_OF_ONE: LazyLock<String> = LazyLock::new(|| ready_of(ROUND_OF_ONE));
/// The tenants that take part, in turns behind $2.
const ROUND: &str = "ahead(tenant, turn) AS (
        SELECT n.tenant, 1::bigint FROM (
            SELECT r.driver, r.tenant FROM ready_tasks AS r WHERE (r.driver, r.tenant) > ($1, $2) ORDER BY r.driver, r.tenant LIMIT 1
        ) AS n WHERE n.driver = $1
        UNION ALL
        SELECT n.tenant, a.turn + 1 FROM ahead AS a CROSS JOIN LATERAL (
            SELECT r.driver, r.tenant FROM ready_tasks AS r WHERE (r.driver, r.tenant) > ($1, a.tenant) ORDER BY r.driver, r.tenant LIMIT 1
        ) AS n WHERE a.turn <= $4::bigint AND n.driver = $1
    ),
    behind(tenant, turn) AS (
        SELECT n.tenant, 1::bigint FROM (
            SELECT r.driver, r.tenant FROM ready_tasks AS r WHERE (r.driver, r.tenant) >= ($1, '') ORDER BY r.driver, r.tenant LIMIT 1
        ) AS n WHERE n.driver = $1 AND n.tenant <= $2
        UNION ALL
        SELECT n.tenant, b.turn + 1 FROM behind AS b CROSS JOIN LATERAL (
            SELECT r.driver, r.tenant FROM ready_tasks AS r WHERE (r.driver, r.tenant) > ($1, b.tenant) ORDER BY r.driver, r.tenant LIMIT 1
        ) AS n WHERE b.turn <= $4::bigint AND n.driver = $1 AND n.tenant <= $2
    ),
    round AS MATERIALIZED (
        SELECT tenant, row_number() OVER (ORDER BY part, turn) AS turn
        FROM (SELECT tenant, 0 AS part, turn FROM ahead UNION ALL SELECT tenant, 1, turn FROM behind) AS t
        WHERE NOT (SELECT is_paused FROM pause)
        ORDER BY part, turn LIMIT $4::bigint + 1
    )";
const ROUND_OF_ONE: &str = "round AS MATERIALIZED (SELECT $2::text AS tenant, 1::bigint AS turn WHERE NOT (SELECT is_paused FROM pause))";

fn ready_of(round: &str) -> String {
    let bytes = bytes_of("c.tenant", "c.job");
    format!(
        "WITH RECURSIVE
    pause(is_paused) AS MATERIALIZED (SELECT EXISTS (SELECT FROM paused_drivers AS p WHERE p.driver = $1)),
    {round},
    share AS MATERIALIZED (
        SELECT least($3::bigint, greatest($5::bigint, 2 * $3::bigint / greatest(count(*), 1))) AS most, count(*) AS tenants FROM round
    ),
    found AS MATERIALIZED (
        SELECT t.turn, r.*, row_number() OVER (PARTITION BY t.turn ORDER BY r.priority DESC, r.ready_time, r.job, r.ordinal) AS place
        FROM round AS t CROSS JOIN LATERAL (
            SELECT * FROM ready_tasks AS q WHERE q.driver = $1 AND q.tenant = t.tenant
            ORDER BY q.priority DESC, q.ready_time, q.job, q.ordinal LIMIT (SELECT most + 1 FROM share)
        ) AS r
        WHERE t.turn <= $4::bigint
    ),
    chosen AS MATERIALIZED (
        SELECT f.* FROM found AS f WHERE f.place <= (SELECT most FROM share)
        ORDER BY f.place, f.turn LIMIT (SELECT greatest(2 * $3::bigint, tenants) FROM share)
    ),
    sized AS MATERIALIZED (
        SELECT c.*, coalesce(sum(c.bytes) OVER (ORDER BY c.place, c.turn ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
        FROM (
            SELECT c.*, CASE WHEN c.of_job = 1 THEN {bytes} ELSE 0 END AS bytes
            FROM (SELECT c.*, row_number() OVER (PARTITION BY c.tenant, c.job ORDER BY c.place, c.turn) AS of_job FROM chosen AS c) AS c
        ) AS c
    ),
    fitting AS MATERIALIZED (SELECT z.* FROM sized AS z WHERE z.before < $6::bigint),
    locked AS MATERIALIZED (
        SELECT c.* FROM fitting AS c JOIN jobs AS j ON j.tenant = c.tenant AND j.id = c.job
        ORDER BY c.place, c.turn FOR UPDATE OF j SKIP LOCKED
    )
    SELECT (SELECT count(*) FROM found) > (SELECT count(*) FROM fitting) OR (SELECT tenants FROM share) > $4::bigint,
        (SELECT count(*) FROM fitting) > (SELECT count(*) FROM locked),
        (SELECT is_paused FROM pause),
        l.tenant, l.job, l.ordinal, l.priority, l.ready_time
    FROM (SELECT) AS one LEFT JOIN locked AS l ON true ORDER BY l.turn, l.place"
    )
}

/// Bytes of jobs of one driver that a claim locks and loads, besides the last one: what several workers are given at once.
const MAX_CLAIM_BYTES: usize = 4 * MAX_GRANT_BYTES;
/// Tasks of a tenant that are looked at however many tenants take part, so that one with a long queue among many with short ones is not held up.
const LEAST_SHARE: i64 = 64;
pub(super) const QUEUED_BEFORE: &str = "SELECT count(*) FROM (
    SELECT 1 FROM ready_tasks
    WHERE driver = $1 AND tenant = $2 AND priority >= $3
    AND (priority > $3 OR (ready_time, job, ordinal) < ($4, $5, $6))
    LIMIT $7) AS ahead";

/// Tasks that may be taken, and are locked by their jobs: see [`crate::store::Writer::ready`].
pub(super) async fn ready(
    client: &ClientWrapper,
    driver: &str,
    whose: Whose<'_>,
    limit: usize,
) -> Result<Ready, StoreError> {
    let (sql, tenant) = match whose {
        Whose::One(tenant) => (&READY_OF_ONE, tenant.0.as_ref()),
        Whose::All { served } => (&READY, served.map_or("", |tenant| tenant.0.as_ref())),
    };
    let limit = as_limit(limit).min(i64::from(u32::MAX));
    let tenants = as_limit(MAX_TENANTS_PER_CLAIM);
    let parameters = [
        &driver as _,
        &tenant as _,
        &limit as _,
        &tenants as _,
        &LEAST_SHARE as _,
        &as_limit(MAX_CLAIM_BYTES) as _,
    ];
    let mut ready = Ready::default();
    for row in query(client, sql, &parameters).await? {
        let mut cells = Cells::of(&row, 0);
        let (is_left, is_locked) = (cells.next::<bool>()?, cells.next::<bool>()?);
        ready.more = is_left || is_locked;
        ready.is_paused = cells.next()?;
        let Some(tenant) = cells.next::<Option<&str>>()? else {
            continue;
        };
        ready.tasks.push(ReadyTask {
            key: JobKey {
                tenant: Tenant::new(tenant),
                job: JobId(cells.next()?),
            },
            ordinal: unsigned("ordinal", cells.next::<i32>()?.into())?,
            priority: cells.next()?,
            ready_time: Timestamp::from_micros(cells.next()?),
        });
    }
    Ok(ready)
}

/// How many tasks of a driver come before this one, within its tenant.
pub(super) async fn queued_before(
    client: &ClientWrapper,
    driver: &str,
    task: &ReadyTask,
) -> Result<u64, StoreError> {
    let ordinal = i32::try_from(task.ordinal).unwrap_or(i32::MAX);
    let row = query_one(
        client,
        QUEUED_BEFORE,
        &[
            &driver,
            &task.key.tenant.0.as_ref(),
            &task.priority,
            &task.ready_time.as_micros(),
            &task.key.job.0,
            &ordinal,
            &as_limit(MAX_COUNTED_BEFORE),
        ],
    )
    .await?;
    Ok(unsigned("count", row.try_get(0)?)?)
}
