//! One call, from request to outcome.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use opyard_model::digest::{ComponentDigest, Digest};
use opyard_model::error::{Code, Failure, MAX_DESCRIPTION, sanitize};
use opyard_model::event::Direction;
use opyard_model::id::TenantId;
use opyard_model::limits::{Limits, Usage};
use opyard_model::step::{
    Call, CheckCall, HandleCall, KeptCall, OpCall, Said, StepExecutor, StepIdentity, StepOutcome, StepRequest,
    StepResult,
};
use opyard_resources::Resources;
use tokio::sync::Semaphore;
use wasmtime::Engine;

use crate::cache::{CacheIntegrity, CodeCache};
use crate::checking::{Checked, Schemas};
use crate::compiler::{Compiler, InProcessCompiler};
use crate::components::{Components, LoadedComponent};
use crate::gate::{Doors, Execution};
use crate::host::wasi::World;
use crate::output::{Keeper, OpState};
use crate::settings::{SandboxError, SandboxSettings};
use crate::state::Work;
use crate::surroundings::Surroundings;
use crate::visit::{Allowed, Came, Errand, Visit, too_slow};
use crate::{describe, host, runtime};

/// Executes calls of components in wasmtime. One per process.
pub struct Sandbox(Arc<Inside>);

/// What all calls share.
pub(crate) struct Inside {
    pub(crate) engine: Engine,
    pub(crate) components: Components,
    pub(crate) surroundings: Surroundings,
    pub(crate) resources: Resources,
    /// With `checks`, as many as the pool has places, so that it is never found full.
    pub(crate) slots: Semaphore,
    /// Places for type checkers and IO managers: an op waits in its place for what becomes of an item, and must not wait for
    /// a place.
    pub(crate) checks: Semaphore,
    pub(crate) schemas: Schemas,
    pub(crate) max_memory: u64,
}

impl Sandbox {
    /// Starts the engine and its clock, and opens the code cache. Compiles in this process.
    ///
    /// # Errors
    /// When the settings cannot be used, the machine cannot give what they ask for, or the cache cannot be opened.
    pub fn new(settings: &SandboxSettings, surroundings: Surroundings) -> Result<Self, SandboxError> {
        Self::with_resources(settings, surroundings, Resources::default())
    }

