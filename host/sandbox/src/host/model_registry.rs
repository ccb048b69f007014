//! `model-registry`: models that an op was granted, by name and version.

use std::sync::Arc;

use opyard_model::component::Interface;
use opyard_resources::{ModelRegistryResource, ModelVersion, ModelWriter};
use wasmtime::component::Resource;

use super::blobs::{Reading, Writing, meta};
use super::grant::{Answer, answer, granted, limited};
use crate::bindings::opyard::resources::blobs;
use crate::bindings::opyard::resources::errors::Error;
use crate::bindings::opyard::resources::model_registry::{self as theirs, Host, HostModelWriter, HostRegistry};
use crate::gate::{Doorway, ModelRegistry};
use crate::guard::Guard;

/// A registry, with the access of its grant.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Registry(ModelRegistryResource);

/// A version in the making. Dropped before it is committed, it leaves nothing that can be found.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Making(ModelWriter, Arc<()>);

fn told(version: ModelVersion) -> theirs::ModelVersion {
    let ModelVersion { name, version, aliases, digest, metadata } = version;
    theirs::ModelVersion { name, version, aliases, digest, metadata }
}

impl Host for Doorway<'_, ModelRegistry> {
    async fn open(&mut self, key: String) -> Answer<Resource<Registry>> {
        let state = self.enter()?;
        let Some((granted, opening)) = granted(state, &key, Interface::ModelRegistry)? else {
            return Ok(Err(Error::Denied));
        };
        let opened = state.resources.model_registry(&granted.spec, granted.access).await;
        opening.handle(state, opened.map(Registry))
    }
}

impl HostRegistry for Doorway<'_, ModelRegistry> {
    async fn resolve(
        &mut self,
        this: Resource<Registry>,
        name: String,
        selector: String,
    ) -> Answer<theirs::ModelVersion> {
        let state = self.enter()?;
        let Registry(registry) = state.table.get(&this)?;
        match registry.resolve(&name, &selector).await {
            Ok(version) => match state.guard.take_read(version.metadata.len() as u64) {
                Ok(()) => Ok(Ok(told(version))),
                Err(limit) => Ok(Err(limited(state, limit))),
            },
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn files(&mut self, this: Resource<Registry>, name: String, version: u32) -> Answer<Vec<blobs::BlobMeta>> {
        let state = self.enter()?;
        let Registry(registry) = state.table.get(&this)?;
        match registry.files(&name, version).await {
            Ok(files) => Ok(Ok(files.iter().map(meta).collect())),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn load(
        &mut self,
        this: Resource<Registry>,
        name: String,
        version: u32,
        path: String,
    ) -> Answer<Resource<Reading>> {
        let state = self.enter()?;
        let flow = Guard::open_flow(&state.guard.flows)?;
        let Registry(registry) = state.table.get(&this)?;
        match registry.load(&name, version, &path).await {
            Ok(reader) => Ok(Ok(state.table.push(Reading::new(reader, flow))?)),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn register(&mut self, this: Resource<Registry>, name: String, metadata: String) -> Answer<Resource<Making>> {
        let state = self.enter()?;
        if let Err(limit) = state.guard.take_written(metadata.len() as u64) {
            return Ok(Err(limited(state, limit)));
        }
        let flow = Guard::open_flow(&state.guard.flows)?;
        let Registry(registry) = state.table.get(&this)?;
        match registry.register(&name, &metadata).await {
            Ok(writer) => Ok(Ok(state.table.push(Making(writer, flow))?)),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn set_alias(&mut self, this: Resource<Registry>, name: String, alias: String, version: u32) -> Answer<()> {
        let state = self.enter()?;
        let Registry(registry) = state.table.get(&this)?;
        match registry.set_alias(&name, &alias, version).await {
            Ok(()) => Ok(Ok(())),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn drop(&mut self, this: Resource<Registry>) -> wasmtime::Result<()> {
        self.enter()?.table.delete(this)?;
        Ok(())
    }
}

impl HostModelWriter for Doorway<'_, ModelRegistry> {
    async fn file(&mut self, this: Resource<Making>, path: String) -> Answer<Resource<Writing>> {
        let state = self.enter()?;
        let flow = Guard::open_flow(&state.guard.flows)?;
        let Making(writer, _) = state.table.get(&this)?;
        match writer.file(&path) {
            Ok(file) => Ok(Ok(state.table.push(Writing::new(file, flow))?)),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn commit(&mut self, this: Resource<Making>) -> Answer<theirs::ModelVersion> {
        let state = self.enter()?;
        let Making(writer, _flow) = state.table.delete(this)?;
        match writer.commit().await {
            Ok(version) => Ok(Ok(told(version))),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn drop(&mut self, this: Resource<Making>) -> wasmtime::Result<()> {
        self.enter()?.table.delete(this)?;
        Ok(())
    }
}
