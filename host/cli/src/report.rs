//! What is told of a run: a fold of its events into the things that people ask for. Pure; the run's own state, which
//! decides what happens next, is the model's.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use opyard_server::model::error::{Code, Failure};
use opyard_server::model::event::{
    AssetEvent, Attempt, Expectation, Level, MetricPoint, Progress, Recorded, RunEvent, RunStatus, SkipReason,
};
use opyard_server::model::id::{MappingKey, Name, RunId, StepKey, StepPath};
use opyard_server::model::json::CanonicalJson;
use opyard_server::model::limits::Usage;
use opyard_server::model::metadata::MetadataEntry;
use opyard_server::model::plan::{IoManagerSpec, LatestOutput, Plan};
use opyard_server::model::time::Timestamp;
use opyard_server::model::value::Yielded;

/// The last log lines of a step that are kept, to be shown if it fails.
const KEPT_LINES: usize = 3;

/// Where a step stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Standing {
    /// Nothing has been heard of it.
    Pending,
    /// Waits for a slot of that pool.
    Waiting(Name),
    /// Runs.
    Running,
    /// A try failed; another follows.
    UpForRetry,
    /// Ran and ended well.
    Success,
    /// Found in the memo, computed by that run.
    Memoized(RunId),
    /// Taken from that run.
    Reused(RunId),
    /// Will not run.
    Skipped(SkipReason),
    /// Ended badly.
    Failure(Box<Failure>),
    /// Was stopped.
    Canceled,
}

impl Standing {
    /// The name that events and queries use.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Waiting(_) => "waiting",
            Self::Running => "running",
            Self::UpForRetry => "up_for_retry",
            Self::Success => "success",
            Self::Memoized(_) => "memoized",
            Self::Reused(_) => "reused",
            Self::Skipped(_) => "skipped",
            Self::Failure(_) => "failure",
            Self::Canceled => "canceled",
        }
    }

    /// It has ended.
    pub(crate) const fn is_final(&self) -> bool {
        match self {
            Self::Pending | Self::Waiting(_) | Self::Running | Self::UpForRetry => false,
            Self::Success
            | Self::Memoized(_)
            | Self::Reused(_)
            | Self::Skipped(_)
            | Self::Failure(_)
            | Self::Canceled => true,
        }
    }
}

/// An output, and which item of it when it is a dynamic one.
pub(crate) type OutputName = (Name, Option<MappingKey>);

/// What is told of a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StepReport {
    /// The step.
    pub(crate) key: StepKey,
    /// Where it stands.
    pub(crate) standing: Standing,
    /// Tries that were started, of all generations.
    pub(crate) tries: u32,
    /// All tries together; the memory is that of the largest.
    pub(crate) usage: Usage,
    /// When its last try began.
    pub(crate) began: Option<Timestamp>,
    /// When it ended.
    pub(crate) ended: Option<Timestamp>,
    /// What it last said of its progress.
    pub(crate) progress: Option<Progress>,
    /// Metadata of its outputs, where there is any.
    pub(crate) notes: BTreeMap<OutputName, Vec<MetadataEntry>>,
    /// What it yielded last.
    pub(crate) last_output: Option<OutputName>,
    /// Its last log lines that are warnings or worse.
    pub(crate) complaints: Vec<String>,
}

impl StepReport {
    fn new(key: StepKey) -> Self {
        Self {
            key,
            standing: Standing::Pending,
            tries: 0,
            usage: Usage::default(),
            began: None,
            ended: None,
            progress: None,
            notes: BTreeMap::new(),
            last_output: None,
            complaints: Vec::new(),
        }
    }

    fn used(&mut self, usage: &Usage) {
        let total = &mut self.usage;
        total.fuel = total.fuel.saturating_add(usage.fuel);
        total.cpu = total.cpu.saturating_add(usage.cpu);
        total.wall = total.wall.saturating_add(usage.wall);
        total.peak_memory = total.peak_memory.max(usage.peak_memory);
        total.read_bytes = total.read_bytes.saturating_add(usage.read_bytes);
        total.written_bytes = total.written_bytes.saturating_add(usage.written_bytes);
        total.host_calls = total.host_calls.saturating_add(usage.host_calls);
    }

