-- Every key begins with the tenant, so that the tables can be spread over several machines by it; where one can't, it says why.
-- Texts compare byte by byte ("C"), as everywhere else. Times are microseconds since 1970. spec and rest are packed: what no query looks for.
--
-- jobs, tasks and events are cut into ranges of job ids, which begin with the time of creation: finished jobs leave when a whole range is dropped, and
-- leave no holes. The partitions are made by the program, with their settings: see `partitions.rs`.

-- Jobs with everything that is said of them, open or finished. Small rows: payloads and results are with the tasks.
CREATE TABLE jobs (
    tenant text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    -- changed; xid is the transaction that made the newest revision
    xid bigint NOT NULL,
    revision bigint NOT NULL,
    timer bigint,
    start_time bigint,
    update_time bigint NOT NULL,
    end_time bigint,
    expire_time bigint,
    -- never changed
    create_time bigint NOT NULL,
    parent uuid,
    priority integer NOT NULL,
    -- changed
    state smallint NOT NULL,
    status smallint NOT NULL,
    -- never changed
    action text COLLATE "C" NOT NULL,
    summary text COLLATE "C" NOT NULL,
    creator text COLLATE "C" NOT NULL,
    object_type text COLLATE "C",
    object_id text COLLATE "C",
    object_name text COLLATE "C",
    labels jsonb,
    spec bytea NOT NULL,
    -- changed
    rest bytea NOT NULL,
    PRIMARY KEY (tenant, id)
) PARTITION BY RANGE (id);

-- What the sweeper looks at. Without the tenant in front: time is the same for all.
CREATE INDEX jobs_timer ON jobs (timer, tenant, id) WHERE timer IS NOT NULL;
CREATE INDEX jobs_expiring ON jobs (expire_time, tenant, id) WHERE expire_time IS NOT NULL;
-- Lists of open jobs by state (QUEUED, RUNNING, CANCELLING), however many have ended.
CREATE INDEX jobs_open ON jobs (tenant, state, id) WHERE state <= 3;
-- Child jobs; the second one finds those that have not ended, to cancel them.
CREATE INDEX jobs_children ON jobs (tenant, parent, id) WHERE parent IS NOT NULL;
CREATE INDEX jobs_open_children ON jobs (tenant, parent, id) WHERE parent IS NOT NULL AND state <= 3;

-- No index but the key, so that a change of a task touches no index.
CREATE TABLE tasks (
    tenant text COLLATE "C" NOT NULL,
    job uuid NOT NULL,
    -- set exactly while the task may be taken; then it is in ready_tasks as well
    ready_time bigint,
    ordinal integer NOT NULL,
    driver text COLLATE "C" NOT NULL,
    spec bytea NOT NULL,
    rest bytea NOT NULL,
    payload bytea,
    result bytea,
    PRIMARY KEY (tenant, job, ordinal)
) PARTITION BY RANGE (job);

-- The queue: exactly the tasks that may be taken. Small and hot, and gone when they are.
CREATE TABLE ready_tasks (
    tenant text COLLATE "C" NOT NULL,
    job uuid NOT NULL,
    ready_time bigint NOT NULL,
    ordinal integer NOT NULL,
    priority integer NOT NULL,
    driver text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, job, ordinal)
) WITH (
    -- As many rows die as are written: taking them away late makes the head of the queue long, however short the queue is.
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05
);
-- The order in which they are taken. By driver first: a turn goes round all tenants that have something for it.
CREATE INDEX ready_tasks_turns ON ready_tasks (driver, tenant, priority DESC, ready_time, job, ordinal);

-- The feed: every committed change, kept as long as its job. xid is the transaction that made it, n counts in it.
CREATE TABLE events (
    tenant text COLLATE "C" NOT NULL,
    job uuid NOT NULL,
    revision bigint NOT NULL,
    xid bigint NOT NULL,
    time bigint NOT NULL,
    n integer NOT NULL,
    kind smallint NOT NULL,
    rest bytea NOT NULL,
    PRIMARY KEY (tenant, job, revision)
) PARTITION BY RANGE (job);
-- Without the tenant: a node follows all of them at once.
CREATE INDEX events_feed ON events (xid, n);

-- What is left of removed jobs for a day: the event that says so.
CREATE TABLE removed (
    tenant text COLLATE "C" NOT NULL,
    job uuid NOT NULL,
    revision bigint NOT NULL,
    xid bigint NOT NULL,
    time bigint NOT NULL,
    n integer NOT NULL,
    kind smallint NOT NULL,
    rest bytea NOT NULL,
    PRIMARY KEY (tenant, job, revision)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX removed_feed ON removed (xid, n);
-- Oldest first.
CREATE INDEX removed_time ON removed (time);

CREATE VIEW feed AS
    SELECT tenant, job, revision, xid, time, n, kind, rest FROM events
    UNION ALL
    SELECT tenant, job, revision, xid, time, n, kind, rest FROM removed;

CREATE TABLE request_ids (
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    job uuid NOT NULL,
    fingerprint bytea NOT NULL,
    PRIMARY KEY (tenant, id)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);

-- How many jobs (driver '') and tasks (status 0) are in each state: the sum over the shards. Each node adds to a shard of its own, so that none waits
-- for another, and may take below 0 there what was added elsewhere.
CREATE TABLE counters (
    tenant text COLLATE "C" NOT NULL,
    driver text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    state smallint NOT NULL,
    status smallint NOT NULL,
    shard smallint NOT NULL,
    PRIMARY KEY (tenant, driver, state, status, shard)
) WITH (
    -- Few rows, changed by every commit: each page needs room for the next version, and looks at the dead ones until they are taken away.
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0
);

-- Without the tenant: a driver is the operator's matter.
CREATE TABLE paused_drivers (
    driver text COLLATE "C" PRIMARY KEY,
    since bigint NOT NULL,
    reason text NOT NULL
);

-- The ranges of job ids that there are (without the tenant, like the next one), from `low` (NULL: from the beginning) up to but without `high`, and what their tables end with.
CREATE TABLE partitions (
    name text COLLATE "C" PRIMARY KEY,
    low uuid,
    high uuid NOT NULL
);

CREATE TABLE meta (
    key text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);
-- The oldest schema whose programs can work with this one.
INSERT INTO meta (key, value) VALUES ('oldest_program', '1');

-- Part of statements of which others are sent behind without waiting: what found fewer rows than it must ends the transaction.
CREATE FUNCTION longhaul_expect(changed bigint, expected bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF changed <> expected THEN
        RAISE EXCEPTION 'found % rows where % were expected', changed, expected USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN true;
END
$$;
