//! The IO manager `object_store`: readable files beside the artifact store.

use async_trait::async_trait;
use opyard_model::digest::Digest;
use opyard_model::json::CanonicalJson;
use opyard_model::plan::Access;
use opyard_model::value::{ArtifactRef, ValueRef};
use opyard_store::artifact::{ArtifactReader, ArtifactWriter};
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::io_manager::{IoManager, Slot};
use opyard_store::object::Objects;
use serde::{Deserialize, Serialize};

use super::template::PathTemplate;
use crate::blob::MAX_CHUNK;
use crate::error::{ResourceError, store_error};
use crate::object_store::{ObjectStoreResource, PutMode};

const KEEPING: &str = "keeping an output";
const LOADING: &str = "loading an input";

/// Keeps each value as one object, at a path made from its slot. Written whole or not at all.
#[derive(Debug, Clone)]
pub struct Files {
    store: ObjectStoreResource,
    template: PathTemplate,
}

/// How a kept value is found again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Locator {
    path: String,
    size: u64,
    digest: Digest,
}

impl Files {
    /// Keeps values in `objects`, at the paths that `template` gives.
    #[must_use]
    pub fn new(objects: Objects, template: PathTemplate) -> Self {
        Self { store: ObjectStoreResource::new(objects, Access::ReadWrite), template }
    }
}

fn invalid(context: &str, reason: impl std::fmt::Display) -> StoreError {
    StoreError::new(context, StoreErrorKind::Invalid(reason.to_string()))
}

/// Reads a locator. Its path is checked again where it is used: it comes from a database.
fn locator(context: &str, json: &CanonicalJson) -> Result<Locator, StoreError> {
    serde_json::from_str(json.as_str()).map_err(|_| invalid(context, "a locator that this IO manager did not make"))
}

#[async_trait]
impl IoManager for Files {
    async fn handle_output(
        &self,
        slot: &Slot,
        _value: &ValueRef,
        bytes: &mut dyn ArtifactReader,
    ) -> Result<CanonicalJson, StoreError> {
        let wrong = |error: ResourceError| store_error(KEEPING, error);
        let path = self.template.path(slot).map_err(wrong)?;
        let ArtifactRef { digest, size } = bytes.artifact();
        let mut writer = self.store.put(path.as_str(), PutMode::Overwrite).map_err(wrong)?;
        let mut offset = 0;
        while offset < size {
            let chunk = bytes.read_at(offset, MAX_CHUNK).await?;
            if chunk.is_empty() {
                return Err(StoreError::new(KEEPING, StoreErrorKind::Corrupt(digest)));
            }
            offset += chunk.len() as u64;
            writer.write(chunk).await.map_err(wrong)?;
        }
        writer.commit().await.map_err(wrong)?;
        let locator = Locator { path: path.as_str().to_owned(), size, digest };
        let json = serde_json::to_value(locator).map_err(|error| invalid(KEEPING, error))?;
        CanonicalJson::new(&json).map_err(|error| invalid(KEEPING, error))
    }

    async fn load_input(&self, json: &CanonicalJson, into: &mut dyn ArtifactWriter) -> Result<(), StoreError> {
        let wrong = |error: ResourceError| store_error(LOADING, error);
        let Locator { path, size, digest } = locator(LOADING, json)?;
        let mut reader = self.store.get(&path).await.map_err(wrong)?;
        let changed = || invalid(LOADING, format!("'{path}' is not what was kept there: it was changed since"));
        if reader.meta().size != size {
            return Err(changed());
        }
        let mut hasher = blake3::Hasher::new();
        loop {
            let chunk = reader.read(u32::MAX).await.map_err(wrong)?;
            if chunk.is_empty() {
                break;
            }
            hasher.update(&chunk);
            into.write(chunk).await?;
        }
        if hasher.finalize().as_bytes() == digest.as_bytes() { Ok(()) } else { Err(changed()) }
    }

    async fn fingerprint(&self, json: &CanonicalJson) -> Result<Option<String>, StoreError> {
        let context = "looking at a kept value";
        let Locator { path, .. } = locator(context, json)?;
        match self.store.head(&path).await {
            Ok(meta) => Ok(Some(meta.etag.unwrap_or_else(|| format!("{}-{}", meta.size, meta.last_modified_ms)))),
            Err(ResourceError::NotFound) => Ok(None),
            Err(error) => Err(store_error(context, error)),
        }
    }

    async fn forget(&self, json: &CanonicalJson) -> Result<(), StoreError> {
        let context = "forgetting a value";
        let Locator { path, .. } = locator(context, json)?;
        self.store.remove(&path).await.map_err(|error| store_error(context, error))
    }
}
