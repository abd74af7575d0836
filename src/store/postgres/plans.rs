//! No question takes longer with more jobs: each statement finds its rows by the index that is meant for it, and looks only into the range of ids where they
//! are. And ranges come and go.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use uuid::Uuid;

use super::{
    cluster::{Cluster, Database, Options},
    connect::Connector,
    feed, list, lock, open, partitions, queue, read, scan, session,
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

/// Steps that look at every row of a table, or at other rows than those that the index has been given for.
fn slow_steps<'a>(steps: &'a [String], indexes: &[&str]) -> Vec<&'a String> {
    let is_scan = |step: &&String| finds(step);
    let is_meant = |step: &String| indexes.iter().any(|index| step.contains(index));
    let scans = steps.iter().filter(is_scan);
    let slow = steps.iter().filter(|step| step.contains("Seq Scan"));
    slow.chain(scans.filter(|step| !is_meant(step))).collect()
}

/// Whether a step goes by an index.
fn finds(step: &str) -> bool {
    step.contains(" using ") || step.contains("Bitmap Index Scan on ")
}

#[tokio::test]
async fn every_statement_finds_its_rows_by_the_index_for_it() {
    let (_database, client) = opened().await;
    let keys: &[&str] = &["_pkey"];
    let by_turn: &[&str] = &["ready_tasks_turns", "_pkey"];
    for (sql, indexes) in [
        (read::SELECT_JOBS.as_str(), keys),
        (&lock::LOCK, keys),
        (&lock::READ, keys),
        (&read::SELECT_EVENTS, keys),
        (read::COUNTS, keys),
        (read::REQUESTS, keys),
        (read::DUE, &["_timer_tenant_id_idx"]),
        (read::NEXT_DUE, &["_timer_tenant_id_idx"]),
        (read::EXPIRED, &["_expire_time_tenant_id_idx"]),
        (read::OPEN_CHILDREN, &["_tenant_parent_id_idx"]),
        (&queue::READY, by_turn),
        (queue::QUEUED_BEFORE, &["ready_tasks_turns"]),
        (&feed::SELECT_NEW, &["_xid_n_idx", "removed_feed"]),
        (&feed::SELECT_PENDING, &["_xid_n_idx", "removed_feed"]),
        (&feed::SELECT_REST, &["_xid_n_idx", "removed_feed"]),
        (scan::NEXT_TENANT, keys),
        (scan::BY_KEY, keys),
        (&scan::BY_CHANGE, &["_xid_n_idx", "_pkey"]),
        (&scan::LAST_EXAMINED, &["_xid_n_idx"]),
        (&scan::FIRST_EVENTS, keys),
        (scan::QUEUED, keys),
        (statements::DELETE_JOBS, keys),
        (statements::UPDATE_JOBS, keys),
        (statements::UPDATE_TASKS, keys),
        (statements::DELETE_TASKS, keys),
        (statements::DELETE_EVENTS, keys),
        (statements::DELETE_READY, keys),
        (statements::DELETE_READY_OF_JOBS, keys),
        (statements::DELETE_REQUESTS, keys),
    ] {
        let steps = plan(&client, sql).await;
        assert_eq!(
            slow_steps(&steps, indexes),
            Vec::<&String>::new(),
            "{sql}\n{steps:#?}"
        );
        assert!(steps.iter().any(|step| finds(step)), "{sql}\n{steps:#?}");
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

#[tokio::test]
async fn every_page_finds_its_rows_by_an_index() {
    let (_database, client) = opened().await;
    let id = JobId(Uuid::max());
    let parent = format!("parent_job_id = \"{}\"", id.0);
    let ids = format!("job_id = \"{}\" OR job_id = \"{}\"", id.0, Uuid::nil());
    for (text, index) in [
        ("", "_pkey"),
        ("state = QUEUED", "_tenant_state_id_idx"),
        (
            "state = RUNNING OR state = CANCELLING",
            "_tenant_state_id_idx",
        ),
        ("state = SUCCEEDED", "_pkey"),
        ("labels.env = prod", "_pkey"),
        ("driver = ansible", "_pkey"),
        (&parent, "_tenant_parent_id_idx"),
        (&ids, "_pkey"),
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
            for after in [None, Some(ListPosition::Job(begin))] {
                let query = ListQuery {
                    tenant: Tenant::new("acme"),
                    filter: Filter::parse(text).expect("a filter"),
                    order,
                    after,
                    limit: 50,
                };
                for (sql, values) in [list::select(&query), list::count(&query)] {
                    let steps = plan_with(&client, &sql, &values).await;
                    let meant = [index, "_pkey", "_xid_n_idx", "removed_feed"];
                    assert_eq!(
                        slow_steps(&steps, &meant),
                        Vec::<&String>::new(),
                        "{sql}\n{steps:#?}"
                    );
                    let by_change =
                        matches!(order, ListOrder::UpdateTime | ListOrder::UpdateTimeDesc);
                    let uses =
                        |step: &String| step.contains(if by_change { "_xid_n_idx" } else { index });
                    assert!(steps.iter().any(uses), "{sql}\n{steps:#?}");
                }
            }
        }
    }
}

/// The rule can fail.
#[tokio::test]
async fn a_look_at_every_row_is_noticed() {
    let (_database, client) = opened().await;
    for (sql, indexes) in [
        ("SELECT id FROM jobs WHERE action = 'create'", ["_pkey"]),
        ("SELECT time FROM removed WHERE kind = 3", ["_pkey"]),
        (
            "SELECT id FROM jobs WHERE timer IS NOT NULL AND timer < 7",
            ["_pkey"],
        ),
    ] {
        let steps = plan(&client, sql).await;
        assert!(
            !slow_steps(&steps, &indexes).is_empty(),
            "{sql}\n{steps:#?}"
        );
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
