//! Where a run stands: the fold of its events, live and on recovery by the same code.
//!
//! [`RunState::apply`] is the only transition table. It keeps, beside the state of every step, a few *indices* (what may
//! start, what waits for a moment, what has to be skipped), each of which follows from the states alone; they are there so
//! that deciding costs nothing for steps about which nothing has changed.

mod apply;
mod audit;
mod bind;
mod hooks;
mod indices;
mod lanes;
mod settle;
mod whole;
mod wiring;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use thiserror::Error;

use crate::error::Failure;
use crate::event::{Attempt, RunStatus, SkipReason};
use crate::id::{ItemKey, MappingKey, RunId, StepKey, StepPath};
use crate::plan::{Memo, Plan, StepIx};
use crate::time::Timestamp;
use crate::value::{ValueRef, Yielded};

pub use hooks::{HookId, Told};

use hooks::Hooks;
use indices::Indices;
use lanes::Lanes;
use whole::Whole;
use wiring::Wiring;

pub use lanes::{Lane, LaneIx};

/// Most steps of one run that are there because of items: 1,000,000.
pub const MAX_ITEMS: usize = 1_000_000;

/// One step of a run: a step of the plan and, when that is mapped, its item.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId {
    /// The step of the plan.
    pub step: StepIx,
    /// The item; empty when the step is not mapped.
    pub key: ItemKey,
}

impl InstanceId {
    /// The one instance of a step that is not mapped.
    #[must_use]
    pub fn single(step: StepIx) -> Self {
        Self { step, key: ItemKey::default() }
    }

    /// Its step key.
    #[must_use]
    pub fn step_key(&self, plan: &Plan) -> StepKey {
        StepKey { path: plan.step(self.step).path.clone(), mapping: self.key.clone() }
    }
}

/// Where one step of a run stands.
///
/// `pending -> ready -> running -> (success | skipped | up_for_retry -> ready | failure | canceled)`; `skipped` and
/// `canceled` also from `pending` and `ready`; `step_superseded` leads back to `pending`.
#[derive(Debug, Clone, PartialEq)]
pub enum StepState {
    /// Waits for steps before it.
    Pending,
    /// May run; the memo may have to be asked before.
    Ready {
        /// The try that comes next, from 0.
        attempt: u32,
        /// Whether its memo has to be, or was, looked up.
        memo: MemoStanding,
    },
    /// Runs.
    Running {
        /// The try, from 0.
        attempt: u32,
        /// What it has yielded on plain ports so far.
        outputs: Vec<Yielded>,
    },
    /// A try failed; another follows.
    UpForRetry {
        /// The try that comes next.
        attempt: u32,
        /// Not before this moment.
        not_before: Timestamp,
    },
    /// Ended well.
    Success {
        /// What it yielded on plain ports, in port order.
        outputs: Vec<Yielded>,
        /// Where the result is from.
        from: Provenance,
    },
    /// Will not run.
    Skipped(SkipReason),
    /// Ended badly.
    Failure(Box<Failure>),
    /// Was stopped.
    Canceled,
}

/// Where the result of a step that ended well is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// It ran.
    Execution,
    /// It was found in the memo.
    Memo,
    /// An earlier run has it, and the plan says to take it.
    EarlierRun,
}

/// What a step that is ready waits for, if not only for a place to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoStanding {
    /// It is to be asked.
    Unknown,
    /// It was asked and has nothing, or is not asked at all.
    Run,
    /// It is not asked: the plan has the result, of an earlier run.
    Reuse,
}

impl StepState {
    /// The name that events, the command line and queries use.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready { .. } => "ready",
            Self::Running { .. } => "running",
            Self::UpForRetry { .. } => "up_for_retry",
            Self::Success { from: Provenance::Memo, .. } => "memoized",
            Self::Success { from: Provenance::EarlierRun, .. } => "reused",
            Self::Success { from: Provenance::Execution, .. } => "success",
            Self::Skipped(_) => "skipped",
            Self::Failure(_) => "failure",
            Self::Canceled => "canceled",
        }
    }

    /// It has ended.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Pending | Self::Ready { .. } | Self::Running { .. } | Self::UpForRetry { .. } => false,
            Self::Success { .. } | Self::Skipped(_) | Self::Failure(_) | Self::Canceled => true,
        }
    }
}

