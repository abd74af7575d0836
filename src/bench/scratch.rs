//! A folder for data that nobody wants to keep.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::BenchError;

/// A new folder, removed when dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(parent: &Path) -> Result<Self, BenchError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("longhaul-bench-{}-{number}", std::process::id());
        let path = parent.join(name);
        fs::create_dir_all(&path)
            .map_err(BenchError::io(format!("can't make {}", path.display())))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can not be removed stays where the person looks for it.
        let _ = fs::remove_dir_all(&self.0);
    }
}
