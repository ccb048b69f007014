//! A yard: one folder with a database, an object store, components and a cache of compiled code.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use opyard_engine::{Engine, EngineSettings, Parts};
use opyard_model::component::ComponentDescription;
use opyard_model::diagnostic::nearest;
use opyard_model::digest::Digest;
use opyard_model::error::{Code, Failure, sanitize};
use opyard_model::event::Recorded;
use opyard_model::id::{Name, RunId, StepKey, TenantId};
use opyard_model::plan::{IoManagerSpec, Plan};
use opyard_model::state::{RunState, StepState};
use opyard_model::value::{ValueRef, Yielded};
use opyard_resources::IoManagers;
use opyard_sandbox::{
    CacheIntegrity, CompileWorker, ComponentBounds, Sandbox, SandboxSettings, Surroundings, TenantArtifacts,
};
use opyard_store::artifact::{ArtifactReader, ArtifactStore};
use opyard_store::backup::{DATABASE, OBJECTS};
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::io_manager::IoManager;
use opyard_store::key_value::KeyValues;
use opyard_store::run::RunSummary;
use opyard_store::{Store, StoreSettings, TenantStore};
use serde::Serialize;

use crate::clock::SystemClock;
use crate::components::ComponentFolder;
use crate::error::YardError;
use crate::inspect;
use crate::supply::{ORIGINS, Records};

/// The folder of components, in a yard and in a backup of one.
pub(crate) const COMPONENTS: &str = "components";

/// How a yard is opened.
#[derive(Debug, Clone)]
pub struct YardSettings {
    /// The folder. Made if it is not there.
    pub folder: PathBuf,
    /// Where artifacts are kept; none = in the folder.
    pub objects: Option<String>,
    /// Whose runs these are.
    pub tenant: TenantId,
    /// Steps of one run that run at a time; none = twice the number of cores.
    pub max_concurrent_steps: Option<usize>,
    /// What compiles components, in a process of its own; none = this process.
    pub compile_worker: Option<CompileWorker>,
    /// Components beyond these bounds are refused.
    pub bounds: ComponentBounds,
}

impl YardSettings {
    /// The yard in `folder`, for the tenant `default`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            objects: None,
            tenant: TenantId::default(),
            max_concurrent_steps: None,
            compile_worker: None,
            bounds: ComponentBounds::default(),
        }
    }
}

/// An open yard, for one tenant. Cheap to clone.
#[derive(Clone)]
pub struct Yard {
    folder: PathBuf,
    store: Store,
    tenant_store: TenantStore,
    sandbox: Arc<Sandbox>,
    components: ComponentFolder,
    engine: Engine,
    compile_worker: Option<CompileWorker>,
}

/// A value of a run that somebody asked for by name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// The step.
    pub step: StepKey,
    /// The port and the value.
    pub output: Yielded,
}

/// What `opyard doctor` looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// What was looked at.
    pub subject: &'static str,
    /// It is well.
    pub well: bool,
    /// What was found.
    pub finding: String,
}

/// Opens the artifacts, IO managers and buckets of whichever tenant a step belongs to.
struct Kept {
    store: Store,
    io_managers: IoManagers,
}

#[async_trait]
impl TenantArtifacts for Kept {
    fn artifacts(&self, tenant: &TenantId) -> Result<Arc<dyn ArtifactStore>, StoreError> {
        Ok(self.store.tenant(tenant).artifacts())
    }

    async fn io_manager(&self, _: &TenantId, spec: &IoManagerSpec) -> Result<Option<Arc<dyn IoManager>>, Failure> {
        self.io_managers.open(spec).await
    }

    fn key_values(&self, tenant: &TenantId, bucket: &Name) -> Result<KeyValues, StoreError> {
        Ok(self.store.tenant(tenant).key_values(bucket))
    }
}

impl Yard {
    /// Opens the yard, and makes it if there is none.
    ///
    /// # Errors
    /// When the folder or the object store cannot be used, a newer version made it, or another process holds it.
    pub fn open(settings: &YardSettings) -> Result<Self, YardError> {
        let folder = std::path::absolute(&settings.folder).map_err(|error| unusable(&settings.folder, &error))?;
        opyard_store::folder::make(&folder).map_err(|error| unusable(&folder, &error))?;
        let objects = match &settings.objects {
            Some(url) => url.clone(),
            None => {
                expect_database(&folder)?;
                file_url(&folder.join(OBJECTS))?
            }
        };
        let store = Store::open(StoreSettings::new(folder.join(DATABASE), objects, Arc::new(SystemClock)))?;
        let components = ComponentFolder::new(folder.join(COMPONENTS));
        let cache_dir = Some(folder.join("code"));
        let kept = Kept { store: store.clone(), io_managers: IoManagers::default() };
        let sandbox = Arc::new(Sandbox::new(
            &SandboxSettings {
                cache_dir,
                compile_worker: settings.compile_worker.clone(),
                bounds: settings.bounds,
                ..SandboxSettings::default()
            },
            Surroundings {
                components: Arc::new(components.clone()),
                artifacts: Arc::new(kept),
                clock: Arc::new(SystemClock),
            },
        )?);
        let tenant_store = store.tenant(&settings.tenant);
        let parts = Parts {
            executor: Arc::clone(&sandbox) as _,
            events: tenant_store.events(),
            artifacts: tenant_store.artifacts(),
            memos: tenant_store.memos(),
            pools: tenant_store.pools(),
            clock: Arc::new(SystemClock),
        };
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let engine_settings = EngineSettings {
            max_concurrent_steps: settings.max_concurrent_steps.unwrap_or(cores * 2),
            wasmtime: opyard_sandbox::WASMTIME.to_owned(),
        };
        let engine = Engine::new(settings.tenant.clone(), parts, engine_settings);
        let compile_worker = settings.compile_worker.clone();
        Ok(Self { folder, store, tenant_store, sandbox, components, engine, compile_worker })
    }

