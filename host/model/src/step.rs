//! The one door between scheduling and sandbox: what is asked of a component, and what came of it.
//!
//! Request and outcome are plain serialisable data, never a handle or a path: the executor may be on another machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::component::{ComponentDescription, Interface, TypeName};
use crate::digest::{ComponentDigest, Digest};
use crate::error::Failure;
use crate::event::{
    AssetEvent, Attempt, Expectation, LoadedValue, LogLine, MetricPoint, OpenedResource, Progress, RunEvent,
    TypeChecked,
};
use crate::hook::{HookAction, Occasion};
use crate::id::{Name, RunId, StepKey, TenantId};
use crate::json::CanonicalJson;
use crate::limits::{Limits, Usage};
use crate::metadata::{MetadataEntry, MetadataValue};
use crate::plan::{Access, IoManagerSpec, OutsideValue, ResourceSpec, StepOutput, TypeCheck};
use crate::value::{ValueRef, Yielded};

/// Executes calls of components. Implemented by the sandbox; called by the engine and, for `Describe`, by the server.
///
/// # Contract
/// Failing is an outcome, not an error: this returns in every case, within the wall limit of the request and a little.
///
/// # Cancel safety
/// Dropping the future cancels: the guest is interrupted, and nothing of it becomes visible.
#[async_trait]
pub trait StepExecutor: Send + Sync {
    /// Executes one call. What happens while it runs goes to `said`, in order and bounded by the limits of the request.
    async fn execute(&self, request: StepRequest, said: &dyn Said) -> StepOutcome;
}

/// Takes what a step says while it runs.
pub trait Said: Send + Sync {
    /// Takes one saying. Must not block.
    fn say(&self, saying: Saying);

    /// Ready when there is room for more; else whoever speaks pauses until `context` is woken. So what is said and not taken
    /// yet stays little, however fast a guest is. What is said all the same is taken.
    fn poll_room(&self, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// One thing that a step says while it runs. Guest-controlled texts are sanitised and bounded before they get here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Saying {
    /// A log line.
    Log(LogLine),
    /// How far it is.
    Progress(Progress),
    /// One point of a series.
    Metric(MetricPoint),
    /// An asset was made.
    Materialized(AssetEvent),
    /// An asset was looked at.
    Observed(AssetEvent),
    /// Something was expected, and was so or not.
    Expected(Expectation),
    /// An item of a dynamic output is committed, stored and handled. Provisional until the step succeeds.
    ItemCommitted(Yielded),
    /// An IO manager other than `artifacts` took an output.
    Handled {
        /// The output port.
        port: Name,
        /// The IO manager.
        manager: Name,
        /// Where it keeps the value.
        locator: CanonicalJson,
        /// What it adds.
        metadata: Vec<MetadataEntry>,
    },
    /// An IO manager loaded the value of an input.
    Loaded(LoadedValue),
    /// A resource that the op was granted is opened: said once a key and attempt, however often the op does it again.
    ResourceInit {
        /// The resource.
        resource: OpenedResource,
        /// How far it is.
        stage: InitStage,
    },
    /// A value was checked against its type.
    TypeChecked {
        /// It is what its type says.
        success: bool,
        /// The check.
        check: TypeChecked,
    },
    /// The step was told of a limit, or went beyond one that drops what is too much.
    LimitReached {
        /// The limit, a field of [`Limits`].
        limit: String,
        /// What happened to what was too much.
        detail: String,
    },
    /// The op asked for a resource that it was not granted.
    GrantDenied {
        /// The key that it asked for.
        key: String,
    },
    /// The sandbox has something to tell the operator of what the op did with a resource: a secret that it was shown, a
    /// request that the rules of a resource refuse. Becomes an `engine_event` that names the step.
    Audited {
        /// What. Never holds a byte of a secret; guest-controlled parts are sanitised and bounded.
        message: String,
        /// More about it.
        metadata: Vec<MetadataEntry>,
    },
}

impl Saying {
    /// The event that tells of it.
    #[must_use]
    pub fn into_event(self, of: Attempt) -> RunEvent {
        match self {
            Self::Log(line) => RunEvent::Log { of, line },
            Self::Progress(progress) => RunEvent::Progress { of, progress },
            Self::Metric(point) => RunEvent::Metric { of, point, from_memo: false },
            Self::Materialized(asset) => RunEvent::AssetMaterialization { of, asset, from_memo: false },
            Self::Observed(asset) => RunEvent::AssetObservation { of, asset, from_memo: false },
            Self::Expected(expectation) => RunEvent::StepExpectationResult { of, expectation, from_memo: false },
            Self::ItemCommitted(output) => RunEvent::StepOutput { of, output },
            Self::Handled { port, manager, locator, metadata } => {
                RunEvent::HandledOutput { of, port, manager, locator, metadata }
            }
            Self::Loaded(input) => RunEvent::LoadedInput { of, input },
            Self::ResourceInit { resource, stage } => match stage {
                InitStage::Started => RunEvent::ResourceInitStarted { of, resource },
                InitStage::Success => RunEvent::ResourceInitSuccess { of, resource },
                InitStage::Failure(failure) => RunEvent::ResourceInitFailure { of, resource, failure },
            },
            Self::TypeChecked { success: true, check } => RunEvent::TypeCheckSuccess { of, check },
            Self::TypeChecked { success: false, check } => RunEvent::TypeCheckFailure { of, check },
            Self::LimitReached { limit, detail } => RunEvent::LimitReached { of, limit, detail },
            Self::GrantDenied { key } => RunEvent::GrantDenied { of, key },
            Self::Audited { message, mut metadata } => {
                let text = |label: &str, text: String| MetadataEntry {
                    label: label.to_owned(),
                    value: MetadataValue::Text(text),
                };
                metadata.insert(0, text("step", of.step.to_string()));
                metadata.insert(1, text("attempt", of.attempt.to_string()));
                RunEvent::EngineEvent { message, metadata }
            }
        }
    }
}

/// How far the opening of a resource is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitStage {
    /// It begins.
    Started,
    /// The resource can be used.
    Success,
    /// It cannot.
    Failure(Failure),
}

