//! No question takes longer with more jobs: each statement finds its rows by the index that is meant for it, and looks only into the range of ids where they
//! are. And ranges come and go.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use uuid::Uuid;

use super::{
    cluster::{Cluster, Database, Options},
    connect::Connector,
    feed, leftovers, list, lock, open, partitions, queue, read, registry, scan, session,
    write::statements,
};
use crate::{
    domain::{JobId, Tenant, filter::Filter},
    store::{ListOrder, ListPosition, ListQuery, filter::Value},
};

const WIDTH: Duration = Duration::from_secs(3_600);

/// A new database with its tables, and a connection as readers and writers have it.
async fn opened() -> (Database, ClientWrapper) {
    let cluster = Cluster::start(Options::default().set("fsync", "off"));
    let database = cluster.database();
    let address = database.url().parse().expect("an address");
    let connector = Connector::new(address);
    open::open(&connector, true, open::Tables::Make, Some(WIDTH))
        .await
        .expect("a database");
    let client = session::begin(&connector).await.expect("a connection");
    (database, client)
}

/// How PostgreSQL goes about a statement, whatever its parameters are. Those of these types only have to be there.
async fn plan(client: &ClientWrapper, sql: &str) -> Vec<String> {
    let statement = client.prepare(sql).await.expect("a statement");
    let samples = statement.params().iter().map(|of| match of.name() {
        "uuid" => ("uuid".to_owned(), format!("'{}'", Uuid::nil())),
        "text" => ("text".to_owned(), "'acme'".to_owned()),
        name => match name.strip_prefix('_') {
            Some(of) => (format!("{of}[]"), "'{}'".to_owned()),
            None => (name.to_owned(), "7".to_owned()),
        },
    });
    let (types, samples): (Vec<String>, Vec<String>) = samples.unzip();
    explain(client, sql, &types, &samples).await
}

/// The same with the values of a list.
async fn plan_with(client: &ClientWrapper, sql: &str, values: &[Value]) -> Vec<String> {
    let values = values.iter().map(|value| match value {
        Value::Integer(value) => ("bigint".to_owned(), value.to_string()),
        Value::Text(value) => ("text".to_owned(), format!("'{value}'")),
        Value::Id(value) => ("uuid".to_owned(), format!("'{value}'")),
        Value::Bytes(_) => ("bytea".to_owned(), "''".to_owned()),
    });
    let (types, values): (Vec<String>, Vec<String>) = values.unzip();
    explain(client, sql, &types, &values).await
}

async fn explain(
    client: &ClientWrapper,
    sql: &str,
    types: &[String],
    values: &[String],
) -> Vec<String> {
    let list = |of: &[String]| match of {
        [] => String::new(),
        of => format!("({})", of.join(", ")),
    };
    let (types, values) = (list(types), list(values));
    let explain = format!(
        "PREPARE explained{types} AS {sql}; EXPLAIN EXECUTE explained{values}; DEALLOCATE explained"
    );
    let messages = client.simple_query(&explain).await.expect("a plan");
    let rows = messages.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    rows.map(str::to_owned).collect()
}

/// Steps that look at every row of a table, or at other rows than those that these indexes have been given for. `*` in a name stands for a range.
fn slow_steps<'a>(steps: &'a [String], indexes: &[&str]) -> Vec<&'a String> {
    let is_meant = |index: &str| {
        indexes.iter().any(|meant| match meant.split_once('*') {
            Some((table, rest)) => index
                .strip_prefix(table)
                .is_some_and(|behind| behind.ends_with(rest)),
            None => index == *meant,
        })
    };
    let is_slow = |step: &&String| match index_of(step) {
        Some(index) => !is_meant(index),
        None => step.contains("Seq Scan"),
    };
    steps.iter().filter(is_slow).collect()
}

/// The index by which a step finds its rows.
fn index_of(step: &str) -> Option<&str> {
    let begin = [" using ", "Bitmap Index Scan on "];
    let behind = begin.iter().find_map(|begin| step.split_once(begin));
    behind.and_then(|(_, rest)| rest.split_whitespace().next())
}

