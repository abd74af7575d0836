//! The embedded store when files, disk or process let it down: it says what is wrong and what to do, and keeps what it promised.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use longhaul::{
    domain::{Document, JobState, Tenant, command::Changes, event::EventKind},
    store::{
        FeedCursor, Store, StoreError,
        sqlite::{OpenError, SqliteStore},
    },
};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::fixture::*;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn database(dir: &Path) -> PathBuf {
    dir.join("longhaul.db")
}

/// A closed store with a job in it.
async fn closed() -> TempDir {
    let dir = directory();
    let mut stored = Stored::in_sqlite_at(dir.path());
    stored.submit(&job("acme", 1)).await;
    dir
}

/// Opens what can not be opened; the message must tell where and what to do.
fn refused(dir: &Path, advice: &str) -> OpenError {
    let error = SqliteStore::open(dir).unwrap_err();
    let message = error.to_string();
    assert!(message.contains(dir.to_str().unwrap()), "{message}");
    assert!(message.contains(advice), "{message}");
    error
}

#[tokio::test]
async fn a_second_server_is_told_who_is_there() {
    let dir = closed().await;
    let first = SqliteStore::open(dir.path()).unwrap();
    let error = refused(dir.path(), "stop that server first");
    let us = std::process::id();
    assert!(matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == us));
    // The lock lasts as long as the writer, even if the store has gone.
    let writer = first.writer().unwrap();
    drop(first);
    refused(dir.path(), "--data-dir");
    drop(writer);
    SqliteStore::open(dir.path()).unwrap();
}

#[test]
fn a_file_of_another_kind_is_left_alone() {
    let dir = directory();
    let text = "not a database, but somebody's notes".repeat(10);
    fs::write(database(dir.path()), &text).unwrap();
    let error = refused(dir.path(), "move it away");
    assert!(matches!(error, OpenError::Foreign { .. }));
    assert_eq!(fs::read_to_string(database(dir.path())).unwrap(), text);
}

#[test]
fn another_programs_database_is_left_alone() {
    let dir = directory();
    let theirs = Connection::open(database(dir.path())).unwrap();
    theirs.execute_batch("CREATE TABLE notes (text)").unwrap();
    drop(theirs);
    let before = fs::read(database(dir.path())).unwrap();
    let error = refused(dir.path(), "move it away");
    assert!(matches!(error, OpenError::Foreign { .. }));
    assert_eq!(fs::read(database(dir.path())).unwrap(), before);
}

#[tokio::test]
async fn a_database_that_was_cut_off_is_damaged() {
    let dir = closed().await;
    let file = OpenOptions::new()
        .write(true)
        .open(database(dir.path()))
        .unwrap();
    let length = file.metadata().unwrap().len();
    for cut in [length - 1, length / 2, 50] {
        file.set_len(cut).unwrap();
        let error = refused(dir.path(), "restore it from a backup");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    }
}

/// A server was killed, and a shell or a backup still reads what was there before its last commits: these are in the log alone.
#[tokio::test]
async fn a_database_that_is_read_elsewhere_is_not_damaged() {
    let dir = closed().await;
    let reader = Connection::open(database(dir.path())).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let jobs = |connection: &Connection| -> i64 {
        let count = "SELECT count(*) FROM jobs";
        connection.query_row(count, (), |row| row.get(0)).unwrap()
    };
    assert_eq!(jobs(&reader), 1);
    let killed = Connection::open(database(dir.path())).unwrap();
    killed
        .execute_batch(
            "PRAGMA wal_autocheckpoint = 0;
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 200)
             INSERT INTO meta (key, value) SELECT 'filler ' || n, zeroblob(4096) FROM n;",
        )
        .unwrap();
    drop(killed);
    let mut again = Stored::in_sqlite_at(dir.path());
    assert!(again.job(&job("acme", 1).key()).await.is_some());
    again.submit(&job("acme", 2)).await;
    assert_eq!(jobs(&reader), 1);
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(jobs(&reader), 2);
}

#[tokio::test]
async fn a_log_without_its_database_is_not_thrown_away() {
    let dir = closed().await;
    let log = dir.path().join("longhaul.db-wal");
    fs::write(&log, [1; 5000]).unwrap();
    let missing = || fs::remove_file(database(dir.path())).unwrap();
    let empty = || drop(fs::File::create(database(dir.path())).unwrap());
    for lose in [&missing as &dyn Fn(), &empty] {
        lose();
        let error = refused(dir.path(), "restore it from a backup");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        assert_eq!(fs::read(&log).unwrap().len(), 5000);
    }
}

