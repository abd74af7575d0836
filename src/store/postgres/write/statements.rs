//! The statements of a commit, each for all rows of a kind. What finds fewer rows than it must raises an error: others are on their way behind it.

pub(crate) const DELETE_JOBS: &str = "WITH gone AS (
        DELETE FROM jobs AS j USING unnest($1::text[], $2::uuid[], $3::bigint[]) AS k(tenant, id, revision)
        WHERE j.tenant = k.tenant AND j.id = k.id AND j.revision = k.revision AND j.xid < (SELECT pg_current_xact_id()::text::bigint)
        RETURNING 1
    ) SELECT longhaul_expect(count(*), $4) FROM gone";
pub(crate) const UPDATE_JOBS: &str = "WITH changed AS (
        UPDATE jobs AS j SET revision = k.revision,
            xid = CASE WHEN k.revision = k.before THEN j.xid ELSE (SELECT pg_current_xact_id()::text::bigint) END, state = k.state, status = k.status,
            timer = k.timer, start_time = k.start_time, update_time = k.update_time, end_time = k.end_time, expire_time = k.expire_time, rest = k.rest
        FROM unnest($1::text[], $2::uuid[], $3::bigint[], $5::bigint[], $6::smallint[], $7::smallint[], $8::bigint[], $9::bigint[], $10::bigint[],
                $11::bigint[], $12::bigint[], $13::bytea[])
            AS k(tenant, id, before, revision, state, status, timer, start_time, update_time, end_time, expire_time, rest)
        WHERE j.tenant = k.tenant AND j.id = k.id AND j.revision = k.before AND j.xid < (SELECT pg_current_xact_id()::text::bigint)
        RETURNING 1
    ) SELECT longhaul_expect(count(*), $4) FROM changed";
pub(crate) const INSERT_JOBS: &str = "INSERT INTO jobs (
        xid, tenant, id, revision, state, status, timer, start_time, update_time, end_time, expire_time, rest,
        parent, priority, create_time, action, summary, creator, object_type, object_id, object_name, labels, spec)
    SELECT (SELECT pg_current_xact_id()::text::bigint), k.tenant, k.id, k.revision, k.state, k.status, k.timer, k.start_time, k.update_time,
        k.end_time, k.expire_time, k.rest, k.parent, k.priority, k.create_time, k.action, k.summary, k.creator, k.object_type, k.object_id,
        k.object_name, k.labels::jsonb, k.spec
    FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::smallint[], $5::smallint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
            $10::bigint[], $11::bytea[], $12::uuid[], $13::integer[], $14::bigint[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[],
            $20::text[], $21::text[], $22::bytea[])
        AS k(tenant, id, revision, state, status, timer, start_time, update_time, end_time, expire_time, rest,
            parent, priority, create_time, action, summary, creator, object_type, object_id, object_name, labels, spec)";
pub(crate) const DELETE_TASKS: &str =
    "DELETE FROM tasks AS t USING unnest($1::text[], $2::uuid[]) AS k(tenant, job)
    WHERE t.tenant = k.tenant AND t.job = k.job";
/// A result, once written, stays as it is, and a task without one has none to clear: see [`WriteKind::Update`].
pub(crate) const UPDATE_TASKS: &str = "WITH changed AS (
        UPDATE tasks AS t SET ready_time = k.ready_time, rest = k.rest, result = coalesce(t.result, k.result)
        FROM unnest($1::text[], $2::uuid[], $3::integer[], $5::bigint[], $6::bytea[], $7::bytea[])
            AS k(tenant, job, ordinal, ready_time, rest, result)
        WHERE t.tenant = k.tenant AND t.job = k.job AND t.ordinal = k.ordinal
        RETURNING 1
    ) SELECT longhaul_expect(count(*), $4) FROM changed";
pub(crate) const INSERT_TASKS: &str = "INSERT INTO tasks (tenant, job, ordinal, ready_time, rest, driver, spec, payload, result, secrets)
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::bigint[], $5::bytea[], $6::text[], $7::bytea[], $8::bytea[], $9::bytea[],
        $10::bytea[])";
/// Of tasks that have ended; few have any, so it is no part of each update.
pub(crate) const ERASE_SECRETS: &str = "UPDATE tasks AS t SET secrets = '' FROM unnest($1::text[], $2::uuid[], $3::integer[]) AS k(tenant, job, ordinal)
    WHERE t.tenant = k.tenant AND t.job = k.job AND t.ordinal = k.ordinal AND t.secrets <> ''";
pub(crate) const DELETE_READY_OF_JOBS: &str =
    "DELETE FROM ready_tasks AS t USING unnest($1::text[], $2::uuid[]) AS k(tenant, job)
    WHERE t.tenant = k.tenant AND t.job = k.job";
pub(crate) const DELETE_READY: &str = "DELETE FROM ready_tasks AS t USING unnest($1::text[], $2::uuid[], $3::integer[]) AS k(tenant, job, ordinal)
    WHERE t.tenant = k.tenant AND t.job = k.job AND t.ordinal = k.ordinal";
/// A task that was ready before may have become so anew.
pub(crate) const INSERT_READY: &str = "INSERT INTO ready_tasks (tenant, job, ordinal, ready_time, priority, driver)
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::bigint[], $5::integer[], $6::text[])
    ON CONFLICT (tenant, job, ordinal) DO UPDATE SET ready_time = excluded.ready_time WHERE ready_tasks.ready_time <> excluded.ready_time";
pub(crate) const DELETE_EVENTS: &str =
    "DELETE FROM events AS e USING unnest($1::text[], $2::uuid[]) AS k(tenant, job)
    WHERE e.tenant = k.tenant AND e.job = k.job";
pub(crate) const INSERT_EVENTS: &str = "INSERT INTO events (xid, tenant, job, revision, time, n, kind, rest)
    SELECT (SELECT pg_current_xact_id()::text::bigint), k.*
    FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::bigint[], $5::integer[], $6::smallint[], $7::bytea[]) AS k";
pub(crate) const INSERT_REMOVED: &str = "INSERT INTO removed (xid, tenant, job, revision, time, n, kind, rest)
    SELECT (SELECT pg_current_xact_id()::text::bigint), k.*
    FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::bigint[], $5::integer[], $6::smallint[], $7::bytea[]) AS k";
/// A request id is stored with the job that it made and no other, so there is no more than this one.
pub(crate) const DELETE_REQUESTS: &str = "DELETE FROM request_ids AS r USING unnest($1::text[], $2::uuid[], $3::text[]) AS k(tenant, job, id)
    WHERE r.tenant = k.tenant AND r.id = k.id AND r.job = k.job";
/// One that somebody else has stored meanwhile ends the transaction; tried again, it finds their job.
pub(crate) const INSERT_REQUESTS: &str = "INSERT INTO request_ids (tenant, id, job, fingerprint)
    SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bytea[])";
pub(crate) const ADD_COUNTS: &str = "INSERT INTO counters (tenant, driver, state, status, count, shard)
    SELECT k.*, $6::smallint FROM unnest($1::text[], $2::text[], $3::smallint[], $4::smallint[], $5::bigint[]) AS k
    ON CONFLICT (tenant, driver, state, status, shard) DO UPDATE SET count = counters.count + excluded.count";
pub(crate) const RESUME_DRIVERS: &str = "DELETE FROM paused_drivers WHERE driver = ANY($1::text[])";
pub(crate) const PAUSE_DRIVERS: &str = "INSERT INTO paused_drivers (driver, since, reason)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])
    ON CONFLICT (driver) DO UPDATE SET since = excluded.since, reason = excluded.reason";
