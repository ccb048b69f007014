//! The IO manager `object_store`: readable files at a path template, beside the artifact.

use async_trait::async_trait;
use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use opyard_model::json::CanonicalJson;
use opyard_model::value::ValueRef;
use opyard_store::artifact::{ArtifactReader, ArtifactWriter};
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::io_manager::{IoManager, Slot};
use opyard_store::object::{CALL_TIMEOUT, Objects, object_error};
use opyard_store::upload::Upload;
use serde_json::{Value, json};

use crate::path::{checked, stays_inside};
use crate::template::PathTemplate;

/// How many bytes are moved at a time.
const CHUNK: usize = 1 << 20;

/// Keeps each value as a file whose path says what it is.
///
/// The locator is `{"path": …, "size": …, "digest": "b3:…"}`.
#[derive(Debug, Clone)]
pub struct ObjectStoreIoManager {
    objects: Objects,
    template: PathTemplate,
}

fn invalid(context: &str, reason: impl ToString) -> StoreError {
    StoreError::new(context, StoreErrorKind::Invalid(reason.to_string()))
}

async fn timely<T>(context: &str, call: impl Future<Output = object_store::Result<T>>) -> Result<T, StoreError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| object_error(context, &error)),
        Err(_) => {
            let text = format!("no answer within {} s", CALL_TIMEOUT.as_secs());
            Err(StoreError::new(context, StoreErrorKind::Unavailable(text)))
        }
    }
}

impl ObjectStoreIoManager {
    pub(crate) fn new(objects: Objects, template: PathTemplate) -> Self {
        Self { objects, template }
    }

    /// The path in a locator. A locator comes from the log, but is checked again: it names a file.
    fn located(&self, locator: &CanonicalJson, context: &str) -> Result<object_store::path::Path, StoreError> {
        let value = locator.to_value();
        let path =
            value.get("path").and_then(Value::as_str).ok_or_else(|| invalid(context, "the locator has no path"))?;
        let path = checked(path).map_err(|error| invalid(context, error))?;
        stays_inside(&self.objects, &path).map_err(|error| invalid(context, error))?;
        Ok(path)
    }
}

#[async_trait]
impl IoManager for ObjectStoreIoManager {
    async fn handle_output(
        &self,
        slot: &Slot,
        value: &ValueRef,
        bytes: &mut dyn ArtifactReader,
    ) -> Result<CanonicalJson, StoreError> {
        let context = "keeping an output as a file";
        let shown = self.template.path(slot);
        let path = checked(&shown).map_err(|error| invalid(context, error))?;
        stays_inside(&self.objects, &path).map_err(|error| invalid(context, error))?;
        let mut upload = Upload::new(&self.objects, path);
        loop {
            let chunk = bytes.read_at(upload.size(), CHUNK).await?;
            if chunk.is_empty() {
                break;
            }
            upload.write(chunk).await?;
        }
        upload.finish().await?;
        let locator =
            json!({ "path": shown, "size": value.artifact.size, "digest": value.artifact.digest.to_string() });
        CanonicalJson::new(&locator).map_err(|error| invalid(context, error))
    }

    async fn load_input(&self, locator: &CanonicalJson, into: &mut dyn ArtifactWriter) -> Result<(), StoreError> {
        let context = "loading an input from a file";
        let path = self.located(locator, context)?;
        let found = match timely(context, self.objects.store.get(&path)).await {
            Ok(found) => found,
            Err(error) => return Err(error),
        };
        let mut rest = found.into_stream();
        while let Some(bytes) = timely(context, rest.try_next()).await? {
            into.write(bytes).await?;
        }
        Ok(())
    }

    async fn fingerprint(&self, locator: &CanonicalJson) -> Result<Option<String>, StoreError> {
        let context = "looking at a kept file";
        let path = self.located(locator, context)?;
        match tokio::time::timeout(CALL_TIMEOUT, self.objects.store.head(&path)).await {
            Ok(Ok(meta)) => {
                let etag = meta.e_tag.unwrap_or_default();
                Ok(Some(format!("{}-{}-{etag}", meta.size, meta.last_modified.timestamp_micros())))
            }
            Ok(Err(object_store::Error::NotFound { .. })) => Ok(None),
            Ok(Err(error)) => Err(object_error(context, &error)),
            Err(_) => Err(StoreError::new(context, StoreErrorKind::Unavailable("no answer in time".into()))),
        }
    }

    async fn forget(&self, locator: &CanonicalJson) -> Result<(), StoreError> {
        let context = "removing a kept file";
        let path = self.located(locator, context)?;
        match tokio::time::timeout(CALL_TIMEOUT, self.objects.store.delete(&path)).await {
            Ok(Ok(()) | Err(object_store::Error::NotFound { .. })) => Ok(()),
            Ok(Err(error)) => Err(object_error(context, &error)),
            Err(_) => Err(StoreError::new(context, StoreErrorKind::Unavailable("no answer in time".into()))),
        }
    }
}
