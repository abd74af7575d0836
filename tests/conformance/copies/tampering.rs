//! Copies that are not as their source: what is said of them.

use super::*;

/// What a copy that was tampered with is said to differ in; nothing if it is not noticed.
async fn told_of(source: &Arc<dyn Store>, sql: &str) -> Vec<String> {
    let dir = almost_copied(source).await;
    let database = rusqlite::Connection::open(dir.path().join("longhaul.db")).unwrap();
    database.execute_batch(sql).unwrap();
    drop(database);
    let told = match copy(source, &sqlite(dir.path())).await {
        Ok(_) => Vec::new(),
        Err(CopyError::Differs(differences)) => {
            let named = differences.named.iter().map(Difference::to_string);
            named.collect()
        }
        Err(error) => panic!("{error}"),
    };
    let marked = half_copied(&*sqlite(dir.path())).await.unwrap().is_some();
    assert_eq!(marked, !told.is_empty());
    told
}

#[tokio::test]
async fn a_copy_that_was_tampered_with_is_noticed() {
    let stored = source_of(12, 6).await;
    let source = Arc::clone(&stored.store);
    let one = job("acme", 4).id;
    let hex = one.0.simple();
    let of_one = |what: &str| vec![format!("job {one} of acme {what}")];
    for (sql, told) in [
        ("SELECT 1", vec![]),
        (
            &*format!("UPDATE jobs SET priority = 1 WHERE id = x'{hex}'"),
            of_one("differs: the job itself"),
        ),
        (
            &*format!("UPDATE tasks SET driver = 'b' WHERE job = x'{hex}'"),
            vec![
                format!("job {one} of acme differs: its tasks"),
                "the counters of acme say 8 tasks of ansible that are QUEUED where there are 7".into(),
                "the counters of acme say 0 tasks of b that are QUEUED where there are 1".into(),
            ],
        ),
        (
            &*format!("UPDATE events SET time = time + 1 WHERE job = x'{hex}'"),
            of_one("differs: its events"),
        ),
        (
            "DELETE FROM request_ids WHERE id = 'request 4'",
            of_one("differs: its request id"),
        ),
        (
            "UPDATE counters SET count = count + 1 WHERE tenant = 'acme' AND driver = ''",
            vec!["the counters of acme say 9 jobs that are QUEUED and NORMAL where there are 8".into()],
        ),
        (
            &*format!(
                "INSERT INTO jobs (tenant, id, state, status, revision, update_time, rest, priority, create_time, action, creator, spec)
                 SELECT 'zeta', id, state, status, revision, update_time, rest, priority, create_time, action, creator, spec
                 FROM jobs WHERE id = x'{hex}'"
            ),
            vec![
                format!("job {one} of zeta is not in the source"),
                "the counters of zeta say 0 jobs that are QUEUED and NORMAL where there are 1".into(),
            ],
        ),
    ] {
        assert_eq!(told_of(&source, sql).await, told, "{sql}");
    }
}

#[tokio::test]
async fn many_differences_are_counted() {
    let stored = source_of(12, 6).await;
    let source = Arc::clone(&stored.store);
    let told = told_of(&source, "UPDATE jobs SET priority = 1").await;
    assert_eq!(told.len(), 10);
}

/// Whatever is kept of a job: of each something else was changed.
#[tokio::test]
async fn whatever_differs_in_a_shared_copy_is_noticed() {
    let stored = source_of(12, 6).await;
    let source = Arc::clone(&stored.store);
    let database = database();
    copy(&source, &postgres(&database).await).await.unwrap();
    let again = copy(&source, &postgres(&database).await).await.unwrap();
    assert_eq!(again.standing, Standing::Whole);

    let mut expected = Vec::new();
    for (tenant, n, sql, differs) in [
        (
            "acme",
            4,
            "UPDATE tasks SET payload = '{}' WHERE job = $",
            "its tasks",
        ),
        (
            "acme",
            5,
            "UPDATE tasks SET result = '{}' WHERE job = $",
            "its tasks",
        ),
        (
            "acme",
            7,
            "UPDATE jobs SET labels = '{\"a\": \"b\"}' WHERE id = $",
            "the job itself",
        ),
        (
            "acme",
            8,
            "UPDATE jobs SET timer = 1 WHERE id = $",
            "the job itself",
        ),
        (
            "acme",
            10,
            "UPDATE events SET time = time + 1 WHERE job = $",
            "its events",
        ),
        (
            "acme",
            11,
            "DELETE FROM request_ids WHERE job = $",
            "its request id",
        ),
        (
            "umbrella",
            0,
            "DELETE FROM ready_tasks WHERE job = $",
            "its place in the queue",
        ),
        (
            "umbrella",
            3,
            "UPDATE ready_tasks SET ready_time = 1 WHERE job = $",
            "its place in the queue",
        ),
        (
            "umbrella",
            9,
            "UPDATE ready_tasks SET driver = 'other' WHERE job = $",
            "its place in the queue",
        ),
    ] {
        let id = job(tenant, n).id;
        database.sql(&sql.replace('$', &format!("'{}'", id.0)));
        expected.push(format!("job {id} of {tenant} differs: {differs}"));
    }
    database.sql("DELETE FROM paused_drivers");
    expected.push("other drivers are paused".into());
    let Err(CopyError::Outdated(differences)) = copy(&source, &postgres(&database).await).await
    else {
        panic!("nothing was noticed");
    };
    let named = differences.named.iter().map(Difference::to_string);
    assert_eq!(named.collect::<Vec<_>>(), expected);
    assert_eq!((differences.more, differences.extra), (0, 0));
}

/// The same of an embedded one, as far as it keeps it elsewhere.
#[tokio::test]
async fn other_paused_drivers_and_documents_are_noticed() {
    let stored = source_of(12, 6).await;
    let source = Arc::clone(&stored.store);
    let dir = TempDir::new().unwrap();
    copy(&source, &sqlite(dir.path())).await.unwrap();
    let database = rusqlite::Connection::open(dir.path().join("longhaul.db")).unwrap();
    let sql = "UPDATE documents SET body = x'7b7d'; UPDATE paused_drivers SET reason = 'other'";
    database.execute_batch(sql).unwrap();
    drop(database);
    let Err(CopyError::Outdated(differences)) = copy(&source, &sqlite(dir.path())).await else {
        panic!("nothing was noticed");
    };
    let named = differences.named.iter().map(Difference::to_string);
    let of_task = format!("job {} of acme differs: its tasks", job("acme", 4).id);
    assert_eq!(
        named.collect::<Vec<_>>(),
        [of_task, "other drivers are paused".into()]
    );
}