    fn yielded(&mut self, output: &Yielded) {
        let name = (output.port.clone(), output.value.item_of(&self.key.mapping).cloned());
        if output.value.metadata.is_empty() {
            self.notes.remove(&name);
        } else {
            self.notes.insert(name.clone(), output.value.metadata.clone());
        }
        self.last_output = Some(name);
    }
}

/// An asset that was made or looked at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AssetReport {
    /// By which step.
    pub(crate) step: StepKey,
    /// It was made, not only looked at.
    pub(crate) made: bool,
    /// The asset.
    pub(crate) asset: AssetEvent,
    /// Said by an earlier execution.
    pub(crate) from_memo: bool,
}

/// What is told of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// The run; none before its first event.
    pub(crate) run: Option<RunId>,
    /// The job.
    pub(crate) job: Option<Name>,
    /// The environment.
    pub(crate) environment: Option<Name>,
    /// The run that it goes on from.
    pub(crate) parent: Option<RunId>,
    /// The first run of that line.
    pub(crate) root: Option<RunId>,
    /// Tags.
    pub(crate) tags: BTreeMap<String, String>,
    /// Where it stands.
    pub(crate) status: Option<RunStatus>,
    /// When it was asked for.
    pub(crate) enqueued_at: Option<Timestamp>,
    /// When its first steps could start.
    pub(crate) started_at: Option<Timestamp>,
    /// When it ended.
    pub(crate) ended_at: Option<Timestamp>,
    /// The last moment of which something is known.
    pub(crate) last_at: Option<Timestamp>,
    /// Steps of the plan.
    pub(crate) planned: u32,
    /// Why it failed.
    pub(crate) failure: Option<Failure>,
    /// Who asked for its end.
    pub(crate) cancel_reason: Option<String>,
    /// Last point of each series, by name and step.
    pub(crate) metrics: BTreeMap<(String, StepKey), MetricPoint>,
    /// Assets, in order.
    pub(crate) assets: Vec<AssetReport>,
    /// What was expected, by whom.
    pub(crate) expectations: Vec<(StepKey, Expectation)>,
    /// Limits that steps were told of.
    pub(crate) limits: Vec<(StepKey, String, String)>,
    /// Resources that were asked for and denied.
    pub(crate) denied: Vec<(StepKey, String)>,
    /// Values outside of the artifact store: of which output and where, by which IO manager.
    pub(crate) kept: BTreeMap<(StepKey, Name, CanonicalJson), Name>,
    /// Where IO managers that keep files keep them, if the plan is known.
    pub(crate) stores: BTreeMap<Name, String>,
    /// Inputs that were found in other runs, if the plan is known.
    pub(crate) latest: Vec<(StepPath, Name, LatestOutput)>,
    steps: Vec<StepReport>,
    by_key: HashMap<StepKey, usize>,
}

/// How many steps stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) success: usize,
    pub(crate) memoized: usize,
    pub(crate) reused: usize,
    pub(crate) skipped: usize,
    pub(crate) failure: usize,
    pub(crate) canceled: usize,
    pub(crate) open: usize,
}

impl Counts {
    /// Adds one.
    pub(crate) fn add(&mut self, standing: &Standing) {
        *match standing {
            Standing::Pending | Standing::Waiting(_) | Standing::Running | Standing::UpForRetry => &mut self.open,
            Standing::Success => &mut self.success,
            Standing::Memoized(_) => &mut self.memoized,
            Standing::Reused(_) => &mut self.reused,
            Standing::Skipped(_) => &mut self.skipped,
            Standing::Failure(_) => &mut self.failure,
            Standing::Canceled => &mut self.canceled,
        } += 1;
    }
}

impl Report {
    /// The report of a whole run. With its plan, steps of which nothing was heard are there too, all are in its order, and
    /// it is known where files are kept.
    pub(crate) fn of(events: &[Recorded], plan: Option<&Plan>) -> Self {
        let mut report = Self::default();
        events.iter().for_each(|event| report.apply(event));
        if let Some(plan) = plan {
            report.arrange(plan);
        }
        report
    }

    /// Every step that is known.
    pub(crate) fn steps(&self) -> &[StepReport] {
        &self.steps
    }

