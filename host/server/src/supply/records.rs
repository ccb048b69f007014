//! What registries said of the components of a yard: manifests and signatures, kept so that they can be checked again
//! without asking, and by rules that have become stricter.

use std::path::PathBuf;

use opyard_model::digest::ManifestDigest;
use opyard_model::error::{Code, Failure};
use opyard_resources::oci::{Envelope, Fetched};
use serde::{Deserialize, Serialize};

use crate::components;

/// Their folder, in a yard and in a backup of one.
pub(crate) const ORIGINS: &str = "origins";
/// Largest record: a manifest and 32 signatures, in base 64.
const MAX_RECORD: u64 = 8 << 20;

/// One file a manifest, named by its digest.
#[derive(Debug, Clone)]
pub(crate) struct Records(PathBuf);

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Record {
    /// The manifest, byte by byte.
    manifest: String,
    signatures: Vec<Envelope>,
}

impl Records {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn name(manifest: ManifestDigest) -> String {
        format!("{}.json", manifest.to_string().trim_start_matches("sha256:"))
    }

    /// What is kept of a manifest; none when nothing is, or what is there is something else: then the registry is asked.
    pub(super) fn read(&self, manifest: ManifestDigest) -> Option<(Fetched, Vec<Envelope>)> {
        let path = self.0.join(Self::name(manifest));
        let bytes = components::read_bounded(&path, MAX_RECORD).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        let fetched = Fetched::of(record.manifest.into_bytes().into()).ok()?;
        (fetched.digest == manifest).then_some((fetched, record.signatures))
    }

    /// Keeps what a registry said.
    pub(super) fn keep(&self, fetched: &Fetched, signatures: &[Envelope]) -> Result<(), Failure> {
        let Ok(manifest) = String::from_utf8(fetched.bytes.to_vec()) else {
            // It was read as JSON.
            return Err(Failure::new(Code::Invariant, "a manifest is not text"));
        };
        let record = Record { manifest, signatures: signatures.to_vec() };
        let bytes = serde_json::to_vec(&record).unwrap_or_default();
        components::write_whole(&self.0, &Self::name(fetched.digest), &bytes, "what a registry said")
    }
}
