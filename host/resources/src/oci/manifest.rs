//! Manifests: that of a component, that of a signature, and lists of what refers to one.

use std::collections::BTreeMap;

use bytes::Bytes;
use opyard_model::digest::{ComponentDigest, ManifestDigest};
use opyard_model::error::{Code, Failure};
use opyard_model::supply::{Version, release_version};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::session::sha256;
use super::{Fetched, MAX_COMPONENT, invalid};

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Config and layer of a Wasm artifact, as the CNCF lays it out.
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const WASM: &str = "application/wasm";
/// A config that says nothing.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(super) const EMPTY_CONFIG: &[u8] = b"{}";
/// A DSSE envelope.
pub(super) const DSSE: &str = "application/vnd.dsse.envelope.v1+json";

const VERSION: &str = "org.opencontainers.image.version";
/// Longest text of an annotation that is read.
const MAX_ANNOTATION: usize = 256;
/// Most entries of a list of what refers to a manifest: whoever may write to the registry writes it.
const MAX_LISTED: usize = 1024;

/// A part of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: ManifestDigest,
    size: u64,
}

/// A manifest as it is written. What nobody here needs is ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Form {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Form {
    fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let form: Self = serde_json::from_slice(bytes).map_err(|_| invalid("a manifest that cannot be read"))?;
        let is_manifest = form.media_type.as_deref().is_none_or(|kind| kind == MANIFEST);
        if form.schema_version != 2 || !is_manifest {
            return Err(invalid("a manifest of another kind"));
        }
        Ok(form)
    }
}

/// What the manifest of a component says, of that which counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentManifest {
    /// The component: the digest of the one layer.
    pub component: ComponentDigest,
    /// Its bytes, 64 MiB at most.
    pub size: u64,
    /// The version that it says.
    pub version: Option<Version>,
}

impl ComponentManifest {
    /// Reads one. Registry-controlled.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let form = Form::parse(bytes)?;
        let is_wasm = form.config.is_some_and(|config| config.media_type == WASM_CONFIG);
        let [layer] = form.layers.as_slice() else {
            return Err(invalid("it is no component: it has not one layer"));
        };
        if !is_wasm || layer.media_type != WASM {
            return Err(invalid(&format!(
                "it is no component: a component is one layer `{WASM}`, with a `{WASM_CONFIG}`"
            )));
        }
        if layer.size > MAX_COMPONENT {
            return Err(Failure::new(Code::TooLarge, format!("a component of more than {MAX_COMPONENT} bytes")));
        }
        let said = form.annotations.get(VERSION).filter(|text| text.len() <= MAX_ANNOTATION);
        Ok(Self {
            component: ComponentDigest::from_bytes(*layer.digest.as_bytes()),
            size: layer.size,
            version: said.and_then(|text| release_version(text)),
        })
    }
}

/// The manifest of a signature of `subject`.
pub(super) struct SignatureManifest {
    pub(super) envelope: [u8; 32],
    pub(super) size: u64,
}

impl SignatureManifest {
    /// Reads one. Registry-controlled.
    pub(super) fn parse(bytes: &[u8], subject: ManifestDigest) -> Result<Self, Failure> {
        let form = Form::parse(bytes)?;
        if form.subject.is_none_or(|found| found.digest != subject) {
            return Err(invalid("a signature of something else"));
        }
        match form.layers.as_slice() {
            [layer] if layer.media_type == DSSE => Ok(Self { envelope: *layer.digest.as_bytes(), size: layer.size }),
            _ => Err(invalid("a signature of a kind that nobody here knows")),
        }
    }
}

/// The manifest of a signature.
pub(super) fn of_signature(subject: &Fetched, envelope: &[u8]) -> Bytes {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": DSSE,
        "config": descriptor(EMPTY, EMPTY_CONFIG),
        "layers": [descriptor(DSSE, envelope)],
        "subject": descriptor(MANIFEST, &subject.bytes),
    });
    manifest.to_string().into_bytes().into()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    let digest = ManifestDigest::from_bytes(sha256(bytes));
    Descriptor { media_type: media_type.to_owned(), digest, size: bytes.len() as u64 }
}

/// An entry of a list of what refers to a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Referrer {
    media_type: String,
    pub(super) digest: ManifestDigest,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    /// Of others: kept as it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Referrer {
    pub(super) fn signature(digest: ManifestDigest, size: u64) -> Self {
        let (media_type, artifact_type) = (MANIFEST.to_owned(), Some(DSSE.to_owned()));
        Self { media_type, digest, size, artifact_type, annotations: BTreeMap::new() }
    }
}

