//! Panics: a bug of ours, said as such.

use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

use opyard_server::model::error::{Code, sanitize};

use crate::exit::Exit;
use crate::render::failure::page;

/// Some thread panicked, and was perhaps caught where it did.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// From now on a panic prints what a user can do with it, once.
pub(crate) fn watch() {
    std::panic::set_hook(Box::new(|info| {
        let first = !PANICKED.swap(true, Ordering::SeqCst);
        if first {
            // Nothing to be done when stderr is closed.
            drop(std::io::stderr().lock().write_all(text(info).as_bytes()));
        }
    }));
}

/// What came of the call, in the light of panics: whatever did not succeed after one failed for that reason.
pub(crate) fn overrule(exit: Exit) -> Exit {
    overruled(exit, PANICKED.load(Ordering::SeqCst))
}

fn overruled(exit: Exit, panicked: bool) -> Exit {
    match exit {
        Exit::Success | Exit::Canceled => exit,
        _ if panicked => Exit::Bug,
        _ => exit,
    }
}

fn text(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let said = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let place = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
    said_as_text(said.unwrap_or("no message"), &place)
}

fn said_as_text(said: &str, place: &str) -> String {
    let code = Code::HostPanic;
    // A message may quote what a guest wrote.
    let said = sanitize(said, 2_000);
    format!(
        "\nerror[{code}]: {}: {said}\n  where: {place}\n  whose move: opyard's; this is a bug, please report it with these lines\n  page: {}\n",
        code.summary(),
        page(code)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_said_with_its_code_and_cannot_drive_the_terminal() {
        insta::assert_snapshot!(said_as_text("index \u{1b}[2J out of bounds", "src/x.rs:7"));
    }

    #[test]
    fn a_panic_turns_a_failure_into_a_bug_and_nothing_else() {
        assert_eq!(overruled(Exit::RunFailed, true), Exit::Bug);
        assert_eq!(overruled(Exit::Success, true), Exit::Success);
        assert_eq!(overruled(Exit::Wrong, false), Exit::Wrong);
    }
}
