//! What a component says of itself, and what its binary proves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::ComponentDigest;
use crate::id::{MediaType, Name};
use crate::json::CanonicalJson;
use crate::supply::Origin;

/// The name of a port type: `bytes`, `text`, `json`, `table`, `nothing`, or one of the definitions file.
pub type TypeName = Name;

/// An input of an op, as its component describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputDefinition {
    /// The port's name.
    pub name: Name,
    /// What it takes.
    pub description: Option<String>,
    /// What its values mean.
    pub type_name: TypeName,
    /// What it can read, best first. Empty = any.
    pub media_types: Vec<MediaType>,
    /// May be left unconnected.
    pub optional: bool,
    /// Takes several values.
    pub many: bool,
    /// Used when unconnected; for `json` and `text` only.
    pub default_value: Option<CanonicalJson>,
}

/// An output of an op, as its component describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputDefinition {
    /// The port's name.
    pub name: Name,
    /// What it gives.
    pub description: Option<String>,
    /// What its values mean.
    pub type_name: TypeName,
    /// How its bytes are laid out.
    pub media_type: MediaType,
    /// May be left out: a branch.
    pub optional: bool,
    /// Yielded any number of times, each with a mapping key.
    pub dynamic: bool,
}

/// A resource that an op asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceRequirement {
    /// The author's name for it; grants map it to a resource of the definitions file.
    pub key: Name,
    /// The interface it is used through.
    pub through: Interface,
    /// The op can do without.
    pub optional: bool,
}

/// A host interface through which resources are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Interface {
    /// `opyard:resources/object-store@0.1.0`
    #[serde(rename = "opyard:resources/object-store@0.1.0")]
    ObjectStore,
    /// `opyard:resources/key-value@0.1.0`
    #[serde(rename = "opyard:resources/key-value@0.1.0")]
    KeyValue,
    /// `opyard:resources/http-client@0.1.0`
    #[serde(rename = "opyard:resources/http-client@0.1.0")]
    HttpClient,
    /// `opyard:resources/model-registry@0.1.0`
    #[serde(rename = "opyard:resources/model-registry@0.1.0")]
    ModelRegistry,
    /// `opyard:resources/secrets@0.1.0`
    #[serde(rename = "opyard:resources/secrets@0.1.0")]
    Secrets,
}

impl Interface {
    /// Every interface that the contract knows.
    pub const ALL: [Self; 5] =
        [Self::ObjectStore, Self::KeyValue, Self::HttpClient, Self::ModelRegistry, Self::Secrets];

    /// The name of the interface with its package and version, as a component's import says it.
    #[must_use]
    pub const fn import(self) -> &'static str {
        match self {
            Self::ObjectStore => "opyard:resources/object-store@0.1.0",
            Self::KeyValue => "opyard:resources/key-value@0.1.0",
            Self::HttpClient => "opyard:resources/http-client@0.1.0",
            Self::ModelRegistry => "opyard:resources/model-registry@0.1.0",
            Self::Secrets => "opyard:resources/secrets@0.1.0",
        }
    }

    /// The interface of that import name.
    #[must_use]
    pub fn from_import(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|interface| interface.import() == name)
    }
}

/// How the wait grows from one retry to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// Always `delay`.
    Constant,
    /// `delay` times the number of the retry.
    Linear,
    /// `delay` times 2^n - 1 for the nth retry.
    Exponential,
}

/// How the wait is spread, so that many retries do not come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Not at all.
    None,
    /// Anywhere from zero to the wait.
    Full,
    /// The wait, plus or minus up to one `delay`.
    PlusMinus,
}

/// Whether and when a failed step is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Retries after the first try.
    pub max_retries: u32,
    /// The base of the wait.
    pub delay: Duration,
    /// How the wait grows.
    pub backoff: Backoff,
    /// How the wait is spread.
    pub jitter: Jitter,
}

