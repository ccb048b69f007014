//! A registry of components: Debian's `docker-registry`, with a name and a password.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Server, emptied};
use crate::test::HOST;
use crate::{process, root};

/// The package. It needs nothing but the C library, so that it runs from wherever it is unpacked.
const PACKAGE: &str = "docker-registry";
/// What the server says once it answers.
const READY: &str = "listening on";
/// A user of the tests alone, and the password that the hash below is of.
const USER: &str = "robot";
const PASSWORD: &str = "test-only";
const HASH: &str = "$2b$05$abcdefghijklmnopqrstuu0ANPjrl01cLP0UGa/sT8OXPiwzPfk1m";

/// Runs the suite of registries against a server of its own.
pub(crate) fn test() -> Result<()> {
    let root = root();
    let Some(program) = installed(&root) else { return Ok(()) };
    let folder = emptied(&root, "docker-registry-yard")?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let (users, settings) = (folder.join("users"), folder.join("config.yml"));
    fs::write(&users, format!("{USER}:{HASH}\n"))?;
    let text = format!(
        "version: 0.1\nlog: {{ level: info }}\nstorage: {{ filesystem: {{ rootdirectory: '{}' }} }}\nhttp: {{ addr: \
         '127.0.0.1:{port}' }}\nauth: {{ htpasswd: {{ realm: tests, path: '{}' }} }}\n",
        folder.join("data").display(),
        users.display(),
    );
    fs::write(&settings, text)?;
    let mut command = Command::new(program);
    command.arg("serve").arg(&settings);
    let _server = Server::start(command, READY)?;
    let mut test = process::cargo(&root);
    test.args(["test", "--quiet"]).args(HOST).args(["--tests", "--", "--ignored", "registry_"]);
    test.env("OPYARD_TEST_REGISTRY", format!("http://127.0.0.1:{port}"))
        .env("OPYARD_TEST_REGISTRY_USER", USER)
        .env("OPYARD_TEST_REGISTRY_PASSWORD", PASSWORD);
    process::run(&mut test)
}

/// The program: where it is installed, or unpacked below `target/`. None, and said, when it cannot be had.
fn installed(root: &Path) -> Option<PathBuf> {
    if process::succeeds(Command::new(PACKAGE).arg("--version")) {
        return Some(PACKAGE.into());
    }
    let folder = root.join("target/tools").join(PACKAGE);
    let program = folder.join("usr/bin").join(PACKAGE);
    if !process::succeeds(Command::new(&program).arg("--version")) {
        eprintln!("    unpacking Debian's {PACKAGE} below target/tools, once");
        if let Err(error) = unpack(&folder) {
            eprintln!("    skipped: {PACKAGE} is not here and cannot be had: {error:#}");
            return None;
        }
    }
    Some(program)
}

/// Gets the package, without installing it: that needs no root.
fn unpack(folder: &Path) -> Result<()> {
    let download = folder.join("download");
    fs::remove_dir_all(folder).ok();
    fs::create_dir_all(&download)?;
    process::run(Command::new("apt-get").current_dir(&download).args(["-qq", "download", PACKAGE]))?;
    let package = fs::read_dir(&download)?.flatten().next().context("apt-get left no package")?.path();
    process::run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(folder))
}
