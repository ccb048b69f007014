//! Objects that are read piece by piece.

use std::io;

use super::{BlobMeta, ResourceError};
use crate::bindings::opyard::resources::blobs;

/// The most that crosses in one call.
pub(super) const MAX_CHUNK: u32 = 1 << 20;

/// An object that is read piece by piece.
#[derive(Debug)]
pub struct BlobReader {
    of: String,
    handle: blobs::BlobReader,
}

impl BlobReader {
    /// `of`: the resource and what is read of it.
    pub(super) fn new(of: String, handle: blobs::BlobReader) -> Self {
        Self { of, handle }
    }

    /// All that is left to read. Holds it in memory.
    ///
    /// # Errors
    /// What the host answered.
    pub fn into_bytes(self) -> Result<Vec<u8>, ResourceError> {
        let mut all = Vec::new();
        loop {
            let chunk = self.chunk(MAX_CHUNK)?;
            if chunk.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&chunk);
        }
    }

    /// What is known about the object that is being read.
    #[must_use]
    pub fn meta(&self) -> BlobMeta {
        self.handle.meta()
    }

    /// At most `max` bytes (and at most 1 MiB) from `offset`; empty at the end. Does not move the reading position.
    ///
    /// # Errors
    /// What the host answered.
    pub fn read_at(&self, offset: u64, max: u32) -> Result<Vec<u8>, ResourceError> {
        self.handle.read_at(offset, max).map_err(|error| ResourceError::new(self.of.clone(), error))
    }

    fn chunk(&self, max: u32) -> Result<Vec<u8>, ResourceError> {
        self.handle.read(max).map_err(|error| ResourceError::new(self.of.clone(), error))
    }
}

impl io::Read for BlobReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let max = u32::try_from(into.len()).unwrap_or(MAX_CHUNK).min(MAX_CHUNK);
        let chunk = self.chunk(max).map_err(io::Error::other)?;
        into[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }
}
