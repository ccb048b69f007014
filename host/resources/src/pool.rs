//! Opened object stores by address.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use opyard_model::id::{Name, TenantId};
use opyard_model::plan::{Access, ResourceSpec};
use opyard_store::error::StoreError;
use opyard_store::object::{Objects, Place};
use url::Url;

use crate::error::{ResourceError, ResourceFailure};
use crate::http::{Clients, HttpClientResource};
use crate::object_store::ObjectStoreResource;
use crate::secret::{SecretBytes, read_secret};

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
    clients: Clients,
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
            ResourceSpec::HttpClient(_) | ResourceSpec::Secret { .. } => Err(other_kind(spec)),
        }
    }

    /// Opens the resource `name` of `spec` as an HTTP client, with no more than `access` (and no more than the spec's own).
    /// Reads the secrets that its headers need. Connections are kept for the next step of the same tenant with the same
    /// spec, and for nobody else.
    ///
    /// # Errors
    /// `Unavailable` when a secret is not where it should be, or the machine's root certificates cannot be read; `Invalid`
    /// when the spec is of another kind.
    pub async fn http_client(
        &self,
        tenant: &TenantId,
        name: &Name,
        spec: &ResourceSpec,
        access: Access,
    ) -> Result<HttpClientResource, ResourceFailure> {
        match spec {
            ResourceSpec::HttpClient(spec) => self.clients.open(tenant, name, spec, access).await,
            ResourceSpec::ObjectStore { .. } | ResourceSpec::Secret { .. } => Err(other_kind(spec).into()),
        }
    }

    /// The bytes of the secret `name`, which is read now.
    ///
    /// # Errors
    /// `Unavailable` when it is not where it should be; `Invalid` when the spec is of another kind.
    pub async fn secret(&self, name: &Name, spec: &ResourceSpec) -> Result<SecretBytes, ResourceFailure> {
        match spec {
            ResourceSpec::Secret { from } => read_secret(name, from).await,
            ResourceSpec::ObjectStore { .. } | ResourceSpec::HttpClient(_) => Err(other_kind(spec).into()),
        }
    }
}

/// Planning matches kinds and interfaces, so this is not seen.
fn other_kind(spec: &ResourceSpec) -> ResourceError {
    ResourceError::Invalid(format!("a resource of kind {} is not used through this interface", spec.kind()))
}

/// The address of a file or folder of this machine; none when `path` is not absolute.
#[must_use]
pub fn file_url(path: &Path) -> Option<String> {
    Url::from_file_path(path).ok().map(String::from)
}
