//! Where components come from, and whose signatures are believed.

use std::path::PathBuf;

use super::location::resolve_path;
use super::reading::{Fields, Keys, Reading, short};
use super::tree::Node;
use super::{ComponentPlace, OciComponent, Table};
use crate::diagnostic::Diagnostic;
use crate::digest::ComponentDigest;
use crate::error::Code;
use crate::id::Name;
use crate::supply::{OciReference, TrustedKey};

const COMPONENT: Keys = Keys { what: "a component", known: &["path", "oci", "digest", "verify"], later: &["url"] };
const FILE: Keys = Keys { what: "a component", known: &["path"], later: &[] };
const TRUST: Keys = Keys { what: "a key that is trusted", known: &["ed25519", "description"], later: &["sigstore"] };

impl Reading<'_> {
    /// `{ path: … }`, or `{ oci: …, digest: …, verify: … }`.
    pub(super) fn component(&mut self, node: &Node, trust: &Table<TrustedKey>) -> Option<ComponentPlace> {
        let fields = self.fields(node, &COMPONENT)?;
        let Some(oci) = fields.get("oci") else {
            for key in ["digest", "verify"] {
                if let Some((key, _)) = fields.entry(key) {
                    self.push(
                        Diagnostic::error(Code::WrongShape, format!("`{}` is for components of registries", key.text))
                            .at(&key.place, "this one is a file"),
                    );
                }
            }
            return self.path(&fields).map(ComponentPlace::File);
        };
        if let Some((path, _)) = fields.entry("path") {
            self.push(
                Diagnostic::error(Code::WrongShape, "a component comes from one place")
                    .at(&path.place, "and `oci` names another"),
            );
        }
        let digest = fields.get("digest").and_then(|node| self.component_digest(node));
        let verify = fields.get("verify").and_then(|node| self.verify(node, trust));
        let reference = self.reference(oci)?;
        // What was demanded and cannot be read must not be left out.
        let unread = (fields.get("digest").is_some() && digest.is_none())
            || (fields.get("verify").is_some() && verify.is_none());
        (!unread).then(|| ComponentPlace::Oci(Box::new(OciComponent { reference, digest, verify })))
    }

    /// `{ path: … }` alone: where there is no yard that could keep what a registry gave.
    pub(super) fn component_file(&mut self, node: &Node) -> Option<PathBuf> {
        let fields = self.fields(node, &FILE)?;
        self.path(&fields)
    }

    fn path(&mut self, fields: &Fields<'_>) -> Option<PathBuf> {
        let node = fields.require(self, "path", "name the file: `path: target/ops.wasm`")?;
        let path = self.text(node, "`path`")?;
        if path.is_empty() || path.contains('\0') {
            self.push(Diagnostic::error(Code::BadUrl, "this is not a path").at(&node.place, ""));
            return None;
        }
        Some(resolve_path(self.folder, path))
    }

    fn reference(&mut self, node: &Node) -> Option<OciReference> {
        let text = self.text(node, "`oci`")?;
        match text.parse() {
            Ok(reference) => Some(reference),
            Err(error) => {
                self.push(
                    Diagnostic::error(Code::BadUrl, format!("`{}` names no component of a registry", short(text)))
                        .at(&node.place, error.to_string())
                        .help("write `namespace/name:1.4.2`, or `namespace/name@sha256:…`"),
                );
                None
            }
        }
    }

    fn component_digest(&mut self, node: &Node) -> Option<ComponentDigest> {
        let text = self.text(node, "`digest`")?;
        let digest = text.parse();
        if digest.is_err() {
            self.push(
                Diagnostic::error(Code::WrongShape, "this is not the digest of a component")
                    .at(&node.place, "expected `sha256:` and 64 lower-case hex digits"),
            );
        }
        digest.ok()
    }

    fn verify(&mut self, node: &Node, trust: &Table<TrustedKey>) -> Option<(Name, TrustedKey)> {
        let text = self.text(node, "`verify`")?;
        if let Some(entry) = trust.get(text) {
            return Some((entry.name.clone(), entry.value));
        }
        if !trust.knows(text) {
            self.push(
                Diagnostic::error(Code::BadReference, format!("`{}` is not under `trust`", short(text)))
                    .at(&node.place, "unknown key")
                    .nearest(text, trust.names()),
            );
        }
        None
    }

    /// `{ ed25519: … }`
    pub(super) fn trusted_key(&mut self, node: &Node) -> Option<TrustedKey> {
        let fields = self.fields(node, &TRUST)?;
        let node = fields.require(self, "ed25519", "give the key: `ed25519: MCowBQYDK2VwAyEA…`")?;
        let text = self.text(node, "`ed25519`")?;
        match text.parse() {
            Ok(key) => Some(key),
            Err(error) => {
                self.push(
                    Diagnostic::error(Code::WrongShape, "this is not an Ed25519 public key")
                        .at(&node.place, "")
                        .help(format!("{error}")),
                );
                None
            }
        }
    }
}
