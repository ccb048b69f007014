//! `opyard.lock`, beside the definitions.

use std::path::{Path, PathBuf};

use opyard_model::error::Code;
use opyard_model::supply::{Lock, MAX_LOCK};

use crate::components;
use crate::error::YardError;

/// The lock file of a definitions file: of the same name, with `lock` in place of `yaml`.
pub(crate) struct LockFile {
    path: PathBuf,
    pub(crate) lock: Lock,
}

impl LockFile {
    /// Reads it; one that is not there pins nothing.
    pub(crate) fn beside(definitions: &Path) -> Result<Self, YardError> {
        let path = definitions.with_extension("lock");
        if path == definitions {
            let text = format!("{}: a definitions file with the name of its own lock file", path.display());
            return Err(YardError::new(Code::BadCall, text));
        }
        let lock = if path.exists() {
            let wrong = |problem: String| {
                let text = format!("{}: {problem}; `opyard op pull` writes it anew once it is gone", path.display());
                YardError::new(Code::LockUnusable, text)
            };
            let bytes =
                components::read_bounded(&path, MAX_LOCK as u64).map_err(|failure| wrong(failure.description))?;
            Lock::parse(&bytes).map_err(|error| wrong(error.to_string()))?
        } else {
            Lock::default()
        };
        Ok(Self { path, lock })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self) -> Result<(), YardError> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = self.path.parent().unwrap_or(Path::new("."));
        Ok(components::write_whole(folder, &name, self.lock.to_text().as_bytes(), "the lock file")?)
    }
}