    /// Waits until everything that was accepted is on disk.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is stored of this tenant.
    #[must_use]
    pub fn tenant_store(&self) -> &TenantStore {
        &self.tenant_store
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn components(&self) -> &ComponentFolder {
        &self.components
    }

    /// What registries said of components.
    pub(crate) fn told_by_registries(&self) -> Records {
        Records::new(self.folder.join(ORIGINS))
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Checks that bytes are a component for Opyard, asks it what it ships, and keeps it for runs.
    pub(crate) async fn describe(&self, bytes: Bytes) -> Result<ComponentDescription, YardError> {
        let loaded = self.sandbox.load(self.tenant_store.tenant(), bytes.clone()).await?;
        self.components.keep(loaded.digest, &bytes)?;
        inspect::ask(&self.sandbox, self.tenant_store.tenant(), loaded.digest).await
    }

    /// Files of the code cache that were found altered since the last call. They were not used.
    pub(crate) fn take_cache_integrity(&self) -> Vec<CacheIntegrity> {
        self.sandbox.take_cache_integrity()
    }

    /// What there is to say of a run without reading its events.
    ///
    /// # Errors
    /// When there is no such run.
    pub async fn summary(&self, run: RunId) -> Result<RunSummary, YardError> {
        let none = || YardError::new(Code::UnknownRun, format!("there is no run {run}; `opyard runs` lists them"));
        self.tenant_store.run(run).await?.ok_or_else(none)
    }

    /// All durable events of a run.
    ///
    /// # Errors
    /// When there is no such run.
    pub async fn events(&self, run: RunId) -> Result<Vec<Recorded>, YardError> {
        self.summary(run).await?;
        let log = self.tenant_store.events();
        let mut events: Vec<Recorded> = Vec::new();
        loop {
            let page = log.read(run, events.last().map_or(0, |last| last.seq), 1_000).await?;
            if page.is_empty() {
                return Ok(events);
            }
            events.extend(page);
        }
    }

    /// Where a run stands, folded from its events, and the plan that it runs.
    ///
    /// # Errors
    /// When there is no such run, or its events make no sense.
    pub async fn state(&self, run: RunId) -> Result<(Arc<Plan>, RunState), YardError> {
        self.summary(run).await?;
        Ok(self.engine.look_at(run).await?)
    }

    /// The outputs of a run, in plan order; those of steps that have not succeeded are left out.
    ///
    /// # Errors
    /// When there is no such run.
    pub async fn outputs(&self, run: RunId) -> Result<Vec<Found>, YardError> {
        let (plan, state) = self.state(run).await?;
        let succeeded = state.instances().filter(|(_, instance)| matches!(instance.state, StepState::Success { .. }));
        let found = succeeded.flat_map(|(id, instance)| {
            let step = id.step_key(&plan);
            let outputs = instance.yielded(&plan.step(id.step).outputs);
            outputs.into_iter().map(move |output| Found { step: step.clone(), output })
        });
        Ok(found.collect())
    }

    /// Finds `STEP.OUTPUT`, `STEP` (its only output) or `STEP.OUTPUT[KEY]` (an item) among the outputs of a run.
    ///
    /// # Errors
    /// When nothing, or more than one value, has that name.
    pub async fn output(&self, run: RunId, name: &str) -> Result<Found, YardError> {
        let outputs = self.outputs(run).await?;
        let names = |found: &Found| {
            let item = found.output.value.item_of(&found.step.mapping);
            let item = item.map(|key| format!("[{key}]")).unwrap_or_default();
            [format!("{}.{}{item}", found.step, found.output.port), format!("{}{item}", found.step)]
        };
        let mut matching: Vec<_> = outputs.iter().filter(|found| names(found).iter().any(|one| one == name)).collect();
        match (matching.pop(), matching.is_empty()) {
            (Some(found), true) => Ok(found.clone()),
            (Some(_), false) => {
                let text = format!("'{name}' has several outputs: say which, as `opyard artifacts {run}` lists them");
                Err(YardError::new(Code::UnknownOutput, text))
            }
            (None, _) => {
                let (plan, _) = self.state(run).await?;
                let step = plan.steps.iter().map(|step| step.path.as_str()).find(|path| {
                    let rest = name.strip_prefix(path);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
                });
                let known: Vec<String> = outputs.iter().flat_map(names).collect();
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let hint = match (nearest(name, &known), step) {
                    (Some(near), _) => format!("did you mean `{near}`?"),
                    (None, Some(step)) if !outputs.iter().any(|found| found.step.path.as_str() == step) => {
                        format!("its step `{step}` has not succeeded: `opyard show {run}` says why")
                    }
                    (None, _) => format!("`opyard artifacts {run}` lists them"),
                };
                let name = short(name);
                Err(YardError::new(Code::UnknownOutput, format!("{run} has no output `{name}`; {hint}")))
            }
        }
    }

    /// How many bytes an artifact of this tenant has; none when there is no such artifact.
    pub(crate) async fn artifact_size(&self, digest: Digest) -> Result<Option<u64>, YardError> {
        match self.tenant_store.artifacts().get(digest).await {
            Ok(reader) => Ok(Some(reader.artifact().size)),
            Err(StoreError { kind: StoreErrorKind::Missing(_), .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a value.
    ///
    /// # Errors
    /// When its artifact is missing.
    pub async fn open_value(&self, value: &ValueRef) -> Result<Box<dyn ArtifactReader>, YardError> {
        Ok(self.tenant_store.artifacts().get(value.artifact.digest).await?)
    }

    /// Where components are compiled, and within what.
    fn compiling(&self) -> String {
        match &self.compile_worker {
            Some(CompileWorker { limits, .. }) => format!(
                "each component is compiled in a process of its own, with {} of memory and {:?} of CPU time at most",
                limits.memory, limits.cpu
            ),
            None => "components are compiled in this process".to_owned(),
        }
    }

    /// Looks at what Opyard needs of its surroundings: the folder, the database, the object store, the sandbox, the compiler.
    pub async fn health(&self) -> Vec<Health> {
        let mut findings = vec![Health {
            subject: "yard",
            well: true,
            finding: format!("{} opens, and its database answers", self.folder.display()),
        }];
        let artifacts = self.tenant_store.artifacts();
        let probe = async {
            let put = artifacts.put(Bytes::from_static(b"opyard doctor")).await?;
            put.durable.wait().await?;
            artifacts.get(put.artifact.digest).await?.read_at(0, 64).await
        };
        findings.push(match probe.await {
            Ok(_) => Health { subject: "artifacts", well: true, finding: "a value can be put and read back".into() },
            Err(error) => Health { subject: "artifacts", well: false, finding: error.to_failure().to_string() },
        });
        findings.push(Health {
            subject: "sandbox",
            well: true,
            finding: format!(
                "wasmtime {} starts, with {} a memory at most",
                opyard_sandbox::WASMTIME,
                SandboxSettings::default().max_memory
            ),
        });
        findings.push(match self.sandbox.check_compiler().await {
            Ok(()) => Health { subject: "compiler", well: true, finding: self.compiling() },
            Err(failure) => Health { subject: "compiler", well: false, finding: failure.to_string() },
        });
        findings
    }
}

fn unusable(folder: &Path, error: &std::io::Error) -> YardError {
    let why = match error.kind() {
        ErrorKind::AlreadyExists => "it is a file, not a folder".to_owned(),
        ErrorKind::NotADirectory => "something on its path is a file, not a folder".to_owned(),
        _ => error.to_string(),
    };
    let code = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::StoreFull,
        _ => Code::FileUnreadable,
    };
    Failure::new(code, format!("the yard at {} cannot be used: {why}", folder.display())).into()
}

/// As much of what somebody typed as is worth repeating.
fn short(text: &str) -> String {
    sanitize(text, 200)
}

/// Objects without a database: it is lost, or was cut to nothing. A new one in its place would say that nothing ever ran.
fn expect_database(folder: &Path) -> Result<(), StoreError> {
    let database = folder.join(DATABASE);
    let is_there = std::fs::metadata(&database).is_ok_and(|about| about.len() > 0);
    // The database is on disk before the first object is written.
    let holds_objects = || std::fs::read_dir(folder.join(OBJECTS)).is_ok_and(|mut entries| entries.next().is_some());
    if is_there || !holds_objects() {
        return Ok(());
    }
    let reason = "it is gone or empty, and the objects of its runs are there".to_owned();
    Err(StoreError::new(format!("opening the database {}", database.display()), StoreErrorKind::Unreadable(reason)))
}

fn file_url(path: &Path) -> Result<String, YardError> {
    opyard_resources::file_url(path)
        .ok_or_else(|| YardError::new(Code::BadUrl, format!("{} cannot be written as an address", path.display())))
}
