//! `cargo xtask test`: everything that has to pass.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::guests::{self, Build};
use crate::services::{mlflow, registry, s3};
use crate::toolchain::{self, Choice, Toolchain};
use crate::{process, root};

type Stage = Box<dyn Fn() -> Result<()>>;

/// The one component that the second toolchain builds where time counts.
const SMALL: &str = "textkit";

/// Runs every stage, or those whose name contains one of `words`, and stops at the first that fails.
pub(crate) fn run(full: bool, words: &[String]) -> Result<()> {
    let started = Instant::now();
    let mut stages: Vec<(&str, Stage)> = vec![
        ("components", Box::new(|| guests::run(Choice::Auto, &[]))),
        ("format", Box::new(|| in_all(|command| command.args(["fmt", "--all", "--check"])))),
        ("clippy", Box::new(|| in_all(|command| command.args(CLIPPY).args(["--", "--deny", "warnings"])))),
        // The whole-system tests run the binary: Cargo does not know that they need it.
        ("the binary", Box::new(|| cargo(&["build", "--package", "opyard-cli", "--bin", "opyard"]))),
        ("tests", Box::new(move || tests(full))),
        ("tests of the guests", Box::new(guest_tests)),
        ("documentation examples", Box::new(|| cargo(&[&["test", "--doc", "--quiet"], &HOST[..]].concat()))),
        ("documentation", Box::new(documentation)),
        ("licences and duplicates", Box::new(deny)),
        ("an S3 server", Box::new(s3::test)),
        ("a registry", Box::new(registry::test)),
        ("components by Debian's toolchain", Box::new(move || second_toolchain(full))),
    ];
    if full {
        stages.push(("components from another folder", Box::new(other_folder)));
        stages.push(("mlflow", Box::new(mlflow::test)));
    }
    if !words.is_empty() {
        stages.retain(|(name, _)| words.iter().any(|word| name.contains(word.as_str())));
        ensure!(!stages.is_empty(), "no stage has any of these words in its name: {}", words.join(", "));
    }
    let count = stages.len();
    for (index, (name, stage)) in stages.iter().enumerate() {
        eprintln!("\n==> {}/{count} {name}", index + 1);
        let stage_started = Instant::now();
        stage().with_context(|| format!("stage `{name}`"))?;
        eprintln!("    {name}: passed in {}", shown(stage_started.elapsed()));
    }
    let all = if words.is_empty() { "all " } else { "" };
    eprintln!("\n{all}{count} stages passed in {}", shown(started.elapsed()));
    Ok(())
}

/// The host, as the demo builds it: with this program in the selection, its libraries' features would be added to the
/// host's, and most of it built a second time.
pub(crate) const HOST: [&str; 3] = ["--workspace", "--exclude", "xtask"];
const CLIPPY: [&str; 4] = ["clippy", "--workspace", "--all-targets", "--quiet"];

/// Runs cargo in each of the three workspaces: the host, the SDK, the example components.
fn in_all(arguments: impl Fn(&mut Command) -> &mut Command) -> Result<()> {
    let root = root();
    process::run(arguments(&mut process::cargo(&root)))?;
    process::run(arguments(&mut guest_cargo("sdk/rust")))?;
    process::run(arguments(&mut guest_cargo("guest-examples")))
}

/// Cargo in a workspace of guests, sharing what is built natively for them.
fn guest_cargo(folder: &str) -> Command {
    let mut command = process::cargo(&root().join(folder));
    command.env("CARGO_TARGET_DIR", root().join("target/guests-build/native"));
    command
}

fn cargo(arguments: &[&str]) -> Result<()> {
    process::run(process::cargo(&root()).args(arguments))
}

/// The tests of the host, by nextest where it is installed.
fn tests(full: bool) -> Result<()> {
    let root = root();
    let mut command = process::cargo(&root);
    if process::succeeds(process::cargo(&root).args(["nextest", "--version"])) {
        command.args(["nextest", "run"]).args(HOST);
        if full {
            command.args(["--run-ignored", "all"]);
            let without: Vec<_> = absent_servers().iter().map(|of| format!("not test(/::{of}/)")).collect();
            if !without.is_empty() {
                command.args(["--filter-expr", &without.join(" and ")]);
            }
        }
    } else {
        eprintln!("    cargo-nextest is not installed: using cargo test");
        command.args(["test", "--all-targets", "--quiet"]).args(HOST);
        if full {
            command.args(["--", "--include-ignored"]);
            for of in absent_servers() {
                command.args(["--skip", &format!("::{of}")]);
            }
        }
    }
    process::run(&mut command)
}

/// How the names of tests begin that need a server which nobody has named.
fn absent_servers() -> Vec<&'static str> {
    let servers =
        [("remote", "OPYARD_TEST_OBJECTS"), ("mlflow_", "OPYARD_TEST_MLFLOW"), ("registry_", "OPYARD_TEST_REGISTRY")];
    servers.into_iter().filter(|(_, named)| std::env::var_os(named).is_none()).map(|(of, _)| of).collect()
}

