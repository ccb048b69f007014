//! What stands behind a resource of a kind that more than one thing can be.

use serde::{Deserialize, Serialize};

use crate::http::HttpClientSpec;
use crate::id::Name;
use crate::location::Location;

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
        /// Where.
        url: Location,
    },
}

/// What keeps models by name and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelRegistryDriver {
    /// An object store, in the layout of `docs/resources.md`.
    ObjectStore {
        /// Where.
        url: Location,
    },
    /// An MLflow tracking server that serves artifacts.
    Mlflow {
        /// Where: `http://…` or `https://…`, without query and fragment.
        url: Location,
    },
}

impl super::ResourceSpec {
    /// Where its things are; none where it is the yard itself that has them, or where the op says.
    #[must_use]
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::ObjectStore { url, .. }
            | Self::KeyValue { driver: KeyValueDriver::ObjectStore { url }, .. }
            | Self::ModelRegistry {
                driver: ModelRegistryDriver::ObjectStore { url } | ModelRegistryDriver::Mlflow { url },
                ..
            } => Some(url),
            Self::KeyValue { driver: KeyValueDriver::Yard { .. }, .. } | Self::HttpClient(_) | Self::Secret { .. } => {
                None
            }
        }
    }

    /// What it is, of an HTTP client.
    #[must_use]
    pub fn client(&self) -> Option<&HttpClientSpec> {
        match self {
            Self::HttpClient(spec) => Some(spec),
            Self::ObjectStore { .. } | Self::KeyValue { .. } | Self::ModelRegistry { .. } | Self::Secret { .. } => None,
        }
    }
}
