-- Jobs with everything that is said of them, open or finished. Small rows: payloads and results are with the tasks, or in documents.
-- spec and rest are packed: what no query looks for.
CREATE TABLE jobs (
    tenant TEXT NOT NULL,
    id BLOB NOT NULL,
    -- changed
    state INTEGER NOT NULL,
    status INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    timer INTEGER,
    update_time INTEGER NOT NULL,
    expire_time INTEGER,
    rest BLOB NOT NULL,
    -- never changed
    parent BLOB,
    priority INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    action TEXT NOT NULL,
    creator TEXT NOT NULL,
    object_type TEXT,
    object_id TEXT,
    object_name TEXT,
    -- a JSON object
    labels TEXT,
    spec BLOB NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

-- What the sweeper looks at.
CREATE INDEX jobs_timer ON jobs (timer) WHERE timer IS NOT NULL;
CREATE INDEX jobs_expiring ON jobs (expire_time) WHERE expire_time IS NOT NULL;
-- Lists of open jobs by state (QUEUED, RUNNING, CANCELLING), however many have ended.
CREATE INDEX jobs_open ON jobs (tenant, state, id) WHERE state <= 3;
-- Child jobs; the second one finds those that have not ended, to cancel them.
CREATE INDEX jobs_children ON jobs (tenant, parent, id) WHERE parent IS NOT NULL;
CREATE INDEX jobs_open_children ON jobs (tenant, parent) WHERE parent IS NOT NULL AND state <= 3;

-- Payload and result are a BLOB if they are small, else the id of a document. spec and rest are packed.
CREATE TABLE tasks (
    tenant TEXT NOT NULL,
    job BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    driver TEXT NOT NULL,
    priority INTEGER NOT NULL,
    -- set exactly while the task may be taken
    ready_time INTEGER,
    rest BLOB NOT NULL,
    result ANY,
    -- never changed
    spec BLOB NOT NULL,
    payload ANY,
    -- Without the tenant: ids are unique, and the row says whose the task is.
    PRIMARY KEY (job, ordinal)
) STRICT, WITHOUT ROWID;

-- The queue: tasks that may be taken, in the order in which they are.
CREATE INDEX tasks_ready ON tasks (driver, tenant, priority DESC, ready_time) WHERE ready_time IS NOT NULL;

-- Large payloads and results, out of the way of what is written often.
CREATE TABLE documents (
    id INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

-- The feed: every committed change in the order of commits, kept as long as its job; of a removed job the last one, for a day.
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    job BLOB NOT NULL,
    revision INTEGER NOT NULL,
    time INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    -- packed
    rest BLOB NOT NULL
) STRICT;

-- Without the tenant: ids are unique, and the row says whose the event is.
CREATE INDEX events_of_job ON events (job, revision);
-- JOB_DELETED: what is left of removed jobs, oldest first.
CREATE INDEX events_tombstones ON events (time) WHERE kind = 17;

CREATE TABLE request_ids (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    job BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

-- How many jobs (driver '') and tasks are in each state.
CREATE TABLE counters (
    tenant TEXT NOT NULL,
    driver TEXT NOT NULL,
    state INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (tenant, driver, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE paused_drivers (
    driver TEXT PRIMARY KEY,
    since INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
