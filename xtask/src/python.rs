//! The example component in Python: made by componentize-py, which brings CPython with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::Result;

use crate::{process, root};

/// The version that the contract was tried with, from the Python package index.
const COMPONENTIZE_PY: &str = "0.25.1";
/// The world that an op is built for.
const WORLD: &str = "opyard:op/op";

/// Builds `target/guests/pyprobe.wasm`, unless it is newer than what it is made of. Without it when Python 3 with `venv` or
/// the package is not here and cannot be installed: says so.
pub(crate) fn build() -> Result<()> {
    let root = root();
    let (source, wit, component) =
        (root.join("guest-examples/pyprobe"), root.join("wit"), root.join("target/guests/pyprobe.wasm"));
    if newest(&component) > newest(&source).max(newest(&wit)) {
        return Ok(());
    }
    let Some(componentize) = installed(&root) else {
        fs::remove_file(&component).ok();
        eprintln!("no Python guest: componentize-py {COMPONENTIZE_PY} is not here and cannot be installed with pip");
        return Ok(());
    };
    fs::create_dir_all(root.join("target/guests"))?;
    let mut build = Command::new(componentize);
    build.arg("--quiet").arg("--wit-path").arg(wit).args(["--world", WORLD, "componentize", "--stub-wasi"]);
    process::run(build.arg("--python-path").arg(source).arg("--output").arg(component).arg("app"))
}

/// When a file, or the last file of a folder, was written. None when there is none.
fn newest(path: &Path) -> Option<SystemTime> {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().filter_map(|entry| newest(&entry.path())).max(),
        Err(_) => fs::metadata(path).ok()?.modified().ok(),
    }
}

/// componentize-py, installed below `target/` if it is not there.
fn installed(root: &Path) -> Option<PathBuf> {
    let folder = root.join("target/tools/python");
    let program = folder.join("bin/componentize-py");
    let is_there = || {
        let told = Command::new(&program).arg("--version").output().ok();
        told.is_some_and(|told| String::from_utf8_lossy(&told.stdout).contains(COMPONENTIZE_PY))
    };
    if !is_there() {
        eprintln!("installing componentize-py {COMPONENTIZE_PY} below target/tools, once");
        process::run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).ok()?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"]);
        process::run(pip.arg(format!("componentize-py=={COMPONENTIZE_PY}"))).ok()?;
    }
    is_there().then_some(program)
}
