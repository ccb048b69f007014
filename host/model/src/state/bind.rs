//! What a step is given: from the states of the steps before it to values on its ports.

use std::collections::BTreeMap;

use super::{Instance, InstanceId, Node, RunState, StepState};
use crate::event::SkipReason;
use crate::id::MappingKey;
use crate::plan::{BaseType, OutputSlot, Source, StepInput, StepIx, Trigger};
use crate::step::{Bound, BoundInput};
use crate::value::ValueRef;

/// What has become of an output that somebody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is there.
    Yielded,
    /// It was left out, or its step was skipped for such a reason.
    NotYielded,
    /// Its step failed, was stopped, or was skipped since one before it failed.
    Failed,
}

/// What is to become of a step whose dependencies have settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Run,
    Skip(SkipReason),
}

impl Fate {
    fn of(instance: &Instance) -> Self {
        match &instance.state {
            StepState::Success { .. } => Self::Yielded,
            StepState::Skipped(SkipReason::NotYielded) => Self::NotYielded,
            StepState::Skipped(SkipReason::UpstreamFailed | SkipReason::Canceled)
            | StepState::Failure(_)
            | StepState::Canceled => Self::Failed,
            // Not settled: whoever asks waits for it, so this is not reached; "left out" is the harmless answer.
            StepState::Pending | StepState::Ready { .. } | StepState::Running { .. } | StepState::UpForRetry { .. } => {
                Self::NotYielded
            }
        }
    }

    /// The fate of several taken together: failed if one failed, left out if all (and one at least) were.
    fn of_many(fates: impl Iterator<Item = Self>) -> Self {
        let (mut any, mut yielded) = (false, false);
        for fate in fates {
            match fate {
                Self::Failed => return Self::Failed,
                Self::Yielded => yielded = true,
                Self::NotYielded => {}
            }
            any = true;
        }
        if yielded || !any { Self::Yielded } else { Self::NotYielded }
    }
}

impl RunState {
    /// What is to become of a step all of whose dependencies have settled.
    pub(super) fn verdict(&self, id: &InstanceId) -> Verdict {
        let step = self.plan.step(id.step);
        if let Some(reason) = self.revoked(id) {
            return Verdict::Skip(reason);
        }
        if step.when == Trigger::AllDone || step.when == Trigger::AnySuccess && self.is_something_there(id) {
            return Verdict::Run;
        }
        let mut not_yielded = false;
        for input in &step.inputs {
            match self.input_fate(id, input) {
                Fate::Failed => return Verdict::Skip(SkipReason::UpstreamFailed),
                Fate::NotYielded => not_yielded |= !input.optional || step.when == Trigger::AnySuccess,
                Fate::Yielded => {}
            }
        }
        for producer in &step.after {
            match self.whole_fate(*producer) {
                Fate::Failed => return Verdict::Skip(SkipReason::UpstreamFailed),
                Fate::NotYielded => not_yielded = true,
                Fate::Yielded => {}
            }
        }
        if not_yielded && step.when != Trigger::NoneFailed {
            Verdict::Skip(SkipReason::NotYielded)
        } else {
            Verdict::Run
        }
    }

    /// One at least of the steps before has given what it could: each value of a list counts for itself.
    fn is_something_there(&self, id: &InstanceId) -> bool {
        let step = self.plan.step(id.step);
        let of_inputs = step.inputs.iter().any(|input| match &input.source {
            Source::Unconnected | Source::Given { .. } | Source::Outside { .. } => false,
            Source::FanIn { slots } => slots.iter().any(|slot| {
                self.single(slot.step).is_some_and(|producer| self.slot_fate(producer, *slot) == Fate::Yielded)
            }),
            Source::Collect { slot } => match self.nodes.get(slot.step.index()) {
                Some(Node::Mapped { instances, .. }) => {
                    let mut remaining = self.remaining(slot.step, instances);
                    self.items_fate(slot.step) == Fate::Yielded
                        && remaining.any(|producer| self.slot_fate(producer, *slot) == Fate::Yielded)
                }
                Some(Node::Single(producer)) => self.slot_fate(producer, *slot) == Fate::Yielded,
                None => false,
            },
            Source::Output { .. } | Source::Item { .. } | Source::SameKey { .. } => {
                self.input_fate(id, input) == Fate::Yielded
            }
        });
        of_inputs || step.after.iter().any(|producer| self.whole_fate(*producer) == Fate::Yielded)
    }

