//! The one connection that writes. Its calls block: they are made for a thread of their own.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::{Shared, fault, read, readers::READERS, registry, scan, space::Space, write};
use crate::{
    domain::{
        Job, JobKey, Timestamp,
        command::{Changes, RequestKey, RequestRecord},
        event::EventKind,
        registry::{Record, RecordKey},
    },
    store::{
        Committed, Locked, Note, Ready, StoreError, TOMBSTONE_LIFE, Whose, Writer, rows::Coded as _,
    },
};

/// Pages of the write-ahead log, of 4 KiB, from which an idle moment is used to empty it: 4 MiB.
const CHECKPOINT_PAGES: i64 = 1_024;
/// Pages from which it is emptied even if no moment is idle: 16 MiB. Once it has been that long, commits overwrite its file from the beginning, which
/// a disk does sooner than lengthening it.
const FORCED_CHECKPOINT_PAGES: i64 = 4_096;
/// Pages by which it may grow though it is emptied, before readers are held up for that: 64 MiB. The log begins anew only at a moment at which nobody
/// reads from it, and readers that overlap leave none.
const PAGES_BEFORE_PAUSE: i64 = 16_384;
/// Bytes, as estimated, that are written between two looks at the log's length. A look is a pragma, which SQLite parses anew each time.
const BYTES_BETWEEN_LOOKS: usize = 1024 * 1024;
/// What a commit writes besides its jobs, at least: a page of each table and index.
const COMMIT_BYTES: usize = 32 * 1024;
/// Events of removed jobs that one idle moment removes.
const TOMBSTONES_AT_ONCE: usize = 2_000;

/// See [`Writer`].
#[derive(Debug)]
pub(super) struct SqliteWriter {
    // Before what it shares: the directory's lock must outlive the connection.
    connection: Connection,
    shared: Arc<Shared>,
    space: Space,
    /// The newest position of the feed.
    position: u64,
    /// Bytes, as estimated, since the log's length was looked at.
    unlooked: usize,
    /// Pages of the log at which readers are held up next.
    pause_at: i64,
    /// Set once the disk can not be trusted any more; nothing is done after that.
    broken: Option<StoreError>,
}

impl SqliteWriter {
    pub(super) fn new(
        connection: Connection,
        shared: Arc<Shared>,
        space: Space,
    ) -> Result<Self, StoreError> {
        let position = read::position(&connection)?;
        Ok(Self {
            connection,
            shared,
            space,
            position,
            unlooked: 0,
            pause_at: PAGES_BEFORE_PAUSE,
            broken: None,
        })
    }

    fn usable(&self) -> Result<(), StoreError> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn roll_back(&mut self) {
        // SQLite has rolled back by itself after some errors.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            self.broken = Some(StoreError::Fatal(format!(
                "a transaction could not be rolled back: {error}"
            )));
        }
    }

    /// Notes what an error means for what comes after.
    fn failed(&mut self, error: StoreError) -> StoreError {
        self.roll_back();
        match &error {
            StoreError::Full => self.space.release(),
            StoreError::Fatal(_) => self.broken = Some(error.clone()),
            StoreError::OutcomeUnknown(_)
            | StoreError::Conflict(_)
            | StoreError::Unavailable(_)
            | StoreError::Busy(_)
            | StoreError::Failed(_)
            | StoreError::Corrupt(_) => {}
        }
        error
    }

    fn write(&mut self, changes: &Changes, first_position: u64) -> Result<(), StoreError> {
        write::changes(&self.connection, changes, first_position)?;
        registry::write(&self.connection, changes)?;
        self.connection
            .prepare_cached("COMMIT")?
            .execute(())
            .map_err(fault::in_commit)?;
        Ok(())
    }

    /// Moves the log into the database if it has grown to `pages`.
    async fn checkpoint_from(&mut self, pages: i64) -> Result<(), StoreError> {
        let in_log = self.log_pages()?;
        if in_log < PAGES_BEFORE_PAUSE {
            self.pause_at = PAGES_BEFORE_PAUSE;
        }
        if in_log < pages {
            return Ok(());
        }
        let mut pause = None;
        if in_log >= self.pause_at {
            // Other processes may read as well, and keep the log as it is; then this is not tried again for some time.
            self.pause_at = in_log.saturating_add(PAGES_BEFORE_PAUSE);
            // Reads are short, and who comes later waits behind this. It fails only if the store is being closed.
            let turns = Arc::clone(&self.shared.turns);
            pause = turns.acquire_many_owned(READERS as u32).await.ok();
        }
        self.connection
            .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?
            .query_row((), |_| Ok(()))?;
        drop(pause);
        Ok(())
    }

    fn log_pages(&self) -> Result<i64, StoreError> {
        let pages = self
            .connection
            .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
            .query_row((), |row| row.get(1))?;
        Ok(pages)
    }
}

