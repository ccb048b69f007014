//! The command line of Opyard.
//!
//! A thin layer: it finds the yard, calls `opyard-server`, and renders what comes back. Results go to stdout, progress and
//! complaints to stderr; what a run or an error means for the calling script is decided in [`exit`] alone.

mod args;
mod bug;
mod error;
mod exit;
mod place;
mod render;
mod report;
mod run_name;
mod screen;
mod verbs;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use crate::args::Cli;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::screen::Screen;

fn main() -> ExitCode {
    opyard_server::share_heaps();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) if answer.kind() == ErrorKind::MissingSubcommand => {
            anstream::eprint!("{}", Cli::command().render_help().ansi());
            return Exit::Wrong.into();
        }
        Err(answer) if answer.use_stderr() => {
            // What was asked for is not known yet, but for this.
            let json = std::env::args_os().any(|argument| argument == "--json");
            return error::wrong_call(&answer).report(&Screen::new(args::Color::Auto, json)).into();
        }
        Err(answer) => {
            // Help and version are answers; nobody may be reading.
            drop(answer.print());
            return Exit::Success.into();
        }
    };
    bug::watch();
    if let Some(point) = std::env::var_os("OPYARD_CRASH")
        && let Err(wrong) = opyard_server::store::crash::arm_from(&point.to_string_lossy())
    {
        // For tests of recovery: one that arms nothing would pass without testing anything.
        anstream::eprintln!("OPYARD_CRASH: {wrong}");
        return Exit::Wrong.into();
    }
    let screen = Screen::new(cli.global.color, cli.global.json);
    let outcome = catch_unwind(AssertUnwindSafe(|| block_on(cli, &screen)));
    let exit = match outcome {
        Ok(Ok(exit)) => exit,
        Ok(Err(error)) => error.report(&screen),
        // The hook has told what there is to tell.
        Err(_) => Exit::Bug,
    };
    bug::overrule(exit).into()
}

fn block_on(cli: Cli, screen: &Screen) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(error::no_runtime)?;
    runtime.block_on(Box::pin(verbs::run(cli, screen)))
}
