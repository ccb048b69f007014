//! A sandbox over a store in a folder of its own, and components made of a few lines of WebAssembly text.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use opyard_model::component::ComponentDescription;
use opyard_model::digest::{ComponentDigest, Digest};
use opyard_model::error::{Code, Failure};
use opyard_model::id::{Name, RunId, TenantId};
use opyard_model::json::CanonicalJson;
use opyard_model::limits::Limits;
use opyard_model::plan::{BaseType, IoManagerSpec, StepOutput};
use opyard_model::step::{
    Bound, BoundInput, BoundManager, Call, OpCall, Said, Saying, StepExecutor as _, StepIdentity, StepOutcome,
    StepRequest, StepResult,
};
use opyard_model::time::{Clock, Timestamp};
use opyard_model::value::ValueRef;
use opyard_sandbox::{ComponentSource, LoadedComponent, Sandbox, SandboxSettings, Surroundings, TenantArtifacts};
use opyard_store::artifact::{ArtifactReader, ArtifactStore, ArtifactWriter};
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::io_manager::{IoManager, Loaded, Slot, Stored};
use opyard_store::key_value::KeyValues;
use opyard_store::{Store, StoreSettings};
use opyard_tests::guests::component;

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
    }
}

/// What the sandbox reaches in these tests: a real store, and an IO manager that keeps values in memory.
pub(crate) struct Around {
    store: Store,
    kept: Arc<Kept>,
}

#[derive(Default)]
pub(crate) struct Kept(pub(crate) Mutex<HashMap<String, Bytes>>);

#[async_trait]
impl IoManager for Kept {
    async fn handle_output(
        &self,
        slot: &Slot,
        value: &ValueRef,
        mut bytes: Box<dyn ArtifactReader>,
    ) -> Result<Stored, Failure> {
        let size = usize::try_from(value.artifact.size).unwrap();
        let keys: String = slot.keys().map(|key| format!("[{key}]")).collect();
        let name = format!("{}.{}{keys}", slot.step.path, slot.port);
        let bytes = bytes.read_at(0, size).await.unwrap();
        self.0.lock().unwrap().insert(name.clone(), bytes);
        let locator = CanonicalJson::new(&serde_json::json!({ "name": name })).unwrap();
        Ok(Stored { locator, metadata: Vec::new() })
    }

    async fn load_input(
        &self,
        _: &Slot,
        locator: &CanonicalJson,
        mut into: Box<dyn ArtifactWriter>,
    ) -> Result<Loaded, Failure> {
        let name = locator.to_value()["name"].as_str().unwrap().to_owned();
        let bytes = self.0.lock().unwrap().get(&name).cloned();
        let bytes = bytes.ok_or_else(|| Failure::new(Code::IoManagerFailed, name))?;
        into.write(bytes).await.map_err(|error| error.to_failure())?;
        let artifact = into.finish().await.map_err(|error| error.to_failure())?.artifact;
        Ok(Loaded { artifact, metadata: Vec::new() })
    }

    /// The bytes themselves; of what is called `unknown`, it cannot tell.
    async fn fingerprint(&self, locator: &CanonicalJson) -> Result<Option<String>, Failure> {
        let name = locator.to_value()["name"].as_str().unwrap().to_owned();
        let bytes = self.0.lock().unwrap().get(&name).cloned();
        Ok(bytes.filter(|_| name != "unknown").map(|bytes| Digest::of(&bytes).to_string()))
    }

    async fn forget(&self, locator: &CanonicalJson) -> Result<(), Failure> {
        self.0.lock().unwrap().remove(locator.to_value()["name"].as_str().unwrap());
        Ok(())
    }
}

/// An IO manager that keeps values in the memory of these tests.
pub(crate) fn in_memory() -> BoundManager {
    BoundManager {
        spec: IoManagerSpec::ObjectStore { url: "memory:///".into(), path: "x".to_owned() },
        rights: Vec::new(),
    }
}

#[async_trait]
impl TenantArtifacts for Around {
    fn artifacts(&self, tenant: &TenantId) -> Result<Arc<dyn ArtifactStore>, StoreError> {
        Ok(self.store.tenant(tenant).artifacts())
    }

    async fn io_manager(&self, _: &TenantId, spec: &IoManagerSpec) -> Result<Option<Arc<dyn IoManager>>, Failure> {
        Ok(match spec {
            IoManagerSpec::Artifacts => None,
            _ => Some(Arc::clone(&self.kept) as Arc<dyn IoManager>),
        })
    }

    fn key_values(&self, tenant: &TenantId, bucket: &Name) -> Result<KeyValues, StoreError> {
        Ok(self.store.tenant(tenant).key_values(bucket))
    }
}