    /// Why a mapped step must not run whatever else becomes of its inputs: the producer of its items failed, or did not
    /// yield this one in the end. Comes before everything else, so that the order of events does not matter.
    pub(super) fn revoked(&self, id: &InstanceId) -> Option<SkipReason> {
        let slot = self.plan.step(id.step).mapped_over?;
        let producer = self.single(slot.step)?;
        match Fate::of(producer) {
            Fate::Failed => Some(SkipReason::UpstreamFailed),
            // While the producer is at it, its items are there, provisionally.
            Fate::Yielded | Fate::NotYielded => {
                self.item(slot, id.key.as_ref()).is_none().then_some(SkipReason::NotYielded)
            }
        }
    }

    /// The steps of a mapped node whose items its producer yielded in the end.
    fn remaining<'a>(
        &'a self,
        mapped: StepIx,
        instances: &'a BTreeMap<MappingKey, Instance>,
    ) -> impl Iterator<Item = &'a Instance> {
        let slot = self.plan.step(mapped).mapped_over;
        instances
            .iter()
            .filter(move |(key, _)| slot.is_some_and(|slot| self.item(slot, Some(key)).is_some()))
            .map(|(_, instance)| instance)
    }

    /// The values on the inputs of a step that is ready, in port order. Ports of type `nothing` are left out. Of those that
    /// are outside, nobody has asked for a fingerprint.
    #[must_use]
    pub fn bind(&self, id: &InstanceId) -> Vec<BoundInput> {
        let mut bound = Vec::new();
        for input in &self.plan.step(id.step).inputs {
            let mut values = Vec::new();
            match &input.source {
                Source::Unconnected => {}
                Source::Outside { value } => {
                    let (value, many) = (value.clone(), input.many);
                    let outside = Bound::Outside { value, many, fingerprint: None };
                    bound.push(BoundInput { port: input.port.clone(), bound: outside });
                    continue;
                }
                Source::Given { value, .. } => values.push(ValueRef::clone(value)),
                Source::Output { slot } => {
                    values.extend(self.single(slot.step).and_then(|producer| self.plain(producer, *slot)))
                }
                Source::Item { slot } => values.extend(self.item(*slot, id.key.as_ref()).cloned()),
                Source::SameKey { slot } => {
                    let producer = InstanceId { step: slot.step, key: id.key.clone() };
                    values.extend(self.instance(&producer).and_then(|producer| self.plain(producer, *slot)));
                }
                Source::FanIn { slots } => {
                    values.extend(slots.iter().filter_map(|slot| self.plain(self.single(slot.step)?, *slot)));
                }
                Source::Collect { slot } => self.collect(*slot, &mut values),
            }
            if self.carries_nothing(&input.source) {
                continue;
            }
            let bound_values = if input.many {
                Bound::Many(values)
            } else {
                values.into_iter().next().map_or(Bound::Absent, Bound::One)
            };
            bound.push(BoundInput { port: input.port.clone(), bound: bound_values });
        }
        bound
    }

    fn carries_nothing(&self, source: &Source) -> bool {
        let slot = match source {
            Source::Unconnected | Source::Given { .. } | Source::Outside { .. } => return false,
            Source::Output { slot } | Source::Item { slot } | Source::SameKey { slot } | Source::Collect { slot } => {
                Some(slot)
            }
            Source::FanIn { slots } => slots.first(),
        };
        slot.is_some_and(|slot| self.plan.output(*slot).base == BaseType::Nothing)
    }

    fn collect(&self, slot: OutputSlot, values: &mut Vec<ValueRef>) {
        match self.nodes.get(slot.step.index()) {
            // Items of a step that failed in the end are none, for one that runs all the same.
            Some(Node::Single(producer)) if matches!(producer.state, StepState::Success { .. }) => {
                values.extend(producer.items(slot.port).map(|(_, value)| value.clone()));
            }
            Some(Node::Single(_)) => {}
            Some(Node::Mapped { instances, .. }) => {
                values.extend(instances.values().filter_map(|producer| self.plain(producer, slot)));
            }
            None => {}
        }
    }

    fn single(&self, ix: StepIx) -> Option<&Instance> {
        match self.nodes.get(ix.index())? {
            Node::Single(instance) => Some(instance),
            Node::Mapped { .. } => None,
        }
    }

    fn item(&self, slot: OutputSlot, key: Option<&MappingKey>) -> Option<&ValueRef> {
        let item = self.single(slot.step)?.items.get(&(slot.port, key?.clone()))?;
        Some(&item.value)
    }

    /// The value that `producer` yielded on a plain port.
    fn plain(&self, producer: &Instance, slot: OutputSlot) -> Option<ValueRef> {
        let StepState::Success { outputs, .. } = &producer.state else { return None };
        let port = &self.plan.output(slot).port;
        outputs.iter().find(|output| output.port == *port).map(|output| output.value.clone())
    }

    fn slot_fate(&self, producer: &Instance, slot: OutputSlot) -> Fate {
        let output = self.plan.output(slot);
        match Fate::of(producer) {
            Fate::Yielded if output.base == BaseType::Nothing || output.dynamic => Fate::Yielded,
            Fate::Yielded => match &producer.state {
                StepState::Success { outputs, .. } if outputs.iter().any(|one| one.port == output.port) => {
                    Fate::Yielded
                }
                _ => Fate::NotYielded,
            },
            fate => fate,
        }
    }

    fn input_fate(&self, id: &InstanceId, input: &StepInput) -> Fate {
        match &input.source {
            Source::Unconnected | Source::Given { .. } | Source::Outside { .. } => Fate::Yielded,
            // Looked at with the producer of the items, above.
            Source::Item { .. } => Fate::Yielded,
            Source::Output { slot } => {
                self.single(slot.step).map_or(Fate::NotYielded, |producer| self.slot_fate(producer, *slot))
            }
            Source::SameKey { slot } => self
                .instance(&InstanceId { step: slot.step, key: id.key.clone() })
                .map_or(Fate::NotYielded, |producer| self.slot_fate(producer, *slot)),
            Source::FanIn { slots } => {
                Fate::of_many(slots.iter().filter_map(|slot| Some(self.slot_fate(self.single(slot.step)?, *slot))))
            }
            Source::Collect { slot } => match self.nodes.get(slot.step.index()) {
                Some(Node::Single(producer)) => self.slot_fate(producer, *slot),
                Some(Node::Mapped { instances, .. }) => match self.items_fate(slot.step) {
                    Fate::Yielded => Fate::of_many(
                        self.remaining(slot.step, instances).map(|producer| self.slot_fate(producer, *slot)),
                    ),
                    fate => fate,
                },
                None => Fate::NotYielded,
            },
        }
    }

    /// The fate of the step that yields the items which `mapped` is mapped over.
    fn items_fate(&self, mapped: StepIx) -> Fate {
        let producer = self.plan.step(mapped).mapped_over.and_then(|slot| self.single(slot.step));
        producer.map_or(Fate::NotYielded, Fate::of)
    }

    fn whole_fate(&self, ix: StepIx) -> Fate {
        match self.nodes.get(ix.index()) {
            Some(Node::Single(instance)) => Fate::of(instance),
            Some(Node::Mapped { instances, .. }) => match self.items_fate(ix) {
                Fate::Yielded => Fate::of_many(self.remaining(ix, instances).map(Fate::of)),
                fate => fate,
            },
            None => Fate::NotYielded,
        }
    }
}
