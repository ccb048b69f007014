//! `object-store`: objects that an op was granted, below one address.

use opyard_model::component::Interface;
use opyard_resources::{ObjectStoreResource, Page, PutMode};
use wasmtime::component::Resource;

use super::blobs::{Reading, Writing, meta};
use super::grant::{Answer, answer, granted};
use crate::bindings::opyard::resources::blobs;
use crate::bindings::opyard::resources::errors::Error;
use crate::bindings::opyard::resources::object_store::{self as theirs, Host, HostStore};
use crate::gate::{Doorway, ObjectStore};
use crate::guard::Guard;

/// An object store, with the access of its grant.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Store(ObjectStoreResource);

impl Host for Doorway<'_, ObjectStore> {
    async fn open(&mut self, key: String) -> Answer<Resource<Store>> {
        let state = self.enter()?;
        let Some((granted, opening)) = granted(state, &key, Interface::ObjectStore)? else {
            return Ok(Err(Error::Denied));
        };
        let opened = state.resources.object_store(&granted.spec, granted.access).await;
        opening.handle(state, opened.map(Store))
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
        let flow = Guard::open_flow(&state.guard.flows)?;
        let Store(store) = state.table.get(&this)?;
        match store.get(&path).await {
            Ok(reader) => Ok(Ok(state.table.push(Reading::new(reader, flow))?)),
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
            Ok(writer) => Ok(Ok(state.table.push(Writing::new(writer, flow))?)),
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