/// One item of a dynamic output.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its value. Apart, since a map of many has as many free places.
    pub value: Box<ValueRef>,
    /// The try that yielded it last.
    attempt: u32,
}

/// A step of a run, with what outlives its tries.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Where it stands.
    pub state: StepState,
    /// How often it was superseded.
    pub generation: u32,
    /// Dependencies that have not settled. Meaningful while pending.
    waiting: u32,
    /// What it was given has changed: it is to be superseded.
    stale: bool,
    /// Items of its dynamic outputs, per port index, in key order. Provisional until it succeeds.
    items: BTreeMap<(u16, MappingKey), Item>,
}

impl Instance {
    fn new(waiting: u32) -> Self {
        Self { state: StepState::Pending, generation: 0, waiting, stale: false, items: BTreeMap::new() }
    }

    /// It has ended, and nothing that it was given has changed since.
    fn is_settled(&self) -> bool {
        self.state.is_final() && !self.stale
    }

    /// Items of one dynamic output, in key order.
    pub fn items(&self, port: u16) -> impl Iterator<Item = (&MappingKey, &ValueRef)> {
        // The range over a composite key would need an owned upper bound; ports are few, items are many but this is
        // only read when a collect starts or a run is shown.
        self.items.iter().filter(move |((at, _), _)| *at == port).map(|((_, key), item)| (key, &*item.value))
    }

    /// Everything that it has yielded: plain outputs, then items.
    #[must_use]
    pub fn yielded(&self, outputs: &[crate::plan::StepOutput]) -> Vec<Yielded> {
        let plain = match &self.state {
            StepState::Running { outputs, .. } | StepState::Success { outputs, .. } => outputs.as_slice(),
            _ => &[],
        };
        let items = self.items.iter().filter_map(|((port, _), item)| {
            Some(Yielded { port: outputs.get(usize::from(*port))?.port.clone(), value: ValueRef::clone(&item.value) })
        });
        plain.iter().cloned().chain(items).collect()
    }
}

/// The key of an instance that is for no item.
static NO_ITEM: &ItemKey = &ItemKey::NONE;

/// A step of the plan, in a run.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// Runs once.
    Single(Instance),
    /// Runs once per item.
    Mapped {
        /// The items so far. Each apart, since a map of many has as many free places.
        instances: BTreeMap<ItemKey, Box<Instance>>,
        /// Of each item that others of them are below, and of all (under the empty key), how they stand.
        groups: BTreeMap<ItemKey, Group>,
    },
}

/// The instances of a mapped step that are below one item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Group {
    /// How many of them have not settled.
    unsettled: u32,
    /// No more will come.
    closed: bool,
}

impl Group {
    const fn is_settled(self) -> bool {
        self.closed && self.unsettled == 0
    }
}

/// An event that cannot follow the ones before it: a bug of ours, or an altered log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the event '{event}' of {subject} cannot follow: {reason}")]
pub struct IllegalTransition {
    event: &'static str,
    subject: String,
    reason: String,
}

/// How many steps ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ran and ended well.
    pub success: u32,
    /// Found in the memo.
    pub memoized: u32,
    /// Taken from an earlier run.
    pub reused: u32,
    /// Skipped.
    pub skipped: u32,
    /// Ended badly.
    pub failure: u32,
    /// Stopped.
    pub canceled: u32,
    /// Not ended.
    pub open: u32,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq)]
pub struct RunState {
    plan: Arc<Plan>,
    wiring: Arc<Wiring>,
    lanes: Arc<Lanes>,
    /// Where [`Plan::reuse`] has the result of a step.
    reuse: Arc<HashMap<InstanceId, usize>>,
    status: Option<RunStatus>,
    last_seq: u64,
    use_memo: bool,
    nodes: Vec<Node>,
    /// Nodes that have not settled as a whole.
    open_nodes: usize,
    /// Steps that have not ended.
    unfinished: usize,
    /// Items that mapped steps run for, or ran for.
    items: usize,
    /// Steps that failed, and are not to be superseded.
    failed: u32,
    whole: Whole,
    indices: Indices,
    hooks: Hooks,
}