/// Steps that put all that an index finds into order, before a limit says how much of it is wanted. As many rows as there are would be read for that.
fn unlimited_sorts(steps: &[String]) -> Vec<&String> {
    let depth = |step: &str| step.len() - step.trim_start().len();
    let is_unlimited = |(at, sort): &(usize, &String)| {
        let mut limited_from = None;
        sort.contains("Sort  (")
            && steps[at + 1..]
                .iter()
                .take_while(|step| depth(step) > depth(sort))
                .any(|step| {
                    if limited_from.is_some_and(|limit| depth(step) <= limit) {
                        limited_from = None;
                    }
                    // What is looked up for each row that has been found is none of them.
                    let is_limit = step.contains("->  Limit  (") || step.contains("SubPlan ");
                    if limited_from.is_none() && is_limit {
                        limited_from = Some(depth(step));
                    }
                    limited_from.is_none() && index_of(step).is_some()
                })
    };
    let sorts = steps.iter().enumerate().filter(is_unlimited);
    sorts.map(|(_, sort)| sort).collect()
}

/// Jobs of two ranges with all that there is of them, and statistics that say so.
fn fill(database: &Database) {
    let old = "('00000000-0001-7fff-8000-' || lpad(to_hex(i), 12, '0'))::uuid";
    let new = "(lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '7fff8000' || lpad(to_hex(i), 12, '0'))::uuid";
    for (id, from) in [(old, 1), (new, 5_001)] {
        database.sql(&format!(
            "WITH n AS (SELECT i, {id} AS id, (ARRAY['acme', 'umbrella'])[1 + i % 2] AS tenant FROM generate_series({from}, {from} + 4999) AS i),
            j AS (
                INSERT INTO jobs (tenant, id, xid, revision, update_time, create_time, priority, state, status, action, summary, creator, spec, rest,
                    timer, expire_time, parent)
                SELECT tenant, id, i, 1, i, i, 0, 1 + i % 6, 1, '', '', '', '', '',
                    CASE WHEN i % 6 < 3 THEN i END, CASE WHEN i % 6 >= 3 THEN i END, CASE WHEN i % 10 = 0 THEN id END FROM n
            ), t AS (
                INSERT INTO tasks (tenant, job, ordinal, driver, spec, rest) SELECT tenant, id, 0, 'd', '', '' FROM n
            ), r AS (
                INSERT INTO ready_tasks (tenant, job, ready_time, ordinal, priority, driver) SELECT tenant, id, i, 0, 0, 'd' FROM n WHERE i % 6 = 0
            ), q AS (
                INSERT INTO request_ids (tenant, id, job, fingerprint) SELECT tenant, i::text, id, '' FROM n
            ), c AS (
                INSERT INTO records (kind, id, tenant, revision, body) SELECT 1 + i % 3, i::text, tenant, 1, '' FROM n
            ), a AS (
                INSERT INTO audit (tenant, time, id, outcome, actor, actor_tenant, address, request_id, action, target, detail)
                SELECT tenant, i, id, 1, '', '', '', '', '', '', '' FROM n
            ), e AS (
                INSERT INTO events (tenant, job, revision, xid, n, time, kind, rest)
                SELECT tenant, id, r, i, r, i, 1, '' FROM n CROSS JOIN generate_series(1, 2) AS r
            )
            INSERT INTO removed (tenant, job, revision, xid, n, time, kind, rest)
            SELECT tenant, id, 3, i, 3, i, 17, '' FROM n"
        ));
    }
    database.sql("ANALYZE");
}

/// In empty tables, as they are when plans are made first; and in full ones.
#[tokio::test]
async fn every_statement_finds_its_rows_by_the_index_for_it() {
    let (database, client) = opened().await;
    every_statement_is_quick(&client).await;
    fill(&database);
    every_statement_is_quick(&client).await;
}

