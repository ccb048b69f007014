//! `cargo xtask bench`: what Opyard costs.

use std::process::Command;

use anyhow::Result;

use crate::toolchain::Choice;
use crate::{guests, process, python, root};

/// Builds the components that are measured, the binary and the measuring program in the release profile, and measures.
pub(crate) fn run(check: bool, words: &[String]) -> Result<()> {
    let root = root();
    guests::run(Choice::Auto, &["probe", "penguins", "table_types"].map(str::to_owned))?;
    python::build()?;
    // Together: apart, they would have their libraries built with different features, twice.
    let packages = ["--package", "opyard-cli", "--package", "opyard-bench"];
    process::run(process::cargo(&root).args(["build", "--release", "--bins"]).args(packages))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let mut bench = Command::new(target.join("release").join(format!("opyard-bench{}", std::env::consts::EXE_SUFFIX)));
    if check {
        bench.arg("--check");
    }
    process::run(bench.current_dir(&root).args(words))
}
