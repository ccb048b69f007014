//! The checked DAG of one job: what can be run.
//!
//! A [`Plan`] exists only if every check passed: each reference leads somewhere, types fit, configs obey their schemas,
//! every resource is granted, and there is no cycle. It is plain data (it is stored with each run, so that an old run can
//! be read after its definitions changed); steps stand in topological order.

mod bind;
mod build;
pub(crate) mod config;
mod driver;
mod flatten;
mod hooks;
mod latest;
mod managers;
mod narrow;
mod outline;
mod policy;
mod types;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::component::{Interface, RetryPolicy, TypeName};
use crate::digest::ComponentDigest;
use crate::hook::{Hook, HookIx, Outcome};
use crate::http::HttpClientSpec;
use crate::id::{MediaType, Name, StepPath};
use crate::json::CanonicalJson;
use crate::limits::Limits;
use crate::location::Location;
use crate::secret::SecretSpec;
use crate::supply::Origin;
use crate::value::ValueRef;

pub use build::{Catalog, Launch, MAX_STEPS, Planning, Stored, WithoutRuns};
pub use driver::{KeyValueDriver, ModelRegistryDriver};
pub use latest::{LatestOutput, LatestWanted};
pub use managers::{ComponentManager, IoManagerSpec, OutsideValue};
pub use narrow::{Earlier, EarlierRun, ReusedStep, Scope};
pub use outline::{ConfigurableStep, config_schema, configurable};
pub use policy::{
    CancelRule, FailurePolicy, MAX_CANCEL_RULES, MAX_GROUPS, MAX_MESSAGE, MAX_SIDE_BY_SIDE, MAX_TAG_LIMITS, PRIORITIES,
    RunPolicy, RunQueue, TagLimit, TagValues,
};
pub use types::TypeCheck;

/// The index of a step in its plan. Steps are in topological order: a step depends on lower indices only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepIx(pub u32);

impl StepIx {
    /// As an index into slices.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// An output port of a step of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OutputSlot {
    /// The producing step.
    pub step: StepIx,
    /// The index of the port in [`Step::outputs`].
    pub port: u16,
}

/// Where the values of an input come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Source {
    /// Nowhere: an optional input that is not connected.
    Unconnected,
    /// A value that is known before the run: a literal, a default, an artifact named by digest.
    Given {
        /// The value. Apart, so that inputs without one are small: a plan has many.
        value: Box<ValueRef>,
        /// Its bytes, when they are in the definitions and have to be stored before the run starts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// The run that yielded it, when it is the latest of its kind.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        latest: Option<Box<LatestOutput>>,
    },
    /// Outside: an IO manager loads it when the step starts.
    Outside {
        /// What, and from where.
        value: Box<OutsideValue>,
    },
    /// An output of a step that is not mapped.
    Output {
        /// The output.
        slot: OutputSlot,
    },
    /// An item of a dynamic output: of one that this step is mapped over, or of another port of the same step.
    Item {
        /// The dynamic output.
        slot: OutputSlot,
    },
    /// The output, for this step's item or one that it is below, of a step mapped over the same dynamic outputs.
    SameKey {
        /// The output.
        slot: OutputSlot,
    },
    /// Several outputs of steps that are not mapped, in order.
    FanIn {
        /// The outputs.
        slots: Vec<OutputSlot>,
    },
    /// All values, in key order, of a dynamic output, or of an output of a mapped step.
    Collect {
        /// The output.
        slot: OutputSlot,
        /// How deep the item is below which they are: 0 = all that there are.
        #[serde(default)]
        depth: u8,
    },
}

/// An input of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepInput {
    /// The port.
    pub port: Name,
    /// May be absent.
    pub optional: bool,
    /// Takes several values.
    pub many: bool,
    /// Where its values come from.
    pub source: Source,
}

/// An output of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepOutput {
    /// The port.
    pub port: Name,
    /// What its values mean.
    pub type_name: TypeName,
    /// The base of the type: `bytes`, `text`, `json`, `table` or `nothing`.
    pub base: BaseType,
    /// How its bytes are laid out.
    pub media_type: MediaType,
    /// May be left out: a branch.
    pub optional: bool,
    /// Yields items with mapping keys.
    pub dynamic: bool,
    /// The IO manager that keeps it, a name of [`Plan::io_managers`].
    pub io_manager: Name,
}

