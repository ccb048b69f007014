//! One guest, from instantiation to the end: its limits, its time, and what came of it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::ready;
use std::time::{Duration, Instant};

use opyard_model::component::{ComponentDescription, Interface};
use opyard_model::error::{Code, Failure, MAX_DESCRIPTION, sanitize};
use opyard_model::hook::Occasion;
use opyard_model::limits::{Limits, Usage};
use opyard_model::metadata::MetadataEntry;
use opyard_model::step::{ResourceRight, Said, StepResult};
use opyard_store::crash::{self, CrashPoint};
use tokio::sync::Semaphore;
use wasmtime::UpdateDeadline;
use wasmtime::component::ResourceTable;

use crate::bindings::checking::exports::opyard::op::type_checks::Verdict as TheirVerdict;
use crate::bindings::opyard::op::types::OpError;
use crate::components::Loaded;
use crate::cpu::CpuMeter;
use crate::executor::Inside;
use crate::gate::Doors;
use crate::guard::Guard;
use crate::host::values::Reader;
use crate::host::wasi::World;
use crate::managing::{Answer, Ask};
use crate::outbox::Outbox;
use crate::redact::{Redacting, Redactor};
use crate::state::{HostState, Work};
use crate::trap::{Stop, failure_of};
use crate::{describe, hooking, metadata};

/// Bytes of a host call beyond the limit: a chunk.
const CHUNK: u64 = 1 << 20;

/// What a call may reach.
pub(crate) struct Allowed {
    pub(crate) doors: Doors,
    pub(crate) listed: Vec<Interface>,
}

impl Allowed {
    /// These doors, and those of what may be used.
    pub(crate) fn new(doors: Doors, rights: &[ResourceRight]) -> Self {
        let mut listed: Vec<_> = rights.iter().map(|right| right.through).collect();
        listed.dedup();
        let doors = listed.iter().fold(doors, |doors, interface| doors.and_resource(*interface));
        Self { doors, listed }
    }
}

/// What a type checker says of a value, checked.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) success: bool,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Vec<MetadataEntry>,
}

/// What a guest is asked.
pub(crate) enum Errand {
    /// To be the op of its state.
    Op,
    /// To say what the component ships.
    Describe,
    /// To be the hook of its state.
    Hook { hook: String, config: String, occasion: Box<Occasion> },
    /// To check the value of its state.
    Check { checker: String, params: String, reader: Reader },
    /// To do this as the IO manager of its state.
    Manage(Box<Ask>),
}

/// What came of it.
pub(crate) enum Came {
    Op(StepResult),
    Described(Box<ComponentDescription>),
    Checked(Verdict),
    Managed(Answer),
    Hooked,
}

/// One guest, from instantiation to the end.
pub(crate) struct Visit<'a> {
    slots: &'a Semaphore,
    pub(crate) store: wasmtime::Store<HostState>,
    limits: Limits,
    outbox: Arc<Outbox>,
    redactor: Arc<Redactor>,
    meter: Arc<CpuMeter>,
}

