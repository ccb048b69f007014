//! What the README says is so.

use std::process::Command;

use crate::harness::{binaries, component, root};

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{language}") {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

#[test]
fn the_readme_shows_the_real_definitions() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let real = std::fs::read_to_string(root().join("guest-examples/penguins/opyard.yaml")).unwrap();
    assert_eq!(blocks(&readme, "yaml"), [real.trim_end()]);
}

/// Runs every command of the README in a copy of what it speaks of; those that build are what runs this test.
#[test]
fn the_commands_of_the_readme_work() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let example = folder.path().join("guest-examples/penguins");
    std::fs::create_dir_all(example.join("data")).unwrap();
    std::fs::create_dir_all(folder.path().join("target/guests")).unwrap();
    for file in ["opyard.yaml", "data/penguins.csv"] {
        std::fs::copy(root().join("guest-examples/penguins").join(file), example.join(file)).unwrap();
    }
    std::fs::copy(component("penguins"), folder.path().join("target/guests/penguins.wasm")).unwrap();
    let path = std::env::join_paths(
        std::iter::once(binaries()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let path = path.unwrap();
    let mut ran = 0;
    for command in
        blocks(&readme, "console").iter().flat_map(|block| block.lines()).filter_map(|line| line.strip_prefix("$ "))
    {
        if command.starts_with("cargo ") || command.starts_with("export ") {
            continue;
        }
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", command]).current_dir(folder.path()).env("PATH", &path).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "$ {command}\n--- out\n{out}\n--- err\n{err}");
        assert!(!out.is_empty(), "$ {command} printed nothing");
        ran += 1;
    }
    assert!(ran >= 8, "the README has commands to run, {ran} were found");
}

/// A promise without its test is none.
#[test]
fn every_promise_names_a_test_that_exists() {
    let text = std::fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let promised = text.split("## What is not promised").next().unwrap();
    let mut count = 0;
    for row in promised.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise") && !line.starts_with("| ---")) {
        let test = row.split('`').find(|part| part.contains(".rs::")).unwrap_or_else(|| panic!("no test: {row}"));
        let (file, name) = test.split_once("::").unwrap();
        let source = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        // As a function, or as a word of the macro that makes it one.
        let there = source.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == name);
        assert!(there, "{file} has no test `{name}`");
        count += 1;
    }
    assert!(count > 20, "{count} promises");
}