/// What one step may use of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceRight {
    /// The op's key.
    pub key: Name,
    /// The interface that it is used through.
    pub through: Interface,
    /// The resource and its access; none answers `denied`.
    pub granted: Option<GrantedResource>,
}

/// A resource, and what may be done with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedResource {
    /// Its name in the definitions.
    pub name: Name,
    /// What it is.
    pub spec: ResourceSpec,
    /// What may be done: never more than the spec's own access.
    pub access: Access,
}

/// The values on one input port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// None: optional, and unconnected or skipped.
    Absent,
    /// One value.
    One(ValueRef),
    /// Several, in order.
    Many(Vec<ValueRef>),
    /// One, whose only copy is outside. The executor loads it before the op starts.
    Outside {
        /// What, and from where.
        value: Box<OutsideValue>,
        /// The input takes several values.
        many: bool,
        /// What its manager said before that tells whether it has changed; none = nobody asked, or it cannot tell.
        fingerprint: Option<String>,
    },
}

impl Bound {
    /// The values, in order; none of one that has to be loaded.
    #[must_use]
    pub fn values(&self) -> &[ValueRef] {
        match self {
            Self::Absent | Self::Outside { .. } => &[],
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// An input port and the values on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoundInput {
    /// The port.
    pub port: Name,
    /// Its values.
    pub bound: Bound,
}

/// An IO manager, and what it may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundManager {
    /// What it is.
    pub spec: IoManagerSpec,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rights: Vec<ResourceRight>,
}

/// A call of an op.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpCall {
    /// The component.
    pub component: ComponentDigest,
    /// The op.
    pub op: Name,
    /// Its config.
    pub config: CanonicalJson,
    /// Its inputs. Values on `nothing` ports are left out.
    pub inputs: Vec<BoundInput>,
    /// Inputs whose values no step has yielded, so that nobody has checked them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unchecked: Vec<Name>,
    /// Its outputs.
    pub outputs: Arc<[StepOutput]>,
    /// The IO managers of its inputs and outputs, by name, but for those of kind `artifacts`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub managers: BTreeMap<Name, BoundManager>,
    /// The checks of the types of its ports.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<TypeName, TypeCheck>,
    /// What it may use.
    pub rights: Vec<ResourceRight>,
    /// It lists `execution`, and is told which run it is in.
    pub uses_execution: bool,
    /// It is linked to nothing through which anything beyond inputs and config could come in: clock and randomness are
    /// virtual, seeded from `seed`.
    pub hermetic: bool,
    /// The seed of virtual randomness: the memo key's bytes for a hermetic op.
    pub seed: Digest,
    /// Tags of run and step, for `execution`.
    pub tags: Vec<(String, String)>,
}

