//! `object-store` and `blobs`: objects that an op was granted, below one address, in chunks.

use std::sync::Arc;

use bytes::Bytes;
use opyard_model::component::Interface;
use opyard_model::error::{Code, Failure};
use opyard_model::step::Saying;
use opyard_resources::{BlobMeta, BlobReader, BlobWriter, ObjectStoreResource, Page, PutMode, ResourceError};
use wasmtime::component::Resource;

use crate::bindings::opyard::resources::blobs::{self, HostBlobReader, HostBlobWriter};
use crate::bindings::opyard::resources::errors::Error;
use crate::bindings::opyard::resources::object_store::{self as theirs, Host, HostStore};
use crate::gate::{Blobs, Doorway, ObjectStore};
use crate::guard::{Guard, Limit};
use crate::host::values::MAX_CHUNK;
use crate::metadata::short;
use crate::state::HostState;

/// An object store, with the access of its grant.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Store(ObjectStoreResource);

/// An open object.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Reading {
    reader: BlobReader,
    position: u64,
    _flow: Arc<()>,
}

/// An object on its way in. Dropped before it is committed, it leaves nothing.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Writing(BlobWriter, Arc<()>);

/// What a call answers, inside of what may trap.
pub(super) type Answer<T> = wasmtime::Result<Result<T, Error>>;

/// The resource's error, in the contract's words; what the guest is told of limits and surroundings is remembered.
pub(super) fn answer(state: &mut HostState, error: ResourceError) -> Error {
    match error {
        ResourceError::Denied => Error::Denied,
        ResourceError::NotFound => Error::NotFound,
        ResourceError::Conflict => Error::Conflict,
        ResourceError::Limit(text) => {
            state.guard.tell_of_limit();
            Error::Limit(text)
        }
        ResourceError::Unavailable(text) => {
            let failure = Failure::new(Code::ResourceUnavailable, text.clone());
            state.guard.unavailable.get_or_insert(failure);
            Error::Unavailable(text)
        }
        ResourceError::Invalid(text) => Error::Invalid(text),
    }
}

pub(super) fn limited(state: &mut HostState, Limit(limit): Limit) -> Error {
    let _ = state.limited(Limit(limit));
    Error::Limit(limit.to_owned())
}

fn meta(meta: &BlobMeta) -> blobs::BlobMeta {
    blobs::BlobMeta {
        path: meta.path.clone(),
        size: meta.size,
        etag: meta.etag.clone(),
        last_modified_ms: meta.last_modified_ms,
    }
}

impl Host for Doorway<'_, ObjectStore> {
    async fn open(&mut self, key: String) -> Answer<Resource<Store>> {
        let state = self.enter()?;
        let resources = state.resources.clone();
        let rights = &state.op()?.call.rights;
        let right = rights.iter().find(|right| right.key.as_str() == key && right.through == Interface::ObjectStore);
        let Some(granted) = right.and_then(|right| right.granted.as_ref()) else {
            state.outbox.event(Saying::GrantDenied { key: short(&key) });
            return Ok(Err(Error::Denied));
        };
        match resources.object_store(&granted.spec, granted.access) {
            Ok(store) => Ok(Ok(state.table.push(Store(store))?)),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }
}

impl HostStore for Doorway<'_, ObjectStore> {
    async fn head(&mut self, this: Resource<Store>, path: String) -> Answer<blobs::BlobMeta> {
        let state = self.enter()?;
        let Store(store) = state.table.get(&this)?;
        match store.head(&path).await {
            Ok(found) => Ok(Ok(meta(&found))),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn get(&mut self, this: Resource<Store>, path: String) -> Answer<Resource<Reading>> {
        let state = self.enter()?;
        let _flow = Guard::open_flow(&state.guard.flows)?;
        let Store(store) = state.table.get(&this)?;
        match store.get(&path).await {
            Ok(reader) => Ok(Ok(state.table.push(Reading { reader, position: 0, _flow })?)),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn put(&mut self, this: Resource<Store>, path: String, mode: theirs::PutMode) -> Answer<Resource<Writing>> {
        let state = self.enter()?;
        let flow = Guard::open_flow(&state.guard.flows)?;
        let Store(store) = state.table.get(&this)?;
        let mode = match mode {
            theirs::PutMode::Overwrite => PutMode::Overwrite,
            theirs::PutMode::Create => PutMode::Create,
            theirs::PutMode::Update(etag) => PutMode::Update(etag),
        };
        match store.put(&path, mode) {
            Ok(writer) => Ok(Ok(state.table.push(Writing(writer, flow))?)),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn remove(&mut self, this: Resource<Store>, path: String) -> Answer<()> {
        let state = self.enter()?;
        let Store(store) = state.table.get(&this)?;
        match store.remove(&path).await {
            Ok(()) => Ok(Ok(())),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn list_page(
        &mut self,
        this: Resource<Store>,
        prefix: String,
        token: Option<String>,
        limit: u32,
    ) -> Answer<theirs::Page> {
        let state = self.enter()?;
        let Store(store) = state.table.get(&this)?;
        match store.list_page(&prefix, token.as_deref(), limit).await {
            Ok(Page { objects, next }) => Ok(Ok(theirs::Page { objects: objects.iter().map(meta).collect(), next })),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn drop(&mut self, this: Resource<Store>) -> wasmtime::Result<()> {
        self.enter()?.table.delete(this)?;
        Ok(())
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
