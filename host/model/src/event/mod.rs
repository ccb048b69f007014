//! Everything that can happen to a run.
//!
//! The log is the only truth about a run: scheduling, the memo and every view are folds of it. Wire names are the
//! snake_case of the variants (`step_start`); they and their fields are stable and documented in `docs/events.md`.

mod said;
mod status;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::digest::Digest;
use crate::error::Failure;
use crate::hook::{HookIx, Outcome};
use crate::id::{Name, RunId, StepKey};
use crate::json::CanonicalJson;
use crate::limits::Usage;
use crate::memo::MemoKey;
use crate::metadata::MetadataEntry;
use crate::time::Timestamp;
use crate::value::{ArtifactRef, Yielded};

pub use said::{
    AssetEvent, Direction, Expectation, Level, LoadedValue, LogLine, MetricPoint, OpenedResource, Progress, Stream,
    TypeChecked,
};
pub use status::RunStatus;

/// Why a step was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// An output that it needs was not yielded.
    NotYielded,
    /// A step that it needs failed.
    UpstreamFailed,
    /// The run is being canceled.
    Canceled,
}

/// One attempt of one step: what its events belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attempt {
    /// The step.
    pub step: StepKey,
    /// How often the step was superseded before. Success is recorded once per step and generation.
    pub generation: u32,
    /// 0 on the first try of the generation.
    pub attempt: u32,
}

/// A hook of the run, as events name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookName {
    /// Which of the plan's.
    pub index: HookIx,
    /// What it is told of.
    pub on: Outcome,
    /// `webhook`, or `component.hook`. Never an address: that may be a secret.
    pub name: String,
}

/// One thing that happened to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
pub enum RunEvent {
    /// The run was asked for. The first event of every run.
    RunEnqueued {
        /// The job.
        job: Name,
        /// The environment.
        environment: Option<Name>,
        /// The artifact that holds the plan, as JSON.
        plan: ArtifactRef,
        /// How many steps the plan has (mapped ones count once).
        steps: u32,
        /// Tags of the run.
        tags: BTreeMap<String, String>,
        /// False: no memo is looked up.
        use_memo: bool,
        /// The run that this one goes on from, if it is a re-run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<RunId>,
        /// The first run of the line that the parent is of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<RunId>,
    },
    /// The run left the queue.
    RunDequeued,
    /// Its resources are being made ready.
    RunStarting,
    /// Its first steps may start.
    RunStart,
    /// Every step ended, none failed.
    RunSuccess,
    /// Every step ended, one failed at least.
    RunFailure {
        /// Why, in one line; the steps' own failures are in their events.
        failure: Failure,
    },
    /// Somebody asked for the end.
    RunCanceling {
        /// Who or what asked.
        reason: String,
    },
    /// Everything that ran has stopped.
    RunCanceled,

