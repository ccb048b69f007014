//! What the operator decides about the sandbox.

use std::path::PathBuf;
use std::thread::available_parallelism;

use opyard_model::limits::ByteSize;
use thiserror::Error;

use crate::bounds::ComponentBounds;
use crate::compiler::process::CompileWorker;

/// Settings of the one sandbox of a process.
#[derive(Debug, Clone)]
pub struct SandboxSettings {
    /// Calls that may be inside at one time; more wait. Each costs address space and, while it runs, a stack.
    pub slots: u32,
    /// The largest that a single memory may become, whatever the limits of a step say; at most 4 GiB.
    pub max_memory: ByteSize,
    /// Components beyond these bounds are refused.
    pub bounds: ComponentBounds,
    /// Where compiled code is kept between processes; none = nowhere.
    pub cache_dir: Option<PathBuf>,
    /// What compiles, in a process of its own; none = this process, which nothing then protects from a component that takes
    /// long to compile.
    pub compile_worker: Option<CompileWorker>,
}

impl SandboxSettings {
    /// Places for type checkers and IO managers, beside the slots: half as many.
    pub(crate) fn checks(&self) -> u32 {
        self.slots.div_ceil(2)
    }
}

impl Default for SandboxSettings {
    /// Twice as many slots as cores, at least 4; 1 GiB; components that somebody chose; no cache; compiling in this process.
    fn default() -> Self {
        let cores = available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            slots: u32::try_from(cores * 2).unwrap_or(64).clamp(4, 512),
            max_memory: ByteSize(1 << 30),
            bounds: ComponentBounds::default(),
            cache_dir: None,
            compile_worker: None,
        }
    }
}

/// The sandbox cannot be made.
#[derive(Debug, Error)]
#[error("{context}")]
pub struct SandboxError {
    /// What was being done.
    pub context: String,
    /// What went wrong.
    #[source]
    pub kind: SandboxErrorKind,
}

/// What went wrong when the sandbox was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SandboxErrorKind {
    /// This machine cannot hold what the settings ask for (address space, threads), or is not supported.
    #[error("{0}")]
    Engine(String),
    /// A file or folder of the code cache.
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
}

impl SandboxError {
    pub(crate) fn new(context: impl Into<String>, kind: impl Into<SandboxErrorKind>) -> Self {
        Self { context: context.into(), kind: kind.into() }
    }

    pub(crate) fn engine(context: &str, error: &wasmtime::Error) -> Self {
        Self::new(context, SandboxErrorKind::Engine(format!("{error:#}")))
    }
}