#[async_trait]
impl Writer for SqliteWriter {
    async fn begin(&mut self) -> Result<(), StoreError> {
        self.usable()?;
        self.connection
            .prepare_cached("BEGIN IMMEDIATE")?
            .execute(())?;
        Ok(())
    }

    async fn requests(
        &mut self,
        keys: &[RequestKey],
    ) -> Result<Vec<(RequestKey, RequestRecord)>, StoreError> {
        read::requests(&self.connection, keys)
    }

    async fn records(&mut self, keys: &[RecordKey]) -> Result<Vec<Record>, StoreError> {
        registry::records(&self.connection, keys)
    }

    async fn jobs(&mut self, keys: &[JobKey], _: Locked) -> Result<Vec<Job>, StoreError> {
        let jobs = keys.iter().map(|key| read::job(&self.connection, key));
        jobs.filter_map(Result::transpose).collect()
    }

    async fn ready(
        &mut self,
        driver: &str,
        whose: Whose<'_>,
        limit: usize,
    ) -> Result<Ready, StoreError> {
        read::ready(&self.connection, driver, whose, limit)
    }

    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        read::due(&self.connection, now, limit)
    }

    async fn next_due(&mut self) -> Result<Option<Timestamp>, StoreError> {
        read::next_due(&self.connection)
    }

    async fn expired(&mut self, now: Timestamp, limit: usize) -> Result<Vec<JobKey>, StoreError> {
        read::expired(&self.connection, now, limit)
    }

    async fn open_children(
        &mut self,
        parent: &JobKey,
        limit: usize,
    ) -> Result<Vec<JobKey>, StoreError> {
        read::open_children(&self.connection, parent, limit)
    }

    async fn commit(&mut self, changes: &Changes) -> Result<Committed, StoreError> {
        self.usable()?;
        let first_position = self.position + 1;
        if let Err(error) = self.write(changes, first_position) {
            return Err(self.failed(error));
        }
        self.position += changes.events.len() as u64;
        let of_event = changes.events.last().map(|event| event.time);
        let of_record = changes.audit.last().map(|record| record.time);
        if let Some(newest) = of_event.max(of_record) {
            self.space.check_if_stale(newest);
        }
        let jobs = changes.jobs.iter().map(|write| write.job.memory_bytes());
        self.unlooked += COMMIT_BYTES + jobs.sum::<usize>();
        if self.unlooked >= BYTES_BETWEEN_LOOKS {
            self.unlooked = 0;
            // What was committed stays so, whatever becomes of the log; the next commit will meet the same trouble, and say so.
            if let Err(error) = self.checkpoint_from(FORCED_CHECKPOINT_PAGES).await {
                let error = self.failed(error);
                tracing::error!(%error, "the write-ahead log could not be emptied");
            }
        }
        Ok(Committed {
            first_position: Some(first_position),
        })
    }

    async fn rollback(&mut self) {
        self.roll_back();
    }

    async fn tidy(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.usable()?;
        self.space.check_if_stale(now);
        // Never the newest event: its position must not be given to another one after a restart.
        let removed = self
            .connection
            .prepare_cached(&format!(
                "DELETE FROM events WHERE position IN (
                    SELECT position FROM events INDEXED BY events_tombstones
                    WHERE kind = {removed} AND time < ?1 ORDER BY time LIMIT ?2)
                 AND position < (SELECT max(position) FROM events)",
                removed = EventKind::JobDeleted.code(),
            ))?
            .execute(params![
                now.before(TOMBSTONE_LIFE).as_micros(),
                read::as_limit(TOMBSTONES_AT_ONCE)
            ])
            .and_then(|_| registry::tidy(&self.connection, now))
            .map_err(fault::in_commit);
        let tidied = match removed {
            Ok(()) => self.checkpoint_from(CHECKPOINT_PAGES).await,
            Err(error) => Err(error),
        };
        tidied.map_err(|error| self.failed(error))
    }

    async fn set_note(&mut self, note: Note, value: Option<&[u8]>) -> Result<(), StoreError> {
        self.usable()?;
        scan::set_note(&self.connection, note, value).map_err(|error| self.failed(error))
    }

    fn is_low_on_space(&self) -> bool {
        self.space.is_low()
    }
}

impl Drop for SqliteWriter {
    fn drop(&mut self) {
        self.roll_back();
        // A short log makes for a short start. If this fails, the next start does it.
        if self.broken.is_none()
            && let Err(error) =
                self.connection
                    .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
        {
            tracing::warn!(%error, dir = %self.shared.dir.display(), "the write-ahead log was left for the next start");
        }
    }
}
