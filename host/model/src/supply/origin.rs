//! Where a component came from, as it is recorded with every run that uses it.

use semver::Version;
use serde::{Deserialize, Serialize};

use super::OciReference;
use crate::digest::ManifestDigest;

/// A key that signed a component, and under which name it was believed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Signer {
    /// The name of the key, where it is trusted: in the operator's `registries.yaml`, or under `trust` of the definitions.
    pub name: String,
    /// The key, as definitions write it.
    pub ed25519: String,
}

/// Where a component came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// As the definitions name it.
    pub reference: OciReference,
    /// Its manifest.
    pub manifest: ManifestDigest,
    /// The version that its manifest, or its tag, says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Who signed it, of those whom the tenant trusts. Empty = nobody: the operator lets it pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signed_by: Vec<Signer>,
}
