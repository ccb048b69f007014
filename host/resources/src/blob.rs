//! Objects on their way, whatever keeps them: the interface `blobs` of the contract in plain Rust.
//!
//! Hostile guests: sizes and offsets are guest-controlled. Every call is bounded in bytes ([`MAX_CHUNK`]) and in time (30 s).

mod object;

use bytes::Bytes;

pub(crate) use object::{ObjectReader, ObjectWriter};

use crate::error::ResourceError;

/// Most bytes of one read: 1 MiB.
pub const MAX_CHUNK: usize = 1 << 20;
/// Largest object that is put with a precondition: 64 MiB, held in memory until it is committed.
pub const MAX_CONDITIONAL: usize = 64 << 20;

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobMeta {
    /// Its path, from the root of the resource.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Changes with the object.
    pub etag: Option<String>,
    /// When it was written: milliseconds since the Unix epoch.
    pub last_modified_ms: i64,
}

/// An object that is being read, as it was when it was opened.
#[derive(Debug)]
pub struct BlobReader {
    source: ObjectReader,
    meta: BlobMeta,
    position: u64,
}

impl BlobReader {
    pub(crate) fn new(source: ObjectReader, meta: BlobMeta) -> Self {
        Self { source, meta, position: 0 }
    }

    /// What it is.
    #[must_use]
    pub fn meta(&self) -> &BlobMeta {
        &self.meta
    }

    /// Exactly `min(max, 1 MiB, bytes left)` bytes; empty at the end.
    ///
    /// # Errors
    /// `Conflict` when the object was replaced meanwhile, `NotFound` when it was removed, `Unavailable`.
    pub async fn read(&mut self, max: u32) -> Result<Bytes, ResourceError> {
        let bytes = self.read_at(self.position, max).await?;
        self.position += bytes.len() as u64;
        Ok(bytes)
    }

    /// The same from `offset`; does not move what [`read`](Self::read) reads next.
    ///
    /// # Errors
    /// As for `read`.
    pub async fn read_at(&mut self, offset: u64, max: u32) -> Result<Bytes, ResourceError> {
        let left = usize::try_from(self.meta.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = usize::try_from(max).unwrap_or(MAX_CHUNK).min(MAX_CHUNK).min(left);
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        self.source.read_exact(offset, wanted, left).await
    }
}

/// An object on its way in. Dropped before [`commit`](Self::commit), it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    sink: ObjectWriter,
}

impl BlobWriter {
    pub(crate) fn new(sink: ObjectWriter) -> Self {
        Self { sink }
    }

    /// Adds bytes. Waits when the object store is slower than the caller.
    ///
    /// # Errors
    /// `Limit` over [`MAX_CONDITIONAL`] with a precondition; `Unavailable`. The writer cannot be committed any more.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), ResourceError> {
        self.sink.write(bytes).await
    }

    /// Makes the object visible, whole.
    ///
    /// # Errors
    /// `Conflict` when the precondition does not hold; `Limit` when it was too large; `Unavailable`: then it may be there.
    pub async fn commit(self) -> Result<BlobMeta, ResourceError> {
        self.sink.commit().await
    }
}
