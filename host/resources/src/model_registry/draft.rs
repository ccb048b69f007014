//! The files of a version in the making: which paths are taken, and what was written to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opyard_model::digest::{Digest, FieldHasher};

use super::MAX_FILES;
use crate::error::ResourceError;

/// A file that was written whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) digest: Digest,
}

#[derive(Debug, Default)]
struct State {
    /// By path; none while it is being written.
    files: BTreeMap<String, Option<Written>>,
    closed: bool,
}

/// The files of a version in the making. Clones share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft(Arc<Mutex<State>>);

/// One path of a draft, for one writer. Free again when it is dropped before the file was told.
#[derive(Debug)]
pub(crate) struct Claim {
    draft: Draft,
    path: String,
    told: bool,
}

impl Draft {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a path.
    ///
    /// # Errors
    /// `Conflict`, `Invalid`, `Limit`.
    pub(crate) fn claim(&self, path: &str) -> Result<Claim, ResourceError> {
        let mut state = self.state();
        if state.files.contains_key(path) {
            return Err(ResourceError::Conflict);
        }
        if state.files.len() >= MAX_FILES {
            return Err(ResourceError::Limit(format!("a version has at most {MAX_FILES} files")));
        }
        let inside = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
        if state.files.keys().any(|taken| inside(taken, path) || inside(path, taken)) {
            return Err(ResourceError::Invalid("a file of a version cannot be a folder of it too".into()));
        }
        state.files.insert(path.to_owned(), None);
        Ok(Claim { draft: self.clone(), path: path.to_owned(), told: false })
    }

    /// The files that were written, in the order of their paths. Whatever is written later is none of them.
    pub(crate) fn close(&self) -> Vec<Written> {
        let mut state = self.state();
        state.closed = true;
        std::mem::take(&mut state.files).into_values().flatten().collect()
    }
}

impl Claim {
    /// The path, from the root of the version.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The file is written whole.
    ///
    /// # Errors
    /// `Conflict` when the version was committed before.
    pub(crate) fn tell(mut self, size: u64, digest: Digest) -> Result<(), ResourceError> {
        let written = Written { path: self.path.clone(), size, digest };
        let mut state = self.draft.state();
        if state.closed {
            return Err(ResourceError::Conflict);
        }
        state.files.insert(written.path.clone(), Some(written));
        drop(state);
        self.told = true;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.told {
            self.draft.state().files.remove(&self.path);
        }
    }
}

/// The digest of a version: over paths, sizes and digests of its files, in the order of their paths.
pub(crate) fn digest_of(files: &[Written]) -> Digest {
    let mut hasher = FieldHasher::new("opyard model 1");
    hasher.count(files.len());
    for file in files {
        hasher.field(file.path.as_bytes()).field(&file.size.to_le_bytes()).field(file.digest.as_bytes());
    }
    hasher.finish()
}
