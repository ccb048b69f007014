//! A scheduler without time: what becomes of each step, straight from plan and scripts.

use std::collections::BTreeMap;

use opyard_model::condition::Facts;
use opyard_model::event::SkipReason;
use opyard_model::id::{ItemKey, StepPath};
use opyard_model::plan::{BaseType, OutputSlot, Plan, Source, StepIx, Trigger};
use opyard_model::state::{InstanceId, RunState, StepState};

use crate::plans::{Script, Scripts, key};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    LeftOut,
    UpstreamFailed,
    Failure,
}

/// The end of every step; of mapped ones, for the items that are there in the end.
pub(crate) type Ends = BTreeMap<InstanceId, End>;

/// What a condition asks, answered by the ends of a run that nobody stopped.
pub(crate) struct Failures<'a>(pub(crate) &'a Plan, pub(crate) &'a Ends);

impl Facts for Failures<'_> {
    fn failed_steps(&self) -> u32 {
        self.1.values().filter(|end| **end == End::Failure).count() as u32
    }

    fn has_failed(&self, step: &StepPath) -> bool {
        self.1.iter().any(|(id, end)| *end == End::Failure && self.0.step(id.step).path == *step)
    }

    fn tag(&self, key: &str) -> Option<&str> {
        self.0.tags.get(key).map(String::as_str)
    }
}

struct World<'a> {
    plan: &'a Plan,
    scripts: &'a Scripts,
    ends: Ends,
}

pub(crate) fn ends(plan: &Plan, scripts: &Scripts) -> Ends {
    let mut world = World { plan, scripts, ends: Ends::new() };
    for ix in plan.indices() {
        for key in world.keys(ix) {
            let end = world.end(ix, &key);
            world.ends.insert(InstanceId { step: ix, key }, end);
        }
    }
    world.ends
}

