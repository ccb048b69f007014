//! From an admitted component to machine code.

pub(crate) mod process;
mod walls;
mod wire;
pub(crate) mod worker;

use async_trait::async_trait;
use bytes::Bytes;
use opyard_model::error::{Code, Failure, sanitize};
use tokio::sync::Semaphore;
use wasmtime::Engine;

/// Most bytes of compiled code that are taken, of a component, from wherever: 1 GiB.
pub(crate) const MAX_CODE: u64 = 1 << 30;

/// Compiles components for one engine.
///
/// Compiling is as dangerous as running: it takes time and memory that no setting of wasmtime's bounds. Behind this trait
/// it can happen in a process of its own, which can be limited and killed: [`ProcessCompiler`](crate::ProcessCompiler).
#[async_trait]
pub trait Compiler: Send + Sync {
    /// Compiles a component whose shape was checked. Gives what `wasmtime::component::Component::deserialize` of an engine
    /// with the same settings takes: whoever implements this is trusted with native code.
    ///
    /// # Errors
    /// `OPY-231` when it is not valid, `OPY-234` when it is beyond a bound of the engine, `OPY-290` when it takes more than
    /// it may; `OPY-330` and `OPY-402` say that the compiler failed, not the component.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the work may go on for a while, and its result is lost.
    async fn compile(&self, component: Bytes) -> Result<Vec<u8>, Failure>;
}

/// Compiles in this process, a few at a time, on threads that may block. For components that are trusted not to be made to
/// take long: tests, and programs that embed the sandbox and run their own.
pub struct InProcessCompiler {
    engine: Engine,
    permits: Semaphore,
}

impl InProcessCompiler {
    /// A compiler for `engine` that works on at most `parallel` components at one time.
    pub(crate) fn new(engine: Engine, parallel: usize) -> Self {
        Self { engine, permits: Semaphore::new(parallel.max(1)) }
    }
}

#[async_trait]
impl Compiler for InProcessCompiler {
    async fn compile(&self, component: Bytes) -> Result<Vec<u8>, Failure> {
        let _permit = self.permits.acquire().await.map_err(|error| Failure::new(Code::Invariant, error.to_string()))?;
        let engine = self.engine.clone();
        let compiled = tokio::task::spawn_blocking(move || engine.precompile_component(&component)).await;
        match compiled {
            Ok(Ok(code)) => Ok(code),
            Ok(Err(error)) => Err(refused(&error)),
            Err(error) => Err(Failure::new(Code::HostPanic, format!("the compiler stopped: {error}"))),
        }
    }
}

/// A component that wasmtime does not take.
pub(crate) fn refused(error: &wasmtime::Error) -> Failure {
    let text = sanitize(&format!("{error:#}"), 2 << 10);
    let code = if text.contains("exceeds the configured maximum") || text.contains("exceeds the limit") {
        Code::TooLarge
    } else {
        Code::ComponentInvalid
    };
    Failure::new(code, format!("the component cannot be used: {text}"))
}