#[async_trait]
impl ComponentSource for Around {
    async fn bytes(&self, _: &TenantId, digest: ComponentDigest) -> Result<Bytes, Failure> {
        Err(Failure::new(Code::ComponentUnreadable, format!("{digest} was not loaded")))
    }
}

struct Wrapped(Arc<dyn ArtifactStore>);

#[async_trait]
impl TenantArtifacts for Wrapped {
    fn artifacts(&self, _: &TenantId) -> Result<Arc<dyn ArtifactStore>, StoreError> {
        Ok(Arc::clone(&self.0))
    }

    async fn io_manager(&self, _: &TenantId, _: &IoManagerSpec) -> Result<Option<Arc<dyn IoManager>>, Failure> {
        Ok(None)
    }

    fn key_values(&self, _: &TenantId, bucket: &Name) -> Result<KeyValues, StoreError> {
        Err(StoreError::new("opening a bucket", StoreErrorKind::Unavailable(bucket.to_string())))
    }
}

struct Nowhere;

#[async_trait]
impl ComponentSource for Nowhere {
    async fn bytes(&self, _: &TenantId, digest: ComponentDigest) -> Result<Bytes, Failure> {
        Err(Failure::new(Code::ComponentUnreadable, format!("{digest} was not loaded")))
    }
}

/// Remembers what is said.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Vec<Saying>>);

impl Said for Heard {
    fn say(&self, saying: Saying) {
        self.0.lock().unwrap().push(saying);
    }
}

/// What came of a call, and what was said on the way.
#[derive(Debug)]
pub(crate) struct Came {
    pub(crate) outcome: StepOutcome,
    pub(crate) said: Vec<Saying>,
}

impl Came {
    pub(crate) fn failure(&self) -> &Failure {
        match &self.outcome.result {
            StepResult::Failure(failure) => failure,
            other => panic!("expected a failure: {other:?}"),
        }
    }

    pub(crate) fn code(&self) -> Code {
        self.failure().code
    }

    pub(crate) fn outputs(&self) -> Vec<(String, ValueRef)> {
        match &self.outcome.result {
            StepResult::Success { outputs, .. } => {
                outputs.iter().map(|yielded| (yielded.port.to_string(), yielded.value.clone())).collect()
            }
            other => panic!("expected success: {other:?}"),
        }
    }

    pub(crate) fn memoisable(&self) -> bool {
        matches!(self.outcome.result, StepResult::Success { memoisable: true, .. })
    }
}

/// Where compiled code is shared between the processes of all tests.
pub(crate) fn cache() -> &'static Path {
    Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled"))
}

