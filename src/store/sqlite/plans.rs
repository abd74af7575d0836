//! No question takes longer with more jobs: each statement finds its rows by an index, and sorts nothing.

use rusqlite::{Connection, Result, types::Value};

use super::{list, open, read, registry, scan};
use crate::{
    domain::{
        JobId, Tenant,
        filter::{Field, Filter, Order, Pattern},
    },
    store::{ListOrder, ListPosition, ListQuery},
};

/// How SQLite goes about a statement, step by step.
fn plan(connection: &Connection, sql: &str) -> Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    // A plan needs no values for the parameters.
    statement
        .raw_query()
        .mapped(|row| row.get("detail"))
        .collect()
}

/// Steps that look at every row of a table, or at every row before the first can be answered.
fn slow_steps(steps: &[String]) -> Vec<&String> {
    // What was found by an index and has a limit: candidates for a page, and those that match; tasks ahead of one; and the labels of one job.
    // And the parts of a pattern that were found in a text so far.
    let bounded = [
        "SCAN c",
        "SCAN (subquery-",
        "SCAN l ",
        "SCAN g",
        "SCAN CONSTANT ROW",
    ];
    let is_bounded = |step: &str| bounded.iter().any(|start| step.starts_with(start));
    let is_slow = |step: &str| {
        let scans = step.starts_with("SCAN ") && !step.contains(" USING ");
        scans || step.contains("TEMP B-TREE") || step.contains("AUTOMATIC")
    };
    let slow = steps.iter().filter(|step| is_slow(step));
    slow.filter(|step| !is_bounded(step)).collect()
}

fn empty() -> (tempfile::TempDir, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let connection = open::database(dir.path()).unwrap();
    (dir, connection)
}

#[test]
fn every_question_finds_its_rows_by_an_index() {
    let (_dir, connection) = empty();
    for sql in [
        &read::SELECT_JOB,
        read::SELECT_TASKS,
        &read::SELECT_EVENTS,
        read::POSITION,
        read::COUNTS,
        read::QUEUED_BEFORE,
        read::REQUEST,
        read::READY,
        read::NEXT_TENANT,
        read::DUE,
        read::EXPIRED,
        read::OPEN_CHILDREN,
        &list::SELECT_FEED,
        scan::NEXT_TENANT,
        &scan::BY_KEY,
        &scan::BY_CHANGE,
        &registry::RECORD,
        &registry::RECORDS,
        &registry::RECORDS_OF_TENANT,
        &registry::AUDIT[0],
        &registry::AUDIT[1],
        &registry::AUDIT_OF_TENANT[0],
        &registry::AUDIT_OF_TENANT[1],
        registry::TIDY,
    ] {
        let steps = plan(&connection, sql).unwrap();
        assert!(slow_steps(&steps).is_empty(), "{sql}\n{steps:#?}");
        assert!(steps.iter().any(|step| step.starts_with("SEARCH ")));
    }
    // The first entry of an index, and no more.
    let steps = plan(&connection, read::NEXT_DUE).unwrap();
    assert!(slow_steps(&steps).is_empty(), "{steps:#?}");
}

