//! The artifacts.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use opyard_model::digest::Digest;
use opyard_model::value::ArtifactRef;

use super::MemoryTenant;
use super::image::Change;
use crate::artifact::{ArtifactReader, ArtifactStore, ArtifactWriter, Put};
use crate::error::{StoreError, StoreErrorKind};
use crate::sqlite::artifacts::{SmallReader, check_small};

impl MemoryTenant {
    fn store(&self, bytes: Bytes) -> Put {
        let artifact = ArtifactRef::of(&bytes);
        let mut kept = self.0.kept();
        kept.change(self.0.clock.now(), Change::Put(artifact.digest, bytes));
        Put { artifact, durable: self.0.durable(&kept) }
    }
}

#[async_trait]
impl ArtifactStore for MemoryTenant {
    async fn put(&self, bytes: Bytes) -> Result<Put, StoreError> {
        check_small(&bytes)?;
        Ok(self.store(bytes))
    }

    async fn begin(&self) -> Result<Box<dyn ArtifactWriter>, StoreError> {
        Ok(Box::new(MemoryWriter { tenant: self.clone(), chunks: Vec::new() }))
    }

    async fn get(&self, digest: Digest) -> Result<Box<dyn ArtifactReader>, StoreError> {
        let bytes = self.0.kept().accepted.artifacts.get(&digest).cloned();
        let missing = || StoreError::new("opening an artifact", StoreErrorKind::Missing(digest));
        Ok(Box::new(SmallReader { digest, bytes: bytes.ok_or_else(missing)? }))
    }

    async fn keep(&self, digests: &[Digest]) -> Result<(), StoreError> {
        let durable = {
            let kept = self.0.kept();
            if let Some(digest) = digests.iter().find(|digest| !kept.accepted.artifacts.contains_key(digest)) {
                return Err(StoreError::new("keeping artifacts", StoreErrorKind::Missing(*digest)));
            }
            self.0.durable(&kept)
        };
        durable.wait().await
    }

    fn list(&self) -> BoxStream<'static, Result<ArtifactRef, StoreError>> {
        let all: Vec<_> = self
            .0
            .kept()
            .accepted
            .artifacts
            .iter()
            .map(|(digest, bytes)| Ok(ArtifactRef { digest: *digest, size: bytes.len() as u64 }))
            .collect();
        futures::stream::iter(all).boxed()
    }
}

struct MemoryWriter {
    tenant: MemoryTenant,
    chunks: Vec<Bytes>,
}

#[async_trait]
impl ArtifactWriter for MemoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.chunks.push(bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Put, StoreError> {
        Ok(self.tenant.store(self.chunks.concat().into()))
    }
}
