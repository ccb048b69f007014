//! A real MLflow server for the tests that need one.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};

use crate::{process, root};

/// The version that the driver was tried with, from the Python package index.
const MLFLOW: &str = "3.17.2";
/// What the server says once it answers.
const READY: &str = "Application startup complete";

/// Runs the driver's suite against a server of its own. Without it when Python 3 with `venv` or the package is not here and
/// cannot be installed: says so.
pub(crate) fn test() -> Result<()> {
    let root = root();
    let Some(program) = installed(&root) else {
        eprintln!("    skipped: mlflow {MLFLOW} is not here and cannot be installed with pip");
        return Ok(());
    };
    let server = Server::start(&program, &root.join("target/tools/mlflow-yard"))?;
    let mut test = process::cargo(&root);
    test.args(["test", "--quiet", "--package", "opyard-resources", "--lib", "--", "--ignored", "::mlflow_"]);
    process::run(test.env("OPYARD_TEST_MLFLOW", &server.url))
}

/// MLflow, installed below `target/` if it is not there.
fn installed(root: &Path) -> Option<PathBuf> {
    let folder = root.join("target/tools/mlflow");
    let program = folder.join("bin/mlflow");
    let is_there = || {
        let told = Command::new(&program).arg("--version").output().ok();
        told.is_some_and(|told| String::from_utf8_lossy(&told.stdout).contains(MLFLOW))
    };
    if !is_there() {
        eprintln!("    installing mlflow {MLFLOW} below target/tools, once: some minutes");
        process::run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).ok()?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"]);
        process::run(pip.arg(format!("mlflow=={MLFLOW}"))).ok()?;
    }
    is_there().then_some(program)
}

/// A server on a free port of this machine, over a folder that is emptied before. It and its workers end when this is
/// dropped.
struct Server {
    url: String,
    child: Child,
    /// Reads on, so that the server can go on saying things.
    reads: Option<JoinHandle<()>>,
}

impl Server {
    fn start(program: &Path, folder: &Path) -> Result<Self> {
        fs::remove_dir_all(folder).ok();
        fs::create_dir_all(folder)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(program);
        command.args(["server", "--host", "127.0.0.1", "--workers", "1", "--port", &port.to_string()]);
        command.arg("--backend-store-uri").arg(format!("sqlite:///{}", folder.join("mlflow.db").display()));
        command.arg("--artifacts-destination").arg(folder.join("artifacts"));
        command.env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false").env("MLFLOW_DISABLE_TELEMETRY", "true");
        // A group of its own: it starts workers, which end with it.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start mlflow")?;
        let stderr = child.stderr.take().context("mlflow has no standard error")?;
        let mut this = Self { url: format!("http://127.0.0.1:{port}"), child, reads: None };
        let mut lines = BufReader::new(stderr).lines();
        until_ready(&mut lines)?;
        this.reads = Some(std::thread::spawn(move || lines.for_each(drop)));
        Ok(this)
    }
}

/// Reads what the server says until it answers.
fn until_ready(lines: &mut Lines<BufReader<ChildStderr>>) -> Result<()> {
    let mut said = Vec::new();
    for line in lines {
        let line = line?;
        if line.contains(READY) {
            return Ok(());
        }
        said.push(line);
    }
    bail!("mlflow ended before it answered:\n{}", said.join("\n"))
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
