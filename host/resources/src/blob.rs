//! Objects on their way, whatever keeps them: the interface `blobs` of the contract in plain Rust.
//!
//! Hostile guests: sizes and offsets are guest-controlled. Every call is bounded in bytes ([`MAX_CHUNK`]) and in time (30 s).

mod object;

use bytes::Bytes;
use opyard_model::digest::Digest;

pub(crate) use object::{ObjectReader, ObjectWriter};

use crate::error::ResourceError;
use crate::model_registry::{ArtifactReader, ArtifactWriter, Claim};

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
    source: Source,
    meta: BlobMeta,
    position: u64,
}

/// Where it is read from.
#[derive(Debug)]
pub(crate) enum Source {
    Object(ObjectReader),
    Artifact(ArtifactReader),
}

impl From<ObjectReader> for Source {
    fn from(reader: ObjectReader) -> Self {
        Self::Object(reader)
    }
}

impl From<ArtifactReader> for Source {
    fn from(reader: ArtifactReader) -> Self {
        Self::Artifact(reader)
    }
}

impl BlobReader {
    pub(crate) fn new(source: Source, meta: BlobMeta) -> Self {
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
        match &mut self.source {
            Source::Object(reader) => reader.read_exact(offset, wanted, left).await,
            Source::Artifact(reader) => reader.read_exact(offset, wanted, left).await,
        }
    }
}

/// An object on its way in. Dropped before [`commit`](Self::commit), it leaves nothing that can be found.
#[derive(Debug)]
pub struct BlobWriter {
    sink: Sink,
    /// The file that it is of a version in the making.
    file: Option<File>,
}

/// Where it is written to.
#[derive(Debug)]
pub(crate) enum Sink {
    Object(Box<ObjectWriter>),
    Artifact(ArtifactWriter),
}

impl From<ObjectWriter> for Sink {
    fn from(writer: ObjectWriter) -> Self {
        Self::Object(Box::new(writer))
    }
}

impl From<ArtifactWriter> for Sink {
    fn from(writer: ArtifactWriter) -> Self {
        Self::Artifact(writer)
    }
}

#[derive(Debug)]
struct File {
    claim: Claim,
    hasher: Box<blake3::Hasher>,
    size: u64,
}

impl BlobWriter {
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink, file: None }
    }

    /// A file of a version in the making, which is told of it when it is committed.
    pub(crate) fn of_version(sink: Sink, claim: Claim) -> Self {
        Self { sink, file: Some(File { claim, hasher: Box::default(), size: 0 }) }
    }

    /// Adds bytes. Waits when what takes them is slower than the caller.
    ///
    /// # Errors
    /// `Limit` over [`MAX_CONDITIONAL`] with a precondition; `Unavailable`. The writer cannot be committed any more.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), ResourceError> {
        if let Some(file) = &mut self.file {
            file.hasher.update(&bytes);
            file.size += bytes.len() as u64;
        }
        match &mut self.sink {
            Sink::Object(writer) => writer.write(bytes).await,
            Sink::Artifact(writer) => writer.write(bytes).await,
        }
    }

    /// Ends a file of which nothing is to be told.
    ///
    /// # Errors
    /// `Unavailable`: then it may be there.
    pub(crate) async fn end(self) -> Result<(), ResourceError> {
        match self.sink {
            Sink::Object(writer) => writer.commit().await.map(drop),
            Sink::Artifact(writer) => writer.commit().await,
        }
    }

    /// Makes the object visible, whole; a file of a version in the making, once that is.
    ///
    /// # Errors
    /// `Conflict` when the precondition does not hold, or the version was committed meanwhile; `Limit` when it was too
    /// large; `Unavailable`: then it may be there.
    pub async fn commit(self) -> Result<BlobMeta, ResourceError> {
        let written = match self.sink {
            Sink::Object(writer) => Some(writer.commit().await?),
            Sink::Artifact(writer) => {
                writer.commit().await?;
                None
            }
        };
        let Some(File { claim, hasher, size }) = self.file else { return written.ok_or(ResourceError::NotFound) };
        let digest = Digest::from_bytes(*hasher.finalize().as_bytes());
        let last_modified_ms = written.map_or(0, |meta| meta.last_modified_ms);
        let meta = BlobMeta { path: claim.path().to_owned(), size, etag: Some(digest.to_string()), last_modified_ms };
        claim.tell(size, digest)?;
        Ok(meta)
    }
}
