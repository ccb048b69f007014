//! What a component file is, without running any of its ops.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use opyard_model::component::{ComponentDescription, Leak, OpDefinition};
use opyard_model::digest::ComponentDigest;
use opyard_model::error::{Code, Failure};
use opyard_model::id::{Name, TenantId};
use opyard_model::limits::Limits;
use opyard_model::plan::IoManagerSpec;
use opyard_model::step::{Call, Said, Saying, StepExecutor as _, StepRequest, StepResult};
use opyard_sandbox::{ComponentSource, Sandbox, SandboxSettings, Surroundings, TenantArtifacts};
use opyard_store::artifact::ArtifactStore;
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::io_manager::IoManager;
use opyard_store::key_value::KeyValues;
use serde::Serialize;

use crate::clock::SystemClock;
use crate::components;
use crate::error::YardError;
use crate::yard::Yard;

/// A component file, looked at.
#[derive(Debug, Serialize)]
pub struct Inspected {
    /// What it says of itself, and what its binary imports: the bound of what it could ever reach.
    pub component: ComponentDescription,
    /// Per op, what follows for caching.
    pub ops: Vec<InspectedOp>,
}

/// An op, looked at.
#[derive(Debug, Serialize)]
pub struct InspectedOp {
    /// The op.
    pub op: OpDefinition,
    /// It depends on nothing beyond its inputs and config.
    pub hermetic: bool,
    /// Why it is not hermetic.
    pub leaks: Vec<Leak>,
}

impl From<ComponentDescription> for Inspected {
    fn from(component: ComponentDescription) -> Self {
        let ops = component.ops.iter().map(|op| {
            let leaks = op.leaks();
            InspectedOp { op: op.clone(), hermetic: leaks.is_empty(), leaks }
        });
        Self { ops: ops.collect(), component }
    }
}

impl Yard {
    /// Reads a component file and asks it what it ships, with every other import trapping.
    ///
    /// # Errors
    /// When the file cannot be read, or is not a component for Opyard.
    pub async fn inspect(&self, path: &Path) -> Result<Inspected, YardError> {
        let described = self.describe(components::read(path)?).await;
        Ok(described.map_err(|error| of_file(path, error))?.into())
    }
}

/// As [`Yard::inspect`], without a yard: nothing is kept, compiled code neither.
///
/// # Errors
/// As [`Yard::inspect`].
pub async fn inspect(path: &Path) -> Result<Inspected, YardError> {
    let bytes = components::read(path)?;
    let surroundings = Surroundings {
        components: Arc::new(Alone(bytes.clone())),
        artifacts: Arc::new(Nowhere),
        clock: Arc::new(SystemClock),
    };
    let sandbox = Sandbox::new(&SandboxSettings::default(), surroundings)?;
    let described = async {
        let loaded = sandbox.load(&TenantId::default(), bytes).await?;
        ask(&sandbox, &TenantId::default(), loaded.digest).await
    };
    Ok(described.await.map_err(|error| of_file(path, error))?.into())
}

/// Says of which file something is wrong.
fn of_file(path: &Path, error: YardError) -> YardError {
    match error {
        YardError::Failed(mut failure) => {
            failure.description = format!("{}: {}", path.display(), failure.description);
            failure.into()
        }
        YardError::Definitions(_) => error,
    }
}

/// Asks a component that `sandbox` has loaded what it ships.
///
/// # Errors
/// When it cannot say, or what it says cannot be used.
pub async fn ask(
    sandbox: &Sandbox,
    tenant: &TenantId,
    component: ComponentDigest,
) -> Result<ComponentDescription, YardError> {
    let call = Call::Describe { component };
    let request = StepRequest { tenant: tenant.clone(), step: None, call, limits: Limits::default() };
    match sandbox.execute(request, &Silence).await.result {
        StepResult::Described(description) => Ok(*description),
        StepResult::Failure(failure) => Err(failure.into()),
        StepResult::Success { .. }
        | StepResult::Checked(_)
        | StepResult::Handled { .. }
        | StepResult::Fingerprint(_)
        | StepResult::Forgotten
        | StepResult::Hooked
        | StepResult::Retry { .. } => {
            Err(YardError::new(Code::Invariant, "the sandbox answered another question than it was asked"))
        }
    }
}

/// Nobody listens to a component that describes itself.
struct Silence;

impl Said for Silence {
    fn say(&self, _: Saying) {}
}

/// One component and no other.
struct Alone(Bytes);

#[async_trait]
impl ComponentSource for Alone {
    async fn bytes(&self, _: &TenantId, _: ComponentDigest) -> Result<Bytes, Failure> {
        Ok(self.0.clone())
    }
}

/// No store: describing needs none.
struct Nowhere;

#[async_trait]
impl TenantArtifacts for Nowhere {
    fn artifacts(&self, _: &TenantId) -> Result<Arc<dyn ArtifactStore>, StoreError> {
        Err(StoreError::new("opening artifacts", StoreErrorKind::Unavailable("there is no yard".into())))
    }

    async fn io_manager(&self, _: &TenantId, _: &IoManagerSpec) -> Result<Option<Arc<dyn IoManager>>, Failure> {
        Ok(None)
    }

    fn key_values(&self, _: &TenantId, _: &Name) -> Result<KeyValues, StoreError> {
        Err(StoreError::new("opening a bucket", StoreErrorKind::Unavailable("there is no yard".into())))
    }
}
