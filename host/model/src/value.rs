//! Values that steps hand on: references, never bytes.

use serde::{Deserialize, Serialize};

use crate::component::TypeName;
use crate::digest::{Digest, FieldHasher};
use crate::id::{ItemKey, MappingKey, MediaType, Name};
use crate::json::CanonicalJson;
use crate::metadata::MetadataEntry;

/// The bytes of a value: stored once per tenant under their digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// BLAKE3 of the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
}

impl ArtifactRef {
    /// The reference of `bytes`, wherever they are.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), size: bytes.len() as u64 }
    }
}

/// Where an IO manager other than `artifacts` keeps its copy of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The IO manager, by its name in the definitions.
    pub manager: Name,
    /// How the manager finds the value again. Opaque to everyone else.
    pub locator: CanonicalJson,
}

/// A value: what a producer yielded and a consumer is given.
///
/// Two values with the same [`identity`](Self::identity) cannot be told apart by any guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValueRef {
    /// Its bytes.
    pub artifact: ArtifactRef,
    /// What they mean.
    pub type_name: TypeName,
    /// How they are laid out.
    pub media_type: MediaType,
    /// What the producing op attached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<MetadataEntry>,
    /// Which item of a dynamic output it is, or which one the step that produced it is mapped over.
    #[serde(default, skip_serializing_if = "ItemKey::is_no_item")]
    pub mapping_key: ItemKey,
    /// The copy that an IO manager keeps, when the output is not on `artifacts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

impl ValueRef {
    /// A value without metadata, key, or copy outside the artifact store.
    #[must_use]
    pub fn plain(artifact: ArtifactRef, type_name: TypeName, media_type: MediaType) -> Self {
        Self { artifact, type_name, media_type, metadata: Vec::new(), mapping_key: ItemKey::default(), kept: None }
    }

    /// Which item it is of those that a step mapped over `step` yields on a dynamic output; none on a plain one.
    #[must_use]
    pub fn item_of(&self, step: &ItemKey) -> Option<&MappingKey> {
        match self.mapping_key.split_last() {
            Some((key, outer)) if *outer == **step => Some(key),
            Some(_) | None => None,
        }
    }

    /// BLAKE3 of all that a `reader` can tell of this value: bytes, type, media type, metadata, mapping key.
    #[must_use]
    pub fn identity(&self) -> Digest {
        let mut hasher = FieldHasher::new("opyard value 1");
        hasher
            .field(self.artifact.digest.as_bytes())
            .field(self.type_name.as_str().as_bytes())
            .field(self.media_type.as_str().as_bytes())
            .option(self.mapping_key.text().as_deref().map(str::as_bytes))
            .count(self.metadata.len());
        for entry in &self.metadata {
            // Serialising plain data into memory cannot fail; an empty field would only make two values look alike
            // whose metadata cannot be written, so both would be refused before.
            hasher.field(&serde_json::to_vec(entry).unwrap_or_default());
        }
        hasher.finish()
    }
}

/// One value on one output port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Yielded {
    /// The output port.
    pub port: Name,
    /// The value; its mapping key tells which item of a dynamic output it is.
    pub value: ValueRef,
}
