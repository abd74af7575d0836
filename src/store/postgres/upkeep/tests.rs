//! What removed jobs have left goes, whatever other jobs are there, and however much of it there is.

use super::{
    super::{
        cluster::{Cluster, Database, Options},
        connect::Connector,
        open,
    },
    *,
};
use crate::domain::audit::AUDIT_LIFE;

const WIDTH: Duration = Duration::from_secs(3_600);
const RETENTION: Duration = Duration::from_secs(24 * 3_600);

/// What one node reads by.
fn node(database: &Database) -> Readers {
    let connector = Connector::new(database.url().parse().expect("an address"));
    Readers::new(connector, 2)
}

async fn opened() -> (Database, Readers) {
    let cluster = Cluster::start(Options::default().set("fsync", "off"));
    let database = cluster.database();
    let connector = Connector::new(database.url().parse().expect("an address"));
    open::open(&connector, true, open::Tables::Make, Some(WIDTH))
        .await
        .expect("a database");
    let readers = node(&database);
    (database, readers)
}

/// A range of ids that begin with this and end before the next number.
fn add_range(database: &Database, name: &str, from: &str, to: &str) {
    for table in ["jobs", "tasks", "events"] {
        database.sql(&format!(
            "CREATE TABLE {table}_{name} PARTITION OF {table} FOR VALUES FROM ('{from}') TO ('{to}');
             GRANT ALL ON {table}_{name} TO PUBLIC"
        ));
    }
    database.sql(&format!(
        "INSERT INTO partitions (name, low, high) VALUES ('{name}', '{from}', '{to}')"
    ));
}

/// Jobs that are there, from this number on; and of this many what is left: a task and two events of each.
fn fill(database: &Database, prefix: &str, jobs: &str, left: u32) {
    let id = format!("('{prefix}-' || lpad(to_hex(i), 12, '0'))::uuid");
    database.sql(&format!(
        "INSERT INTO jobs (tenant, id, xid, revision, update_time, create_time, priority, state, status, action, summary, creator, spec, rest)
         SELECT 'acme', {id}, 1, 1, 1, 1, 0, 1, 1, '', '', '', '', '' FROM unnest(ARRAY[{jobs}]::integer[]) AS i"
    ));
    database.sql(&format!(
        "INSERT INTO tasks (tenant, job, ordinal, driver, spec, rest) SELECT 'acme', {id}, 0, 'd', '', '' FROM generate_series(1, {left}) AS i"
    ));
    database.sql(&format!(
        "INSERT INTO events (tenant, job, revision, xid, n, time, kind, rest)
         SELECT 'acme', {id}, r, 1, i * 2 + r, 1, 1, '' FROM generate_series(1, {left}) AS i CROSS JOIN generate_series(1, 2) AS r"
    ));
}

fn counts(database: &Database) -> String {
    database.sql(
        "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM tasks), (SELECT count(*) FROM events)",
    )
}

#[tokio::test]
async fn what_removed_jobs_have_left_goes_though_others_stay_in_their_range() {
    let (database, readers) = opened().await;
    // The oldest range there is reaches up to now: make room for two of long ago.
    let [first, second, third] =
        ["1", "2", "3"].map(|n| format!("00000000-000{n}-0000-0000-000000000000"));
    database.sql(&format!(
        "UPDATE partitions SET high = '{first}' WHERE low IS NULL"
    ));
    for table in ["jobs", "tasks", "events"] {
        database.sql(&format!(
            "ALTER TABLE {table} DETACH PARTITION {table}_first"
        ));
        database.sql(&format!(
            "ALTER TABLE {table} ATTACH PARTITION {table}_first FOR VALUES FROM (MINVALUE) TO ('{first}')"
        ));
    }
    add_range(&database, "of_1", &first, &second);
    add_range(&database, "of_2", &second, &third);
    // More than a slice has of each, and jobs that are there: first, last and in between.
    let left = 3 * u32::try_from(*ROWS_AT_ONCE.end()).expect("a small number");
    let jobs = [1, 77, left];
    let list = jobs.map(|job| job.to_string()).join(",");
    fill(&database, "00000000-0001-7fff-8000", &list, left);
    fill(&database, "00000000-0002-7fff-8000", &list, left);
    assert_eq!(counts(&database), format!("6|{}|{}", 2 * left, 4 * left));

    let kept = RETENTION + WIDTH;
    let mut round = Round::default();
    remove_leftovers(&readers, kept, &mut round).await;
    assert_eq!(counts(&database), "6|6|12");
    assert_eq!(round, Round::default(), "all were looked through");
    remove_leftovers(&readers, kept, &mut round).await;
    assert_eq!(counts(&database), "6|6|12");
}

