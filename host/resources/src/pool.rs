//! Opened object stores by address.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use opyard_model::digest::Digest;
use opyard_model::id::{Name, TenantId};
use opyard_model::location::Location;
use opyard_model::plan::{Access, KeyValueDriver, ModelRegistryDriver, ResourceSpec};
use opyard_store::error::StoreError;
use opyard_store::key_value::KeyValues;
use opyard_store::object::{Objects, Place};
use url::Url;

use crate::error::{ResourceError, ResourceFailure};
use crate::given::Given;
use crate::http::{Clients, HttpClientResource};
use crate::key_value::KeyValueResource;
use crate::location::Shown;
use crate::model_registry::{self, Mlflow, ModelRegistryResource};
use crate::object_store::ObjectStoreResource;
use crate::secret::{SecretBytes, Secrets};

/// Most stores kept open.
const KEPT: usize = 256;

/// Where an object store is, and whose rights it is used with.
type Opened = (String, Option<Digest>);

/// Object stores that are open, by address and credentials. Cheap to clone; clones share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<HashMap<Opened, Objects>>>);

impl Pool {
    /// The store at `location`, used with its credentials. A `memory:` store is the same for everyone who asks for the same
    /// address.
    ///
    /// # Errors
    /// Those of [`Objects::open_as`]; what a credential that is not there answers.
    pub(crate) async fn open(
        &self,
        secrets: &Secrets,
        location: &Location,
        create: bool,
    ) -> Result<Result<Objects, StoreError>, ResourceFailure> {
        let shown = Shown::read(secrets, location).await?;
        let key = (location.url.clone(), shown.mark());
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(objects) = open.get(&key) {
            return Ok(Ok(objects.clone()));
        }
        let objects = match Objects::open_as(&location.url, create, &shown.settings()) {
            Ok(objects) => objects,
            Err(error) => return Ok(Err(error)),
        };
        if open.len() >= KEPT {
            open.retain(|_, objects| objects.place == Place::Memory);
        }
        open.insert(key, objects.clone());
        Ok(Ok(objects))
    }
}

/// The client of all MLflow servers, made when it is first needed. Cheap to clone; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Servers(Arc<Mutex<Option<reqwest::Client>>>);

impl Servers {
    /// The MLflow server at `location`. Does not touch the network.
    ///
    /// # Errors
    /// `Invalid` when it is no address; `Unavailable` when no client can be made, or a secret cannot be had.
    pub(crate) async fn mlflow(&self, secrets: &Secrets, location: &Location) -> Result<Mlflow, ResourceFailure> {
        let shown = Shown::read(secrets, location).await?;
        Ok(Mlflow::new(self.client()?, &location.url, shown)?)
    }

    fn client(&self) -> Result<reqwest::Client, ResourceError> {
        let mut client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match &*client {
            Some(client) => client.clone(),
            None => client.insert(model_registry::client()?).clone(),
        })
    }
}

/// Opens what grants name. Cheap to clone; clones share what they opened.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    pool: Pool,
    servers: Servers,
    pub(crate) clients: Clients,
}

impl Resources {
    /// For tests: reaches `given` and memory, and nothing of the machine or the network.
    #[must_use]
    pub fn given(given: Arc<Given>) -> Self {
        let mut resources = Self::default();
        resources.clients.secrets = Secrets::Given(given);
        resources
    }

    /// In a test nothing but memory is reached.
    fn permit(&self, address: &str) -> Result<(), ResourceError> {
        match self.clients.secrets {
            Secrets::Given(_) if !address.starts_with("memory:") => {
                Err(ResourceError::Unavailable("a test reaches what it is given, and nothing else".into()))
            }
            Secrets::Machine | Secrets::Given(_) => Ok(()),
        }
    }

    /// Opens the resource of `spec` as an object store, with no more than `access` (and no more than the spec's own).
    ///
    /// # Errors
    /// `Unavailable`, also when a secret that it needs cannot be had; `Invalid` when its address cannot be used.
    pub async fn object_store(
        &self,
        spec: &ResourceSpec,
        access: Access,
    ) -> Result<ObjectStoreResource, ResourceFailure> {
        match spec {
            ResourceSpec::ObjectStore { url, .. } => self.objects(url, spec.access(), access).await,
            _ => Err(other_kind(spec).into()),
        }
    }

    /// Opens the resource of `spec` as a bucket of small values, likewise. `yard` opens a bucket of the yard's, of the
    /// tenant that asks.
    ///
    /// # Errors
    /// `Unavailable`, also when a secret that it needs cannot be had; `Invalid` when its address cannot be used.
    pub async fn key_value(
        &self,
        spec: &ResourceSpec,
        access: Access,
        yard: impl FnOnce(&Name) -> Result<KeyValues, StoreError>,
    ) -> Result<KeyValueResource, ResourceFailure> {
        let most = spec.access();
        match spec {
            ResourceSpec::KeyValue { driver: KeyValueDriver::Yard { bucket }, .. } => {
                let values = yard(bucket)
                    .map_err(|_| ResourceError::Unavailable("the yard's database does not answer".into()))?;
                Ok(KeyValueResource::in_yard(values, access.min(most)))
            }
            ResourceSpec::KeyValue { driver: KeyValueDriver::ObjectStore { url }, .. } => {
                Ok(KeyValueResource::in_objects(self.objects(url, most, access).await?, access.min(most)))
            }
            _ => Err(other_kind(spec).into()),
        }
    }

    /// Opens the resource of `spec` as a model registry, likewise.
    ///
    /// # Errors
    /// `Unavailable`, also when a secret that it needs cannot be had; `Invalid` when its address cannot be used.
    pub async fn model_registry(
        &self,
        spec: &ResourceSpec,
        access: Access,
    ) -> Result<ModelRegistryResource, ResourceFailure> {
        let most = spec.access();
        match spec {
            ResourceSpec::ModelRegistry { driver: ModelRegistryDriver::ObjectStore { url }, .. } => {
                Ok(ModelRegistryResource::in_objects(self.objects(url, most, access).await?, access.min(most)))
            }
            ResourceSpec::ModelRegistry { driver: ModelRegistryDriver::Mlflow { url }, .. } => {
                self.permit(&url.url)?;
                let server = self.servers.mlflow(&self.clients.secrets, url).await?;
                Ok(ModelRegistryResource::of_mlflow(server, access.min(most)))
            }
            _ => Err(other_kind(spec).into()),
        }
    }

    /// The object store at `location`; made if it is not there and may be written.
    async fn objects(
        &self,
        location: &Location,
        most: Access,
        access: Access,
    ) -> Result<ObjectStoreResource, ResourceFailure> {
        self.permit(&location.url)?;
        let opened = self.pool.open(&self.clients.secrets, location, most == Access::ReadWrite).await?;
        let objects = opened.map_err(ResourceError::from)?;
        Ok(ObjectStoreResource::new(objects, access.min(most)))
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
            _ => Err(other_kind(spec).into()),
        }
    }

    /// The bytes of the secret `name`, which is read now.
    ///
    /// # Errors
    /// `Unavailable` when it is not where it should be; `Invalid` when the spec is of another kind.
    pub async fn secret(&self, name: &Name, spec: &ResourceSpec) -> Result<SecretBytes, ResourceFailure> {
        match spec {
            ResourceSpec::Secret { from } => self.clients.secrets.read(name, from).await,
            _ => Err(other_kind(spec).into()),
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
