//! The section `resources`: what ops may be given, each kind with its keys.

use super::reading::{Fields, Keys, Reading};
use super::tree::{Key, Node, Value};
use crate::diagnostic::Diagnostic;
use crate::error::Code;
use crate::id::Name;
use crate::plan::{Access, KeyValueDriver, ModelRegistryDriver, ResourceSpec};

/// Kinds that this version can open.
const KINDS: [&str; 4] = ["object_store", "key_value", "model_registry", "http_client"];
/// Kinds that a later version will open.
const LATER: [&str; 2] = ["http", "secrets"];

const OBJECT_STORE: Keys = Keys {
    what: "an object store",
    known: &["kind", "url", "credentials", "access", "version", "description"],
    later: &["prefix"],
};
const YARD_KEY_VALUE: Keys = Keys {
    what: "a key-value of the yard",
    known: &["kind", "driver", "bucket", "access", "version", "description"],
    later: &[],
};
const OBJECT_KEY_VALUE: Keys = Keys {
    what: "a key-value in an object store",
    known: &["kind", "driver", "url", "credentials", "access", "version", "description"],
    later: &[],
};
const OBJECT_REGISTRY: Keys = Keys {
    what: "a model registry in an object store",
    known: &["kind", "driver", "url", "credentials", "access", "version", "description"],
    later: &[],
};
const MLFLOW: Keys = Keys {
    what: "an MLflow server",
    known: &["kind", "driver", "url", "credentials", "access", "version", "description"],
    later: &[],
};

/// What an environment keeps of a resource when it names another driver: the rest belongs to the driver that it replaces.
const OF_ANY_DRIVER: [&str; 4] = ["kind", "access", "version", "description"];

impl Reading<'_> {
    /// One resource, by its kind.
    pub(super) fn resource(&mut self, name: &Key, node: &Node) -> Option<ResourceSpec> {
        match self.kind(node, "a resource", &KINDS, &LATER)? {
            "key_value" => self.key_value(name, node),
            "model_registry" => self.model_registry(node),
            "http_client" => self.http_client(node).map(|spec| ResourceSpec::HttpClient(Box::new(spec))),
            _ => self.object_store(node),
        }
    }

    fn object_store(&mut self, node: &Node) -> Option<ResourceSpec> {
        let fields = self.fields(node, &OBJECT_STORE)?;
        let url = self.location(&fields);
        let (access, version) = self.access_and_version(&fields)?;
        Some(ResourceSpec::ObjectStore { url: url?, access, version })
    }

    fn key_value(&mut self, name: &Key, node: &Node) -> Option<ResourceSpec> {
        let (driver, fields) = match self.driver(node, &["yard", "object_store"])? {
            "yard" => {
                let fields = self.fields(node, &YARD_KEY_VALUE)?;
                let bucket = match fields.get("bucket") {
                    Some(node) => self.name_at(node, "`bucket`"),
                    // A name that cannot be one was complained of where it stands.
                    None => Name::new(&name.text).ok(),
                };
                (bucket.map(|bucket| KeyValueDriver::Yard { bucket }), fields)
            }
            _ => {
                let fields = self.fields(node, &OBJECT_KEY_VALUE)?;
                (self.location(&fields).map(|url| KeyValueDriver::ObjectStore { url }), fields)
            }
        };
        let (access, version) = self.access_and_version(&fields)?;
        Some(ResourceSpec::KeyValue { driver: driver?, access, version })
    }

    fn model_registry(&mut self, node: &Node) -> Option<ResourceSpec> {
        let (driver, fields) = match self.driver(node, &["object_store", "mlflow"])? {
            "mlflow" => {
                let fields = self.fields(node, &MLFLOW)?;
                (self.server_location(&fields).map(|url| ModelRegistryDriver::Mlflow { url }), fields)
            }
            _ => {
                let fields = self.fields(node, &OBJECT_REGISTRY)?;
                (self.location(&fields).map(|url| ModelRegistryDriver::ObjectStore { url }), fields)
            }
        };
        let (access, version) = self.access_and_version(&fields)?;
        Some(ResourceSpec::ModelRegistry { driver: driver?, access, version })
    }

    /// Which of the `known` drivers stands behind a resource.
    fn driver<'n>(&mut self, node: &'n Node, known: &[&'static str]) -> Option<&'n str> {
        let Value::Map(entries) = &node.value else { return None };
        let Some((_, driver)) = entries.iter().find(|(key, _)| key.text == "driver") else {
            let known: Vec<_> = known.iter().map(|driver| format!("`driver: {driver}`")).collect();
            self.push(
                Diagnostic::error(Code::MissingKey, "`driver` is missing")
                    .at(&node.place, "here")
                    .help(format!("add {}", known.join(" or "))),
            );
            return None;
        };
        let name = self.text(driver, "`driver`")?;
        if known.contains(&name) {
            return Some(name);
        }
        self.push(
            Diagnostic::error(Code::WrongShape, format!("`{name}` is not a driver of this kind of resource"))
                .at(&driver.place, "unknown driver")
                .nearest(name, known.iter().copied()),
        );
        None
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

/// What is left of a resource or an IO manager for an override to be laid over: when that names another driver, the keys of
/// the one that it replaces go, since an address or a bucket means nothing to another; when it is of another kind, all do.
pub(super) fn base_of(original: &Node, over: &Node) -> Node {
    let driver = |node: &Node| match &node.value {
        Value::Map(entries) => entries.iter().find(|(key, _)| key.text == "driver").map(|(_, node)| node.value.clone()),
        _ => None,
    };
    let mut base = original.clone();
    if let (Some(before), Some(after), Value::Map(entries)) = (nature(original), nature(over), &mut base.value)
        && before != after
    {
        entries.retain(|(key, _)| key.text == "description");
    }
    if let (Some(before), Some(after), Value::Map(entries)) = (driver(original), driver(over), &mut base.value)
        && before != after
    {
        entries.retain(|(key, _)| OF_ANY_DRIVER.contains(&key.text.as_str()));
    }
    base
}

/// What something is: its kind, or that a component ships it.
fn nature(node: &Node) -> Option<&str> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find_map(|(key, node)| match (key.text.as_str(), &node.value) {
        ("kind", Value::Text(kind)) => Some(kind.as_str()),
        ("component", _) => Some("component"),
        _ => None,
    })
}
