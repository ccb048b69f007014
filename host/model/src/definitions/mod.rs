//! The definitions file, `opyard.yaml`: read, checked in itself, and kept with the place of everything in it.
//!
//! [`Definitions`] exist only if the file is right in itself: shapes, names, references, cycles, quantities, schedules. What
//! needs to know the ops (ports, types, configs, grants) is checked when a [`Plan`](crate::plan::Plan) is built, and points
//! at the same text.

mod components;
mod flow;
mod hooks;
mod location;
mod names;
mod network;
pub mod op_test;
pub(crate) mod policy;
mod reading;
pub mod registries;
mod resources;
mod schedule;
pub(crate) mod sections;
mod setting;
pub(crate) mod steps;
pub(crate) mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::component::{ComponentDescription, RetryPolicy};
use crate::diagnostic::{Diagnostic, Diagnostics, Place, Source};
use crate::digest::{ComponentDigest, Digest};
use crate::error::Code;
use crate::hook::{Outcome, Webhook};
use crate::id::{Name, StepPath};
use crate::limits::LimitOverrides;
use crate::plan::{Access, BaseType, FailurePolicy, IoManagerSpec, ResourceSpec, RunPolicy, RunQueue, Trigger};
use crate::secret::SecretSpec;
use crate::supply::{OciReference, TrustedKey};

pub use setting::Setting;

/// What a definitions file says, checked in itself.
#[derive(Debug, Clone)]
pub struct Definitions {
    pub(crate) source: Source,
    pub(crate) components: Table<ComponentPlace>,
    pub(crate) types: Table<TypeDefinition>,
    pub(crate) graphs: Table<Graph>,
    pub(crate) jobs: Table<Job>,
    pub(crate) resources: Table<ResourceSpec>,
    pub(crate) io_managers: Table<IoManagerDefinition>,
    pub(crate) grants: Vec<GrantEntry>,
    pub(crate) environments: Table<Environment>,
    pub(crate) schedules: Table<Schedule>,
    pub(crate) secrets: Table<SecretSpec>,
    /// The slots of each pool.
    pub(crate) pools: Table<u32>,
    pub(crate) run_queue: RunQueue,
}

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentPlace {
    /// A file, by its absolute path.
    File(PathBuf),
    /// A registry.
    Oci(Box<OciComponent>),
}

/// A component of a registry, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciComponent {
    /// Its reference.
    pub reference: OciReference,
    /// The SHA-256 that its bytes have to have.
    pub digest: Option<ComponentDigest>,
    /// Who has to have signed it, beside those whom the operator demands: a name of `trust`, and its key.
    pub verify: Option<(Name, TrustedKey)>,
}

impl std::fmt::Display for ComponentPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Oci(component) => write!(f, "{}", component.reference),
        }
    }
}

/// When a job runs by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The job.
    pub job: Name,
    /// Five fields: minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// A name of the IANA time zone database.
    pub timezone: String,
    /// Where the job is named.
    pub(crate) job_place: Place,
}

impl Definitions {
    /// Reads a definitions file. Relative paths and `file:` addresses are taken from `folder`, which has to be absolute:
    /// this crate does no I/O and knows no current directory.
    ///
    /// # Errors
    /// All that is wrong with the file in itself, each with its place.
    ///
    /// # Limits
    /// 1 MiB, 32 levels, 250,000 keys and values, one document, no aliases.
    pub fn parse(source: &Source, folder: &Path) -> Result<Self, Diagnostics> {
        sections::parse(source, folder)
    }

    /// The text that they were read from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The components and where they come from, in the order of the file.
    pub fn components(&self) -> impl Iterator<Item = (&Name, &ComponentPlace)> {
        self.components.iter().map(|entry| (&entry.name, &entry.value))
    }

    /// The jobs and their descriptions, in the order of the file.
    pub fn jobs(&self) -> impl Iterator<Item = (&Name, Option<&str>)> {
        self.jobs.iter().map(|entry| (&entry.name, entry.value.description.as_deref()))
    }

