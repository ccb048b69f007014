//! `values`: readers and writers, in chunks.

use bytes::Bytes;
use opyard_model::error::Code;
use opyard_store::artifact::ArtifactReader;
use opyard_store::crash::{self, CrashPoint};
use opyard_store::error::StoreError;
use wasmtime::component::Resource;

use crate::bindings::opyard::op::types::{self, IoError};
use crate::bindings::opyard::op::values::{Host, HostReader, HostWriter};
use crate::gate::{Doorway, Values};
use crate::host::io::commit;
use crate::metadata;
use crate::output::{Draft, WriteError};
use crate::state::{HostState, Work};
use crate::trap::Stop;

/// Most bytes that one `read` gives, or that `load` and `store` take.
pub(crate) const MAX_CHUNK: usize = 1 << 20;

/// An open value of an input.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Reader {
    /// The input port, an index of the call's inputs, and which of its values.
    pub(crate) input: usize,
    pub(crate) nth: usize,
    pub(crate) size: u64,
    pub(crate) source: Source,
    pub(crate) position: u64,
}

/// Where the bytes are.
pub(crate) enum Source {
    /// Here.
    Small(Bytes),
    /// In the store.
    Open(Box<dyn ArtifactReader>),
}

impl Reader {
    /// Exactly `min(max, size - offset)` bytes.
    pub(crate) async fn read_at(&mut self, offset: u64, max: usize) -> Result<Bytes, StoreError> {
        match &mut self.source {
            Source::Small(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(start..start + max.min(bytes.len() - start)))
            }
            Source::Open(reader) => reader.read_at(offset, max).await,
        }
    }
}

/// A value on its way to an output. Dropped before it is committed, it leaves nothing.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Writer(pub(crate) Draft);

impl Host for Doorway<'_, Values> {}

async fn read(
    state: &mut HostState,
    this: &Resource<Reader>,
    offset: Option<u64>,
    max: u32,
) -> wasmtime::Result<Result<Vec<u8>, IoError>> {
    let HostState { table, guard, .. } = state;
    let reader = table.get_mut(this)?;
    let start = offset.unwrap_or(reader.position);
    let length = reader.size.saturating_sub(start).min(u64::from(max)).min(MAX_CHUNK as u64);
    if let Err(limit) = guard.take_read(length) {
        return Ok(Err(state.limited(limit)));
    }
    match reader.read_at(start, usize::try_from(length)?).await {
        Ok(bytes) => {
            if offset.is_none() {
                reader.position = start.saturating_add(bytes.len() as u64);
            }
            Ok(Ok(bytes.into()))
        }
        Err(error) => Ok(Err(state.unavailable(&error)?)),
    }
}

impl HostReader for Doorway<'_, Values> {
    async fn type_name(&mut self, this: Resource<Reader>) -> wasmtime::Result<String> {
        let state = self.enter()?;
        let reader = state.table.get(&this)?;
        Ok(state.value(reader)?.type_name.to_string())
    }

    async fn media_type(&mut self, this: Resource<Reader>) -> wasmtime::Result<String> {
        let state = self.enter()?;
        let reader = state.table.get(&this)?;
        Ok(state.value(reader)?.media_type.to_string())
    }

    async fn size(&mut self, this: Resource<Reader>) -> wasmtime::Result<u64> {
        Ok(self.enter()?.table.get(&this)?.size)
    }

    async fn metadata(&mut self, this: Resource<Reader>) -> wasmtime::Result<Vec<types::MetadataEntry>> {
        let state = self.enter()?;
        let reader = state.table.get(&this)?;
        Ok(state.value(reader)?.metadata.iter().map(metadata::give).collect())
    }

    async fn mapping_key(&mut self, this: Resource<Reader>) -> wasmtime::Result<Option<String>> {
        let state = self.enter()?;
        let reader = state.table.get(&this)?;
        Ok(state.value(reader)?.mapping_key.text())
    }

    async fn read(&mut self, this: Resource<Reader>, max: u32) -> wasmtime::Result<Result<Vec<u8>, IoError>> {
        read(self.enter()?, &this, None, max).await
    }

    async fn read_at(
        &mut self,
        this: Resource<Reader>,
        offset: u64,
        max: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, IoError>> {
        read(self.enter()?, &this, Some(offset), max).await
    }

    async fn drop(&mut self, this: Resource<Reader>) -> wasmtime::Result<()> {
        self.enter()?.table.delete(this)?;
        Ok(())
    }
}

impl HostWriter for Doorway<'_, Values> {
    async fn write(&mut self, this: Resource<Writer>, bytes: Vec<u8>) -> wasmtime::Result<Result<(), IoError>> {
        let state = self.enter()?;
        if let Err(limit) = state.guard.take_written(bytes.len() as u64) {
            return Ok(Err(state.limited(limit)));
        }
        crash::point(CrashPoint::OutputUploading);
        let HostState { table, work, guard, .. } = state;
        let Writer(draft) = table.get_mut(&this)?;
        // Only an op has writers.
        let Work::Op(op) = work else { return Err(Stop::because(Code::Invariant, "a writer without an op").into()) };
        match op.write(draft, bytes, &guard.flows).await {
            Ok(()) => Ok(Ok(())),
            Err(WriteError::Stop(stop)) => Err(stop.into()),
            Err(WriteError::Store(error)) => Ok(Err(state.unavailable(&error)?)),
        }
    }

    async fn add_metadata(
        &mut self,
        this: Resource<Writer>,
        entries: Vec<types::MetadataEntry>,
    ) -> wasmtime::Result<Result<(), IoError>> {
        let state = self.enter()?;
        let taken = match metadata::take(entries) {
            Ok(taken) => taken,
            Err(bad) => return Ok(Err(IoError::Invalid(bad.to_string()))),
        };
        if let Err(limit) = state.guard.take_metadata(taken.bytes) {
            return Ok(Err(state.limited(limit)));
        }
        let entries = state.redactor.clean(taken.entries).unwrap_or_default();
        let Writer(draft) = state.table.get_mut(&this)?;
        draft.metadata.extend(entries);
        Ok(Ok(()))
    }

    async fn commit(&mut self, this: Resource<Writer>) -> wasmtime::Result<Result<(), IoError>> {
        let state = self.enter()?;
        let Writer(draft) = state.table.delete(this)?;
        commit(state, draft).await
    }

    async fn drop(&mut self, this: Resource<Writer>) -> wasmtime::Result<()> {
        self.enter()?.table.delete(this)?;
        Ok(())
    }
}
