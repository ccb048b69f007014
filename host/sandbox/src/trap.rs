//! From the way a guest ended to a failure that can be recorded.

use opyard_model::error::{Code, Failure, MAX_DESCRIPTION, sanitize};
use opyard_model::metadata::{MetadataEntry, MetadataValue};
use thiserror::Error;
use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};

/// Longest backtrace that is kept, in bytes.
const MAX_BACKTRACE: usize = 4 << 10;

/// Ends the guest from inside a host function, with a failure of ours. As an error it travels through wasmtime unchanged.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Stop(Box<Failure>);

impl Stop {
    pub(crate) fn new(failure: Failure) -> Self {
        Self(Box::new(failure))
    }

    pub(crate) fn because(code: Code, description: impl Into<String>) -> Self {
        Self::new(Failure::new(code, description))
    }
}

/// What a guest's end means. `panic` is what the guest said of itself last, if it said anything before it stopped.
pub(crate) fn failure_of(error: &wasmtime::Error, panic: Option<String>) -> Failure {
    let mut failure = classify(error, panic);
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>()
        && !backtrace.frames().is_empty()
    {
        failure.metadata.push(MetadataEntry {
            label: "backtrace".to_owned(),
            value: MetadataValue::Text(sanitize(&backtrace.to_string(), MAX_BACKTRACE)),
        });
    }
    failure
}

fn classify(error: &wasmtime::Error, panic: Option<String>) -> Failure {
    if let Some(Stop(failure)) = error.downcast_ref::<Stop>() {
        return Failure::clone(failure);
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return of_trap(*trap, panic);
    }
    if let Some(error) = error.downcast_ref::<ResourceTableError>() {
        return match error {
            ResourceTableError::Full => Failure::new(Code::HandleLimit, "too many handles are open"),
            _ => Failure::new(Code::HandleLimit, format!("the op used a handle in a wrong way: {error}")),
        };
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return Failure::new(Code::Trapped, format!("the op ended its own program with exit code {}", exit.0));
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Failure::new(Code::Invariant, format!("no slot was free in the pool: {error}"));
    }
    // These errors of wasmtime's have no type: its tests and ours hold on to the words.
    let text = error.root_cause().to_string();
    let code = if text.contains("fuel allocated for hostcalls has been exhausted") {
        Code::HostCallLimit
    } else if text.starts_with("resource limit exceeded") {
        Code::MemoryExceeded
    } else if text.contains("handle limit exceeded")
        || text.contains("unknown handle index")
        || text.contains("is not a resource")
        || text.contains("is not an own resource")
        || text.contains("cannot remove owned resource while borrowed")
    {
        Code::HandleLimit
    } else {
        Code::Trapped
    };
    Failure::new(code, sanitize(&text, MAX_DESCRIPTION))
}

fn of_trap(trap: Trap, panic: Option<String>) -> Failure {
    match trap {
        Trap::OutOfFuel => Failure::new(Code::FuelExhausted, "the op used up its fuel"),
        Trap::Interrupt => Failure::new(Code::CpuExceeded, "the op used more CPU time than it may"),
        Trap::StackOverflow => Failure::new(Code::StackOverflow, "the op's calls nested too deep"),
        // A Rust guest that panics logs the message and then executes `unreachable`.
        Trap::UnreachableCodeReached => match panic {
            Some(message) => Failure::new(Code::Trapped, message),
            None => Failure::new(Code::Trapped, "the op stopped itself (`unreachable`: a panic, as a rule)"),
        },
        Trap::MemoryOutOfBounds => Failure::new(
            Code::Trapped,
            "the op reached beyond its memory (endless recursion ends so in some languages)",
        ),
        other => Failure::new(Code::Trapped, other.to_string()),
    }
}
