-- Tenants, credentials and data keys: few, and each is written whole. Without the tenant in front: a credential is looked up by whoever does not know yet
-- whose it is. body is packed.
CREATE TABLE records (
    kind INTEGER NOT NULL,
    id TEXT NOT NULL,
    -- empty if it is the operator's
    tenant TEXT NOT NULL,
    revision INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX records_of_tenant ON records (kind, tenant, id);

-- Who did what, and when. Nothing is packed, so that it can be read with nothing but SQL.
CREATE TABLE audit (
    time INTEGER NOT NULL,
    id BLOB NOT NULL,
    tenant TEXT NOT NULL,
    actor TEXT NOT NULL,
    actor_tenant TEXT NOT NULL,
    address TEXT NOT NULL,
    request_id TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome INTEGER NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (time, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_of_tenant ON audit (tenant, time, id);

-- What was written stays as it was: no statement of any program changes it. Against taking away there is no trigger: what is too old has to go, and which
-- that is goes by the program's time, not by one that SQL knows.
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'records of the audit log are never changed');
END;

-- What the workers of a task alone may know, sealed: NULL if there is nothing, empty once it is erased, else as payload and result.
ALTER TABLE tasks ADD COLUMN secrets ANY;
