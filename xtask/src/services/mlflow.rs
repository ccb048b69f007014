//! An MLflow server.

use std::net::TcpListener;
use std::process::Command;

use anyhow::Result;

use super::{Package, Server, emptied};
use crate::{process, root};

/// The version that the driver was tried with.
const MLFLOW: Package = Package { name: "mlflow", version: "3.17.2", program: "mlflow", tell: "--version" };
/// What the server says once it answers.
const READY: &str = "Application startup complete";

/// Runs the driver's suite against a server of its own.
pub(crate) fn test() -> Result<()> {
    let root = root();
    let Some(program) = MLFLOW.installed(&root) else { return Ok(()) };
    let folder = emptied(&root, "mlflow-yard")?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new(program);
    command.args(["server", "--host", "127.0.0.1", "--workers", "1", "--port", &port.to_string()]);
    command.arg("--backend-store-uri").arg(format!("sqlite:///{}", folder.join("mlflow.db").display()));
    command.arg("--artifacts-destination").arg(folder.join("artifacts"));
    command.env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false").env("MLFLOW_DISABLE_TELEMETRY", "true");
    let _server = Server::start(command, READY)?;
    let mut test = process::cargo(&root);
    test.args(["test", "--quiet", "--package", "opyard-resources", "--lib", "--", "--ignored", "::mlflow_"]);
    process::run(test.env("OPYARD_TEST_MLFLOW", format!("http://127.0.0.1:{port}")))
}