    /// The step could start, and waits for a slot of its pool.
    StepWaiting {
        /// The step.
        step: StepKey,
        /// Its generation.
        generation: u32,
        /// The pool.
        pool: Name,
    },
    /// A try of a step begins.
    StepStart {
        /// Which.
        of: Attempt,
    },
    /// The values of an input are known.
    StepInput {
        /// Which.
        of: Attempt,
        /// The input port.
        port: Name,
        /// How many values.
        values: u32,
        /// BLAKE3 over the identities of the values, in order.
        identity: Digest,
    },
    /// A value was yielded: stored, and handled by its IO manager. Provisional until the step succeeds.
    StepOutput {
        /// Which.
        of: Attempt,
        /// The value and its port.
        output: Yielded,
    },
    /// The step ended well.
    StepSuccess {
        /// Which.
        of: Attempt,
        /// What it cost.
        usage: Usage,
    },
    /// The step ended badly, for good. With the code `OPY-309`, it was canceled.
    StepFailure {
        /// Which.
        of: Attempt,
        /// Why.
        failure: Failure,
        /// What it cost.
        usage: Usage,
    },
    /// The step will not run.
    StepSkipped {
        /// The step.
        step: StepKey,
        /// Its generation.
        generation: u32,
        /// Why.
        reason: SkipReason,
    },
    /// A try failed; another follows.
    StepUpForRetry {
        /// Which try failed.
        of: Attempt,
        /// Why.
        failure: Failure,
        /// Not before this moment.
        not_before: Timestamp,
        /// What the try cost.
        usage: Usage,
    },
    /// The wait before another try is over.
    StepRestarted {
        /// The try that may now start.
        of: Attempt,
    },
    /// What the step was given has changed under it; it starts over.
    StepSuperseded {
        /// The step.
        step: StepKey,
        /// The generation that begins.
        generation: u32,
    },
    /// The step's result was found in the memo.
    StepMemoized {
        /// The step.
        step: StepKey,
        /// Its generation.
        generation: u32,
        /// The key.
        key: MemoKey,
        /// The run that computed it.
        origin: RunId,
        /// What it yielded.
        outputs: Vec<Yielded>,
    },
    /// The step's result is taken from an earlier run, as the plan says.
    StepReused {
        /// The step.
        step: StepKey,
        /// Its generation.
        generation: u32,
        /// The run that has the result.
        origin: RunId,
        /// What it yielded.
        outputs: Vec<Yielded>,
    },
    /// The step's result was looked for in the memo and not found.
    StepMemoMissed {
        /// The step.
        step: StepKey,
        /// Its generation.
        generation: u32,
        /// The key.
        key: MemoKey,
    },

    /// An IO manager other than `artifacts` took an output.
    HandledOutput {
        /// Which.
        of: Attempt,
        /// The output port.
        port: Name,
        /// The IO manager.
        manager: Name,
        /// Where it keeps the value.
        locator: CanonicalJson,
        /// What it adds.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        metadata: Vec<MetadataEntry>,
    },
    /// An IO manager loaded the value of an input.
    LoadedInput {
        /// Which.
        of: Attempt,
        /// The value.
        input: LoadedValue,
    },
    /// An op opens a resource that it was granted: the first time under that key in an attempt.
    ResourceInitStarted {
        /// Which.
        of: Attempt,
        /// The resource.
        resource: OpenedResource,
    },
    /// It can be used.
    ResourceInitSuccess {
        /// Which.
        of: Attempt,
        /// The resource.
        resource: OpenedResource,
    },
    /// It cannot be used. What the op makes of that is its own affair.
    ResourceInitFailure {
        /// Which.
        of: Attempt,
        /// The resource.
        resource: OpenedResource,
        /// Why.
        failure: Failure,
    },
    /// A value is what its type says.
    TypeCheckSuccess {
        /// Which.
        of: Attempt,
        /// The check.
        check: TypeChecked,
    },
    /// A value is not what its type says. The step fails.
    TypeCheckFailure {
        /// Which.
        of: Attempt,
        /// The check.
        check: TypeChecked,
    },
    /// A hook has done what it does.
    HookCompleted {
        /// The try of which it was told.
        of: Attempt,
        /// The hook.
        hook: HookName,
        /// What it logged.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lines: Vec<LogLine>,
        /// What it cost.
        usage: Usage,
    },
    /// A hook could not do what it does. Nothing follows from that.
    HookErrored {
        /// The try of which it was told.
        of: Attempt,
        /// The hook.
        hook: HookName,
        /// Why.
        failure: Failure,
        /// What it logged.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lines: Vec<LogLine>,
        /// What it cost.
        usage: Usage,
    },
    /// A hook is not told: the run is being stopped.
    HookSkipped {
        /// The try of which it would have been told.
        of: Attempt,
        /// The hook.
        hook: HookName,
        /// Why.
        reason: SkipReason,
    },
    /// An asset was made.
    AssetMaterialization {
        /// Which.
        of: Attempt,
        /// The asset.
        asset: AssetEvent,
        /// Said by an earlier execution, found in the memo.
        from_memo: bool,
    },
    /// An asset was looked at.
    AssetObservation {
        /// Which.
        of: Attempt,
        /// The asset.
        asset: AssetEvent,
        /// Said by an earlier execution, found in the memo.
        from_memo: bool,
    },
    /// Something was expected, and was so or not.
    StepExpectationResult {
        /// Which.
        of: Attempt,
        /// What.
        expectation: Expectation,
        /// Said by an earlier execution, found in the memo.
        from_memo: bool,
    },
    /// One point of a series.
    Metric {
        /// Which.
        of: Attempt,
        /// The point.
        point: MetricPoint,
        /// Said by an earlier execution, found in the memo.
        from_memo: bool,
    },
    /// A step logged a line.
    Log {
        /// Which.
        of: Attempt,
        /// The line.
        line: LogLine,
    },
    /// A step said how far it is.
    Progress {
        /// Which.
        of: Attempt,
        /// How far.
        progress: Progress,
    },
    /// A step was told of a limit, or went beyond one that drops what is too much.
    LimitReached {
        /// Which.
        of: Attempt,
        /// The limit, a field of `Limits`.
        limit: String,
        /// What happened.
        detail: String,
    },
    /// An op asked for a resource that it was not granted.
    GrantDenied {
        /// Which.
        of: Attempt,
        /// The key that it asked for.
        key: String,
    },
    /// The engine has something to say.
    EngineEvent {
        /// What.
        message: String,
        /// More about it.
        metadata: Vec<MetadataEntry>,
    },
}

