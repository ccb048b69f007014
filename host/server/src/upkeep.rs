//! Cleaning a yard up, copying it, and making one from a copy.

use std::path::Path;
use std::sync::Arc;

use opyard_store::backup::{self, Beside, Manifest, Restored};
use opyard_store::gc::{GcReport, Retention};

use crate::clock::SystemClock;
use crate::error::YardError;
use crate::supply::ORIGINS;
use crate::yard::{COMPONENTS, Yard};

impl Yard {
    /// Removes what nothing references, of every tenant. Runs may go on meanwhile, here and in other processes.
    ///
    /// # Errors
    /// When a clean-up or backup is under way, when it cannot be known what is referenced, or the yard does not answer.
    pub async fn gc(&self, retention: &Retention) -> Result<GcReport, YardError> {
        Ok(self.store().gc(retention).await?)
    }

    /// Copies the yard, as it stands at one moment, into a folder that is empty or not there yet: database, objects and
    /// components. Compiled code is not copied: it is made again.
    ///
    /// # Errors
    /// When the folder is not empty, a clean-up or backup is under way, or something cannot be read or written.
    pub async fn backup(&self, folder: &Path) -> Result<Manifest, YardError> {
        let beside = [COMPONENTS, ORIGINS].map(|name| Beside { name, folder: self.folder().join(name) });
        Ok(self.store().backup(folder, &beside).await?)
    }
}

/// Makes a yard in a folder that is empty or not there yet from a backup, every byte of which is checked. Its objects are
/// in the folder, wherever those of the yard that was copied were.
///
/// # Errors
/// When the folder is not empty, the backup is not whole, or something cannot be read or written.
pub async fn restore(backup: &Path, yard: &Path) -> Result<Restored, YardError> {
    Ok(backup::restore(backup, yard, Arc::new(SystemClock)).await?)
}
