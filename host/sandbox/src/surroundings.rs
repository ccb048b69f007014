//! What the sandbox is given to reach: components, artifacts, IO managers, resources, time.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use opyard_model::digest::ComponentDigest;
use opyard_model::error::Failure;
use opyard_model::id::{Name, TenantId};
use opyard_model::plan::IoManagerSpec;
use opyard_model::time::Clock;
use opyard_store::artifact::ArtifactStore;
use opyard_store::error::StoreError;
use opyard_store::io_manager::IoManager;
use opyard_store::key_value::KeyValues;

/// Finds a component by its digest.
#[async_trait]
pub trait ComponentSource: Send + Sync {
    /// The bytes of the component. Whether they have that digest is checked by the caller.
    ///
    /// # Errors
    /// A failure that is the step's: the file cannot be read (`OPY-230`), the registry does not answer, ...
    async fn bytes(&self, tenant: &TenantId, digest: ComponentDigest) -> Result<Bytes, Failure>;
}

/// Opens the artifacts, IO managers and buckets of a tenant.
#[async_trait]
pub trait TenantArtifacts: Send + Sync {
    /// The artifacts of `tenant`.
    ///
    /// # Errors
    /// `Unavailable`.
    fn artifacts(&self, tenant: &TenantId) -> Result<Arc<dyn ArtifactStore>, StoreError>;

    /// The built-in IO manager of `tenant` that `spec` describes; none for `artifacts`, which keeps nothing of its own. One of
    /// a component is never asked for.
    ///
    /// # Errors
    /// A failure that is the step's: the spec cannot be used, or what it names does not answer.
    async fn io_manager(&self, tenant: &TenantId, spec: &IoManagerSpec) -> Result<Option<Arc<dyn IoManager>>, Failure>;

    /// A bucket of small values of `tenant`, in the yard's own database.
    ///
    /// # Errors
    /// `Unavailable`.
    fn key_values(&self, tenant: &TenantId, bucket: &Name) -> Result<KeyValues, StoreError>;
}

/// All that the sandbox reaches beyond itself.
#[derive(Clone)]
pub struct Surroundings {
    /// Where components come from.
    pub components: Arc<dyn ComponentSource>,
    /// Where values are.
    pub artifacts: Arc<dyn TenantArtifacts>,
    /// What time it is, for ops that are not hermetic.
    pub clock: Arc<dyn Clock>,
}