/// The tests of the SDK, its documentation examples and compile errors, and of the example components.
fn guest_tests() -> Result<()> {
    process::run(guest_cargo("sdk/rust").args(["test", "--workspace", "--quiet"]))?;
    // Apart: the messages of the compiler, which the tests above compare, list what the features add.
    process::run(guest_cargo("sdk/rust").args(["test", "--lib", "--features", "arrow", "--quiet", "arrow"]))?;
    process::run(guest_cargo("guest-examples").args(["test", "--workspace", "--quiet"]))
}

fn documentation() -> Result<()> {
    let document = |command: &mut Command| {
        process::run(command.env("RUSTDOCFLAGS", "--deny warnings").args([
            "doc",
            "--workspace",
            "--no-deps",
            "--quiet",
        ]))
    };
    document(&mut process::cargo(&root()))?;
    document(&mut guest_cargo("sdk/rust"))
}

/// The version of cargo-deny that `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

fn deny() -> Result<()> {
    let Some(binary) = cargo_deny() else {
        eprintln!("    skipped: cargo-deny {CARGO_DENY} is not here and cannot be installed from the crate registry");
        return Ok(());
    };
    let deny = || {
        let mut command = Command::new(&binary);
        command.current_dir(root());
        command
    };
    process::run(deny().args(["--workspace", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))?;
    // The database of advisories is fetched: without a network that is no fault of the code.
    if !process::succeeds(deny().arg("fetch")) {
        eprintln!("    advisories: skipped, the database cannot be had here");
        return Ok(());
    }
    process::run(deny().args(["--workspace", "check", "advisories"]))
}

/// cargo-deny, installed below `target/` if it is not there: unoptimised, since it runs for a second or two.
fn cargo_deny() -> Option<PathBuf> {
    let folder = root().join("target/tools");
    let binary = folder.join("bin").join(format!("cargo-deny{}", std::env::consts::EXE_SUFFIX));
    if !process::succeeds(Command::new(&binary).arg("--version")) {
        eprintln!("    installing cargo-deny {CARGO_DENY} below target/tools, once");
        let mut install = process::cargo(&root());
        install.args(["install", "--quiet", "--locked", "--debug", "--no-default-features", "--version", CARGO_DENY]);
        install.arg("--root").arg(&folder).arg("--target-dir").arg(folder.join("build")).arg("cargo-deny");
        process::run(&mut install).ok()?;
        // Some hundreds of MB that nobody needs again.
        std::fs::remove_dir_all(folder.join("build")).ok();
    }
    Some(binary)
}

/// Components that the second route makes can reach and offer the same.
fn second_toolchain(full: bool) -> Result<()> {
    if let Some(obstacle) = toolchain::debian_obstacle() {
        eprintln!("    skipped: {obstacle}");
        return Ok(());
    }
    let names = if full { Vec::new() } else { vec![SMALL.to_owned()] };
    let root = root();
    let build = |choice, folder: &str| {
        let toolchain = Toolchain::set_up(choice)?;
        let into = root.join("target").join(folder);
        guests::build(&Build { checkout: &root, toolchain: &toolchain, names: &names, into: &into })
    };
    let first = build(Choice::Auto, "guests")?;
    let second = build(Choice::Debian, "guests-debian")?;
    for (first, second) in first.iter().zip(&second) {
        if first.world != second.world {
            bail!("{}: {:?} by the first toolchain, {:?} by Debian's", first.name, first.world, second.world);
        }
    }
    Ok(())
}

/// The same sources in another folder make the same bytes.
fn other_folder() -> Result<()> {
    let root = root();
    let toolchain = Toolchain::set_up(Choice::Auto)?;
    let copy = root.join("target").join("elsewhere");
    if copy.exists() {
        std::fs::remove_dir_all(&copy)?;
    }
    std::fs::create_dir_all(copy.join("sdk"))?;
    for folder in ["wit", "guest-examples", "sdk/rust"] {
        process::run(Command::new("cp").arg("-R").arg(root.join(folder)).arg(copy.join(folder)))?;
    }
    let here = Build { checkout: &root, toolchain: &toolchain, names: &[], into: &root.join("target/guests") };
    let there = Build { checkout: &copy, toolchain: &toolchain, names: &[], into: &copy.join("target/guests") };
    for (here, there) in guests::build(&here)?.iter().zip(&guests::build(&there)?) {
        if std::fs::read(&here.path)? != std::fs::read(&there.path)? {
            bail!("{}: other bytes when built in {}", here.name, copy.display());
        }
    }
    Ok(())
}

fn shown(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.0} min {:02.0} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
}
