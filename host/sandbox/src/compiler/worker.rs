//! Compiling in a process of its own: the side of that process.

use std::io::{self, Read as _, Write as _};
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Duration;

use opyard_model::error::Code;
use opyard_model::limits::ByteSize;
use wasmtime::{Engine, OutOfMemory};

use super::wire::{self, Answer};
use super::{refused, walls};
use crate::cache;
use crate::runtime;

/// Stack of the thread that compiles: what no component should need. Only what is used of it costs memory.
const STACK: usize = 64 << 20;
/// How a process ends that could not do its work.
const FAILED: u8 = 75;

/// What a program does that was started as a [`CompileWorker`](crate::CompileWorker): it shuts itself in, says so on stdout,
/// compiles the one component that comes on stdin, answers on stdout, and is done.
///
/// Has to be called before the process starts threads or opens files. `memory` is the address space and `cpu` the CPU time,
/// in whole seconds, that the process may have; it never gets more back. What goes wrong before the walls stand is told on
/// stderr.
#[must_use]
pub fn compile_worker(memory: ByteSize, cpu: Duration) -> ExitCode {
    match work(memory, cpu) {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            // Whoever started this reads it, or is gone.
            drop(writeln!(io::stderr(), "{wrong}"));
            FAILED.into()
        }
    }
}

fn work(memory: ByteSize, cpu: Duration) -> Result<(), String> {
    walls::limit(memory, cpu)?;
    // The thread is there before threads cannot be made any more.
    let thread = std::thread::Builder::new().name("compile".to_owned()).stack_size(STACK).spawn(serve);
    let thread = thread.map_err(|error| format!("starting a thread: {error}"))?;
    thread.join().map_err(|_| "the compiler's thread panicked".to_owned())?
}

fn serve() -> Result<(), String> {
    let broken = |error: io::Error| format!("talking to the host: {error}");
    let engine = runtime::start_for_compiling().map_err(|error| format!("{error}: {}", error.kind))?;
    let greeting = wire::greeting(&cache::fingerprint(&engine));
    walls::shut()?;
    let mut out = io::stdout();
    // Where there is no host any more, this is the end: nobody would kill this process when its host dies.
    out.write_all(&greeting).and_then(|()| out.flush()).map_err(broken)?;
    let mut component = Vec::new();
    io::stdin().read_to_end(&mut component).map_err(broken)?;
    compile(&engine, &component).write(&mut out).map_err(broken)
}

fn compile(engine: &Engine, component: &[u8]) -> Answer {
    // What the hook would print is told to the host, with the answer.
    std::panic::set_hook(Box::new(|_| {}));
    match std::panic::catch_unwind(AssertUnwindSafe(|| engine.precompile_component(component))) {
        Ok(Ok(code)) => Answer::Code(code),
        Ok(Err(error)) if error.is::<OutOfMemory>() => Answer::OutOfMemory,
        Ok(Err(error)) => {
            let failure = refused(&error);
            if failure.code == Code::TooLarge {
                Answer::TooLarge(failure.description)
            } else {
                Answer::Invalid(failure.description)
            }
        }
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().copied();
            let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Answer::Panicked(said.unwrap_or("without a message").to_owned())
        }
    }
}