#[test]
fn every_page_finds_its_rows_by_an_index() {
    let (_dir, connection) = empty();
    let parent = format!("parent_job_id = \"{}\"", uuid::Uuid::max());
    let id = format!("job_id = \"{}\"", uuid::Uuid::max());
    let ids = format!("{id} OR job_id = \"{}\"", uuid::Uuid::nil());
    let by_id = "SEARCH jobs USING PRIMARY KEY (tenant=? AND id=?)";
    let texts = [
        ("", "PRIMARY KEY"),
        ("state = QUEUED", "jobs_open"),
        ("state = RUNNING OR state = CANCELLING", "jobs_open"),
        ("state < SUCCEEDED AND priority > 3", "jobs_open"),
        ("state = SUCCEEDED", "PRIMARY KEY"),
        ("labels.env = prod", "PRIMARY KEY"),
        ("driver = ansible", "PRIMARY KEY"),
        (
            "summary:bucket OR end_time > \"2026-01-01T00:00:00Z\"",
            "PRIMARY KEY",
        ),
        (parent.as_str(), "jobs_children"),
        (id.as_str(), by_id),
        (ids.as_str(), by_id),
    ];
    let wild = |field| Filter::Text(field, Pattern::from_wildcard("a*b*c*"));
    let parsed = texts.map(|(text, index)| (Filter::parse(text).unwrap(), index));
    let made = [Field::Kind, Field::Summary, Field::Driver].map(|of| (wild(of), "PRIMARY KEY"));
    for (filter, index) in parsed.into_iter().chain(made) {
        for order in [
            ListOrder::CreateTime,
            ListOrder::CreateTimeDesc,
            ListOrder::UpdateTimeDesc,
            ListOrder::UpdateTime,
        ] {
            for after in [None, Some(ListPosition::Job(JobId(uuid::Uuid::nil())))] {
                let query = ListQuery {
                    tenant: Tenant::new("acme"),
                    filter: filter.clone(),
                    order,
                    after,
                    limit: 50,
                };
                let by_change = matches!(order, ListOrder::UpdateTime | ListOrder::UpdateTimeDesc);
                let source = list::Source::of(&query);
                for (sql, _) in [list::select(&query, &source), list::count(&query, &source)] {
                    let steps = plan(&connection, &sql).unwrap();
                    assert!(slow_steps(&steps).is_empty(), "{sql}\n{steps:#?}");
                    let uses = |step: &String| step.contains(index);
                    assert!(by_change || steps.iter().any(uses), "{sql}\n{steps:#?}");
                    // Tasks are looked at for their drivers alone.
                    let tasks = steps.iter().any(|step| step.starts_with("SEARCH t "));
                    assert_eq!(tasks, sql.contains("t.driver"), "{sql}\n{steps:#?}");
                }
            }
        }
    }
}

#[test]
fn a_page_begins_and_ends_where_the_ids_that_match_do() {
    let (_dir, connection) = empty();
    let id = |n: u128| JobId(uuid::Uuid::from_u128(n));
    let of = |order, n| Filter::Id(order, id(n));
    let any_of = |filter| Filter::Or(vec![filter]);
    let bounds = [
        (Filter::All, (0, u128::MAX)),
        (of(Order::Less, 7), (0, 7)),
        (of(Order::LessOrEqual, 7), (0, 8)),
        (of(Order::Greater, 7), (7, u128::MAX)),
        (of(Order::GreaterOrEqual, 7), (6, u128::MAX)),
        (
            Filter::And(vec![
                any_of(of(Order::Less, 9)),
                Filter::All,
                of(Order::Greater, 2),
                of(Order::Less, 8),
            ]),
            (2, 8),
        ),
        (
            Filter::Or(vec![of(Order::Less, 9), of(Order::LessOrEqual, 20)]),
            (0, 21),
        ),
        (
            Filter::Or(vec![of(Order::Less, 9), Filter::All]),
            (0, u128::MAX),
        ),
        (Filter::Not(Box::new(of(Order::Less, 9))), (0, u128::MAX)),
    ];
    for (filter, (low, high)) in bounds {
        for (order, after, low, high) in [
            (ListOrder::CreateTimeDesc, None, low, high),
            (ListOrder::CreateTimeDesc, Some(5), low, high.min(5)),
            (ListOrder::CreateTime, None, low, high),
            (ListOrder::CreateTime, Some(5), low.max(5), high),
        ] {
            let query = ListQuery {
                tenant: Tenant::new("acme"),
                filter: filter.clone(),
                order,
                after: after.map(|n| ListPosition::Job(id(n))),
                limit: 50,
            };
            let (sql, values) = list::select(&query, &list::Source::of(&query));
            let expected = [low, high].map(|n| Value::from(n.to_be_bytes().to_vec()));
            assert_eq!(values[1..3], expected, "{filter:?} {order:?} {after:?}");
            let steps = plan(&connection, &sql).unwrap();
            let range = "USING PRIMARY KEY (tenant=? AND id>? AND id<?)";
            assert!(
                steps.iter().any(|step| step.contains(range)),
                "{sql}\n{steps:#?}"
            );
        }
    }
}

/// The rule can fail.
#[test]
fn a_look_at_every_row_is_noticed() {
    let (_dir, connection) = empty();
    for sql in [
        "SELECT count(*) FROM documents WHERE length(body) > 3",
        "SELECT id FROM jobs WHERE action = 'create'",
        "SELECT id FROM jobs WHERE tenant = 'acme' ORDER BY update_time LIMIT 3",
    ] {
        let steps = plan(&connection, sql).unwrap();
        assert!(!slow_steps(&steps).is_empty(), "{sql}\n{steps:#?}");
    }
}
