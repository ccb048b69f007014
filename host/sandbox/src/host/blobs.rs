//! `blobs`: objects on their way, of object stores and model registries, in chunks.

use std::sync::Arc;

use bytes::Bytes;
use opyard_resources::{BlobMeta, BlobReader, BlobWriter};
use wasmtime::component::Resource;

use super::grant::{Answer, answer, limited};
use crate::bindings::opyard::resources::blobs::{self, HostBlobReader, HostBlobWriter};
use crate::gate::{Blobs, Doorway};
use crate::host::values::MAX_CHUNK;
use crate::state::HostState;

/// An open object.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Reading {
    reader: BlobReader,
    position: u64,
    _flow: Arc<()>,
}

impl Reading {
    pub(crate) fn new(reader: BlobReader, flow: Arc<()>) -> Self {
        Self { reader, position: 0, _flow: flow }
    }
}

/// An object on its way in. Dropped before it is committed, it leaves nothing.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Writing(BlobWriter, Arc<()>);

impl Writing {
    pub(crate) fn new(writer: BlobWriter, flow: Arc<()>) -> Self {
        Self(writer, flow)
    }
}

pub(crate) fn meta(meta: &BlobMeta) -> blobs::BlobMeta {
    blobs::BlobMeta {
        path: meta.path.clone(),
        size: meta.size,
        etag: meta.etag.clone(),
        last_modified_ms: meta.last_modified_ms,
    }
}

impl blobs::Host for Doorway<'_, Blobs> {}

async fn read(state: &mut HostState, this: &Resource<Reading>, offset: Option<u64>, max: u32) -> Answer<Vec<u8>> {
    let HostState { table, guard, .. } = state;
    let reading = table.get_mut(this)?;
    let left = reading.reader.meta().size.saturating_sub(offset.unwrap_or(reading.position));
    let wanted = left.min(u64::from(max)).min(MAX_CHUNK as u64);
    if let Err(limit) = guard.take_read(wanted) {
        return Ok(Err(limited(state, limit)));
    }
    let wanted = u32::try_from(wanted)?;
    let read = match offset {
        Some(offset) => reading.reader.read_at(offset, wanted).await,
        None => reading.reader.read(wanted).await,
    };
    match read {
        Ok(bytes) => {
            if offset.is_none() {
                reading.position = reading.position.saturating_add(bytes.len() as u64);
            }
            Ok(Ok(bytes.into()))
        }
        Err(error) => Ok(Err(answer(state, error))),
    }
}

impl HostBlobReader for Doorway<'_, Blobs> {
    async fn meta(&mut self, this: Resource<Reading>) -> wasmtime::Result<blobs::BlobMeta> {
        Ok(meta(self.enter()?.table.get(&this)?.reader.meta()))
    }

    async fn read(&mut self, this: Resource<Reading>, max: u32) -> Answer<Vec<u8>> {
        read(self.enter()?, &this, None, max).await
    }

    async fn read_at(&mut self, this: Resource<Reading>, offset: u64, max: u32) -> Answer<Vec<u8>> {
        read(self.enter()?, &this, Some(offset), max).await
    }

    async fn drop(&mut self, this: Resource<Reading>) -> wasmtime::Result<()> {
        self.enter()?.table.delete(this)?;
        Ok(())
    }
}

impl HostBlobWriter for Doorway<'_, Blobs> {
    async fn write(&mut self, this: Resource<Writing>, bytes: Vec<u8>) -> Answer<()> {
        let state = self.enter()?;
        if let Err(limit) = state.guard.take_written(bytes.len() as u64) {
            return Ok(Err(limited(state, limit)));
        }
        let Writing(writer, _) = state.table.get_mut(&this)?;
        match writer.write(Bytes::from(bytes)).await {
            Ok(()) => Ok(Ok(())),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn commit(&mut self, this: Resource<Writing>) -> Answer<blobs::BlobMeta> {
        let state = self.enter()?;
        let Writing(writer, _flow) = state.table.delete(this)?;
        match writer.commit().await {
            Ok(written) => Ok(Ok(meta(&written))),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn drop(&mut self, this: Resource<Writing>) -> wasmtime::Result<()> {
        self.enter()?.table.delete(this)?;
        Ok(())
    }
}