impl<'a> Visit<'a> {
    /// A guest that takes one of `slots`.
    pub(crate) fn new(
        (inside, slots): (&'a Inside, &'a Semaphore),
        work: Work,
        allowed: Allowed,
        world: World,
        limits: Limits,
    ) -> Self {
        let (outbox, redactor) = (Arc::new(Outbox::new(&limits)), Arc::<Redactor>::default());
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles as usize);
        let state = HostState {
            table,
            doors: allowed.doors,
            listed: allowed.listed,
            resources: inside.resources.clone(),
            opened: Vec::new(),
            guard: Guard::new(limits.clone(), inside.max_memory),
            outbox: Arc::clone(&outbox),
            redactor: Arc::clone(&redactor),
            world,
            work,
        };
        let mut store = wasmtime::Store::new(&inside.engine, state);
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
        Self { slots, store, limits, outbox, redactor, meter }
    }

    /// Runs the guest. What it says goes to `said`; an error says why there is no answer.
    pub(crate) async fn run(self, loaded: &Loaded, errand: Errand, said: &dyn Said) -> (Result<Came, Failure>, Usage) {
        let Ok(_slot) = self.slots.acquire().await else {
            return (Err(Failure::new(Code::Invariant, "the sandbox is closed")), Usage::default());
        };
        // Dropped before the slot, whichever way this ends: whoever gets the slot next finds its place in the pool free.
        let mut this = self;
        let redactor = Arc::clone(&this.redactor);
        let said = &Redacting { said, redactor: &redactor };
        let start = Instant::now();
        let result = {
            let (meter, outbox, wall) = (Arc::clone(&this.meter), Arc::clone(&this.outbox), this.limits.wall);
            let mut visit = pin!(this.visit(loaded, errand));
            // What the guest says goes out, and its time is taken, each time that it pauses: at a tick, or to wait. While too
            // much of it waits to be taken, the guest stands still.
            let watched = poll_fn(|context| {
                ready!(said.poll_room(context));
                meter.enter();
                let polled = visit.as_mut().poll(context);
                meter.leave();
                outbox.deliver(said);
                polled
            });
            tokio::time::timeout(wall, watched).await.unwrap_or_else(|_| Err(too_slow(wall)))
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
        let result = match result {
            Ok(Came::Op(result)) => Ok(Came::Op(redactor.result(result))),
            other => other.map_err(|failure| redactor.failure(failure)),
        };
        (result, usage)
    }

    async fn visit(&mut self, loaded: &Loaded, errand: Errand) -> Result<Came, Failure> {
        match errand {
            Errand::Describe => self.ask(loaded).await.map(|said| Came::Described(Box::new(said))),
            Errand::Check { checker, params, reader } => {
                let verdict = self.check(loaded, &checker, &params, reader).await;
                self.said_by_checker(verdict).map(Came::Checked)
            }
            Errand::Manage(ask) => self.manage(loaded, *ask).await.map(Came::Managed),
            Errand::Hook { hook, config, occasion } => {
                let handled = self.handle(loaded, &hook, &config, &occasion).await;
                self.said_by_hook(handled).map(|()| Came::Hooked)
            }
            Errand::Op => {
                let Work::Op(op) = &self.store.data().work else { return Err(no_op()) };
                let op = op.call.op.clone();
                Ok(Came::Op(match self.execute(loaded, op.as_str()).await {
                    Ok(Ok(())) => self.succeed().await,
                    Ok(Err(OpError::Retry(retry))) => StepResult::Retry {
                        description: sanitize(&retry.description, MAX_DESCRIPTION),
                        delay: retry.delay_ms.map(|ms| Duration::from_millis(ms.into())),
                    },
                    Ok(Err(OpError::Failure(failure))) => StepResult::Failure(self.failed(failure)),
                    Err(error) => StepResult::Failure(self.trapped(&error)),
                }))
            }
        }
    }

    /// Gives the guest the fuel of its limits.
    pub(crate) fn fuel(&mut self) -> wasmtime::Result<()> {
        self.store.set_fuel(self.limits.fuel)
    }

    /// The guest's own words about its failure.
    pub(crate) fn failed(&self, failure: crate::bindings::opyard::op::types::Failure) -> Failure {
        let mut ours = Failure::new(Code::OpFailed, sanitize(&failure.description, MAX_DESCRIPTION));
        ours.allow_retries = failure.allow_retries;
        // Metadata that cannot be taken does not hide the failure itself.
        ours.metadata = metadata::take(failure.metadata).map(|taken| taken.entries).unwrap_or_default();
        self.blame_surroundings(ours)
    }

    async fn check(
        &mut self,
        loaded: &Loaded,
        checker: &str,
        params: &String,
        reader: Reader,
    ) -> wasmtime::Result<Result<TheirVerdict, OpError>> {
        let Some(pre) = &loaded.checks else { return Err(no_world("type checkers").into()) };
        self.store.set_fuel(self.limits.fuel)?;
        let instance = pre.instantiate_async(&mut self.store).await?;
        let reader = self.store.data_mut().table.push(reader)?;
        instance.opyard_op_type_checks().call_check(&mut self.store, checker, reader, params).await
    }

    fn said_by_checker(&self, said: wasmtime::Result<Result<TheirVerdict, OpError>>) -> Result<Verdict, Failure> {
        match said {
            // What it could not read, it could not check.
            Ok(Ok(_)) if let Some(reason) = &self.store.data().guard.unavailable => Err(reason.clone()),
            Ok(Ok(verdict)) => Ok(Verdict {
                success: verdict.success,
                description: verdict.description.map(|text| sanitize(&text, MAX_DESCRIPTION)),
                metadata: metadata::take(verdict.metadata).map(|taken| taken.entries).unwrap_or_default(),
            }),
            Ok(Err(OpError::Failure(failure))) => Err(self.failed(failure)),
            Ok(Err(OpError::Retry(retry))) => {
                let text = sanitize(&retry.description, MAX_DESCRIPTION);
                Err(Failure::new(Code::RetryPointless, format!("a check is made once, and this asks for more: {text}")))
            }
            Err(error) => Err(self.trapped(&error)),
        }
    }

    async fn handle(
        &mut self,
        loaded: &Loaded,
        hook: &str,
        config: &String,
        occasion: &Occasion,
    ) -> wasmtime::Result<Result<(), OpError>> {
        let Some(pre) = &loaded.hooks else { return Err(no_world("hooks").into()) };
        self.store.set_fuel(self.limits.fuel)?;
        let instance = pre.instantiate_async(&mut self.store).await?;
        instance.opyard_op_hooks().call_handle(&mut self.store, hook, config, &hooking::theirs(occasion)).await
    }

    fn said_by_hook(&self, said: wasmtime::Result<Result<(), OpError>>) -> Result<(), Failure> {
        match said {
            Ok(Ok(())) => Ok(()),
            Ok(Err(OpError::Failure(failure))) => Err(self.failed(failure)),
            Ok(Err(OpError::Retry(retry))) => {
                let text = sanitize(&retry.description, MAX_DESCRIPTION);
                Err(Failure::new(
                    Code::RetriesExhausted,
                    format!("a hook is told once, and this asks for more: {text}"),
                ))
            }
            Err(error) => Err(self.trapped(&error)),
        }
    }

    async fn execute(&mut self, loaded: &Loaded, op: &str) -> wasmtime::Result<Result<(), OpError>> {
        let Some(pre) = &loaded.ops else { return Err(no_world("ops").into()) };
        self.store.set_fuel(self.limits.fuel)?;
        let instance = pre.instantiate_async(&mut self.store).await?;
        crash::point(CrashPoint::Instantiated);
        instance.opyard_op_ops().call_execute(&mut self.store, op).await
    }

    async fn ask(&mut self, loaded: &Loaded) -> Result<ComponentDescription, Failure> {
        let mut shipped = describe::Shipped::default();
        let asked = async {
            self.store.set_fuel(self.limits.fuel)?;
            // Each is asked in an instance of its own, on what is left of the fuel.
            if let Some(pre) = &loaded.ops {
                let instance = pre.instantiate_async(&mut self.store).await?;
                shipped.ops = instance.opyard_op_ops().call_describe(&mut self.store).await?;
            }
            if let Some(pre) = &loaded.checks {
                let instance = pre.instantiate_async(&mut self.store).await?;
                shipped.type_checkers = instance.opyard_op_type_checks().call_describe(&mut self.store).await?;
            }
            if let Some(pre) = &loaded.managers {
                let instance = pre.instantiate_async(&mut self.store).await?;
                shipped.io_managers = instance.opyard_op_io_managers().call_describe(&mut self.store).await?;
            }
            if let Some(pre) = &loaded.hooks {
                let instance = pre.instantiate_async(&mut self.store).await?;
                shipped.hooks = instance.opyard_op_hooks().call_describe(&mut self.store).await?;
            }
            Ok(())
        };
        match asked.await {
            Ok(()) => describe::check(&loaded.component, shipped),
            Err(error) => Err(self.trapped(&error)),
        }
    }

    pub(crate) fn trapped(&self, error: &wasmtime::Error) -> Failure {
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
        let Work::Op(op) = std::mem::replace(&mut state.work, Work::Describe) else {
            return StepResult::Failure(no_op());
        };
        let missing = op.missing();
        if !missing.is_empty() {
            let text = format!("the op succeeded without its required outputs: {}", missing.join(", "));
            return StepResult::Failure(Failure::new(Code::OutputMissing, text));
        }
        let memoisable = state.guard.result_is_its_own() && !self.outbox.has_dropped_events();
        match op.finish(&self.outbox).await {
            Ok(outputs) => StepResult::Success { outputs, memoisable },
            Err(failure) => StepResult::Failure(failure),
        }
    }
}

pub(crate) fn too_slow(wall: Duration) -> Failure {
    Failure::new(Code::WallExceeded, format!("the step took longer than {wall:?}"))
}

fn no_op() -> Failure {
    Failure::new(Code::Invariant, "a guest is asked to be an op, and has none")
}

pub(crate) fn no_world(what: &str) -> Stop {
    Stop::because(Code::Invariant, format!("the component ships no {what}"))
}
