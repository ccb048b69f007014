//! The sections of the file that are not steps: components, types, IO managers, grants, environments.

use std::path::Path;

use super::location::check_template;
use super::reading::{Fields, Keys, Reading, short};
use super::resources::base_of;
use super::tree::{Key, Node, Value, read};
use super::{
    CheckDefinition, Definitions, Environment, GrantEntry, GrantedKey, IoManagerDefinition, Located, Named, Table,
    TypeDefinition,
};
use crate::diagnostic::{Diagnostic, Diagnostics, Source};
use crate::error::Code;
use crate::id::Name;
use crate::plan::{BaseType, IoManagerSpec};

/// The version of the file's form.
const VERSION: i128 = 1;

const FILE: Keys = Keys {
    what: "a definitions file",
    known: &[
        "opyard",
        "components",
        "types",
        "graphs",
        "jobs",
        "resources",
        "io_managers",
        "grants",
        "environments",
        "schedules",
        "secrets",
        "pools",
        "run_queue",
        "trust",
    ],
    later: &["sensors", "hooks", "partitions", "backfills", "assets", "tenants", "memo", "include"],
};
const TYPE: Keys = Keys { what: "a type", known: &["base", "description", "schema", "check"], later: &[] };
const ARTIFACTS: Keys = Keys { what: "an `artifacts` manager", known: &["kind", "description"], later: &[] };
const OBJECT_STORE: Keys = Keys {
    what: "an `object_store` manager",
    known: &["kind", "url", "credentials", "path", "description"],
    later: &[],
};
const MLFLOW: Keys = Keys {
    what: "an `mlflow` manager",
    known: &["kind", "url", "credentials", "experiment", "model", "description"],
    later: &[],
};
/// Longest name of an experiment.
const MAX_EXPERIMENT: usize = 250;
const COMPONENT_MANAGER: Keys =
    Keys { what: "an IO manager of a component", known: &["component", "config", "description"], later: &[] };
const GRANT: Keys = Keys { what: "a grant", known: &["resources", "reveal", "limits"], later: &["secrets", "http"] };
const GRANTED: Keys =
    Keys { what: "a granted resource", known: &["resource", "access"], later: &["prefix", "origins", "reveal"] };
const ENVIRONMENT: Keys = Keys {
    what: "an environment",
    known: &["resources", "io_managers"],
    later: &["grants", "limits", "config", "schedules", "secrets"],
};

pub(super) fn parse(source: &Source, folder: &Path) -> Result<Definitions, Diagnostics> {
    let root = read(source)?;
    let mut reading = Reading::new(folder);
    let definitions = reading.file(source, &root);
    let mut found = reading.found;
    let definitions = definitions.map(|mut definitions| {
        definitions.check_names(&mut found);
        definitions
    });
    found.or(definitions).map(|(definitions, _)| definitions)
}

