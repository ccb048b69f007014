//! One call, from request to outcome.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use opyard_model::component::ComponentDescription;
use opyard_model::digest::{ComponentDigest, Digest};
use opyard_model::error::{Code, Failure, MAX_DESCRIPTION, sanitize};
use opyard_model::id::TenantId;
use opyard_model::limits::{Limits, Usage};
use opyard_model::step::{
    Call, HandleCall, OpCall, Said, StepExecutor, StepIdentity, StepOutcome, StepRequest, StepResult,
};
use opyard_resources::Resources;
use opyard_store::crash::{self, CrashPoint};
use tokio::sync::Semaphore;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, UpdateDeadline};

use crate::bindings::opyard::op::types::OpError;
use crate::cache::{CacheIntegrity, CodeCache};
use crate::compiler::{Compiler, InProcessCompiler};
use crate::components::{Components, Loaded, LoadedComponent};
use crate::cpu::CpuMeter;
use crate::gate::{Doors, Execution};
use crate::guard::Guard;
use crate::host::wasi::World;
use crate::outbox::Outbox;
use crate::output::{Keeper, OpState};
use crate::settings::{SandboxError, SandboxSettings};
use crate::state::HostState;
use crate::surroundings::Surroundings;
use crate::trap::{Stop, failure_of};
use crate::{describe, host, metadata, runtime};

/// Bytes of a host call beyond the limit: a chunk.
const CHUNK: u64 = 1 << 20;

/// Executes calls of components in wasmtime. One per process.
pub struct Sandbox {
    engine: Engine,
    components: Components,
    surroundings: Surroundings,
    resources: Resources,
    /// As many as the pool has places, so that it is never found full.
    slots: Semaphore,
    max_memory: u64,
}

impl Sandbox {
    /// Starts the engine and its clock, and opens the code cache. Compiles in this process.
    ///
    /// # Errors
    /// When the settings cannot be used, the machine cannot give what they ask for, or the cache cannot be opened.
    pub fn new(settings: &SandboxSettings, surroundings: Surroundings) -> Result<Self, SandboxError> {
        let engine = runtime::start(settings)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let compiler = Arc::new(InProcessCompiler::new(engine.clone(), cores));
        Self::assemble(engine, settings, surroundings, compiler)
    }

    fn assemble(
        engine: Engine,
        settings: &SandboxSettings,
        surroundings: Surroundings,
        compiler: Arc<dyn Compiler>,
    ) -> Result<Self, SandboxError> {
        let cache = settings.cache_dir.as_deref().map(|dir| CodeCache::open(dir, &engine)).transpose()?;
        let linker =
            host::linker(&engine).map_err(|error| SandboxError::engine("linking the host's interfaces", &error))?;
        Ok(Self {
            engine,
            components: Components::new(linker, compiler, cache, settings.max_component.0),
            surroundings,
            resources: Resources::default(),
            slots: Semaphore::new(settings.slots as usize),
            max_memory: settings.max_memory.0,
        })
    }

    /// Makes a component ready to be called, and says what its binary proves.
    ///
    /// # Errors
    /// `OPY-231` to `OPY-234` when it is not a component for this host.
    pub async fn load(&self, tenant: &TenantId, bytes: Bytes) -> Result<LoadedComponent, Failure> {
        Ok(self.components.load(tenant, bytes).await?.component.clone())
    }

    /// Files of the code cache that were found altered since the last call, at most 100. They were not used.
    pub fn take_cache_integrity(&self) -> Vec<CacheIntegrity> {
        self.components.take_reports()
    }

    async fn perform(&self, request: StepRequest, said: &dyn Said) -> StepOutcome {
        let StepRequest { tenant, step, call, limits } = request;
        let failed = |failure| StepOutcome { result: StepResult::Failure(failure), usage: Usage::default() };
        let done = match call {
            Call::Op(call) => match step {
                Some(step) => self.execute_op(&tenant, step, *call, limits, said).await,
                None => Err(no_step()),
            },
            Call::Describe { component } => self.describe(&tenant, component, &limits, said).await,
            Call::HandleOutput(call) => match step {
                Some(step) => self.handle_output(tenant, step, *call, &limits, said).await,
                None => Err(no_step()),
            },
        };
        done.unwrap_or_else(failed)
    }

    fn keeper(&self, tenant: &TenantId) -> Result<Keeper, Failure> {
        let surroundings = self.surroundings.clone();
        let artifacts = surroundings.artifacts.artifacts(tenant).map_err(|error| error.to_failure())?;
        Ok(Keeper { tenant: tenant.clone(), surroundings, artifacts })
    }