async fn every_statement_is_quick(client: &ClientWrapper) {
    let (jobs, tasks, events) = ("jobs_*_pkey", "tasks_*_pkey", "events_*_pkey");
    let whole: &[&str] = &[jobs, tasks];
    let by_feed: &[&str] = &["events_*_xid_n_idx", "removed_feed"];
    let by_turn: &[&str] = &["ready_tasks_turns", "paused_drivers_pkey", jobs, tasks];
    for (sql, indexes) in [
        (read::SELECT_JOBS.as_str(), whole),
        (&lock::LOCK, &[jobs]),
        (&lock::READ, whole),
        (&feed::SELECT_WITHIN, whole),
        (&read::SELECT_EVENTS, &[jobs, events, "removed_pkey"]),
        (read::COUNTS, &["counters_pkey"]),
        (read::REQUESTS, &["request_ids_pkey"]),
        (queue::READY.as_str(), by_turn),
        (&queue::READY_OF_ONE, by_turn),
        (queue::QUEUED_BEFORE, &["ready_tasks_turns"]),
        (&feed::SELECT_PENDING, by_feed),
        (scan::NEXT_TENANT, &[jobs]),
        (scan::BY_KEY, &[jobs]),
        (&scan::BY_CHANGE, &["events_*_xid_n_idx", jobs]),
        (&scan::LAST_EXAMINED, by_feed),
        (&scan::FIRST_EVENTS, &[events]),
        (scan::QUEUED, &["ready_tasks_pkey"]),
        (statements::DELETE_JOBS, &[jobs]),
        (statements::UPDATE_JOBS, &[jobs]),
        (statements::UPDATE_TASKS, &[tasks]),
        (statements::DELETE_TASKS, &[tasks]),
        (statements::DELETE_EVENTS, &[events]),
        (statements::DELETE_READY, &["ready_tasks_pkey"]),
        (statements::DELETE_READY_OF_JOBS, &["ready_tasks_pkey"]),
        (statements::DELETE_REQUESTS, &["request_ids_pkey"]),
        (&registry::SOME, &["records_pkey"]),
        (&registry::LOCK, &["records_pkey"]),
        (registry::UPDATE, &["records_pkey"]),
    ] {
        assert_quick(sql, indexes, &plan(client, sql).await);
    }
    // Of these a few rows are wanted of many: in the order of the index, and no further than there.
    let name = query_name(client).await;
    for (sql, indexes) in [
        (read::DUE, &["jobs_*_timer_tenant_id_idx"] as &[&str]),
        (read::NEXT_DUE, &["jobs_*_timer_tenant_id_idx"]),
        (read::EXPIRED, &["jobs_*_expire_time_tenant_id_idx"]),
        (read::OPEN_CHILDREN, &["jobs_*_tenant_parent_id_idx1"]),
        (&feed::SELECT_NEW, by_feed),
        (&feed::SELECT_REST, by_feed),
        (
            leftovers::TIDY,
            &["removed_time", "removed_feed", "events_*_xid_n_idx"],
        ),
        (&leftovers::statement(&name, 0), whole),
        (&leftovers::statement(&name, 1), &[jobs, events]),
        (&registry::PAGE, &["records_pkey"]),
        (&registry::PAGE_OF_TENANT, &["records_of_tenant"]),
        (&registry::AUDIT[0], &["audit_time"]),
        (&registry::AUDIT[1], &["audit_time"]),
        (&registry::AUDIT_OF_TENANT[0], &["audit_pkey"]),
        (&registry::AUDIT_OF_TENANT[1], &["audit_pkey"]),
        (leftovers::TIDY_AUDIT, &["audit_time"]),
    ] {
        let steps = plan(client, sql).await;
        assert_quick(sql, indexes, &steps);
        assert_eq!(
            unlimited_sorts(&steps),
            Vec::<&String>::new(),
            "{sql}\n{steps:#?}"
        );
    }
}

/// Nothing is put into order before the first row is told.
#[tokio::test]
async fn a_scan_finds_its_jobs_in_their_order() {
    let (_database, client) = opened().await;
    let sorts = |steps: &[String]| {
        let steps = steps
            .iter()
            .map(|step| step.trim_start_matches([' ', '-', '>']));
        steps
            .filter(|step| step.starts_with("Sort  (") || step.starts_with("Incremental Sort"))
            .count()
    };
    for sql in [scan::BY_KEY, &scan::BY_CHANGE, &read::SELECT_JOBS] {
        let steps = plan(&client, sql).await;
        assert_eq!(sorts(&steps), 0, "{sql}\n{steps:#?}");
    }
    let by_expression = scan::BY_CHANGE.replace("ORDER BY e.xid, e.n LIMIT", "ORDER BY 1 LIMIT");
    assert_ne!(sorts(&plan(&client, &by_expression).await), 0);
}

