//! What is typed to work on Opyard: `cargo xtask demo`, `cargo xtask test`, `cargo xtask guests`, `cargo xtask bench`.

mod bench;
mod chaos;
mod component;
mod demo;
mod guests;
mod process;
mod python;
mod services;
mod test;
mod toolchain;
mod wrapper;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::toolchain::Choice;

/// Works on Opyard: everything that a checkout needs is set up on the way.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds everything and runs the penguins pipeline. Run it twice: the second time nearly all of it is known.
    Demo {
        /// Where the compiler for components comes from.
        #[arg(long, value_enum, default_value_t)]
        toolchain: Choice,
    },
    /// Runs every check and every test.
    Test {
        /// Also what takes long: ignored tests, every component by the second toolchain and from another folder.
        #[arg(long)]
        full: bool,
        /// Only the stages whose name contains one of these words.
        stages: Vec<String>,
    },
    /// Ends runs at every crash point and looks at what is left: the histories of many seeds, or one again.
    Chaos {
        /// How many seeds, from 0; each by `kill -9` and by a power cut.
        #[arg(long, default_value_t = 200, conflicts_with = "seed")]
        seeds: u64,
        /// This seed alone.
        #[arg(long)]
        seed: Option<u64>,
        /// This crash point alone.
        point: Option<String>,
    },
    /// Builds the components of `guest-examples/` into `target/guests/`. Rebuilds nothing that has not changed.
    Guests {
        /// Where the compiler for components comes from.
        #[arg(long, value_enum, default_value_t)]
        toolchain: Choice,
        /// Only these; all when none is named.
        names: Vec<String>,
    },
    /// Measures what Opyard costs, in the release profile, and writes `docs/bench.json` and its table in
    /// `docs/performance.md`. Takes some minutes, on a machine that does nothing else.
    Bench {
        /// Write nothing; fail where a budget is missed that the committed table keeps, or a figure is much worse.
        #[arg(long)]
        check: bool,
        /// Only the rows whose name contains one of these words; nothing is written then.
        words: Vec<String>,
    },
}

fn main() -> ExitCode {
    if let Some(rustc) = wrapper::run() {
        return rustc;
    }
    let done = match Arguments::parse().verb {
        Verb::Demo { toolchain } => demo::run(toolchain),
        Verb::Test { full, stages } => test::run(full, &stages),
        Verb::Chaos { seeds, seed, point } => match seed {
            Some(seed) => chaos::run(seed, 1, point.as_deref()),
            None => chaos::run(0, seeds, point.as_deref()),
        },
        Verb::Guests { toolchain, names } => guests::run(toolchain, &names),
        Verb::Bench { check, words } => bench::run(check, &words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The checkout.
fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask is a folder of the checkout").to_owned()
}
