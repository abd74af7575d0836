//! Room on the disk. SQLite can not even delete on a full disk, so two things are kept: a mark below which new work is refused in good time, and a
//! reserve that is given back when the disk is full all the same, so that what was accepted can still be finished.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::domain::Timestamp;

/// Bytes set aside: a few thousand commits of completions.
const RESERVE_BYTES: u64 = 16 * 1024 * 1024;
/// Free bytes below which new work is refused: room for the write-ahead log to grow while what is running ends.
const LOW_BYTES: u64 = 64 * 1024 * 1024;
/// How often the disk is asked: cheap, but not free, and it does not fill up in an instant.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// What the reserve is called in the data directory.
const RESERVE_FILE: &str = "reserve";

/// Watches the room on the disk of one directory.
#[derive(Debug)]
pub(super) struct Space {
    dir: PathBuf,
    low: AtomicBool,
    checked: Option<Timestamp>,
}

impl Space {
    /// Sets the reserve aside, if there is room.
    pub(super) fn new(dir: &Path) -> Self {
        let mut space = Self {
            dir: dir.to_owned(),
            low: AtomicBool::new(false),
            checked: None,
        };
        space.check();
        space
    }

    /// Whether new work should be refused.
    pub(super) fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Asks the disk, unless it was asked a moment ago.
    pub(super) fn check_if_stale(&mut self, now: Timestamp) {
        if (self.checked).is_none_or(|at| now.since(at) >= CHECK_INTERVAL) {
            self.checked = Some(now);
            self.check();
        }
    }

    /// Gives the reserve back: the disk is full.
    pub(super) fn release(&mut self) {
        self.low.store(true, Ordering::Relaxed);
        match fs::remove_file(self.reserve()) {
            Ok(()) => tracing::warn!(
                dir = %self.dir.display(),
                "the disk is full: the reserve is given back so that running work can end; new jobs are refused until there is room"
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(%error, "the reserve can not be given back"),
        }
    }

    fn check(&mut self) {
        let free = match statvfs(&self.dir) {
            Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
            Err(error) => {
                tracing::warn!(%error, "the room on the disk is not known");
                return;
            }
        };
        let has_reserve = self.reserve().exists();
        let needed = LOW_BYTES + if has_reserve { 0 } else { RESERVE_BYTES };
        let low = free < needed;
        if !low
            && !has_reserve
            && let Err(error) = self.set_aside()
        {
            tracing::warn!(%error, "no room could be set aside for a full disk");
        }
        if self.low.swap(low, Ordering::Relaxed) != low {
            tracing::warn!(free, low, "room on the disk of the store");
        }
    }

    fn set_aside(&self) -> io::Result<()> {
        let mut file = File::create(self.reserve())?;
        let set = match fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
            // Some file systems can not; blocks that were written count as well.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let block = vec![0; 1024 * 1024];
                (0..RESERVE_BYTES / block.len() as u64).try_for_each(|_| file.write_all(&block))
            }
            other => other.map_err(Into::into),
        };
        if set.is_err() {
            fs::remove_file(self.reserve())?;
        }
        set
    }

    fn reserve(&self) -> PathBuf {
        self.dir.join(RESERVE_FILE)
    }
}