impl World<'_> {
    fn script(&self, ix: StepIx, key: &ItemKey) -> Script {
        self.scripts[&self.plan.step(ix).op].of(key)
    }

    fn end_of(&self, step: StepIx, key: &ItemKey) -> End {
        self.ends[&InstanceId { step, key: key.clone() }]
    }

    /// The items that a step runs for: none but its own when it is not mapped.
    fn keys(&self, ix: StepIx) -> Vec<ItemKey> {
        let Some(over) = self.plan.step(ix).mapped_over else { return vec![ItemKey::NONE] };
        let producers = self.keys(over.step).into_iter().filter(|key| self.end_of(over.step, key) == End::Success);
        producers
            .flat_map(|outer| {
                let items = self.script(over.step, &outer).items_on(over.port.into());
                (0..6).filter(move |bit| items & (1 << bit) != 0).map(move |bit| outer.child(&key(bit)))
            })
            .collect()
    }

    fn end(&self, ix: StepIx, key: &ItemKey) -> End {
        let step = self.plan.step(ix);
        let (mut needs, mut each): (Vec<End>, Vec<End>) = Default::default();
        for input in &step.inputs {
            let end = match &input.source {
                Source::Unconnected | Source::Given { .. } => End::Success,
                Source::Item { slot } if self.plan.levels(ix).any(|level| level == *slot) => End::Success,
                Source::Item { slot } => self.item(*slot, key),
                Source::Output { slot } => self.value(*slot, &ItemKey::NONE),
                Source::SameKey { slot } => self.value(*slot, &key.outer(self.plan.depth(slot.step))),
                Source::FanIn { slots } => {
                    each.extend(slots.iter().map(|slot| self.value(*slot, &ItemKey::NONE)));
                    all(slots.iter().map(|slot| self.value(*slot, &ItemKey::NONE)))
                }
                Source::Collect { slot, depth } => {
                    let within = key.outer(usize::from(*depth));
                    match self.producers(slot.step, &within) {
                        End::Success => {
                            let keys = self.keys(slot.step).into_iter().filter(|key| key.is_within(&within));
                            each.extend(keys.map(|key| self.value(*slot, &key)));
                        }
                        other => each.push(other),
                    }
                    self.whole(slot.step, &within, &|key| self.value(*slot, key))
                }
            };
            if matches!(input.source, Source::Output { .. } | Source::Item { .. } | Source::SameKey { .. }) {
                each.push(end);
            }
            needs.push(if input.optional && end == End::LeftOut { End::Success } else { end });
        }
        for before in &step.after {
            let end = self.whole(*before, &ItemKey::NONE, &|key| self.end_of(*before, key));
            needs.push(end);
            each.push(end);
        }
        let failed = needs.iter().any(|end| matches!(end, End::Failure | End::UpstreamFailed));
        let held_back = match step.when {
            Trigger::AllSuccess if failed => Some(End::UpstreamFailed),
            Trigger::AllSuccess => needs.contains(&End::LeftOut).then_some(End::LeftOut),
            Trigger::AllDone => None,
            Trigger::NoneFailed => failed.then_some(End::UpstreamFailed),
            Trigger::AnySuccess if each.contains(&End::Success) => None,
            Trigger::AnySuccess if failed => Some(End::UpstreamFailed),
            Trigger::AnySuccess => (!each.is_empty()).then_some(End::LeftOut),
        };
        if let Some(end) = held_back {
            end
        } else if self.scripts[&step.op].of(key).succeeds() {
            End::Success
        } else {
            End::Failure
        }
    }

    /// All steps of a node within an item taken together.
    fn whole(&self, ix: StepIx, within: &ItemKey, one: &dyn Fn(&ItemKey) -> End) -> End {
        match self.producers(ix, within) {
            End::Success => all(self.keys(ix).iter().filter(|key| key.is_within(within)).map(one)),
            other => other,
        }
    }

    /// What yields the items of a node within an item, taken together.
    fn producers(&self, ix: StepIx, within: &ItemKey) -> End {
        match self.plan.step(ix).mapped_over {
            Some(over) if self.plan.depth(ix) > within.len() => {
                self.whole(over.step, within, &|key| self.end_of(over.step, key))
            }
            Some(_) | None => End::Success,
        }
    }

    /// The item of another port of the step whose items a step is for.
    fn item(&self, slot: OutputSlot, key: &ItemKey) -> End {
        let outer = key.outer(self.plan.depth(slot.step));
        let items = self.script(slot.step, &outer).items_on(slot.port.into());
        match self.end_of(slot.step, &outer) {
            End::Success if (0..6).any(|bit| items & (1 << bit) != 0 && crate::plans::key(bit) == key[outer.len()]) => {
                End::Success
            }
            End::Success => End::LeftOut,
            other => other,
        }
    }

    fn value(&self, slot: OutputSlot, key: &ItemKey) -> End {
        let end = self.end_of(slot.step, key);
        let output = self.plan.output(slot);
        let is_there = output.dynamic
            || output.base == BaseType::Nothing
            || self.script(slot.step, key).yields(usize::from(slot.port), output);
        if end == End::Success && !is_there { End::LeftOut } else { end }
    }
}

fn all(ends: impl Iterator<Item = End>) -> End {
    let ends: Vec<_> = ends.collect();
    if ends.iter().any(|end| matches!(end, End::Failure | End::UpstreamFailed)) {
        End::UpstreamFailed
    } else if !ends.is_empty() && ends.iter().all(|end| *end == End::LeftOut) {
        End::LeftOut
    } else {
        End::Success
    }
}

/// What became of every step in a run that ended, in the same words; steps of items that are gone in the end are
/// checked to be skipped, and left out.
pub(crate) fn ends_of(state: &RunState) -> Ends {
    let mut ends = Ends::new();
    for (id, instance) in state.instances() {
        let end = match &instance.state {
            StepState::Success { .. } => End::Success,
            StepState::Skipped(SkipReason::NotYielded) => End::LeftOut,
            StepState::Skipped(SkipReason::UpstreamFailed) => End::UpstreamFailed,
            StepState::Failure(_) => End::Failure,
            other => panic!("{id:?} ended as {other:?}"),
        };
        if let Some(over) = state.plan().step(id.step).mapped_over {
            let outer = id.key.outer(id.key.len() - 1);
            let producer = state.instance(&InstanceId { step: over.step, key: outer }).unwrap();
            let is_there = producer.items(over.port).any(|(key, _)| Some(key) == id.key.last());
            match &producer.state {
                StepState::Success { .. } if is_there => {}
                StepState::Success { .. } | StepState::Skipped(SkipReason::NotYielded) => {
                    assert_eq!(end, End::LeftOut, "{id:?} is of an item that is gone");
                    continue;
                }
                _ => {
                    assert_eq!(end, End::UpstreamFailed, "{id:?} is of an item that never came to be");
                    continue;
                }
            }
        }
        ends.insert(id, end);
    }
    ends
}
