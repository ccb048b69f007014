//! Where tests run: a sandbox over memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use opyard_model::component::ComponentDescription;
use opyard_model::diagnostic::Diagnostic;
use opyard_model::digest::{ComponentDigest, Digest};
use opyard_model::error::{Code, Failure};
use opyard_model::id::{Name, TenantId};
use opyard_model::location::Location;
use opyard_model::plan::{Catalog, IoManagerSpec, KeyValueDriver, ModelRegistryDriver, Plan, ResourceSpec};
use opyard_model::step::{Call, Said, StepExecutor, StepOutcome, StepRequest};
use opyard_model::value::ArtifactRef;
use opyard_resources::{Given, Resources};
use opyard_sandbox::{CompileWorker, ComponentSource, Sandbox, SandboxSettings, Surroundings, TenantArtifacts};
use opyard_server::{SystemClock, YardError};
use opyard_store::artifact::{ArtifactStore, MAX_PACKED};
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::io_manager::IoManager;
use opyard_store::key_value::KeyValues;
use opyard_store::memory::{MemoryStore, MemoryTenant};

/// Where components are compiled, and where their code is kept. The default: in this process, and nowhere.
#[derive(Debug, Clone, Default)]
pub struct Compiling {
    /// The folder of the code cache; none = code is not kept.
    pub cache: Option<PathBuf>,
    /// What compiles, in a process of its own; none = this process.
    pub worker: Option<CompileWorker>,
}

/// A sandbox over memory, and what it is given.
pub(crate) struct Bench {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) store: MemoryTenant,
    pub(crate) tenant: TenantId,
    pub(crate) given: Arc<Given>,
    /// The sandbox's: what is in memory is the same for both.
    pub(crate) resources: Resources,
    components: Arc<Components>,
    /// Runs and cases so far: each has a memory of its own.
    runs: AtomicU64,
}

impl Bench {
    /// An empty one.
    pub(crate) fn new(compiling: Compiling) -> Result<Self, YardError> {
        let (tenant, given) = (TenantId::default(), Arc::new(Given::default()));
        let store = MemoryStore::new(Arc::new(SystemClock)).tenant(&tenant);
        let resources = Resources::given(Arc::clone(&given));
        let components = Arc::new(Components::default());
        let surroundings = Surroundings {
            components: Arc::clone(&components) as _,
            artifacts: Arc::new(OnMemory(store.clone())),
            clock: Arc::new(SystemClock),
        };
        let Compiling { cache, worker } = compiling;
        let settings = SandboxSettings { cache_dir: cache, compile_worker: worker, ..SandboxSettings::default() };
        let sandbox = Arc::new(Sandbox::with_resources(&settings, surroundings, resources.clone())?);
        Ok(Self { sandbox, store, tenant, given, resources, components, runs: AtomicU64::new(0) })
    }

    /// Reads a component and asks it what it ships.
    async fn describe(&self, path: &Path) -> Result<ComponentDescription, YardError> {
        let bytes = opyard_server::read_component(path)?;
        let loaded = self.sandbox.load(&self.tenant, bytes.clone()).await?;
        self.components.keep(loaded.digest, bytes);
        opyard_server::ask(&self.sandbox, &self.tenant, loaded.digest).await
    }

    /// Asks components what they ship.
    pub(crate) async fn catalog<'a>(
        &self,
        components: impl Iterator<Item = (&'a Name, &'a Path)>,
        problem: impl Fn(&str, &Failure) -> Diagnostic,
    ) -> Result<Catalog, YardError> {
        let describe = async |_: &Name, path: &Path| self.describe(path).await;
        let (described, problems) = opyard_server::describe_all(components, problem, describe).await?;
        if problems.has_errors() { Err(problems.into()) } else { Ok(described.into_iter().collect()) }
    }

    /// Puts the resources of a plan on memory that nobody has used. What may be done with them stays as it is.
    pub(crate) fn on_memory(&self, plan: &mut Plan) {
        let nth = self.runs.fetch_add(1, Ordering::Relaxed);
        for (name, spec) in &mut plan.resources {
            let address = Location::from(format!("memory:///{nth}/{name}"));
            match spec {
                ResourceSpec::ObjectStore { url, .. } => *url = address,
                ResourceSpec::KeyValue { driver, .. } => *driver = KeyValueDriver::ObjectStore { url: address },
                ResourceSpec::ModelRegistry { driver, .. } => {
                    *driver = ModelRegistryDriver::ObjectStore { url: address };
                }
                ResourceSpec::HttpClient(_) | ResourceSpec::Secret { .. } => {}
            }
        }
    }

    /// Puts a value of any size.
    pub(crate) async fn put(&self, mut bytes: Bytes) -> Result<ArtifactRef, StoreError> {
        let artifacts = self.store.artifacts();
        if bytes.len() <= MAX_PACKED {
            return Ok(artifacts.put(bytes).await?.artifact);
        }
        let mut writer = artifacts.begin().await?;
        while !bytes.is_empty() {
            writer.write(bytes.split_to(bytes.len().min(1 << 20))).await?;
        }
        Ok(writer.finish().await?.artifact)
    }
}

/// Runs ops in a virtual world, whether or not they are hermetic: clock and randomness are the same each time.
pub(crate) struct Repeatable(pub(crate) Arc<Sandbox>);

/// Where the randomness of every op of a test begins.
pub(crate) fn seed() -> Digest {
    Digest::of(b"opyard test")
}

#[async_trait]
impl StepExecutor for Repeatable {
    async fn execute(&self, mut request: StepRequest, said: &dyn Said) -> StepOutcome {
        if let Call::Op(call) = &mut request.call {
            // To the sandbox it says no more than which world the op is in; what it may call is in its rights.
            call.hermetic = true;
            call.seed = seed();
        }
        self.0.execute(request, said).await
    }
}

/// The components of a test, by digest.
#[derive(Default)]
struct Components(Mutex<HashMap<ComponentDigest, Bytes>>);

impl Components {
    fn keep(&self, digest: ComponentDigest, bytes: Bytes) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, bytes);
    }
}

#[async_trait]
impl ComponentSource for Components {
    async fn bytes(&self, _: &TenantId, digest: ComponentDigest) -> Result<Bytes, Failure> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        found.ok_or_else(|| Failure::new(Code::ComponentUnreadable, format!("{digest} is no component of this test")))
    }
}

/// Artifacts in memory; nothing else is kept.
struct OnMemory(MemoryTenant);

#[async_trait]
impl TenantArtifacts for OnMemory {
    fn artifacts(&self, _: &TenantId) -> Result<Arc<dyn ArtifactStore>, StoreError> {
        Ok(self.0.artifacts())
    }

    async fn io_manager(&self, _: &TenantId, spec: &IoManagerSpec) -> Result<Option<Arc<dyn IoManager>>, Failure> {
        match spec {
            IoManagerSpec::Artifacts => Ok(None),
            _ => Err(elsewhere("opening an IO manager").to_failure()),
        }
    }

    fn key_values(&self, _: &TenantId, _: &Name) -> Result<KeyValues, StoreError> {
        Err(elsewhere("opening a bucket"))
    }
}

/// Plans of tests name nothing of a yard.
fn elsewhere(context: &str) -> StoreError {
    StoreError::new(context, StoreErrorKind::Unavailable("a test has no yard".into()))
}
