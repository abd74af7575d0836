//! The floor of a commit: how fast the disk confirms that a page is on stable storage.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, time::Duration};

use super::{BenchError, load::Sample, now};

/// Bytes that are written before each fdatasync: one page of the store.
const PAGE_BYTES: usize = 4096;
/// Pages of the file, which are written in turn: as a log that is used again and again, the best case.
const PAGES: u64 = 1024;

/// Writes a page and waits for it, over and over. Blocks.
pub(super) fn fdatasync(dir: &Path, time: Duration) -> Result<Sample, BenchError> {
    let path = dir.join("fdatasync");
    let attempt = || -> io::Result<Sample> {
        let file = File::create(&path)?;
        let page = [0x5a; PAGE_BYTES];
        for at in 0..PAGES {
            file.write_all_at(&page, at * PAGE_BYTES as u64)?;
        }
        file.sync_all()?;
        let mut sample = Sample::new();
        let start = now();
        for at in (0..PAGES).cycle() {
            let began = now();
            file.write_all_at(&page, at * PAGE_BYTES as u64)?;
            file.sync_data()?;
            let ended = now();
            sample.add(1, ended - began);
            if ended - start >= time {
                break;
            }
        }
        sample.elapsed = start.elapsed();
        Ok(sample)
    };
    attempt().map_err(BenchError::io(format!("can't write {}", path.display())))
}
