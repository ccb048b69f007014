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
    for row in promised
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| promise") && !line.starts_with("| ---"))
    {
        assert!(named_tests(row) > 0, "no test: {row}");
        count += 1;
    }
    assert!(count > 20, "{count} promises");
}

/// A limit without a test of it is none.
#[test]
fn every_limit_names_a_test_that_exists() {
    let text = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| limit") && !line.starts_with("| bound");
    let rows: Vec<_> = text.lines().filter(is_row).filter(|line| !line.starts_with("| ---")).collect();
    for row in &rows {
        assert!(named_tests(row) > 0, "no test: {row}");
    }
    assert!(rows.len() > 25, "{} limits", rows.len());
}

/// Checks that the tests which a row names exist. Answers how many it names.
fn named_tests(row: &str) -> usize {
    let tests = row.split('`').filter(|part| part.contains(".rs::"));
    tests
        .inspect(|test| {
            let (file, name) = test.split_once("::").unwrap();
            let source = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            // As a function, or as a word of the macro that makes it one.
            let there = source.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == name);
            assert!(there, "{file} has no test `{name}`");
        })
        .count()
}

/// What is there has a test; what is not says so, or why.
#[test]
fn every_row_for_those_who_come_from_dagster_names_a_test() {
    let text = std::fs::read_to_string(root().join("docs/coming-from-dagster.md")).unwrap();
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| Dagster has") && !line.starts_with("| ---"));
    let mut count = 0;
    for row in rows {
        let has = row.split(" | ").nth(1).unwrap();
        let is_missing = has.starts_with("no: ") || has.contains("not yet");
        assert!(named_tests(row) > 0 || is_missing, "neither a test nor a reason: {row}");
        count += 1;
    }
    assert!(count > 50, "{count} rows");
}

/// A mistake of `docs/errors/README.md`: what is other in the definitions, and what commands then print.
struct Mistake {
    title: String,
    removed: String,
    added: String,
    /// Each with what it prints.
    commands: Vec<(String, Vec<String>)>,
    exit: i32,
}

impl Mistake {
    fn read(chapter: &str) -> Self {
        let (title, text) = chapter.split_once('\n').unwrap();
        let diff = blocks(text, "diff").pop().unwrap_or_default();
        let lines = |sign: char| -> String {
            diff.lines().filter_map(|line| line.strip_prefix(sign)).map(|line| format!("{line}\n")).collect()
        };
        let mut commands: Vec<(String, Vec<String>)> = Vec::new();
        for line in blocks(text, "console").remove(0).lines() {
            match line.strip_prefix("$ ") {
                Some(command) => commands.push((command.to_owned(), Vec::new())),
                None => commands.last_mut().unwrap().1.push(line.to_owned()),
            }
        }
        let (_, exit) = text.split_once("\nExit code ").unwrap();
        let exit = exit.split_once('.').unwrap().0.parse().unwrap();
        Self { title: title.to_owned(), removed: lines('-'), added: lines('+'), commands, exit }
    }

    /// The definitions with the mistake in them; an addition goes to the end.
    fn made_in(&self, definitions: &str) -> String {
        if self.removed.is_empty() {
            return format!("{definitions}{}", self.added);
        }
        assert_eq!(definitions.matches(&self.removed).count(), 1, "{}: {}", self.title, self.removed);
        definitions.replace(&self.removed, &self.added)
    }
}

/// A line `…` stands for any lines.
fn fits(printed: &[&str], expected: &[String]) -> bool {
    match (printed, expected) {
        (rest, [dots, after @ ..]) if dots == "…" => (0..=rest.len()).any(|skip| fits(&rest[skip..], after)),
        ([line, printed @ ..], [wanted, expected @ ..]) => line == wanted && fits(printed, expected),
        ([], []) => true,
        _ => false,
    }
}

/// One run's id is as good as any other.
fn with_one_run(text: &str) -> String {
    let mut parts = text.split("run_01");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let id = part.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit()).unwrap_or(part.len());
        out.push_str("run_01…");
        out.push_str(&part[id..]);
    }
    out
}

#[test]
fn the_likeliest_mistakes_are_answered_as_the_page_says() {
    let page = std::fs::read_to_string(root().join("docs/errors/README.md")).unwrap();
    let (_, page) = page.split_once("\n## The twenty likeliest mistakes\n").unwrap();
    let definitions = blocks(page, "yaml").remove(0) + "\n";
    let folder = tempfile::tempdir().unwrap();
    // As the binary sees it.
    let here = folder.path().canonicalize().unwrap();
    std::fs::create_dir(here.join("data")).unwrap();
    std::fs::copy(root().join("guest-examples/penguins/data/penguins.csv"), here.join("data/penguins.csv")).unwrap();
    std::fs::copy(component("penguins"), here.join("penguins.wasm")).unwrap();
    std::fs::write(here.join("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let path = std::env::join_paths(
        std::iter::once(binaries()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let path = path.unwrap();
    let mistakes: Vec<_> = page.split("\n### ").skip(1).map(Mistake::read).collect();
    assert_eq!(mistakes.len(), 20);
    for mistake in mistakes {
        std::fs::write(here.join("opyard.yaml"), mistake.made_in(&definitions)).unwrap();
        let mut exit = None;
        for (command, expected) in &mistake.commands {
            let both = if command.contains("2>") { command.clone() } else { format!("{command} 2>&1") };
            let mut shell = Command::new("sh");
            shell.args(["-c", &both]).current_dir(&here).env("PATH", &path).env("NO_COLOR", "1");
            let output = shell.env_remove("OPYARD_YARD").output().unwrap();
            let printed = String::from_utf8(output.stdout).unwrap();
            let printed = with_one_run(&printed.replace(&here.display().to_string(), "/home/me/penguins"));
            let expected: Vec<_> = expected.iter().map(|line| with_one_run(line)).collect();
            let lines: Vec<_> = printed.trim_end().lines().map(str::trim_end).collect();
            assert!(
                fits(&lines, &expected),
                "{}\n$ {command}\n{printed}\nbut the page says\n{}",
                mistake.title,
                expected.join("\n")
            );
            exit = output.status.code();
        }
        assert_eq!(exit, Some(mistake.exit), "{}", mistake.title);
    }
}