    /// A step, if it is known.
    pub(crate) fn step(&self, key: &StepKey) -> Option<&StepReport> {
        self.by_key.get(key).map(|at| &self.steps[*at])
    }

    /// How many steps stand where.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.steps.iter().for_each(|step| counts.add(&step.standing));
        counts
    }

    /// From being asked for to its end, or to the last that is known.
    pub(crate) fn duration(&self) -> Duration {
        match (self.enqueued_at, self.ended_at.or(self.last_at)) {
            (Some(from), Some(to)) => to.since(from),
            _ => Duration::ZERO,
        }
    }

    /// Takes what the plan knows: the order of steps, those of which nothing was heard, and where files are kept.
    pub(crate) fn arrange(&mut self, plan: &Plan) {
        self.stores = stores(plan);
        self.latest = plan.latest().map(|(step, port, of)| (step.clone(), port.clone(), of.clone())).collect();
        for step in plan.steps.iter().filter(|step| step.mapped_over.is_none()) {
            self.step_mut(&StepKey::plain(step.path.clone()));
        }
        let order: HashMap<_, _> = plan.steps.iter().enumerate().map(|(at, step)| (&step.path, at)).collect();
        self.steps.sort_by(|a, b| {
            let place = |step: &StepReport| order.get(&step.key.path).copied().unwrap_or(usize::MAX);
            place(a).cmp(&place(b)).then_with(|| a.key.cmp(&b.key))
        });
        self.by_key = self.steps.iter().enumerate().map(|(at, step)| (step.key.clone(), at)).collect();
    }

    /// Folds an event.
    pub(crate) fn apply(&mut self, recorded: &Recorded) {
        let (at, event) = (recorded.at, &recorded.event);
        self.run = Some(recorded.run);
        self.last_at = Some(at);
        if let Some(status) = RunStatus::after(event) {
            self.status = Some(status);
            if status.is_final() {
                self.ended_at = Some(at);
            }
        }
        match event {
            RunEvent::RunEnqueued { job, environment, steps, tags, parent, root, .. } => {
                (self.parent, self.root) = (*parent, *root);
                self.job = Some(job.clone());
                self.environment.clone_from(environment);
                self.tags.clone_from(tags);
                self.planned = *steps;
                self.enqueued_at = Some(at);
            }
            RunEvent::RunStart => self.started_at = Some(at),
            RunEvent::RunFailure { failure } => self.failure = Some(failure.clone()),
            RunEvent::RunCanceling { reason } => self.cancel_reason = Some(reason.clone()),
            _ => self.apply_to_step(at, event),
        }
    }

    fn apply_to_step(&mut self, at: Timestamp, event: &RunEvent) {
        match event {
            RunEvent::StepWaiting { step, pool, .. } => self.step_mut(step).standing = Standing::Waiting(pool.clone()),
            RunEvent::StepStart { of } => {
                let step = self.step_of(of);
                step.standing = Standing::Running;
                step.tries = step.tries.saturating_add(1);
                step.began = Some(at);
                step.progress = None;
            }
            RunEvent::StepOutput { of, output } => self.step_of(of).yielded(output),
            RunEvent::StepSuccess { of, usage } => {
                self.step_of(of).used(usage);
                self.end(&of.step, at, Standing::Success);
            }
            RunEvent::StepFailure { of, failure, usage } => {
                self.step_of(of).used(usage);
                let canceled = failure.code == Code::Canceled;
                let standing = if canceled { Standing::Canceled } else { Standing::Failure(Box::new(failure.clone())) };
                self.end(&of.step, at, standing);
            }
            RunEvent::StepSkipped { step, reason, .. } => self.end(step, at, Standing::Skipped(*reason)),
            RunEvent::StepUpForRetry { of, usage, .. } => {
                let step = self.step_of(of);
                step.used(usage);
                step.standing = Standing::UpForRetry;
            }
            RunEvent::StepSuperseded { step, .. } => {
                let step = self.step_mut(step);
                step.standing = Standing::Pending;
                step.ended = None;
                step.notes.clear();
            }
            RunEvent::StepMemoized { step, origin, outputs, .. } => {
                outputs.iter().for_each(|output| self.step_mut(step).yielded(output));
                self.end(step, at, Standing::Memoized(*origin));
            }
            RunEvent::StepReused { step, origin, outputs, .. } => {
                outputs.iter().for_each(|output| self.step_mut(step).yielded(output));
                self.end(step, at, Standing::Reused(*origin));
            }
            RunEvent::HandledOutput { of, port, manager, locator, .. } => {
                self.kept.insert((of.step.clone(), port.clone(), locator.clone()), manager.clone());
            }
            RunEvent::AssetMaterialization { of, asset, from_memo } => self.asset(of, asset, true, *from_memo),
            RunEvent::AssetObservation { of, asset, from_memo } => self.asset(of, asset, false, *from_memo),
            RunEvent::StepExpectationResult { of, expectation, .. } => {
                self.expectations.push((of.step.clone(), expectation.clone()));
            }
            RunEvent::Metric { of, point, .. } => {
                self.metrics.insert((point.name.clone(), of.step.clone()), point.clone());
            }
            RunEvent::Log { of, line } if line.level >= Level::Warning => {
                let complaints = &mut self.step_of(of).complaints;
                if complaints.len() == KEPT_LINES {
                    complaints.remove(0);
                }
                complaints.push(line.message.clone());
            }
            RunEvent::Progress { of, progress } => self.step_of(of).progress = Some(progress.clone()),
            RunEvent::LimitReached { of, limit, detail } => {
                self.limits.push((of.step.clone(), limit.clone(), detail.clone()));
            }
            RunEvent::GrantDenied { of, key } => self.denied.push((of.step.clone(), key.clone())),
            // Those of the run were taken before; these say nothing that is told here.
            RunEvent::RunEnqueued { .. }
            | RunEvent::RunDequeued
            | RunEvent::RunStarting
            | RunEvent::RunStart
            | RunEvent::RunSuccess
            | RunEvent::RunFailure { .. }
            | RunEvent::RunCanceling { .. }
            | RunEvent::RunCanceled
            | RunEvent::ResourceInitStarted { .. }
            | RunEvent::ResourceInitSuccess { .. }
            | RunEvent::ResourceInitFailure { .. }
            | RunEvent::TypeCheckSuccess { .. }
            | RunEvent::TypeCheckFailure { .. }
            | RunEvent::HookCompleted { .. }
            | RunEvent::HookErrored { .. }
            | RunEvent::HookSkipped { .. }
            | RunEvent::StepInput { .. }
            | RunEvent::LoadedInput { .. }
            | RunEvent::StepRestarted { .. }
            | RunEvent::StepMemoMissed { .. }
            | RunEvent::Log { .. }
            | RunEvent::EngineEvent { .. } => {}
        }
    }

    fn asset(&mut self, of: &Attempt, asset: &AssetEvent, made: bool, from_memo: bool) {
        self.assets.push(AssetReport { step: of.step.clone(), made, asset: asset.clone(), from_memo });
    }

    fn end(&mut self, key: &StepKey, at: Timestamp, standing: Standing) {
        let step = self.step_mut(key);
        step.standing = standing;
        step.ended = Some(at);
    }

    fn step_of(&mut self, of: &Attempt) -> &mut StepReport {
        self.step_mut(&of.step)
    }

    fn step_mut(&mut self, key: &StepKey) -> &mut StepReport {
        let at = match self.by_key.get(key) {
            Some(at) => *at,
            None => {
                self.by_key.insert(key.clone(), self.steps.len());
                self.steps.push(StepReport::new(key.clone()));
                self.steps.len() - 1
            }
        };
        &mut self.steps[at]
    }
}

/// Where the IO managers of a plan keep files: an address, or a path if it is a folder of this machine.
pub(crate) fn stores(plan: &Plan) -> BTreeMap<Name, String> {
    let stores = plan.io_managers.iter().filter_map(|(name, spec)| match spec {
        IoManagerSpec::Artifacts | IoManagerSpec::Mlflow { .. } | IoManagerSpec::Component(_) => None,
        IoManagerSpec::ObjectStore { url, .. } => {
            Some((name.clone(), url.url.strip_prefix("file://").unwrap_or(&url.url).to_owned()))
        }
    });
    stores.collect()
}

/// Events of a small run that has some of everything, for the tests of what is drawn from them.
#[cfg(test)]
pub(crate) mod sample;