#[tokio::test]
async fn a_newer_versions_database_is_left_to_it() {
    let dir = closed().await;
    let newer = Connection::open(database(dir.path())).unwrap();
    newer
        .execute(
            "INSERT INTO schema_version SELECT 999, name, applied_on, checksum FROM schema_version LIMIT 1",
            (),
        )
        .unwrap();
    drop(newer);
    let error = refused(dir.path(), "use that version");
    assert!(matches!(error, OpenError::TooNew { found: 999, .. }));
}

#[test]
fn a_directory_that_can_not_be_made_is_named() {
    let dir = directory();
    fs::write(dir.path().join("file"), "").unwrap();
    let error = refused(&dir.path().join("file/data"), "may write to it");
    assert!(matches!(error, OpenError::Directory { .. }));
}

#[tokio::test]
async fn an_empty_file_is_begun_anew() {
    // A server that was killed at the very start leaves this.
    let dir = directory();
    fs::write(database(dir.path()), "").unwrap();
    let mut stored = Stored::in_sqlite_at(dir.path());
    stored.submit(&job("acme", 1)).await;
}

#[tokio::test]
async fn a_store_that_is_opened_again_has_everything() {
    let dir = directory();
    let mut stored = Stored::in_sqlite_at(dir.path());
    let info = stored.store.info().clone();
    let mut job = job("acme", 1);
    stored.submit(&job).await;
    job.state = JobState::Running;
    job.update_time = at(7);
    job.revision += 1;
    let last = stored.change(&job, EventKind::TaskLeased).await;
    let events = stored.store.events(&job.key(), 0, 10).await.unwrap();
    drop(stored);

    let mut again = Stored::in_sqlite_at(dir.path());
    assert_eq!(again.job(&job.key()).await.as_ref(), Some(&job));
    assert_eq!(again.store.events(&job.key(), 0, 10).await.unwrap(), events);
    let found = again.store.info();
    assert_eq!(found.token_key, info.token_key);
    assert_eq!(found.newest_time, at(7));
    job.revision += 1;
    let next = again.change(&job, EventKind::TaskProgress).await;
    assert_eq!(
        next.first_position,
        last.first_position.map(|last| last + 1)
    );
}

#[tokio::test]
async fn a_writer_that_goes_in_the_middle_leaves_nothing() {
    let dir = directory();
    let mut stored = Stored::in_sqlite_at(dir.path());
    stored.writer.begin().await.unwrap();
    drop(stored);
    let mut again = Stored::in_sqlite_at(dir.path());
    assert_eq!(again.mark().await, FeedCursor::at(0));
    again.submit(&job("acme", 1)).await;
}

#[tokio::test]
async fn a_commit_that_fails_leaves_nothing() {
    let mut stored = Stored::in_sqlite();
    let known = job("acme", 1);
    stored.submit(&known).await;
    // A new job and, behind it, one that is there already.
    let mut changes = submitted(&job("acme", 2));
    changes.jobs.extend(submitted(&known).jobs);
    stored.writer.begin().await.unwrap();
    let error = stored.writer.commit(&changes).await.unwrap_err();
    assert!(matches!(error, StoreError::Failed(_)), "{error:?}");
    assert_eq!(stored.job(&job("acme", 2).key()).await, None);
    assert_eq!(stored.mark().await, FeedCursor::at(1));
    let next = stored.submit(&job("acme", 3)).await;
    assert_eq!(next.first_position, Some(2));
}