/// A list of what refers to a manifest.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    manifests: Vec<Referrer>,
}

impl Index {
    /// Reads one. Registry-controlled.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let index: Self = serde_json::from_slice(bytes).map_err(|_| invalid("a list that cannot be read"))?;
        if index.manifests.len() > MAX_LISTED {
            return Err(invalid("a list with more than 1024 entries"));
        }
        Ok(index)
    }

    /// Those that are signatures.
    pub(super) fn signatures(&self) -> impl Iterator<Item = &Referrer> {
        self.manifests.iter().filter(|one| one.artifact_type.as_deref() == Some(DSSE))
    }

    /// Adds an entry. Answers whether it was not there.
    pub(super) fn add(&mut self, referrer: Referrer) -> bool {
        let is_new = self.manifests.iter().all(|one| one.digest != referrer.digest);
        if is_new {
            self.manifests.push(referrer);
        }
        is_new
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        let whole = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests });
        whole.to_string().into_bytes().into()
    }
}

/// What is said of a component when it is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its version.
    pub version: Option<Version>,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
}

impl Release {
    /// The manifest under which a component of that digest and size is pushed.
    #[must_use]
    pub fn to_manifest(&self, component: ComponentDigest, size: u64) -> Bytes {
        self.manifest(component, size, &self.config(component))
    }

    /// The config of its manifest.
    pub(super) fn config(&self, component: ComponentDigest) -> Bytes {
        let config = json!({
            // Readers want a moment. The same component is to have the same digest whenever it is pushed.
            "created": "1970-01-01T00:00:00Z",
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [component],
            "component": { "exports": self.exports, "imports": self.imports, "target": null },
        });
        config.to_string().into_bytes().into()
    }

    /// Its manifest.
    pub(super) fn manifest(&self, component: ComponentDigest, size: u64, config: &[u8]) -> Bytes {
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(WASM_CONFIG, config),
            "layers": [{ "mediaType": WASM, "digest": component, "size": size }],
        });
        if let Some(version) = &self.version {
            manifest["annotations"] = json!({ VERSION: version });
        }
        manifest.to_string().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_component_is_one_layer_of_wasm() {
        let release = Release { version: release_version("1.4.2"), imports: vec!["a:b/c".into()], exports: Vec::new() };
        let component = ComponentDigest::from_bytes(sha256(b"wasm"));
        let bytes = release.manifest(component, 4, &release.config(component));
        let manifest = ComponentManifest::parse(&bytes).unwrap();
        assert_eq!(manifest, ComponentManifest { component, size: 4, version: release_version("1.4.2") });
        assert_eq!(bytes, release.manifest(component, 4, &release.config(component)));

        let text = std::str::from_utf8(&bytes).unwrap();
        let digest = component.to_string();
        for (from, to) in [
            (WASM_CONFIG, "application/vnd.oci.image.config.v1+json"),
            ("\"application/wasm\"", "\"application/vnd.oci.image.layer.v1.tar+gzip\""),
            ("\"schemaVersion\":2", "\"schemaVersion\":1"),
            (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"),
            ("\"layers\":[", "\"layers\":[],\"other\":["),
            ("\"size\":4", "\"size\":67108865"),
            ("\"size\":4", "\"size\":-4"),
            (digest.as_str(), "sha256:../../x"),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(ComponentManifest::parse(text.replace(from, to).as_bytes()).is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn a_list_keeps_what_others_added() {
        let others = format!(
            "{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\"{MANIFEST}\",\"digest\":\"sha256:{}\",\"size\":3,\
             \"artifactType\":\"x\",\"annotations\":{{\"a\":\"b\"}}}}]}}",
            "0a".repeat(32)
        );
        let mut index = Index::parse(others.as_bytes()).unwrap();
        let ours = Referrer::signature(ManifestDigest::from_bytes([1; 32]), 7);
        assert!(index.add(ours.clone()) && !index.add(ours.clone()));
        let again = Index::parse(&index.to_bytes()).unwrap();
        assert_eq!(again.manifests, index.manifests);
        assert_eq!(again.signatures().collect::<Vec<_>>(), [&ours]);
    }

    proptest! {
        /// Whatever a registry answers: read or refused, never a panic.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ComponentManifest::parse(&bytes);
            let _ = Index::parse(&bytes);
            let _ = SignatureManifest::parse(&bytes, ManifestDigest::from_bytes([0; 32]));
        }
    }
}