    /// The same, over resources that are not the machine's: for tests of ops.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_resources(
        settings: &SandboxSettings,
        surroundings: Surroundings,
        resources: Resources,
    ) -> Result<Self, SandboxError> {
        let engine = runtime::start(settings)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let compiler = Arc::new(InProcessCompiler::new(engine.clone(), cores));
        Self::assemble(engine, settings, (surroundings, resources), compiler)
    }

    fn assemble(
        engine: Engine,
        settings: &SandboxSettings,
        (surroundings, resources): (Surroundings, Resources),
        compiler: Arc<dyn Compiler>,
    ) -> Result<Self, SandboxError> {
        let cache = settings.cache_dir.as_deref().map(|dir| CodeCache::open(dir, &engine)).transpose()?;
        let linker =
            host::linker(&engine).map_err(|error| SandboxError::engine("linking the host's interfaces", &error))?;
        Ok(Self(Arc::new(Inside {
            engine,
            components: Components::new(linker, compiler, cache, settings.max_component.0),
            surroundings,
            resources,
            slots: Semaphore::new(settings.slots as usize),
            checks: Semaphore::new(settings.checks() as usize),
            schemas: Schemas::default(),
            max_memory: settings.max_memory.0,
        })))
    }

    /// Makes a component ready to be called, and says what its binary proves.
    ///
    /// # Errors
    /// `OPY-231` to `OPY-234` when it is not a component for this host.
    pub async fn load(&self, tenant: &TenantId, bytes: Bytes) -> Result<LoadedComponent, Failure> {
        Ok(self.0.components.load(tenant, bytes).await?.component.clone())
    }

    /// Files of the code cache that were found altered since the last call, at most 100. They were not used.
    pub fn take_cache_integrity(&self) -> Vec<CacheIntegrity> {
        self.0.components.take_reports()
    }

    fn keeper(&self, tenant: &TenantId) -> Result<Keeper, Failure> {
        let artifacts = self.0.surroundings.artifacts.artifacts(tenant).map_err(|error| error.to_failure())?;
        Ok(Keeper { tenant: tenant.clone(), inside: Arc::clone(&self.0), artifacts })
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
            Call::CheckType(call) => self.check_type(&tenant, *call, said).await,
            Call::Hook(call) => match self.keeper(&tenant) {
                Ok(keeper) => keeper.tell(*call, limits, said).await,
                Err(failure) => Err(failure),
            },
            Call::HandleOutput(call) => match step {
                Some(step) => self.handle_output(&tenant, &step, *call, &limits, said).await,
                None => Err(no_step()),
            },
            Call::Fingerprint(call) => self.fingerprint(&tenant, *call, &limits, said).await,
            Call::Forget(call) => self.forget(&tenant, *call, &limits, said).await,
        };
        done.unwrap_or_else(failed)
    }

    async fn execute_op(
        &self,
        tenant: &TenantId,
        step: StepIdentity,
        mut call: OpCall,
        limits: Limits,
        said: &dyn Said,
    ) -> Result<StepOutcome, Failure> {
        let keeper = self.keeper(tenant)?;
        let inside = &*self.0;
        let loaded = inside.components.get(tenant, call.component, &*inside.surroundings.components).await?;
        let mut doors = Doors::PLAIN;
        if call.uses_execution {
            doors = doors.and::<Execution>();
        }
        let allowed = Allowed::new(doors, &call.rights);
        let world = if call.hermetic {
            World::hermetic(call.seed)
        } else {
            World::real(Arc::clone(&inside.surroundings.clock))
        };
        let start = Instant::now();
        let loading = keeper.load_inputs(&mut call, &step, &limits, said);
        let is_proven = in_time(limits.wall, loading).await?;
        keeper.check_inputs(&call, said).await?;
        let limits = Limits { wall: limits.wall.saturating_sub(start.elapsed()), ..limits };
        let op = Work::Op(Box::new(OpState::new(call, step, keeper)));
        let visit = Visit::new((inside, &inside.slots), op, allowed, world, limits);
        let (came, usage) = visit.run(&loaded, Errand::Op, said).await;
        let result = match came {
            Ok(Came::Op(StepResult::Success { outputs, memoisable })) => {
                StepResult::Success { outputs, memoisable: memoisable && is_proven }
            }
            Ok(Came::Op(result)) => result,
            Ok(Came::Described(_) | Came::Checked(_) | Came::Managed(_) | Came::Hooked) => {
                StepResult::Failure(another_answer())
            }
            Err(failure) => StepResult::Failure(failure),
        };
        Ok(StepOutcome { result, usage })
    }

    async fn describe(
        &self,
        tenant: &TenantId,
        component: ComponentDigest,
        limits: &Limits,
        said: &dyn Said,
    ) -> Result<StepOutcome, Failure> {
        let inside = &*self.0;
        let loaded = inside.components.get(tenant, component, &*inside.surroundings.components).await?;
        let world = World::hermetic(Digest::of(b"describe"));
        let allowed = Allowed { doors: Doors::NONE, listed: Vec::new() };
        let visit = Visit::new((inside, &inside.slots), Work::Describe, allowed, world, describe::limits(limits));
        let (came, usage) = visit.run(&loaded, Errand::Describe, said).await;
        let result = match came {
            Ok(Came::Described(description)) => StepResult::Described(description),
            Ok(Came::Op(_) | Came::Checked(_) | Came::Managed(_) | Came::Hooked) => {
                StepResult::Failure(another_answer())
            }
            Err(failure) => StepResult::Failure(failure),
        };
        Ok(StepOutcome { result, usage })
    }

    /// Checks values that were yielded before, without their op.
    async fn check_type(&self, tenant: &TenantId, call: CheckCall, said: &dyn Said) -> Result<StepOutcome, Failure> {
        let keeper = self.keeper(tenant)?;
        let start = Instant::now();
        let mut checks = Vec::with_capacity(call.values.len());
        for value in &call.values {
            let checked = Checked { direction: Direction::Output, port: &call.port, check: &call.check };
            checks.push(keeper.check(&checked, value, said).await?);
        }
        Ok(outcome(StepResult::Checked(checks), start))
    }

    /// Hands a value to its IO manager, without its op.
    async fn handle_output(
        &self,
        tenant: &TenantId,
        step: &StepIdentity,
        call: HandleCall,
        limits: &Limits,
        said: &dyn Said,
    ) -> Result<StepOutcome, Failure> {
        let keeper = self.keeper(tenant)?;
        let HandleCall { output, manager, mut value } = call;
        let start = Instant::now();
        let keeping = keeper.keep((step, &output), &manager, &mut value, said);
        let metadata = in_time(limits.wall, keeping).await?;
        Ok(outcome(StepResult::Handled { value: Box::new(value), metadata }, start))
    }

    /// Asks an IO manager what tells whether a value has changed.
    async fn fingerprint(
        &self,
        tenant: &TenantId,
        KeptCall { name, manager, locator }: KeptCall,
        limits: &Limits,
        said: &dyn Said,
    ) -> Result<StepOutcome, Failure> {
        let keeper = self.keeper(tenant)?;
        let start = Instant::now();
        let told = match keeper.manager(&name, &manager, said).await? {
            Some(opened) => in_time(limits.wall, opened.get().fingerprint(&locator)).await?,
            None => None,
        };
        Ok(outcome(StepResult::Fingerprint(told), start))
    }

    /// Tells an IO manager that a value is no longer referenced.
    async fn forget(
        &self,
        tenant: &TenantId,
        KeptCall { name, manager, locator }: KeptCall,
        limits: &Limits,
        said: &dyn Said,
    ) -> Result<StepOutcome, Failure> {
        let keeper = self.keeper(tenant)?;
        let start = Instant::now();
        if let Some(opened) = keeper.manager(&name, &manager, said).await? {
            in_time(limits.wall, opened.get().forget(&locator)).await?;
        }
        Ok(outcome(StepResult::Forgotten, start))
    }
}

/// Waits, `wall` at most.
async fn in_time<T>(wall: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(wall, work).await.unwrap_or_else(|_| Err(too_slow(wall)))
}

/// The outcome of something without a guest of its own that would be measured.
fn outcome(result: StepResult, start: Instant) -> StepOutcome {
    StepOutcome { result, usage: Usage { wall: start.elapsed(), ..Usage::default() } }
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

pub(crate) fn another_answer() -> Failure {
    Failure::new(Code::Invariant, "the guest answered another question than it was asked")
}
