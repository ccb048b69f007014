//! Opened object stores by address.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use opyard_model::id::Name;
use opyard_model::plan::{Access, KeyValueDriver, ModelRegistryDriver, ResourceSpec};
use opyard_store::error::StoreError;
use opyard_store::key_value::KeyValues;
use opyard_store::object::{Objects, Place};
use url::Url;

use crate::error::ResourceError;
use crate::key_value::KeyValueResource;
use crate::model_registry::{self, Mlflow, ModelRegistryResource};
use crate::object_store::ObjectStoreResource;

/// Most stores kept open.
const KEPT: usize = 256;

/// Object stores that are open, by address. Cheap to clone; clones share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<HashMap<String, Objects>>>);

impl Pool {
    /// The store at `address`. A `memory:` store is the same for everyone who asks for the same address.
    ///
    /// # Errors
    /// Those of [`Objects::open`].
    pub(crate) fn open(&self, address: &str, create: bool) -> Result<Objects, StoreError> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(objects) = open.get(address) {
            return Ok(objects.clone());
        }
        let objects = Objects::open(address, create)?;
        if open.len() >= KEPT {
            open.retain(|_, objects| objects.place == Place::Memory);
        }
        open.insert(address.to_owned(), objects.clone());
        Ok(objects)
    }
}

/// Opens what grants name. Cheap to clone; clones share what they opened.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    pool: Pool,
    /// Made when it is first needed.
    client: Arc<Mutex<Option<reqwest::Client>>>,
}

/// Planning has checked kinds; a plan that was altered does not fit.
fn other_kind() -> ResourceError {
    ResourceError::Invalid("the resource is of another kind".into())
}

impl Resources {
    /// Opens the resource of `spec` as an object store, with no more than `access` (and no more than the spec's own).
    ///
    /// # Errors
    /// `Unavailable`, `Invalid` when its address cannot be used.
    pub fn object_store(&self, spec: &ResourceSpec, access: Access) -> Result<ObjectStoreResource, ResourceError> {
        match spec {
            ResourceSpec::ObjectStore { url, .. } => self.objects(url, spec.access(), access),
            ResourceSpec::KeyValue { .. } | ResourceSpec::ModelRegistry { .. } => Err(other_kind()),
        }
    }

    /// Opens the resource of `spec` as a bucket of small values, likewise. `yard` opens a bucket of the yard's, of the
    /// tenant that asks.
    ///
    /// # Errors
    /// `Unavailable`, `Invalid` when its address cannot be used.
    pub fn key_value(
        &self,
        spec: &ResourceSpec,
        access: Access,
        yard: impl FnOnce(&Name) -> Result<KeyValues, StoreError>,
    ) -> Result<KeyValueResource, ResourceError> {
        let most = spec.access();
        match spec {
            ResourceSpec::KeyValue { driver: KeyValueDriver::Yard { bucket }, .. } => {
                let values = yard(bucket)
                    .map_err(|_| ResourceError::Unavailable("the yard's database does not answer".into()))?;
                Ok(KeyValueResource::in_yard(values, access.min(most)))
            }
            ResourceSpec::KeyValue { driver: KeyValueDriver::ObjectStore { url }, .. } => {
                Ok(KeyValueResource::in_objects(self.objects(url, most, access)?, access.min(most)))
            }
            ResourceSpec::ObjectStore { .. } | ResourceSpec::ModelRegistry { .. } => Err(other_kind()),
        }
    }

    /// Opens the resource of `spec` as a model registry, likewise.
    ///
    /// # Errors
    /// `Unavailable`, `Invalid` when its address cannot be used.
    pub fn model_registry(&self, spec: &ResourceSpec, access: Access) -> Result<ModelRegistryResource, ResourceError> {
        let most = spec.access();
        match spec {
            ResourceSpec::ModelRegistry { driver: ModelRegistryDriver::ObjectStore { url }, .. } => {
                Ok(ModelRegistryResource::in_objects(self.objects(url, most, access)?, access.min(most)))
            }
            ResourceSpec::ModelRegistry { driver: ModelRegistryDriver::Mlflow { url }, .. } => {
                let server = Mlflow::new(self.client()?, url)?;
                Ok(ModelRegistryResource::of_mlflow(server, access.min(most)))
            }
            ResourceSpec::ObjectStore { .. } | ResourceSpec::KeyValue { .. } => Err(other_kind()),
        }
    }

    /// The object store at `url`; made if it is not there and may be written.
    fn objects(&self, url: &str, most: Access, access: Access) -> Result<ObjectStoreResource, ResourceError> {
        let objects = self.pool.open(url, most == Access::ReadWrite)?;
        Ok(ObjectStoreResource::new(objects, access.min(most)))
    }

    /// The client of all servers.
    fn client(&self) -> Result<reqwest::Client, ResourceError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match &*client {
            Some(client) => Ok(client.clone()),
            None => Ok(client.insert(model_registry::client()?).clone()),
        }
    }
}

/// The address of a file or folder of this machine; none when `path` is not absolute.
#[must_use]
pub fn file_url(path: &Path) -> Option<String> {
    Url::from_file_path(path).ok().map(String::from)
}