    async fn execute_op(
        &self,
        tenant: &TenantId,
        step: StepIdentity,
        call: OpCall,
        limits: Limits,
        said: &dyn Said,
    ) -> Result<StepOutcome, Failure> {
        let keeper = self.keeper(tenant)?;
        let loaded = self.components.get(tenant, call.component, &*self.surroundings.components).await?;
        let mut doors = Doors::PLAIN;
        if call.uses_execution {
            doors = doors.and::<Execution>();
        }
        let mut listed: Vec<_> = call.rights.iter().map(|right| right.through).collect();
        listed.dedup();
        doors = listed.iter().fold(doors, |doors, interface| doors.and_resource(*interface));
        let world =
            if call.hermetic { World::hermetic(call.seed) } else { World::real(Arc::clone(&self.surroundings.clock)) };
        let op = OpState::new(call, step, keeper);
        let visit = Visit::new(self, Some(op), Allowed { doors, listed }, world, limits);
        Ok(visit.run(&loaded, said).await)
    }

    async fn describe(
        &self,
        tenant: &TenantId,
        component: ComponentDigest,
        limits: &Limits,
        said: &dyn Said,
    ) -> Result<StepOutcome, Failure> {
        let loaded = self.components.get(tenant, component, &*self.surroundings.components).await?;
        let world = World::hermetic(Digest::of(b"describe"));
        let allowed = Allowed { doors: Doors::NONE, listed: Vec::new() };
        let visit = Visit::new(self, None, allowed, world, describe::limits(limits));
        Ok(visit.run(&loaded, said).await)
    }

    /// Hands a value to its IO manager, without a guest.
    async fn handle_output(
        &self,
        tenant: TenantId,
        step: StepIdentity,
        call: HandleCall,
        limits: &Limits,
        said: &dyn Said,
    ) -> Result<StepOutcome, Failure> {
        let keeper = self.keeper(&tenant)?;
        let HandleCall { output, mut value } = call;
        let outbox = Outbox::new(limits);
        let start = Instant::now();
        let kept = tokio::time::timeout(limits.wall, keeper.keep(&step, &output, &mut value, &outbox)).await;
        let result = match kept {
            Ok(Ok(())) => StepResult::Handled(Box::new(value)),
            Ok(Err(error)) => StepResult::Failure(error.to_failure()),
            Err(_) => StepResult::Failure(too_slow(limits.wall)),
        };
        outbox.close(said);
        Ok(StepOutcome { result, usage: Usage { wall: start.elapsed(), ..Usage::default() } })
    }
}