/// The types that the contract knows; named types of the definitions stand on one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseType {
    /// Any bytes.
    Bytes,
    /// UTF-8 text.
    Text,
    /// JSON (RFC 8259), nested at most 64 deep.
    Json,
    /// Rows and columns in one of several media types.
    Table,
    /// No bytes: order without data.
    Nothing,
}

impl BaseType {
    /// Every base type.
    pub const ALL: [Self; 5] = [Self::Bytes, Self::Text, Self::Json, Self::Table, Self::Nothing];

    /// Its name in contracts and definitions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Text => "text",
            Self::Json => "json",
            Self::Table => "table",
            Self::Nothing => "nothing",
        }
    }

    /// The base type of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|base| base.name() == name)
    }
}

/// What an op may do with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Look, but not change.
    Read,
    /// Look and change.
    ReadWrite,
}

/// A resource of the definitions, in the environment of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ResourceSpec {
    /// Objects by path.
    ObjectStore {
        /// Where.
        url: Location,
        /// The most that any grant of it can give.
        access: Access,
        /// What the operator says of its content: the same version, the same content. Makes steps that use it memoisable.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
    /// Small values by name.
    KeyValue {
        /// What keeps them.
        driver: KeyValueDriver,
        /// The most that any grant of it can give.
        access: Access,
        /// As for an object store.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
    /// Models by name and version.
    ModelRegistry {
        /// What keeps them.
        driver: ModelRegistryDriver,
        /// The most that any grant of it can give.
        access: Access,
        /// As for an object store.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
    /// HTTP, to some origins.
    HttpClient(Box<HttpClientSpec>),
    /// A secret whose bytes an op may see. Not a resource of the definitions: it is made of `secrets` and of a `reveal`
    /// grant.
    Secret {
        /// Where it is read.
        from: SecretSpec,
    },
}

impl ResourceSpec {
    /// Its kind, as definitions say it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ObjectStore { .. } => "object_store",
            Self::KeyValue { .. } => "key_value",
            Self::ModelRegistry { .. } => "model_registry",
            Self::HttpClient(_) => "http_client",
            Self::Secret { .. } => "secret",
        }
    }

    /// The interface that ops use it through.
    #[must_use]
    pub const fn interface(&self) -> Interface {
        match self {
            Self::ObjectStore { .. } => Interface::ObjectStore,
            Self::KeyValue { .. } => Interface::KeyValue,
            Self::ModelRegistry { .. } => Interface::ModelRegistry,
            Self::HttpClient(_) => Interface::HttpClient,
            Self::Secret { .. } => Interface::Secrets,
        }
    }

    /// The most that any grant of it can give.
    #[must_use]
    pub const fn access(&self) -> Access {
        match self {
            Self::ObjectStore { access, .. } | Self::KeyValue { access, .. } | Self::ModelRegistry { access, .. } => {
                *access
            }
            Self::HttpClient(spec) => spec.access,
            Self::Secret { .. } => Access::Read,
        }
    }

    /// The declared version of its content.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        match self {
            Self::ObjectStore { version, .. }
            | Self::KeyValue { version, .. }
            | Self::ModelRegistry { version, .. } => version.as_deref(),
            Self::HttpClient(spec) => spec.version.as_deref(),
            Self::Secret { .. } => None,
        }
    }
}

/// A resource that one step may use, under the name that the op's author gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The op's key.
    pub key: Name,
    /// The interface that the op uses it through.
    pub through: Interface,
    /// The resource, a name of [`Plan::resources`], or for [`Interface::Secrets`] of [`Plan::secrets`]; none when the op
    /// can do without it and was not granted it.
    pub resource: Option<Name>,
    /// What the op may do.
    pub access: Access,
}

/// Whether a step's results are kept and used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memo {
    /// Never.
    Off,
    /// For good: the step depends on nothing outside its key.
    Sound,
    /// For so long: the step can reach something outside its key, and its author accepts results of that age.
    For(Duration),
}

/// What has to have become of the steps before a step, so that it runs. Asked once all of them have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// None failed, and all that it requires is there.
    #[default]
    AllSuccess,
    /// Whatever it is.
    AllDone,
    /// Something of all that it could be given is there; or it needs nothing.
    AnySuccess,
    /// None failed; what was left out is no reason not to run.
    NoneFailed,
}

