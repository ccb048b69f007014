//! Opened object stores by address.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use opyard_model::plan::{Access, ResourceSpec};
use opyard_store::error::StoreError;
use opyard_store::object::{Objects, Place};
use url::Url;

use crate::error::ResourceError;
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
}

impl Resources {
    /// Opens the resource of `spec` as an object store, with no more than `access` (and no more than the spec's own).
    ///
    /// # Errors
    /// `Unavailable`, `Invalid` when its address cannot be used.
    pub fn object_store(&self, spec: &ResourceSpec, access: Access) -> Result<ObjectStoreResource, ResourceError> {
        match spec {
            ResourceSpec::ObjectStore { url, access: most, .. } => {
                let access = access.min(*most);
                let objects = self.pool.open(url, *most == Access::ReadWrite)?;
                Ok(ObjectStoreResource::new(objects, access))
            }
        }
    }
}

/// The address of a file or folder of this machine; none when `path` is not absolute.
#[must_use]
pub fn file_url(path: &Path) -> Option<String> {
    Url::from_file_path(path).ok().map(String::from)
}