/// An op, as its component describes it. Checked: names are names, and no two ports of a direction share one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpDefinition {
    /// The op's name within its component.
    pub name: Name,
    /// What it does.
    pub description: Option<String>,
    /// Its inputs, in order.
    pub inputs: Vec<InputDefinition>,
    /// Its outputs, in order.
    pub outputs: Vec<OutputDefinition>,
    /// All that it may be linked to beyond the plain interfaces.
    pub resources: Vec<ResourceRequirement>,
    /// Needs `execution`, and so knows which run it is in.
    pub uses_execution: bool,
    /// JSON Schema (2020-12) of its config; none = takes none.
    pub config_schema: Option<CanonicalJson>,
    /// The author's tags.
    pub tags: Vec<(String, String)>,
    /// The author's advice on retries.
    pub retry_policy: Option<RetryPolicy>,
    /// False: the same inputs and config may give other outputs.
    pub deterministic: bool,
}

/// Why an op is not hermetic: what its outputs could depend on beyond its inputs and config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leak {
    /// It lists a resource.
    Resource(Name),
    /// It is told which run it is in.
    Execution,
    /// It says itself that it is not deterministic.
    NotDeterministic,
}

impl std::fmt::Display for Leak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Resource(key) => write!(f, "lists the resource '{key}'"),
            Self::Execution => f.write_str("uses 'execution'"),
            Self::NotDeterministic => f.write_str("says that it is not deterministic"),
        }
    }
}

impl OpDefinition {
    /// What the op's outputs could depend on beyond its inputs and config; empty = it is hermetic.
    #[must_use]
    pub fn leaks(&self) -> Vec<Leak> {
        let mut leaks: Vec<_> = self.resources.iter().map(|resource| Leak::Resource(resource.key.clone())).collect();
        leaks.extend(self.uses_execution.then_some(Leak::Execution));
        leaks.extend((!self.deterministic).then_some(Leak::NotDeterministic));
        leaks
    }

    /// The host links it to nothing through which anything beyond its inputs and config could come in.
    #[must_use]
    pub fn is_hermetic(&self) -> bool {
        self.leaks().is_empty()
    }

    /// The input of that name.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&InputDefinition> {
        self.inputs.iter().find(|port| port.name.as_str() == name)
    }

    /// The output of that name.
    #[must_use]
    pub fn output(&self, name: &str) -> Option<&OutputDefinition> {
        self.outputs.iter().find(|port| port.name.as_str() == name)
    }
}

/// A sensor, hook, type checker or IO manager, as its component describes it. Checked: its name is a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtensionDefinition {
    /// Its name within its component.
    pub name: Name,
    /// What it does.
    pub description: Option<String>,
    /// All that it may be linked to beyond the plain interfaces.
    pub resources: Vec<ResourceRequirement>,
    /// JSON Schema (2020-12) of its config or parameters; none = takes none.
    pub config_schema: Option<CanonicalJson>,
}

/// What is known of a component: its identity, what its binary imports, and what it says of its ops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentDescription {
    /// SHA-256 of the file.
    pub digest: ComponentDigest,
    /// Bytes of the file.
    pub size: u64,
    /// Every interface that the binary imports, with version, sorted: the bound of what it could ever reach.
    pub imports: Vec<String>,
    /// Every interface that the binary exports, sorted.
    pub exports: Vec<String>,
    /// Its ops, in its own order.
    pub ops: Vec<OpDefinition>,
    /// Its type checkers, in its own order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub type_checkers: Vec<ExtensionDefinition>,
    /// Its IO managers, in its own order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub io_managers: Vec<ExtensionDefinition>,
    /// Its hooks, in its own order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<ExtensionDefinition>,
    /// The registry that it came from; none = a file. No word of the component's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl ComponentDescription {
    /// The op of that name.
    #[must_use]
    pub fn op(&self, name: &str) -> Option<&OpDefinition> {
        self.ops.iter().find(|op| op.name.as_str() == name)
    }

    /// The type checker of that name.
    #[must_use]
    pub fn type_checker(&self, name: &str) -> Option<&ExtensionDefinition> {
        self.type_checkers.iter().find(|checker| checker.name.as_str() == name)
    }

    /// The IO manager of that name.
    #[must_use]
    pub fn io_manager(&self, name: &str) -> Option<&ExtensionDefinition> {
        self.io_managers.iter().find(|manager| manager.name.as_str() == name)
    }

    /// The hook of that name.
    #[must_use]
    pub fn hook(&self, name: &str) -> Option<&ExtensionDefinition> {
        self.hooks.iter().find(|hook| hook.name.as_str() == name)
    }
}
