//! Component files: read with a bound, and kept in the yard under their digest.

use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use opyard_model::digest::ComponentDigest;
use opyard_model::error::{Code, Failure};
use opyard_model::id::TenantId;
use opyard_resources::oci::{MAX_COMPONENT, digest_of};
use opyard_sandbox::{ComponentBounds, ComponentSource};
use opyard_store::folder;

// What a registry may send is what the widest bounds admit.
const _: () = assert!(MAX_COMPONENT == ComponentBounds::CHOSEN.size.0);

/// Reads a component file, at most 64 MiB.
///
/// # Errors
/// `OPY-230` when it cannot be read, `OPY-234` when it is larger.
pub fn read(path: &Path) -> Result<Bytes, Failure> {
    read_bounded(path, MAX_COMPONENT)
}

/// Reads a file of at most `max` bytes.
///
/// # Errors
/// `OPY-230` when it cannot be read, `OPY-234` when it is larger.
pub(crate) fn read_bounded(path: &Path, max: u64) -> Result<Bytes, Failure> {
    let unreadable = |reason: String| Failure::new(Code::ComponentUnreadable, format!("{}: {reason}", path.display()));
    let wrong = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => unreadable("there is no such file".to_owned()),
        _ => unreadable(error.to_string()),
    };
    // Looked at before it is opened: opening a pipe waits for whoever writes.
    let found = std::fs::metadata(path).map_err(wrong)?;
    if !found.is_file() {
        let what = if found.is_dir() { "a folder, not a file" } else { "not a regular file" };
        return Err(unreadable(what.to_owned()));
    }
    let file = std::fs::File::open(path).map_err(wrong)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > max {
        return Err(Failure::new(Code::TooLarge, format!("{}: more than {max} bytes", path.display())));
    }
    Ok(bytes.into())
}

/// Writes a file of a folder, whole or not at all: nobody ever sees half of it. `what` it is, for messages.
///
/// # Errors
/// `OPY-302` when no space is left, `OPY-313`.
pub(crate) fn write_whole(folder: &Path, name: &str, bytes: &[u8], what: &str) -> Result<(), Failure> {
    let path = folder.join(name);
    let failed = |error: std::io::Error| {
        let code = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::StoreFull,
            _ => Code::FileUnreadable,
        };
        Failure::new(code, format!("{what} cannot be kept at {}: {error}", path.display()))
    };
    folder::make(folder).map_err(failed)?;
    // A name of its own per process, then a rename.
    let half = folder.join(format!(".{}.{name}", std::process::id()));
    let mut file = std::fs::File::create(&half).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&half, &path).and_then(|()| folder::sync(folder)).map_err(failed)
}

/// The components that runs of this yard use, one file each, named by digest: a run that is taken up again finds what it
/// was planned with, whatever has become of the file that the definitions name.
#[derive(Debug, Clone)]
pub(crate) struct ComponentFolder(PathBuf);

impl ComponentFolder {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn path(&self, digest: ComponentDigest) -> PathBuf {
        let digest = digest.to_string();
        self.0.join(format!("{}.wasm", digest.trim_start_matches("sha256:")))
    }

    /// A component that is kept, if its bytes are what they were.
    pub(crate) async fn verified(&self, digest: ComponentDigest) -> Option<Bytes> {
        let path = self.path(digest);
        let read = move || read(&path).ok().filter(|bytes| digest_of(bytes) == digest);
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Keeps a component. What is there already stays.
    pub(crate) fn keep(&self, digest: ComponentDigest, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.path(digest);
        if path.metadata().is_ok_and(|found| found.len() == bytes.len() as u64) {
            return Ok(());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        write_whole(&self.0, &name, bytes, "the component")
    }
}

#[async_trait]
impl ComponentSource for ComponentFolder {
    async fn bytes(&self, _: &TenantId, digest: ComponentDigest) -> Result<Bytes, Failure> {
        let path = self.path(digest);
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        read.map_err(|_| Failure::new(Code::HostPanic, "reading a component panicked"))?
    }
}
