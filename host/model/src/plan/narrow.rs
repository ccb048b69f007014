//! A part of a plan, with the results of an earlier run in place of the rest.
//!
//! What is to run is said in instances (step and item). What they need and what does not run is taken from the earlier
//! run; whatever neither runs nor is needed leaves the plan. A step whose result is taken whole keeps no inputs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::{OutputSlot, Plan, Source, Step, StepIx};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::digest::Digest;
use crate::error::Code;
use crate::event::SkipReason;
use crate::id::{ItemKey, RunId, StepKey};
use crate::selection::Items;
use crate::state::{RunState, StepState};
use crate::value::Yielded;

/// A run that has ended, as a source of results.
#[derive(Debug, Clone)]
pub struct EarlierRun {
    /// The run.
    pub run: RunId,
    /// Where it ended.
    pub state: RunState,
}

/// The result of an earlier run that takes the place of executing a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReusedStep {
    /// The step.
    pub step: StepKey,
    /// The run in which it succeeded.
    pub origin: RunId,
    /// Its outputs, items included.
    pub outputs: Vec<Yielded>,
}

/// Where results may be taken from.
#[derive(Clone, Copy)]
pub struct Earlier<'a> {
    /// The runs, the one to go on from first, then what that one went on from. A step is looked for in the first run whose
    /// plan has it.
    pub runs: &'a [EarlierRun],
    /// Artifacts that are gone: a step that yielded one of them has no result any more.
    pub gone: &'a dyn Fn(&Digest) -> bool,
}

/// What of a plan is to run.
#[derive(Debug, Clone)]
pub enum Scope {
    /// What has not succeeded in the earlier run, and all that needs it.
    Unsuccessful,
    /// These, and all that needs them.
    From(BTreeMap<StepIx, Items>),
    /// These alone.
    Only(BTreeMap<StepIx, Items>),
    /// Everything.
    All,
}

/// What has become of an instance in the earlier run.
enum Before {
    /// It has a result that fits: what it yielded.
    Result(Vec<Yielded>),
    /// It had nothing to do, since an output was not yielded; it will find that again.
    NothingToDo,
    /// Nothing that could be used.
    Nothing,
}

impl Plan {
    /// The part of the plan that is to run after earlier runs, with their results for what is not.
    ///
    /// A step whose config is not what it was runs again, whatever the scope leaves out, with all that needs it: what it
    /// gave was for another config. (Not so for [`Scope::Only`], which is taken by the word.) A newer component alone is no
    /// reason.
    ///
    /// # Errors
    /// `OPY-227` when a result that is needed is not there, or nothing is to run.
    pub fn after(self, earlier: Earlier<'_>, scope: Scope) -> Result<Self, Diagnostics> {
        let work = Narrowing { plan: &self, earlier, run: vec![Items::None; self.steps.len()] };
        work.narrow(scope)
    }
}

struct Narrowing<'a> {
    plan: &'a Plan,
    earlier: Earlier<'a>,
    /// What runs of each step.
    run: Vec<Items>,
}

impl<'a> Narrowing<'a> {
    fn narrow(mut self, scope: Scope) -> Result<Plan, Diagnostics> {
        let (seeds, spreads) = match scope {
            Scope::All => return Ok(self.plan.clone()),
            Scope::Unsuccessful => (BTreeMap::new(), true),
            Scope::From(seeds) => (seeds, true),
            Scope::Only(seeds) => (seeds, false),
        };
        let all_unsuccessful = spreads && seeds.is_empty();
        for (ix, items) in seeds {
            self.run[ix.index()] = items;
        }
        if spreads {
            for ix in self.plan.indices() {
                if self.run[ix.index()] == Items::All {
                    self.run[ix.index()] = self.all(ix);
                }
                let more = self.also_runs(ix, all_unsuccessful);
                self.run[ix.index()].join(more);
            }
        }
        if self.run.iter().all(|items| *items == Items::None) {
            let problem = Diagnostic::error(Code::BadSelection, "nothing has to run again: every step has a result");
            return Err(problem.help("`--from STEP` runs a step and what needs it again, `--all` everything").into());
        }
        let needed = self.needed();
        self.check(&needed)?;
        Ok(self.build(&needed))
    }