impl Reading<'_> {
    fn file(&mut self, source: &Source, root: &Node) -> Option<Definitions> {
        if !matches!(root.value, Value::Map(_)) {
            let what = if root.value == Value::Null { "the file is empty" } else { "a definitions file is a map" };
            let place = if root.value == Value::Null { source.place(0..0) } else { root.place.clone() };
            self.push(
                Diagnostic::error(Code::WrongShape, what)
                    .at(&place, "")
                    .help("start with `opyard: 1`, then `components:` and `jobs:`"),
            );
            return None;
        }
        let fields = self.fields(root, &FILE)?;
        self.version(&fields);
        let trust = self.table(fields.get("trust"), "`trust`", |r, _, node| r.trusted_key(node));
        let components = self.table(fields.get("components"), "`components`", |r, _, node| r.component(node, &trust));
        // Before what refers to them.
        self.secrets = self.table(fields.get("secrets"), "`secrets`", |r, _, node| r.secret(node));
        let types = self.table(fields.get("types"), "`types`", Self::port_type);
        let graphs = self.table(fields.get("graphs"), "`graphs`", |r, _, node| r.graph(node));
        let jobs = self.table(fields.get("jobs"), "`jobs`", |r, _, node| r.job(node));
        let resources = self.table(fields.get("resources"), "`resources`", Self::resource);
        let mut io_managers = self.table(fields.get("io_managers"), "`io_managers`", Self::io_manager);
        if !io_managers.knows("default") {
            let name = Name::new("default").expect("`default` is a name");
            let value = IoManagerDefinition::BuiltIn(IoManagerSpec::Artifacts);
            io_managers.insert(Named { name, place: source.place(0..0), value });
        }
        let grants = self.grants(fields.get("grants"));
        let environments =
            self.table(fields.get("environments"), "`environments`", |r, _, node| r.environment(node, &fields));
        let schedules = self.table(fields.get("schedules"), "`schedules`", |r, _, node| r.schedule(node));
        let pools = self.table(fields.get("pools"), "`pools`", |r, _, node| r.pool(node));
        let run_queue = fields.get("run_queue").and_then(|node| self.run_queue(node)).unwrap_or_default();
        Some(Definitions {
            source: source.clone(),
            components,
            types,
            graphs,
            jobs,
            resources,
            io_managers,
            grants,
            environments,
            schedules,
            pools,
            run_queue,
            secrets: std::mem::take(&mut self.secrets),
        })
    }

    fn version(&mut self, fields: &Fields<'_>) {
        let Some(node) = fields.require(self, "opyard", "start the file with `opyard: 1`, the version of its form")
        else {
            return;
        };
        match node.value {
            Value::Int(VERSION) => {}
            Value::Int(_) => self.push(
                Diagnostic::error(Code::NotSupported, "this version reads only definitions of version 1")
                    .at(&node.place, "expected 1"),
            ),
            _ => self.shape(node, "`opyard`", "the number 1").unwrap_or(()),
        }
    }

    pub(super) fn port_type(&mut self, key: &Key, node: &Node) -> Option<TypeDefinition> {
        if BaseType::from_name(&key.text).is_some() {
            self.push(
                Diagnostic::error(Code::DuplicateName, format!("`{}` is a type of the contract", key.text))
                    .at(&key.place, "cannot be defined again"),
            );
        }
        let fields = self.fields(node, &TYPE)?;
        let check = self.type_check(&fields);
        let node = fields.require(self, "base", "name the type that it stands on: `base: table`")?;
        let name = self.text(node, "`base`")?;
        let base = BaseType::from_name(name).filter(|base| *base != BaseType::Nothing);
        if base.is_none() {
            self.push(
                Diagnostic::error(Code::UnknownType, format!("`{name}` is not a type to stand on"))
                    .at(&node.place, "unknown type")
                    .nearest(name, ["bytes", "text", "json", "table"]),
            );
        }
        let base = base?;
        if let (Some(CheckDefinition::Schema(schema)), true) = (&check, base != BaseType::Json) {
            self.push(
                Diagnostic::error(Code::WrongShape, "a JSON Schema is for types that stand on `json`")
                    .at(&schema.place, "checks JSON")
                    .at(&node.place, "is something else")
                    .help("other values are checked by a component: `check: { with: component.checker }`"),
            );
            return None;
        }
        Some(TypeDefinition { base, check })
    }

    /// `schema: …`, or `check: { with: component.checker, … }`.
    fn type_check(&mut self, fields: &Fields<'_>) -> Option<CheckDefinition> {
        let (schema, check) = match (fields.get("schema"), fields.get("check")) {
            (None, None) => return None,
            (Some(_), Some(check)) => {
                self.push(
                    Diagnostic::error(Code::WrongShape, "a type is checked by a schema or by a component, not by both")
                        .at(&check.place, "remove one of the two"),
                );
                return None;
            }
            one => one,
        };
        if let Some(schema) = schema {
            if !matches!(schema.value, Value::Map(_) | Value::Bool(_)) {
                return self.shape(schema, "`schema`", "a map");
            }
            self.unique_keys(schema);
            return Some(CheckDefinition::Schema(schema.clone()));
        }
        let check = check?;
        let entries = self.entries(check, "`check`")?;
        let Some((_, with)) = entries.iter().find(|(key, _)| key.text == "with") else {
            self.push(
                Diagnostic::error(Code::MissingKey, "`with` is missing")
                    .at(&check.place, "here")
                    .help("name a type checker: `with: component.checker`"),
            );
            return None;
        };
        let (component, checker) = self.extension(with, "a type checker", "component.checker")?;
        self.unique_keys(check);
        let params = entries.iter().filter(|(key, _)| key.text != "with");
        let params = params.map(|(key, node)| ((*key).clone(), (*node).clone())).collect();
        let params = Node { value: Value::Map(params), place: check.place.clone() };
        Some(CheckDefinition::Checker { component, checker, place: with.place.clone(), params })
    }

    /// What a component ships beside ops, by the component and its name there.
    pub(super) fn extension(&mut self, with: &Node, what: &str, expected: &str) -> Option<(Name, Name)> {
        let text = self.text(with, "`with`")?;
        let Some((component, name)) = text.split_once('.').filter(|(_, name)| !name.contains('.')) else {
            self.push(
                Diagnostic::error(Code::BadReference, format!("`{}` does not name {what}", short(text)))
                    .at(&with.place, format!("expected `{expected}`")),
            );
            return None;
        };
        Some((self.name(component, &with.place)?, self.name(name, &with.place)?))
    }

    /// The kind of a resource or IO manager, with what is right about it.
    pub(super) fn kind<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        known: &[&'static str],
        later: &[&str],
    ) -> Option<&'n str> {
        let entries = self.entries(node, what)?;
        let Some((_, kind)) = entries.iter().copied().find(|(key, _)| key.text == "kind") else {
            if let Some((key, _)) = entries.iter().find(|(key, _)| later.contains(&key.text.as_str())) {
                self.not_supported(&key.place, &format!("`{}` is", key.text));
            } else {
                let known: Vec<_> = known.iter().map(|kind| format!("`kind: {kind}`")).collect();
                self.push(
                    Diagnostic::error(Code::MissingKey, "`kind` is missing")
                        .at(&node.place, "here")
                        .help(format!("add {}", known.join(" or "))),
                );
            }
            return None;
        };
        let name = self.text(kind, "`kind`")?;
        if known.contains(&name) {
            return Some(name);
        }
        if later.contains(&name) {
            self.not_supported(&kind.place, &format!("{what} of kind `{name}` is"));
        } else {
            self.push(
                Diagnostic::error(
                    Code::WrongShape,
                    format!("`{name}` is not a kind of {}", what.trim_start_matches(['a', 'n', ' '])),
                )
                .at(&kind.place, "unknown kind")
                .nearest(name, known.iter().copied()),
            );
        }
        None
    }

    fn io_manager(&mut self, _: &Key, node: &Node) -> Option<IoManagerDefinition> {
        if let Value::Map(entries) = &node.value
            && entries.iter().any(|(key, _)| key.text == "component")
        {
            return self.component_manager(node);
        }
        let spec = match self.kind(node, "an IO manager", &["artifacts", "object_store", "mlflow"], &["database"])? {
            "artifacts" => {
                self.fields(node, &ARTIFACTS)?;
                IoManagerSpec::Artifacts
            }
            "mlflow" => self.mlflow(node)?,
            _ => self.files(node)?,
        };
        Some(IoManagerDefinition::BuiltIn(spec))
    }

    /// `{ component: name.manager, config: { … } }`.
    fn component_manager(&mut self, node: &Node) -> Option<IoManagerDefinition> {
        let fields = self.fields(node, &COMPONENT_MANAGER)?;
        let config = match fields.get("config") {
            Some(config) if !matches!(config.value, Value::Map(_) | Value::Null) => {
                return self.shape(config, "`config`", "a map");
            }
            config => config.cloned(),
        };
        config.iter().for_each(|config| self.unique_keys(config));
        let named = fields.get("component")?;
        let (component, manager) = self.extension(named, "an IO manager", "component.manager")?;
        Some(IoManagerDefinition::Component { component, manager, place: named.place.clone(), config })
    }

    fn mlflow(&mut self, node: &Node) -> Option<IoManagerSpec> {
        let fields = self.fields(node, &MLFLOW)?;
        let url = self.server_location(&fields);
        let experiment = match fields.get("experiment") {
            Some(node) => {
                let text = self.text(node, "`experiment`")?;
                if text.is_empty() || text.len() > MAX_EXPERIMENT || text.chars().any(char::is_control) {
                    return self.shape(node, "`experiment`", "1 to 250 characters");
                }
                text.to_owned()
            }
            None => "opyard".to_owned(),
        };
        let model = match fields.get("model") {
            Some(node) => Some(self.name_at(node, "`model`")?),
            None => None,
        };
        Some(IoManagerSpec::Mlflow { url: url?, experiment, model })
    }

    fn files(&mut self, node: &Node) -> Option<IoManagerSpec> {
        let fields = self.fields(node, &OBJECT_STORE)?;
        let url = self.location(&fields);
        let path = match fields.get("path") {
            Some(node) => {
                let path = self.text(node, "`path`")?;
                if let Err(problem) = check_template(path) {
                    self.push(Diagnostic::error(Code::BadUrl, "this path cannot be used").at(&node.place, problem));
                    return None;
                }
                path.to_owned()
            }
            None => "{job}/{run}/{step}/{output}".to_owned(),
        };
        Some(IoManagerSpec::ObjectStore { url: url?, path })
    }

    fn grants(&mut self, node: Option<&Node>) -> Vec<GrantEntry> {
        let mut grants = Vec::new();
        for (key, item) in node.and_then(|node| self.entries(node, "`grants`")).unwrap_or_default() {
            let (component, op) = match key.text.split_once('.') {
                Some((component, op)) => (component, Some(op)),
                None => (key.text.as_str(), None),
            };
            let named = op.is_none_or(|op| self.name(op, &key.place).is_some());
            let Some(component) = self.name(component, &key.place).filter(|_| named) else { continue };
            let Some(fields) = self.fields(item, &GRANT) else { continue };
            let mut resources = Vec::new();
            for (op_key, item) in
                fields.get("resources").and_then(|node| self.entries(node, "`resources`")).unwrap_or_default()
            {
                resources.extend(self.granted_key(op_key, item));
            }
            let mut reveal = Vec::new();
            for (op_key, item) in
                fields.get("reveal").and_then(|node| self.entries(node, "`reveal`")).unwrap_or_default()
            {
                reveal.extend(self.revealed_key(op_key, item));
            }
            let limits = self.limits(fields.get("limits"));
            grants.push(GrantEntry {
                place: key.place.clone(),
                component,
                op: op.map(str::to_owned),
                resources,
                reveal,
                limits,
            });
        }
        grants
    }

    /// `key: resource`, or `key: { resource: …, access: … }`.
    fn granted_key(&mut self, key: &Key, node: &Node) -> Option<GrantedKey> {
        self.name(&key.text, &key.place)?;
        let key = Located { value: key.text.clone(), place: key.place.clone() };
        if !matches!(node.value, Value::Map(_)) {
            let resource = self.name_at(node, "a granted resource")?;
            return Some(GrantedKey {
                key,
                resource: Located { value: resource, place: node.place.clone() },
                access: None,
            });
        }
        let fields = self.fields(node, &GRANTED)?;
        let access = match fields.get("access") {
            Some(node) => Some(Located { value: self.access(node)?, place: node.place.clone() }),
            None => None,
        };
        let node = fields.require(self, "resource", "name a resource of `resources`")?;
        let resource = Located { value: self.name_at(node, "a granted resource")?, place: node.place.clone() };
        Some(GrantedKey { key, resource, access })
    }

    fn environment(&mut self, node: &Node, base: &Fields<'_>) -> Option<Environment> {
        let fields = self.fields(node, &ENVIRONMENT)?;
        let resources = self.overrides(&fields, base, "resources", Code::UnknownResource, Self::resource);
        let io_managers = self.overrides(&fields, base, "io_managers", Code::UnknownIoManager, Self::io_manager);
        Some(Environment { resources, io_managers })
    }

    /// A section of an environment: each entry is merged, key by key, over the one that it overrides.
    fn overrides<T>(
        &mut self,
        environment: &Fields<'_>,
        base: &Fields<'_>,
        section: &'static str,
        unknown: Code,
        read: fn(&mut Self, &Key, &Node) -> Option<T>,
    ) -> Table<T> {
        let below: &[(Key, Node)] = match base.get(section).map(|node| &node.value) {
            Some(Value::Map(entries)) => entries,
            _ => &[],
        };
        self.table(environment.get(section), &format!("`{section}`"), |r, key, node| {
            if r.found.is_full() {
                return None;
            }
            let Some((_, original)) = below.iter().find(|(name, _)| name.text == key.text) else {
                r.push(
                    Diagnostic::error(unknown, format!("there is no `{}` in `{section}` to override", key.text))
                        .at(&key.place, "unknown name")
                        .nearest(&key.text, below.iter().map(|(name, _)| name.text.as_str())),
                );
                return None;
            };
            r.entries(node, "an override")?;
            read(r, key, &merged(&base_of(original, node), node))
        })
    }
}

/// `over` laid over `base`: maps are merged key by key, whatever else is replaced.
pub(crate) fn merged(base: &Node, over: &Node) -> Node {
    let (Value::Map(below), Value::Map(above)) = (&base.value, &over.value) else { return over.clone() };
    let mut entries = below.clone();
    for (key, node) in above {
        match entries.iter_mut().find(|(name, _)| name.text == key.text) {
            Some(entry) => *entry = (key.clone(), merged(&entry.1, node)),
            None => entries.push((key.clone(), node.clone())),
        }
    }
    Node { value: Value::Map(entries), place: over.place.clone() }
}
