//! The IO managers that are built in.

mod files;
mod locator;
mod mlflow;
mod template;

use std::sync::Arc;

use opyard_model::error::{Code, Failure, MAX_DESCRIPTION, sanitize};
use opyard_model::plan::IoManagerSpec;
use opyard_store::error::StoreErrorKind;
use opyard_store::io_manager::IoManager;

pub use files::Files;
pub use template::{PathTemplate, TemplateError};

use crate::error::{ResourceError, ResourceFailure};
use crate::pool::{Pool, Servers};
use crate::secret::Secrets;
use mlflow::Runs;

/// Opens IO managers by their specs. Cheap to clone; clones share what they opened.
#[derive(Debug, Clone, Default)]
pub struct IoManagers {
    pool: Pool,
    servers: Servers,
    secrets: Secrets,
}

impl IoManagers {
    /// The built-in IO manager that `spec` describes; none for `artifacts`, which keeps nothing beside the artifact store,
    /// and for one that a component ships, which whoever runs components opens.
    ///
    /// # Errors
    /// `OPY-131` when its address or its path cannot be used; `OPY-301`, `OPY-302`.
    pub async fn open(&self, spec: &IoManagerSpec) -> Result<Option<Arc<dyn IoManager>>, Failure> {
        match spec {
            IoManagerSpec::Artifacts | IoManagerSpec::Component(_) => Ok(None),
            IoManagerSpec::ObjectStore { url, path } => {
                let context = "opening an IO manager";
                let template = PathTemplate::parse(path).map_err(|error| refused(context, error))?;
                let opened = self.pool.open(&self.secrets, url, true).await;
                let objects = opened.map_err(|error| unopened(context, error))?.map_err(|error| match error.kind {
                    StoreErrorKind::Invalid(reason) => refused(context, reason),
                    _ => error.to_failure(),
                })?;
                Ok(Some(Arc::new(Files::new(objects, template))))
            }
            IoManagerSpec::Mlflow { url, experiment, model } => {
                let opened = self.servers.mlflow(&self.secrets, url).await;
                let server = opened.map_err(|error| unopened("opening an IO manager", error))?;
                Ok(Some(Arc::new(Runs::new(server, experiment.clone(), model.clone()))))
            }
        }
    }
}

/// Why what the manager stands on cannot be opened, for the operator, whose it is.
fn unopened(context: &str, ResourceFailure { answer, detail }: ResourceFailure) -> Failure {
    detail.map_or_else(|| failed(context, answer), |detail| *detail)
}

/// What the manager cannot do, and why.
fn refused(context: &str, reason: impl std::fmt::Display) -> Failure {
    Failure::new(Code::IoManagerFailed, sanitize(&format!("{context}: {reason}"), MAX_DESCRIPTION))
}

/// The answer of what a manager stands on, as a failure.
fn failed(context: &str, error: ResourceError) -> Failure {
    match error {
        ResourceError::Unavailable(text) => Failure::new(Code::ResourceUnavailable, format!("{context}: {text}")),
        other => refused(context, other),
    }
}