impl Trigger {
    /// Every rule, and its name in definitions.
    pub const ALL: [(&'static str, Self); 4] = [
        ("all_success", Self::AllSuccess),
        ("all_done", Self::AllDone),
        ("any_success", Self::AnySuccess),
        ("none_failed", Self::NoneFailed),
    ];

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A step of the plan: one op, wired.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Where it stands.
    pub path: StepPath,
    /// The component, by the name in the definitions.
    pub component_name: Name,
    /// The component, by its bytes.
    pub component: ComponentDigest,
    /// The op.
    pub op: Name,
    /// The config: checked, defaults filled in; the very text that the guest is given.
    pub config: CanonicalJson,
    /// Its inputs, in the op's order.
    pub inputs: Vec<StepInput>,
    /// Its outputs, in the op's order; most steps of an op have the same.
    pub outputs: Arc<[StepOutput]>,
    /// Steps that must succeed before, without data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<StepIx>,
    /// What has to have become of what it builds on.
    #[serde(default, skip_serializing_if = "Trigger::is_default")]
    pub when: Trigger,
    /// The dynamic output that this step is mapped over: it runs once per item, of each item that the step which yields
    /// them is mapped over itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapped_over: Option<OutputSlot>,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// Its limits; most steps have the same.
    pub limits: Arc<Limits>,
    /// Whether and when it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// Linked to nothing through which anything beyond inputs and config could come in.
    pub hermetic: bool,
    /// The op is told which run it is in.
    pub uses_execution: bool,
    /// Whether its results are used again.
    pub memo: Memo,
    /// Hooks that are told of it, beside those of the whole job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookIx>,
    /// Of the steps that could start, those with the highest go first. In [`PRIORITIES`].
    #[serde(default, skip_serializing_if = "policy::is_zero")]
    pub priority: i32,
    /// The pool of which it holds a slot while it runs, a name of [`Plan::pools`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Step {
    /// All of its outputs are on the `artifacts` manager of `plan`.
    #[must_use]
    pub fn keeps_artifacts_only(&self, plan: &Plan) -> bool {
        self.outputs
            .iter()
            .all(|output| matches!(plan.io_managers.get(&output.io_manager), Some(IoManagerSpec::Artifacts) | None))
    }

    /// What its inputs are loaded from outside, in their order.
    pub fn outside(&self) -> impl Iterator<Item = &OutsideValue> {
        self.inputs.iter().filter_map(|input| match &input.source {
            Source::Outside { value } => Some(&**value),
            _ => None,
        })
    }

    /// The steps that it needs: for its inputs, for its order, for the items that it is mapped over. With repetitions.
    pub fn dependencies(&self) -> impl Iterator<Item = StepIx> + '_ {
        let over = self.mapped_over.iter().map(|slot| slot.step);
        self.sources().map(|slot| slot.step).chain(self.after.iter().copied()).chain(over)
    }

    /// The output slots that its inputs read, in order.
    pub fn sources(&self) -> impl Iterator<Item = OutputSlot> + '_ {
        self.inputs.iter().flat_map(|input| {
            match &input.source {
                Source::Unconnected | Source::Given { .. } | Source::Outside { .. } => &[],
                Source::Output { slot }
                | Source::Item { slot }
                | Source::SameKey { slot }
                | Source::Collect { slot, .. } => std::slice::from_ref(slot),
                Source::FanIn { slots } => slots.as_slice(),
            }
            .iter()
            .copied()
        })
    }
}

/// What can be run: the checked, wired, bound steps of one job in one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The job.
    pub job: Name,
    /// The environment, if one was chosen.
    pub environment: Option<Name>,
    /// Tags of every run of it.
    pub tags: BTreeMap<String, String>,
    /// The steps, in topological order.
    #[serde(deserialize_with = "build::read_steps")]
    pub steps: Vec<Step>,
    /// The resources that steps may use.
    pub resources: BTreeMap<Name, ResourceSpec>,
    /// The secrets whose bytes steps may see: where they are, never what they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<Name, SecretSpec>,
    /// The IO managers that keep outputs, and that load inputs from outside.
    pub io_managers: BTreeMap<Name, IoManagerSpec>,
    /// How the values of types that have a check are checked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<TypeName, TypeCheck>,
    /// Who is told what becomes of steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// Those of `hooks` that are told of every step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub job_hooks: Vec<HookIx>,
    /// What happens when a step fails.
    pub on_failure: FailurePolicy,
    /// What holds for the run as a whole.
    #[serde(default, skip_serializing_if = "RunPolicy::is_default")]
    pub policy: RunPolicy,
    /// The slots of the pools that steps are in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<Name, u32>,
    /// What runs side by side with it.
    #[serde(default, skip_serializing_if = "RunQueue::is_default")]
    pub run_queue: RunQueue,
    /// The settings of the launch, in order: what was laid over the definitions' configs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<RecordedSetting>,
    /// Where the components came from that are not files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<ComponentDigest, Origin>,
    /// Results that are taken from an earlier run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reuse: Vec<ReusedStep>,
}