    /// The components that the steps of a job use, through graphs and IO managers too, in any environment, and those of its
    /// hooks. Empty for a job that is not there.
    #[must_use]
    pub fn components_of(&self, job: &str) -> BTreeSet<Name> {
        let Some(job) = self.jobs.get(job) else { return BTreeSet::new() };
        let mut components = BTreeSet::new();
        let mut managers = BTreeSet::from([self.default_manager()]);
        managers.extend(job.value.io_manager.as_ref().map(|name| &name.value));
        let mut graphs = BTreeSet::new();
        let of_hooks = |hooks: &[HookDefinition], components: &mut BTreeSet<Name>| {
            components.extend(hooks.iter().filter_map(|hook| match &hook.body {
                HookBody::Webhook(_) => None,
                HookBody::Component { component, .. } => Some(component.clone()),
            }));
        };
        of_hooks(&job.value.hooks, &mut components);
        let mut open: Vec<&Flow> = vec![&job.value.flow];
        while let Some(flow) = open.pop() {
            for step in flow.steps.iter() {
                managers.extend(step.value.managers().map(|name| &name.value));
                of_hooks(&step.value.hooks, &mut components);
                match &step.value.body {
                    Body::Op { component, .. } => {
                        components.insert(component.clone());
                    }
                    Body::Graph(name) => {
                        if graphs.insert(name) {
                            open.extend(self.graphs.get(name.as_str()).map(|graph| &graph.value.flow));
                        }
                    }
                }
            }
        }
        let everywhere =
            std::iter::once(&self.io_managers).chain(self.environments.iter().map(|entry| &entry.value.io_managers));
        let used = everywhere.flat_map(|table| managers.iter().filter_map(|name| table.get(name.as_str())));
        components.extend(used.filter_map(|entry| match &entry.value {
            IoManagerDefinition::Component { component, .. } => Some(component.clone()),
            IoManagerDefinition::BuiltIn(_) => None,
        }));
        components
    }

    /// The name of the IO manager for which nothing is said: `default`.
    pub(crate) fn default_manager(&self) -> &Name {
        &self.io_managers.get("default").expect("reading a file defines it").name
    }

    /// The components whose type checkers check the types of `described` ops' ports, and those that steps give to them.
    #[must_use]
    pub fn components_of_types<'a>(
        &'a self,
        described: impl Iterator<Item = &'a ComponentDescription>,
    ) -> BTreeSet<Name> {
        let checkers =
            self.types_in_use(described).filter_map(|name| match &self.types.get(name.as_str())?.value.check {
                Some(CheckDefinition::Checker { component, .. }) => Some(component.clone()),
                Some(CheckDefinition::Schema(_)) | None => None,
            });
        checkers.collect()
    }

    /// The types of the ports of `described` ops, and those that steps give to outputs. With repetitions.
    pub(crate) fn types_in_use<'a>(
        &'a self,
        described: impl Iterator<Item = &'a ComponentDescription>,
    ) -> impl Iterator<Item = &'a Name> {
        let ops = described.flat_map(|component| &component.ops);
        let types = ops.flat_map(|op| {
            let inputs = op.inputs.iter().map(|port| &port.type_name);
            inputs.chain(op.outputs.iter().map(|port| &port.type_name))
        });
        let flows =
            self.jobs.iter().map(|job| &job.value.flow).chain(self.graphs.iter().map(|graph| &graph.value.flow));
        let chosen = flows.flat_map(|flow| flow.steps.iter()).flat_map(|step| &step.value.types);
        types.chain(chosen.map(|(_, name)| &name.value))
    }

    /// The environments, in the order of the file.
    pub fn environments(&self) -> impl Iterator<Item = &Name> {
        self.environments.iter().map(|entry| &entry.name)
    }

    /// The schedules, in the order of the file.
    pub fn schedules(&self) -> impl Iterator<Item = (&Name, &Schedule)> {
        self.schedules.iter().map(|entry| (&entry.name, &entry.value))
    }

    /// Says at the place of component `name` what is wrong with its file; for whoever reads it and asks it to describe itself.
    #[must_use]
    pub fn component_problem(&self, name: &str, code: Code, message: &str) -> Diagnostic {
        let diagnostic = Diagnostic::error(code, message);
        match self.components.get(name) {
            Some(entry) => diagnostic.at(&entry.place, entry.value.to_string()),
            None => diagnostic,
        }
    }
}

impl Definitions {
    /// Whether it names any secret.
    #[must_use]
    pub fn has_secrets(&self) -> bool {
        self.secrets.iter().next().is_some()
    }