#[track_caller]
fn assert_quick(sql: &str, indexes: &[&str], steps: &[String]) {
    assert_eq!(
        slow_steps(steps, indexes),
        Vec::<&String>::new(),
        "{sql}\n{steps:#?}"
    );
    assert!(
        steps.iter().any(|step| index_of(step).is_some()),
        "{sql}\n{steps:#?}"
    );
}

/// What the tables of a range that is not empty end with.
async fn query_name(client: &ClientWrapper) -> String {
    let row = client.query_one("SELECT name FROM partitions ORDER BY high LIMIT 1", &[]);
    row.await.expect("a range").get(0)
}

#[tokio::test]
async fn every_page_finds_its_rows_by_an_index() {
    let (database, client) = opened().await;
    every_page_is_quick(&client).await;
    fill(&database);
    every_page_is_quick(&client).await;
}

async fn every_page_is_quick(client: &ClientWrapper) {
    let id = JobId(Uuid::max());
    let parent = format!("parent_job_id = \"{}\"", id.0);
    let ids = format!("job_id = \"{}\" OR job_id = \"{}\"", id.0, Uuid::nil());
    for (text, index) in [
        ("", "jobs_*_pkey"),
        ("state = QUEUED", "jobs_*_tenant_state_id_idx"),
        (
            "state = RUNNING OR state = CANCELLING",
            "jobs_*_tenant_state_id_idx",
        ),
        ("state = SUCCEEDED", "jobs_*_pkey"),
        ("labels.env = prod", "jobs_*_pkey"),
        ("driver = ansible", "jobs_*_pkey"),
        (&parent, "jobs_*_tenant_parent_id_idx"),
        (&ids, "jobs_*_pkey"),
    ] {
        for order in [
            ListOrder::CreateTime,
            ListOrder::CreateTimeDesc,
            ListOrder::UpdateTimeDesc,
            ListOrder::UpdateTime,
        ] {
            let begin = match order {
                ListOrder::CreateTime => JobId(Uuid::nil()),
                _ => id,
            };
            let by_change = matches!(order, ListOrder::UpdateTime | ListOrder::UpdateTimeDesc);
            let meant = if by_change {
                // The jobs of the events that were found.
                ["events_*_xid_n_idx", "jobs_*_pkey"]
            } else {
                [index, index]
            };
            let besides = ["tasks_*_pkey", "events_*_xid_n_idx", "removed_feed"];
            let meant = [meant.as_slice(), &besides].concat();
            for after in [None, Some(ListPosition::Job(begin))] {
                let query = ListQuery {
                    tenant: Tenant::new("acme"),
                    filter: Filter::parse(text).expect("a filter"),
                    order,
                    after,
                    limit: 50,
                };
                for (sql, values) in [list::select(&query), list::count(&query)] {
                    let steps = plan_with(client, &sql, &values).await;
                    assert_quick(&sql, &meant, &steps);
                    // Those that are named are as many as they are.
                    let sorts = if text == ids {
                        Vec::new()
                    } else {
                        unlimited_sorts(&steps)
                    };
                    assert_eq!(sorts, Vec::<&String>::new(), "{sql}\n{steps:#?}");
                }
            }
        }
    }
}

/// The rules can fail.
#[tokio::test]
async fn a_look_at_every_row_is_noticed() {
    let (_database, client) = opened().await;
    for (sql, index) in [
        ("SELECT id FROM jobs WHERE action = 'create'", "jobs_*_pkey"),
        ("SELECT time FROM removed WHERE kind = 3", "removed_pkey"),
        (
            "SELECT id FROM jobs WHERE timer IS NOT NULL AND timer < 7",
            "jobs_*_pkey",
        ),
        (
            "SELECT job FROM ready_tasks WHERE tenant = 'acme' AND job = $1",
            "tasks_*_pkey",
        ),
    ] {
        let steps = plan(&client, sql).await;
        assert!(
            !slow_steps(&steps, &[index]).is_empty(),
            "{sql}\n{steps:#?}"
        );
    }
}