/// A disk of its own, of so many MiB.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` where a process may not mount: then other tests have to do.
    fn mounted(mebibytes: u32) -> Option<Self> {
        let dir = directory();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(dir.path())
            .output();
        mount
            .is_ok_and(|mount| mount.status.success())
            .then(|| Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn fill(&self) {
        let mut filler = fs::File::create(self.filler()).unwrap();
        let block = vec![0; 4_096];
        let error = loop {
            if let Err(error) = filler.write_all(&block) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // If this fails there is nothing that a test could do.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn on_a_full_disk_running_work_can_end() {
    let Some(disk) = SmallDisk::mounted(96) else {
        return;
    };
    let mut stored = Stored::in_sqlite_at(disk.path());
    let mut running = job("acme", 1);
    stored.submit(&running).await;
    assert!(!stored.writer.is_low_on_space());
    disk.fill();

    let mut large = job("acme", 2);
    let payload = Document(vec![b'p'; 1_000_000].into());
    Arc::make_mut(&mut large.tasks[0].spec).request_payload = Some(payload);
    let changes = submitted(&large);
    stored.writer.begin().await.unwrap();
    let error = stored.writer.commit(&changes).await.unwrap_err();
    assert!(matches!(error, StoreError::Full), "{error:?}");
    assert!(stored.writer.is_low_on_space());
    assert_eq!(stored.job(&large.key()).await, None);
    assert_eq!(stored.job(&running.key()).await.as_ref(), Some(&running));

    // The reserve was given back: what was accepted goes on and ends.
    for second in 1..200 {
        running.revision += 1;
        running.update_time = at(second);
        stored.change(&running, EventKind::TaskProgress).await;
    }
    assert!(stored.writer.is_low_on_space());
    let page = stored.store.list(list("acme", 10)).await.unwrap();
    assert_eq!(page.jobs.len(), 1);

    fs::remove_file(disk.filler()).unwrap();
    stored.writer.tidy(at(1_000)).await.unwrap();
    assert!(!stored.writer.is_low_on_space());
    stored.submit(&large).await;
    assert_eq!(stored.job(&large.key()).await, Some(large));
    let counts = stored.store.counts(&Tenant::new("acme")).await;
    counts.unwrap();
}

#[tokio::test]
async fn the_log_stays_short_though_no_moment_is_idle() {
    const MIB: u64 = 1024 * 1024;
    let dir = directory();
    let mut stored = Stored::in_sqlite_at(dir.path());
    let log = dir.path().join("longhaul.db-wal");
    for n in 0..96 {
        let mut job = job("acme", n);
        let body = vec![b'x'; MIB as usize - 1024];
        job.tasks[0].result = Some(Document(body.into()));
        stored.submit(&job).await;
        let length = fs::metadata(&log).unwrap().len();
        assert!(length < 24 * MIB, "{length} bytes after {n} jobs");
    }
}

/// Readers without a gap between them: SQLite begins its log anew only at a moment without any.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_stays_short_though_somebody_always_reads() {
    const MIB: u64 = 1024 * 1024;
    let dir = directory();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(dir.path()).unwrap());
    let mut writer = store.writer().unwrap();
    let mut commit = async |changes: Changes| {
        writer.begin().await.unwrap();
        writer.commit(&changes).await.unwrap();
    };
    let body = |bytes| Some(Document(vec![b'x'; bytes].into()));
    for n in 0..40 {
        let mut job = job("acme", n);
        job.tasks[0].result = body(256 * 1024);
        commit(submitted(&job)).await;
    }
    let mut readers = JoinSet::new();
    for _ in 0..16 {
        let store = Arc::clone(&store);
        readers.spawn(async move {
            loop {
                store.list(list("acme", 40)).await.unwrap();
            }
        });
    }
    let log = dir.path().join("longhaul.db-wal");
    for n in 1_000..1_300 {
        let mut job = job("other", n);
        job.tasks[0].result = body(MIB as usize - 1024);
        commit(submitted(&job)).await;
        let length = fs::metadata(&log).unwrap().len();
        assert!(length < 128 * MIB, "{length} bytes after {n} jobs");
    }
    readers.shutdown().await;
}

/// As calls whose client takes nothing any more: they are begun, and then not polled.
async fn reads_that_nobody_waits_for_hold_up_no_others(mut stored: Stored) {
    let job = job("acme", 1);
    stored.submit(&job).await;
    let key = job.key();
    let mut begun = Vec::new();
    // More than there are turns, or connections.
    for _ in 0..8 {
        let mut read = stored.store.job(&key);
        assert!(futures_util::poll!(&mut read).is_pending());
        begun.push(read);
    }
    let read = tokio::time::timeout(Duration::from_secs(60), stored.store.job(&key)).await;
    assert!(read.expect("a turn comes").unwrap().is_some());
    for read in begun {
        assert!(read.await.unwrap().is_some());
    }
}

#[tokio::test]
async fn reads_of_sqlite_that_nobody_waits_for_hold_up_no_others() {
    reads_that_nobody_waits_for_hold_up_no_others(Stored::in_sqlite()).await;
}

#[tokio::test]
async fn reads_of_postgres_that_nobody_waits_for_hold_up_no_others() {
    reads_that_nobody_waits_for_hold_up_no_others(Stored::in_postgres().await).await;
}
