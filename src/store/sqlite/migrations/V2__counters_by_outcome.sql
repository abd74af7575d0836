-- How many jobs there are of each state and status (driver ''), and how many tasks in each state (status 0). Tasks were counted before and go on.
ALTER TABLE counters RENAME TO former_counters;

CREATE TABLE counters (
    tenant TEXT NOT NULL,
    driver TEXT NOT NULL,
    state INTEGER NOT NULL,
    status INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (tenant, driver, state, status)
) STRICT, WITHOUT ROWID;

INSERT INTO counters SELECT tenant, '', state, status, count(*) FROM jobs GROUP BY tenant, state, status;
INSERT INTO counters SELECT tenant, driver, state, 0, count FROM former_counters WHERE driver <> '';

DROP TABLE former_counters;