impl RunState {
    /// The state of a run of `plan` before its first event.
    #[must_use]
    pub fn new(plan: Arc<Plan>) -> Self {
        let wiring = Arc::new(Wiring::of(&plan));
        let lanes = Arc::new(Lanes::of(&plan));
        let nodes: Vec<_> = plan
            .indices()
            .map(|ix| match plan.step(ix).mapped_over {
                None => Node::Single(Instance::new(wiring.whole_dependencies(ix))),
                Some(_) => Node::Mapped {
                    instances: BTreeMap::new(),
                    groups: BTreeMap::from([(ItemKey::default(), Group::default())]),
                },
            })
            .collect();
        let open_nodes = nodes.len();
        let unfinished = nodes.iter().filter(|node| matches!(node, Node::Single(_))).count();
        let reuse = Arc::new(reuse(&plan, &wiring));
        Self {
            plan,
            wiring,
            whole: Whole::new(&lanes),
            lanes,
            reuse,
            status: None,
            last_seq: 0,
            use_memo: true,
            nodes,
            open_nodes,
            unfinished,
            items: 0,
            failed: 0,
            indices: Indices::default(),
            hooks: Hooks::default(),
        }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The run's status; none before its first event.
    #[must_use]
    pub fn status(&self) -> Option<RunStatus> {
        self.status
    }

    /// The sequence number of the last event folded; 0 before the first.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// The state of a step; none when it is mapped and there is no such item (yet).
    #[must_use]
    pub fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        match self.nodes.get(id.step.index())? {
            Node::Single(instance) => id.key.is_empty().then_some(instance),
            Node::Mapped { instances, .. } => instances.get(&id.key).map(|instance| &**instance),
        }
    }

    fn instance_mut(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        match self.nodes.get_mut(id.step.index())? {
            Node::Single(instance) => id.key.is_empty().then_some(instance),
            Node::Mapped { instances, .. } => instances.get_mut(&id.key).map(|instance| &mut **instance),
        }
    }

