-- Jobs with everything that is said of them, open or finished. Small rows: payloads and results are with the tasks, or in documents.
CREATE TABLE jobs (
    tenant TEXT NOT NULL,
    id BLOB NOT NULL,
    -- never changed
    action TEXT NOT NULL,
    summary TEXT NOT NULL,
    object_type TEXT,
    object_id TEXT,
    object_name TEXT,
    labels TEXT,
    priority INTEGER NOT NULL,
    creator TEXT NOT NULL,
    parent BLOB,
    failure_policy INTEGER NOT NULL,
    schedule_time INTEGER,
    traceparent TEXT NOT NULL,
    request_id TEXT NOT NULL,
    depth INTEGER NOT NULL,
    retry_of BLOB,
    create_time INTEGER NOT NULL,
    -- changed
    state INTEGER NOT NULL,
    status INTEGER NOT NULL,
    last_error TEXT NOT NULL,
    revision INTEGER NOT NULL,
    children TEXT,
    cancel TEXT,
    timer INTEGER,
    start_time INTEGER,
    update_time INTEGER NOT NULL,
    end_time INTEGER,
    expire_time INTEGER,
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

-- Payload and result are a BLOB if they are small, else the id of a document.
CREATE TABLE tasks (
    tenant TEXT NOT NULL,
    job BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    -- never changed
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    action TEXT NOT NULL,
    driver TEXT NOT NULL,
    spec TEXT,
    priority INTEGER NOT NULL,
    payload ANY,
    -- changed
    state INTEGER NOT NULL,
    status INTEGER NOT NULL,
    status_detail TEXT NOT NULL,
    last_error TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    fencing_token INTEGER NOT NULL,
    lost_leases INTEGER NOT NULL,
    worker TEXT NOT NULL,
    lease_expiry INTEGER,
    last_end INTEGER,
    last_end_token INTEGER,
    notes TEXT,
    schedule_time INTEGER,
    ready_time INTEGER,
    first_ready_time INTEGER,
    start_time INTEGER,
    update_time INTEGER NOT NULL,
    end_time INTEGER,
    result ANY,
    PRIMARY KEY (tenant, job, ordinal)
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
    ordinal INTEGER,
    task BLOB,
    attempt INTEGER,
    state_before INTEGER,
    status_before INTEGER,
    state INTEGER NOT NULL,
    status INTEGER NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE INDEX events_of_job ON events (tenant, job, revision);
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
