//! This program as what compiles for itself: a verb for no person, that is in no help.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use opyard_server::CompileWorker;
use opyard_server::model::error::Code;
use opyard_server::model::limits::ByteSize;

use crate::error::CliError;
use crate::exit::Exit;

/// The verb. Behind it stand the bytes of address space and the seconds of CPU time that the process may have.
const VERB: &str = "compile-component";

/// What compiles: this program.
///
/// # Errors
/// When it cannot be said which file this program is.
pub(crate) fn worker() -> Result<CompileWorker, CliError> {
    CompileWorker::this_program(VERB).map_err(|error| {
        CliError::new(Code::CompilerFailed, format!("the file of this program cannot be found: {error}"))
    })
}

/// Compiles, if that is what this process was started for. None = it was not.
pub(crate) fn asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != VERB {
        return None;
    }
    let number = |argument: OsString| argument.to_str()?.parse().ok();
    let (memory, cpu) = (arguments.next().and_then(number), arguments.next().and_then(number));
    let (Some(memory), Some(cpu), None) = (memory, cpu, arguments.next()) else {
        return Some(Exit::Wrong.into());
    };
    Some(opyard_server::compile_worker(ByteSize(memory), Duration::from_secs(cpu)))
}