    /// The instances of a step that are for `key`, or for an item below it, in key order.
    fn within<'a>(&'a self, step: StepIx, key: &'a ItemKey) -> impl Iterator<Item = (&'a ItemKey, &'a Instance)> {
        let (single, mapped) = match self.nodes.get(step.index()) {
            Some(Node::Single(instance)) => (Some((NO_ITEM, instance)), None),
            Some(Node::Mapped { instances, .. }) => (None, Some(instances)),
            None => (None, None),
        };
        let mapped = mapped
            .into_iter()
            .flat_map(move |instances| instances.range(key.clone()..).take_while(move |(at, _)| at.is_within(key)));
        single.into_iter().filter(|_| key.is_empty()).chain(mapped.map(|(key, instance)| (key, &**instance)))
    }

    fn ids_within(&self, step: StepIx, key: &ItemKey) -> Vec<InstanceId> {
        self.within(step, key).map(|(key, _)| InstanceId { step, key: key.clone() }).collect()
    }

    /// Every step of the run, in topological and key order.
    pub fn instances(&self) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.plan.indices().zip(&self.nodes).flat_map(|(step, node)| {
            let (single, mapped) = match node {
                Node::Single(instance) => (Some(instance), None),
                Node::Mapped { instances, .. } => (None, Some(instances)),
            };
            let single = single.into_iter().map(move |instance| (InstanceId::single(step), instance));
            let mapped = mapped.into_iter().flatten();
            single.chain(mapped.map(move |(key, instance)| (InstanceId { step, key: key.clone() }, &**instance)))
        })
    }

    /// How many steps ended how. Looks at every step.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (_, instance) in self.instances() {
            let count = match &instance.state {
                StepState::Success { from: Provenance::Memo, .. } => &mut tally.memoized,
                StepState::Success { from: Provenance::EarlierRun, .. } => &mut tally.reused,
                StepState::Success { from: Provenance::Execution, .. } => &mut tally.success,
                StepState::Skipped(_) => &mut tally.skipped,
                StepState::Failure(_) => &mut tally.failure,
                StepState::Canceled => &mut tally.canceled,
                StepState::Pending
                | StepState::Ready { .. }
                | StepState::Running { .. }
                | StepState::UpForRetry { .. } => &mut tally.open,
            };
            *count += 1;
        }
        tally
    }

    /// Steps that failed for good.
    #[must_use]
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// Steps that are there and have not ended.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Whether `more` items of dynamic outputs of a step may come: the run has so many steps that it can be kept in memory.
    /// How many there are is in the hands of ops, and where outputs are nested their numbers are multiplied.
    #[must_use]
    pub fn has_room_for(&self, step: StepIx, more: usize) -> bool {
        let consumers = self.wiring.mapped_over(step).len();
        self.items.saturating_add(more.saturating_mul(consumers)) <= MAX_ITEMS
    }

    /// Every step has ended, and no more will come.
    #[must_use]
    pub fn all_settled(&self) -> bool {
        self.open_nodes == 0
    }

    /// Steps that are ready and whose memo is to be asked, in topological order.
    pub fn unlooked(&self) -> impl Iterator<Item = &InstanceId> {
        self.indices.unlooked.iter()
    }

    /// Steps that are ready and whose result the plan has, with what they yielded, in topological order.
    pub fn reusable(&self) -> impl Iterator<Item = (&InstanceId, RunId, &[Yielded])> {
        self.indices.reusable.iter().filter_map(|id| {
            let reused = self.plan.reuse.get(*self.reuse.get(id)?)?;
            Some((id, reused.origin, reused.outputs.as_slice()))
        })
    }

    /// Steps that are ready to run: lane by lane, in each the highest priority first, then in topological order.
    pub fn runnable(&self) -> impl Iterator<Item = &InstanceId> {
        self.indices.runnable.iter().map(|(_, id)| id)
    }

    /// Steps that run.
    pub fn running(&self) -> impl ExactSizeIterator<Item = &InstanceId> {
        self.indices.running.iter()
    }

    /// Steps that wait for a moment, soonest first.
    pub fn retries(&self) -> impl Iterator<Item = &(Timestamp, InstanceId)> {
        self.indices.retries.iter()
    }

    /// Steps that can only be skipped, and why.
    pub fn skips(&self) -> impl Iterator<Item = (&InstanceId, SkipReason)> {
        self.indices.skips.iter().map(|(id, reason)| (id, *reason))
    }

    /// Steps that are to be superseded, producers before consumers.
    pub fn stale(&self) -> impl Iterator<Item = &InstanceId> {
        self.indices.stale.iter()
    }

    /// Finds a step of the plan by its path.
    #[must_use]
    pub fn find(&self, path: &StepPath) -> Option<StepIx> {
        self.wiring.find(path)
    }

    /// Finds the step that a key names; none when this plan has no such step, or another depth of mapping.
    #[must_use]
    pub fn locate(&self, key: &StepKey) -> Option<InstanceId> {
        locate(&self.wiring, key)
    }

    /// The attempt that a step is in, or comes to next.
    #[must_use]
    pub fn attempt(&self, id: &InstanceId) -> Option<Attempt> {
        let instance = self.instance(id)?;
        let attempt = match &instance.state {
            StepState::Ready { attempt, .. }
            | StepState::Running { attempt, .. }
            | StepState::UpForRetry { attempt, .. } => *attempt,
            _ => 0,
        };
        Some(Attempt { step: id.step_key(&self.plan), generation: instance.generation, attempt })
    }

    /// The memo is asked about this step in this run.
    #[must_use]
    pub fn asks_memo(&self, step: StepIx) -> bool {
        match self.plan.step(step).memo {
            Memo::Off => false,
            Memo::Sound | Memo::For(_) => self.use_memo,
        }
    }

    /// What a step that is ready waits for.
    fn memo_standing(&self, id: &InstanceId) -> MemoStanding {
        if self.reuse.contains_key(id) {
            MemoStanding::Reuse
        } else if self.asks_memo(id.step) {
            MemoStanding::Unknown
        } else {
            MemoStanding::Run
        }
    }
}

fn locate(wiring: &Wiring, key: &StepKey) -> Option<InstanceId> {
    let step = wiring.find(&key.path)?;
    (key.mapping.len() == wiring.depth(step)).then(|| InstanceId { step, key: key.mapping.clone() })
}

fn reuse(plan: &Plan, wiring: &Wiring) -> HashMap<InstanceId, usize> {
    let steps = plan.reuse.iter().enumerate();
    steps.filter_map(|(at, reused)| Some((locate(wiring, &reused.step)?, at))).collect()
}