    /// Says at the place of a secret what is wrong with it; for whoever looks whether it is there.
    #[must_use]
    pub fn secret_warning(&self, name: &str, message: &str) -> Diagnostic {
        let diagnostic = Diagnostic::warning(Code::SecretMissing, message);
        let diagnostic = diagnostic.help("a step that needs it will fail");
        match self.secrets.get(name) {
            Some(entry) => diagnostic.at(&entry.place, entry.value.to_string()),
            None => diagnostic,
        }
    }
}

/// The JSON Schema (2020-12) of the definitions file, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    serde_json::from_str(include_str!("schema.json")).expect("the embedded schema is JSON: a test reads it")
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// An entry of a table.
#[derive(Debug, Clone)]
pub(crate) struct Named<T> {
    pub(crate) name: Name,
    /// The place of the name.
    pub(crate) place: Place,
    pub(crate) value: T,
}

/// Entries by name, in the order of the file.
#[derive(Debug, Clone)]
pub(crate) struct Table<T> {
    entries: Vec<Named<T>>,
    index: BTreeMap<Name, usize>,
    /// Names whose entries could not be read: what refers to them is not wrong because of that.
    broken: BTreeSet<String>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), index: BTreeMap::new(), broken: BTreeSet::new() }
    }
}

impl<T> Table<T> {
    pub(crate) fn insert(&mut self, entry: Named<T>) {
        self.index.insert(entry.name.clone(), self.entries.len());
        self.entries.push(entry);
    }

    pub(crate) fn insert_broken(&mut self, name: &str) {
        self.broken.insert(name.to_owned());
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Named<T>> {
        self.index.get(name).map(|index| &self.entries[*index])
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        self.index.contains_key(name) || self.broken.contains(name)
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Named<T>> {
        self.entries.iter()
    }

    pub(crate) fn at(&self, index: usize) -> &Named<T> {
        &self.entries[index]
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str()).chain(self.broken.iter().map(String::as_str))
    }
}

/// Steps that are wired to each other: what jobs and graphs are made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flow {
    pub(crate) steps: Table<StepDefinition>,
    /// Indices of `steps`, each after those that it needs.
    pub(crate) order: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct Graph {
    /// Whether each input is optional.
    pub(crate) inputs: Table<bool>,
    pub(crate) flow: Flow,
    pub(crate) outputs: Table<PortRef>,
}

#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) description: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) flow: Flow,
    pub(crate) policy: JobPolicy,
    /// What keeps outputs of steps that say nothing of it.
    pub(crate) io_manager: Option<Located<Name>>,
    pub(crate) retry: Option<Located<RetryPolicy>>,
    pub(crate) limits: GivenLimits,
    pub(crate) hooks: Vec<HookDefinition>,
}

/// What is written of a job as a whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobPolicy {
    pub(crate) on_failure: FailurePolicy,
    pub(crate) run: RunPolicy,
    /// The steps that its conditions name, and where.
    pub(crate) steps: Vec<Located<StepPath>>,
    /// Where limits by tag are given.
    pub(crate) tag_limits: Option<Place>,
}

/// A type of the definitions: what it stands on, and what its values must be beyond that.
#[derive(Debug, Clone)]
pub(crate) struct TypeDefinition {
    pub(crate) base: BaseType,
    pub(crate) check: Option<CheckDefinition>,
}

/// What is written of how values of a type are checked.
#[derive(Debug, Clone)]
pub(crate) enum CheckDefinition {
    /// By a JSON Schema.
    Schema(tree::Node),
    /// By a type checker of a component.
    Checker {
        component: Name,
        checker: Name,
        /// Where the two are named.
        place: Place,
        /// All but `with`.
        params: tree::Node,
    },
}

/// What is written of an IO manager.
#[derive(Debug, Clone)]
pub(crate) enum IoManagerDefinition {
    /// One that is built in.
    BuiltIn(IoManagerSpec),
    /// One that a component ships.
    Component {
        component: Name,
        manager: Name,
        /// Where the two are named.
        place: Place,
        config: Option<tree::Node>,
    },
}

/// A hook as it is written: what it is told of, and what it does.
#[derive(Debug, Clone)]
pub(crate) struct HookDefinition {
    pub(crate) on: Outcome,
    pub(crate) body: HookBody,
}

#[derive(Debug, Clone)]
pub(crate) enum HookBody {
    Webhook(Box<Webhook>),
    Component {
        component: Name,
        hook: Name,
        /// Where the two are named.
        place: Place,
        config: Option<tree::Node>,
    },
}

/// What a step runs.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Op { component: Name, op: String },
    Graph(Name),
}

