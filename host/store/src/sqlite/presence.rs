//! Which processes are there. Each holds the lock of a file of its own for as long as it lives; the system frees it when the
//! process is gone, however it went.
//!
//! This is a short cut: what a process owned may be taken over without waiting for its lease. Where files cannot be locked,
//! or the process is on another machine, the lease decides. Either way it is the fencing token that keeps two owners apart.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{StoreError, StoreErrorKind};

/// Most files of processes that are gone which are removed at a time.
const SWEPT: usize = 1_000;

/// This process, among those that have opened the same database.
pub(crate) struct Presence {
    folder: PathBuf,
    path: PathBuf,
    /// Locked.
    _own: File,
}

impl Presence {
    /// Enters: makes and locks this process's file beside the database, and removes those of processes that are gone.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be made.
    pub(crate) fn enter(database: &Path, process: &str) -> Result<Self, StoreError> {
        let wrong = |error: std::io::Error| {
            let context = format!("opening the database {}", database.display());
            StoreError::new(context, StoreErrorKind::Unavailable(error.to_string()))
        };
        let folder = database.with_file_name("processes");
        std::fs::create_dir_all(&folder).map_err(wrong)?;
        sweep(&folder);
        // Locked before it has its name: whoever sees the name finds it locked.
        let (new, path) = (folder.join(format!("{process}.new")), folder.join(process));
        let own = File::create(&new).map_err(wrong)?;
        // A file system without locks: the lease alone decides then.
        let _ = own.try_lock();
        std::fs::rename(&new, &path).map_err(wrong)?;
        Ok(Self { folder, path, _own: own })
    }

    /// The process is known to be gone.
    pub(crate) fn is_gone(&self, process: &str) -> bool {
        if !process.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return false;
        }
        match File::open(self.folder.join(process)) {
            Ok(file) => is_free(&file),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // If it stays, the next process removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn is_free(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    }
}

fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().take(SWEPT) {
        // One that has no name yet may not be locked yet.
        if entry.path().extension().is_none() && File::open(entry.path()).is_ok_and(|file| is_free(&file)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