    /// What runs of a step since something before it does, its config has changed, or (for `unsuccessful`) it did not
    /// succeed.
    fn also_runs(&self, ix: StepIx, unsuccessful: bool) -> Items {
        let step = self.plan.step(ix);
        let runs = |ix: StepIx| self.run[ix.index()] != Items::None;
        let mut items = Items::None;
        for input in &step.inputs {
            match &input.source {
                Source::Unconnected | Source::Given { .. } | Source::Outside { .. } => {}
                Source::Item { slot } | Source::SameKey { slot } => items.join(self.run[slot.step.index()].clone()),
                Source::Collect { slot, depth } => items.join(self.run[slot.step.index()].outer(usize::from(*depth))),
                Source::Output { slot } if runs(slot.step) => items = Items::All,
                Source::FanIn { slots } if slots.iter().any(|slot| runs(slot.step)) => items = Items::All,
                Source::Output { .. } | Source::FanIn { .. } => {}
            }
        }
        if let Some(slot) = step.mapped_over {
            items.join(self.run[slot.step.index()].clone());
        }
        if items == Items::All || step.after.iter().copied().any(runs) || self.is_configured_anew(step) {
            return self.all(ix);
        }
        if unsuccessful {
            let failed = |key: &ItemKey| matches!(self.before(ix, key), Before::Nothing);
            let keys: BTreeSet<_> = self.keys(ix).into_iter().filter(failed).collect();
            items.join(match (keys.is_empty(), step.mapped_over) {
                (true, _) => Items::None,
                (false, None) => Items::All,
                (false, Some(_)) => Items::Keys(keys),
            });
        }
        match items {
            // Where there was no item, and none can come, nothing runs.
            Items::Keys(mut keys) => {
                let is_known = self.known(ix);
                keys.retain(|key| is_known(key));
                if keys.is_empty() { Items::None } else { Items::Keys(keys) }
            }
            Items::None | Items::All => items,
        }
    }

