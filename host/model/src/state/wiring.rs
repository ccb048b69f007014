//! Who waits for whom: what follows from the plan alone, computed once per run.

use std::collections::HashMap;

use crate::id::StepPath;
use crate::plan::{OutputSlot, Plan, Source, StepIx};

/// What a consumer waits for: that everything of a step has settled which is within the item, `depth` levels deep, that the
/// consumer is for. With depth 0 that is the whole step, with the step's own depth the one instance for that item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Edge {
    /// The producer; among consumers, the consumer.
    pub(super) step: StepIx,
    pub(super) depth: u8,
}

/// The edges of every step, one step after the other: plans have many steps, and most of them few edges.
#[derive(Debug, Default, PartialEq)]
struct Edges {
    all: Vec<Edge>,
    /// Where those of each step end.
    ends: Vec<u32>,
}

impl Edges {
    fn push(&mut self, of_next_step: impl IntoIterator<Item = Edge>) {
        self.all.extend(of_next_step);
        self.ends.push(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
    }

    fn of(&self, ix: StepIx) -> &[Edge] {
        let start = ix.index().checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[start as usize..self.ends[ix.index()] as usize]
    }

    /// The same edges from the other end: of each step, who has an edge to it, in order.
    fn reversed(&self) -> Self {
        let mut counts = vec![0u32; self.ends.len()];
        self.all.iter().for_each(|edge| counts[edge.step.index()] += 1);
        let mut next: Vec<u32> = Vec::with_capacity(counts.len());
        let mut ends = Vec::with_capacity(counts.len());
        let mut so_far = 0;
        for count in counts {
            next.push(so_far);
            so_far += count;
            ends.push(so_far);
        }
        let mut all = vec![Edge { step: StepIx(0), depth: 0 }; self.all.len()];
        for step in (0..).map(StepIx).take(self.ends.len()) {
            for edge in self.of(step) {
                let place = &mut next[edge.step.index()];
                all[*place as usize] = Edge { step, depth: edge.depth };
                *place += 1;
            }
        }
        Self { all, ends }
    }
}

/// The dependencies of a plan, both ways.
#[derive(Debug, PartialEq)]
pub(super) struct Wiring {
    dependencies: Edges,
    consumers: Edges,
    depths: Vec<u8>,
    mapped_over: HashMap<StepIx, Vec<(u16, StepIx)>>,
    below: HashMap<StepIx, Vec<StepIx>>,
    paths: HashMap<StepPath, StepIx>,
}

impl Wiring {
    pub(super) fn of(plan: &Plan) -> Self {
        let mut wiring = Self {
            dependencies: Edges::default(),
            consumers: Edges::default(),
            depths: Vec::with_capacity(plan.steps.len()),
            mapped_over: HashMap::new(),
            below: HashMap::new(),
            paths: HashMap::with_capacity(plan.steps.len()),
        };
        for ix in plan.indices() {
            let step = plan.step(ix);
            wiring.paths.insert(step.path.clone(), ix);
            // Producers come first.
            let depth = step.mapped_over.map_or(0, |slot| wiring.depths[slot.step.index()] + 1);
            wiring.depths.push(depth);
            let whole = |step: StepIx| Edge { step, depth: 0 };
            let own = |slot: &OutputSlot, depths: &[u8]| Edge { step: slot.step, depth: depths[slot.step.index()] };
            let mut edges: Vec<Edge> = step.after.iter().copied().map(whole).collect();
            for input in &step.inputs {
                match &input.source {
                    Source::Unconnected | Source::Given { .. } | Source::Outside { .. } => {}
                    Source::Item { slot } => {
                        // What yields the items that the step itself is for has begun; whether another port of it has an
                        // item of that key is certain at its end.
                        if !plan.levels(ix).any(|level| level == *slot) {
                            edges.push(own(slot, &wiring.depths));
                        }
                    }
                    Source::SameKey { slot } => edges.push(own(slot, &wiring.depths)),
                    Source::Output { slot } => edges.push(whole(slot.step)),
                    Source::Collect { slot, depth } => {
                        edges.push(Edge { step: slot.step, depth: *depth });
                    }
                    Source::FanIn { slots } => edges.extend(slots.iter().map(|slot| whole(slot.step))),
                }
            }
            if let Some(slot) = step.mapped_over {
                wiring.mapped_over.entry(slot.step).or_default().push((slot.port, ix));
                for level in plan.levels(ix) {
                    wiring.below.entry(level.step).or_default().push(ix);
                    // Items are provisional until their producers succeed: only a step that has no effect outside may
                    // start on them before.
                    if !(step.hermetic && step.keeps_artifacts_only(plan)) {
                        edges.push(own(&level, &wiring.depths));
                    }
                }
            }
            edges.sort_unstable();
            edges.dedup();
            wiring.dependencies.push(edges);
        }
        wiring.consumers = wiring.dependencies.reversed();
        wiring
    }

    pub(super) fn dependencies(&self, ix: StepIx) -> &[Edge] {
        self.dependencies.of(ix)
    }

    /// Who waits for something of `ix`.
    pub(super) fn consumers(&self, ix: StepIx) -> &[Edge] {
        self.consumers.of(ix)
    }

    /// How many keys the items of a step have; 0 when it is not mapped.
    pub(super) fn depth(&self, ix: StepIx) -> usize {
        usize::from(self.depths[ix.index()])
    }

    /// Steps that are mapped over a dynamic output of `producer`, with its port, in topological order.
    pub(super) fn mapped_over(&self, producer: StepIx) -> &[(u16, StepIx)] {
        self.mapped_over.get(&producer).map_or(&[], Vec::as_slice)
    }

    /// Steps that are mapped over a dynamic output of `producer`, or over one of a step that is, and so on.
    pub(super) fn below(&self, producer: StepIx) -> &[StepIx] {
        self.below.get(&producer).map_or(&[], Vec::as_slice)
    }

    pub(super) fn whole_dependencies(&self, ix: StepIx) -> u32 {
        u32::try_from(self.dependencies(ix).len()).unwrap_or(u32::MAX)
    }

    pub(super) fn find(&self, path: &StepPath) -> Option<StepIx> {
        self.paths.get(path).copied()
    }
}
