//! `cargo xtask demo`: from a fresh checkout to a pipeline that ran.

use std::process::Command;

use anyhow::Result;

use crate::toolchain::Choice;
use crate::{guests, process, root};

const DEFINITIONS: &str = "guest-examples/penguins/opyard.yaml";

/// Builds the components and the host, and runs the penguins pipeline.
pub(crate) fn run(choice: Choice) -> Result<()> {
    let root = root();
    eprintln!("\n1/3  Building the ops: WebAssembly components, none of which can touch more than it is handed.");
    guests::run(choice, &[])?;
    eprintln!("\n2/3  Building the host. The first time this takes minutes: it holds an optimising compiler.");
    process::run(process::cargo(&root).args(["build", "--package", "opyard-cli", "--bin", "opyard"]))?;
    eprintln!("\n3/3  Running the job `train`: opyard run train -f {DEFINITIONS}\n");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let mut opyard = Command::new(target.join("debug").join(format!("opyard{}", std::env::consts::EXE_SUFFIX)));
    process::run(opyard.current_dir(&root).args(["run", "train", "-f", DEFINITIONS]))?;
    eprintln!(
        "\nNow run it again: only the op that reads from outside runs, for nothing else has changed.\n\
         Change --set split.seed=8 and what depends on it runs.\n\n  \
         cargo xtask demo\n  \
         target/debug/opyard run train -f {DEFINITIONS} --set split.seed=8\n  \
         target/debug/opyard runs -f {DEFINITIONS}\n"
    );
    Ok(())
}
