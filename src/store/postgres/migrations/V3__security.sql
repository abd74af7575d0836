-- Tenants, credentials and data keys: few, and each is written whole. Without the tenant in front: a credential is looked up by whoever does not know yet
-- whose it is, and a data key is nobody's. body is packed.
CREATE TABLE records (
    id text COLLATE "C" NOT NULL,
    -- empty if it is the operator's
    tenant text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    kind smallint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (kind, id)
) WITH (
    -- When a credential was last used is noted every minute.
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200
);
CREATE INDEX records_of_tenant ON records (kind, tenant, id);

-- Who did what, and when. Nothing is packed, so that it can be read with nothing but SQL.
CREATE TABLE audit (
    tenant text COLLATE "C" NOT NULL,
    time bigint NOT NULL,
    id uuid NOT NULL,
    outcome smallint NOT NULL,
    actor text COLLATE "C" NOT NULL,
    actor_tenant text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    detail text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, time, id)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
-- Without the tenant: for the operator, who reads those of all; and for what is too old.
CREATE INDEX audit_time ON audit (time, id);

-- What was written stays as it was: no statement of any program changes it. Against taking away there is no trigger: what is too old has to go, and whoever
-- else may is the database's matter (REVOKE).
CREATE FUNCTION longhaul_never() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'records of the audit log are never changed' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION longhaul_never();

-- Of the workers of a node, those that are one tenant's: where nodes that know of none do not look. What they leave is an empty list.
ALTER TABLE nodes ADD COLUMN roster_of_tenants bytea NOT NULL DEFAULT '\x00';

-- What the workers of a task alone may know, sealed: NULL if there is nothing, empty once it is erased.
ALTER TABLE tasks ADD COLUMN secrets bytea;