/// Where all is as it must be there is little to do in a turn, and the next one goes on where it ended.
#[tokio::test]
async fn a_turn_ends_where_nothing_is_left_and_the_next_one_goes_on() {
    let (database, readers) = opened().await;
    let slices = MAX_IN_VAIN + 2;
    let jobs = slices * ROWS_AT_ONCE.end();
    let id = "('00000000-0001-7fff-8000-' || lpad(to_hex(i), 12, '0'))::uuid";
    for (what, select) in [
        (
            "jobs (tenant, id, xid, revision, update_time, create_time, priority, state, status, action, summary, creator, spec, rest)",
            format!("{id}, 1, 1, 1, 1, 0, 1, 1, '', '', '', '', ''"),
        ),
        (
            "tasks (tenant, job, ordinal, driver, spec, rest)",
            format!("{id}, 0, 'd', '', ''"),
        ),
    ] {
        database.sql(&format!(
            "INSERT INTO {what} SELECT 'acme', {select} FROM generate_series(1, {jobs}) AS i"
        ));
    }
    // What the last one has left.
    database.sql("DELETE FROM jobs WHERE id = (SELECT id FROM jobs ORDER BY id DESC LIMIT 1)");
    let tasks = || database.sql("SELECT count(*) FROM tasks");
    database.sql(
        "UPDATE partitions SET high = '00000000-0002-0000-0000-000000000000' WHERE low IS NULL",
    );
    let mut round = Round::default();
    remove_leftovers(&readers, RETENTION, &mut round).await;
    assert_eq!(tasks(), jobs.to_string());
    remove_leftovers(&readers, RETENTION, &mut round).await;
    assert_eq!(tasks(), (jobs - 1).to_string());
}

#[tokio::test]
async fn a_range_whose_time_is_not_over_is_left_alone() {
    let (database, readers) = opened().await;
    let id = "lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0')";
    database.sql(&format!(
        "INSERT INTO tasks (tenant, job, ordinal, driver, spec, rest) SELECT 'acme', ({id} || '7fff8000000000000000')::uuid, 0, 'd', '', ''"
    ));
    remove_leftovers(&readers, RETENTION, &mut Round::default()).await;
    assert_eq!(counts(&database), "0|1|0");
}

#[tokio::test]
async fn all_tombstones_go_that_are_old_however_many() {
    let (database, readers) = opened().await;
    let many = 2 * OLD_AT_ONCE + 5;
    let add = |from: usize, to: usize, age: &str| {
        database.sql(&format!(
            "INSERT INTO removed (tenant, job, revision, xid, n, time, kind, rest)
             SELECT 'acme', ('00000000-0001-7fff-8000-' || lpad(to_hex(i), 12, '0'))::uuid, 2, i, 0,
                 (extract(epoch FROM now() - interval '{age}') * 1000000)::bigint, 17, ''
             FROM generate_series({from}, {to}) AS i"
        ));
    };
    add(1, many, "25 hours");
    let left = || database.sql("SELECT string_agg(xid::text, ' ') FROM removed");
    // Two nodes at once, neither in the other's way.
    let other = node(&database);
    tokio::join!(tidy(&readers), tidy(&other));
    assert_eq!(left(), many.to_string(), "the newest event stays");
    add(many + 1, many + 1, "23 hours");
    tidy(&readers).await;
    assert_eq!(left(), (many + 1).to_string());
}