#[async_trait]
impl StepExecutor for Sandbox {
    async fn execute(&self, request: StepRequest, said: &dyn Said) -> StepOutcome {
        // Host functions run on the guest's behalf: a panic of ours must cost no more than this step.
        match AssertUnwindSafe(self.perform(request, said)).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(panic) => StepOutcome {
                result: StepResult::Failure(Failure::new(
                    Code::HostPanic,
                    format!("a panic in the sandbox: {}", sanitize(message(&*panic), MAX_DESCRIPTION / 2)),
                )),
                usage: Usage::default(),
            },
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

fn no_step() -> Failure {
    Failure::new(Code::Invariant, "a call of an op belongs to a step of a run")
}

fn too_slow(wall: Duration) -> Failure {
    Failure::new(Code::WallExceeded, format!("the step took longer than {wall:?}"))
}

/// What a call may reach.
struct Allowed {
    doors: Doors,
    listed: Vec<opyard_model::component::Interface>,
}

/// One guest, from instantiation to the end.
struct Visit<'a> {
    sandbox: &'a Sandbox,
    store: wasmtime::Store<HostState>,
    limits: Limits,
    outbox: Arc<Outbox>,
    meter: Arc<CpuMeter>,
}

impl<'a> Visit<'a> {
    fn new(sandbox: &'a Sandbox, op: Option<OpState>, allowed: Allowed, world: World, limits: Limits) -> Self {
        let outbox = Arc::new(Outbox::new(&limits));
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles as usize);
        let state = HostState {
            table,
            doors: allowed.doors,
            listed: allowed.listed,
            resources: sandbox.resources.clone(),
            guard: Guard::new(limits.clone(), sandbox.max_memory),
            outbox: Arc::clone(&outbox),
            world,
            op,
        };
        let mut store = wasmtime::Store::new(&sandbox.engine, state);
        let meter = Arc::new(CpuMeter::default());
        // All limits stand before anything of the guest runs: instantiating runs its start functions.
        store.limiter(|state| &mut state.guard);
        store.set_hostcall_fuel(usize::try_from(limits.host_call_bytes.0.saturating_add(CHUNK)).unwrap_or(usize::MAX));
        store.set_max_component_handles(limits.handles as usize);
        store.set_epoch_deadline(1);
        let (clock, cpu) = (Arc::clone(&meter), limits.cpu);
        store.epoch_deadline_callback(move |store| {
            store.data().guard.check_calls()?;
            if clock.so_far() > cpu {
                let text = format!("the op used more than {cpu:?} of CPU time");
                return Err(Stop::because(Code::CpuExceeded, text).into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
        Self { sandbox, store, limits, outbox, meter }
    }

    async fn run(self, loaded: &Loaded, said: &dyn Said) -> StepOutcome {
        let Ok(_slot) = self.sandbox.slots.acquire().await else {
            let failure = Failure::new(Code::Invariant, "the sandbox is closed");
            return StepOutcome { result: StepResult::Failure(failure), usage: Usage::default() };
        };
        // Dropped before the slot, whichever way this ends: whoever gets the slot next finds its place in the pool free.
        let mut this = self;
        let start = Instant::now();
        let result = {
            let (meter, outbox, wall) = (Arc::clone(&this.meter), Arc::clone(&this.outbox), this.limits.wall);
            let mut visit = pin!(this.visit(loaded));
            // What the guest says goes out, and its time is taken, each time that it pauses: at a tick, or to wait.
            let watched = poll_fn(|context| {
                meter.enter();
                let polled = visit.as_mut().poll(context);
                meter.leave();
                outbox.deliver(said);
                polled
            });
            tokio::time::timeout(wall, watched).await.unwrap_or_else(|_| StepResult::Failure(too_slow(wall)))
        };
        // What is still open goes: a line that was begun is said, a value that was not committed is forgotten.
        this.store.data_mut().table = ResourceTable::new();
        this.outbox.close(said);
        let guard = &this.store.data().guard;
        let usage = Usage {
            fuel: this.limits.fuel.saturating_sub(this.store.get_fuel().unwrap_or(0)),
            cpu: this.meter.total(),
            wall: start.elapsed(),
            peak_memory: guard.peak_memory,
            read_bytes: guard.read_bytes,
            written_bytes: guard.written_bytes,
            host_calls: guard.host_calls,
        };
        StepOutcome { result, usage }
    }

    async fn visit(&mut self, loaded: &Loaded) -> StepResult {
        let ended = match self.store.data().op.as_ref().map(|op| op.call.op.clone()) {
            Some(op) => self.execute(loaded, op.as_str()).await,
            None => match self.ask(loaded).await {
                Ok(description) => return StepResult::Described(Box::new(description)),
                Err(failure) => return StepResult::Failure(failure),
            },
        };
        match ended {
            Ok(Ok(())) => self.succeed().await,
            Ok(Err(OpError::Retry(retry))) => StepResult::Retry {
                description: sanitize(&retry.description, MAX_DESCRIPTION),
                delay: retry.delay_ms.map(|ms| Duration::from_millis(ms.into())),
            },
            Ok(Err(OpError::Failure(failure))) => {
                let mut ours = Failure::new(Code::OpFailed, sanitize(&failure.description, MAX_DESCRIPTION));
                ours.allow_retries = failure.allow_retries;
                // Metadata that cannot be taken does not hide the failure itself.
                ours.metadata = metadata::take(failure.metadata).map(|taken| taken.entries).unwrap_or_default();
                StepResult::Failure(self.blame_surroundings(ours))
            }
            Err(error) => StepResult::Failure(self.trapped(&error)),
        }
    }

    async fn execute(&mut self, loaded: &Loaded, op: &str) -> wasmtime::Result<Result<(), OpError>> {
        self.store.set_fuel(self.limits.fuel)?;
        let instance = loaded.pre.instantiate_async(&mut self.store).await?;
        crash::point(CrashPoint::Instantiated);
        instance.opyard_op_ops().call_execute(&mut self.store, op).await
    }

    async fn ask(&mut self, loaded: &Loaded) -> Result<ComponentDescription, Failure> {
        let asked = async {
            self.store.set_fuel(self.limits.fuel)?;
            let instance = loaded.pre.instantiate_async(&mut self.store).await?;
            instance.opyard_op_ops().call_describe(&mut self.store).await
        };
        match asked.await {
            Ok(ops) => describe::check(&loaded.component, ops),
            Err(error) => Err(self.trapped(&error)),
        }
    }

    fn trapped(&self, error: &wasmtime::Error) -> Failure {
        let failure = failure_of(error, self.outbox.take_last_critical());
        // Only what the op did by itself can be the surroundings' fault after all.
        if failure.code == Code::Trapped { self.blame_surroundings(failure) } else { failure }
    }

    /// An op that failed after it was told that something is out of reach did not fail by itself.
    fn blame_surroundings(&self, mut failure: Failure) -> Failure {
        if let Some(reason) = &self.store.data().guard.unavailable {
            failure.description =
                sanitize(&format!("{} ({})", failure.description, reason.description), MAX_DESCRIPTION);
            failure.code = reason.code;
        }
        failure
    }

    async fn succeed(&mut self) -> StepResult {
        let state = self.store.data_mut();
        let Some(op) = state.op.take() else { return StepResult::Failure(no_step()) };
        let missing = op.missing();
        if !missing.is_empty() {
            let text = format!("the op succeeded without its required outputs: {}", missing.join(", "));
            return StepResult::Failure(Failure::new(Code::OutputMissing, text));
        }
        let memoisable = state.guard.result_is_its_own() && !self.outbox.has_dropped_events();
        match op.finish(&self.outbox).await {
            Ok(outputs) => StepResult::Success { outputs, memoisable },
            Err(error) => StepResult::Failure(error.to_failure()),
        }
    }
}