    /// Whether there were items within one, or may be since what yields them runs.
    fn known(&self, ix: StepIx) -> impl Fn(&ItemKey) -> bool + '_ {
        let keys: BTreeSet<_> = self.keys(ix).into_iter().collect();
        let anew = self.plan.step(ix).mapped_over.map(|slot| &self.run[slot.step.index()]);
        move |key| {
            let was = keys.range(key..).next().is_some_and(|one| one.is_within(key));
            was || anew.is_some_and(|anew| anew.hold(key))
        }
    }

    /// Every instance of a step. The items of one whose producer does not run are known; there may be none.
    fn all(&self, ix: StepIx) -> Items {
        match self.plan.step(ix).mapped_over {
            Some(slot) if self.run[slot.step.index()] == Items::None => {
                let keys: BTreeSet<_> = self.keys(ix).into_iter().collect();
                if keys.is_empty() { Items::None } else { Items::Keys(keys) }
            }
            Some(_) | None => Items::All,
        }
    }

    fn is_configured_anew(&self, step: &Step) -> bool {
        self.step_before(step).is_some_and(|(_, before)| before.config != step.config)
    }

    /// The step of the earlier runs that is at the same place.
    fn step_before(&self, step: &Step) -> Option<(&'a EarlierRun, &'a Step)> {
        self.earlier.runs.iter().find_map(|run| {
            let ix = run.state.find(&step.path)?;
            Some((run, run.state.plan().step(ix)))
        })
    }

    /// What has become of an instance.
    fn before(&self, ix: StepIx, key: &ItemKey) -> Before {
        let step = self.plan.step(ix);
        let Some((run, earlier)) = self.step_before(step) else { return Before::Nothing };
        let key = StepKey { path: step.path.clone(), mapping: key.clone() };
        let Some(instance) = run.state.locate(&key).and_then(|id| run.state.instance(&id)) else {
            return Before::Nothing;
        };
        match &instance.state {
            StepState::Skipped(SkipReason::NotYielded) => Before::NothingToDo,
            StepState::Success { .. } => {
                let fits = |one: &Yielded| {
                    let port = step.outputs.iter().find(|port| port.port == one.port);
                    port.is_some_and(|port| {
                        (!port.dynamic || one.value.item_of(&key.mapping).is_some())
                            && port.type_name == one.value.type_name
                    }) && !(self.earlier.gone)(&one.value.artifact.digest)
                };
                let outputs = instance.yielded(&earlier.outputs);
                if outputs.iter().all(fits) { Before::Result(outputs) } else { Before::Nothing }
            }
            _ => Before::Nothing,
        }
    }

    /// The items that a step ran for in the earlier run; the one that is none, if it is not mapped.
    fn keys(&self, ix: StepIx) -> Vec<ItemKey> {
        let Some(slot) = self.plan.step(ix).mapped_over else { return vec![ItemKey::NONE] };
        let port = &self.plan.output(slot).port;
        let of = |producer: ItemKey| match self.before(slot.step, &producer) {
            Before::Result(outputs) => outputs,
            Before::NothingToDo | Before::Nothing => Vec::new(),
        };
        let outputs = self.keys(slot.step).into_iter().flat_map(of);
        outputs.filter(|one| one.port == *port).map(|one| one.value.mapping_key).collect()
    }

    /// The instances of a step that do not run, by their items; of those that are not known, none.
    fn left(&self, ix: StepIx) -> Vec<ItemKey> {
        match &self.run[ix.index()] {
            Items::All => Vec::new(),
            run => self.keys(ix).into_iter().filter(|key| !run.hold(key)).collect(),
        }
    }

    /// Every instance of the step has a result, so that it needs nothing itself.
    fn is_taken_whole(&self, ix: StepIx) -> bool {
        self.run[ix.index()] == Items::None
            && self.left(ix).iter().all(|key| matches!(self.before(ix, key), Before::Result(_)))
    }

    /// The steps that stay in the plan.
    fn needed(&self) -> Vec<bool> {
        let mut needed: Vec<bool> = self.run.iter().map(|items| *items != Items::None).collect();
        let indices: Vec<_> = self.plan.indices().collect();
        for ix in indices.into_iter().rev().filter(|ix| needed[ix.index()]).collect::<Vec<_>>() {
            self.mark(ix, &mut needed);
        }
        needed
    }

    fn mark(&self, ix: StepIx, needed: &mut [bool]) {
        let mut open = vec![ix];
        while let Some(ix) = open.pop() {
            let step = self.plan.step(ix);
            let wants: Vec<_> = if self.is_taken_whole(ix) {
                step.mapped_over.iter().map(|slot| slot.step).collect()
            } else {
                step.dependencies().collect()
            };
            for producer in wants {
                if !std::mem::replace(&mut needed[producer.index()], true) {
                    open.push(producer);
                }
            }
        }
    }

    /// Every result that is needed is there.
    fn check(&self, needed: &[bool]) -> Result<(), Diagnostics> {
        let mut missing = Vec::new();
        for ix in self.plan.indices().filter(|ix| needed[ix.index()]) {
            let step = self.plan.step(ix);
            let run = &self.run[ix.index()];
            if let (Some(slot), false) = (step.mapped_over, *run == Items::All) {
                // Items are not those of the earlier run when what yields them runs again.
                let anew = &self.run[slot.step.index()];
                let renewed = match anew {
                    Items::None => None,
                    Items::All => Some(ItemKey::NONE),
                    Items::Keys(keys) => keys.iter().find(|key| !run.hold(key)).cloned(),
                };
                let is_known = self.known(ix);
                let unknown = match run {
                    Items::Keys(selected) => selected.iter().find(|key| !is_known(key)),
                    Items::None | Items::All => None,
                };
                if let Some(mapping) = renewed.or(unknown.cloned()) {
                    missing.push(StepKey { path: step.path.clone(), mapping });
                    continue;
                }
            }
            for key in self.left(ix) {
                if matches!(self.before(ix, &key), Before::Nothing) {
                    missing.push(StepKey { path: step.path.clone(), mapping: key });
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let listed: Vec<_> = missing.iter().take(5).map(|step| format!("`{step}`")).collect();
        let more = if missing.len() > 5 { format!(" and {} more", missing.len() - 5) } else { String::new() };
        let listed = format!("{}{more}", listed.join(", "));
        let why = match self.earlier.runs.first() {
            None => format!("and no run of `{}` has succeeded yet", self.plan.job),
            Some(run) => format!("which {} does not have", run.run),
        };
        let problem =
            Diagnostic::error(Code::BadSelection, format!("what is to run needs the result of {listed}, {why}"));
        Err(problem.help("select that as well: `*name` selects a step and all that it needs").into())
    }

    fn build(self, needed: &[bool]) -> Plan {
        let kept: Vec<StepIx> = self.plan.indices().filter(|ix| needed[ix.index()]).collect();
        let new: HashMap<StepIx, StepIx> = kept.iter().zip(0..).map(|(old, at)| (*old, StepIx(at))).collect();
        let mut steps = Vec::with_capacity(kept.len());
        let mut reused = Vec::new();
        for ix in &kept {
            let mut step = self.plan.step(*ix).clone();
            let before = self.step_before(&step);
            if let Some((_, before)) = before.filter(|_| self.is_taken_whole(*ix)) {
                step.inputs.iter_mut().for_each(|input| input.source = Source::Unconnected);
                step.after.clear();
                // What its result is of.
                (step.component, step.config) = (before.component, before.config.clone());
            }
            renumber(&mut step, &new);
            for key in self.left(*ix) {
                if let (Before::Result(outputs), Some((run, _))) = (self.before(*ix, &key), before) {
                    let step = StepKey { path: step.path.clone(), mapping: key };
                    reused.push(ReusedStep { step, origin: run.run, outputs });
                }
            }
            steps.push(step);
        }
        Plan {
            job: self.plan.job.clone(),
            environment: self.plan.environment.clone(),
            tags: self.plan.tags.clone(),
            steps,
            resources: self.plan.resources.clone(),
            secrets: self.plan.secrets.clone(),
            io_managers: self.plan.io_managers.clone(),
            types: self.plan.types.clone(),
            hooks: self.plan.hooks.clone(),
            job_hooks: self.plan.job_hooks.clone(),
            on_failure: self.plan.on_failure,
            policy: self.plan.policy.clone(),
            pools: self.plan.pools.clone(),
            run_queue: self.plan.run_queue.clone(),
            settings: self.plan.settings.clone(),
            origins: self.plan.origins.clone(),
            reuse: reused,
        }
    }
}

/// Every index of a step as the narrowed plan numbers it. What a step refers to stays in the plan with it.
fn renumber(step: &mut Step, new: &HashMap<StepIx, StepIx>) {
    let renumbered = |slot: &mut OutputSlot| {
        if let Some(ix) = new.get(&slot.step) {
            slot.step = *ix;
        }
    };
    for input in &mut step.inputs {
        match &mut input.source {
            Source::Unconnected | Source::Given { .. } | Source::Outside { .. } => {}
            Source::Output { slot }
            | Source::Item { slot }
            | Source::SameKey { slot }
            | Source::Collect { slot, .. } => {
                renumbered(slot);
            }
            Source::FanIn { slots } => slots.iter_mut().for_each(renumbered),
        }
    }
    step.after.iter_mut().filter_map(|ix| Some((new.get(ix)?, ix))).for_each(|(new, ix)| *ix = *new);
    if let Some(slot) = &mut step.mapped_over {
        renumbered(slot);
    }
}
