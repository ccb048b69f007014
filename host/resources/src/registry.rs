//! From what the definitions say to something that can be used. Opened stores are kept: a step does not build a client.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use opyard_model::plan::{Access, IoManagerSpec, ResourceSpec};
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::io_manager::IoManager;
use opyard_store::object::Objects;

use crate::error::ResourceError;
use crate::io_manager::ObjectStoreIoManager;
use crate::object_store::ObjectStoreResource;
use crate::template::PathTemplate;

/// Most object stores that are kept open. Addresses come from definitions, so there are few; past this, the pool is
/// emptied and begins anew.
const MAX_OPEN: usize = 256;

/// Opened object stores by address. Cheap to clone.
#[derive(Debug, Clone, Default)]
struct Pool(Arc<Mutex<HashMap<String, Objects>>>);

impl Pool {
    fn open(&self, url: &str, create: bool) -> Result<Objects, StoreError> {
        if let Some(open) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(url) {
            return Ok(open.clone());
        }
        let objects = Objects::open(url, create)?;
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_OPEN {
            open.clear();
        }
        Ok(open.entry(url.to_owned()).or_insert(objects).clone())
    }
}

/// Opens resources. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Resources(Pool);

impl Resources {
    /// Opens an object store with the access of a grant (never more than the resource's own). A local folder is made only
    /// when it may be written to.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be opened: the reason is the operator's, not the guest's.
    pub fn object_store(&self, spec: &ResourceSpec, access: Access) -> Result<ObjectStoreResource, ResourceError> {
        let ResourceSpec::ObjectStore { url, access: most, .. } = spec;
        let access = access.min(*most);
        let objects = self.0.open(url, access == Access::ReadWrite)?;
        Ok(ObjectStoreResource::new(objects, access))
    }
}

/// Opens IO managers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct IoManagers(Pool);

impl IoManagers {
    /// Opens the IO manager that `spec` describes; none for `artifacts`, which keeps nothing of its own.
    ///
    /// # Errors
    /// `Invalid` for an address or template that cannot be used; `Unavailable`, `Full`.
    pub fn open(&self, spec: &IoManagerSpec) -> Result<Option<Arc<dyn IoManager>>, StoreError> {
        match spec {
            IoManagerSpec::Artifacts => Ok(None),
            IoManagerSpec::ObjectStore { url, path } => {
                let template = PathTemplate::parse(path).map_err(|error| {
                    StoreError::new("opening an IO manager", StoreErrorKind::Invalid(error.to_string()))
                })?;
                let objects = self.0.open(url, true)?;
                Ok(Some(Arc::new(ObjectStoreIoManager::new(objects, template))))
            }
        }
    }
}

/// The `file:` address of an absolute path.
#[must_use]
pub fn file_url(path: &Path) -> Option<String> {
    url::Url::from_file_path(path).ok().map(String::from)
}