/// It is changed by nothing else: see the migration.
#[tokio::test]
async fn the_audit_log_is_kept_for_its_life_and_no_longer() {
    let (database, readers) = opened().await;
    let many = OLD_AT_ONCE + 5;
    let add = |count: usize, age: &str| {
        database.sql(&format!(
            "INSERT INTO audit (tenant, time, id, outcome, actor, actor_tenant, address, request_id, action, target, detail)
             SELECT 'acme', (extract(epoch FROM now() - interval '{age}') * 1000000)::bigint, gen_random_uuid(), 1, '{age}', '', '', '', '', '', ''
             FROM generate_series(1, {count})"
        ));
    };
    let days = AUDIT_LIFE.as_secs() / (24 * 3600);
    add(many, &format!("{days} days 1 hour"));
    add(1, &format!("{days} days -1 hour"));
    let left = || database.sql("SELECT string_agg(actor, ',') FROM audit");
    let other = node(&database);
    tokio::join!(tidy_audit(&readers), tidy_audit(&other));
    assert_eq!(left(), format!("{days} days -1 hour"));
    let change = "UPDATE audit SET actor = 'nobody'";
    let changed = readers
        .read(move |client| Box::pin(async move { Ok(client.batch_execute(change).await?) }));
    let refused = changed.await.expect_err("a record was changed").to_string();
    assert!(refused.contains("never changed"), "{refused}");
    assert_eq!(left(), format!("{days} days -1 hour"));
}

/// A node that comes by while another one is at it goes on later where it was.
#[tokio::test]
async fn who_finds_others_at_it_keeps_the_place() {
    let (database, readers) = opened().await;
    let other = node(&database);
    let left = 3 * u32::try_from(*ROWS_AT_ONCE.end()).expect("a small number");
    fill(&database, "00000000-0001-7fff-8000", "", left);
    database.sql(
        "UPDATE partitions SET high = '00000000-0002-0000-0000-000000000000' WHERE low IS NULL",
    );
    let slice = async |readers: &Readers, round: &Round| {
        let (from, rows) = (round.place.clone(), round.rows);
        let removed =
            readers.read(move |client| Box::pin(leftovers::remove(client, RETENTION, from, rows)));
        removed.await.expect("an answer")
    };
    let Slice::GoOn { next, .. } = slice(&readers, &Round::default()).await else {
        panic!("there is more");
    };
    let begun = Round {
        place: next,
        rows: 7,
    };
    // The other one is in the middle of a slice.
    let (is_in, came_in) = tokio::sync::oneshot::channel();
    let (leave, left_alone) = tokio::sync::oneshot::channel::<()>();
    let holds = other.read(move |client| {
        Box::pin(async move {
            let held = partitions::alone(client, leftovers::LOCK, async |_| {
                let _ = is_in.send(());
                let _ = left_alone.await;
                Ok(())
            });
            held.await
        })
    });
    let meanwhile = async {
        came_in.await.expect("the other one's turn");
        let before = counts(&database);
        let mut round = Round {
            place: begun.place.clone(),
            rows: begun.rows,
        };
        remove_leftovers(&readers, RETENTION, &mut round).await;
        assert_eq!(round, begun);
        assert_eq!(counts(&database), before);
        // Ranges are made all the same.
        let made = readers.read(|client| {
            Box::pin(partitions::alone(
                client,
                partitions::LOCK,
                async |_| Ok(()),
            ))
        });
        assert_eq!(made.await.expect("an answer"), Some(()));
        let _ = leave.send(());
        round
    };
    let (held, mut round) = tokio::join!(holds, meanwhile);
    assert_eq!(held.expect("an answer"), Some(()));
    // The rule can fail: with nobody in the way it goes on, to the end.
    remove_leftovers(&readers, RETENTION, &mut round).await;
    assert_eq!(round, Round::default());
    assert_eq!(counts(&database), "0|0|0");
}

/// The server ends a slice that takes too long.
#[tokio::test]
async fn what_is_too_much_at_once_goes_in_smaller_slices() {
    let (database, readers) = opened().await;
    fill(&database, "00000000-0001-7fff-8000", "", 20);
    database.sql(
        "UPDATE partitions SET high = '00000000-0002-0000-0000-000000000000' WHERE low IS NULL",
    );
    // Whoever takes away more than five rows with one statement is ended.
    database.sql(
        "CREATE FUNCTION too_much() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF (SELECT count(*) FROM gone) > 5 THEN RAISE EXCEPTION 'too slow' USING ERRCODE = '57014'; END IF;
            RETURN NULL;
         END $$;
         CREATE TRIGGER too_much AFTER DELETE ON tasks_first REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION too_much()",
    );
    remove_leftovers(&readers, RETENTION, &mut Round::default()).await;
    assert_eq!(counts(&database), "0|0|0");
}
