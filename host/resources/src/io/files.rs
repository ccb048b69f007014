//! The IO manager `object_store`: readable files beside the artifact store.

use async_trait::async_trait;
use opyard_model::digest::Digest;
use opyard_model::error::{Code, Failure};
use opyard_model::json::CanonicalJson;
use opyard_model::plan::Access;
use opyard_model::value::{ArtifactRef, ValueRef};
use opyard_store::artifact::{ArtifactReader, ArtifactWriter};
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::io_manager::{IoManager, Loaded, Slot, Stored};
use opyard_store::object::Objects;
use serde::{Deserialize, Serialize};

use super::template::PathTemplate;
use super::{failed, locator, refused};
use crate::blob::{BlobReader, BlobWriter, MAX_CHUNK};
use crate::error::ResourceError;
use crate::object_store::{ObjectStoreResource, PutMode};

const KEEPING: &str = "keeping an output";
const LOADING: &str = "loading an input";

/// Keeps each value as one object, at a path made from its slot. Written whole or not at all.
#[derive(Debug, Clone)]
pub struct Files {
    store: ObjectStoreResource,
    template: PathTemplate,
}

/// How a value is found. What was kept is known by its size and digest too; what others put there need not be.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Locator {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
}

impl Files {
    /// Keeps values in `objects`, at the paths that `template` gives.
    #[must_use]
    pub fn new(objects: Objects, template: PathTemplate) -> Self {
        Self { store: ObjectStoreResource::new(objects, Access::ReadWrite), template }
    }
}

/// Writes a stored value out, piece by piece.
pub(super) async fn copy_out(mut bytes: Box<dyn ArtifactReader>, writer: &mut BlobWriter) -> Result<(), Failure> {
    let ArtifactRef { digest, size } = bytes.artifact();
    let mut offset = 0;
    while offset < size {
        let chunk = bytes.read_at(offset, MAX_CHUNK).await.map_err(|error| error.to_failure())?;
        if chunk.is_empty() {
            return Err(StoreError::new(KEEPING, StoreErrorKind::Corrupt(digest)).to_failure());
        }
        offset += chunk.len() as u64;
        writer.write(chunk).await.map_err(|error| failed(KEEPING, error))?;
    }
    Ok(())
}

/// Reads an object into the artifact store, piece by piece. `expected` is what it has to be, if that is known; `what` names
/// it in a message.
pub(super) async fn copy_in(
    mut reader: BlobReader,
    mut into: Box<dyn ArtifactWriter>,
    expected: (Option<u64>, Option<Digest>),
    what: &str,
) -> Result<Loaded, Failure> {
    let changed = || {
        let text = format!("{LOADING}: '{what}' is not what was kept there: it was changed since");
        Failure::new(Code::IoManagerFailed, text)
    };
    if expected.0.is_some_and(|size| size != reader.meta().size) {
        return Err(changed());
    }
    let mut hasher = blake3::Hasher::new();
    loop {
        let chunk = reader.read(u32::MAX).await.map_err(|error| failed(LOADING, error))?;
        if chunk.is_empty() {
            break;
        }
        hasher.update(&chunk);
        into.write(chunk).await.map_err(|error| error.to_failure())?;
    }
    let found = Digest::from_bytes(*hasher.finalize().as_bytes());
    if expected.1.is_some_and(|digest| digest != found) {
        return Err(changed());
    }
    let artifact = into.finish().await.map_err(|error| error.to_failure())?.artifact;
    Ok(Loaded { artifact, metadata: Vec::new() })
}

#[async_trait]
impl IoManager for Files {
    async fn handle_output(
        &self,
        slot: &Slot,
        _value: &ValueRef,
        bytes: Box<dyn ArtifactReader>,
    ) -> Result<Stored, Failure> {
        let wrong = |error: ResourceError| failed(KEEPING, error);
        let path = self.template.path(slot).map_err(wrong)?;
        let ArtifactRef { digest, size } = bytes.artifact();
        let mut writer = self.store.put(path.as_str(), PutMode::Overwrite).map_err(wrong)?;
        copy_out(bytes, &mut writer).await?;
        writer.commit().await.map_err(wrong)?;
        let kept = Locator { path: path.as_str().to_owned(), size: Some(size), digest: Some(digest) };
        Ok(Stored { locator: locator::write(KEEPING, &kept)?, metadata: Vec::new() })
    }

    async fn load_input(
        &self,
        _slot: &Slot,
        json: &CanonicalJson,
        into: Box<dyn ArtifactWriter>,
    ) -> Result<Loaded, Failure> {
        let Locator { path, size, digest } = locator::read(LOADING, json)?;
        let reader = self.store.get(&path).await.map_err(|error| match error {
            ResourceError::NotFound => refused(LOADING, format!("there is no '{path}'")),
            error => failed(LOADING, error),
        })?;
        copy_in(reader, into, (size, digest), &path).await
    }

    async fn fingerprint(&self, json: &CanonicalJson) -> Result<Option<String>, Failure> {
        let context = "looking at a kept value";
        let Locator { path, .. } = locator::read(context, json)?;
        match self.store.head(&path).await {
            Ok(meta) => Ok(Some(meta.etag.unwrap_or_else(|| format!("{}-{}", meta.size, meta.last_modified_ms)))),
            Err(ResourceError::NotFound) => Ok(None),
            Err(error) => Err(failed(context, error)),
        }
    }

    async fn forget(&self, json: &CanonicalJson) -> Result<(), Failure> {
        let context = "forgetting a value";
        let Locator { path, .. } = locator::read(context, json)?;
        self.store.remove(&path).await.map_err(|error| failed(context, error))
    }
}
