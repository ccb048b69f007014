//! What stands behind a resource of a kind that more than one thing can be.

use serde::{Deserialize, Serialize};

use crate::id::Name;

/// What keeps small values by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeyValueDriver {
    /// The yard's own database; each tenant has buckets of its own.
    Yard {
        /// The bucket. Resources that name the same one share it.
        bucket: Name,
    },
    /// An object store: one object a name.
    ObjectStore {
        /// Where: `file:///…`, `s3://…`, `gs://…`, `az://…`, `memory:///`. Absolute.
        url: String,
    },
}

/// What keeps models by name and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelRegistryDriver {
    /// An object store, in the layout of `docs/resources.md`.
    ObjectStore {
        /// Where, absolute.
        url: String,
    },
    /// An MLflow tracking server that serves artifacts.
    Mlflow {
        /// Its address: `http://…` or `https://…`, without credentials, query and fragment.
        url: String,
    },
}