#[derive(Debug, Clone)]
pub(crate) struct StepDefinition {
    pub(crate) body: Body,
    /// Where the body is named.
    pub(crate) body_place: Place,
    pub(crate) inputs: Vec<InputDefinition>,
    pub(crate) config: Option<tree::Node>,
    pub(crate) retry: Option<Located<RetryPolicy>>,
    pub(crate) limits: GivenLimits,
    pub(crate) io_manager: IoManagerChoice,
    /// What outputs are, more exactly than their op says.
    pub(crate) types: Vec<(Located<String>, Located<Name>)>,
    pub(crate) after: Vec<Located<Name>>,
    pub(crate) when: Option<Located<Trigger>>,
    pub(crate) priority: i32,
    pub(crate) pool: Option<Located<Name>>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) memo: Option<Located<MemoChoice>>,
    pub(crate) hooks: Vec<HookDefinition>,
}

#[derive(Debug, Clone)]
pub(crate) struct InputDefinition {
    pub(crate) port: Located<String>,
    pub(crate) feed: Located<Feed>,
}

/// What is written for an input.
#[derive(Debug, Clone)]
pub(crate) enum Feed {
    Port(PortRef),
    FanIn(Vec<PortRef>),
    Value(tree::Node),
    Artifact(Digest),
    Collect(PortRef, Levels),
    Latest(Box<LatestRef>),
    /// Loaded from outside by an IO manager.
    Load {
        manager: Located<Name>,
        locator: tree::Node,
    },
}

/// `{ latest: { job, step, output } }`
#[derive(Debug, Clone)]
pub(crate) struct LatestRef {
    pub(crate) job: Located<Name>,
    pub(crate) step: Located<StepPath>,
    /// The step's only output, if none is named.
    pub(crate) output: Option<Located<Name>>,
}

/// How much of the mapping a `collect` undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Levels {
    /// The values of each item around stay apart.
    Innermost,
    /// One list of everything.
    All,
}

/// A reference to something that yields values.
#[derive(Debug, Clone)]
pub(crate) struct PortRef {
    pub(crate) place: Place,
    pub(crate) target: Target,
}

#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// `$name`
    GraphInput(Name),
    /// `step` or `step.output`
    Step { step: Name, output: Option<String> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemoChoice {
    Off,
    For(Duration),
}

#[derive(Debug, Clone, Default)]
pub(crate) enum IoManagerChoice {
    #[default]
    Default,
    All(Located<Name>),
    PerOutput(Vec<(Located<String>, Located<Name>)>),
}

impl StepDefinition {
    /// The IO managers that it names, for its outputs and its inputs.
    pub(crate) fn managers(&self) -> impl Iterator<Item = &Located<Name>> {
        let (all, some) = match &self.io_manager {
            IoManagerChoice::Default => (None, &[][..]),
            IoManagerChoice::All(name) => (Some(name), &[][..]),
            IoManagerChoice::PerOutput(choices) => (None, choices.as_slice()),
        };
        let inputs = self.inputs.iter().filter_map(|input| match &input.feed.value {
            Feed::Load { manager, .. } => Some(manager),
            _ => None,
        });
        all.into_iter().chain(some.iter().map(|(_, name)| name)).chain(inputs)
    }
}

/// Limits that were given, and where.
#[derive(Debug, Clone, Default)]
pub(crate) struct GivenLimits {
    pub(crate) overrides: LimitOverrides,
    pub(crate) places: Vec<(&'static str, Place)>,
}

/// What an op, or all ops of a component, may use.
#[derive(Debug, Clone)]
pub(crate) struct GrantEntry {
    pub(crate) place: Place,
    pub(crate) component: Name,
    pub(crate) op: Option<String>,
    pub(crate) resources: Vec<GrantedKey>,
    /// Secrets whose bytes may be seen: in place of resources, secrets are named.
    pub(crate) reveal: Vec<GrantedKey>,
    pub(crate) limits: GivenLimits,
}

#[derive(Debug, Clone)]
pub(crate) struct GrantedKey {
    /// The op's key.
    pub(crate) key: Located<String>,
    pub(crate) resource: Located<Name>,
    pub(crate) access: Option<Located<Access>>,
}

/// What is other in an environment: whole specs, overrides already merged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) resources: Table<ResourceSpec>,
    pub(crate) io_managers: Table<IoManagerDefinition>,
}
