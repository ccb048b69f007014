//! Real servers for the tests that need one: from the Python package index or from Debian, below `target/`, on a free port of this
//! machine.

pub(crate) mod mlflow;
pub(crate) mod registry;
pub(crate) mod s3;

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};

use crate::process;

/// A package of the index, at the version that the tests were made with.
struct Package {
    name: &'static str,
    version: &'static str,
    /// Its program, and what makes that print its version.
    program: &'static str,
    tell: &'static str,
}

impl Package {
    /// Its program, installed below `target/` if it is not there. None, and said, when Python 3 with `venv` or the package
    /// cannot be had.
    fn installed(&self, root: &Path) -> Option<PathBuf> {
        let folder = root.join("target/tools").join(self.name);
        let program = folder.join("bin").join(self.program);
        let is_there = || {
            let told = Command::new(&program).arg(self.tell).output().ok();
            told.is_some_and(|told| String::from_utf8_lossy(&told.stdout).contains(self.version))
        };
        let wanted = format!("{}=={}", self.name, self.version);
        if !is_there() {
            eprintln!("    installing {wanted} below target/tools, once");
            let mut pip = Command::new(folder.join("bin/pip"));
            pip.args(["install", "--quiet", "--disable-pip-version-check", &wanted]);
            let made = process::run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
            if let Err(error) = made.and_then(|()| process::run(&mut pip)) {
                eprintln!("    {error:#}");
            }
        }
        let there = is_there().then_some(program);
        if there.is_none() {
            eprintln!("    skipped: {wanted} is not here and cannot be installed with pip");
        }
        there
    }
}

/// A server, and whatever it starts. All of it ends when this is dropped.
struct Server {
    child: Child,
    /// Reads on, so that the server can go on saying things.
    reads: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it, and waits until it has said `ready` on its standard error.
    fn start(mut command: Command, ready: &str) -> Result<Self> {
        // A group of its own: what it starts ends with it.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let stderr = child.stderr.take().with_context(|| format!("{name} has no standard error"))?;
        let mut this = Self { child, reads: None };
        let mut lines = BufReader::new(stderr).lines();
        until_ready(&mut lines, ready)?;
        this.reads = Some(std::thread::spawn(move || lines.for_each(drop)));
        Ok(this)
    }
}

/// Reads what the server says until it answers.
fn until_ready(lines: &mut Lines<BufReader<ChildStderr>>, ready: &str) -> Result<()> {
    let mut said = Vec::new();
    for line in lines {
        let line = line?;
        if line.contains(ready) {
            return Ok(());
        }
        said.push(line);
    }
    bail!("the server ended before it answered:\n{}", said.join("\n"))
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        process::succeeds(Command::new("kill").args(["-KILL", "--", &group]));
        drop(self.child.wait());
        if let Some(reads) = self.reads.take() {
            drop(reads.join());
        }
    }
}

/// A folder below `target/`, emptied.
fn emptied(root: &Path, name: &str) -> Result<PathBuf> {
    let folder = root.join("target/tools").join(name);
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
