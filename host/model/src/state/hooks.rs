//! Hooks that have something to be told: since when, of what, and whether it is certain yet.
//!
//! A hook has effects outside, so it is told of what stands. What a step did on an item of a producer that has not succeeded
//! is provisional: its hooks are *held* until the producer has, and dropped when the step starts over.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Instance, InstanceId, RunState, StepState};
use crate::error::Failure;
use crate::event::{Attempt, HookName};
use crate::hook::{HookIx, Outcome};
use crate::id::ItemKey;
use crate::plan::StepIx;

/// One hook and the one try of which it is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HookId {
    /// The step.
    pub id: InstanceId,
    /// Its generation.
    pub generation: u32,
    /// The try.
    pub attempt: u32,
    /// The hook.
    pub hook: HookIx,
}

/// What a hook is told of a try.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What became of it.
    pub outcome: Outcome,
    /// Why it did not succeed.
    pub failure: Option<Failure>,
}

/// Hooks whose own outcome is not recorded.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Hooks {
    /// To be told.
    due: BTreeMap<HookId, Arc<Told>>,
    /// To be told once that of which they are told is no longer provisional.
    held: BTreeMap<HookId, Arc<Told>>,
}

impl RunState {
    /// Hooks that may be told now, steps in topological order. What they are told may still be on its way to the disk.
    pub fn due_hooks(&self) -> impl Iterator<Item = &HookId> {
        self.hooks.due.keys()
    }

    /// Hooks that wait until what they are to be told is no longer provisional.
    pub fn held_hooks(&self) -> impl Iterator<Item = &HookId> {
        self.hooks.held.keys()
    }

    /// No hook waits to be told something, and none is being told.
    #[must_use]
    pub fn no_hook_is_open(&self) -> bool {
        self.hooks.due.is_empty() && self.hooks.held.is_empty()
    }

    /// What a hook is to be told; none when its outcome is recorded.
    #[must_use]
    pub fn told(&self, hook: &HookId) -> Option<&Told> {
        self.hooks.due.get(hook).or_else(|| self.hooks.held.get(hook)).map(|told| &**told)
    }

    /// The try and the hook, as events name them.
    #[must_use]
    pub fn hook_name(&self, hook: &HookId) -> Option<(Attempt, HookName)> {
        let HookId { id, generation, attempt, hook } = hook;
        let found = self.plan.hook(*hook)?;
        let of = Attempt { step: id.step_key(&self.plan), generation: *generation, attempt: *attempt };
        Some((of, HookName { index: *hook, on: found.on, name: found.to_string() }))
    }

    /// The hook that an event names.
    #[must_use]
    pub fn hook_id(&self, of: &Attempt, hook: &HookName) -> Option<HookId> {
        let id = self.locate(&of.step)?;
        Some(HookId { id, generation: of.generation, attempt: of.attempt, hook: hook.index })
    }

    /// A try has ended: its hooks have something to be told.
    pub(super) fn tell_hooks(&mut self, id: &InstanceId, of: &Attempt, outcome: Outcome, failure: Option<&Failure>) {
        let hooks: Vec<_> = self.plan.hooks_of(id.step, outcome).collect();
        if hooks.is_empty() {
            return;
        }
        let told = Arc::new(Told { outcome, failure: failure.cloned() });
        let waits = self.is_provisional(id);
        for hook in hooks {
            let hook = HookId { id: id.clone(), generation: of.generation, attempt: of.attempt, hook };
            let open = if waits { &mut self.hooks.held } else { &mut self.hooks.due };
            open.insert(hook, Arc::clone(&told));
        }
    }

    /// A step has settled for `key`: what was provisional because of its items may stand now.
    pub(super) fn release_hooks(&mut self, producer: StepIx, key: &ItemKey) {
        if self.hooks.held.is_empty() {
            return;
        }
        for step in self.wiring.below(producer).to_vec() {
            let first = first_of(&InstanceId { step, key: key.clone() });
            let within = |hook: &HookId| hook.id.step == step && hook.id.key.is_within(key);
            let held = self.hooks.held.range(first..).take_while(|(hook, _)| within(hook));
            let stand: Vec<_> =
                held.map(|(hook, _)| hook).filter(|hook| !self.is_provisional(&hook.id)).cloned().collect();
            for hook in stand {
                if let Some((hook, told)) = self.hooks.held.remove_entry(&hook) {
                    self.hooks.due.insert(hook, told);
                }
            }
        }
    }

    /// The step starts over: nobody is told any more of what it did.
    pub(super) fn drop_hooks(&mut self, id: &InstanceId) {
        // Nothing that stands is superseded.
        let of_it: Vec<_> = self.hooks.held.range(first_of(id)..).take_while(|(hook, _)| hook.id == *id).collect();
        let of_it: Vec<_> = of_it.into_iter().map(|(hook, _)| hook.clone()).collect();
        for hook in of_it {
            self.hooks.held.remove(&hook);
        }
    }

    /// The outcome of a hook is recorded.
    pub(super) fn end_hook(&mut self, of: &Attempt, hook: &HookName, may_be_held: bool) -> Result<(), String> {
        let known =
            self.plan.hook(hook.index).is_some_and(|known| known.on == hook.on && known.to_string() == hook.name);
        self.expect(known, "there is no such hook")?;
        let id = self.hook_id(of, hook).ok_or("there is no such step")?;
        let is_held = may_be_held && self.hooks.held.remove(&id).is_some();
        let was_open = is_held || self.hooks.due.remove(&id).is_some();
        self.expect(was_open, "the hook has nothing to be told")
    }

    /// What the step did may turn out not to have been: it is of an item of a producer that has not succeeded, or was given
    /// something that has changed since.
    fn is_provisional(&self, id: &InstanceId) -> bool {
        if self.instance(id).is_none_or(|instance| instance.stale) {
            return true;
        }
        !self.plan.levels(id.step).zip((0..id.key.len()).rev()).all(|(over, depth)| {
            let producer = InstanceId { step: over.step, key: id.key.outer(depth) };
            let stands = |one: &Instance| !one.stale && matches!(one.state, StepState::Success { .. });
            self.instance(&producer).is_some_and(stands)
        })
    }

    /// Compares what is held with what follows from the states.
    pub(super) fn audit_hooks(&self) -> Result<(), String> {
        let wrong = |hook: &HookId, what: &str| Err(format!("{hook:?} {what}"));
        if let Some(hook) = self.hooks.due.keys().find(|hook| self.is_provisional(&hook.id)) {
            return wrong(hook, "is due, and provisional");
        }
        match self.hooks.held.keys().find(|hook| !self.is_provisional(&hook.id)) {
            Some(hook) => wrong(hook, "is held, and stands"),
            None => Ok(()),
        }
    }
}

fn first_of(id: &InstanceId) -> HookId {
    HookId { id: id.clone(), generation: 0, attempt: 0, hook: HookIx(0) }
}