impl OpCall {
    /// A call of an op that has no ports, takes no config and may use nothing: what there is of it is laid over this.
    #[must_use]
    pub fn new(component: ComponentDigest, op: Name) -> Self {
        Self {
            component,
            op,
            config: CanonicalJson::empty_object(),
            inputs: Vec::new(),
            unchecked: Vec::new(),
            outputs: Arc::default(),
            managers: BTreeMap::new(),
            types: BTreeMap::new(),
            rights: Vec::new(),
            uses_execution: false,
            hermetic: true,
            seed: Digest::of(b""),
            tags: Vec::new(),
        }
    }
}

/// A value to hand to an IO manager other than `artifacts`, when no op runs that would do so (a memo hit).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HandleCall {
    /// The output.
    pub output: StepOutput,
    /// The IO manager named by `output.io_manager`.
    pub manager: BoundManager,
    /// The value; its artifact is in the store.
    pub value: ValueRef,
}

/// A value that an IO manager keeps, about which it is asked something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCall {
    /// The IO manager, by its name in the definitions.
    pub name: Name,
    /// The same.
    pub manager: BoundManager,
    /// How it finds the value.
    pub locator: CanonicalJson,
}

/// Values to check against their type, when no op runs that yields them (a memo hit).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckCall {
    /// The output port that they were yielded on.
    pub port: Name,
    /// How they are checked.
    pub check: TypeCheck,
    /// The values; their artifacts are in the store.
    pub values: Vec<ValueRef>,
}

/// A hook to be told something that is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HookCall {
    /// What it does.
    pub action: HookAction,
    /// What a component's hook may use.
    pub rights: Vec<ResourceRight>,
    /// What it is told.
    pub occasion: Occasion,
}

/// What is asked of a component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// Run an op.
    Op(Box<OpCall>),
    /// Check values against their type.
    CheckType(Box<CheckCall>),
    /// Hand a value to an IO manager.
    HandleOutput(Box<HandleCall>),
    /// Ask an IO manager what tells whether a value has changed.
    Fingerprint(Box<KeptCall>),
    /// Tell an IO manager that a value is no longer referenced.
    Forget(Box<KeptCall>),
    /// Tell a hook something. Said of it: log lines, and what is for the operator.
    Hook(Box<HookCall>),
    /// Say what the component ships. Pure: everything but `describe` traps.
    Describe {
        /// The component.
        component: ComponentDigest,
    },
}

/// One call, and whose it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRequest {
    /// The tenant.
    pub tenant: TenantId,
    /// The run and step that it is for; none for `Describe`.
    pub step: Option<StepIdentity>,
    /// What is asked.
    pub call: Call,
    /// What it may use.
    pub limits: Limits,
}

/// Which execution of which step a call is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepIdentity {
    /// The job.
    pub job: Name,
    /// The run.
    pub run: RunId,
    /// The step, and the item that it is mapped over.
    pub key: StepKey,
    /// 0 on the first try.
    pub attempt: u32,
}

/// What came of a call, and what it cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepOutcome {
    /// What came of it.
    pub result: StepResult,
    /// What it cost.
    pub usage: Usage,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum StepResult {
    /// The op succeeded.
    Success {
        /// What it yielded: every item and output, stored and handled. Nothing is yielded on `nothing` ports.
        outputs: Vec<Yielded>,
        /// False when it was told of a limit or of something unavailable: its result must not be used again.
        memoisable: bool,
    },
    /// The component said what it ships.
    Described(Box<ComponentDescription>),
    /// Every value is what its type says: the checks, in order.
    Checked(Vec<TypeChecked>),
    /// The IO manager took the value: `value.kept` is filled in.
    Handled {
        /// The value.
        value: Box<ValueRef>,
        /// What the manager adds.
        metadata: Vec<MetadataEntry>,
    },
    /// What tells that the value has not changed; none = its manager cannot tell.
    Fingerprint(Option<String>),
    /// The IO manager has forgotten the value.
    Forgotten,
    /// The hook has done what it does.
    Hooked,
    /// It did not succeed.
    Failure(Failure),
    /// The op asks for another try.
    Retry {
        /// Why, in its own words (sanitised).
        description: String,
        /// How long to wait; none = as the policy says.
        delay: Option<Duration>,
    },
}
