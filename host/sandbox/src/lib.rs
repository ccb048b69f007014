//! What happens inside one call of a component: admission, compiling, grants, limits, and the host's side of every
//! interface.
//!
//! Everything that comes from a guest is hostile: bytes, counts, time, texts, names. A call gets a fresh
//! `wasmtime::Store` and leaves nothing behind; what it may reach is decided in one place (the module `gate`).
//!
//! ```text
//! bytes -> admission -> compiler -> cache -> Loaded (kept)        StepRequest -> Executor -> StepOutcome
//!                                              |                        |
//!                                              +--- instance + HostState (gate, guard, table) ---+
//! ```

mod admission;
mod bindings;
mod bounds;
mod cache;
mod checking;
mod compiler;
mod components;
mod cpu;
mod describe;
mod executor;
mod gate;
mod guard;
mod hooking;
mod host;
mod imports;
mod json_check;
mod loading;
mod managing;
mod metadata;
mod outbox;
mod output;
mod redact;
mod runtime;
mod settings;
mod state;
mod surroundings;
mod trap;
mod visit;

pub use bounds::ComponentBounds;
pub use cache::{CacheIntegrity, CodeCache};
pub use compiler::process::{CompileLimits, CompileWorker, ProcessCompiler};
pub use compiler::worker::compile_worker;
pub use compiler::{Compiler, InProcessCompiler};
pub use components::LoadedComponent;
pub use executor::Sandbox;
pub use runtime::start as start_engine;
pub use settings::{SandboxError, SandboxErrorKind, SandboxSettings};
pub use surroundings::{ComponentSource, Surroundings, TenantArtifacts};

/// The version of wasmtime that executes: recorded with every memo. A test compares it with the lock file.
pub const WASMTIME: &str = "48.0.8";
