-- The nodes of the cluster, as each last said of itself. Without the tenant: a node is nobody's.
CREATE TABLE nodes (
    node uuid PRIMARY KEY,
    seen_time bigint NOT NULL,
    roster bytea NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);
