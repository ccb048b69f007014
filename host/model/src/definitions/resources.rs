//! The section `resources`: what ops may be given, each kind with its keys.

use super::reading::{Fields, Keys, Reading};
use super::tree::{Key, Node};
use crate::diagnostic::Diagnostic;
use crate::error::Code;
use crate::plan::{Access, ResourceSpec};

/// Kinds that this version can open.
const KINDS: [&str; 1] = ["object_store"];
/// Kinds that a later version will open.
const LATER: [&str; 5] = ["model_registry", "key_value", "http", "http_client", "secrets"];

const OBJECT_STORE: Keys = Keys {
    what: "an object store",
    known: &["kind", "url", "access", "version", "description"],
    later: &["credentials", "prefix"],
};
impl Reading<'_> {
    /// One resource, by its kind.
    pub(super) fn resource(&mut self, _name: &Key, node: &Node) -> Option<ResourceSpec> {
        self.kind(node, "a resource", &KINDS, &LATER)?;
        self.object_store(node)
    }

    fn object_store(&mut self, node: &Node) -> Option<ResourceSpec> {
        let fields = self.fields(node, &OBJECT_STORE)?;
        let url = self.url(&fields);
        let (access, version) = self.access_and_version(&fields)?;
        Some(ResourceSpec::ObjectStore { url: url?, access, version })
    }

    /// What every kind says of itself: the most that may be done with it, and the version of its content.
    fn access_and_version(&mut self, fields: &Fields<'_>) -> Option<(Access, Option<String>)> {
        let access = fields.get("access").map_or(Some(Access::Read), |node| self.access(node));
        let version = match fields.get("version") {
            Some(node) => Some(self.text(node, "`version`")?.to_owned()),
            None => None,
        };
        Some((access?, version))
    }

    pub(super) fn access(&mut self, node: &Node) -> Option<Access> {
        match self.text(node, "`access`")? {
            "read" => Some(Access::Read),
            "read_write" => Some(Access::ReadWrite),
            other => {
                self.push(
                    Diagnostic::error(Code::WrongShape, format!("`{other}` is not an access"))
                        .at(&node.place, "expected `read` or `read_write`")
                        .nearest(other, ["read", "read_write"]),
                );
                None
            }
        }
    }
}
