//! The one `wasmtime::Engine` of a process, and the thread that keeps its time: the only `wasmtime::Config` there is.

use std::num::NonZeroUsize;
use std::time::Duration;

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, ModuleVersionStrategy, OperatorCost, PoolingAllocationConfig,
    Strategy, VariableOperatorCost,
};

use crate::settings::{SandboxError, SandboxErrorKind, SandboxSettings};

/// How often running guests are interrupted to be looked at: how late a CPU limit can be noticed.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Most elements of one table. CPython and StarlingMonkey need some ten thousand.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 100_000;

/// Most core instances of one component: a Python component is linked of some forty modules.
const MAX_CORE_INSTANCES: u32 = 64;
/// Most memories of one component: QuickJS has one in each of three modules.
const MAX_MEMORIES: u32 = 8;
const MAX_TABLES: u32 = 16;
/// Most frames of a backtrace.
pub(crate) const MAX_FRAMES: usize = 16;

/// What wasm may use of a stack; the rest of [`HOST_STACK`] is for host functions, whose overflow would end the process.
const WASM_STACK: usize = 512 << 10;
const HOST_STACK: usize = 2 << 20;

/// Makes an engine as the sandbox has one, and starts its ticker. Public for measurements: what wasmtime alone costs is to
/// be measured in the very configuration that ops run in.
///
/// # Errors
/// When the settings cannot be used, or the machine cannot give what they ask for.
pub fn start(settings: &SandboxSettings) -> Result<Engine, SandboxError> {
    let max_memory = usize::try_from(settings.max_memory.0)
        .ok()
        .filter(|bytes| (1 << 16..=4 << 30).contains(bytes))
        .ok_or_else(|| SandboxErrorKind::Settings("the largest memory is between 64 KiB and 4 GiB".to_owned()))
        .map_err(|kind| SandboxError::new("reading the sandbox settings", kind))?;
    if !(1..=512).contains(&settings.slots) {
        let kind = SandboxErrorKind::Settings("between 1 and 512 calls can be inside at one time".to_owned());
        return Err(SandboxError::new("reading the sandbox settings", kind));
    }
    let engine = Engine::new(&config(settings.slots + settings.checks(), max_memory))
        .map_err(|error| SandboxError::engine("starting the wasm engine", &error))?;
    tick(&engine)?;
    Ok(engine)
}

/// An engine that compiles for those of [`start`], and executes nothing: it reserves no address space, has no clock and no
/// threads.
///
/// # Errors
/// When this machine is not supported.
pub(crate) fn start_for_compiling() -> Result<Engine, SandboxError> {
    let mut config = compiled();
    // What several threads allocate and use up is harder to foresee; several components are compiled side by side instead.
    config.parallel_compilation(false);
    Engine::new(&config).map_err(|error| SandboxError::engine("starting the compiler", &error))
}

/// All settings that compiled code depends on.
fn compiled() -> Config {
    let mut config = Config::new();
    // Everything that is not needed is off: most advisories of the past were in these. The cargo features `gc` and
    // `threads` are compiled in nevertheless, since builds without them had advisories of their own.
    config
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_threads(false)
        .shared_memory(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_stack_switching(false)
        .concurrency_support(false);
    // The same inputs give the same outputs, bit by bit: a memo stands on it.
    config.wasm_relaxed_simd(false).cranelift_nan_canonicalization(true);
    // Fuel is the deterministic limit, epochs are the fair one.
    config.consume_fuel(true).epoch_interruption(true).operator_cost(OperatorCost {
        // A page to be zeroed is not for free.
        variable: VariableOperatorCost { memory_grow_per_page: 255, ..VariableOperatorCost::default() },
        ..OperatorCost::default()
    });
    config.max_wasm_stack(WASM_STACK).async_stack_size(HOST_STACK).async_stack_zeroing(true);
    // (The cargo feature for core dumps is not compiled in: they would hold the guest's memory.)
    config.strategy(Strategy::Cranelift).debug_info(false).wasm_backtrace_max_frames(NonZeroUsize::new(MAX_FRAMES));
    // The default names the version of wasmtime: compiled code of another version is not loaded.
    let _ = config.module_version(ModuleVersionStrategy::WasmtimeVersion);
    config
}

fn config(slots: u32, max_memory: usize) -> Config {
    let mut config = compiled();
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots * MAX_CORE_INSTANCES)
        .total_memories(slots * MAX_MEMORIES)
        .total_tables(slots * MAX_TABLES)
        .total_stacks(slots)
        .total_gc_heaps(0)
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_TABLES)
        .max_memories_per_module(1)
        .max_tables_per_module(4)
        .max_memory_size(max_memory)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_component_instance_size(2 << 20)
        .max_core_instance_size(1 << 20)
        .max_unused_warm_slots(slots)
        // A call's places are reset, and free again, before its slot is. In larger batches the places of calls that
        // have ended are in nobody's hands while another thread resets them, and the pool would be found full.
        .decommit_batch_size(1)
        // Without the kernel's page map, keeping memory resident means writing to pages that the guest never touched.
        .linear_memory_keep_resident(if scan { 256 << 10 } else { 0 })
        .table_keep_resident(if scan { 16 << 10 } else { 0 })
        .async_stack_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// A thread of its own, so that no load of the async runtime can stop the clock. It ends with the engine.
fn tick(engine: &Engine) -> Result<(), SandboxError> {
    let engine = engine.weak();
    let ticker = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            #[expect(clippy::disallowed_methods, reason = "this thread does nothing but keep time")]
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new()
        .name("opyard-epoch".to_owned())
        .spawn(ticker)
        .map(drop)
        .map_err(|error| SandboxError::new("starting the epoch thread", error))
}
