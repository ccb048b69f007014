//! What a value is made of.

use opyard_guest::Failure;
use serde::{Deserialize, Serialize};

use crate::parts;

/// Most parts of a value.
const MAX_PARTS: usize = 100_000;
/// Characters of a SHA-256.
const DIGEST: usize = 64;

/// The parts of a value, in order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    #[serde(rename = "type")]
    type_name: String,
    media_type: String,
    pub(crate) parts: Vec<Part>,
}

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    sha256: String,
    bytes: u64,
    lines: u64,
}

impl Part {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        Self { sha256: parts::digest(bytes), bytes: bytes.len() as u64, lines }
    }

    pub(crate) fn path(&self, folder: &str) -> String {
        format!("{folder}/parts/{}", self.sha256)
    }
}

impl Manifest {
    pub(crate) fn new(type_name: &str, media_type: &str) -> Self {
        Self { type_name: type_name.to_owned(), media_type: media_type.to_owned(), parts: Vec::new() }
    }

    /// Reads what somebody wrote.
    ///
    /// # Errors
    /// When it is not a manifest.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::new(format!("not a manifest: {why}")).no_retry();
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        let is_digest = |text: &str| text.len() == DIGEST && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match manifest.parts.iter().find(|part| !is_digest(&part.sha256)) {
            Some(part) => Err(wrong(format!("`{}` is no SHA-256", part.sha256))),
            None if manifest.parts.len() > MAX_PARTS => Err(wrong(format!("more than {MAX_PARTS} parts"))),
            None => Ok(manifest),
        }
    }

    pub(crate) fn push(&mut self, part: Part) {
        self.parts.push(part);
    }

    pub(crate) fn lines(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.lines))
    }

    /// For people, too.
    ///
    /// # Errors
    /// When there are too many parts.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Failure> {
        if self.parts.len() > MAX_PARTS {
            return Err(Failure::new(format!("more than {MAX_PARTS} parts: make them larger")).no_retry());
        }
        Ok(serde_json::to_vec_pretty(self)?)
    }
}

/// The folder that a manifest stands in.
pub(crate) fn folder(manifest: &str) -> &str {
    manifest.rsplit_once('/').map_or(".", |(folder, _)| folder)
}
