//! `cargo xtask chaos`: more histories of the crash tests than every run of the tests plays, or one again.

use anyhow::Result;

use crate::toolchain::Choice;
use crate::{guests, process, root};

/// Plays the histories of the seeds from `first` on, at all crash points or one.
pub(crate) fn run(first: u64, count: u64, point: Option<&str>) -> Result<()> {
    guests::run(Choice::Auto, &["probe".to_owned()])?;
    let root = root();
    process::run(process::cargo(&root).args(["build", "--package", "opyard-cli", "--bin", "opyard"]))?;
    let mut tests = process::cargo(&root);
    tests.args(["test", "--package", "opyard-tests", "--test", "system", "chaos::", "--", "--test-threads", "2"]);
    tests.env("OPYARD_CHAOS", format!("{first}..{}", first.saturating_add(count)));
    if let Some(point) = point {
        tests.env("OPYARD_CHAOS_POINT", point);
    }
    process::run(&mut tests)
}
