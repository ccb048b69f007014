//! Folders that survive a power cut. A new folder, or a file in it, is there for good only once the folder that holds its
//! name was synced.

use std::fs;
use std::io;
use std::path::Path;

/// Makes a folder, with those above it that are not there, so that none is lost any more.
///
/// # Errors
/// Those of the file system.
pub fn make(path: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(path)?;
    let new: Vec<&Path> = absolute.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(&absolute)?;
    new.into_iter().filter_map(Path::parent).try_for_each(sync)
}

/// Syncs the names in a folder.
///
/// # Errors
/// Those of the file system.
pub fn sync(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}