#[tokio::test]
async fn a_sort_of_all_that_is_found_is_noticed() {
    let (_database, client) = opened().await;
    for (sql, is_unlimited) in [
        ("SELECT id FROM jobs WHERE timer IS NOT NULL AND timer <= $1::bigint ORDER BY update_time LIMIT 5", true),
        ("SELECT id FROM jobs WHERE expire_time IS NOT NULL ORDER BY expire_time + 1 LIMIT 5", true),
        ("SELECT * FROM (SELECT id, timer FROM jobs WHERE timer IS NOT NULL ORDER BY timer LIMIT 5) AS j ORDER BY id", false),
        ("SELECT * FROM (SELECT j.id, k.ordinal FROM (SELECT tenant, id FROM jobs WHERE timer IS NOT NULL ORDER BY timer LIMIT 5) AS j
          JOIN tasks AS k ON k.tenant = j.tenant AND k.job = j.id) AS j ORDER BY ordinal", true),
    ] {
        let steps = plan(&client, sql).await;
        assert_eq!(!unlimited_sorts(&steps).is_empty(), is_unlimited, "{sql}\n{steps:#?}");
    }
}

#[tokio::test]
async fn a_range_goes_when_its_last_job_has_gone() {
    let (database, client) = opened().await;
    // Two ranges of long ago.
    let bound = |n: u32| format!("'00000000-000{n}-7000-8000-000000000000'");
    let mut sql = format!(
        "UPDATE partitions SET high = {} WHERE low IS NULL;",
        bound(1)
    );
    for table in ["jobs", "tasks", "events"] {
        sql += &format!("ALTER TABLE {table} DETACH PARTITION {table}_first;");
        for n in [1, 2] {
            let (low, high) = (bound(n), bound(n + 1));
            sql += &format!(
                "CREATE TABLE {table}_of_{n} PARTITION OF {table} FOR VALUES FROM ({low}) TO ({high});"
            );
        }
        let high = bound(1);
        sql += &format!(
            "ALTER TABLE {table} ATTACH PARTITION {table}_first FOR VALUES FROM (MINVALUE) TO ({high});"
        );
    }
    for n in [1, 2] {
        let (low, high) = (bound(n), bound(n + 1));
        sql +=
            &format!("INSERT INTO partitions (name, low, high) VALUES ('of_{n}', {low}, {high});");
    }
    client.batch_execute(&sql).await.expect("ranges");
    let insert = |n: u32| {
        database.sql(&format!(
            "INSERT INTO jobs (tenant, id, xid, revision, update_time, create_time, priority, state, status, action, summary, creator, spec, rest)
             VALUES ('acme', '00000000-000{n}-7fff-8000-000000000000', 1, 1, 1, 1, 0, 4, 1, '', '', '', '', '')"
        ));
        database.sql(&format!(
            "INSERT INTO events (tenant, job, revision, xid, n, time, kind, rest)
             VALUES ('acme', '00000000-000{n}-7fff-8000-000000000000', 1, 1, {n}, 1, 1, '')"
        ));
    };
    insert(0);
    insert(1);
    insert(2);
    let names =
        || database.sql("SELECT name FROM partitions WHERE name NOT LIKE '20%' ORDER BY high");
    let dropped = partitions::drop_empty(&client).await;
    assert!(!dropped.expect("an answer"), "all have jobs");
    database.sql("DELETE FROM jobs WHERE id < '00000000-0002-0000-0000-000000000000'");
    let dropped = partitions::drop_empty(&client).await;
    assert!(dropped.expect("an answer"));
    assert_eq!(names(), "first\nof_2");
    // Of the one that has no beginning the rest goes, and it stays.
    assert_eq!(
        database.sql("SELECT job FROM events"),
        "00000000-0002-7fff-8000-000000000000"
    );
    assert!(!partitions::drop_empty(&client).await.expect("an answer"));
    // What is to come is not touched, and made once.
    let count = || database.sql("SELECT count(*) FROM partitions");
    let before = count();
    partitions::make(&client, WIDTH).await.expect("ranges");
    assert_eq!(count(), before);
}