pub(crate) struct Bench {
    pub(crate) sandbox: Sandbox,
    pub(crate) artifacts: Arc<dyn ArtifactStore>,
    pub(crate) kept: Arc<Kept>,
    pub(crate) tenant: TenantId,
    _folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(&SandboxSettings { cache_dir: Some(cache().to_owned()), ..SandboxSettings::default() })
    }

    /// The same, over artifacts that are wrapped in something.
    pub(crate) fn over(artifacts: impl Fn(Arc<dyn ArtifactStore>) -> Arc<dyn ArtifactStore>) -> Self {
        let mut bench = Self::new();
        let around = Wrapped(artifacts(Arc::clone(&bench.artifacts)));
        let surroundings =
            Surroundings { components: Arc::new(Nowhere), artifacts: Arc::new(around), clock: Arc::new(SystemClock) };
        bench.sandbox = Sandbox::new(&SandboxSettings::default(), surroundings).unwrap();
        bench
    }

    pub(crate) fn with(settings: &SandboxSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = StoreSettings::new(folder.path().join("yard.db"), "memory:///", Arc::new(SystemClock));
        let store = Store::open(store).unwrap();
        let (tenant, kept) = (TenantId::default(), Arc::<Kept>::default());
        let artifacts = store.tenant(&tenant).artifacts();
        let around = Arc::new(Around { store, kept: Arc::clone(&kept) });
        let components = Arc::clone(&around) as Arc<dyn ComponentSource>;
        let surroundings = Surroundings { components, artifacts: around, clock: Arc::new(SystemClock) };
        Self { sandbox: Sandbox::new(settings, surroundings).unwrap(), artifacts, kept, tenant, _folder: folder }
    }

    pub(crate) async fn load(&self, bytes: Vec<u8>) -> Result<LoadedComponent, Failure> {
        self.sandbox.load(&self.tenant, bytes.into()).await
    }

    pub(crate) async fn request(&self, call: Call, limits: Limits) -> Came {
        let step = StepIdentity {
            job: name("job"),
            run: RunId::from_parts(1, 2),
            key: "outer.step[k]".parse().unwrap(),
            attempt: 0,
        };
        let request = StepRequest { tenant: self.tenant.clone(), step: Some(step), call, limits };
        let heard = Heard::default();
        let outcome = self.sandbox.execute(request, &heard).await;
        Came { outcome, said: heard.0.into_inner().unwrap() }
    }

    pub(crate) async fn describe(&self, component: ComponentDigest) -> Result<ComponentDescription, Failure> {
        match self.request(Call::Describe { component }, Limits::default()).await.outcome.result {
            StepResult::Described(description) => Ok(*description),
            StepResult::Failure(failure) => Err(failure),
            other => panic!("{other:?}"),
        }
    }

    /// Runs the only op of a component made of `text`, with the optional outputs `out` of type `json` and `raw` of type
    /// `bytes`, and the dynamic output `items`.
    pub(crate) async fn run_text(&self, text: &str, limits: Limits) -> Came {
        let call = self.text_call(text).await;
        self.request(Call::Op(Box::new(call)), limits).await
    }

    pub(crate) async fn text_call(&self, text: &str) -> OpCall {
        let component = self.load(component(text)).await.unwrap().digest;
        let output = |port: &str, base: BaseType, dynamic| StepOutput {
            port: name(port),
            type_name: name(base.name()),
            base,
            media_type: "application/json".parse().unwrap(),
            optional: true,
            dynamic,
            io_manager: name("default"),
        };
        let mut call = op_call(component, "x");
        call.outputs = [
            output("out", BaseType::Json, false),
            output("raw", BaseType::Bytes, false),
            output("items", BaseType::Json, true),
        ]
        .into();
        call
    }

    /// Stores bytes, as a value of that type.
    pub(crate) async fn value(&self, bytes: impl Into<Bytes>, type_name: &str, media_type: &str) -> ValueRef {
        let bytes = bytes.into();
        let mut writer = self.artifacts.begin().await.unwrap();
        writer.write(bytes).await.unwrap();
        let artifact = writer.finish().await.unwrap().artifact;
        ValueRef::plain(artifact, name(type_name), media_type.parse().unwrap())
    }

    pub(crate) async fn bytes(&self, value: &ValueRef) -> Bytes {
        let size = usize::try_from(value.artifact.size).unwrap();
        self.artifacts.get(value.artifact.digest).await.unwrap().read_at(0, size).await.unwrap()
    }

    pub(crate) async fn json(&self, value: &ValueRef) -> serde_json::Value {
        serde_json::from_slice(&self.bytes(value).await).unwrap()
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn op_call(component: ComponentDigest, op: &str) -> OpCall {
    OpCall { seed: Digest::of(b"seed"), ..OpCall::new(component, name(op)) }
}

/// The component of the ops that each do one thing.
pub(crate) struct Probe {
    pub(crate) bench: Bench,
    pub(crate) description: ComponentDescription,
}

impl Probe {
    pub(crate) async fn new() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/probe.wasm");
        let bytes = std::fs::read(&path).expect("target/guests/probe.wasm: build it with `cargo xtask guests`");
        let bench = Bench::new();
        let component = bench.load(bytes).await.unwrap();
        let description = bench.describe(component.digest).await.unwrap();
        Self { bench, description }
    }

    /// A call of `op` as a plan would make it, every output on `artifacts`.
    pub(crate) fn call(&self, op: &str, config: serde_json::Value, inputs: Vec<(&str, Bound)>) -> OpCall {
        let definition = self.description.op(op).unwrap();
        let mut call = op_call(self.description.digest, op);
        call.config = CanonicalJson::new(&config).unwrap();
        call.hermetic = definition.is_hermetic();
        call.uses_execution = definition.uses_execution;
        let bind = |port: &opyard_model::component::InputDefinition| {
            let bound = inputs.iter().find(|(name, _)| *name == port.name.as_str()).map(|(_, bound)| bound.clone());
            let absent = if port.many { Bound::Many(Vec::new()) } else { Bound::Absent };
            BoundInput { port: port.name.clone(), bound: bound.unwrap_or(absent) }
        };
        call.inputs = definition.inputs.iter().map(bind).collect();
        let output = |port: &opyard_model::component::OutputDefinition| StepOutput {
            port: port.name.clone(),
            type_name: port.type_name.clone(),
            base: BaseType::from_name(port.type_name.as_str()).unwrap(),
            media_type: port.media_type.clone(),
            optional: port.optional,
            dynamic: port.dynamic,
            io_manager: name("default"),
        };
        call.outputs = definition.outputs.iter().map(output).collect();
        call
    }

    pub(crate) async fn run(&self, op: &str, config: serde_json::Value, inputs: Vec<(&str, Bound)>) -> Came {
        self.with_limits(op, config, inputs, Limits::default()).await
    }

    pub(crate) async fn with_limits(
        &self,
        op: &str,
        config: serde_json::Value,
        inputs: Vec<(&str, Bound)>,
        limits: Limits,
    ) -> Came {
        self.bench.request(Call::Op(Box::new(self.call(op, config, inputs))), limits).await
    }
}
