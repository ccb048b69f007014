//! The IO managers that are built in.

mod files;
mod template;

use std::sync::Arc;

use opyard_model::plan::IoManagerSpec;
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::io_manager::IoManager;

pub use files::Files;
pub use template::{PathTemplate, TemplateError};

use crate::pool::Pool;

/// Opens IO managers by their specs. Cheap to clone; clones share what they opened.
#[derive(Debug, Clone, Default)]
pub struct IoManagers {
    pool: Pool,
}

impl IoManagers {
    /// The IO manager that `spec` describes; none for `artifacts`, which keeps nothing beside the artifact store.
    ///
    /// # Errors
    /// `Invalid` when its address or its path cannot be used; `Unavailable`, `Full`.
    pub fn open(&self, spec: &IoManagerSpec) -> Result<Option<Arc<dyn IoManager>>, StoreError> {
        match spec {
            IoManagerSpec::Artifacts => Ok(None),
            IoManagerSpec::ObjectStore { url, path } => {
                let template = PathTemplate::parse(path).map_err(|error| {
                    StoreError::new("opening an IO manager", StoreErrorKind::Invalid(error.to_string()))
                })?;
                Ok(Some(Arc::new(Files::new(self.pool.open(url, true)?, template))))
            }
        }
    }
}
