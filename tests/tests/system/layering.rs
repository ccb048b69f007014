//! Who may import whom, how large a file may be, and which rooms there must not be.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::root;

/// What each crate must not depend on directly, and which of ours it may.
const HOUSE: [(&str, &[&str], &[&str]); 9] = [
    ("opyard-model", &["tokio", "wasmtime", "wasmtime-wasi", "object_store", "axum", "rusqlite", "reqwest"], &[]),
    ("opyard-store", &["wasmtime", "wasmtime-wasi", "petgraph", "axum"], &["opyard-model"]),
    ("opyard-resources", &["wasmtime", "wasmtime-wasi", "petgraph", "axum"], &["opyard-model", "opyard-store"]),
    (
        "opyard-sandbox",
        &["petgraph", "object_store", "axum", "rusqlite"],
        &["opyard-model", "opyard-store", "opyard-resources"],
    ),
    (
        "opyard-engine",
        &["wasmtime", "wasmtime-wasi", "object_store", "axum", "rusqlite"],
        &["opyard-model", "opyard-store"],
    ),
    (
        "opyard-server",
        &["wasmtime", "wasmtime-wasi", "petgraph", "rusqlite"],
        &["opyard-model", "opyard-store", "opyard-resources", "opyard-sandbox", "opyard-engine"],
    ),
    (
        "opyard-testing",
        &["wasmtime", "wasmtime-wasi", "petgraph", "object_store", "axum", "rusqlite", "reqwest"],
        &["opyard-model", "opyard-store", "opyard-resources", "opyard-sandbox", "opyard-engine", "opyard-server"],
    ),
    (
        "opyard-cli",
        &["wasmtime", "wasmtime-wasi", "petgraph", "object_store", "rusqlite"],
        &["opyard-server", "opyard-testing"],
    ),
    // Beside the house: it compares the sandbox with wasmtime alone.
    ("opyard-bench", &["petgraph", "axum", "object_store", "rusqlite"], &["opyard-sandbox", "opyard-server"]),
];

/// The host never decodes what a guest wrote: no crate of the house may know how.
const DECODERS: [&str; 8] = ["arrow", "arrow-array", "arrow-ipc", "parquet", "csv", "image", "zip", "flate2"];

#[test]
fn crates_import_only_what_their_layer_may() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let told = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&told.stdout).unwrap();
    let packages: BTreeMap<_, _> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["name"].as_str().unwrap(), package["dependencies"].as_array().unwrap()))
        .collect();
    for (name, never, ours) in HOUSE {
        // The kind of a dependency of the code itself, not of its tests or its build script, is null.
        let normal = packages[name].iter().filter(|dependency| dependency["kind"].is_null());
        for to in normal.map(|dependency| dependency["name"].as_str().unwrap()) {
            assert!(!never.contains(&to), "{name} must not depend on {to}");
            assert!(!DECODERS.contains(&to), "{name} must not decode what guests wrote ({to})");
            assert!(!to.starts_with("opyard-") || ours.contains(&to), "{name} must not depend on {to}");
        }
    }
}

#[test]
fn the_recorded_version_of_wasmtime_is_the_one_that_runs() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let line = format!("name = \"wasmtime\"\nversion = \"{}\"", opyard_server::WASMTIME);
    assert!(lock.contains(&line), "the lock file has another wasmtime than {}", opyard_server::WASMTIME);
}

#[test]
fn the_model_has_no_clock_and_no_files() {
    for path in sources(&root().join("host/model/src")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in ["std::fs", "SystemTime", "Instant::now", "std::net", "std::process", "std::env"] {
            assert!(!code.contains(word), "{} uses {word}", path.display());
        }
    }
}

#[test]
fn files_are_small_and_rooms_have_a_purpose() {
    for path in sources(&root()) {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        let is_test = name.split('/').any(|part| part == "tests" || part == "tests.rs");
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(is_test || lines <= 600, "{name} has {lines} lines: which noun is missing?");
        let purposeless = ["util", "utils", "helper", "helpers", "common", "misc"];
        let stem = |part: &str| part.trim_end_matches(".rs").to_owned();
        assert!(!name.split('/').any(|part| purposeless.contains(&stem(part).as_str())), "{name}: what is it for?");
    }
}

/// The Rust files that git knows below a folder.
fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let listed = Command::new("git").args(["ls-files", "*.rs"]).current_dir(folder).output().unwrap();
    assert!(listed.status.success(), "git ls-files");
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed.lines().map(|line| folder.join(line)).filter(|path| path.is_file()).collect()
}
