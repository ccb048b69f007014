//! Who waits for whom: what follows from the plan alone, computed once per run.

use std::collections::HashMap;

use crate::id::StepPath;
use crate::plan::{OutputSlot, Plan, Source, StepIx};

/// What a consumer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Edge {
    /// The whole step: all of its items, when it is mapped.
    Whole,
    /// The producer's instance at the consumer's own key.
    SameKey,
}

/// The dependencies of a plan, both ways.
#[derive(Debug, PartialEq)]
pub(super) struct Wiring {
    dependencies: Vec<Vec<(StepIx, Edge)>>,
    consumers: Vec<Vec<(StepIx, Edge)>>,
    mapped_over: HashMap<StepIx, Vec<(u16, StepIx)>>,
    paths: HashMap<StepPath, StepIx>,
}

impl Wiring {
    pub(super) fn of(plan: &Plan) -> Self {
        let mut wiring = Self {
            dependencies: vec![Vec::new(); plan.steps.len()],
            consumers: vec![Vec::new(); plan.steps.len()],
            mapped_over: HashMap::new(),
            paths: HashMap::with_capacity(plan.steps.len()),
        };
        for ix in plan.indices() {
            let step = plan.step(ix);
            wiring.paths.insert(step.path.clone(), ix);
            let mut edges: Vec<(StepIx, Edge)> = step.after.iter().map(|producer| (*producer, Edge::Whole)).collect();
            for input in &step.inputs {
                let whole = |slot: &OutputSlot| (slot.step, Edge::Whole);
                match &input.source {
                    Source::Unconnected | Source::Given { .. } | Source::Outside { .. } | Source::Item { .. } => {}
                    Source::SameKey { slot } => edges.push((slot.step, Edge::SameKey)),
                    Source::Output { slot } | Source::Collect { slot } => edges.push(whole(slot)),
                    Source::FanIn { slots } => edges.extend(slots.iter().map(whole)),
                }
            }
            if let Some(slot) = step.mapped_over {
                wiring.mapped_over.entry(slot.step).or_default().push((slot.port, ix));
                // Items are provisional until their producer succeeds: only a step that has no effect outside may start
                // on them before.
                if !(step.hermetic && step.keeps_artifacts_only(plan)) {
                    edges.push((slot.step, Edge::Whole));
                }
            }
            edges.sort_unstable();
            edges.dedup();
            for (producer, edge) in &edges {
                wiring.consumers[producer.index()].push((ix, *edge));
            }
            wiring.dependencies[ix.index()] = edges;
        }
        wiring
    }

    pub(super) fn dependencies(&self, ix: StepIx) -> &[(StepIx, Edge)] {
        &self.dependencies[ix.index()]
    }

    pub(super) fn consumers(&self, ix: StepIx) -> &[(StepIx, Edge)] {
        &self.consumers[ix.index()]
    }

    /// Steps that are mapped over a dynamic output of `producer`, with its port, in topological order.
    pub(super) fn mapped_over(&self, producer: StepIx) -> &[(u16, StepIx)] {
        self.mapped_over.get(&producer).map_or(&[], Vec::as_slice)
    }

    pub(super) fn whole_dependencies(&self, ix: StepIx) -> u32 {
        u32::try_from(self.dependencies(ix).len()).unwrap_or(u32::MAX)
    }

    pub(super) fn find(&self, path: &StepPath) -> Option<StepIx> {
        self.paths.get(path).copied()
    }
}