/// A stored event cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the event '{kind}' cannot be read: {reason}")]
pub struct EventDecodeError {
    kind: String,
    reason: String,
}

/// What an event is about.
enum Subject<'a> {
    Run,
    Step(&'a StepKey),
    Attempt(&'a Attempt),
}

impl RunEvent {
    /// The wire name.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::RunEnqueued { .. } => "run_enqueued",
            Self::RunDequeued => "run_dequeued",
            Self::RunStarting => "run_starting",
            Self::RunStart => "run_start",
            Self::RunSuccess => "run_success",
            Self::RunFailure { .. } => "run_failure",
            Self::RunCanceling { .. } => "run_canceling",
            Self::RunCanceled => "run_canceled",
            Self::StepWaiting { .. } => "step_waiting",
            Self::StepStart { .. } => "step_start",
            Self::StepInput { .. } => "step_input",
            Self::StepOutput { .. } => "step_output",
            Self::StepSuccess { .. } => "step_success",
            Self::StepFailure { .. } => "step_failure",
            Self::StepSkipped { .. } => "step_skipped",
            Self::StepUpForRetry { .. } => "step_up_for_retry",
            Self::StepRestarted { .. } => "step_restarted",
            Self::StepSuperseded { .. } => "step_superseded",
            Self::StepMemoized { .. } => "step_memoized",
            Self::StepReused { .. } => "step_reused",
            Self::StepMemoMissed { .. } => "step_memo_missed",
            Self::HandledOutput { .. } => "handled_output",
            Self::LoadedInput { .. } => "loaded_input",
            Self::ResourceInitStarted { .. } => "resource_init_started",
            Self::ResourceInitSuccess { .. } => "resource_init_success",
            Self::ResourceInitFailure { .. } => "resource_init_failure",
            Self::TypeCheckSuccess { .. } => "type_check_success",
            Self::TypeCheckFailure { .. } => "type_check_failure",
            Self::HookCompleted { .. } => "hook_completed",
            Self::HookErrored { .. } => "hook_errored",
            Self::HookSkipped { .. } => "hook_skipped",
            Self::AssetMaterialization { .. } => "asset_materialization",
            Self::AssetObservation { .. } => "asset_observation",
            Self::StepExpectationResult { .. } => "step_expectation_result",
            Self::Metric { .. } => "metric",
            Self::Log { .. } => "log",
            Self::Progress { .. } => "progress",
            Self::LimitReached { .. } => "limit_reached",
            Self::GrantDenied { .. } => "grant_denied",
            Self::EngineEvent { .. } => "engine_event",
        }
    }

    /// What it is about.
    const fn subject(&self) -> Subject<'_> {
        match self {
            Self::RunEnqueued { .. }
            | Self::RunDequeued
            | Self::RunStarting
            | Self::RunStart
            | Self::RunSuccess
            | Self::RunFailure { .. }
            | Self::RunCanceling { .. }
            | Self::RunCanceled
            | Self::EngineEvent { .. } => Subject::Run,
            Self::StepWaiting { step, .. }
            | Self::StepSkipped { step, .. }
            | Self::StepSuperseded { step, .. }
            | Self::StepMemoized { step, .. }
            | Self::StepReused { step, .. }
            | Self::StepMemoMissed { step, .. } => Subject::Step(step),
            Self::StepStart { of }
            | Self::StepInput { of, .. }
            | Self::StepOutput { of, .. }
            | Self::StepSuccess { of, .. }
            | Self::StepFailure { of, .. }
            | Self::StepUpForRetry { of, .. }
            | Self::StepRestarted { of }
            | Self::HandledOutput { of, .. }
            | Self::LoadedInput { of, .. }
            | Self::ResourceInitStarted { of, .. }
            | Self::ResourceInitSuccess { of, .. }
            | Self::ResourceInitFailure { of, .. }
            | Self::TypeCheckSuccess { of, .. }
            | Self::TypeCheckFailure { of, .. }
            | Self::HookCompleted { of, .. }
            | Self::HookErrored { of, .. }
            | Self::HookSkipped { of, .. }
            | Self::AssetMaterialization { of, .. }
            | Self::AssetObservation { of, .. }
            | Self::StepExpectationResult { of, .. }
            | Self::Metric { of, .. }
            | Self::Log { of, .. }
            | Self::Progress { of, .. }
            | Self::LimitReached { of, .. }
            | Self::GrantDenied { of, .. } => Subject::Attempt(of),
        }
    }

    /// The step that it is about.
    #[must_use]
    pub const fn step(&self) -> Option<&StepKey> {
        match self.subject() {
            Subject::Run => None,
            Subject::Step(step) => Some(step),
            Subject::Attempt(of) => Some(&of.step),
        }
    }

    /// The attempt that it is about.
    #[must_use]
    pub const fn attempt(&self) -> Option<&Attempt> {
        match self.subject() {
            Subject::Attempt(of) => Some(of),
            Subject::Run | Subject::Step(_) => None,
        }
    }

    /// The failure that it carries.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::RunFailure { failure }
            | Self::StepFailure { failure, .. }
            | Self::StepUpForRetry { failure, .. }
            | Self::HookErrored { failure, .. }
            | Self::ResourceInitFailure { failure, .. } => Some(failure),
            _ => None,
        }
    }

    /// The payload as JSON text; with [`kind`](Self::kind), all there is to store.
    #[must_use]
    pub fn payload(&self) -> String {
        // Plain data into memory: cannot fail. The adjacent tagging writes `{"kind":"…","data":{…}}`, or no data at all;
        // cutting the payload out of the text costs a fraction of what building a tree does.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        let head = r#"{"kind":""#.len() + self.kind().len() + r#"","data":"#.len();
        if text.get(..head).is_none_or(|head| !head.ends_with(r#","data":"#)) {
            return "{}".to_owned();
        }
        text.pop();
        text.drain(..head);
        text
    }

    /// Reads a stored event.
    ///
    /// # Errors
    /// When `kind` is not a kind of event, or `payload` is not a payload of that kind.
    pub fn decode(kind: &str, payload: &str) -> Result<Self, EventDecodeError> {
        let wrong = |reason: String| EventDecodeError { kind: kind.chars().take(80).collect(), reason };
        let data: Value = serde_json::from_str(payload).map_err(|error| wrong(error.to_string()))?;
        let mut map = serde_json::Map::new();
        map.insert("kind".into(), kind.into());
        if data.as_object().is_none_or(|object| !object.is_empty()) {
            map.insert("data".into(), data);
        }
        serde_json::from_value(Value::Object(map)).map_err(|error| wrong(error.to_string()))
    }
}

/// An event and where it stands in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// The run.
    pub run: RunId,
    /// Its place in the run: 1, 2, 3, … without gaps.
    pub seq: u64,
    /// When it was appended.
    pub at: Timestamp,
    /// What happened.
    pub event: RunEvent,
}

/// How long a wait may be at most: a guest or policy that asks for more gets this.
pub const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);