/// A piece of config that was laid over a step's at launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedSetting {
    /// The step.
    pub step: StepPath,
    /// The config.
    pub config: CanonicalJson,
}

/// Most dynamic outputs, one in the items of another, that a step may be mapped over.
pub const MAX_DEPTH: usize = 8;

/// Largest plan, as JSON: 256 MiB.
pub const MAX_PLAN: u64 = 256 << 20;

impl Plan {
    /// The step at `ix`.
    ///
    /// # Panics
    /// When `ix` is of another plan.
    #[must_use]
    pub fn step(&self, ix: StepIx) -> &Step {
        &self.steps[ix.index()]
    }

    /// The dynamic outputs that a step is mapped over, innermost first.
    pub fn levels(&self, ix: StepIx) -> impl Iterator<Item = OutputSlot> + '_ {
        std::iter::successors(self.step(ix).mapped_over, |slot| self.step(slot.step).mapped_over)
    }

    /// How many dynamic outputs a step is mapped over: how many keys its items have.
    #[must_use]
    pub fn depth(&self, ix: StepIx) -> usize {
        self.levels(ix).count()
    }

    /// The indices of all steps, in topological order.
    pub fn indices(&self) -> impl Iterator<Item = StepIx> + use<> {
        (0..u32::try_from(self.steps.len()).unwrap_or(u32::MAX)).map(StepIx)
    }

    /// The output at `slot`.
    ///
    /// # Panics
    /// When `slot` is of another plan.
    #[must_use]
    pub fn output(&self, slot: OutputSlot) -> &StepOutput {
        &self.step(slot.step).outputs[usize::from(slot.port)]
    }

    /// The hook at `ix`; none when `ix` is of another plan.
    #[must_use]
    pub fn hook(&self, ix: HookIx) -> Option<&Hook> {
        self.hooks.get(ix.0 as usize)
    }

    /// The hooks that are told when a step ends so: those of the job, then its own.
    pub fn hooks_of(&self, step: StepIx, outcome: Outcome) -> impl Iterator<Item = HookIx> + '_ {
        let all = self.job_hooks.iter().chain(&self.step(step).hooks).copied();
        all.filter(move |ix| self.hook(*ix).is_some_and(|hook| hook.on == outcome))
    }

    /// The secrets that its steps and hooks need, by name, with where each is read: those of resources, those of hooks, and
    /// those that are revealed.
    #[must_use]
    pub fn secrets_needed(&self) -> BTreeMap<&Name, &SecretSpec> {
        let clients = self.resources.values().filter_map(ResourceSpec::client);
        let kept = self.io_managers.values().filter_map(IoManagerSpec::location);
        let locations = self.resources.values().filter_map(ResourceSpec::location).chain(kept);
        let of_hooks = self.hooks.iter().flat_map(Hook::secrets);
        let used = clients.flat_map(HttpClientSpec::secrets).chain(locations.flat_map(Location::secrets));
        used.chain(of_hooks).chain(&self.secrets).collect()
    }

    /// What a grant gives; none when it gives nothing.
    #[must_use]
    pub fn granted(&self, grant: &Grant) -> Option<ResourceSpec> {
        let name = grant.resource.as_ref()?;
        match grant.through {
            Interface::Secrets => self.secrets.get(name).map(|from| ResourceSpec::Secret { from: from.clone() }),
            _ => self.resources.get(name).cloned(),
        }
    }

    /// Finds a step by its path.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<StepIx> {
        self.indices().find(|ix| self.step(*ix).path.as_str() == path)
    }
}
