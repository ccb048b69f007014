//! Objects of an object store on their way.

use bytes::Bytes;
use object_store::{GetOptions, ObjectStore, PutMode, PutPayload};
use opyard_store::upload::Upload;

use super::{BlobMeta, MAX_CHUNK, MAX_CONDITIONAL};
use crate::error::ResourceError;
use crate::object_store::{ObjectStoreResource, call};
use crate::path::ObjectPath;

/// Reads an object in blocks, as long as it has the etag that it was opened with.
#[derive(Debug)]
pub(crate) struct ObjectReader {
    resource: ObjectStoreResource,
    path: ObjectPath,
    etag: Option<String>,
    /// Read ahead, from `block_at`.
    block: Bytes,
    block_at: u64,
}

impl ObjectReader {
    pub(crate) fn new(resource: ObjectStoreResource, path: ObjectPath, etag: Option<String>) -> Self {
        Self { resource, path, etag, block: Bytes::new(), block_at: 0 }
    }

    /// `wanted` bytes from `offset`, where `left` are left.
    pub(super) async fn read_exact(&mut self, offset: u64, wanted: usize, left: usize) -> Result<Bytes, ResourceError> {
        let skip = offset.checked_sub(self.block_at).and_then(|skip| usize::try_from(skip).ok());
        if let Some(skip) = skip.filter(|skip| skip.saturating_add(wanted) <= self.block.len()) {
            return Ok(self.block.slice(skip..skip + wanted));
        }
        let ahead = MAX_CHUNK.min(left);
        let options = GetOptions {
            range: Some((offset..offset + ahead as u64).into()),
            if_match: self.etag.clone(),
            ..GetOptions::default()
        };
        // Links may have changed since.
        let path = self.resource.path(self.path.as_str())?;
        let block = call("reading an object", async {
            self.resource.objects().store.get_opts(path.as_path(), options).await?.bytes().await
        })
        .await?;
        if block.len() != ahead {
            return Err(ResourceError::Conflict);
        }
        (self.block, self.block_at) = (block, offset);
        Ok(self.block.slice(..wanted))
    }
}

#[derive(Debug)]
enum Sink {
    /// Sent on the way; replaces what is there.
    Stream(Upload),
    /// Held until it is whole, for the precondition to be checked in one step.
    Held(Vec<Bytes>, PutMode),
}

/// Writes an object whole.
#[derive(Debug)]
pub(crate) struct ObjectWriter {
    resource: ObjectStoreResource,
    path: ObjectPath,
    sink: Sink,
    size: u64,
}

impl ObjectWriter {
    /// Replaces what is there.
    pub(crate) fn stream(resource: ObjectStoreResource, path: ObjectPath) -> Self {
        let upload = Upload::new(resource.objects(), path.as_path().clone());
        Self { resource, path, sink: Sink::Stream(upload), size: 0 }
    }

    /// Takes effect only if `mode` holds when it is committed.
    pub(crate) fn held(resource: ObjectStoreResource, path: ObjectPath, mode: PutMode) -> Self {
        Self { resource, path, sink: Sink::Held(Vec::new(), mode), size: 0 }
    }

    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), ResourceError> {
        self.size += bytes.len() as u64;
        match &mut self.sink {
            Sink::Stream(upload) => Ok(upload.write(bytes).await?),
            Sink::Held(..) if self.size > MAX_CONDITIONAL as u64 => {
                let reason = format!("{MAX_CONDITIONAL} bytes can be put with a precondition");
                self.sink = Sink::Held(Vec::new(), PutMode::Create);
                Err(ResourceError::Limit(reason))
            }
            Sink::Held(held, _) => {
                held.push(bytes);
                Ok(())
            }
        }
    }

    pub(super) async fn commit(self) -> Result<BlobMeta, ResourceError> {
        let Self { resource, path, sink, size } = self;
        // Links may have changed since.
        let path = resource.path(path.as_str())?;
        match sink {
            Sink::Stream(upload) => {
                upload.finish().await?;
            }
            Sink::Held(..) if size > MAX_CONDITIONAL as u64 => {
                return Err(ResourceError::Limit("it was too large".into()));
            }
            Sink::Held(held, mode) => {
                let payload: PutPayload = held.into_iter().collect();
                let store = &resource.objects().store;
                call("writing an object", store.put_opts(path.as_path(), payload, mode.into())).await?;
            }
        }
        resource.head(path.as_str()).await
    }
}
