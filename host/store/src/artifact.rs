//! The artifact store: bytes by their digest, one name space per tenant.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use opyard_model::digest::Digest;
use opyard_model::value::ArtifactRef;

use crate::error::{StoreError, StoreErrorKind};
use crate::event_log::Durable;

/// Largest value that is put whole, and packed with others of the same group commit: 64 KiB. Larger ones are streamed.
pub const MAX_PACKED: usize = 64 << 10;

/// The answer to a put.
#[derive(Debug, Clone)]
pub struct Put {
    /// What was put.
    pub artifact: ArtifactRef,
    /// When it is durable. It can be read at once.
    pub durable: Durable,
}

/// The artifacts of one tenant. There is no handle without a tenant, and no way from one tenant's handle to another's.
///
/// # Contract
/// Put-if-absent: the same bytes again give the same reference, and are stored once. Whatever is read is checked against
/// its digest before the last byte is handed out. An event that names an artifact is committed after the artifact: a small
/// one is part of the same group commit, so an event appended after `put` returned never becomes durable without it.
#[async_trait]
pub trait ArtifactStore: Send + Sync {
    /// Puts a small value, at most [`MAX_PACKED`] bytes. Returns once it can be read.
    ///
    /// # Errors
    /// `TooLarge`, `Full`, `Unavailable`.
    async fn put(&self, bytes: Bytes) -> Result<Put, StoreError>;

    /// Begins a value of any size, written in chunks and never held whole.
    ///
    /// # Errors
    /// `Full`, `Unavailable`.
    async fn begin(&self) -> Result<Box<dyn ArtifactWriter>, StoreError>;

    /// Opens an artifact.
    ///
    /// # Errors
    /// `Missing` when it is not there or another tenant's, `Unavailable`.
    async fn get(&self, digest: Digest) -> Result<Box<dyn ArtifactReader>, StoreError>;

    /// Makes sure that artifacts are there, and stay for a while, as if they were put again: clean-up leaves alone what was
    /// put lately, so that an event can name it. Durable when this returns.
    ///
    /// # Errors
    /// `Missing` when one is not there or another tenant's, `Unavailable`.
    async fn keep(&self, digests: &[Digest]) -> Result<(), StoreError>;

    /// Every artifact, in no order.
    fn list(&self) -> BoxStream<'static, Result<ArtifactRef, StoreError>>;
}

/// An artifact on its way in. Dropped before [`finish`](Self::finish), it leaves nothing that can be read.
#[async_trait]
pub trait ArtifactWriter: Send {
    /// Adds bytes. Waits when the object store is slower than the caller, so that little is held in memory.
    ///
    /// # Errors
    /// `Full`, `Unavailable`. The writer cannot be used any more.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Makes it an artifact. A large one is durable when this returns.
    ///
    /// # Errors
    /// `Full`, `Unavailable`.
    async fn finish(self: Box<Self>) -> Result<Put, StoreError>;
}

/// Reads an artifact into memory.
///
/// # Errors
/// `TooLarge` when it has more than `max` bytes; those of opening and reading it.
pub async fn read_whole(store: &dyn ArtifactStore, digest: Digest, max: u64) -> Result<Vec<u8>, StoreError> {
    let mut reader = store.get(digest).await?;
    let size = reader.artifact().size;
    if size > max {
        let reason = format!("{size} bytes; {max} are the limit");
        return Err(StoreError::new(format!("reading artifact {digest}"), StoreErrorKind::TooLarge(reason)));
    }
    let mut bytes = Vec::new();
    loop {
        let chunk = reader.read_at(bytes.len() as u64, 1 << 20).await?;
        if chunk.is_empty() {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// An open artifact.
#[async_trait]
pub trait ArtifactReader: Send {
    /// What it is.
    fn artifact(&self) -> ArtifactRef;

    /// Exactly `min(max, size - offset)` bytes from `offset`; empty at the end.
    ///
    /// The whole is checked against the digest before its last byte is handed out to someone who reads from start to end;
    /// a read out of that order checks the whole first.
    ///
    /// # Errors
    /// `Corrupt`, `Missing` (removed meanwhile), `Unavailable`.
    async fn read_at(&mut self, offset: u64, max: usize) -> Result<Bytes, StoreError>;
}
